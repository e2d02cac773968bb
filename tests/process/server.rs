//! A server of its own for one test: the real program on free loopback ports, ended with the test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program.
pub fn lampfield() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lampfield"));
    command.env_remove("LAMPFIELD_TOKEN").env_remove("RUST_LOG");
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    lampfield().args(arguments).output().expect("it runs")
}

/// What it said on standard error.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that runs.
pub struct Server {
    child: Child,
    pub sip: Vec<SocketAddr>,
    pub admin: SocketAddr,
    pub banner: String,
    log: Mutex<Log>,
}

/// What it says on standard error: the lines that were looked at, and those to come.
struct Log {
    seen: String,
    lines: Receiver<String>,
}

impl Server {
    /// On a free loopback port.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_with(&[&["--listen", "udp:127.0.0.1:0"], arguments].concat())
    }

    /// On the listeners that the arguments name, with two shards, unless they say otherwise, that stay nowhere in particular.
    pub fn start_with(arguments: &[&str]) -> Server {
        Server::start_by(lampfield(), arguments)
    }

    /// The same by another program, which becomes it.
    pub fn start_by(mut program: Command, arguments: &[&str]) -> Server {
        let shards: &[&str] = match arguments.contains(&"--shards") {
            true => &[],
            false => &["--shards", "2"],
        };
        let mut child = program
            .args(["serve", "--admin", "127.0.0.1:0", "--pin", "off"])
            .args(shards)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let log = Log {
            seen: String::new(),
            lines: lines(child.stderr.take().expect("piped")),
        };
        let lines = lines(child.stdout.take().expect("piped"));
        let mut server = Server {
            child,
            sip: Vec::new(),
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
            banner: String::new(),
            log: Mutex::new(log),
        };
        server.read_banner(&lines);
        server
    }

    /// The banner names the ports, and ends with the line that uses curl.
    fn read_banner(&mut self, lines: &Receiver<String>) {
        loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                let _ = self.child.kill();
                let log = self.log();
                panic!("it did not start:\n{}{log}", self.banner);
            };
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("SIP"), Some(listener)) => {
                    let address = listener.split_once(':').expect("a transport").1;
                    self.sip.push(address.parse().expect("an address"));
                }
                (Some("admin"), Some(url)) => {
                    let address = url.strip_prefix("http://").expect("HTTP");
                    self.admin = address.parse().expect("an address");
                }
                _ => {}
            }
            self.banner.push_str(&line);
            self.banner.push('\n');
            if line.trim_start().starts_with("curl") {
                return;
            }
        }
    }

    /// Where a path is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// Runs a command of the program that talks to this server.
    pub fn tell(&self, arguments: &[&str]) -> Output {
        let admin = self.admin.to_string();
        let output = lampfield()
            .args(arguments)
            .args(["--admin", &admin])
            .output();
        output.expect("it runs")
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Bounds how much of a file it may write, or lets it write what it likes again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let soft = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", self.child.id()))
            .arg(format!("--fsize={soft}:unlimited"))
            .status();
        assert!(status.expect("prlimit of util-linux runs").success());
    }

    /// Whether it has a handler of its own for the signal of this number: without one most signals kill.
    pub fn catches(&self, signal: u32) -> bool {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it lives");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("hexadecimal");
        mask >> (signal - 1) & 1 == 1
    }

    /// How many UDP sockets it has open.
    pub fn udp_sockets(&self) -> usize {
        let tables = ["/proc/net/udp", "/proc/net/udp6"];
        let tables = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let is_udp = |inode: &str| {
            let lines = tables.iter().flat_map(|table| table.lines());
            let mut inodes = lines.filter_map(|line| line.split_whitespace().nth(9));
            inodes.any(|listed| listed == inode)
        };
        let path = format!("/proc/{}/fd", self.child.id());
        let open = std::fs::read_dir(path).expect("it lives");
        let names = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        names
            .filter_map(|name| {
                name.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')
                    .map(str::to_owned)
            })
            .filter(|inode| is_udp(inode))
            .count()
    }

    /// Its exit code, once it has ended by itself, and what it said on standard error.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("it ends");
        (status.code(), self.log())
    }

    /// Waits for the line of its log that holds this text.
    pub fn logged(&self, text: &str) -> String {
        let mut log = self.log.lock().expect("one test looks at it");
        loop {
            let Ok(line) = log.lines.recv_timeout(PATIENCE) else {
                panic!("its log never says `{text}`:\n{}", log.seen);
            };
            log.seen.push_str(&line);
            log.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All of its log, once it has ended.
    fn log(&mut self) -> String {
        let log = self.log.get_mut().expect("one test looks at it");
        for line in &log.lines {
            log.seen.push_str(&line);
            log.seen.push('\n');
        }
        std::mem::take(&mut log.seen)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they come, so that a test can wait for the next one with an end in sight.
pub fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A directory of its own for one test, removed with everything in it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
