//! A certificate that a test makes for a server of its own, and who trusts it.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name that the server is asked for.
pub const NAME: &str = "sip.example.com";

/// One that nobody else vouches for.
pub struct SelfSigned {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl SelfSigned {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        SelfSigned { certificate, key }
    }

    /// The certificate and its key, in PEM.
    pub fn pem(&self) -> (String, String) {
        (self.certificate.pem(), self.key.serialize_pem())
    }

    /// Trusts it and no other; each of its handshakes is a whole one.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let mut client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        Arc::new(client)
    }

    /// Shows it.
    pub fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .expect("a pair");
        Arc::new(server)
    }
}
