//! The TOML file, read key by key; the command line goes over it.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::limits;
use crate::config::listen::{AddressError, parse_admin, parse_advertise, parse_listen};
use crate::config::problem::{Problem, Problems};
use crate::config::refuse::{refuse_open_admin, refuse_open_listeners};
use crate::config::section::{Notes, Placed, Section};
use crate::config::service::{
    read_dns, read_drain_max, read_hints, read_limits, read_notify, read_overload, read_packages,
    read_publish, read_store, read_subscribe,
};
use crate::config::settings::{Admin, Config, DEFAULT_ADMIN, DEFAULT_LISTEN, Flags, Listener, Pin};
use crate::config::tls;
use crate::config::web;
use crate::config::who;
use crate::transport::stream::WebRules;
use crate::transport::{Endpoint, NatMode};

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    Unreadable(PathBuf, std::io::Error),
    Wrong(Problems),
}

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LoadError::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            LoadError::Wrong(problems) => problems.fmt(f),
        }
    }
}

impl core::error::Error for LoadError {}

/// Reads the file, if there is one, and puts the flags over it.
pub fn load(path: Option<&Path>, flags: &Flags) -> Result<Config, LoadError> {
    let Some(path) = path else {
        return parse("", "", flags).map_err(LoadError::Wrong);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| LoadError::Unreadable(path.to_owned(), error))?;
    parse(&path.display().to_string(), &text, flags).map_err(LoadError::Wrong)
}

/// The same for a text that stands in a file of this name.
pub fn parse(name: &str, text: &str, flags: &Flags) -> Result<Config, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let list = errors
            .iter()
            .map(|error| {
                let span = error.span().unwrap_or(0..0);
                Problem::at(span, format!("this is not TOML: {}", error.message()))
            })
            .collect();
        return Err(Problems::new(name, text, list));
    }
    let notes = Notes::default();
    let table = table.into_inner();
    let config = read(Section::new("", &table, &notes), Path::new(name), flags);
    let list = notes.into_list();
    if list.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(name, text, list))
    }
}

/// A wrong address, in the file or among the flags.
pub(super) fn address_problem(
    error: AddressError,
    span: Option<core::ops::Range<usize>>,
) -> Problem {
    let problem = match span {
        Some(span) => Problem::at(span, error.what),
        None => Problem::nowhere(error.what),
    };
    problem.help(error.help)
}

fn read(mut root: Section<'_>, path: &Path, flags: &Flags) -> Config {
    let notes = root.notes();
    let in_file = read_listeners(&mut root, path);
    let listeners = choose_listeners(in_file, flags, notes);
    let shards = root
        .number("shards", 1..=limits::SHARDS_MAX as u64)
        .map(|shards| shards.value as u16);
    let shards = flags.shards.or(shards);
    let pin = read_pin(&mut root, flags, shards, notes);
    let data_dir = root.text("data_dir").map(|text| PathBuf::from(text.value));
    let (durability, restart_notify) = read_store(&mut root);
    let log = read_log(&mut root, notes);
    let (admin, admin_span) = read_admin(&mut root, path, flags);
    let subscribe_expiry = read_packages(&mut root);
    let publish_expiry = read_publish(&mut root);
    let subscribe = read_subscribe(&mut root);
    let notify = read_notify(&mut root);
    let retry_after = read_overload(&mut root);
    let compose = read_hints(&mut root);
    let dns = read_dns(&mut root);
    let drain_max = read_drain_max(&mut root, &subscribe_expiry);
    let policy = who::read(&mut root, path, &listeners, flags);
    let (sources, quotas) = read_limits(&mut root, &policy.domains);
    root.finish();
    refuse_open_listeners(&listeners, &policy, notes);
    refuse_open_admin(&admin, admin_span, notes);
    Config {
        listeners: listeners.into_iter().map(|each| each.listener).collect(),
        shards,
        pin,
        data_dir: flags.data_dir.clone().or(data_dir),
        durability,
        restart_notify,
        admin,
        subscribe_expiry,
        publish_expiry,
        sources,
        quotas,
        subscribe,
        on_timeout: notify.on_timeout,
        on_close: notify.on_close,
        pace: notify.pace,
        retry_after,
        render: notify.render,
        compose,
        dns,
        policy,
        drain_max,
        log,
    }
}

/// A listener and where it was written: nowhere in the file if it came with a flag or by default.
pub(super) struct Written {
    pub listener: Listener,
    pub span: Option<core::ops::Range<usize>>,
    /// What the file says about authentication here.
    pub authenticate: Option<bool>,
}

fn listener(endpoint: Endpoint) -> Listener {
    Listener {
        transport: endpoint.transport,
        address: endpoint.address,
        optional: false,
        advertise: None,
        tls: None,
        web: WebRules::default(),
        nat: NatMode::Auto,
        dscp: None,
        receive_buffer: None,
        send_buffer: None,
        device: None,
    }
}

fn read_listeners(root: &mut Section<'_>, path: &Path) -> Vec<Written> {
    let notes = root.notes();
    let mut listeners = Vec::new();
    for Placed {
        value: mut section,
        span,
    } in root.sections("listener")
    {
        let address = section.text("address");
        let advertise = section.text("advertise");
        let nat = section.word(
            "nat",
            &[
                ("auto", NatMode::Auto),
                ("always", NatMode::Always),
                ("never", NatMode::Never),
            ],
        );
        let authenticate = section.flag("auth");
        let dscp = section.number("dscp", 0..=63);
        let receive_buffer = section.number("receive_buffer", BUFFER_BYTES);
        let send_buffer = section.number("send_buffer", BUFFER_BYTES);
        let device = section.text("device");
        let tls = tls::read(&mut section);
        let web = web::read(&mut section);
        section.finish();
        let Some(address) = address else {
            notes.push(
                Problem::at(span, "this listener has no address")
                    .help("write `address = \"udp:127.0.0.1:5060\"` below"),
            );
            continue;
        };
        let parsed = match parse_listen(address.value) {
            Ok(parsed) => parsed,
            Err(error) => {
                notes.push(address_problem(error, Some(address.span)));
                continue;
            }
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        let tls = tls.settle(parsed.transport, directory, &address, |problem| {
            notes.push(problem)
        });
        let web = web.settle(parsed.transport, |problem| notes.push(problem));
        let advertise = advertise.and_then(|text| {
            parse_advertise(text.value)
                .map_err(|error| notes.push(address_problem(error, Some(text.span))))
                .ok()
        });
        listeners.push(Written {
            listener: Listener {
                advertise,
                tls,
                web,
                nat: nat.unwrap_or_default(),
                dscp: dscp.map(|dscp| dscp.value as u8),
                receive_buffer: receive_buffer.map(|bytes| bytes.value as usize),
                send_buffer: send_buffer.map(|bytes| bytes.value as usize),
                device: device.and_then(|text| device_name(&text, notes)),
                ..listener(parsed)
            },
            span: Some(address.span),
            authenticate,
        });
    }
    refuse_twins(&listeners, notes);
    listeners
}

/// What a socket's buffer may hold: less than that takes no burst at all, and more the kernel does not count.
const BUFFER_BYTES: core::ops::RangeInclusive<u64> = 65_536..=1 << 30;
/// The longest name of a network device.
const DEVICE_BYTES: usize = 15;

fn device_name(text: &Placed<&str>, notes: &Notes) -> Option<Box<str>> {
    let fits = (1..=DEVICE_BYTES).contains(&text.value.len())
        && !text
            .value
            .contains(|c: char| c.is_whitespace() || c == '/' || c == '\0');
    if !fits {
        let what = format!("`{}` is no network device", text.value);
        notes.push(
            Problem::at(text.span.clone(), what)
                .help("write a name that `ip link` shows: device = \"eth0\""),
        );
    }
    fits.then(|| text.value.into())
}

/// Two listeners of one address would share what comes to it, and phones would see either.
fn refuse_twins(listeners: &[Written], notes: &Notes) {
    for (index, written) in listeners.iter().enumerate() {
        let endpoint = written.listener.endpoint();
        let mut earlier = listeners[..index].iter();
        if endpoint.address.port() != 0 && earlier.any(|each| each.listener.endpoint() == endpoint)
        {
            let what = format!("{endpoint} is listened on twice");
            notes.push(match &written.span {
                Some(span) => Problem::at(span.clone(), what),
                None => Problem::nowhere(what),
            });
        }
    }
}

/// Those of the command line in place of those of the file; the defaults where neither names one.
fn choose_listeners(in_file: Vec<Written>, flags: &Flags, notes: &Notes) -> Vec<Written> {
    let flagged = |text: &str, optional: bool| match parse_listen(text) {
        Ok(endpoint) if endpoint.transport.is_secure() => {
            let what = format!("{endpoint} needs a certificate, which no option names");
            notes.push(
                Problem::nowhere(what)
                    .help("write a [[listener]] with `certificate` and `key` into the file"),
            );
            None
        }
        Ok(endpoint) => Some(Written {
            listener: Listener {
                optional,
                ..listener(endpoint)
            },
            span: None,
            authenticate: None,
        }),
        Err(error) => {
            notes.push(address_problem(error, None));
            None
        }
    };
    if !flags.listen.is_empty() {
        let listeners: Vec<_> = flags
            .listen
            .iter()
            .filter_map(|text| flagged(text, false))
            .collect();
        refuse_twins(&listeners, notes);
        return listeners;
    }
    if !in_file.is_empty() {
        return in_file;
    }
    DEFAULT_LISTEN
        .iter()
        .filter_map(|text| flagged(text, text.contains('[')))
        .collect()
}

fn read_pin(root: &mut Section<'_>, flags: &Flags, shards: Option<u16>, notes: &Notes) -> Pin {
    let (text, span) = match (&flags.pin, root.text("pin")) {
        (Some(flag), _) => (flag.as_str(), None),
        (None, Some(text)) => (text.value, Some(text.span)),
        (None, None) => return Pin::Auto,
    };
    match text {
        "auto" => Pin::Auto,
        "off" => Pin::Off,
        list => {
            let wrong = |what: String| match span {
                Some(span) => Problem::at(span, what),
                None => Problem::nowhere(what),
            };
            let cpus: Result<Vec<usize>, _> =
                list.split(',').map(|cpu| cpu.trim().parse()).collect();
            match (cpus, shards) {
                (Ok(cpus), Some(shards)) if cpus.len() != usize::from(shards) => notes.push(
                    wrong(format!(
                        "{} CPUs are listed for {shards} shards",
                        cpus.len()
                    ))
                    .help("list one CPU for each shard"),
                ),
                (Ok(cpus), _) => return Pin::List(cpus),
                (Err(_), _) => notes.push(
                    wrong(format!("`{list}` is no list of CPUs"))
                        .help("write \"auto\", \"off\", or one CPU per shard: \"0,2,4,6\""),
                ),
            }
            Pin::Auto
        }
    }
}

/// A filter of `tracing`.
fn read_log(root: &mut Section<'_>, notes: &Notes) -> String {
    let Some(text) = root.text("log") else {
        return "info".to_owned();
    };
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(text.value) {
        notes.push(
            Problem::at(text.span, format!("this is no log filter: {error}")).help(
                "write \"info\", \"debug\", or levels for parts: \"info,lampfield::uring=debug\"",
            ),
        );
    }
    text.value.to_owned()
}

/// The admin port, and where the file names its address.
fn read_admin(
    root: &mut Section<'_>,
    path: &Path,
    flags: &Flags,
) -> (Admin, Option<core::ops::Range<usize>>) {
    let notes = root.notes();
    let mut address = None;
    let mut token = None;
    if let Some(mut section) = root.section("admin") {
        address = section.text("address");
        token = read_token(&mut section, path);
        section.finish();
    }
    let (text, span) = match (&flags.admin, address) {
        (Some(flag), _) => (flag.as_str(), None),
        (None, Some(text)) => (text.value, Some(text.span)),
        (None, None) => (DEFAULT_ADMIN, None),
    };
    let parsed = parse_admin(text).or_else(|error| {
        notes.push(address_problem(error, span.clone()));
        parse_admin(DEFAULT_ADMIN)
    });
    let address = parsed.expect("the default address is one");
    (Admin { address, token }, span)
}

/// `token`, or the first line of `token_file`, which may stand beside the configuration.
fn read_token(section: &mut Section<'_>, path: &Path) -> Option<String> {
    let notes = section.notes();
    let token = section.text("token");
    let file = section.text("token_file");
    let (token, span) = match (token, file) {
        (Some(_), Some(file)) => {
            notes.push(
                Problem::at(file.span, "`token` is written above")
                    .help("leave one of `token` and `token_file` out"),
            );
            return None;
        }
        (None, None) => return None,
        (Some(token), None) => (token.value.to_owned(), token.span),
        (None, Some(file)) => {
            let beside = path.parent().unwrap_or(Path::new("")).join(file.value);
            match std::fs::read_to_string(&beside) {
                Ok(text) => (text.lines().next().unwrap_or("").to_owned(), file.span),
                Err(error) => {
                    let what = format!("{}: {error}", beside.display());
                    notes.push(Problem::at(file.span, what));
                    return None;
                }
            }
        }
    };
    if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        notes.push(
            Problem::at(span, "this token is too easy to guess, or holds a space")
                .help("write at least 16 letters and digits; `openssl rand -hex 16` makes them"),
        );
    }
    Some(token)
}
