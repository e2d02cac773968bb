//! Talks to a running server over HTTP.

use core::time::Duration;
use std::fs;
use std::io::BufReader;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;
use ureq::{Body, BodyReader};

use super::{Failure, ServerArguments};

/// A server that does not even accept a connection for so long is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that does not answer for so long is in trouble.
const ANSWER: Duration = Duration::from_secs(30);

/// One server.
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    /// Where the arguments say.
    pub fn new(arguments: &ServerArguments) -> Result<Self, Failure> {
        let token = match &arguments.token_file {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var("LAMPFIELD_TOKEN").ok(),
        };
        let base = match arguments.admin.split_once("://") {
            Some(_) => arguments.admin.trim_end_matches('/').to_owned(),
            None => format!("http://{}", arguments.admin),
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .build()
            .new_agent();
        Ok(Client { agent, base, token })
    }

    /// The document at a path.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut response = self.open(path)?;
        Ok(response.body_mut().read_json()?)
    }

    /// The lines at a path that has no end.
    pub fn stream(&self, path: &str) -> Result<BufReader<BodyReader<'static>>, Failure> {
        let response = self.open(path)?;
        let reader = response.into_body().into_with_config();
        Ok(BufReader::new(reader.limit(u64::MAX).reader()))
    }

    /// Puts a document to a path.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut request = self
            .agent
            .put(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let sent = request.send(body.to_string());
        let mut response = self.judge(sent)?;
        Ok(response.body_mut().read_json()?)
    }

    /// Asks for something, with a document or without.
    pub fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            Some(body) => request
                .header("Content-Type", "application/json")
                .send(body.to_string()),
            None => request.send_empty(),
        };
        let mut response = self.judge(sent)?;
        Ok(response.body_mut().read_json()?)
    }

    fn open(&self, path: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.judge(request.call())
    }

    /// A good answer, or what is wrong in words.
    fn judge(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let mut response = sent.map_err(|error| {
            format!(
                "no answer from {}: {error}; does a server run there? --admin names another one",
                self.base
            )
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem: Option<Value> = response.body_mut().read_json().ok();
        let text = |member: &str| {
            let value = problem.as_ref().and_then(|problem| problem.get(member));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let title = text("title").unwrap_or_else(|| status.to_string());
        Err(match text("detail") {
            // Mistakes of a file come with their lines, to be read as they stand.
            Some(detail) if detail.contains('\n') => Failure(format!("{title}:\n{detail}")),
            Some(detail) => Failure(format!("{title}: {detail}")),
            None => Failure(title),
        })
    }
}

/// A text as a part of a path or a query.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_escaped_so_that_it_stays_one_part_of_a_path() {
        assert_eq!(escape("1001@example.com"), "1001@example.com");
        assert_eq!(escape("*7/1?#%ä"), "%2A7%2F1%3F%23%25%C3%A4");
    }
}
