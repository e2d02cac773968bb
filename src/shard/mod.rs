//! One shard: everything of its phones and resources, behind one function.

pub mod effects;
pub mod input;
pub mod mail;
