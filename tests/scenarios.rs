//! Runs every conversation in tests/scenarios/ against real shards with a simulated clock, and
//! keeps docs/conformance.md honest: what it calls working has a scenario that shows it.
//!
//! `SCENARIO=digest cargo test --test scenarios` runs only the files and cases whose names
//! contain the word. docs/simulation.md describes the language.

#[cfg(feature = "server")]
#[path = "support/certificate.rs"]
mod certificate;
#[cfg(feature = "server")]
#[path = "scenarios/tls.rs"]
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lampfield::transport::Transport;
use lampfield_sim::script::connections::Way;
use lampfield_sim::script::language::Case;
use lampfield_sim::script::reader::parse;
use lampfield_sim::script::run;

/// One shard keeps the traces short; with three, most datagrams land where nobody owns them.
const SHARD_COUNTS: [u16; 2] = [1, 3];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every scenario file and its cases, in the order of their names, for phones that come by that transport.
fn cases(transport: Transport) -> Vec<(String, Vec<Case>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("tests/scenarios"))
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sip"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| (name_of(path), read(path, transport)))
        .collect()
}

fn name_of(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("below the root");
    path.display().to_string()
}

fn read(path: &Path, transport: Transport) -> Vec<Case> {
    let mut text = fs::read_to_string(path).expect("readable");
    let via = String::from_utf8_lossy(transport.via());
    text = text.replace("SIP/2.0/UDP", &format!("SIP/2.0/{via}"));
    let title = path.file_stem().expect("a name").to_string_lossy();
    match parse(&text, &title) {
        Ok(script) => script.cases,
        Err((line, error)) => panic!("{}:{line}: {error}", name_of(path)),
    }
}

/// A panic of the shard is a failure of the scenario, with the last line that ran unknown.
fn outcome(case: &Case, shards: u16, way: &Way) -> Result<(), (usize, String)> {
    catch_unwind(AssertUnwindSafe(|| run(case, shards, way)))
        .unwrap_or_else(|_| Err((case.line, "a panic, see above".to_string())))
}

#[test]
fn every_scenario_goes_as_it_is_written() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let way = by(Transport::Udp);
    let mut failures = Vec::new();
    let mut count = 0;
    for (file, cases) in cases(Transport::Udp) {
        for case in cases {
            if !file.contains(&wanted) && !case.title.contains(&wanted) {
                continue;
            }
            count += 1;
            for shards in SHARD_COUNTS {
                match (outcome(&case, shards, &way), &case.later) {
                    (Ok(()), None) | (Err(_), Some(_)) => {}
                    (Err((line, error)), None) => {
                        failures.push(format!(
                            "{file}:{line}: {} ({shards} shards): {error}",
                            case.title
                        ));
                        break;
                    }
                    (Ok(()), Some(reason)) => failures.push(format!(
                        "{file}:{}: {} ({shards} shards) works now: take `#! {reason}` away",
                        case.line, case.title
                    )),
                }
            }
        }
    }
    for failure in &failures {
        println!("{failure}\n");
    }
    println!("{count} cases, {} failures", failures.len());
    assert!(count > 0, "no scenario is called {wanted}");
    assert!(
        failures.is_empty(),
        "{} of {count} cases failed",
        failures.len()
    );
}

/// A way for phones that come by connections; `SCENARIO_SEED` is where else their bytes are cut.
fn by(transport: Transport) -> Way {
    let seed = std::env::var("SCENARIO_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    Way {
        transport,
        seed,
        covers: None,
    }
}

/// What does not speak of datagrams goes the same by connections, cut anywhere.
fn every_scenario_goes_by(way: &Way, shard_counts: &[u16]) {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let transport = way.transport.name();
    let mut failures = Vec::new();
    let mut count = 0;
    for (file, cases) in cases(way.transport) {
        let here = |case: &Case| file.contains(&wanted) || case.title.contains(&wanted);
        let fits = |case: &&Case| here(case) && case.later.is_none() && !case.is_of_datagrams();
        for case in cases.iter().filter(fits) {
            count += 1;
            let mut outcomes = shard_counts
                .iter()
                .map(|&shards| (shards, outcome(case, shards, way)));
            let failed = outcomes.find(|(_, outcome)| outcome.is_err());
            let only = case.only.as_ref();
            let excluded = only.filter(|(only, _)| only.excludes(way.transport));
            match (failed, excluded) {
                (Some((shards, Err((line, error)))), None) => failures.push(format!(
                    "{file}:{line}: {} ({shards} shards, by {transport}): {error}",
                    case.title
                )),
                (None, Some((_, reason))) => failures.push(format!(
                    "{file}:{}: {} works by {transport} too, and not only where {reason}",
                    case.line, case.title
                )),
                _ => {}
            }
        }
    }
    for failure in &failures {
        println!("{failure}\n");
    }
    println!("{count} cases, {} failures", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {count} cases failed",
        failures.len()
    );
    assert!(
        !wanted.is_empty() || count > 150,
        "most are about no transport"
    );
}

#[test]
fn every_scenario_that_is_not_about_datagrams_goes_by_connections_too() {
    every_scenario_goes_by(&by(Transport::Tcp), &SHARD_COUNTS);
}

/// Each message in frames of its own, masked, split, with pings between them.
#[test]
fn every_scenario_that_is_not_about_datagrams_goes_by_websocket_too() {
    every_scenario_goes_by(&by(Transport::Ws), &SHARD_COUNTS);
}

#[cfg(feature = "server")]
#[test]
fn every_scenario_that_is_not_about_datagrams_goes_by_tls_too() {
    let covers = Some(tls::covers());
    let way = by(Transport::Tls);
    every_scenario_goes_by(&Way { covers, ..way }, &SHARD_COUNTS[1..]);
}

#[cfg(feature = "server")]
#[test]
fn every_scenario_that_is_not_about_datagrams_goes_by_websocket_over_tls_too() {
    let covers = Some(tls::covers());
    let way = by(Transport::Wss);
    every_scenario_goes_by(&Way { covers, ..way }, &SHARD_COUNTS[1..]);
}

/// The rows of docs/conformance.md: number, status, and where it is shown.
fn conformance() -> BTreeMap<u32, (String, String)> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).expect("readable");
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, _, status, place, _] = cells[..] else {
            continue;
        };
        if let Ok(number) = number.parse() {
            let row = (status.to_string(), place.to_string());
            assert!(
                rows.insert(number, row).is_none(),
                "rule {number} stands twice"
            );
        }
    }
    rows
}

#[test]
fn every_rule_that_is_called_working_is_shown_to_work() {
    let mut shown: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    let mut waiting: BTreeSet<u32> = BTreeSet::new();
    for (file, cases) in cases(Transport::Udp) {
        for case in cases {
            for &rule in &case.rules {
                match case.later {
                    Some(_) => _ = waiting.insert(rule),
                    None => _ = shown.entry(rule).or_default().insert(file.clone()),
                }
            }
        }
    }
    let rules = conformance();
    assert!(
        rules.len() > 100,
        "the table of docs/conformance.md was not found"
    );
    let mut complaints = Vec::new();
    for (number, (status, place)) in &rules {
        for path in place.split('`').skip(1).step_by(2) {
            if !root().join(path).exists() {
                complaints.push(format!("{number} names {path}, which is not there"));
            }
        }
        match status.as_str() {
            "works" => {
                let files = shown.get(number).cloned().unwrap_or_default();
                let elsewhere = place
                    .split_whitespace()
                    .map(|word| word.trim_matches('`'))
                    .any(|word| word.starts_with("tests/") && root().join(word).is_file());
                if files.is_empty() && !elsewhere {
                    complaints.push(format!("{number} works, but nothing shows it"));
                }
                if waiting.contains(number) {
                    complaints.push(format!("{number} works, but a case of it waits (`#!`)"));
                }
            }
            "partly" | "later" | "no" => {}
            other => complaints.push(format!("{number}: no status {other:?}")),
        }
    }
    for number in shown.keys().chain(&waiting) {
        if !rules.contains_key(number) {
            complaints.push(format!("docs/conformance.md has no rule {number}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
