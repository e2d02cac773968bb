//! The server under load: started on free loopback ports, watched through /proc, ended by us and nobody else.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::configuration::{CERTIFICATE, Configuration, Listener, Transport};
use crate::http::Client;
use crate::sys;

/// The name of its configuration.
const FILE: &str = "lampfield.toml";

/// How the server is to be started.
pub struct Start<'a> {
    pub binary: &'a Path,
    /// Which of this tool's own notifiers it is instead of a server.
    pub role: Option<&'static str>,
    pub ip: IpAddr,
    pub shards: usize,
    pub processor: Option<usize>,
    /// It is served by a file that can be written anew.
    pub by_file: bool,
    /// What it serves beside datagrams; then it has a file, too.
    pub streams: &'a [Transport],
    /// The proxy that all phones are behind.
    pub edge: Option<IpAddr>,
    /// When an answer may leave; None: the server's own choice.
    pub durability: Option<Durability>,
    /// After a planned stop only those are told whose state has changed.
    pub changed_only: bool,
    /// Where its output goes; else into a directory of its own, which goes with it.
    pub log: Option<&'a Path>,
}

/// When a record counts as kept, as the configuration says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    Process,
    Disk,
    None,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Disk => "disk",
            Durability::None => "none",
        }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    recipe: Recipe,
    pub sip: SocketAddr,
    pub admin: SocketAddr,
    /// What stood in its file when it was started.
    pub configuration: Configuration,
    /// Who issues its certificates, and what it shows at the start.
    pub authority: Option<Authority>,
    pub shown: Vec<u8>,
    directory: PathBuf,
    kept: bool,
}

/// How it is started, once and again.
struct Recipe {
    binary: PathBuf,
    arguments: Vec<OsString>,
    processor: Option<usize>,
    log: PathBuf,
}

impl Recipe {
    /// Its output is appended to what an earlier process of it wrote.
    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.binary);
        let mut appended = fs::File::options();
        let output = appended.create(true).append(true).open(&self.log)?;
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        sys::keep_on(&mut command, self.processor);
        command.spawn()
    }
}

/// Processor time of all threads, in nanoseconds, by thread.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pub threads: Vec<(String, u64)>,
}

impl Cpu {
    pub fn total(&self) -> u64 {
        self.threads
            .iter()
            .map(|(_, nanoseconds)| nanoseconds)
            .sum()
    }

    /// What was used between an earlier reading and this one, threads of one name together.
    pub fn since(&self, earlier: &Cpu) -> Cpu {
        let mut threads: Vec<(String, u64)> = Vec::new();
        for (name, now) in self.by_name() {
            let before = earlier
                .by_name()
                .into_iter()
                .find(|(other, _)| *other == name)
                .map_or(0, |(_, nanoseconds)| nanoseconds);
            threads.push((name, now.saturating_sub(before)));
        }
        Cpu { threads }
    }

    fn by_name(&self) -> Vec<(String, u64)> {
        let mut names: Vec<(String, u64)> = Vec::new();
        for (name, nanoseconds) in &self.threads {
            match names.iter_mut().find(|(other, _)| other == name) {
                Some((_, sum)) => *sum += nanoseconds,
                None => names.push((name.clone(), *nanoseconds)),
            }
        }
        names
    }
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let sip = free_address(start.ip)?;
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let directory = directory()?;
        let log = start
            .log
            .map_or_else(|| directory.join("log"), Path::to_owned);
        fs::File::create(&log)?;
        let mut configuration = Configuration::new(sip);
        configuration.edge = start.edge;
        configuration.durability = start.durability;
        configuration.changed_only = start.changed_only;
        let (mut authority, mut shown) = (None, Vec::new());
        for &transport in start.streams {
            let address = match transport {
                Transport::Udp | Transport::Tcp => sip,
                Transport::Tls | Transport::Ws | Transport::Wss => free_address(start.ip)?,
            };
            configuration
                .listeners
                .push(Listener::of(transport, address));
        }
        if start.streams.iter().any(|transport| transport.is_secure()) {
            let issuer = authority.insert(Authority::new()?);
            shown = write_certificate(&directory, issuer)?;
        }
        let recipe = Recipe {
            binary: start.binary.to_owned(),
            arguments: arguments(start, &configuration, sip, admin, &directory)?,
            processor: start.processor,
            log,
        };
        let mut server = Server {
            child: recipe.spawn()?,
            recipe,
            sip,
            admin,
            configuration,
            authority,
            shown,
            directory,
            kept: false,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.must_live()?;
            if is_ready(self.admin) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the server did not become ready in 20 s"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// It has not ended by itself.
    pub fn must_live(&mut self) -> io::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let text = self.said();
        Err(io::Error::other(format!(
            "the server ended at once ({status}):\n{text}"
        )))
    }

    /// Ends it without a word to it: SIGKILL. It is gone when this returns.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Starts it again on its ports and with its data; it may not be ready yet.
    pub fn start_again(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        // The kernel lets go of a ring and its sockets only a moment after their process has ended.
        while let Err(error) = UdpSocket::bind(self.sip) {
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.child = self.recipe.spawn()?;
        Ok(())
    }

    /// What it has written so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.recipe.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote stays for a look; where that is.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.recipe.log
    }

    /// Writes its file anew. It reads it when it is told to.
    pub fn configure(&self, configuration: &Configuration) -> io::Result<()> {
        fs::write(self.directory.join(FILE), configuration.text())
    }

    /// Writes a new certificate over the one before; the server reads it when it is told to. What it will show.
    pub fn replace_certificate(&self) -> io::Result<Option<Vec<u8>>> {
        let authority = self.authority.as_ref();
        let written = authority.map(|authority| write_certificate(&self.directory, authority));
        written.transpose()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Processor time of each thread up to now.
    pub fn cpu(&self) -> Cpu {
        let mut threads = Vec::new();
        let tasks = format!("/proc/{}/task", self.pid());
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let nanoseconds = read("schedstat")
                .split(' ')
                .next()
                .and_then(|field| field.parse().ok());
            threads.push((read("comm").trim_end().to_owned(), nanoseconds.unwrap_or(0)));
        }
        threads.sort();
        Cpu { threads }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Datagrams that the kernel dropped at the server's sockets because it was behind.
    pub fn drops(&self) -> u64 {
        drops(self.sip.port())
    }

    /// What the server says of the subscription with that Call-ID.
    pub fn explain(&self, call_id: &str) -> String {
        let path = format!("/v1/subscriptions?like=call_id%3D{call_id}");
        Client::connect(self.admin)
            .and_then(|mut client| client.request("GET", &path, ""))
            .map_or_else(|error| error.to_string(), |answer| answer.body)
    }

    /// The value of a metric summed over its labels; none where there is no such metric.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metric_with(name, "")
    }

    /// The same of those lines only that hold this text.
    pub fn metric_with(&self, name: &str, label: &str) -> Option<f64> {
        let text = Client::connect(self.admin)
            .and_then(|mut client| client.request("GET", "/metrics", ""))
            .ok()?
            .body;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Ends it as an operator would; after 20 s by force. Whether it ended by itself and well.
    pub fn stop(&mut self) -> io::Result<bool> {
        sys::terminate(self.pid());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever became of it: it has been ours, and it is gone now.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
        if !self.kept {
            let _removed = fs::remove_dir_all(&self.directory);
        }
    }
}

fn write_certificate(directory: &Path, authority: &Authority) -> io::Result<Vec<u8>> {
    let issued = authority.issue()?;
    let [certificate, key] = CERTIFICATE;
    fs::write(directory.join(certificate), &issued.certificate)?;
    fs::write(directory.join(key), &issued.key)?;
    Ok(issued.shown)
}

/// An address that is free for datagrams and for connections.
fn free_address(ip: IpAddr) -> io::Result<SocketAddr> {
    for _ in 0..100 {
        let address = UdpSocket::bind((ip, 0))?.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::other("no port is free for both kinds"))
}

/// What follows the name of the program.
fn arguments(
    start: &Start<'_>,
    configuration: &Configuration,
    sip: SocketAddr,
    admin: SocketAddr,
    directory: &Path,
) -> io::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |argument: &dyn AsRef<OsStr>| arguments.push(argument.as_ref().to_owned());
    if let Some(role) = start.role {
        add(&role);
        add(&"--listen");
        add(&sip.to_string());
    } else {
        add(&"serve");
        add(&"--shards");
        add(&start.shards.to_string());
        add(&"--data-dir");
        add(&directory.join("data"));
        let by_file = start.by_file || start.durability.is_some() || start.changed_only;
        if by_file || !start.streams.is_empty() {
            let file = directory.join(FILE);
            fs::write(&file, configuration.text())?;
            add(&"--config");
            add(&file);
        } else {
            add(&"--listen");
            add(&format!("udp:{sip}"));
        }
    }
    add(&"--admin");
    add(&admin.to_string());
    Ok(arguments)
}

/// Whether a server says there that it serves.
pub fn is_ready(admin: SocketAddr) -> bool {
    Client::connect(admin)
        .and_then(|mut client| client.request("GET", "/readyz", ""))
        .is_ok_and(|answer| answer.status == 200)
}

/// A directory that no other run of this process or another has.
pub fn directory() -> io::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("lampfield-load-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Datagrams dropped at the UDP sockets bound to a local port (last column).
pub fn drops(port: u16) -> u64 {
    rows(port)
        .filter_map(|row| row.last()?.parse::<u64>().ok())
        .sum()
}

/// The names that the kernel gives to the UDP sockets bound to a local port (`inode`).
pub fn sockets(port: u16) -> BTreeSet<u64> {
    rows(port)
        .filter_map(|row| row.get(9)?.parse().ok())
        .collect()
}

/// The names of the TCP sockets that listen on a local port.
pub fn listening(port: u16) -> BTreeSet<u64> {
    const LISTENS: &str = "0A";
    rows_of(port, ["/proc/net/tcp", "/proc/net/tcp6"])
        .filter(|row| row.get(3).is_some_and(|state| state == LISTENS))
        .filter_map(|row| row.get(9)?.parse().ok())
        .collect()
}

/// The lines of `/proc/net/udp` for a local port, in columns.
fn rows(port: u16) -> impl Iterator<Item = Vec<String>> {
    rows_of(port, ["/proc/net/udp", "/proc/net/udp6"])
}

fn rows_of(port: u16, files: [&str; 2]) -> impl Iterator<Item = Vec<String>> {
    let suffix = format!(":{port:04X}");
    files
        .into_iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            text.lines().map(columns).collect::<Vec<Vec<String>>>()
        })
        .filter(move |row| row.get(1).is_some_and(|local| local.ends_with(&suffix)))
}
