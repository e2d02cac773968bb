//! Certificates that a test issues to its servers and phones, and who trusts them.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name that a server is asked for, where any will do.
pub const NAME: &str = "sip.example.com";

/// Whom everybody in a test trusts.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What it has vouched for.
pub struct Issued {
    certificate: Certificate,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = parameters(&[], "authority of a test");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Authority {
            certificate,
            issuer: Issuer::new(parameters, key),
        }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A new certificate, which is good for these names.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters(names, names[0]).signed_by(&key, &self.issuer);
        Issued {
            certificate: certificate.expect("a certificate"),
            key,
        }
    }

    /// Writes a new certificate for a name, and its key: `name.pem` and `name.key`.
    pub fn write(&self, directory: &Path, name: &str) {
        self.issue(&[name]).write(directory, name);
    }

    /// Trusts it and nobody else.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = self.certificate.der().clone();
        roots.add(own).expect("a root");
        roots
    }

    /// The same for connections: what a phone trusts, and whose name it shows. Each handshake is a whole one.
    pub fn client(&self, shows: Option<&str>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots());
        let mut client = match shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (chain, key) = self.issue(&[name]).shown();
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        client.resumption = Resumption::disabled();
        Arc::new(client)
    }
}

impl Issued {
    /// Writes it and its key: `name.pem` and `name.key`.
    pub fn write(&self, directory: &Path, name: &str) {
        for (ending, text) in [
            ("pem", self.certificate.pem()),
            ("key", self.key.serialize_pem()),
        ] {
            let file = directory.join(format!("{name}.{ending}"));
            fs::write(file, text).expect("it can be written");
        }
    }

    /// A server that shows it.
    pub fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.shown();
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        Arc::new(server)
    }

    fn shown(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        (vec![self.certificate.der().clone()], key)
    }
}

/// A certificate whose subject is its issuer would pass for one that has signed itself: each has its own.
fn parameters(names: &[&str], subject: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    parameters
        .distinguished_name
        .push(DnType::CommonName, subject);
    parameters
}
