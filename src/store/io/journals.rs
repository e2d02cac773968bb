//! The journals of a store whose disk failed, written anew before it is opened again. After a sync that failed the kernel
//! takes the pages for written: they are read back as they were, no later sync writes them, and no later sync fails. A
//! journal that went on behind them would end there after a power loss, with all that had come since.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::DiskError;

/// What whoever has a store open holds locked in it.
const LOCK: &str = "lock";
/// How the names of its journals end.
const JOURNAL: &str = "jnl";
/// A copy until it takes the place of a journal.
const COPY: &str = "journal-copy";
/// So much is copied at once.
const CHUNK: usize = 1 << 20;

/// Writes them anew, as they are read back. Nobody has the store open.
pub fn write_anew(directory: &Path) -> Result<(), DiskError> {
    let lock = match File::options().write(true).open(directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        lock => lock?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(DiskError::Locked),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == JOURNAL) {
            let copy = directory.join(COPY);
            copy_out(&path, &copy)?;
            fs::rename(&copy, &path)?;
        }
    }
    Ok(File::open(directory)?.sync_all()?)
}

/// All of it passes through here: a copy that the kernel makes may share what is on the disk, and with it what is not.
fn copy_out(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let length = from.read_at(&mut chunk, at)?;
        if length == 0 {
            break;
        }
        let bytes = &chunk[..length];
        // A journal has its room before it has its records.
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_all_at(bytes, at)?;
        }
        at += length as u64;
    }
    to.set_len(at)?;
    to.sync_all()
}
