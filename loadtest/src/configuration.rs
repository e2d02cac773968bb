//! The server's configuration file, as a load writes it anew while phones are served.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// One `[[listener]]`.
#[derive(Clone)]
pub struct Listener {
    pub address: SocketAddr,
    /// What it calls itself, instead of its address.
    pub advertise: Option<String>,
    /// None: the file says nothing of it.
    pub dscp: Option<u8>,
    pub buffer_bytes: Option<u32>,
}

/// What a load has to say in a file; everything else has its default.
#[derive(Clone)]
pub struct Configuration {
    pub listeners: Vec<Listener>,
    /// The proxy that all phones are behind.
    pub edge: Option<IpAddr>,
    /// Seconds given to whoever asks for none: nobody does, so that it may change and nobody notices.
    pub expires_default: u32,
}

impl Listener {
    pub fn new(address: SocketAddr) -> Self {
        Listener {
            address,
            advertise: None,
            dscp: None,
            buffer_bytes: None,
        }
    }

    /// The host and port that stand in its Contact.
    pub fn name(&self) -> String {
        let own = || self.address.to_string();
        self.advertise.clone().unwrap_or_else(own)
    }
}

impl Configuration {
    /// One listener, and everything else as it is by default.
    pub fn new(address: SocketAddr) -> Self {
        Configuration {
            listeners: vec![Listener::new(address)],
            edge: None,
            expires_default: 1800,
        }
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(edge) = self.edge {
            // A String takes every write.
            let _ = writeln!(text, "edges = [\"{edge}\"]");
        }
        let _ = writeln!(
            text,
            "[packages.dialog]\nexpires_min = 1\nexpires_default = {}",
            self.expires_default
        );
        for listener in &self.listeners {
            let _ = writeln!(text, "[[listener]]\naddress = \"udp:{}\"", listener.address);
            if let Some(name) = &listener.advertise {
                let _ = writeln!(text, "advertise = \"{name}\"");
            }
            if let Some(dscp) = listener.dscp {
                let _ = writeln!(text, "dscp = {dscp}");
            }
            if let Some(bytes) = listener.buffer_bytes {
                let _ = writeln!(text, "receive_buffer = {bytes}\nsend_buffer = {bytes}");
            }
        }
        text
    }
}
