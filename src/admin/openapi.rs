//! The OpenAPI document: written by hand in `openapi.json`, served with this version's number.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

/// The document.
pub async fn document() -> Response {
    let text = DOCUMENT.replacen("{version}", env!("CARGO_PKG_VERSION"), 1);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::admin::routes::ROUTES;
    use crate::hint::HintState;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("openapi.json is JSON")
    }

    #[test]
    fn every_route_is_in_the_document_and_every_entry_is_a_route() {
        let served: BTreeSet<(String, String)> = ROUTES
            .iter()
            .map(|route| (route.path.to_owned(), route.method.to_owned()))
            .collect();
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods
                    .keys()
                    .filter(|key| *key != "parameters")
                    .map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(served, described);
    }

    #[test]
    fn every_state_is_in_the_document() {
        let document = document();
        let listed = &document["components"]["schemas"]["Hint"]["properties"]["state"]["enum"];
        let states: Vec<&str> = HintState::ALL.iter().map(|state| state.name()).collect();
        assert_eq!(*listed, serde_json::json!(states));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut stack = vec![&document];
        while let Some(value) = stack.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').expect("a local reference");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    stack.extend(members.values());
                }
                Value::Array(items) => stack.extend(items),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }
}
