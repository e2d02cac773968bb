//! A disk that is full, read-only, or takes no more of a file for a while: nobody is refused, and once it can be written
//! again everything that lives is kept, and nothing that ended meanwhile.

use std::time::Instant;

use crate::client::{get, send};
use crate::ground::SmallDisk;
use crate::phone::{Phone, Received};
use crate::restart::start;
use crate::server::{PATIENCE, Scratch, Server};

/// Waits until the store says whether it lacks something.
pub fn degraded(server: &Server, wanted: bool) {
    let started = Instant::now();
    while is_degraded(server) != wanted {
        assert!(started.elapsed() < PATIENCE, "degraded is not {wanted}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// All shards say the same in the end.
pub fn is_degraded(server: &Server) -> bool {
    let metrics = get(server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("lampfield_store_degraded{"));
    let values: Vec<&str> = lines.filter_map(|line| line.rsplit(' ').next()).collect();
    assert!(!values.is_empty(), "{metrics}");
    values.contains(&"1")
}

pub fn subscribed(server: &Server, user: &str) -> (Phone, Received) {
    let phone = Phone::new(server.sip[0], user);
    phone.subscribe("1001", "dialog", 600);
    let answer = phone.answered();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    phone.notified(|_| true);
    (phone, answer)
}

/// What everybody knows after a restart: the state that was set last, by phones that were told it.
fn comes_back(server: Server, again: impl FnOnce(u16) -> Server, phones: &[&Phone], word: &str) {
    let sip = server.sip[0];
    server.signal("KILL");
    server.ended();
    let server = again(sip.port());
    assert!(!is_degraded(&server));
    let banner = &server.banner;
    assert!(banner.contains("records came back"), "{banner}");
    for phone in phones {
        let told = phone.notified(|_| true);
        assert!(told.has(word), "{told:?}");
    }
}

pub fn set(server: &Server, state: &str) {
    let body = format!(r#"{{"state":"{state}"}}"#);
    let (status, answer) = send(server, "PUT", "/v1/hints/1001", &body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_full_disk_refuses_nobody_and_keeps_everything_again_once_there_is_room() {
    let scratch = Scratch::new("full-disk");
    let disk = SmallDisk::mount(&scratch);
    let server = disk.start(&scratch, 0, &[]);
    let sip = server.sip[0];
    let (stays, _) = subscribed(&server, "100");
    let (leaves, left) = subscribed(&server, "101");
    assert!(!is_degraded(&server));

    disk.fill();
    let started = Instant::now();
    let mut changes = 0;
    while !is_degraded(&server) {
        assert!(started.elapsed() < PATIENCE, "{changes} changes were kept");
        set(&server, if changes % 2 == 0 { "ringing" } else { "inuse" });
        changes += 1;
    }
    server.logged("nothing outlives a restart");
    // Whatever happens now stands in memory alone.
    let (comes, came) = subscribed(&server, "102");
    let answer = leaves.resubscribe("dialog", 0, 30, &left);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    leaves.notified(|notify| {
        notify
            .header("Subscription-State")
            .starts_with("terminated")
    });
    set(&server, "hold");
    let held = |notify: &Received| notify.has("+sip.rendering");
    let last = stays.notified(held);
    comes.notified(held);

    disk.make_room();
    degraded(&server, false);
    server.logged("the store has everything again");
    server.signal("KILL");
    server.ended();
    let server = disk.start(&scratch, sip.port(), &[]);
    assert!(!is_degraded(&server));
    assert!(
        server.banner.contains("records came back"),
        "{}",
        server.banner
    );
    for phone in [&stays, &comes] {
        let told = phone.notified(|_| true);
        assert!(held(&told), "{told:?}");
    }
    let cseq = |received: &Received| -> u32 {
        let number = received.header("CSeq").split(' ').next();
        number.and_then(|text| text.parse().ok()).expect("a number")
    };
    let answer = comes.resubscribe("dialog", 600, 31, &came);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    set(&server, "idle");
    let told = stays.notified(|notify| notify.has("terminated"));
    // Nothing was written without a reservation: no leap.
    assert!(cseq(&told) < cseq(&last) + 1_000, "{last:?} {told:?}");
    // What ended meanwhile does not come back.
    let answer = leaves.resubscribe("dialog", 600, 31, &left);
    assert!(answer.0.starts_with("SIP/2.0 481 "), "{answer:?}");
}

#[test]
fn who_is_killed_while_the_disk_is_full_is_followed_by_a_process_that_repeats_no_number() {
    let scratch = Scratch::new("full-and-killed");
    let disk = SmallDisk::mount(&scratch);
    let server = disk.start(&scratch, 0, &[]);
    let sip = server.sip[0];
    let (phone, answer) = subscribed(&server, "100");
    disk.fill();
    let mut last = None;
    for change in 0..300 {
        set(&server, if change % 2 == 0 { "ringing" } else { "idle" });
        let wanted = if change % 2 == 0 {
            "early"
        } else {
            "terminated"
        };
        last = Some(phone.notified(|notify| notify.has(wanted)));
    }
    assert!(is_degraded(&server));
    server.signal("KILL");
    server.ended();
    disk.make_room();
    let server = disk.start(&scratch, sip.port(), &[]);
    server.logged("the disk failed an earlier process");
    let told = phone.notified(|_| true);
    let number = |received: &Received| -> u32 {
        let number = received.header("CSeq").split(' ').next();
        number.and_then(|text| text.parse().ok()).expect("a number")
    };
    assert!(number(&told) > number(&last.expect("300 of them")));
    let answer = phone.resubscribe("dialog", 600, 40, &answer);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
}

#[test]
fn a_file_that_may_not_grow_is_a_disk_that_fails_and_comes_back() {
    let scratch = Scratch::new("no-growth");
    let server = start(&scratch, 0);
    let (stays, _) = subscribed(&server, "100");
    assert!(!is_degraded(&server));
    // EFBIG, where a full disk has ENOSPC; and the signal that comes with it does not kill.
    server.limit_files(Some(1));
    set(&server, "ringing");
    stays.notified(|notify| notify.has("early"));
    degraded(&server, true);
    server.logged("nothing outlives a restart");
    let (comes, _) = subscribed(&server, "101");
    set(&server, "inuse");
    for phone in [&stays, &comes] {
        phone.notified(|notify| notify.has("confirmed"));
    }
    server.limit_files(None);
    degraded(&server, false);
    let again = |port| start(&scratch, port);
    comes_back(server, again, &[&stays, &comes], "confirmed");
}

#[test]
fn a_disk_that_becomes_read_only_is_tried_until_it_can_be_written_again() {
    let scratch = Scratch::new("read-only");
    let disk = SmallDisk::mount(&scratch);
    let file = scratch.file("lampfield.toml", "log = \"info,lampfield::store=debug\"\n");
    let server = disk.start(&scratch, 0, &["--config", &file]);
    let (stays, _) = subscribed(&server, "100");
    // While a file is open for writing the kernel refuses; once the store has been given up, none is.
    server.limit_files(Some(1));
    set(&server, "ringing");
    server.logged("nothing outlives a restart");
    disk.protect();
    server.limit_files(None);
    let tried = server.logged("cannot be opened again");
    let tried = match tried.contains("Read-only file system") {
        true => tried,
        // It was tried before that.
        false => server.logged("Read-only file system"),
    };
    assert!(tried.contains("Failed"), "it is not damaged: {tried}");
    assert!(is_degraded(&server));
    let (comes, _) = subscribed(&server, "101");
    set(&server, "inuse");
    for phone in [&stays, &comes] {
        phone.notified(|notify| notify.has("confirmed"));
    }
    disk.unprotect();
    degraded(&server, false);
    let again = |port| disk.start(&scratch, port, &[]);
    comes_back(server, again, &[&stays, &comes], "confirmed");
}

#[test]
fn who_starts_on_a_read_only_disk_serves_and_keeps_everything_once_it_can_be_written() {
    let scratch = Scratch::new("starts-read-only");
    let disk = SmallDisk::mount(&scratch);
    let server = disk.start(&scratch, 0, &[]);
    let sip = server.sip[0];
    server.signal("TERM");
    server.ended();
    disk.protect();
    let server = disk.start(&scratch, sip.port(), &[]);
    let (phone, _) = subscribed(&server, "100");
    assert!(is_degraded(&server));
    set(&server, "ringing");
    phone.notified(|notify| notify.has("early"));
    disk.unprotect();
    degraded(&server, false);
    let again = |port| disk.start(&scratch, port, &[]);
    comes_back(server, again, &[&phone], "early");
}

/// The secrets go with it, and without them what is written anew would belong to nobody.
#[test]
fn a_data_directory_that_was_removed_is_made_anew_with_all_that_it_held() {
    let scratch = Scratch::new("removed");
    let server = start(&scratch, 0);
    let (phone, _) = subscribed(&server, "100");
    std::fs::remove_dir_all(scratch.0.join("data")).expect("removed");
    degraded(&server, true);
    set(&server, "ringing");
    phone.notified(|told| told.has("<state>early</state>"));
    degraded(&server, false);
    assert!(scratch.0.join("data/secrets").is_file());
    let again = |port| start(&scratch, port);
    comes_back(server, again, &[&phone], "<state>early</state>");
}
