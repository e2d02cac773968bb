//! Other people's software with the real server: Kamailio publishes calls and stands before it as an edge, baresip
//! watches presence, and so does a page in Chromium.
#![cfg(feature = "server")]

#[path = "interop/authority.rs"]
mod authority;
#[path = "interop/browser.rs"]
mod browser;
#[path = "support/certificate.rs"]
mod certificate;
#[path = "interop/edge.rs"]
mod edge;
mod support;
#[path = "interop/wire.rs"]
mod wire;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use authority::Authority;
use support::{Program, Scratch, Server, await_that, free, need};

/// A file of this repository.
fn ours(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A scenario that must end well, from `here` to `target`.
fn sipp(
    scratch: &Scratch,
    scenario: &str,
    here: SocketAddr,
    target: Option<SocketAddr>,
    more: &[&str],
) -> Program {
    need("sipp", "sip-tester");
    let name = scenario.replace('/', "-");
    let mut command = Command::new("sipp");
    command
        .arg("-sf")
        .arg(ours(scenario))
        .args(target.map(|target| target.to_string()))
        .args(["-i", &here.ip().to_string(), "-p", &here.port().to_string()])
        .args(["-s", "1001", "-m", "1", "-nostdin"])
        .args(["-timeout", "28s", "-timeout_error", "-trace_err"])
        .arg("-error_file")
        .arg(scratch.path().join(format!("{name}.errors")))
        .args(more)
        .stdin(Stdio::null())
        .current_dir(scratch.path());
    Program::start(&mut command, scratch.path().join(format!("{name}.screen")))
}

/// Phones that watch 1001 at `target` until they show a word.
fn watchers(scratch: &Scratch, target: SocketAddr, word: &str, phones: usize) -> Program {
    let directory = scratch.path().join(word);
    fs::create_dir(&directory).expect("a scratch directory can be made");
    need("sipp", "sip-tester");
    let mut command = Command::new("sipp");
    command
        .arg("-sf")
        .arg(ours("loadtest/watch.xml"))
        .arg(target.to_string())
        .args(["-s", "1001", "-m", &phones.to_string(), "-r", "100"])
        .arg("-nostdin")
        .args(["-p", &free(Ipv4Addr::LOCALHOST).port().to_string()])
        .args(["-timeout", "28s", "-timeout_error", "-trace_err"])
        .args(["-key", "package", "dialog", "-key", "show", word])
        .args(["-key", "accept", "application/dialog-info+xml"])
        .stdin(Stdio::null())
        .current_dir(&directory);
    Program::start(&mut command, directory.join("screen"))
}

/// A copy of Kamailio's text tables: its publisher wants a database, if only to forget it.
fn kamailio_database(scratch: &Scratch) -> PathBuf {
    let tables = scratch.path().join("tables");
    fs::create_dir(&tables).expect("a scratch directory can be made");
    for table in ["pua", "version"] {
        let from = Path::new("/usr/share/kamailio/dbtext/kamailio").join(table);
        fs::copy(&from, tables.join(table)).unwrap_or_else(|error| {
            panic!("{}: {error}: install kamailio 5.6", from.display());
        });
    }
    tables
}

/// The directory of Kamailio's modules, with this one in it.
fn kamailio_modules(module: &str) -> String {
    ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/kamailio/modules/"))
        .into_iter()
        .find(|directory| Path::new(directory).join(format!("{module}.so")).is_file())
        .unwrap_or_else(|| {
            panic!(
                "Kamailio's module {module}: `apt-get install kamailio kamailio-presence-modules kamailio-tls-modules`"
            )
        })
}

fn kamailio(scratch: &Scratch, here: SocketAddr, phone: SocketAddr, server: SocketAddr) -> Program {
    need("kamailio", "kamailio kamailio-presence-modules");
    let database = kamailio_database(scratch);
    let modules = kamailio_modules("pua_dialoginfo");
    let mut command = kamailio_command(scratch, "tests/interop/kamailio.cfg");
    command
        .args(["-A", &format!("LISTEN=udp:{here}")])
        .args(["-A", &format!("PHONE=\"sip:{phone}\"")])
        .args(["-A", &format!("LAMPFIELD=\"sip:{server}\"")])
        .args(["-A", &format!("DATABASE=\"text://{}\"", database.display())])
        .args(["-A", &format!("MODULES=\"{modules}\"")]);
    start_kamailio(&mut command, scratch)
}

/// One with this configuration, which writes into the scratch directory alone.
fn kamailio_command(scratch: &Scratch, configuration: &str) -> Command {
    let mut command = Command::new("kamailio");
    command
        .args(["-DD", "-E", "-m", "64", "-M", "8"])
        .arg("-f")
        .arg(ours(configuration))
        .arg("-w")
        .arg(scratch.path())
        .arg("-Y")
        .arg(scratch.path())
        .env(
            "PATH",
            format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .stdin(Stdio::null());
    command
}

fn start_kamailio(command: &mut Command, scratch: &Scratch) -> Program {
    Program::start(command, scratch.path().join("kamailio.output"))
}

#[test]
fn a_call_through_kamailio_lights_a_lamp_and_its_end_darkens_it() {
    let server = Server::start();
    let scratch = Scratch::new("kamailio");
    let [proxy, phone, caller] = [(); 3].map(|()| free(Ipv4Addr::LOCALHOST));
    let mut kamailio = kamailio(&scratch, proxy, phone, server.v4);
    let mut answering = sipp(
        &scratch,
        "tests/interop/answer.xml",
        phone,
        None,
        &["-d", "700"],
    );
    let words = ["early", "confirmed", "terminated"];
    let mut watchers = words.map(|word| watchers(&scratch, server.v4, word, 1));
    server.await_told(3);
    await_that("Kamailio listens", || {
        kamailio.assert_running();
        std::net::UdpSocket::bind(proxy).is_err()
    });
    let mut calling = sipp(
        &scratch,
        "tests/interop/call.xml",
        caller,
        Some(proxy),
        &["-d", "1500"],
    );
    assert_eq!(calling.wait(), Some(0), "{}", calling.output());
    assert_eq!(answering.wait(), Some(0), "{}", answering.output());
    for (word, watcher) in words.iter().zip(&mut watchers) {
        assert_eq!(watcher.wait(), Some(0), "{word}: {}", watcher.output());
    }
    kamailio.assert_running();
    assert_eq!(server.metric("lampfield_bugs_total", &[]), 0);
}

/// Baresip, which watches the presence of 1001 at `server`, an address with a transport if it is not UDP. As old as it is in
/// distributions, it asks nobody who has signed a certificate.
fn baresip(scratch: &Scratch, server: &str) -> Program {
    need("baresip", "baresip-core");
    // It wants its port for TCP as well, and the next one for TLS, or it ends at once.
    let mut here = free(Ipv4Addr::LOCALHOST);
    loop {
        let next = free(Ipv4Addr::LOCALHOST);
        if next.port() == here.port() + 1 {
            break;
        }
        here = next;
    }
    let modules = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"]
        .into_iter()
        .find(|directory| Path::new(directory).join("presence.so").is_file())
        .expect("baresip's module presence: `apt-get install baresip-core`");
    let configuration = [
        (
            "config",
            format!(
                "sip_listen {here}\nmodule_path {modules}\nmodule_app account.so\n\
                 module_app contact.so\nmodule_app presence.so\nmodule_app menu.so\n"
            ),
        ),
        ("accounts", format!("<sip:watcher@{server}>;regint=0\n")),
        (
            "contacts",
            format!("\"Alice\" <sip:1001@{server}>;presence=p2p\n"),
        ),
    ];
    for (name, text) in configuration {
        fs::write(scratch.path().join(name), text).expect("a configuration can be written");
    }
    // Its words go to a file, and must not wait there for more of them.
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", "-eL", "baresip", "-f"])
        .arg(scratch.path())
        .current_dir(scratch.path())
        .stdin(Stdio::null());
    Program::start(&mut command, scratch.path().join("output"))
}

/// Baresip tells changes only, and colours its words.
fn await_said(baresip: &mut Program, word: &str) {
    await_that(&format!("baresip says {word}"), || {
        baresip.assert_running();
        let output = baresip.output();
        let last = output.lines().rfind(|line| line.contains("changed status"));
        let shown = last.and_then(|line| line.rsplit(" to ").next());
        shown.is_some_and(|shown| shown.contains(word))
    });
}

#[test]
fn baresip_shows_what_is_published() {
    let server = Server::start();
    let scratch = Scratch::new("baresip");
    let publisher = free(Ipv4Addr::LOCALHOST);
    let mut baresip = baresip(&scratch, &server.v4.to_string());
    server.await_told(1);
    let mut publishing = sipp(
        &scratch,
        "loadtest/publish-presence.xml",
        publisher,
        Some(server.v4),
        &["-d", "1500"],
    );
    // Published open, then removed: without a publication the resource is closed.
    for word in ["Online", "Offline"] {
        await_said(&mut baresip, word);
    }
    assert_eq!(publishing.wait(), Some(0), "{}", publishing.output());
    server.await_metric("lampfield_notifies_total", &["timed_out"], 0);
    assert_eq!(server.metric("lampfield_bugs_total", &[]), 0);
}

/// What a source says is shown by a baresip that has come by one connection of that transport.
fn baresip_shows_changes(server: &Server, scratch: &Scratch, target: &str) {
    let mut baresip = baresip(scratch, target);
    await_that("baresip knows what is so", || {
        baresip.assert_running();
        server.told() == 1
    });
    assert_eq!(server.metric("lampfield_connections", &[]), 1);
    for _ in 0..2 {
        server.set_hint("1001", "idle");
        await_said(&mut baresip, "Online");
        // The transports are swapped under it, with what is in the files now.
        assert_eq!(server.http("POST", "/v1/reload", "").0, 200);
        let (status, text) = server.http("DELETE", "/v1/hints/1001", "");
        assert!((200..300).contains(&status), "{status}: {text}");
        await_said(&mut baresip, "Offline");
    }
    assert_eq!(server.metric("lampfield_connections", &[]), 1);
    assert_eq!(server.metric("lampfield_connections_total", &["opened"]), 1);
    assert_eq!(server.metric("lampfield_notifies_total", &["timed_out"]), 0);
    assert_eq!(server.metric("lampfield_bugs_total", &[]), 0);
}

#[test]
fn baresip_on_tcp_shows_changes() {
    let server = Server::start();
    let scratch = Scratch::new("baresip-tcp");
    let target = format!("{};transport=tcp", server.v4);
    baresip_shows_changes(&server, &scratch, &target);
}

#[test]
fn baresip_on_tls_shows_changes() {
    let scratch = Scratch::new("baresip-tls");
    let authority = Authority::new(scratch.path());
    authority.issue("lampfield");
    let address = free(Ipv4Addr::LOCALHOST);
    let server = Server::start_with(&format!(
        "[[listener]]\naddress = \"tls:{address}\"\n{}",
        authority.keys("lampfield")
    ));
    let target = format!("{address};transport=tls");
    baresip_shows_changes(&server, &scratch, &target);
}
