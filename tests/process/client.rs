//! Requests to the admin port of a server under test.

use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::server::{PATIENCE, Server};

/// One that takes every status for an answer.
pub fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent()
}

/// The answer to a GET.
pub fn get(server: &Server, path: &str) -> Response<Body> {
    agent().get(server.url(path)).call().expect("an answer")
}

/// The document at a path.
pub fn get_json(server: &Server, path: &str) -> Value {
    let mut response = get(server, path);
    assert_eq!(response.status(), 200, "{path}");
    response.body_mut().read_json().expect("JSON")
}

/// Status and document of the answer to a request with a JSON body.
pub fn send(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(server.url(path))
        .header("Content-Type", "application/json")
        .body(body.to_owned())
        .expect("a request");
    let mut response = agent().run(request).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap_or_default())
}
