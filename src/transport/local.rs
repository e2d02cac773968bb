//! A listener with the text of its address ready: what Via and Contact say of ourselves.

use super::{Flow, Listener, Transport};
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

    /// What a Via of ours begins with: the transport, and the address by which the peer of this flow reaches us.
    pub fn write_sent_by(&self, flow: &Flow, writer: &mut Writer<'_>) {
        writer.put(b"SIP/2.0/");
        writer.put(self.listener.transport.via());
        writer.put(b" ");
        self.write_host_port(flow, writer);
    }

    /// A Contact line of ours, for the peer of this flow.
    pub fn write_contact(&self, flow: &Flow, writer: &mut Writer<'_>) {
        writer.put(b"Contact: <sip:");
        self.write_host_port(flow, writer);
        if self.listener.transport != Transport::Udp {
            writer.put(b";transport=");
            writer.put(self.listener.transport.parameter().as_bytes());
        }
        writer.put(b">\r\n");
    }

    fn write_host_port(&self, flow: &Flow, writer: &mut Writer<'_>) {
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
