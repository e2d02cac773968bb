//! `reload`: has a running server read its configuration again.

use super::client::Client;
use super::{Failure, print};

/// Says what is new.
pub fn reload(client: &Client) -> Result<(), Failure> {
    let answer = client.post("/v1/reload")?;
    let texts = |member: &str| -> Vec<String> {
        let list = answer[member].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    for remark in texts("remarks") {
        print(&remark)?;
    }
    let changed = texts("changed");
    if changed.is_empty() {
        print("the configuration is what it was; nothing has changed")
    } else {
        print(&format!("new: {}", changed.join(", ")))
    }
}
