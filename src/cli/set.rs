//! `set-hint`: one source's word on one resource.

use serde_json::json;

use super::client::{Client, escape};
use super::{Failure, print};

/// What is said.
#[derive(Debug)]
pub struct Hint {
    pub state: String,
    pub note: Option<String>,
    pub source: Option<String>,
    pub expires: Option<u32>,
}

/// Says it.
pub fn set(client: &Client, resource: &str, hint: &Hint) -> Result<(), Failure> {
    let mut body = json!({ "state": hint.state });
    if let Some(note) = &hint.note {
        body["note"] = json!(note);
    }
    if let Some(source) = &hint.source {
        body["source"] = json!(source);
    }
    if let Some(expires) = hint.expires {
        body["expires"] = json!(expires);
    }
    let answer = client.put(&format!("/v1/hints/{}", escape(resource)), &body)?;
    let resource = answer["resource"].as_str().unwrap_or(resource);
    match answer["changed"].as_bool() {
        Some(false) => print(&format!("{resource} is {} (as it was)", hint.state)),
        Some(true) | None => print(&format!("{resource} is {}", hint.state)),
    }
}
