//! Subscriptions and the event packages that they speak.

pub mod package;
