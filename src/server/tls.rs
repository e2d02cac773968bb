//! What a TLS listener shows and demands: certificates, keys, and who may issue those of peers. Made of what the
//! configuration has read; a mistake refuses the start or the reload whole.

use core::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};

use crate::config::{Certificate, ClientCertificates, Tls, crypto};

/// Why a listener cannot serve TLS.
#[derive(Debug)]
pub struct TlsError {
    file: String,
    what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Everything that a handshake needs.
pub fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let mut provider = crypto::provider();
    if !tls.ciphers.is_empty() {
        let named = |suite: &SupportedCipherSuite| {
            let name = suite.suite().as_str();
            tls.ciphers.iter().any(|cipher| Some(&**cipher) == name)
        };
        provider.cipher_suites.retain(named);
    }
    let provider = Arc::new(provider);
    let versions: &[_] = match tls.only_1_3 {
        true => &[&TLS13],
        false => &[&TLS13, &TLS12],
    };
    let first = &tls.certificates[0];
    let failed = |error: rustls::Error| TlsError {
        file: first.file.clone(),
        what: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(failed)?;
    let builder = match (&tls.client_ca, tls.clients) {
        (None, _) | (Some(_), ClientCertificates::Ignored) => builder.with_no_client_auth(),
        (Some(ca), clients) => {
            let failed = |what: String| TlsError {
                file: ca.file.clone(),
                what,
            };
            let mut roots = RootCertStore::empty();
            for issuer in chain(ca)? {
                roots
                    .add(issuer)
                    .map_err(|error| failed(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = match clients {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional | ClientCertificates::Ignored => {
                    verifier.allow_unauthenticated()
                }
            };
            let verifier = verifier
                .build()
                .map_err(|error| failed(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let keys = tls
        .certificates
        .iter()
        .map(|each| Shown::new(each, &provider));
    let keys: Result<Vec<Shown>, TlsError> = keys.collect();
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(Shop(keys?)))))
}

/// The certificates of one listener: the first that is good for the name that a peer asks for, else the first.
#[derive(Debug)]
struct Shop(Vec<Shown>);

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn new(certificate: &Certificate, provider: &CryptoProvider) -> Result<Shown, TlsError> {
        let failed = |file: &str, what: String| TlsError {
            file: file.to_owned(),
            what,
        };
        let chain = chain(certificate)?;
        let key = certificate.key.as_ref().expect("it is read with its key");
        let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| {
            failed(&key.file, format!("this is no private key in PEM: {error}"))
        })?;
        let key = CertifiedKey::from_der(chain, der, provider).map_err(|error| {
            let what = format!("it does not go with its key {}: {error}", key.file);
            failed(&certificate.file, what)
        })?;
        Ok(Shown(Arc::new(key)))
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let end = self.0.cert.first();
        let parsed = end.and_then(|end| ParsedCertificate::try_from(end).ok());
        parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

impl ResolvesServerCert for Shop {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.0.iter().find(|shown| shown.is_for(&name)));
        let shown = named.or(self.0.first())?;
        Some(Arc::clone(&shown.0))
    }
}

fn chain(certificate: &Certificate) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |what: String| TlsError {
        file: certificate.file.clone(),
        what,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.bytes).collect();
    let chain = chain.map_err(|error| wrong(format!("this is no certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("no certificate in PEM stands in it".to_owned()));
    }
    Ok(chain)
}
