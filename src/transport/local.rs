//! A listener with the text of its address ready: what Via and Contact say of ourselves.

use super::{Flow, Listener};
use crate::sip::Writer;

/// A listener, with the text of its address ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub listener: Listener,
    /// `host:port` for Via and Contact; empty where it is the flow's own local address.
    host_port: Box<[u8]>,
}

impl Local {
    /// Prepares the text.
    pub fn new(listener: Listener) -> Self {
        let host_port = match &listener.advertise {
            Some((host, port)) => format!("{host}:{port}"),
            None if listener.wildcard => String::new(),
            None => listener.local.to_string(),
        };
        Local {
            listener,
            host_port: host_port.into_bytes().into(),
        }
    }

    /// The address by which the peer of this flow reaches us.
    pub fn write_host_port(&self, flow: &Flow, writer: &mut Writer<'_>) {
        if !self.host_port.is_empty() {
            writer.put(&self.host_port);
            return;
        }
        let address = self.listener.address(flow);
        if address.is_ipv6() {
            writer.put(b"[");
            writer.address(address.ip());
            writer.put(b"]");
        } else {
            writer.address(address.ip());
        }
        writer.put(b":");
        writer.decimal(address.port());
    }
}
