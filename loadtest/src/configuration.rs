//! The server's configuration file, as a load writes it anew while phones are served.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::server::Durability;

/// The certificate and the key of listeners that speak TLS, beside the file.
pub const CERTIFICATE: [&str; 2] = ["lamps.pem", "lamps.key"];

/// What phones and server speak by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    /// As a listener's address and a URI name it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// As a Via names it.
    pub fn via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// What a URI says of it.
    pub fn parameter(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            // RFC 7118 5.2: secure or not, it has one name.
            Transport::Ws | Transport::Wss => ";transport=ws",
        }
    }

    /// Whether a handshake of TLS comes first.
    pub fn is_secure(self) -> bool {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Ws => false,
            Transport::Tls | Transport::Wss => true,
        }
    }

    /// Whether messages are in the frames of WebSocket.
    pub fn is_web(self) -> bool {
        match self {
            Transport::Udp | Transport::Tcp | Transport::Tls => false,
            Transport::Ws | Transport::Wss => true,
        }
    }

    /// Whether a message may be lost, and is then sent again.
    pub fn is_datagrams(self) -> bool {
        match self {
            Transport::Udp => true,
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => false,
        }
    }
}

/// One `[[listener]]`.
#[derive(Clone)]
pub struct Listener {
    pub transport: Transport,
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
    /// None: the file says nothing of it.
    pub durability: Option<Durability>,
    /// After a planned stop only those are told whose state has changed.
    pub changed_only: bool,
}

impl Listener {
    pub fn new(address: SocketAddr) -> Self {
        Listener::of(Transport::Udp, address)
    }

    pub fn of(transport: Transport, address: SocketAddr) -> Self {
        Listener {
            transport,
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
            durability: None,
            changed_only: false,
        }
    }

    /// The oldest listener of each transport.
    pub fn oldest(&self) -> impl Iterator<Item = usize> + '_ {
        let transport = |at: usize| self.listeners[at].transport;
        (0..self.listeners.len())
            .filter(move |&at| (0..at).all(|before| transport(before) != transport(at)))
    }

    /// How many addresses each transport has: the same of each.
    pub fn addresses(&self) -> usize {
        self.listeners.len() / self.oldest().count().max(1)
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
        text.push_str("[store]\n");
        if let Some(durability) = self.durability {
            let _ = writeln!(text, "durability = \"{}\"", durability.name());
        }
        if self.changed_only {
            text.push_str("restart_notify = \"changed\"\n");
        }
        for listener in &self.listeners {
            let (transport, address) = (listener.transport, listener.address);
            let name = transport.name();
            let _ = writeln!(text, "[[listener]]\naddress = \"{name}:{address}\"");
            if transport.is_secure() {
                let [certificate, key] = CERTIFICATE;
                let _ = writeln!(text, "certificate = \"{certificate}\"\nkey = \"{key}\"");
            }
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
