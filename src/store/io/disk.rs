//! One directory on the disk: an embedded store of keys and values (fjall), and how its own faults are told apart.

use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::journals;
use crate::store::format::{Key, Record};
use crate::store::records::Records;

/// Memory for what was read lately, and for what is not yet in its place on the disk: 32 MiB together.
const CACHE_BYTES: u64 = 8 << 20;
const WRITE_BUFFER_BYTES: u64 = 8 << 20;
/// What is written before it is in its place. The least that is possible.
const JOURNAL_BYTES: u64 = 64 << 20;
/// So much further counts a process that follows one whose store fell behind: whatever CSeq that one used without
/// a reservation lies below.
const LEAP: u32 = 1 << 14;
/// Where the store says whose it is.
const OWNER: [u8; 2] = [Key::OWN, b'o'];
/// What stands in the file `in_step` after an end in order.
const ENDED: &[u8] = b"ended\n";
/// Who has said so lately that it writes has sent no more since than the numbers that are passed over after a crash.
const TRUSTED_FOR: Duration = Duration::from_secs(20);
/// Files do not say to the second when they were changed.
const SAID_EARLY: Duration = Duration::from_secs(2);

/// A number of the secrets under which a store is written. Under others its tags, names and partitions mean something else.
pub type Owner = [u8; 16];

/// Why there is no disk.
#[derive(Debug)]
pub enum DiskError {
    Locked,
    /// What is there cannot be read, whatever is tried.
    Damaged(String),
    /// It takes no more now; what it has taken is on it, or will be.
    NoRoom(String),
    /// It cannot be read or written now, and what was written last may not be on it, although it is read back.
    Failed(String),
}

impl From<fjall::Error> for DiskError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => DiskError::Locked,
            fjall::Error::Io(error) if is_damage(&error) => DiskError::Damaged(error.to_string()),
            fjall::Error::Io(error) => error.into(),
            fjall::Error::Storage(fjall::LsmError::Io(error)) if !is_damage(&error) => error.into(),
            // One of its own threads has met an error.
            fjall::Error::Poisoned => DiskError::Failed("an earlier write failed".to_owned()),
            error => DiskError::Damaged(error.to_string()),
        }
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        let has_no_room = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        match has_no_room {
            true => DiskError::NoRoom(error.to_string()),
            false => DiskError::Failed(error.to_string()),
        }
    }
}

impl DiskError {
    /// Whether what the disk has taken before may not be on it.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            DiskError::Failed(_) | DiskError::Damaged(_) => true,
            DiskError::NoRoom(_) | DiskError::Locked => false,
        }
    }
}

/// Files that are missing or end too early are no fault of the device.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound
    )
}

/// An open store.
#[derive(Clone)]
pub struct Disk {
    database: Database,
    records: Keyspace,
    aside: Keyspace,
    in_step: PathBuf,
    incarnation: u32,
    was_behind: bool,
    set_back: Duration,
}

impl Disk {
    /// Opens or begins the store in `directory`. `in_step`: the file that says that nothing is missing in it, and since when.
    pub fn open(directory: &Path, in_step: &Path, owner: &Owner) -> Result<Disk, DiskError> {
        let is_new = !directory.try_exists()?;
        let left = Left::read(in_step)?;
        let set_back = set_back(in_step);
        if !is_new && left != Left::InStep {
            journals::write_anew(directory)?;
        }
        let mut disk = Disk::open_database(directory, in_step, owner)?;
        disk.set_back = set_back;
        disk.was_behind = !is_new && left == Left::Behind;
        disk.begin_incarnation(left)?;
        disk.catch_up()?;
        Ok(disk)
    }

    /// Opens it once more in the same process, which could not write to it for a while. It is not in step until
    /// `catch_up`. What another process wrote since is as good as damaged: it belongs to nobody. `doubt`: what was written
    /// before may not be on the disk, and must be before anything else is.
    pub fn open_again(
        directory: &Path,
        in_step: &Path,
        owner: &Owner,
        incarnation: u32,
        doubt: bool,
    ) -> Result<Disk, DiskError> {
        if doubt {
            journals::write_anew(directory)?;
        }
        let mut disk = Disk::open_database(directory, in_step, owner)?;
        disk.fall_behind()?;
        if disk.counted()?.is_some_and(|number| number != incarnation) {
            let what = "another process has written to it".to_owned();
            return Err(DiskError::Damaged(what));
        }
        disk.incarnation = incarnation;
        disk.count()?;
        Ok(disk)
    }

    fn open_database(directory: &Path, in_step: &Path, owner: &Owner) -> Result<Disk, DiskError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER_BYTES);
        let records = database.keyspace("records", options)?;
        let aside = database.keyspace("aside", options)?;
        match records.get(OWNER)? {
            Some(found) if *found != *owner => return Err(DiskError::Damaged(FOREIGN.to_owned())),
            Some(_) => {}
            // It is new, or of a version that did not say.
            None => records.insert(OWNER, owner)?,
        }
        Ok(Disk {
            database,
            records,
            aside,
            in_step: in_step.to_owned(),
            incarnation: 1,
            was_behind: false,
            set_back: Duration::ZERO,
        })
    }

    /// The number of this process among those that opened the store.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Whether the process before this one could not write everything.
    pub fn was_behind(&self) -> bool {
        self.was_behind
    }

    /// How far the clock is behind the one of the process before: at least so much too late is every time in its records.
    pub fn set_back(&self) -> Duration {
        self.set_back
    }

    /// Every record of a shard, in the order of the keys. After an error nothing more comes.
    pub fn read(&self) -> impl Iterator<Item = Result<(fjall::Slice, fjall::Slice), DiskError>> {
        self.records
            .iter()
            .map(|item| item.into_inner().map_err(DiskError::from))
            .filter(|item| item.as_ref().map_or(true, |(key, _)| !is_own(key)))
    }

    /// Some keys of shards from this one on.
    pub fn keys(&self, from: &[u8], most: usize) -> Result<Vec<fjall::Slice>, DiskError> {
        let items = self.records.range(from..);
        let keys = items.map(|item| item.key().map_err(DiskError::from));
        keys.filter(|key| key.as_ref().map_or(true, |key| !is_own(key)))
            .take(most)
            .collect()
    }

    /// Removes records, all of them or none.
    pub fn remove(&self, keys: &[fjall::Slice]) -> Result<(), DiskError> {
        let mut batch = self.database.batch();
        for key in keys {
            batch.remove(&self.records, key.clone());
        }
        Ok(batch.commit()?)
    }

    /// Takes a record that nobody believes out of the way. It is kept for who wants to look at it.
    pub fn set_aside(&self, key: &[u8]) -> Result<(), DiskError> {
        let mut batch = self.database.batch();
        if let Some(value) = self.records.get(key)? {
            batch.insert(&self.aside, key, value);
        }
        batch.remove(&self.records, key);
        Ok(batch.commit()?)
    }

    /// Writes records, all of them or none. Once this returns the operating system has them.
    pub fn write<'a>(&self, blocks: impl Iterator<Item = &'a Records>) -> Result<(), DiskError> {
        let mut batch = self.database.batch();
        for (key, value) in blocks.flat_map(Records::iter) {
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => batch.remove(&self.records, key),
            }
        }
        Ok(batch.commit()?)
    }

    /// Once this returns, what was written is on the disk.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.persist(PersistMode::SyncData)
    }

    /// Something could not be written: whoever opens this store next has to know.
    pub fn fall_behind(&self) -> io::Result<()> {
        match fs::remove_file(&self.in_step) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// It has everything again.
    pub fn catch_up(&self) -> Result<(), DiskError> {
        self.mark(b"")
    }

    /// The process still writes to it. Said again and again, as one that cannot write any more may not be able to say even
    /// that: a kernel that meets an error makes the whole file system read-only.
    pub fn stay_in_step(&self) -> Result<(), DiskError> {
        let file = File::options().write(true).open(&self.in_step);
        Ok(file.and_then(|file| file.set_modified(SystemTime::now()))?)
    }

    /// The process ends, and everything that it has given out has been written.
    pub fn end_in_step(&self) -> Result<(), DiskError> {
        self.mark(ENDED)
    }

    /// Writes the file that says that nothing is missing, with what else it says.
    fn mark(&self, said: &[u8]) -> Result<(), DiskError> {
        let write = |mut file: File| file.write_all(said).and_then(|()| file.sync_all());
        Ok(File::create(&self.in_step).and_then(write)?)
    }

    /// Counts this process, on the disk before anything else is done.
    fn begin_incarnation(&mut self, left: Left) -> Result<(), DiskError> {
        let before = match self.counted()? {
            Some(number) => number,
            // The process that began it ended before it had counted itself.
            None if left == Left::Behind && self.read().next().is_none() => 0,
            None => return Err(nameless()),
        };
        self.incarnation = before
            + match left {
                Left::InStep => 1,
                Left::Behind if !self.was_behind => 1,
                Left::Behind | Left::Unknown => LEAP,
            };
        self.count()
    }

    /// The number of the last process that counted itself.
    fn counted(&self) -> Result<Option<u32>, DiskError> {
        let Some(value) = self.records.get(name(&Key::Incarnation))? else {
            return Ok(None);
        };
        match Record::read(&Key::Incarnation, &value) {
            Ok(Record::Incarnation(number)) => Ok(Some(number)),
            _ => Err(nameless()),
        }
    }

    fn count(&self) -> Result<(), DiskError> {
        let mut records = Records::default();
        let record = Record::Incarnation(self.incarnation);
        records.put(&Key::Incarnation, &record);
        self.write(core::iter::once(&records))?;
        self.persist(PersistMode::SyncAll)
    }

    /// Whatever it fails with: what was written is not on the disk, and no later call says so again.
    fn persist(&self, mode: PersistMode) -> Result<(), DiskError> {
        let persisted = self.database.persist(mode);
        persisted.map_err(|error| DiskError::Failed(error.to_string()))
    }
}

/// What the file `in_step` says of the process before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// All that it gave out was written, up to its end or shortly before.
    InStep,
    /// Something was not written.
    Behind,
    /// It has not said for a while that it writes, and not that it ended: it may have gone on without its disk.
    Unknown,
}

impl Left {
    fn read(in_step: &Path) -> io::Result<Left> {
        let said = match fs::read(in_step) {
            Ok(said) => said,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Behind),
            Err(error) => return Err(error),
        };
        if said == ENDED {
            return Ok(Left::InStep);
        }
        let last = fs::metadata(in_step)?.modified()?;
        // A clock that was set back tells nothing.
        let age = SystemTime::now().duration_since(last);
        Ok(match age {
            Ok(age) if age <= TRUSTED_FOR => Left::InStep,
            Ok(_) | Err(_) => Left::Unknown,
        })
    }
}

/// A machine that does not keep the time while it is off begins with an earlier one, until it has asked somebody.
fn set_back(in_step: &Path) -> Duration {
    let last = fs::metadata(in_step).and_then(|file| file.modified());
    let ahead = last.map(|last| last.duration_since(SystemTime::now()));
    match ahead {
        Ok(Ok(ahead)) if ahead >= SAID_EARLY => ahead,
        Ok(_) | Err(_) => Duration::ZERO,
    }
}

/// Why a store is taken for a damaged one that can be read.
const FOREIGN: &str = "it was written under other secrets";

fn is_own(key: &[u8]) -> bool {
    key.first() == Some(&Key::OWN)
}

fn nameless() -> DiskError {
    DiskError::Damaged("it does not say who wrote it".to_owned())
}

fn name(key: &Key<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    key.write(&mut name);
    name
}
