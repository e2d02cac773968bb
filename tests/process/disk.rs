//! A disk that is full for a while: nobody is refused, and once there is room again everything that lives is kept, and
//! nothing that ended meanwhile. The disk is a small tmpfs of the test's own; where it may not mount one (it takes
//! root, or CAP_SYS_ADMIN), it says so and has nothing to look at.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::client::{get, send};
use crate::phone::{Phone, Received};
use crate::restart::start;
use crate::server::{PATIENCE, Scratch, Server};

/// A file system with little room.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None: this process may not mount.
    fn mount(path: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(path).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m,mode=700", "lampfield-test"])
            .arg(path)
            .status();
        let mounted = mounted.is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("not tested: a tmpfs cannot be mounted here, which takes root");
        }
        mounted.then(|| SmallDisk(path.to_owned()))
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![b'x'; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Waits until the store says whether it lacks something.
fn degraded(server: &Server, wanted: bool) {
    let started = Instant::now();
    while is_degraded(server) != wanted {
        assert!(started.elapsed() < PATIENCE, "degraded is not {wanted}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// All shards say the same in the end.
fn is_degraded(server: &Server) -> bool {
    let metrics = get(server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("lampfield_store_degraded{"));
    let values: Vec<&str> = lines.filter_map(|line| line.rsplit(' ').next()).collect();
    assert!(!values.is_empty(), "{metrics}");
    values.contains(&"1")
}

fn subscribed(server: &Server, user: &str) -> (Phone, Received) {
    let phone = Phone::new(server.sip[0], user);
    phone.subscribe("1001", "dialog", 600);
    let answer = phone.answered();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    phone.notified(|_| true);
    (phone, answer)
}

fn set(server: &Server, state: &str) {
    let body = format!(r#"{{"state":"{state}"}}"#);
    let (status, answer) = send(server, "PUT", "/v1/hints/1001", &body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_full_disk_refuses_nobody_and_keeps_everything_again_once_there_is_room() {
    let scratch = Scratch::new("full-disk");
    let Some(disk) = SmallDisk::mount(&scratch.0.join("data")) else {
        return;
    };
    let server = start(&scratch, 0);
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
    let answer = leaves.resubscribe("1001", "dialog", 0, 30, &left);
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
    let server = start(&scratch, sip.port());
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
    let answer = comes.resubscribe("1001", "dialog", 600, 31, &came);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    set(&server, "idle");
    let told = stays.notified(|notify| notify.has("terminated"));
    // Nothing was written without a reservation: no leap.
    assert!(cseq(&told) < cseq(&last) + 1_000, "{last:?} {told:?}");
    // What ended meanwhile does not come back.
    let answer = leaves.resubscribe("1001", "dialog", 600, 31, &left);
    assert!(answer.0.starts_with("SIP/2.0 481 "), "{answer:?}");
}

#[test]
fn who_is_killed_while_the_disk_is_full_is_followed_by_a_process_that_repeats_no_number() {
    let scratch = Scratch::new("full-and-killed");
    let Some(disk) = SmallDisk::mount(&scratch.0.join("data")) else {
        return;
    };
    let server = start(&scratch, 0);
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
    let server = start(&scratch, sip.port());
    server.logged("the disk failed an earlier process");
    let told = phone.notified(|_| true);
    let number = |received: &Received| -> u32 {
        let number = received.header("CSeq").split(' ').next();
        number.and_then(|text| text.parse().ok()).expect("a number")
    };
    assert!(number(&told) > number(&last.expect("300 of them")));
    let answer = phone.resubscribe("1001", "dialog", 600, 40, &answer);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
}
