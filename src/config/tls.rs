//! `certificate`, `key` and their like of a `[[listener]]`: files are read here, and understood where they are used.

use core::fmt;
use std::path::Path;

use crate::config::crypto;
use crate::config::problem::Problem;
use crate::config::section::{Placed, Section};
use crate::config::settings::{Certificate, ClientCertificates, Key, Tls};
use crate::transport::Transport;

/// What a section says of TLS, before it is known whether the listener speaks it.
pub(super) struct Written<'t> {
    certificate: Option<Placed<&'t str>>,
    key: Option<Placed<&'t str>>,
    more_certificates: Vec<Placed<&'t str>>,
    more_keys: Vec<Placed<&'t str>>,
    client_ca: Option<Placed<&'t str>>,
    clients: Option<ClientCertificates>,
    only_1_3: Option<bool>,
    ciphers: Option<Vec<Placed<&'t str>>>,
}

/// Reads the keys.
pub(super) fn read<'t>(section: &mut Section<'t>) -> Written<'t> {
    Written {
        certificate: section.text("certificate"),
        key: section.text("key"),
        more_certificates: section.texts("more_certificates").unwrap_or_default(),
        more_keys: section.texts("more_keys").unwrap_or_default(),
        client_ca: section.text("client_ca"),
        clients: section.word(
            "client_certificates",
            &[
                ("required", ClientCertificates::Required),
                ("optional", ClientCertificates::Optional),
                ("ignored", ClientCertificates::Ignored),
            ],
        ),
        only_1_3: section.word("tls_min", &[("1.2", false), ("1.3", true)]),
        ciphers: section.texts("tls_ciphers"),
    }
}

/// The names of all cipher suites that are known, the best first. Each of them is a good one: they differ in what machines
/// and old phones can do.
pub fn cipher_suites() -> impl Iterator<Item = &'static str> {
    let suites = crypto::CIPHER_SUITES.iter();
    suites.filter_map(|suite| suite.suite().as_str())
}

impl Written<'_> {
    /// What the listener shows and demands. `directory`: where files are that are named without one.
    pub(super) fn settle(
        &self,
        transport: Transport,
        directory: &Path,
        address: &Placed<&str>,
        report: impl Fn(Problem),
    ) -> Option<Tls> {
        if !transport.is_secure() {
            let named = [&self.certificate, &self.key, &self.client_ca];
            for text in named.into_iter().flatten() {
                let what = "only tls and wss listeners have certificates";
                report(Problem::at(text.span.clone(), what).help("leave it out here"));
            }
            return None;
        }
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            report(
                Problem::at(address.span.clone(), "this listener has no certificate, or no key")
                    .help("write `certificate = \"site.pem\"` and `key = \"site.key\"` below, with your files"),
            );
            return None;
        };
        if self.more_certificates.len() != self.more_keys.len() {
            report(
                Problem::at(
                    address.span.clone(),
                    "`more_certificates` and `more_keys` are not of one length",
                )
                .help("name the key of each certificate, in their order"),
            );
            return None;
        }
        let bytes = |text: &Placed<&str>| {
            let path = directory.join(text.value);
            let file = path.display().to_string();
            match std::fs::read(&path) {
                Ok(bytes) => Some((file, bytes)),
                Err(error) => {
                    report(Problem::at(text.span.clone(), format!("{file}: {error}")));
                    None
                }
            }
        };
        let first = core::iter::once((certificate, key));
        let more = self.more_certificates.iter().zip(&self.more_keys);
        let mut certificates = Vec::new();
        for (certificate, key) in first.chain(more) {
            let (file, chain) = bytes(certificate)?;
            let (key_file, key) = bytes(key)?;
            certificates.push(Certificate {
                file,
                bytes: chain,
                key: Some(Key {
                    file: key_file,
                    bytes: key,
                }),
            });
        }
        let client_ca = match &self.client_ca {
            None => None,
            Some(text) => {
                let (file, bytes) = bytes(text)?;
                Some(Certificate {
                    file,
                    bytes,
                    key: None,
                })
            }
        };
        let only_1_3 = self.only_1_3.unwrap_or(false);
        Some(Tls {
            certificates,
            client_ca,
            clients: self.clients.unwrap_or_default(),
            only_1_3,
            ciphers: self.ciphers(only_1_3, address, report)?,
        })
    }

    /// The cipher suites that are named, all of them known; empty: whatever is known.
    fn ciphers(
        &self,
        only_1_3: bool,
        address: &Placed<&str>,
        report: impl Fn(Problem),
    ) -> Option<Vec<String>> {
        let Some(named) = &self.ciphers else {
            return Some(Vec::new());
        };
        let usable = |name: &str| !only_1_3 || name.starts_with("TLS13_");
        let known = || {
            let known: Vec<&str> = cipher_suites().filter(|name| usable(name)).collect();
            format!("known here: {}", known.join(", "))
        };
        for text in named {
            if !cipher_suites().any(|name| name == text.value && usable(name)) {
                let what = format!("`{}` is no cipher suite of this listener", text.value);
                report(Problem::at(text.span.clone(), what).help(known()));
                return None;
            }
        }
        if named.is_empty() {
            let what = "`tls_ciphers` names none";
            report(Problem::at(address.span.clone(), what).help(known()));
            return None;
        }
        Some(named.iter().map(|text| text.value.to_owned()).collect())
    }
}

/// Keys are shown nowhere.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
