//! One shard: everything of its phones and resources, behind one function.

pub mod control;
pub mod effects;
pub mod filter;
pub mod input;
pub mod mail;
