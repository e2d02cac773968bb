//! What the configuration decides: who is asked, by which algorithm, and what it must not say.

use super::*;

#[test]
fn trusted_addresses_and_open_listeners_need_no_credentials() {
    let mut scene = Scene::new(&settings());
    scene.source = "10.9.9.9".parse().unwrap();
    let trusted = scene.ask(&[]);
    scene.source = "192.0.2.9".parse().unwrap();
    scene.gate = 1;
    let open = scene.ask(&[]);
    match (trusted, open) {
        (Outcome::Identity(trusted), Outcome::Identity(open)) => {
            assert!(trusted.name().is_none() && open.name().is_none());
            assert_ne!(trusted, open, "the source is part of a claimed identity");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.challenges(false, 1), "");
}

#[test]
fn where_only_addresses_are_trusted_all_others_but_this_host_are_refused() {
    let mut settings = settings();
    settings.gates = vec![GateSettings {
        trusted: vec!["192.0.2.0/24".to_owned()],
        ..GateSettings::default()
    }];
    let mut scene = Scene::new(&settings);
    for source in ["192.0.2.9", "::ffff:192.0.2.9", "127.0.0.1", "::1"] {
        scene.source = source.parse().unwrap();
        let outcome = scene.ask(&[]);
        assert!(
            matches!(outcome, Outcome::Identity(_)),
            "{source}: {outcome:?}"
        );
    }
    scene.source = "198.51.100.9".parse().unwrap();
    let outcome = scene.ask(&[]);
    assert!(
        matches!(outcome, Outcome::Forbidden(Cause::NotTrusted)),
        "{outcome:?}"
    );
}

#[test]
fn no_challenge_is_offered_that_one_of_the_users_cannot_meet() {
    let mut settings = settings();
    let md5 = Ha1::of(Algorithm::Md5, "carol", REALM, "secret");
    let mut carol = user("carol", "");
    carol.password = Password::Hashed {
        md5: Some(String::from_utf8(md5.digits().to_vec()).unwrap()),
        sha256: None,
    };
    settings.users.push(carol);
    let mut scene = Scene::new(&settings);
    assert!(!scene.challenges(false, 1).contains("SHA-256"));
    assert!(scene.policy.remarks()[0].contains("SHA-256"));
    let nonce = scene.nonce(1);
    let mut phone = Phone::alice(&nonce);
    (phone.user, phone.password) = ("carol", "secret");
    phone.algorithm = Algorithm::Md5;
    scene.expect_identity(&phone.authorization(), "carol@default");
    settings.digest.algorithms = vec![Algorithm::Sha256];
    let fault = Policy::new(&settings, &Secrets::new([1; 32]), None).unwrap_err();
    assert_eq!(fault.at, "gates[0].realm");
}

#[test]
fn md5_can_be_switched_off() {
    let mut settings = settings();
    settings.digest.algorithms = vec![Algorithm::Sha256];
    let mut scene = Scene::new(&settings);
    assert!(!scene.challenges(false, 1).contains("MD5"));
    let nonce = scene.nonce(1);
    let mut phone = Phone::alice(&nonce);
    phone.algorithm = Algorithm::Md5;
    scene.expect_challenge(&phone.authorization(), Cause::NotOffered);
}

#[test]
fn a_wrong_setting_names_its_place_its_value_and_what_to_write() {
    let fault = |change: &dyn Fn(&mut PolicySettings)| {
        let mut settings = settings();
        change(&mut settings);
        let fault = Policy::new(&settings, &Secrets::new([1; 32]), None).unwrap_err();
        fault.to_string()
    };
    let message = fault(&|settings| settings.gates[0].trusted.push("10.1.2.3/8".to_owned()));
    assert_eq!(
        message,
        "gates[0].trusted: \"10.1.2.3/8\" can't be used; write the first address of the network: \"10.0.0.0/8\""
    );
    let message = fault(&|settings| {
        settings.edges.push(EdgeSettings {
            addresses: vec!["sbc".to_owned()],
            ..EdgeSettings::default()
        });
    });
    assert!(message.starts_with("edges: \"sbc\""), "{message}");
    for name in ["192.0.2.1", "two names", "*.example.com"] {
        let message = fault(&|settings| {
            settings.edges.push(EdgeSettings {
                names: vec![name.to_owned()],
                ..EdgeSettings::default()
            });
        });
        let begins = format!("edges: \"{name}\"");
        assert!(message.starts_with(&begins), "{message}");
        assert!(message.contains("sbc.example.com"), "{message}");
    }
    let message = fault(&|settings| settings.users.push(user("alice", "x")));
    assert!(message.starts_with("users[2].user: \"alice\""), "{message}");
    let message = fault(&|settings| settings.gates[0].realm = Some("a\"b".to_owned()));
    assert!(message.starts_with("gates[0].realm"), "{message}");
    let message = fault(&|settings| {
        settings.users[0].password = Password::Hashed {
            md5: Some("abc".to_owned()),
            sha256: None,
        };
    });
    assert!(
        message.starts_with("users[0].md5") && !message.contains("abc"),
        "{message}"
    );
}
