//! Who computes for TLS: ring, or aws-lc-rs where the server was built for it. Whatever speaks TLS asks here, and never for
//! what a process takes when nobody has said anything: with two of them in one build rustls would not know which.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
#[cfg(feature = "tls-aws-lc")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
use rustls::crypto::ring as chosen;

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
compile_error!("nobody computes for TLS: build with the feature `tls-ring` or `tls-aws-lc`");

/// What `/v1/status` calls it.
pub const NAME: &str = match cfg!(feature = "tls-aws-lc") {
    true => "aws-lc-rs",
    false => "ring",
};

/// All cipher suites that it knows, the best first.
pub const CIPHER_SUITES: &[SupportedCipherSuite] = chosen::ALL_CIPHER_SUITES;

/// All that a handshake is computed with.
pub fn provider() -> CryptoProvider {
    chosen::default_provider()
}
