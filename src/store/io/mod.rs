//! The store on the disk, beneath the data directory: one file system directory that nothing has to set up. It is
//! opened and read at the start, and written by one thread ([`writer`]); what records mean is not known here.
//!
//! A disk that fails is never the end of serving: the store says so, loudly, and goes on in memory ([`recovery`] is
//! how it comes back).

mod disk;
mod journals;
mod recovery;
mod writer;

use core::fmt;
use core::time::Duration;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use disk::{Disk, DiskError, Owner};
pub use recovery::Home;
pub use writer::{Post, Writer};

/// The store's directory within the data directory.
const DIRECTORY: &str = "store";
/// A file beside it that is there as long as the store has everything that was given out to be kept.
const IN_STEP: &str = "store.in-step";

/// Why the server cannot start with this store.
#[derive(Debug)]
pub enum OpenError {
    /// Another process writes to it.
    Locked(PathBuf),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked(path) => write!(
                f,
                "{} is in use by another process; give each its own data directory",
                path.display()
            ),
        }
    }
}

/// A store that was opened as well as it could be.
pub struct Opened {
    /// None: the disk does not do it, and nothing is kept.
    pub disk: Option<Disk>,
    /// The number of this process among those that wrote into the store.
    pub incarnation: u32,
    /// How far the clock was set back since it was last written.
    pub set_back: Duration,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Opens the store of a data directory, or begins one. A damaged one, and one of other secrets, is set aside whole, under a
/// name that says so.
pub fn open(data_dir: &Path, owner: &Owner) -> Result<Opened, OpenError> {
    let directory = data_dir.join(DIRECTORY);
    let mut warnings = Vec::new();
    for attempt in 0..2 {
        match Disk::open(&directory, &data_dir.join(IN_STEP), owner) {
            Ok(disk) => {
                if disk.was_behind() {
                    let what =
                        "the disk failed an earlier process: what it could not write is lost";
                    warnings.push(what.to_owned());
                }
                if !disk.set_back().is_zero() {
                    warnings.push(format!(
                        "the clock is {} seconds behind the one by which the store was last written: nothing in it lasts longer for that",
                        disk.set_back().as_secs()
                    ));
                }
                return Ok(Opened {
                    incarnation: disk.incarnation(),
                    set_back: disk.set_back(),
                    disk: Some(disk),
                    warnings,
                });
            }
            Err(DiskError::Locked) => return Err(OpenError::Locked(directory)),
            Err(DiskError::Damaged(error)) if attempt == 0 => match set_aside(data_dir, "damaged") {
                Ok(to) => warnings.push(format!(
                    "the store is damaged ({error}); it was set aside as {}, and a new one begins",
                    to.display()
                )),
                Err(moving) => {
                    let what = format!(
                        "the store is damaged ({error}), and cannot be set aside: {moving}"
                    );
                    warnings.push(what);
                    break;
                }
            },
            Err(
                DiskError::Damaged(error) | DiskError::NoRoom(error) | DiskError::Failed(error),
            ) => {
                warnings.push(format!("{}: {error}", directory.display()));
                break;
            }
        }
    }
    Ok(Opened {
        disk: None,
        incarnation: 1,
        set_back: Duration::ZERO,
        warnings,
    })
}

/// What lies in the data directory when a disk is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Former {
    /// Nothing that this process has ever read.
    Unread,
    /// What it has written.
    Sound,
    /// The same, but what was written last may not be on the disk, although it is read back.
    Doubtful,
}

/// Opens it once more in the process that has this number, after the disk had failed it. What lies there and was never
/// read is nothing that this process knows, and is set aside.
fn open_again(home: &Home, former: Former) -> Result<Disk, DiskError> {
    (home.make_ready)()?;
    let Home {
        data_dir, owner, ..
    } = home;
    let directory = data_dir.join(DIRECTORY);
    let in_step = data_dir.join(IN_STEP);
    let open = || {
        Disk::open_again(
            &directory,
            &in_step,
            owner,
            home.incarnation,
            former == Former::Doubtful,
        )
    };
    let opened = if former != Former::Unread || !directory.try_exists()? {
        open()
    } else {
        // Whatever keeps it from being opened keeps it where it is.
        Disk::open(&directory, &in_step, owner).and_then(|_| {
            Err(DiskError::Damaged(
                "it could not be read when lampfield started".to_owned(),
            ))
        })
    };
    match opened {
        Err(DiskError::Damaged(what)) => {
            let to = set_aside(data_dir, "damaged")?;
            tracing::warn!("store: {what}; it was set aside as {}", to.display());
            open()
        }
        opened => opened,
    }
}

/// Takes the store of an earlier process out of the way of one that will keep nothing: when it is read again, what stands in
/// it will long be wrong. Where it is now; None: there was none.
pub fn leave(data_dir: &Path, owner: &Owner) -> Result<Option<io::Result<PathBuf>>, OpenError> {
    let directory = data_dir.join(DIRECTORY);
    if !directory.is_dir() {
        return Ok(None);
    }
    // Whoever writes to it needs it where it is.
    if let Err(DiskError::Locked) = Disk::open(&directory, &data_dir.join(IN_STEP), owner) {
        return Err(OpenError::Locked(directory));
    }
    Ok(Some(set_aside(data_dir, "unused")))
}

/// Gives the directory another name. The first free one: what was set aside before stays.
fn set_aside(data_dir: &Path, why: &str) -> io::Result<PathBuf> {
    match fs::remove_file(data_dir.join(IN_STEP)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = data_dir.join(DIRECTORY);
    let free = (1..).map(|number| directory.with_extension(format!("{why}-{number}")));
    for path in free {
        if !path.try_exists()? {
            fs::rename(&directory, &path)?;
            return Ok(path);
        }
    }
    unreachable!("numbers do not end")
}

#[cfg(test)]
mod tests;
