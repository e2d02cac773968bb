//! The answer of a phone to a digest challenge (RFC 7616 3.4).

use md5::{Digest, Md5};
use sha2::Sha256;

use crate::message::Message;

/// What a phone says for itself.
pub struct Credentials<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub algorithm: &'a str,
    /// The `uri` that is hashed and written.
    pub uri: &'a str,
    pub nonce_count: u32,
}

/// The Authorization header for one challenge of a 401.
pub fn authorization(
    challenged: &Message,
    method: &str,
    credentials: &Credentials<'_>,
) -> Result<String, String> {
    let wanted = credentials.algorithm;
    let challenge = challenged
        .all("WWW-Authenticate")
        .find(|value| {
            field(value, "algorithm")
                .unwrap_or("MD5")
                .eq_ignore_ascii_case(wanted)
        })
        .ok_or_else(|| format!("no challenge for {wanted}"))?;
    let realm = field(challenge, "realm").ok_or("a challenge without realm")?;
    let nonce = field(challenge, "nonce").ok_or("a challenge without nonce")?;
    let hash: fn(&str) -> String = match wanted.to_ascii_uppercase().as_str() {
        "MD5" => |text| hex(&Md5::digest(text.as_bytes())),
        "SHA-256" => |text| hex(&Sha256::digest(text.as_bytes())),
        _ => return Err(format!("no algorithm {wanted}")),
    };
    let Credentials {
        user,
        password,
        uri,
        ..
    } = credentials;
    let count = format!("{:08x}", credentials.nonce_count);
    let client = "c0ffee";
    let secret = hash(&format!("{user}:{realm}:{password}"));
    let action = hash(&format!("{method}:{uri}"));
    let response = hash(&format!("{secret}:{nonce}:{count}:{client}:auth:{action}"));
    let mut value = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm={wanted}, cnonce=\"{client}\", qop=auth, nc={count}"
    );
    if let Some(opaque) = field(challenge, "opaque") {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    Ok(value)
}

/// One field of a challenge, without its quotes.
pub fn field<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let fields = challenge.split_once(' ')?.1;
    fields.split(',').find_map(|field| {
        let (key, value) = field.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim_matches('"'))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616 3.9.1 has another method of counting its client nonce, so this
    /// checks the shape and that every part matters.
    #[test]
    fn every_part_of_the_answer_matters() {
        let text = "SIP/2.0 401 Unauthorized\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n\
            Content-Length: 0\r\n\r\n";
        let challenged = Message::read(text.as_bytes()).expect("well formed");
        let answer = |password, algorithm, nonce_count| {
            let credentials = Credentials {
                user: "alice",
                password,
                algorithm,
                uri: "sip:1001@example.com",
                nonce_count,
            };
            authorization(&challenged, "SUBSCRIBE", &credentials).expect("a challenge")
        };
        let response = |header: &str| field(header, "response").map(str::to_string);
        let first = answer("secret", "MD5", 1);
        assert_ne!(response(&first), response(&answer("other", "MD5", 1)));
        assert_ne!(response(&first), response(&answer("secret", "SHA-256", 1)));
        assert_ne!(response(&first), response(&answer("secret", "MD5", 2)));
        assert!(
            authorization(
                &challenged,
                "SUBSCRIBE",
                &Credentials {
                    user: "a",
                    password: "b",
                    algorithm: "SHA-512",
                    uri: "",
                    nonce_count: 1
                }
            )
            .is_err()
        );
    }
}
