//! A store on a real disk: opened, written, damaged, and opened again.

use super::*;
use core::time::Duration;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::store::format::{Key, Record};
use crate::store::records::Records;

const OWNER: Owner = [7; 16];

/// A data directory of its own for one test, removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("lampfield-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }

    fn open(&self) -> Opened {
        open(&self.0, &OWNER).expect("nobody else has it")
    }

    fn open_again(&self, incarnation: u32, former: Former) -> Result<Disk, DiskError> {
        let home = Home {
            data_dir: self.0.clone(),
            owner: OWNER,
            incarnation,
            make_ready: Arc::new(|| Ok(())),
        };
        open_again(&home, former)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn epochs(sources: &[(&str, u64)]) -> Records {
    let mut records = Records::default();
    for &(source, epoch) in sources {
        records.put(&Key::Epoch { source }, &Record::Epoch(epoch));
    }
    records
}

fn read(disk: &Disk) -> Vec<(String, u64)> {
    let item = |item: Result<(fjall::Slice, fjall::Slice), DiskError>| {
        let (key, value) = item.expect("readable");
        let key = Key::read(&key).expect("a key");
        let Record::Epoch(epoch) = Record::read(&key, &value).expect("a record") else {
            panic!("{key:?}")
        };
        match key {
            Key::Epoch { source } => (source.to_owned(), epoch),
            key => panic!("{key:?}"),
        }
    };
    disk.read().map(item).collect()
}

fn list(sources: &[(&str, u64)]) -> Vec<(String, u64)> {
    let own = |&(source, epoch): &(&str, u64)| (source.to_owned(), epoch);
    sources.iter().map(own).collect()
}

#[test]
fn what_one_process_writes_the_next_one_reads_in_the_order_of_the_keys() {
    let scratch = Scratch::new("store-read");
    for incarnation in 1..=3 {
        let opened = scratch.open();
        assert_eq!((opened.incarnation, opened.warnings), (incarnation, vec![]));
        let disk = opened.disk.expect("a disk");
        if incarnation == 1 {
            let mut second = epochs(&[("a", 9)]);
            second.remove(&Key::Epoch { source: "b" });
            let blocks = [epochs(&[("c", 1), ("b", 2), ("a", 3)]), second];
            disk.write(blocks.iter()).expect("written");
        }
        assert_eq!(read(&disk), list(&[("a", 9), ("c", 1)]));
        disk.sync().expect("synced");
    }
}

#[test]
fn a_record_that_was_set_aside_is_not_read_again() {
    let scratch = Scratch::new("store-aside");
    let disk = scratch.open().disk.expect("a disk");
    let block = epochs(&[("a", 1), ("b", 2)]);
    disk.write([&block].into_iter()).expect("written");
    let mut key = Vec::new();
    Key::Epoch { source: "a" }.write(&mut key);
    disk.set_aside(&key).expect("set aside");
    assert_eq!(read(&disk), list(&[("b", 2)]));
}

#[test]
fn who_follows_a_process_whose_disk_failed_leaps_ahead_and_says_so() {
    let scratch = Scratch::new("store-behind");
    let first = scratch.open();
    first
        .disk
        .as_ref()
        .expect("a disk")
        .fall_behind()
        .expect("marked");
    drop(first);
    let second = scratch.open();
    assert!(second.incarnation > 10_000, "{}", second.incarnation);
    assert_eq!(second.warnings.len(), 1);
    let incarnation = second.incarnation;
    drop(second);
    assert_eq!(scratch.open().incarnation, incarnation + 1);
}

/// The kernel may have made the file system read-only, so that the process could neither write nor say so.
#[test]
fn who_follows_a_process_that_said_nothing_for_long_leaps_ahead_unless_it_ended_in_order() {
    let scratch = Scratch::new("store-unknown");
    let long_ago = || {
        let file = fs::File::options()
            .write(true)
            .open(scratch.0.join(IN_STEP))
            .expect("the mark is there");
        let then = SystemTime::now() - Duration::from_secs(60);
        file.set_modified(then).expect("it can be set back");
    };
    let first = scratch.open();
    let disk = first.disk.expect("a disk");
    long_ago();
    disk.stay_in_step().expect("said");
    drop(disk);
    let second = scratch.open();
    assert_eq!(second.incarnation, first.incarnation + 1);
    drop(second);
    long_ago();
    let third = scratch.open();
    assert!(third.incarnation > 10_000, "{}", third.incarnation);
    assert_eq!(third.warnings, Vec::<String>::new());
    third.disk.expect("a disk").end_in_step().expect("said");
    long_ago();
    assert_eq!(scratch.open().incarnation, third.incarnation + 1);
}

#[test]
fn a_damaged_store_is_set_aside_whole_and_a_new_one_begins() {
    let scratch = Scratch::new("store-damaged");
    for damaged in 1..=2 {
        let disk = scratch.open().disk.expect("a disk");
        let block = epochs(&[("a", 1)]);
        disk.write([&block].into_iter()).expect("written");
        drop(disk);
        fs::remove_dir_all(scratch.0.join("store/keyspaces")).expect("removed");
        let opened = scratch.open();
        assert_eq!(opened.warnings.len(), 1, "{:?}", opened.warnings);
        assert_eq!(read(&opened.disk.expect("a disk")), []);
        let aside = scratch.0.join(format!("store.damaged-{damaged}"));
        assert!(aside.is_dir(), "{}", aside.display());
    }
}

#[test]
fn a_store_that_another_process_has_is_refused_and_left_alone() {
    let scratch = Scratch::new("store-locked");
    let first = scratch.open();
    assert!(matches!(
        open(&scratch.0, &OWNER),
        Err(OpenError::Locked(_))
    ));
    let disk = first.disk.expect("a disk");
    let block = epochs(&[("a", 1)]);
    disk.write([&block].into_iter()).expect("written");
    assert_eq!(read(&disk), list(&[("a", 1)]));
}

#[test]
fn a_disk_that_is_back_serves_the_same_process_and_is_in_step_when_it_has_caught_up() {
    let scratch = Scratch::new("store-again");
    let first = scratch.open();
    let disk = first.disk.expect("a disk");
    let block = epochs(&[("a", 1), ("b", 2), ("c", 3)]);
    disk.write([&block].into_iter()).expect("written");
    drop(disk);
    let again = scratch
        .open_again(first.incarnation, Former::Sound)
        .expect("it is back");
    assert_eq!(read(&again), list(&[("a", 1), ("b", 2), ("c", 3)]));
    assert!(!scratch.0.join(IN_STEP).exists());
    // Some keys, and then those after the last of them.
    let keys = again.keys(&[], 3).expect("readable");
    let (last, _) = keys.split_last().expect("some");
    again.remove(core::slice::from_ref(last)).expect("removed");
    let left = read(&again);
    assert_eq!(left.len(), 2);
    let mut after = keys[0].to_vec();
    after.push(0);
    let fewer = again.keys(&after, 100).expect("readable");
    assert_eq!(fewer.len(), left.len() - 1);
    again.catch_up().expect("marked");
    drop(again);
    let next = scratch.open();
    assert_eq!(
        (next.incarnation, next.warnings),
        (first.incarnation + 1, vec![])
    );
}

#[test]
fn what_this_process_never_read_or_another_one_wrote_is_set_aside_when_the_disk_is_back() {
    let scratch = Scratch::new("store-foreign");
    let fill = |disk: &Disk| {
        let block = epochs(&[("a", 1)]);
        disk.write([&block].into_iter()).expect("written");
    };
    let first = scratch.open();
    fill(first.disk.as_ref().expect("a disk"));
    drop(first);
    for (number, (incarnation, former)) in [(1, Former::Unread), (7, Former::Sound)]
        .into_iter()
        .enumerate()
    {
        let again = scratch
            .open_again(incarnation, former)
            .expect("a new one begins");
        assert_eq!(read(&again), []);
        let aside = scratch.0.join(format!("store.damaged-{}", number + 1));
        assert!(aside.is_dir(), "{}", aside.display());
        fill(&again);
        drop(again);
    }
    // The number of the process that began it anew stands in it.
    let again = scratch.open_again(7, Former::Sound).expect("its own");
    assert_eq!(read(&again), list(&[("a", 1)]));
    // While somebody else has it, it stays as it is.
    for former in [Former::Sound, Former::Doubtful] {
        assert!(matches!(
            scratch.open_again(7, former),
            Err(DiskError::Locked)
        ));
    }
}

/// Every journal of the store, by its name.
fn journals(scratch: &Scratch) -> Vec<(PathBuf, u64, Vec<u8>)> {
    let files = fs::read_dir(scratch.0.join(DIRECTORY)).expect("a store");
    let paths = files.map(|file| file.expect("a file").path());
    let journals = paths.filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    let mut journals: Vec<_> = journals
        .map(|path| {
            let inode = fs::metadata(&path).expect("readable").ino();
            let mut bytes = fs::read(&path).expect("readable");
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0));
            (path, inode, bytes)
        })
        .collect();
    journals.sort();
    journals
}

#[test]
fn journals_of_which_nobody_knows_whether_the_disk_has_them_are_written_anew_before_they_go_on() {
    let scratch = Scratch::new("store-doubt");
    let first = scratch.open();
    let disk = first.disk.expect("a disk");
    let block = epochs(&[("a", 1), ("b", 2)]);
    disk.write([&block].into_iter()).expect("written");
    drop(disk);
    let before = journals(&scratch);
    assert!(!before.is_empty() && before.iter().all(|(_, _, bytes)| !bytes.is_empty()));
    let again = scratch
        .open_again(first.incarnation, Former::Sound)
        .expect("it is back");
    drop(again);
    let sound = journals(&scratch);
    assert_eq!(sound[0].1, before[0].1);
    let again = scratch
        .open_again(first.incarnation, Former::Doubtful)
        .expect("it is back");
    assert_eq!(read(&again), list(&[("a", 1), ("b", 2)]));
    drop(again);
    let anew = journals(&scratch);
    assert_ne!(anew[0].1, sound[0].1, "another file");
    assert!(anew[0].2.starts_with(&sound[0].2), "that says the same");
    // It is not in step: a process that follows does the same.
    let next = scratch.open();
    assert_eq!(
        read(next.disk.as_ref().expect("a disk")),
        list(&[("a", 1), ("b", 2)])
    );
    assert_ne!(journals(&scratch)[0].1, anew[0].1);
    drop(next);
    let after = journals(&scratch);
    drop(scratch.open());
    assert_eq!(
        journals(&scratch)[0].1,
        after[0].1,
        "and one after that has no doubt"
    );
}

/// As on a machine that has no clock of its own: it starts at some time in the past.
#[test]
fn a_clock_that_was_set_back_is_noticed_once() {
    let scratch = Scratch::new("store-clock");
    assert_eq!(scratch.open().set_back, Duration::ZERO);
    let file = fs::File::options()
        .write(true)
        .open(scratch.0.join(IN_STEP))
        .expect("the mark is there");
    let two_hours = Duration::from_secs(7_200);
    file.set_modified(SystemTime::now() + two_hours)
        .expect("it can be set ahead");
    let opened = scratch.open();
    assert!(two_hours - opened.set_back < Duration::from_secs(60));
    assert!(
        opened.warnings[0].contains("the clock is 71"),
        "{:?}",
        opened.warnings
    );
    drop(opened);
    assert_eq!(scratch.open().set_back, Duration::ZERO);
}

/// Its tags and partitions are those of other secrets: what it holds would be found by nobody, or by another shard.
#[test]
fn a_store_of_other_secrets_is_set_aside_whole() {
    let scratch = Scratch::new("store-other-secrets");
    let disk = scratch.open().disk.expect("a disk");
    let block = epochs(&[("a", 1)]);
    disk.write([&block].into_iter()).expect("written");
    drop(disk);
    let other = open(&scratch.0, &[8; 16]).expect("nobody else has it");
    assert_eq!(read(other.disk.as_ref().expect("a disk")), []);
    assert!(other.warnings[0].contains("other secrets"));
    assert!(scratch.0.join("store.damaged-1").is_dir());
    drop(other);
    // What a process cannot open it does not take for its own later.
    assert!(scratch.open().warnings[0].contains("other secrets"));
}
