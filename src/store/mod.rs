//! What is kept over restarts. [`format`] says how a record looks, [`records`] carries records from shards to
//! the disk and back, [`rewrite`] makes a store whole that fell behind. They are pure; what touches the disk is `io`.

pub mod format;
#[cfg(feature = "server")]
pub mod io;
pub mod records;
pub mod rewrite;

/// Who is told after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartNotify {
    /// Everybody.
    #[default]
    All,
    /// After a planned stop only those to whom another state is to be told than the one that they had taken; after a
    /// crash everybody, since what the process told last died with it.
    Changed,
}

/// When a record counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Never: nothing is written at all.
    None,
    /// When the operating system has it: it outlives the process.
    #[default]
    Process,
    /// When the disk has it: it outlives a power loss.
    Disk,
}
