//! `serve`: reads the configuration, starts the server, says what it listens on and what to try next.

use core::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::ServeArguments;
use crate::config::{self, Config, DEFAULT_ADMIN, Flags};
use crate::server::{How, Keeps, Origin, Server, SetLog, Started};

/// Serves until it is told to stop.
pub fn serve(arguments: &ServeArguments) -> ExitCode {
    let config = match config::load(arguments.config.as_deref(), &flags(arguments)) {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    let origin = Origin {
        file: arguments.config.clone(),
        flags: flags(arguments),
        set_log: start_log(&config),
    };
    let server = match Server::start(config, origin) {
        Ok(server) => server,
        Err(error) => return failed(&error),
    };
    // Whoever reads this may have gone away; that is no reason not to serve.
    let _ = io::stdout().write_all(banner(server.started(), &program()).as_bytes());
    match server.run() {
        How::Asked => ExitCode::SUCCESS,
        How::AtOnce => {
            eprintln!("stopped at once: subscriptions may not have been told");
            // Threads that still run would be waited for otherwise.
            std::process::exit(1)
        }
        How::Failed => std::process::exit(1),
    }
}

fn failed(error: &dyn Display) -> ExitCode {
    eprintln!("{}", error.to_string().trim_end());
    ExitCode::FAILURE
}

fn flags(arguments: &ServeArguments) -> Flags {
    Flags {
        listen: arguments.listen.clone(),
        trusted: arguments.trusted.clone(),
        shards: arguments.shards,
        pin: arguments.pin.clone(),
        data_dir: arguments.data_dir.clone(),
        admin: arguments.admin.clone(),
    }
}

/// Gives back how to put another filter in place.
fn start_log(config: &Config) -> SetLog {
    let filter = filter(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Box::new(move |filter| {
        let filter = self::filter(filter).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}

/// What libraries say of their daily work is not ours to tell: they are heard from warnings on, and further where the
/// configuration names them.
const LIBRARIES: &str =
    "fjall=warn,lsm_tree=warn,hickory_net=warn,hickory_resolver=warn,rustls=warn";

fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{LIBRARIES},{text}"))
}

/// How this program was called, so that the lines to try can be copied.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "lampfield".to_owned())
}

fn banner(started: &Started, program: &str) -> String {
    let plural = if started.shards == 1 { "" } else { "s" };
    let mut text = format!(
        "lampfield {} serves with {} shard{plural}\n",
        env!("CARGO_PKG_VERSION"),
        started.shards
    );
    for endpoint in &started.listeners {
        text.push_str(&format!("  SIP    {endpoint}\n"));
    }
    text.push_str(&format!("  admin  http://{}\n", started.admin));
    for address in &started.left_out {
        text.push_str(&format!(
            "  this host has no {}, so it is left out\n",
            address.ip()
        ));
    }
    text.push_str(&match started.keeps {
        Keeps::Nothing => "  nothing outlives a restart; --data-dir DIR keeps subscriptions, hints and publications\n".to_owned(),
        Keeps::Secrets => "  only the secrets behind tags and nonces outlive a restart\n".to_owned(),
        Keeps::Everything { restored } => format!("  store  {restored} records came back\n"),
    });
    for remark in &started.remarks {
        text.push_str(&format!("  {remark}\n"));
    }
    let (header, admin) = match &started.token {
        Some(_) => (" -H \"Authorization: Bearer $LAMPFIELD_TOKEN\"", true),
        None => ("", started.admin.to_string() != DEFAULT_ADMIN),
    };
    let admin = if admin {
        format!(" --admin {}", started.admin)
    } else {
        String::new()
    };
    text.push_str(&format!(
        "try\n  {program} watch 1001{admin}\n  curl -X PUT{header} -H 'Content-Type: application/json' \
         -d '{{\"state\":\"ringing\"}}' http://{}/v1/hints/1001\n",
        started.admin
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Endpoint, Transport};

    #[test]
    fn the_banner_says_what_is_served_and_what_to_try() {
        let started = Started {
            shards: 2,
            listeners: vec![Endpoint {
                transport: Transport::Udp,
                address: "127.0.0.1:5060".parse().expect("an address"),
            }],
            left_out: vec!["[::1]:5060".parse().expect("an address")],
            admin: "127.0.0.1:8061".parse().expect("an address"),
            remarks: Vec::new(),
            keeps: Keeps::Nothing,
            token: None,
        };
        let text = banner(&started, "lampfield");
        for part in [
            "2 shards",
            "SIP    udp:127.0.0.1:5060\n",
            "admin  http://127.0.0.1:8061\n",
            "no ::1",
            "lampfield watch 1001 --admin 127.0.0.1:8061\n",
            "-d '{\"state\":\"ringing\"}' http://127.0.0.1:8061/v1/hints/1001\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn libraries_speak_of_trouble_only_unless_they_are_asked() {
        let asked = filter("debug,fjall=info").unwrap().to_string();
        let heard: Vec<_> = asked.split(',').collect();
        assert!(
            heard.contains(&"debug") && heard.contains(&"fjall=info"),
            "{asked}"
        );
        assert!(
            heard.contains(&"rustls=warn") && !heard.contains(&"fjall=warn"),
            "{asked}"
        );
    }
}
