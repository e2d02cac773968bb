//! The whole policy, asked as a shard asks it: challenges, credentials, and who is known by them.

mod configured;
mod nonces;

use super::nonce::Nonce;
use super::users::Ha1;
use super::*;
use crate::partition::Secrets;
use crate::sip::Uri;
use proptest::prelude::*;

const NOW: u64 = 1_790_000_000;
const REALM: &str = "example.com";

fn user(name: &str, password: &str) -> UserSettings {
    UserSettings {
        user: name.to_owned(),
        realm: REALM.to_owned(),
        domain: None,
        password: Password::Plain(password.to_owned()),
    }
}

fn settings() -> PolicySettings {
    PolicySettings {
        users: vec![user("alice", "open sesame"), user("bob", "let me in")],
        gates: vec![
            GateSettings {
                realm: Some(REALM.to_owned()),
                trusted: vec!["10.0.0.0/8".to_owned()],
                nat: NatMode::Always,
            },
            GateSettings::default(),
        ],
        ..PolicySettings::default()
    }
}

/// A server with a clock, and a phone that answers its challenges.
struct Scene {
    policy: Policy,
    windows: NonceWindows,
    from: Key,
    now: u64,
    partition: Partition,
    source: IpAddr,
    gate: u16,
    uri: &'static str,
    requests: u32,
}

impl Scene {
    fn new(settings: &PolicySettings) -> Scene {
        let policy = Policy::new(settings, &Secrets::new([1; 32]), None).unwrap();
        Scene {
            policy,
            windows: NonceWindows::new(64),
            from: Key::new(b"alice", "default").unwrap(),
            now: NOW,
            partition: Partition::new(17).unwrap(),
            source: "192.0.2.9".parse().unwrap(),
            gate: 0,
            uri: "sip:1001@example.com",
            requests: 0,
        }
    }

    fn ask(&mut self, authorizations: &[&str]) -> Outcome {
        self.requests += 1;
        let head = format!("SUBSCRIBE {} {authorizations:?}", self.requests);
        self.ask_as(&head, authorizations)
    }

    fn ask_as(&mut self, head: &str, authorizations: &[&str]) -> Outcome {
        let asked = Asked {
            gate: self.gate,
            method: b"SUBSCRIBE",
            uri: self.uri.as_bytes(),
            from: &self.from,
            source: self.source,
            message: [head.as_bytes(), b""],
            partition: self.partition,
            unix_seconds: self.now,
        };
        let values = authorizations.iter().map(|value| value.as_bytes());
        self.policy.authenticate(&asked, values, &mut self.windows)
    }

    fn challenges(&self, stale: bool, salt: u32) -> String {
        let asked = Asked {
            gate: self.gate,
            method: b"SUBSCRIBE",
            uri: self.uri.as_bytes(),
            from: &self.from,
            source: self.source,
            message: [b"", b""],
            partition: self.partition,
            unix_seconds: self.now,
        };
        let mut lines = Vec::new();
        self.policy
            .write_challenges(&asked, stale, salt, |bytes| lines.extend_from_slice(bytes));
        String::from_utf8(lines).unwrap()
    }

    fn nonce(&self, salt: u32) -> String {
        let lines = self.challenges(false, salt);
        let start = lines.find("nonce=\"").unwrap() + 7;
        lines[start..start + Nonce::LENGTH].to_owned()
    }

    #[track_caller]
    fn expect_challenge(&mut self, authorization: &str, expected: Cause) {
        match self.ask(&[authorization]) {
            Outcome::Challenge { stale, cause } => {
                assert_eq!(cause, expected);
                assert_eq!(stale, expected.is_stale());
            }
            other => panic!("{other:?} where {expected:?} was expected"),
        }
    }

    #[track_caller]
    fn expect_identity(&mut self, authorization: &str, expected: &str) -> Identity {
        match self.ask(&[authorization]) {
            Outcome::Identity(identity) => {
                assert_eq!(identity.name().map(|name| &**name), Some(expected));
                identity
            }
            other => panic!("{other:?} where {expected} was expected"),
        }
    }
}

/// Credentials as a phone writes them.
#[derive(Clone)]
struct Phone<'a> {
    user: &'a str,
    password: &'a str,
    algorithm: Algorithm,
    uri: &'a str,
    nonce: &'a str,
    count: u32,
}

impl<'a> Phone<'a> {
    fn alice(nonce: &'a str) -> Phone<'a> {
        Phone {
            user: "alice",
            password: "open sesame",
            algorithm: Algorithm::Sha256,
            uri: "sip:1001@example.com",
            nonce,
            count: 1,
        }
    }

    fn hash(&self, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let mut digits = [0; 64];
        let length = super::digest::hash_parts(self.algorithm, &parts, &mut digits);
        String::from_utf8(digits[..length].to_vec()).unwrap()
    }

    fn response(&self) -> String {
        let first = self.hash(&[self.user, REALM, self.password]);
        let second = self.hash(&["SUBSCRIBE", self.uri]);
        let nc = format!("{:08x}", self.count);
        self.hash(&[&first, self.nonce, &nc, "c0ffee", "auth", &second])
    }

    fn authorization(&self) -> String {
        format!(
            "Digest username=\"{}\", realm=\"{REALM}\", nonce=\"{}\", uri=\"{}\", response=\"{}\", \
             algorithm={}, cnonce=\"c0ffee\", qop=auth, nc={:08x}",
            self.user,
            self.nonce,
            self.uri,
            self.response(),
            self.algorithm.name(),
            self.count
        )
    }

    fn count(mut self, count: u32) -> Phone<'a> {
        self.count = count;
        self
    }
}

//= RFC 8760 2.3 type=test
#[test]
fn challenges_offer_sha_256_first_and_md5_after_it() {
    let scene = Scene::new(&settings());
    let nonce = scene.nonce(5);
    assert_eq!(
        scene.challenges(false, 5),
        format!(
            "WWW-Authenticate: Digest realm=\"example.com\", qop=\"auth\", algorithm=SHA-256, nonce=\"{nonce}\"\r\n\
             WWW-Authenticate: Digest realm=\"example.com\", qop=\"auth\", algorithm=MD5, nonce=\"{nonce}\"\r\n"
        )
    );
    assert_eq!(
        scene
            .challenges(true, 5)
            .matches(", stale=true\r\n")
            .count(),
        2
    );
    assert_ne!(scene.nonce(5), scene.nonce(6));
}

//= RFC 3261 22.2 type=test
#[test]
fn a_request_without_credentials_is_challenged_and_one_with_the_right_ones_is_known() {
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let mut scene = Scene::new(&settings());
        let Outcome::Challenge { stale, cause } = scene.ask(&[]) else {
            panic!("nobody asked for credentials");
        };
        assert_eq!((stale, cause), (false, Cause::NoCredentials));
        let nonce = scene.nonce(1);
        let mut phone = Phone::alice(&nonce);
        phone.algorithm = algorithm;
        let identity = scene.expect_identity(&phone.authorization(), "alice@default");
        let again = scene.expect_identity(&phone.clone().count(2).authorization(), "alice@default");
        assert_eq!(identity, again);
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let mut wrong = Phone::alice(&nonce);
    wrong.password = "sesame";
    scene.expect_challenge(&wrong.authorization(), Cause::Wrong);
    let mut nobody = Phone::alice(&nonce);
    nobody.user = "mallory";
    scene.expect_challenge(&nobody.authorization(), Cause::Wrong);
}

#[test]
fn the_hash_that_stands_in_for_an_unknown_user_opens_nothing() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let mut phone = Phone::alice(&nonce);
    phone.user = "mallory";
    let nobody = String::from_utf8(Ha1::NOBODY.digits().to_vec()).unwrap();
    let second = phone.hash(&["SUBSCRIBE", phone.uri]);
    let forged = phone.hash(&[&nobody, &nonce, "00000001", "c0ffee", "auth", &second]);
    let authorization = phone.authorization().replace(&phone.response(), &forged);
    scene.expect_challenge(&authorization, Cause::Wrong);
}

#[test]
fn names_quotes_and_a_missing_algorithm_are_taken_as_phones_write_them() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let mut phone = Phone::alice(&nonce);
    phone.algorithm = Algorithm::Md5;
    let response = phone.response().to_uppercase();
    let odd = format!(
        "digest  USERNAME=alice,realm=example.com ,\r\n nonce={nonce},uri=sip:1001@example.com,\
         response=\"{response}\",qop=\"auth\",nc=00000001,cnonce=c0ffee,opaque=\"\",x-y=z"
    );
    scene.expect_identity(&odd, "alice@default");
}

//= RFC 7616 3.4.2 type=test
#[test]
fn the_sess_variant_hashes_the_client_nonce_into_the_password() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let phone = Phone::alice(&nonce);
    let first = phone.hash(&["alice", REALM, "open sesame"]);
    let session = phone.hash(&[&first, &nonce, "c0ffee"]);
    let second = phone.hash(&["SUBSCRIBE", phone.uri]);
    let response = phone.hash(&[&session, &nonce, "00000001", "c0ffee", "auth", &second]);
    let authorization = phone
        .authorization()
        .replace(&phone.response(), &response)
        .replace("SHA-256", "SHA-256-sess");
    scene.expect_identity(&authorization, "alice@default");
}

#[test]
fn what_was_not_offered_and_what_is_malformed_is_challenged_anew() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let good = Phone::alice(&nonce).authorization();
    let other = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    scene.expect_challenge(&other("SHA-256", "SHA-512-256"), Cause::NotOffered);
    scene.expect_challenge(&other("qop=auth", "qop=auth-int"), Cause::NotOffered);
    for malformed in [
        other("nc=00000001", "nc=0000000g"),
        other("nc=00000001", "nc=000000001"),
        other(", nc=00000001", ""),
        other(", cnonce=\"c0ffee\"", ""),
        other("qop=auth", "qop=auth, qop=auth"),
        other("response=", "answer="),
        other("username=\"alice\"", "username=\"alice"),
        "Digest".to_owned(),
        String::new(),
    ] {
        scene.expect_challenge(&malformed, Cause::Malformed);
    }
    scene.expect_challenge(&other("nc=00000001", "nc=00000000"), Cause::Wrong);
    scene.expect_challenge("Basic YWxpY2U6c2VzYW1l", Cause::NoCredentials);
    scene.expect_identity(&good, "alice@default");
}

#[test]
fn the_uri_is_hashed_as_sent_and_compared_only_where_that_is_wanted() {
    let mut settings = settings();
    let mut scene = Scene::new(&settings);
    let nonce = scene.nonce(1);
    let mut phone = Phone::alice(&nonce);
    phone.uri = "sip:1001@192.0.2.1:5060;transport=udp";
    let rewritten = phone.authorization();
    scene.expect_identity(&rewritten, "alice@default");
    settings.digest.strict_uri = true;
    let mut scene = Scene::new(&settings);
    assert!(matches!(
        scene.ask(&[&rewritten]),
        Outcome::Forbidden(Cause::OtherUri)
    ));
    scene.expect_identity(&Phone::alice(&nonce).authorization(), "alice@default");
}

#[test]
fn credentials_for_others_are_passed_over() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let ours = Phone::alice(&nonce).authorization();
    let theirs = ours.replace("realm=\"example.com\"", "realm=\"sbc.example.net\"");
    scene.expect_challenge(&theirs, Cause::NoCredentials);
    let outcome = scene.ask(&["Basic abc", &theirs, &ours]);
    assert!(matches!(outcome, Outcome::Identity(_)), "{outcome:?}");
}

#[test]
fn a_request_uri_and_a_from_become_keys() {
    let policy = Scene::new(&settings()).policy;
    let resource = |uri: &str| {
        let target = match Uri::parse(uri.as_bytes()) {
            Ok(uri) => Target::Sip(uri),
            Err(_) => Target::Tel(Tel::parse(uri.as_bytes()).unwrap()),
        };
        policy.resource(&target).map(|key| key.as_str().to_owned())
    };
    assert_eq!(
        resource("sip:%31001:secret@Example.com:5080;user=phone?x=y").as_deref(),
        Ok("1001@default")
    );
    assert_eq!(resource("sip:example.com"), Err(NotFound::NoUser));
    assert_eq!(
        resource("tel:+1-201.555(0123);ext=7").as_deref(),
        Ok("+12015550123@default")
    );
    let sender = |from: &str| {
        let from = NameAddr::parse(from.as_bytes()).unwrap();
        policy.sender(&from).unwrap().as_str().to_owned()
    };
    assert_eq!(sender("\"A\" <sip:alice@x>;tag=1"), "alice@default");
    assert_eq!(sender("<tel:+1201>;tag=1"), "+1201@default");
    assert_eq!(sender("<im:a@b>;tag=1"), "im%3Aa%40b@");
}

#[test]
fn anonymous_and_shared_senders_stand_for_more_than_one_phone() {
    let mut settings = settings();
    settings.shared_watchers = vec!["panel*".to_owned()];
    let policy = Scene::new(&settings).policy;
    let shared =
        |user: &str, domain: &str| policy.is_shared(&Key::new(user.as_bytes(), domain).unwrap());
    assert!(shared("anonymous", "anonymous.invalid"));
    assert!(shared("panel7", "default"));
    assert!(!shared("panel7", "elsewhere.example"));
    assert!(!shared("alice", "default"));
}

proptest! {
    /// Nobody gets in by luck, and nothing panics.
    #[test]
    fn garbage_for_credentials_is_challenged(
        garbage in "(Digest )?[ -~]{0,120}",
        place in 0usize..300,
        byte in any::<u8>(),
    ) {
        let mut scene = Scene::new(&settings());
        let challenged = matches!(scene.ask(&[&garbage]), Outcome::Challenge { .. });
        prop_assert!(challenged);
        // A wrong password stays wrong, whichever byte of the credentials is another one.
        let nonce = scene.nonce(1);
        let mut phone = Phone::alice(&nonce);
        phone.password = "wrong";
        let mut bytes = phone.authorization().into_bytes();
        let place = place % bytes.len();
        bytes[place] = byte;
        if let Ok(mutated) = String::from_utf8(bytes) {
            let challenged = matches!(scene.ask(&[&mutated]), Outcome::Challenge { .. });
            prop_assert!(challenged);
        }
    }
}
