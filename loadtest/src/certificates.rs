//! Certificates that a load makes for its server, one after the other, and what its phones trust.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The name that phones ask for.
pub const NAME: &str = "lamps.example.com";

/// Who issues them.
pub struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM, and as a handshake shows it.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub shown: Vec<u8>,
}

impl Authority {
    pub fn new() -> io::Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let root = parameters.self_signed(&key).map_err(io::Error::other)?;
        Ok(Authority {
            root: root.der().clone(),
            issuer: Issuer::new(parameters, key),
        })
    }

    /// A new one, which no handshake has shown.
    pub fn issue(&self) -> io::Result<Issued> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let parameters = CertificateParams::new(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        let certificate = parameters.signed_by(&key, &self.issuer);
        let certificate = certificate.map_err(io::Error::other)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            shown: certificate.der().to_vec(),
        })
    }

    /// What phones trust. Every handshake is a whole one, so that each shows a certificate.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).map_err(io::Error::other)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}
