//! How long a nonce is good, and for how much.

use super::*;

//= RFC 7616 3.3 type=test
#[test]
fn an_expired_nonce_is_stale_and_no_reason_to_ask_for_the_password() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let phone = Phone::alice(&nonce);
    scene.expect_identity(&phone.authorization(), "alice@default");
    scene.now += 3_600;
    scene.expect_identity(&phone.clone().count(2).authorization(), "alice@default");
    scene.now += 1;
    scene.expect_challenge(&phone.clone().count(3).authorization(), Cause::NonceExpired);
    scene.now = NOW - 3_600;
    scene.expect_challenge(&phone.count(4).authorization(), Cause::NonceExpired);
}

#[test]
fn a_nonce_of_another_partition_or_of_nobody_is_stale() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    scene.partition = Partition::new(18).unwrap();
    scene.expect_challenge(&Phone::alice(&nonce).authorization(), Cause::NonceElsewhere);
    scene.partition = Partition::new(17).unwrap();
    let forged = nonce.replace(&nonce[..8], "7fffffff");
    scene.expect_challenge(&Phone::alice(&forged).authorization(), Cause::NonceUnknown);
    scene.expect_challenge(&Phone::alice("abc").authorization(), Cause::NonceUnknown);
    scene.expect_identity(&Phone::alice(&nonce).authorization(), "alice@default");
}

//= RFC 7616 3.4 type=test
#[test]
fn a_replayed_count_is_refused() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let recorded = Phone::alice(&nonce).authorization();
    scene.expect_identity(&recorded, "alice@default");
    scene.expect_challenge(&recorded, Cause::Replayed);
    scene.expect_identity(
        &Phone::alice(&nonce).count(9).authorization(),
        "alice@default",
    );
    scene.expect_identity(
        &Phone::alice(&nonce).count(3).authorization(),
        "alice@default",
    );
    scene.expect_challenge(
        &Phone::alice(&nonce).count(9).authorization(),
        Cause::Replayed,
    );
}

//= RFC 3261 17.2.2 type=test
#[test]
fn a_retransmission_is_no_replay_and_the_same_credentials_in_another_request_are() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let authorization = Phone::alice(&nonce).authorization();
    for _ in 0..3 {
        let outcome = scene.ask_as("SUBSCRIBE, Event: unknown", &[&authorization]);
        assert!(matches!(outcome, Outcome::Identity(_)), "{outcome:?}");
        scene.now += 10;
    }
    scene.expect_challenge(&authorization, Cause::Replayed);
    scene.source = "192.0.2.10".parse().unwrap();
    let outcome = scene.ask_as("SUBSCRIBE, Event: unknown", &[&authorization]);
    assert!(matches!(outcome, Outcome::Challenge { .. }), "{outcome:?}");
}

#[test]
fn a_failed_attempt_uses_no_count_up() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let mut wrong = Phone::alice(&nonce);
    wrong.password = "guess";
    scene.expect_challenge(&wrong.authorization(), Cause::Wrong);
    scene.expect_identity(&Phone::alice(&nonce).authorization(), "alice@default");
}

#[test]
fn a_window_that_is_gone_is_stale_and_lets_no_recorded_request_pass() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let recorded = Phone::alice(&nonce).authorization();
    scene.expect_identity(&recorded, "alice@default");
    scene.windows = NonceWindows::new(64);
    scene.now += 65;
    scene.expect_challenge(&recorded, Cause::NonceForgotten);
    let later = Phone::alice(&nonce).count(2).authorization();
    scene.expect_challenge(&later, Cause::NonceForgotten);
}

#[test]
fn two_phones_of_one_user_count_their_own_nonces() {
    let mut scene = Scene::new(&settings());
    let (desk, soft) = (scene.nonce(1), scene.nonce(2));
    scene.expect_identity(&Phone::alice(&desk).authorization(), "alice@default");
    scene.expect_identity(&Phone::alice(&soft).authorization(), "alice@default");
}

#[test]
fn a_nonce_made_under_the_previous_secret_stays_good() {
    let (old, new) = (Secrets::new([1; 32]), Secrets::new([2; 32]));
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    scene.policy = Policy::new(&settings(), &new, Some(&old)).unwrap();
    assert_ne!(scene.nonce(1), nonce);
    scene.expect_identity(&Phone::alice(&nonce).authorization(), "alice@default");
    scene.policy = Policy::new(&settings(), &Secrets::new([3; 32]), Some(&new)).unwrap();
    scene.expect_challenge(
        &Phone::alice(&nonce).count(2).authorization(),
        Cause::NonceUnknown,
    );
}

#[test]
fn credentials_without_qop_are_good_for_one_request_per_nonce() {
    let mut scene = Scene::new(&settings());
    let nonce = scene.nonce(1);
    let phone = Phone::alice(&nonce);
    let first = phone.hash(&["alice", REALM, "open sesame"]);
    let second = phone.hash(&["SUBSCRIBE", phone.uri]);
    let response = phone.hash(&[&first, &nonce, &second]);
    let authorization = format!(
        "Digest username=\"alice\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{}\", \
         response=\"{response}\", algorithm=SHA-256",
        phone.uri
    );
    scene.expect_identity(&authorization, "alice@default");
    scene.expect_challenge(&authorization, Cause::Replayed);
}
