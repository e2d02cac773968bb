//! Subscriptions: one dialog, one subscription each (RFC 6665 4.5.2). The record, its states, and what
//! each answer to a NOTIFY does to it. It knows no hints and no transactions: it holds their numbers.

pub mod connections;
pub mod outcome;
pub mod package;
pub mod phones;

pub mod read;
pub mod record;
pub mod tempo;
pub mod text;
pub mod turns;
