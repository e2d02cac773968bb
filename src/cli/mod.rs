//! The command line: what can be asked of the program, and which exit code says how it went.
//! 0: done. 1: failed, the reason is on standard error. 2: the command line itself is wrong.

mod client;
mod reload;
mod serve;
mod set;
mod show;
mod watch;

use core::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, DEFAULT_ADMIN, Flags};
use client::Client;

/// A SIP event server: every phone's lamp right.
///
/// Without a command it serves: SIP on udp:127.0.0.1:5060 and udp:[::1]:5060, HTTP on 127.0.0.1:8060.
#[derive(Debug, Parser)]
#[command(name = "lampfield", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve phones until SIGTERM (also without a command)
    Serve(ServeArguments),
    /// Say what is wrong with a configuration file, and what to write instead
    Check {
        /// The file
        file: PathBuf,
    },
    /// Have a running server read its configuration again; nothing is touched where something is wrong
    Reload {
        /// Give every listener a new socket, where the living one would be handed over
        #[arg(long)]
        fresh_sockets: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Show what a running server knows
    #[command(subcommand)]
    Show(Show),
    /// Set the state of a resource
    SetHint {
        /// 1001, or 1001@example.com
        resource: String,
        /// idle, trying, ringing, early, inuse, busy, hold, unavailable or dnd
        state: String,
        /// A presence note for people
        #[arg(long)]
        note: Option<String>,
        /// Who says so; each source speaks for itself
        #[arg(long)]
        source: Option<String>,
        /// Forget it after so many seconds
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u32>,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Print each change of a resource as a phone would see it
    Watch {
        /// 1001, or 1001@example.com
        resource: String,
        /// What the phone subscribes to
        #[arg(long, default_value = "dialog", value_parser = ["dialog", "presence", "message-summary"])]
        package: String,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Who watches what
    Subscriptions {
        /// Only those that fit: 'expiry=0', 'resource=10* state=active', 'cseq>100'
        #[arg(long, value_name = "CONDITIONS")]
        like: Option<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// What is listened on, and what holds the listeners that are about to close
    Transports {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// What is known of each resource
    Hints {
        /// One JSON object per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
}

#[derive(Debug, Default, Args)]
struct ServeArguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A SIP listener, in place of those of the file: udp:127.0.0.1:5060, or with tcp or ws (may be repeated)
    #[arg(long, value_name = "udp:ADDRESS:PORT")]
    listen: Vec<String>,
    /// Addresses that need no authentication, besides those of the file: 192.0.2.0/24 (may be repeated)
    #[arg(long, value_name = "NETWORK")]
    trusted: Vec<String>,
    /// How many threads serve [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// Which CPUs they stay on: auto, off, or a list such as 0,2
    #[arg(long, value_name = "CPUS")]
    pin: Option<String>,
    /// Where secrets are kept over a restart [default: nowhere]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where HTTP is served [default: 127.0.0.1:8060]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

/// How to reach a running server.
#[derive(Debug, Args)]
struct ServerArguments {
    /// The admin port of the server
    #[arg(long, value_name = "ADDRESS:PORT", default_value = DEFAULT_ADMIN)]
    admin: String,
    /// A file that holds the server's token; LAMPFIELD_TOKEN may hold the token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why a command failed: a sentence for standard error.
#[derive(Debug)]
pub struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => return serve::serve(&cli.serve),
        Some(Command::Serve(arguments)) => return serve::serve(&arguments),
        Some(command) => run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(reason)) => {
            eprintln!("{}", reason.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(_) => unreachable!("it has been served"),
        Command::Check { file } => check(&file),
        Command::Reload {
            fresh_sockets,
            server,
        } => reload::reload(&Client::new(&server)?, fresh_sockets),
        Command::Version => print(concat!("lampfield ", env!("CARGO_PKG_VERSION"))),
        Command::Show(Show::Subscriptions { like, json, server }) => {
            show::subscriptions(&Client::new(&server)?, like.as_deref(), json)
        }
        Command::Show(Show::Transports { json, server }) => {
            show::transports(&Client::new(&server)?, json)
        }
        Command::Show(Show::Hints { json, server }) => show::hints(&Client::new(&server)?, json),
        Command::SetHint {
            resource,
            state,
            note,
            source,
            expires,
            server,
        } => {
            let hint = set::Hint {
                state,
                note,
                source,
                expires,
            };
            set::set(&Client::new(&server)?, &resource, &hint)
        }
        Command::Watch {
            resource,
            package,
            json,
            server,
        } => watch::watch(&Client::new(&server)?, &resource, &package, json),
    }
}

fn check(file: &std::path::Path) -> Result<(), Failure> {
    let config = config::load(Some(file), &Flags::default())?;
    print(&format!(
        "{}: no mistakes; {} SIP listeners, admin port {}",
        file.display(),
        config.listeners.len(),
        config.admin.address
    ))
}

/// A line on standard output. Whoever closes it early wants no more, and no complaint.
fn print(line: &str) -> Result<(), Failure> {
    use io::Write;
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_with_the_flags_that_are_given() {
        let cli = Cli::try_parse_from(["lampfield", "--shards", "2"]).expect("is understood");
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.shards, Some(2));
        let cli = Cli::try_parse_from(["lampfield", "serve", "--listen", "udp:[::1]:0"]);
        let Some(Command::Serve(arguments)) = cli.expect("is understood").command else {
            panic!("it serves");
        };
        assert_eq!(arguments.listen, ["udp:[::1]:0"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for arguments in [
            &["lampfield", "--persist"][..],
            &["lampfield", "serve", "--shards", "0"],
            &["lampfield", "watch", "1001", "--package", "reg"],
            &["lampfield", "show", "everything"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
