//! Hostile input: fuzz bodies, a generator of mutated messages, and the seeds that both start from.
//!
//! A body is a plain function that takes any bytes and panics when an invariant is broken. `cargo test` replays
//! the kept corpora and a number of mutations through them; `coverage/` runs them under a coverage-guided fuzzer.

pub mod dialog;
pub mod document;
pub mod mutate;
pub mod record;
mod roundtrip;
pub mod seeds;
pub mod server;
mod stream;
mod values;
mod web;

pub use dialog::dialog;
pub use document::document;
pub use record::record;
pub use roundtrip::{answer, rewrite, scan};
pub use server::server;
pub use stream::stream;
pub use values::{uri, value};
pub use web::web;

/// What is done with one input; it panics if a law is broken.
pub type Body = fn(&[u8]);

/// The bodies by name: one directory of `corpus` and one coverage-guided target each.
pub const BODIES: [(&str, Body); 11] = [
    ("stream", stream),
    ("web", web),
    ("scan", scan),
    ("answer", answer),
    ("rewrite", rewrite),
    ("uri", uri),
    ("value", value),
    ("server", server),
    ("dialog", dialog),
    ("document", document),
    ("record", record),
];

/// Those that look at one message and keep nothing: fast enough for a hundred thousand.
pub const PARSERS: &[(&str, Body)] = BODIES.split_at(7).0;

/// Whether `part` lies inside `whole`: what a zero-copy parser returns always does.
pub fn is_inside(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.start >= whole.start && part.end <= whole.end
}
