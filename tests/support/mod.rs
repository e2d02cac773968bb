//! A real server for tests that need one: started on free loopback ports with nothing of its own left behind,
//! and ended by the test that started it. Nothing here knows SIP.

#![allow(
    dead_code,
    reason = "each test program includes this file and asks for its own part of it"
)]

mod port;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use port::free;

/// How long anything may take that is expected to happen. Long, because test machines are slow; never waited out.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory under the system's temporary one that goes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lampfield-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a scratch directory can be made");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if thread::panicking() {
            // What the programs wrote says why the test failed.
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            // What cannot be removed is in a temporary directory anyway.
            let _removed = fs::remove_dir_all(&self.0);
        }
    }
}

/// A program that ends with the test.
pub struct Program {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Program {
    /// Starts it with its output going to a file.
    pub fn start(command: &mut Command, output: PathBuf) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::create(&output).expect("the output file can be made");
        let errors = file.try_clone().expect("a file can be cloned");
        let child = command
            .stdout(file)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Program {
            child,
            name,
            output,
        }
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Panics if it is no longer running.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be asked") {
            panic!("{} ended ({status}):\n{}", self.name, self.output());
        }
    }

    /// Waits for its end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        await_that(&format!("{} ends", self.name), || {
            status = self.child.try_wait().expect("a child can be asked");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Ends it at once, with what it has started.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.child.wait().expect("a child can be waited for");
    }

    /// To the process group that it and what it has started are.
    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.id());
        // What has ended already cannot be asked.
        let _asked = Command::new("kill")
            .args([signal, "--", &group])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Asked first, so that it can end its children.
        for (signal, wait) in [("-TERM", 100), ("-KILL", 0)] {
            self.signal(signal);
            for _ in 0..wait {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        let _waited = self.child.wait();
    }
}

/// A running Lampfield.
pub struct Server {
    program: Program,
    pub v4: SocketAddr,
    pub v6: SocketAddr,
    pub admin: SocketAddr,
    _scratch: Scratch,
}

impl Server {
    /// Starts it on both address families, for UDP and TCP, and waits until it is ready.
    pub fn start() -> Self {
        Server::start_with("")
    }

    /// The same with more in its configuration: the listeners of a test's own stand beside those.
    pub fn start_with(configuration: &str) -> Self {
        let scratch = Scratch::new("server");
        let v4 = free(Ipv4Addr::LOCALHOST);
        let v6 = free(Ipv6Addr::LOCALHOST);
        let admin = free(Ipv4Addr::LOCALHOST);
        let listeners = [("udp", v4), ("udp", v6), ("tcp", v4), ("tcp", v6)];
        let listener =
            |(transport, address)| format!("[[listener]]\naddress = \"{transport}:{address}\"\n");
        let listeners: String = listeners.map(listener).concat();
        let file = scratch.path().join("lampfield.toml");
        fs::write(&file, format!("{listeners}{configuration}")).expect("it can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lampfield"));
        command
            .args(["serve", "--shards", "2", "--pin", "off", "--config"])
            .arg(&file)
            .args(["--admin", &admin.to_string()])
            .arg("--data-dir")
            .arg(scratch.path().join("data"))
            .stdin(Stdio::null());
        let program = Program::start(&mut command, scratch.path().join("output"));
        let mut server = Server {
            program,
            v4,
            v6,
            admin,
            _scratch: scratch,
        };
        await_that("the server is ready", || {
            server.program.assert_running();
            TcpStream::connect(server.admin).is_ok() && server.ask("GET", "/readyz", "").0 == 200
        });
        server
    }

    /// Its state as the HTTP side tells it: status and body. On a machine that is too busy to say, it is asked again.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut answer = (503, String::new());
        let _answered = try_await(|| {
            answer = self.ask(method, path, body);
            answer.0 != 503
        });
        answer
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin port is open");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream
            .write_all(request.as_bytes())
            .expect("it can be asked");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("it answers in text");
        let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        (status.expect("an HTTP answer"), body.unwrap_or_default())
    }

    /// Sets the state of a resource.
    pub fn set_hint(&self, resource: &str, state: &str) {
        let body = format!(r#"{{"state":"{state}"}}"#);
        let (status, text) = self.http("PUT", &format!("/v1/hints/{resource}"), &body);
        assert!((200..300).contains(&status), "{status}: {text}");
    }

    /// A metric by the beginning of its line, for example `lampfield_notifies_total{`, where all `labels` are in it;
    /// summed over what matches, shards included.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let (_, text) = self.http("GET", "/metrics", "");
        text.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// How many watchers have been told all that there is to tell, and have answered.
    pub fn told(&self) -> usize {
        let path = "/v1/subscriptions?limit=1000&like=state=active,dirty=no,in_flight=no";
        let (status, text) = self.http("GET", path, "");
        assert_eq!(status, 200, "{text}");
        text.matches("\"call_id\"").count()
    }

    /// Waits until that many watchers know what is so. What changes before they do is all that their first NOTIFY tells.
    pub fn await_told(&self, watchers: usize) {
        await_that(&format!("{watchers} watchers know what is so"), || {
            self.told() == watchers
        });
    }

    /// Waits until a metric has a value.
    pub fn await_metric(&self, name: &str, labels: &[&str], value: u64) {
        let mut last = 0;
        let reached = try_await(|| {
            last = self.metric(name, labels);
            last == value
        });
        assert!(
            reached,
            "{name} {labels:?} is {last}, not {value}:\n{}",
            self.http("GET", "/metrics", "").1
        );
    }
}

/// Waits until it is so; panics when patience ends.
pub fn await_that(what: &str, is_so: impl FnMut() -> bool) {
    assert!(try_await(is_so), "in vain: that {what}");
}

fn try_await(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A program that the test needs, or the test fails with the command that installs it.
pub fn need(program: &str, package: &str) {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
            .any(|directory| directory.join(program).is_file())
    });
    assert!(
        found,
        "this test needs `{program}`: install it with `apt-get install {package}`"
    );
}
