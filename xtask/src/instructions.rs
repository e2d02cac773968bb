//! `cargo xtask bench`: criterion, then instruction counts under callgrind, compared with those kept in the tree.
//! Instructions are the same on every run and every machine of one architecture; times are not.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::run;

/// How far a count may be from the one that is kept, in percent.
const TOLERANCE: f64 = 3.0;

const KEPT: &str = "benches/instructions.toml";

/// Criterion's benches, then the counts.
pub fn bench(arguments: &[String]) -> bool {
    let bless = arguments.iter().any(|argument| argument == "--bless");
    let only_counts = arguments
        .iter()
        .any(|argument| argument == "--instructions");
    let rest: Vec<String> = arguments
        .iter()
        .filter(|argument| !["--bless", "--instructions"].contains(&argument.as_str()))
        .cloned()
        .collect();
    if !only_counts && !run::cargo(&["bench", "--package", "lampfield"], &rest) {
        return false;
    }
    if !run::in_path("valgrind") {
        eprintln!("xtask: instruction counts need valgrind: sudo apt-get install -y valgrind");
        return false;
    }
    match measure() {
        Ok(counts) => compare(&counts, bless),
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}

/// Instructions per run of each body.
fn measure() -> Result<BTreeMap<String, f64>, String> {
    let program = build()?;
    let program = program.to_str().expect("a path in UTF-8");
    let list = run::program(program, &["--list"])
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let list = String::from_utf8(list.stdout).map_err(|error| error.to_string())?;
    let mut counts = BTreeMap::new();
    // A line is a number of runs and the name of a body. Twice as many runs, less as many: start-up cancels out.
    for line in list.lines() {
        let (runs, name) = line
            .split_once(' ')
            .ok_or_else(|| format!("not understood: {line}"))?;
        let runs: u64 = runs
            .parse()
            .map_err(|_| format!("not understood: {line}"))?;
        let once = callgrind(program, name, runs)?;
        let twice = callgrind(program, name, runs * 2)?;
        counts.insert(name.to_owned(), (twice - once) as f64 / runs as f64);
    }
    if counts.is_empty() {
        return Err("the instruction bench lists no bodies".to_owned());
    }
    Ok(counts)
}

/// Builds the bench without the kernel's half, and says where it lies.
fn build() -> Result<PathBuf, String> {
    let arguments = [
        "bench",
        "--package",
        "lampfield",
        "--no-default-features",
        "--bench",
        "instructions",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ];
    let output = run::cargo_command(&arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next())
        .find(|path| path.contains("instructions"))
        .map(PathBuf::from)
        .ok_or_else(|| "cargo built no instruction bench".to_owned())
}

/// The instructions of one whole process that runs a body so many times.
fn callgrind(program: &str, name: &str, runs: u64) -> Result<u64, String> {
    let runs = runs.to_string();
    let arguments = [
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        program,
        name,
        &runs,
    ];
    let output = run::program("valgrind", &arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| format!("callgrind counted nothing for `{name}`:\n{text}"))
}

fn compare(counts: &BTreeMap<String, f64>, bless: bool) -> bool {
    let path = run::root().join(KEPT);
    let kept = parse(&fs::read_to_string(&path).unwrap_or_default());
    let mut passed = true;
    println!(
        "{:<44} {:>10} {:>10} {:>8}",
        "instructions per run", "kept", "now", "change"
    );
    for (name, now) in counts {
        let Some(before) = kept.get(name) else {
            println!("{name:<44} {:>10} {now:>10.1}      new", "-");
            passed &= bless;
            continue;
        };
        let change = (now - before) / before * 100.0;
        let outside = change.abs() > TOLERANCE;
        let mark = if outside {
            "  <-- outside of the tolerance"
        } else {
            ""
        };
        println!("{name:<44} {before:>10.1} {now:>10.1} {change:>+7.1}%{mark}");
        passed &= !outside || bless;
    }
    for name in kept.keys().filter(|name| !counts.contains_key(*name)) {
        println!("{name:<44} is kept and no longer measured");
        passed &= bless;
    }
    if bless {
        let written = fs::write(&path, write(counts));
        println!("{KEPT} holds these counts now");
        return written.is_ok();
    }
    if !passed {
        eprintln!(
            "xtask: counts have changed; if that is meant, `cargo xtask bench --instructions --bless`"
        );
    }
    passed
}

fn write(counts: &BTreeMap<String, f64>) -> String {
    let mut text = "# Instructions per run, from callgrind on x86-64: `cargo xtask bench` compares, `--bless` rewrites.\n".to_owned();
    for (name, count) in counts {
        text.push_str(&format!("\"{name}\" = {count:.1}\n"));
    }
    text
}

fn parse(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .filter_map(|(name, count)| Some((name.trim_matches('"').to_owned(), count.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let counts = BTreeMap::from([("wheel: a, b".to_owned(), 61.5), ("rng".to_owned(), 40.0)]);
        assert_eq!(parse(&write(&counts)), counts);
    }
}
