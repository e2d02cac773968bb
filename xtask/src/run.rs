//! Starts programs in the root of the repository, one step after the other, and says at the end how they went.
//! A step that takes too long is ended with everything that it started: a hanging test is a failed one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// No step of a healthy tree takes as long.
const STEP_LIMIT: Duration = Duration::from_secs(20 * 60);

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}

/// A program to be started in the root.
pub fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo_command(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    program(&cargo, arguments)
}

/// Runs cargo with fixed arguments and those of the user; true if it succeeded.
pub fn cargo(fixed: &[&str], rest: &[String]) -> bool {
    let mut command = cargo_command(fixed);
    command.args(rest);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: cargo can't be started: {error}");
            false
        }
    }
}

/// Steps that have been run, for the summary.
pub struct Steps {
    started: Instant,
    done: Vec<(String, bool, Duration)>,
}

impl Steps {
    pub fn new() -> Self {
        Steps {
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs one step of cargo.
    pub fn cargo(&mut self, name: &str, arguments: &[&str]) -> bool {
        println!("\n== {name}: cargo {}", arguments.join(" "));
        let command = cargo_command(arguments);
        self.step(name, || finish(command))
    }

    /// Runs one step of our own.
    pub fn step(&mut self, name: &str, body: impl FnOnce() -> bool) -> bool {
        let started = Instant::now();
        let passed = body();
        let took = started.elapsed();
        let outcome = if passed { "passed" } else { "FAILED" };
        println!("== {name}: {outcome} in {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), passed, took));
        passed
    }

    /// Prints how each step went; true if none failed.
    pub fn summary(&self) -> bool {
        println!("\n== summary");
        for (name, passed, took) in &self.done {
            let outcome = if *passed { "passed" } else { "FAILED" };
            println!("{outcome}  {:>7.1} s  {name}", took.as_secs_f64());
        }
        let failed = self.done.iter().filter(|(_, passed, _)| !passed).count();
        let total = self.started.elapsed().as_secs_f64();
        if failed == 0 {
            println!("all {} steps passed in {total:.0} s", self.done.len());
        } else {
            println!("{failed} of {} steps FAILED, {total:.0} s", self.done.len());
        }
        failed == 0
    }
}

/// Waits for a program, and ends it when it takes too long.
fn finish(mut command: Command) -> bool {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "xtask: {} can't be started: {error}",
                command.get_program().display()
            );
            return false;
        }
    };
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return judge(status),
            Ok(None) if started.elapsed() > STEP_LIMIT => break,
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => {
                eprintln!("xtask: waiting failed: {error}");
                break;
            }
        }
    }
    eprintln!(
        "xtask: not done after {} minutes: ending it",
        STEP_LIMIT.as_secs() / 60
    );
    let family = family(child.id());
    let numbers: Vec<String> = family.iter().map(u32::to_string).collect();
    let _ = Command::new("kill").arg("-KILL").args(&numbers).status();
    let _ = child.wait();
    false
}

fn judge(status: ExitStatus) -> bool {
    if !status.success() {
        eprintln!("xtask: {status}");
    }
    status.success()
}

/// A process and everything that descends from it, children last.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten();
        let children: Vec<u32> = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|list| {
                list.split_whitespace()
                    .filter_map(|id| id.parse().ok())
                    .collect::<Vec<u32>>()
            })
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// Whether a program of that name can be started.
pub fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .any(|folder| folder.join(name).is_file())
}
