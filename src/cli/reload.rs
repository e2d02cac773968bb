//! `reload`: has a running server read its configuration again.

use serde_json::json;

use super::client::Client;
use super::{Failure, print};

/// Says what is new.
pub fn reload(client: &Client, fresh_sockets: bool) -> Result<(), Failure> {
    let how = fresh_sockets.then(|| json!({ "fresh_sockets": true }));
    let answer = client.post("/v1/reload", how.as_ref())?;
    let texts = |member: &str| -> Vec<String> {
        let list = answer[member].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    for remark in texts("remarks") {
        print(&remark)?;
    }
    let changed = texts("changed");
    let generation = &answer["generation"];
    if !changed.is_empty() {
        print(&format!("new: {}", changed.join(", ")))?;
    }
    if fresh_sockets || changed.iter().any(|key| key == "listener") {
        print(&format!("listeners of generation {generation} serve"))
    } else if changed.is_empty() {
        print("the configuration is what it was; nothing has changed")
    } else {
        Ok(())
    }
}
