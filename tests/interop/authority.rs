//! Issues the certificates of a test, into files that other people's software reads.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData;
use sha2::{Digest, Sha256};

use crate::certificate;

pub struct Authority {
    directory: PathBuf,
    own: certificate::Authority,
}

impl Authority {
    /// Everything goes into this directory, its own certificate under `ca.pem`.
    pub fn new(directory: &Path) -> Authority {
        let own = certificate::Authority::new();
        fs::write(directory.join("ca.pem"), own.pem()).expect("it can be written");
        Authority {
            directory: directory.to_owned(),
            own,
        }
    }

    /// Writes `name.pem` and `name.key`, good for loopback, and says how a browser is told of the key.
    pub fn issue(&self, name: &str) -> String {
        let issued = self.own.issue(&["localhost", "127.0.0.1"]);
        issued.write(&self.directory, name);
        STANDARD.encode(Sha256::digest(issued.key.subject_public_key_info()))
    }

    /// The full name of one of the files.
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// What the section of a listener says of certificates.
    pub fn keys(&self, name: &str) -> String {
        let (certificate, key) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        format!("certificate = \"{certificate}\"\nkey = \"{key}\"\n")
    }
}
