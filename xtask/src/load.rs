//! `cargo xtask load NAME`: builds server and load tool as they are shipped, and lets the tool run the load.

use crate::run;

/// Asks for the build in which aws-lc-rs computes for TLS; the first word, else it is the load's.
const OTHER_TLS: &str = "--tls-aws-lc";

/// Everything after `load` goes to the load tool, which starts the server that lies beside it.
pub fn load(arguments: &[String]) -> bool {
    let mut build = vec![
        "build",
        "--release",
        "--package",
        "lampfield",
        "--package",
        "lampfield-load",
    ];
    let mut arguments = arguments;
    if let Some((OTHER_TLS, rest)) = first(arguments) {
        arguments = rest;
        build.extend([
            "--no-default-features",
            "--features",
            "lampfield/tls-aws-lc",
        ]);
    }
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

fn first(arguments: &[String]) -> Option<(&str, &[String])> {
    let (word, rest) = arguments.split_first()?;
    Some((word, rest))
}
