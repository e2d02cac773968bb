//! What a request costs before anyone looks at its subscription: its resource, its credentials, its rules.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lampfield::partition::{Partition, Secrets};
use lampfield::policy::{
    Action, Algorithm, Asked, GateSettings, Key, NonceWindows, Outcome, Password, Policy,
    PolicySettings, RuleSettings, UserSettings,
};
use lampfield::sip::Uri;
use lampfield::sip::request::Target;

const NOW: u64 = 1_790_000_000;

fn policy() -> Policy {
    let user = |number: u32| UserSettings {
        user: number.to_string(),
        realm: "example.com".to_owned(),
        domain: None,
        password: Password::Plain("secret".to_owned()),
    };
    let rule = |number: u32| RuleSettings {
        action: None,
        identity: format!("{number}???@*"),
        resource: "*".to_owned(),
        allow: false,
    };
    let mut settings = PolicySettings {
        users: (0..10_000).map(user).collect(),
        gates: vec![GateSettings {
            realm: Some("example.com".to_owned()),
            ..GateSettings::default()
        }],
        ..PolicySettings::default()
    };
    settings.access.rules = (100..120).map(rule).collect();
    Policy::new(&settings, &Secrets::new([1; 32]), None).expect("the settings are right")
}

fn asked(from: &Key) -> Asked<'_> {
    Asked {
        gate: 0,
        method: b"SUBSCRIBE",
        uri: b"sip:1001@example.com",
        from,
        source: [192, 0, 2, 9].into(),
        message: [&[b' '; 800], b""],
        partition: Partition::new(17).expect("there are more"),
        unix_seconds: NOW,
    }
}

fn hash(algorithm: Algorithm, text: &str) -> String {
    use sha2::Digest;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match algorithm {
        Algorithm::Sha256 => hex(&sha2::Sha256::digest(text)),
        Algorithm::Md5 => hex(&md5::Md5::digest(text)),
    }
}

/// The value up to `nc=`, and what the response is hashed from: the count changes with every request.
fn authorization(policy: &Policy, from: &Key, algorithm: Algorithm, count: u32) -> String {
    let mut lines = Vec::new();
    policy.write_challenges(&asked(from), false, 7, |bytes| {
        lines.extend_from_slice(bytes);
    });
    let lines = String::from_utf8(lines).expect("a challenge is text");
    let nonce = lines
        .split("nonce=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a challenge has a nonce");
    let first = hash(algorithm, "1001:example.com:secret");
    let second = hash(algorithm, "SUBSCRIBE:sip:1001@example.com");
    let response = hash(
        algorithm,
        &format!("{first}:{nonce}:{count:08x}:c0ffee:auth:{second}"),
    );
    let name = match algorithm {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Md5 => "MD5",
    };
    format!(
        "Digest username=\"1001\", realm=\"example.com\", nonce=\"{nonce}\", \
         uri=\"sip:1001@example.com\", response=\"{response}\", algorithm={name}, \
         cnonce=\"c0ffee\", qop=auth, nc={count:08x}"
    )
}

fn benches(criterion: &mut Criterion) {
    let policy = policy();
    let from = policy
        .domains()
        .named("1001")
        .expect("a bare user is a name");
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let values: Vec<String> = (1..=1_000)
            .map(|count| authorization(&policy, &from, algorithm, count))
            .collect();
        let mut windows = NonceWindows::new(1 << 16);
        let mut next = 0;
        let mut accepted = 0u64;
        criterion.bench_function(&format!("policy/verify/{algorithm:?}"), |bencher| {
            bencher.iter(|| {
                // After the last count they are replays, which cost the same up to the last bit.
                let value = values[next % values.len()].as_bytes();
                next += 1;
                let outcome = policy.authenticate(
                    &asked(&from),
                    core::iter::once(black_box(value)),
                    &mut windows,
                );
                accepted += u64::from(matches!(outcome, Outcome::Identity(_)));
            });
        });
        assert!(accepted >= 1_000, "each count is accepted");
    }
    criterion.bench_function("policy/challenge", |bencher| {
        let mut line = Vec::with_capacity(1_024);
        bencher.iter(|| {
            line.clear();
            policy.write_challenges(black_box(&asked(&from)), true, 7, |bytes| {
                line.extend_from_slice(bytes);
            });
        });
    });
    criterion.bench_function("policy/resource", |bencher| {
        bencher.iter(|| {
            let uri = Uri::parse(black_box(b"sip:%31001@example.com:5060;user=phone"));
            policy.resource(&Target::Sip(uri.expect("it is one")))
        });
    });
    criterion.bench_function("policy/permits/20 rules", |bencher| {
        let mut windows = NonceWindows::new(8);
        let value = authorization(&policy, &from, Algorithm::Md5, 1);
        let values = core::iter::once(value.as_bytes());
        let Outcome::Identity(identity) = policy.authenticate(&asked(&from), values, &mut windows)
        else {
            panic!("the first use is good");
        };
        bencher.iter(|| policy.permits(Action::Watch, black_box(&identity), &from, &from));
    });
}

criterion_group!(group, benches);
criterion_main!(group);
