//! Loads for Lampfield: phones by the ten thousand on one core, each of which checks what it is told.
//! A lamp that is wrong at the end is an exit code of 1. Tests play the same loads through `play`, in small.

mod certificates;
mod configuration;
mod edge;
mod field;
mod http;
mod lamp;
mod line;
mod loads;
mod options;
mod phone;
mod plain;
mod publisher;
mod random;
mod report;
mod server;
mod stub;
pub mod sys;
mod transports;
mod web;
mod wire;

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::SystemTime;

use clap::Parser;

use options::{Options, Stub};
use report::Report;
use server::{Server, Start};

/// The program: what its command line asks for.
pub fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if let Some(result) = compare(&first) {
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let mut options = Options::parse();
    let seed = *options.seed.get_or_insert_with(seed_of_now);
    println!("load {:?}, seed {seed}", options.load);
    match run(&options) {
        Ok(report) => {
            print!("{}", report.table());
            if options.json {
                println!("{}", report.json(&format!("{:?}", options.load), seed));
            }
            ExitCode::from(u8::from(!report.is_good()))
        }
        Err(error) => fail(&error),
    }
}

/// Plays the load that these arguments of the command line ask for. What went wrong is the error, with the table.
pub fn play(arguments: &[&str]) -> Result<String, String> {
    let program = ["lampfield-load"];
    let mut options = Options::try_parse_from(program.iter().chain(arguments))
        .map_err(|error| error.to_string())?;
    let seed = *options.seed.get_or_insert_with(seed_of_now);
    let report = run(&options).map_err(|error| format!("seed {seed}: {error}"))?;
    let text = format!("seed {seed}\n{}", report.table());
    if report.is_good() {
        Ok(text)
    } else {
        Err(text)
    }
}

/// The two notifiers to compare with are this same program.
fn compare(role: &str) -> Option<io::Result<()>> {
    let stub = || Stub::parse_from(std::env::args_os().skip(1));
    match role {
        "stub" => {
            let stub = stub();
            Some(stub::serve(stub.listen, stub.admin, stub.notify_first))
        }
        "plain" => {
            let stub = stub();
            Some(plain::serve(stub.listen, stub.admin))
        }
        _ => None,
    }
}

fn fail(error: &io::Error) -> ExitCode {
    eprintln!("lampfield-load: {error}");
    ExitCode::from(2)
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007)
}

/// Starts the server, runs the load, ends the server.
fn run(options: &Options) -> io::Result<Report> {
    let processors = sys::processors();
    let apart = !options.no_pin && options.shards == 1 && processors.len() > 1;
    let ourselves = std::env::current_exe()?;
    let compared = [(options.baseline, "stub"), (options.plain, "plain")];
    let role = compared.into_iter().find(|(chosen, _)| *chosen);
    let binary = match &options.server_binary {
        _ if role.is_some() => ourselves,
        Some(binary) => binary.clone(),
        None => ourselves.with_file_name("lampfield"),
    };
    let mut server = Server::start(&Start {
        binary: &binary,
        role: role.map(|(_, name)| name),
        ip: options.ip(),
        shards: options.shards,
        processor: apart.then(|| processors[0]),
        by_file: options.load.reloads(),
        streams: &options.streams(),
        edge: options.kamailio.then(|| options.ip()),
        durability: options.durability,
        changed_only: options.changed_only,
        log: options.log.as_deref(),
    })?;
    if apart {
        sys::stay_on(processors[1])?;
    }
    let profiler = profile(options.perf.as_ref(), server.pid())?;
    let mut report = loads::run(options, &mut server)?;
    if let Some(mut profiler) = profiler {
        sys::interrupt(profiler.id());
        profiler.wait()?;
    }
    if !server.stop()? && role.is_none() {
        report.problem("the server did not end well after SIGTERM".to_owned());
    }
    if !report.is_good() {
        report.problem(format!("see {}", server.keep().display()));
    }
    Ok(report)
}

/// `perf record` of the server, ended by an interrupt.
fn profile(file: Option<&PathBuf>, server: u32) -> io::Result<Option<Child>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "-e", "cpu-clock", "-F", "4999", "-g"]);
    command.arg("-o").arg(file);
    command.args(["-p", &server.to_string()]);
    command.spawn().map(Some)
}
