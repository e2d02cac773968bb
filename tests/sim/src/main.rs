//! The simulator: phones, publishers, feeds and a bad network around real shards, by seed.
//!
//! `lampfield-sim [--seeds N] [--seed X] [--first X] [--only datagrams|restarts|streams]`. It prints the seed first, and leaves with 1 and the
//! last events when something that must hold does not. docs/simulation.md tells what is checked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lampfield_sim::restart::Lives;
use lampfield_sim::streams::Streams;
use lampfield_sim::world::World;

/// How many seeds a run without arguments tries.
const SEEDS: u64 = 200;

struct Arguments {
    first: u64,
    seeds: u64,
    /// One part of what a seed plays.
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match read_arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!(
                "{error}\nusage: lampfield-sim [--seeds N] [--first SEED] [--seed SEED] [--only PART]"
            );
            return ExitCode::from(2);
        }
    };
    let last = arguments.first + arguments.seeds - 1;
    println!("seeds {} to {last}", arguments.first);
    let next = AtomicU64::new(arguments.first);
    let messages = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let printing = Mutex::new(());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        break;
                    }
                    match run(seed, arguments.only.as_deref()) {
                        Ok(count) => _ = messages.fetch_add(count, Ordering::Relaxed),
                        Err(error) => {
                            failed.store(true, Ordering::Relaxed);
                            let _alone = printing.lock();
                            println!("seed {seed} fails; again with: cargo xtask sim --seed {seed}\n{error}");
                        }
                    }
                }
            });
        }
    });
    if failed.load(Ordering::Relaxed) {
        return ExitCode::FAILURE;
    }
    println!(
        "{} seeds, {} messages: all held",
        arguments.seeds,
        messages.load(Ordering::Relaxed)
    );
    ExitCode::SUCCESS
}

/// Plays a seed, and says how many messages there were.
type Part = fn(u64) -> Result<u64, String>;

/// What one seed plays, one after the other.
const PARTS: [(&str, Part); 3] = [
    ("datagrams", datagrams),
    ("restarts", restarts),
    ("streams", streams),
];

fn run(seed: u64, only: Option<&str>) -> Result<u64, String> {
    let wanted = |(name, _): &&(&str, _)| only.is_none_or(|only| *name == only);
    PARTS
        .iter()
        .filter(wanted)
        .map(|(_, play)| play(seed))
        .sum()
}

/// Phones on UDP, in bad weather.
fn datagrams(seed: u64) -> Result<u64, String> {
    let mut world = World::new(seed)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| world.live()));
    let outcome = outcome.unwrap_or_else(|_| Err("a panic, see above".to_string()));
    match outcome {
        Ok(()) => Ok(world.datagrams),
        Err(error) => Err(format!("{error}\n\n{}", world.trace.show(&error))),
    }
}

/// The same seed with a server that is killed again and again.
fn restarts(seed: u64) -> Result<u64, String> {
    let mut lives = Lives::new(seed)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| lives.live()));
    let outcome = outcome.unwrap_or_else(|_| Err("a panic, see above".to_string()));
    let told = outcome.map_err(|error| format!("over restarts: {error}\n{}", lives.shown()));
    told.map(|()| lives.datagrams)
}

/// The same seed with phones that come by connections.
fn streams(seed: u64) -> Result<u64, String> {
    let mut streams = Streams::new(seed)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| streams.live()));
    let outcome = outcome.unwrap_or_else(|_| Err("a panic, see above".to_string()));
    let told = outcome.map_err(|error| format!("by connections: {error}\n{}", streams.shown()));
    told.map(|()| streams.messages)
}

fn read_arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        first: 1,
        seeds: SEEDS,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a number"))?;
        if word == "--only" {
            let known = PARTS.iter().any(|(name, _)| *name == value);
            arguments.only = Some(known.then_some(value).ok_or("no such part")?);
            continue;
        }
        let value: u64 = value.parse().map_err(|_| format!("no number: {value}"))?;
        match word.as_str() {
            "--seeds" => arguments.seeds = value.max(1),
            "--first" => arguments.first = value,
            "--seed" => {
                arguments.first = value;
                arguments.seeds = 1;
            }
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(arguments)
}
