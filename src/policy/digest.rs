//! Digest authentication, the server's side (RFC 7616, RFC 8760): challenges that nothing remembers, and the check
//! of what comes back. It reads credentials; who may do what with them is not decided here.

use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::nonce::Nonce;
use super::users::Ha1;
use crate::sip::Credentials;

/// The hash behind a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    /// As a challenge names it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// How many hexadecimal digits a hash has.
    pub(super) fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Md5 => 32,
        }
    }

    /// The setting that holds a user's hash under it.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Md5 => "md5",
        }
    }
}

/// `[digest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSettings {
    /// In the order of the challenges; the phone takes the first that it knows.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce is good for.
    pub nonce_life_seconds: u64,
    /// The `uri` of the credentials must be the Request-URI. Off, because SBCs rewrite it.
    pub strict_uri: bool,
}

impl Default for DigestSettings {
    fn default() -> Self {
        DigestSettings {
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            nonce_life_seconds: crate::config::limits::NONCE_LIFE_SECONDS,
            strict_uri: false,
        }
    }
}

/// Why credentials were not good enough; each one is worth a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There are none for our realm.
    NoCredentials,
    /// The address is not among those that are trusted, and nobody has credentials.
    NotTrusted,
    /// They lack something, or hold it twice.
    Malformed,
    /// An algorithm or a quality of protection that was not offered.
    NotOffered,
    /// The `uri` is another one than the Request-URI, and `strict_uri` is set.
    OtherUri,
    /// User or password.
    Wrong,
    /// A nonce that we did not make, or under a secret that is forgotten.
    NonceUnknown,
    NonceExpired,
    /// Made for a phone that belongs elsewhere.
    NonceElsewhere,
    /// Its window is gone, so that nobody knows which counts were used.
    NonceForgotten,
    /// The count was used before.
    Replayed,
}

impl Cause {
    /// For counters and for people.
    pub fn name(self) -> &'static str {
        match self {
            Cause::NoCredentials => "no credentials",
            Cause::NotTrusted => "address not trusted",
            Cause::Malformed => "malformed",
            Cause::NotOffered => "not offered",
            Cause::OtherUri => "other uri",
            Cause::Wrong => "wrong user or password",
            Cause::NonceUnknown => "nonce unknown",
            Cause::NonceExpired => "nonce expired",
            Cause::NonceElsewhere => "nonce of another partition",
            Cause::NonceForgotten => "nonce forgotten",
            Cause::Replayed => "replayed",
        }
    }

    /// Whether the phone may try again with a new nonce and the same password, without asking anybody.
    //= RFC 7616 3.3
    pub fn is_stale(self) -> bool {
        match self {
            Cause::NonceUnknown
            | Cause::NonceExpired
            | Cause::NonceElsewhere
            | Cause::NonceForgotten
            | Cause::Replayed => true,
            Cause::NoCredentials
            | Cause::NotTrusted
            | Cause::Malformed
            | Cause::NotOffered
            | Cause::OtherUri
            | Cause::Wrong => false,
        }
    }
}

/// What an Authorization header says, as it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) username: &'a [u8],
    pub(super) realm: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) uri: &'a [u8],
    pub(super) algorithm: Algorithm,
    pub(super) count: u32,
    session: bool,
    response: &'a [u8],
    /// None: RFC 2069, without count and client nonce.
    quality: Option<Quality<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Quality<'a> {
    qop: &'a [u8],
    nc: &'a [u8],
    cnonce: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads one header value. `None`: another scheme than Digest.
    pub(super) fn read(value: &'a [u8]) -> Option<Result<Fields<'a>, Cause>> {
        let Ok((scheme, _)) = Credentials::scheme_of(value) else {
            return Some(Err(Cause::Malformed));
        };
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        Some(match Credentials::parse(value) {
            Ok(credentials) => Raw::collect(&credentials).and_then(Raw::check),
            Err(_) => Err(Cause::Malformed),
        })
    }

    /// Whether the response is the one that the password of `ha1` gives.
    //= RFC 7616 3.4.1
    pub(super) fn is_answer(&self, ha1: &Ha1, method: &[u8]) -> bool {
        let mut first = [0; 64];
        let mut second = [0; 64];
        let mut expected = [0; 64];
        //= RFC 7616 3.4.2
        let first: &[u8] = match (self.session, &self.quality) {
            (true, Some(quality)) => {
                let parts = [ha1.digits(), self.nonce, quality.cnonce];
                let length = hash_parts(self.algorithm, &parts, &mut first);
                &first[..length]
            }
            (true | false, Some(_) | None) => ha1.digits(),
        };
        //= RFC 7616 3.4.3
        let length = hash_parts(self.algorithm, &[method, self.uri], &mut second);
        let second = &second[..length];
        let length = match &self.quality {
            Some(Quality { qop, nc, cnonce }) => {
                let parts = [first, self.nonce, nc, cnonce, qop, second];
                hash_parts(self.algorithm, &parts, &mut expected)
            }
            None => hash_parts(self.algorithm, &[first, self.nonce, second], &mut expected),
        };
        let mut sent = [0; 64];
        if self.response.len() != length {
            return false;
        }
        sent[..length].copy_from_slice(self.response);
        sent.make_ascii_lowercase();
        sent[..length].ct_eq(&expected[..length]).into()
    }
}

/// The parameters as they come, before anything is known to be there.
#[derive(Default)]
struct Raw<'a> {
    username: Option<&'a [u8]>,
    realm: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    response: Option<&'a [u8]>,
    algorithm: Option<&'a [u8]>,
    cnonce: Option<&'a [u8]>,
    qop: Option<&'a [u8]>,
    nc: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    /// Quoted or not makes no difference: phones disagree about which is which.
    fn collect(credentials: &Credentials<'a>) -> Result<Raw<'a>, Cause> {
        let mut raw = Raw::default();
        for param in credentials.params() {
            let place = if param.is("username") {
                &mut raw.username
            } else if param.is("realm") {
                &mut raw.realm
            } else if param.is("nonce") {
                &mut raw.nonce
            } else if param.is("uri") {
                &mut raw.uri
            } else if param.is("response") {
                &mut raw.response
            } else if param.is("algorithm") {
                &mut raw.algorithm
            } else if param.is("cnonce") {
                &mut raw.cnonce
            } else if param.is("qop") {
                &mut raw.qop
            } else if param.is("nc") {
                &mut raw.nc
            } else {
                continue;
            };
            if place.replace(param.value).is_some() {
                return Err(Cause::Malformed);
            }
        }
        Ok(raw)
    }

    fn check(self) -> Result<Fields<'a>, Cause> {
        let (algorithm, session) = algorithm(self.algorithm.unwrap_or(b"MD5"))?;
        let quality = match (self.qop, self.nc, self.cnonce) {
            (Some(qop), Some(nc), Some(cnonce)) if qop.eq_ignore_ascii_case(b"auth") => {
                Some(Quality { qop, nc, cnonce })
            }
            (Some(_), Some(_), Some(_)) => return Err(Cause::NotOffered),
            (None, _, _) if !session => None,
            (Some(_) | None, _, _) => return Err(Cause::Malformed),
        };
        // Without a count each nonce is good for one use, which is what a count of 1 means.
        let count = match &quality {
            Some(quality) => count(quality.nc).ok_or(Cause::Malformed)?,
            None => 1,
        };
        match (
            self.username,
            self.realm,
            self.nonce,
            self.uri,
            self.response,
        ) {
            (Some(username), Some(realm), Some(nonce), Some(uri), Some(response)) => Ok(Fields {
                username,
                realm,
                nonce,
                uri,
                algorithm,
                count,
                session,
                response,
                quality,
            }),
            _ => Err(Cause::Malformed),
        }
    }
}

/// Missing means MD5 (RFC 7616 3.4).
fn algorithm(name: &[u8]) -> Result<(Algorithm, bool), Cause> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"SHA-256") {
        Ok((Algorithm::Sha256, false))
    } else if is(b"MD5") {
        Ok((Algorithm::Md5, false))
    } else if is(b"SHA-256-sess") {
        Ok((Algorithm::Sha256, true))
    } else if is(b"MD5-sess") {
        Ok((Algorithm::Md5, true))
    } else {
        Err(Cause::NotOffered)
    }
}

/// Eight hexadecimal digits, says the grammar; fewer are understood.
fn count(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 8 {
        return None;
    }
    text.iter().try_fold(0, |value: u32, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value << 4 | digit)
    })
}

/// `H(part:part:…)` as hexadecimal digits, and how many they are.
pub(super) fn hash_parts(algorithm: Algorithm, parts: &[&[u8]], out: &mut [u8; 64]) -> usize {
    match algorithm {
        Algorithm::Sha256 => hash_with::<Sha256>(parts, out),
        Algorithm::Md5 => hash_with::<Md5>(parts, out),
    }
}

fn hash_with<D: Digest>(parts: &[&[u8]], out: &mut [u8; 64]) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    let hash = hasher.finalize();
    for (byte, digits) in hash.iter().zip(out.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    hash.len() * 2
}

/// The challenges of one realm, written out but for the nonce.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    /// Each line up to the nonce.
    lines: Vec<Box<[u8]>>,
}

impl Challenge {
    //= RFC 8760 2.3
    pub(super) fn new(realm: &str, algorithms: &[Algorithm]) -> Challenge {
        let line = |algorithm: &Algorithm| {
            let name = algorithm.name();
            format!(
                "WWW-Authenticate: Digest realm=\"{realm}\", qop=\"auth\", algorithm={name}, nonce=\""
            )
        };
        let lines = algorithms.iter().map(|each| line(each).into_bytes().into());
        Challenge {
            lines: lines.collect(),
        }
    }

    /// Writes whole header lines.
    pub(super) fn write(
        &self,
        nonce: &[u8; Nonce::LENGTH],
        stale: bool,
        put: &mut impl FnMut(&[u8]),
    ) {
        for line in &self.lines {
            put(line);
            put(nonce);
            put(if stale {
                b"\", stale=true\r\n"
            } else {
                b"\"\r\n"
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 7616 3.9.1 type=test
    #[test]
    fn the_examples_of_the_rfc_are_accepted_as_they_stand_there() {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let realm = "http-auth@example.org";
        for (algorithm, response) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (
                Algorithm::Sha256,
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let value = format!(
                "Digest username=\"Mufasa\", realm=\"{realm}\", uri=\"/dir/index.html\", \
                 algorithm={}, nonce=\"{nonce}\", nc=00000001, cnonce=\"{cnonce}\", qop=auth, \
                 response=\"{response}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"",
                algorithm.name()
            );
            let fields = Fields::read(value.as_bytes()).unwrap().unwrap();
            assert_eq!(fields.algorithm, algorithm);
            assert_eq!(fields.count, 1);
            let ha1 = Ha1::of(algorithm, "Mufasa", realm, "Circle of Life");
            assert!(fields.is_answer(&ha1, b"GET"));
            assert!(!fields.is_answer(&ha1, b"POST"));
            let other = Ha1::of(algorithm, "Mufasa", realm, "Circle of life");
            assert!(!fields.is_answer(&other, b"GET"));
        }
    }

    #[test]
    fn a_response_of_another_length_is_no_answer() {
        let ha1 = Ha1::of(Algorithm::Md5, "a", "b", "c");
        let read = |response: &str| {
            let value = format!(
                "Digest username=\"a\", realm=\"b\", uri=\"u\", nonce=\"n\", response=\"{response}\""
            );
            let fields = Fields::read(value.as_bytes()).unwrap();
            fields.map(|fields| fields.is_answer(&ha1, b"GET"))
        };
        assert_eq!(read(""), Ok(false));
        assert_eq!(read("00"), Ok(false));
        assert_eq!(read(&"0".repeat(64)), Ok(false));
        assert_eq!(read(&"0".repeat(1000)), Ok(false));
    }
}
