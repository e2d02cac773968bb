//! `cargo xtask canaries`: does the simulator find what it is there to find? Each file in `tests/sim/canaries` is a bug,
//! written as lines to look for and lines to put there. It is planted into a copy of the tree, never into the tree
//! itself, and the simulator has to fail on it.
//!
//! ```text
//! # why this is a bug, for the reader
//! file src/notify/mod.rs
//! - a line to look for; it and the following ones stand exactly once in the file
//! + what to put in their place
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::run::{self, Steps};

const FOLDER: &str = "tests/sim/canaries";

/// Seeds that the simulator may use to find one.
const SEEDS: &str = "400";

struct Canary {
    name: String,
    file: String,
    wanted: String,
    planted: String,
}

/// Plants each canary whose name contains one of `names`, or all of them.
pub fn canaries(names: &[String]) -> bool {
    let canaries = match read(&run::root().join(FOLDER)) {
        Ok(canaries) => canaries,
        Err(error) => {
            eprintln!("xtask: {error}");
            return false;
        }
    };
    let copy = run::root().join("target/canaries/tree");
    let mut steps = Steps::new();
    for canary in &canaries {
        if names.is_empty() || names.iter().any(|name| canary.name.contains(name.as_str())) {
            steps.step(&canary.name, || match is_found(canary, &copy) {
                Ok(found) => found,
                Err(error) => {
                    eprintln!("xtask: {error}");
                    false
                }
            });
        }
    }
    steps.summary()
}

/// Whether the simulator fails with this bug in the copy.
fn is_found(canary: &Canary, copy: &Path) -> Result<bool, String> {
    println!("\n== {}", canary.name);
    refresh(&run::root(), copy).map_err(|error| format!("{}: {error}", copy.display()))?;
    let file = copy.join(&canary.file);
    let source = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", canary.file))?;
    if source.matches(&canary.wanted).count() != 1 {
        return Err(format!(
            "{}: its lines do not stand exactly once in {}",
            canary.name, canary.file
        ));
    }
    fs::write(&file, source.replace(&canary.wanted, &canary.planted))
        .map_err(|error| error.to_string())?;
    if !in_copy(
        copy,
        &["build", "--quiet", "--package", "lampfield-sim"],
        false,
    )? {
        return Err(format!("{}: does not compile any more", canary.name));
    }
    let passed = in_copy(
        copy,
        &[
            "run",
            "--quiet",
            "--package",
            "lampfield-sim",
            "--",
            "--seeds",
            SEEDS,
        ],
        true,
    )?;
    println!(
        "{}",
        if passed {
            "the simulator has not noticed"
        } else {
            "found"
        }
    );
    Ok(!passed)
}

fn in_copy(copy: &Path, arguments: &[&str], quiet: bool) -> Result<bool, String> {
    let mut command = run::cargo_command(arguments);
    command.current_dir(copy);
    command.env(
        "CARGO_TARGET_DIR",
        run::root().join("target/canaries/build"),
    );
    if quiet {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let status = command.status().map_err(|error| error.to_string())?;
    Ok(status.success())
}

/// Makes the copy equal to the tree. Only files that differ are written, so that cargo builds little again.
fn refresh(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let target = to.join(&name);
        if entry.file_type()?.is_dir() {
            refresh(&entry.path(), &target)?;
            continue;
        }
        let bytes = fs::read(entry.path())?;
        if fs::read(&target).ok().as_deref() != Some(&bytes) {
            fs::write(&target, bytes)?;
        }
    }
    // What the tree no longer has would still be built.
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<Canary>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut canaries = Vec::new();
    for path in paths {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        canaries.push(parse(&name, &text)?);
    }
    if canaries.is_empty() {
        return Err(format!("{}: no canaries", folder.display()));
    }
    Ok(canaries)
}

fn parse(name: &str, text: &str) -> Result<Canary, String> {
    let mut canary = Canary {
        name: name.to_owned(),
        file: String::new(),
        wanted: String::new(),
        planted: String::new(),
    };
    for line in text.lines() {
        if let Some(file) = line.strip_prefix("file ") {
            canary.file = file.to_owned();
        } else if let Some(wanted) = line.strip_prefix("- ") {
            canary.wanted.push_str(wanted);
            canary.wanted.push('\n');
        } else if let Some(planted) = line.strip_prefix("+ ") {
            canary.planted.push_str(planted);
            canary.planted.push('\n');
        } else if !line.starts_with('#') && !line.is_empty() {
            return Err(format!(
                "{name}: a line begins with `#`, `file `, `- ` or `+ `: {line}"
            ));
        }
    }
    if canary.file.is_empty() || canary.wanted.is_empty() {
        return Err(format!("{name}: names no file or no lines"));
    }
    Ok(canary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canary_still_finds_its_place_in_the_tree() {
        let canaries = read(&run::root().join(FOLDER)).unwrap_or_else(|error| panic!("{error}"));
        for canary in canaries {
            let source =
                fs::read_to_string(run::root().join(&canary.file)).expect("the file of a canary");
            let count = source.matches(&canary.wanted).count();
            assert_eq!(count, 1, "{}: its lines in {}", canary.name, canary.file);
            assert_ne!(canary.wanted, canary.planted, "{}", canary.name);
        }
    }

    #[test]
    fn a_canary_is_read_with_its_indentation() {
        let text = "# why\nfile src/a.rs\n-     one();\n-     two();\n+     one();\n";
        let canary = parse("x", text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(canary.file, "src/a.rs");
        assert_eq!(canary.wanted, "    one();\n    two();\n");
        assert_eq!(canary.planted, "    one();\n");
        assert!(parse("x", "file src/a.rs\n").is_err());
        assert!(parse("x", "file src/a.rs\n- a\nb\n").is_err());
    }
}
