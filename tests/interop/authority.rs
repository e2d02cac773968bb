//! Issues the certificates of a test.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PublicKeyData,
};
use sha2::{Digest, Sha256};

pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Everything goes into this directory, its own certificate under `ca.pem`.
    pub fn new(directory: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose subject is its issuer would pass for one that has signed itself.
        name(&mut params, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(directory.join("ca.pem"), certificate.pem()).expect("it can be written");
        Authority {
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes `name.pem` and `name.key`, good for loopback, and says how a browser is told of the key.
    pub fn issue(&self, name: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).expect("names");
        self::name(&mut params, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        let write = |ending: &str, text: &str| {
            let file = self.directory.join(format!("{name}.{ending}"));
            fs::write(file, text).expect("it can be written");
        };
        write("pem", &certificate.pem());
        write("key", &key.serialize_pem());
        STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
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

fn name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}
