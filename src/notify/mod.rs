//! Who must hear of a change, and what they are told. It sees hints and the watchers' numbers;
//! it has never heard of dialogs, transactions or sockets.

pub mod copies;
pub mod tails;
pub mod window;
