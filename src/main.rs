//! The command line of Lampfield.
fn main() {}
