//! What is kept over restarts. [`format`] says how a record looks, [`records`] carries records from shards to
//! the disk and back. Both are pure; what touches the disk is `io`.

pub mod format;
pub mod records;
