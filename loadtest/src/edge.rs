//! A real edge proxy between phones and server: Kamailio, as the distribution has it, with `edge.cfg`.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::directory;
use crate::sys;

const CONFIGURATION: &str = include_str!("../edge.cfg");
const PATIENCE: Duration = Duration::from_secs(10);

/// A running proxy.
pub struct Edge {
    child: Child,
    /// Where phones send to.
    pub phones: SocketAddr,
    directory: PathBuf,
}

impl Edge {
    /// Starts it and waits until it listens on both sides.
    pub fn start(ip: IpAddr) -> io::Result<Self> {
        let free = || UdpSocket::bind((ip, 0))?.local_addr();
        let (phones, servers) = (free()?, free()?);
        let directory = directory()?;
        let file = directory.join("edge.cfg");
        fs::write(
            &file,
            CONFIGURATION.replace("SERVERS_SOCKET", &format!("udp:{servers}")),
        )?;
        let output = fs::File::create(directory.join("log"))?;
        let mut command = Command::new(program()?);
        command
            .args(["-DD", "-E", "-m", "1024", "-M", "16", "-b", "8388608", "-f"])
            .arg(&file)
            .args(["-A", &format!("PHONES=udp:{phones}")])
            .args(["-A", &format!("SERVERS=udp:{servers}")])
            .args(["-A", &format!("SERVERS_PORT={}", servers.port())])
            .args(["-A", &format!("MODULES=\"{}\"", modules()?)])
            .arg("-w")
            .arg(&directory)
            .arg("-Y")
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        sys::keep_on(&mut command, None);
        let mut edge = Edge {
            child: command.spawn()?,
            phones,
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        // It holds both ports once it listens.
        while UdpSocket::bind(phones).is_ok() || UdpSocket::bind(servers).is_ok() {
            if edge.child.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(edge.directory.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("Kamailio does not start:\n{log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(edge)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // Asked first, so that it ends its own processes.
        sys::terminate(self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while self.runs() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        let _waited = self.child.wait();
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

fn program() -> io::Result<&'static str> {
    ["/usr/sbin/kamailio", "/usr/local/sbin/kamailio"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .ok_or_else(|| missing("kamailio"))
}

fn modules() -> io::Result<String> {
    ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/kamailio/modules/"))
        .into_iter()
        .find(|path| Path::new(path).join("rr.so").is_file())
        .ok_or_else(|| missing("kamailio's modules"))
}

fn missing(what: &str) -> io::Error {
    io::Error::other(format!("{what}: `apt-get install kamailio`"))
}
