//! `cargo xtask load NAME`: builds server and load tool as they are shipped, and lets the tool run the load.

use crate::run;

/// Everything after `load` goes to the load tool, which starts the server that lies beside it.
pub fn load(arguments: &[String]) -> bool {
    let build = [
        "build",
        "--release",
        "--package",
        "lampfield",
        "--package",
        "lampfield-load",
    ];
    if !run::cargo(&build, &[]) {
        return false;
    }
    let tool = run::root().join("target/release/lampfield-load");
    let status = run::program(tool.to_str().expect("a path in UTF-8"), &[])
        .args(arguments)
        .status();
    match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: {} can't be started: {error}", tool.display());
            false
        }
    }
}
