//! A disk that answers EIO in the middle of a load: serving goes on, it is said, and what the disk has from its way back on
//! is whole, whatever it had lost of what it once took.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Instant;

use crate::disk::{degraded, is_degraded, set, subscribed};
use crate::faults::{Fails, Faults};
use crate::phone::{Phone, Received};
use crate::restart::{cseq, listens_on};
use crate::server::{PATIENCE, Scratch, Server};

/// A server with its data on a disk that can fail.
struct House {
    scratch: Scratch,
    faults: Faults,
    durability: &'static str,
}

impl House {
    fn new(name: &str, durability: &'static str) -> House {
        let scratch = Scratch::new(name);
        let data = scratch.0.join("data");
        fs::create_dir_all(&data).expect("a directory");
        House {
            faults: Faults::below(&data),
            scratch,
            durability,
        }
    }

    fn start(&self, port: u16) -> Server {
        let arguments = listens_on(&self.scratch, port);
        let arguments = arguments.each_ref().map(String::as_str);
        let text = format!("[store]\ndurability = \"{}\"\n", self.durability);
        let file = self.scratch.file("lampfield.toml", &text);
        let arguments = [&arguments[..], &["--config", &file]].concat();
        self.faults.around(|| Server::start_with(&arguments))
    }

    /// The journals of the store by their inodes, and where each ends. What comes before is not on the disk for sure.
    fn journals(&self) -> Vec<Journal> {
        let files = fs::read_dir(self.scratch.0.join("data/store")).expect("a store");
        let paths = files.map(|file| file.expect("a file").path());
        let journals = paths.filter(|path| path.extension().is_some_and(|end| end == "jnl"));
        let journal = |path: PathBuf| {
            let bytes = fs::read(&path).expect("readable");
            let end = bytes.iter().rposition(|byte| *byte != 0);
            let end = end.map_or(0, |last| last as u64 + 1);
            let inode = fs::metadata(&path).expect("readable").ino();
            Journal { path, inode, end }
        };
        journals.map(journal).collect()
    }

    /// The power fails: what of these journals was not on the disk when a sync failed is not there.
    fn lose_power(&self, unsynced: &[Journal]) {
        for now in self.journals() {
            let before = unsynced.iter().find(|before| before.inode == now.inode);
            let Some(before) = before.filter(|before| before.end >= LOST as u64) else {
                continue;
            };
            let file = File::options().write(true).open(&now.path).expect("a file");
            let nothing = [0; LOST];
            let place = before.end - LOST as u64;
            file.write_all_at(&nothing, place).expect("written");
        }
    }
}

/// The last bytes of a journal that were never synced.
const LOST: usize = 64;

struct Journal {
    path: PathBuf,
    inode: u64,
    end: u64,
}

/// Phones that see every change, and never the same number twice.
struct Watchers(Vec<(Phone, u32)>);

impl Watchers {
    fn subscribe(server: &Server, count: u32) -> Watchers {
        let phone = |number: u32| (subscribed(server, &number.to_string()).0, 1);
        Watchers((200..200 + count).map(phone).collect())
    }

    /// Each of them is told what has this word in it.
    fn all_see(&mut self, word: &str) {
        for (phone, last) in &mut self.0 {
            let highest = std::cell::Cell::new(*last);
            phone.notified(|notify| {
                let number = cseq(notify);
                assert!(number > highest.get(), "{} then {notify:?}", highest.get());
                highest.set(number);
                notify.has(word)
            });
            *last = highest.get();
        }
    }
}

/// A change that everybody is told.
fn change(server: &Server, watchers: &mut Watchers, number: usize) {
    let (state, shown) = [("ringing", "early"), ("inuse", "confirmed")][number % 2];
    set(server, state);
    watchers.all_see(shown);
}

fn ends(notify: &Received) -> bool {
    let state = notify.header("Subscription-State");
    state.starts_with("terminated")
}

/// In the middle of a load, until the power is lost after its way back.
fn goes_and_comes_back(fails: Fails, durability: &'static str) {
    let house = House::new(&format!("eio-{fails:?}-{durability}"), durability);
    let server = house.start(0);
    let sip = server.sip[0];
    let mut watchers = Watchers::subscribe(&server, 12);
    let (leaves, left) = subscribed(&server, "100");
    assert!(!is_degraded(&server));

    house.faults.fail(fails);
    let started = Instant::now();
    let mut changes = 0;
    while !is_degraded(&server) {
        assert!(started.elapsed() < PATIENCE, "{changes} changes were kept");
        change(&server, &mut watchers, changes);
        subscribed(&server, &format!("9{changes}"));
        changes += 1;
    }
    let unsynced = house.journals();
    let said = server.logged("nothing outlives a restart");
    assert!(said.contains("Input/output error"), "{said}");
    // Whatever happens now stands in memory alone, however often the disk is tried.
    let (comes, came) = subscribed(&server, "101");
    let answer = leaves.resubscribe("dialog", 0, 30, &left);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    leaves.notified(ends);
    let given = house.faults.given();
    while house.faults.given() == given {
        assert!(started.elapsed() < PATIENCE, "the disk is not tried again");
        change(&server, &mut watchers, changes);
        changes += 1;
    }
    assert!(is_degraded(&server));

    house.faults.fail(Fails::Nothing);
    degraded(&server, false);
    server.logged("the store has everything again");
    change(&server, &mut watchers, changes);
    let before: Vec<u32> = watchers.0.iter().map(|(_, last)| *last).collect();
    server.signal("KILL");
    server.ended();
    house.lose_power(&unsynced);

    let server = house.start(sip.port());
    assert!(!is_degraded(&server));
    let shown = ["early", "confirmed"][changes % 2];
    watchers.all_see(shown);
    for ((_, now), before) in watchers.0.iter().zip(before) {
        // Nothing was written without a reservation: no leap.
        assert!(*now < before + 1_000, "{before} then {now}");
    }
    let answer = comes.resubscribe("dialog", 600, 31, &came);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    // What ended meanwhile does not come back.
    let answer = leaves.resubscribe("dialog", 600, 31, &left);
    assert!(answer.0.starts_with("SIP/2.0 481 "), "{answer:?}");
}

#[test]
fn a_disk_whose_syncs_fail_has_everything_again_once_they_do_not() {
    goes_and_comes_back(Fails::Syncs, "process");
}

#[test]
fn a_disk_whose_syncs_fail_has_everything_again_where_answers_wait_for_it() {
    goes_and_comes_back(Fails::Syncs, "disk");
}

#[test]
fn a_disk_whose_writes_fail_has_everything_again_once_they_do_not() {
    goes_and_comes_back(Fails::Writes, "process");
}

#[test]
fn a_disk_where_all_fails_has_everything_again_once_it_does_not() {
    goes_and_comes_back(Fails::Both, "disk");
}

#[test]
fn who_is_killed_while_syncs_fail_is_followed_by_a_process_that_repeats_no_number_and_trusts_no_journal()
 {
    let house = House::new("eio-and-killed", "process");
    let server = house.start(0);
    let sip = server.sip[0];
    let mut watchers = Watchers::subscribe(&server, 3);
    house.faults.fail(Fails::Syncs);
    // So many that reservations are used up that nobody has written.
    for number in 0..300 {
        change(&server, &mut watchers, number);
    }
    assert!(is_degraded(&server));
    let unsynced = house.journals();
    server.signal("KILL");
    server.ended();
    house.faults.fail(Fails::Nothing);
    let server = house.start(sip.port());
    server.logged("the disk failed an earlier process");
    watchers.all_see("dialog-info");
    // What this one writes does not stand behind what may have been lost.
    let (comes, came) = subscribed(&server, "101");
    set(&server, "hold");
    watchers.all_see("+sip.rendering");
    server.signal("KILL");
    server.ended();
    house.lose_power(&unsynced);
    let server = house.start(sip.port());
    watchers.all_see("+sip.rendering");
    let answer = comes.resubscribe("dialog", 600, 31, &came);
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    drop(server);
}

#[test]
fn who_starts_on_a_disk_that_fails_serves_and_keeps_everything_once_it_does_not() {
    let house = House::new("eio-at-start", "process");
    let server = house.start(0);
    let sip = server.sip[0];
    server.signal("TERM");
    server.ended();
    house.faults.fail(Fails::Both);
    let server = house.start(sip.port());
    let mut watchers = Watchers::subscribe(&server, 3);
    assert!(is_degraded(&server) && house.faults.given() > 0);
    change(&server, &mut watchers, 0);
    house.faults.fail(Fails::Nothing);
    degraded(&server, false);
    server.signal("KILL");
    server.ended();
    let server = house.start(sip.port());
    watchers.all_see("early");
    drop(server);
}
