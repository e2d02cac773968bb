//! `cargo xtask test` and `check`: the steps, in the order in which they fail fastest.

use std::fs;

use crate::npm;
use crate::packages;
use crate::run::{Steps, root};

/// Seeds of the simulator in every test run.
const SEEDS: &str = "200";

/// Test programs that must exist; others are run after them.
const TESTS: &[&str] = &[
    "tidy",
    "scenarios",
    "kernel",
    "process",
    "swap",
    "sipp",
    "interop",
];

/// The build in which aws-lc-rs computes for TLS, and ring is no part.
const OTHER_TLS: [&str; 3] = ["--no-default-features", "--features", "tls-aws-lc"];

/// Everything. A step that fails does not hide the outcome of the next one; only a tree that does not build ends it.
pub fn everything() -> bool {
    let mut steps = Steps::new();
    steps.step("system packages", packages::install);
    steps.step("packages from npm", npm::fetch);
    lint(&mut steps);
    if !steps.cargo("build of all tests", &["test", "--workspace", "--no-run"]) {
        return steps.summary();
    }
    steps.cargo("unit tests", &["test", "--workspace", "--lib", "--bins"]);
    steps.cargo(
        "examples in the documentation",
        &["test", "--workspace", "--doc"],
    );
    let mut tests: Vec<String> = TESTS.iter().map(|name| (*name).to_owned()).collect();
    tests.extend(other_tests());
    for name in tests {
        let mut arguments = vec!["test", "--workspace", "--test", &name];
        if name == "tidy" {
            // It lists what has grown long.
            arguments.extend(["--", "--show-output"]);
        }
        steps.cargo(&format!("tests/{name}"), &arguments);
    }
    let mut other = vec!["test", "--package", "lampfield"];
    other.extend(OTHER_TLS);
    other.extend(["--test", "process", "tls::"]);
    steps.cargo("TLS with aws-lc-rs", &other);
    steps.cargo(
        "simulator",
        &["run", "--package", "lampfield-sim", "--", "--seeds", SEEDS],
    );
    steps.summary()
}

/// What takes less than two minutes on a warm tree.
pub fn quick() -> bool {
    let mut steps = Steps::new();
    lint(&mut steps);
    steps.cargo("tidy", &["test", "--test", "tidy"]);
    steps.cargo("unit tests", &["test", "--lib"]);
    steps.summary()
}

fn lint(steps: &mut Steps) {
    steps.cargo("format", &["fmt", "--all", "--check"]);
    steps.cargo(
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    );
    let pure = [
        "clippy",
        "--package",
        "lampfield",
        "--lib",
        "--no-default-features",
        "--",
        "-D",
        "warnings",
    ];
    steps.cargo("clippy of the pure build", &pure);
    let mut other = vec!["clippy", "--package", "lampfield", "--lib", "--bins"];
    other.extend(OTHER_TLS);
    other.extend(["--", "-D", "warnings"]);
    steps.cargo("clippy of the build with aws-lc-rs", &other);
}

/// Test programs of all packages that `TESTS` does not name.
fn other_tests() -> Vec<String> {
    let folders = [
        "tests",
        "tests/sim/tests",
        "tests/fuzz/tests",
        "loadtest/tests",
        "xtask/tests",
    ];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(root().join(folder)).ok())
        .flat_map(Iterator::flatten);
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            if entry.path().join("main.rs").is_file() {
                return Some(name);
            }
            name.strip_suffix(".rs").map(str::to_owned)
        })
        .filter(|name| !TESTS.contains(&name.as_str()))
        .collect();
    names.sort();
    names.dedup();
    names
}
