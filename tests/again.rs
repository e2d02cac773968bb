//! What is asked again over a crash, because nobody heard the answer: it is done once, and answered as it would have been.
//! No kernel, no clock, and a disk that loses nothing.

#[path = "support/lives.rs"]
mod lives;

use std::time::Duration;

use lampfield_sim::message::Message;

use lives::{House, SOURCE, request, subscribe};

const WAITING: &str = "Messages-Waiting: yes\r\n";
const NONE: &str = "Messages-Waiting: no\r\n";
/// 64·T1: nobody asks again for longer.
const LONG: Duration = Duration::from_secs(32);

/// A PUBLISH of one publisher, by its number; `tag`: what it matches.
fn publish(number: u32, tag: Option<&str>, body: &str) -> Vec<u8> {
    let condition = tag.map_or(String::new(), |tag| format!("SIP-If-Match: {tag}\r\n"));
    let kind = "Content-Type: application/simple-message-summary\r\n";
    let kind = if body.is_empty() { "" } else { kind };
    let more = format!("Event: message-summary\r\n{condition}{kind}");
    let bytes = request("PUBLISH", "pbx", &more, body);
    let bytes = with(&bytes, "z9hG4bK-pbx", &format!("z9hG4bK-pbx{number}"));
    with(&bytes, "CSeq: 1", &format!("CSeq: {number}"))
}

/// The same removes what it matches.
fn remove(number: u32, tag: &str) -> Vec<u8> {
    with(
        &publish(number, Some(tag), ""),
        "Expires: 3600",
        "Expires: 0",
    )
}

/// The same with one thing changed.
fn with(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("a text");
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

/// The same as its other copy, which took another way.
fn by_another_way(bytes: &[u8]) -> Vec<u8> {
    with(
        bytes,
        "SIP/2.0/UDP 198.51.100.1:5060",
        "SIP/2.0/UDP 198.51.100.7:5060",
    )
}

fn tag(answer: &Message) -> String {
    assert_eq!(answer.status(), Some(200), "{}", answer.start);
    answer.header("SIP-ETag").expect("a tag").to_owned()
}

//= RFC 3903 6 type=test
#[test]
fn a_first_publish_that_is_asked_again_over_crashes_makes_one_publication() {
    let mut house = House::new(&[("quota", "user publications 1")]);
    let first = publish(1, None, WAITING);
    let given = tag(&house.answer(SOURCE, &first));
    for _ in 0..3 {
        house.restart();
        // Whatever its publisher may have: it has it.
        assert_eq!(tag(&house.answer(SOURCE, &first)), given);
        assert_eq!(tag(&house.answer(SOURCE, &first)), given);
        assert_eq!(house.kept(), (1, 0));
    }
    // Its time has begun anew with each answer that said so.
    house.restart();
    house.pass(Duration::from_secs(30));
    assert_eq!(tag(&house.answer(SOURCE, &first)), given);
    house.pass(Duration::from_secs(3_599));
    assert_eq!(
        tag(&house.answer(SOURCE, &publish(2, Some(&given), ""))),
        given
    );
}

#[test]
fn what_was_published_is_known_for_as_long_as_anybody_asks_again() {
    let mut house = House::new(&[]);
    let first = publish(1, None, WAITING);
    let given = tag(&house.answer(SOURCE, &first));
    house.restart();
    house.pass(LONG - Duration::from_secs(1));
    assert_eq!(tag(&house.answer(SOURCE, &first)), given);
    house.restart();
    house.pass(LONG + Duration::from_secs(1));
    assert_ne!(tag(&house.answer(SOURCE, &first)), given);
    assert_eq!(house.kept(), (2, 0));
}

//= RFC 3903 6 type=test
#[test]
fn a_modification_that_is_asked_again_over_a_crash_is_answered_with_the_tag_that_it_made() {
    let mut house = House::new(&[]);
    let first = tag(&house.answer(SOURCE, &publish(1, None, WAITING)));
    let modification = publish(2, Some(&first), NONE);
    let second = tag(&house.answer(SOURCE, &modification));
    assert_ne!(first, second);
    house.restart();
    assert_eq!(tag(&house.answer(SOURCE, &modification)), second);
    // Another request with the old tag is no retransmission of it.
    assert_eq!(house.status(SOURCE, &publish(3, Some(&first), NONE)), 412);
    assert_eq!(
        tag(&house.answer(SOURCE, &publish(4, Some(&second), ""))),
        second
    );
    assert_eq!(house.kept(), (1, 0));
}

#[test]
fn a_removal_that_is_asked_again_over_a_crash_has_removed_it() {
    let mut house = House::new(&[]);
    let given = tag(&house.answer(SOURCE, &publish(1, None, WAITING)));
    let removal = remove(2, &given);
    assert_eq!(house.status(SOURCE, &removal), 200);
    assert_eq!(house.kept(), (0, 0));
    house.restart();
    let answer = house.answer(SOURCE, &removal);
    assert_eq!(
        (answer.status(), answer.header("SIP-ETag")),
        (Some(200), None)
    );
    // That is no tag that was ever given here.
    assert_eq!(house.status(SOURCE, &remove(3, "another-server")), 412);
    house.pass(LONG);
    assert_eq!(house.status(SOURCE, &remove(4, &given)), 412);
}

#[test]
fn nobody_learns_the_tag_of_another_by_asking_as_that_one_did() {
    let mut house = House::new(&[]);
    let first = publish(1, None, WAITING);
    let given = tag(&house.answer(SOURCE, &first));
    house.restart();
    let other = with(&first, "From: <sip:pbx@", "From: <sip:eve@");
    assert_ne!(tag(&house.answer(SOURCE, &other)), given);
    assert_eq!(house.kept(), (2, 0));
}

#[test]
fn a_disk_that_was_given_everything_anew_knows_what_may_be_asked_again() {
    let mut house = House::new(&[]);
    let (published, subscribed) = (publish(1, None, WAITING), subscribe("one"));
    let given = tag(&house.answer(SOURCE, &published));
    let dialog = house.answer(SOURCE, &subscribed);
    house.rewrite();
    assert_eq!(house.kept(), (1, 1));
    house.restart();
    assert_eq!(house.status(SOURCE, &by_another_way(&published)), 482);
    assert_eq!(house.status(SOURCE, &by_another_way(&subscribed)), 482);
    assert_eq!(tag(&house.answer(SOURCE, &published)), given);
    assert_eq!(
        house.answer(SOURCE, &subscribed).tag("To"),
        dialog.tag("To")
    );
}

//= RFC 3261 8.2.2.2 type=test
#[test]
fn a_copy_by_another_way_is_merged_over_a_crash_too() {
    let mut house = House::new(&[]);
    let (published, subscribed) = (publish(1, None, WAITING), subscribe("one"));
    let given = tag(&house.answer(SOURCE, &published));
    let dialog = house.answer(SOURCE, &subscribed);
    for round in 0..3 {
        house.restart();
        for request in [&published, &subscribed] {
            assert_eq!(
                house.status(SOURCE, &by_another_way(request)),
                482,
                "{round}"
            );
        }
        assert_eq!(tag(&house.answer(SOURCE, &published)), given);
        assert_eq!(
            house.answer(SOURCE, &subscribed).tag("To"),
            dialog.tag("To")
        );
        for request in [&published, &subscribed] {
            assert_eq!(
                house.status(SOURCE, &by_another_way(request)),
                482,
                "{round}"
            );
        }
    }
    assert_eq!(house.kept(), (1, 1));
}

/// It has given up an address that did not answer while the server was down.
//= RFC 3263 4.3 type=test
#[test]
fn who_asks_the_next_address_after_a_crash_is_told_what_it_has_begun() {
    let mut house = House::new(&[]);
    let (published, subscribed) = (publish(1, None, WAITING), subscribe("one"));
    let given = tag(&house.answer(SOURCE, &published));
    let dialog = house.answer(SOURCE, &subscribed);
    house.restart();
    let anew = |bytes| with(bytes, "z9hG4bK-", "z9hG4bK-next-");
    assert_eq!(tag(&house.answer(SOURCE, &anew(&published))), given);
    let again = house.answer(SOURCE, &anew(&subscribed));
    assert_eq!(
        (again.status(), again.tag("To")),
        (Some(200), dialog.tag("To"))
    );
    assert_eq!(house.kept(), (1, 1));
}
