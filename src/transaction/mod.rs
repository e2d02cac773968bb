//! Non-INVITE transactions (RFC 3261 17.1.2, 17.2.2). This layer has never heard of subscriptions:
//! a client transaction carries a number for whoever began it, a server transaction an answer.

pub mod client;
pub mod server;
