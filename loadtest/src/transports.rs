//! What the server says of its transports: `GET /v1/transports`.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::http::Client;

/// One reading.
#[derive(Clone, Debug, Default)]
pub struct Transports {
    pub generation: u64,
    pub active: usize,
    pub draining: usize,
    /// The whole answer, for a person to read.
    pub text: String,
}

impl Transports {
    pub fn read(admin: SocketAddr) -> io::Result<Self> {
        let answer = Client::connect(admin)?.request("GET", "/v1/transports", "")?;
        if answer.status != 200 {
            let text = format!("/v1/transports: {} {}", answer.status, answer.body);
            return Err(io::Error::other(text));
        }
        let value: Value = serde_json::from_str(&answer.body)?;
        let listeners = value["listeners"].as_array();
        let listeners = listeners.ok_or_else(|| io::Error::other("no listeners are told"))?;
        let count = |state: &str| {
            let has = |row: &&Value| row["state"] == state;
            listeners.iter().filter(has).count()
        };
        let generation = value["generation"].as_u64();
        Ok(Transports {
            generation: generation.ok_or_else(|| io::Error::other("no generation is told"))?,
            active: count("active"),
            draining: count("draining"),
            text: answer.body,
        })
    }
}
