//! The load tool as a program; what it does stands in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    lampfield_load::main()
}
