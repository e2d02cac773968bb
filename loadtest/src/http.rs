//! As much of an HTTP client as setting hints and reading metrics takes, and a thread that sets hints
//! so that the phones' thread never waits for an answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How many hints one request may carry beside its first.
const BULK: usize = 999;
/// What the type of every problem begins with, and that of one which may pass.
const PROBLEM: &str = "urn:lampfield:problem";
const UNAVAILABLE: &str = "urn:lampfield:problem:unavailable";

/// A connection that is kept.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// Whether it refuses for now only. Of many hints some may have been taken: they are said once more, too.
    fn is_for_now(&self) -> bool {
        let problems = self.body.matches(PROBLEM).count();
        let for_now = self.body.matches(UNAVAILABLE).count();
        self.status == 503 || (problems > 0 && problems == for_now)
    }
}

impl Client {
    pub fn connect(admin: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(admin)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    pub fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("not an HTTP answer"))?;
        let mut length = None;
        let mut chunked = false;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            chunked |= header.starts_with("transfer-encoding:") && header.ends_with("chunked");
        }
        let body = if chunked {
            self.read_chunks()?
        } else {
            self.read_exactly(length.unwrap_or(0))?
        };
        Ok(Answer { status, body })
    }

    fn read_exactly(&mut self, length: usize) -> io::Result<String> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    fn read_chunks(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            text += &self.read_exactly(length)?;
            self.read_exactly(2)?;
            if length == 0 {
                return Ok(text);
            }
        }
    }
}

/// A thread that sets hints in order.
pub struct Feeder {
    sender: Option<Sender<(String, String)>>,
    thread: Option<JoinHandle<io::Result<u64>>>,
}

impl Feeder {
    /// `bulk`: what piled up goes out in one request.
    pub fn start(admin: SocketAddr, bulk: bool) -> io::Result<Self> {
        Ok(Self::start_on(Line::open(admin)?, bulk))
    }

    /// One that says everything again to a server that was killed before it had answered.
    pub fn stubborn(admin: SocketAddr) -> io::Result<Self> {
        let mut line = Line::open(admin)?;
        line.stubborn = true;
        Ok(Self::start_on(line, true))
    }

    fn start_on(line: Line, bulk: bool) -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || feed(line, &receiver, bulk));
        Feeder {
            sender: Some(sender),
            thread: Some(thread),
        }
    }

    /// `PUT /v1/hints/RESOURCE`, soon.
    pub fn set(&self, resource: &str, json: String) {
        let sender = self.sender.as_ref().expect("it is there until finish");
        // A feeder that failed says so in `finish`.
        let _sent = sender.send((resource.to_owned(), json));
    }

    /// Waits until all are set; how many were.
    pub fn finish(mut self) -> io::Result<u64> {
        drop(self.sender.take());
        let thread = self.thread.take().expect("finish takes it");
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the feeder panicked")))
    }
}

/// The feeder's way to the server.
struct Line {
    admin: SocketAddr,
    client: Client,
    /// The server may end at any moment, and comes back.
    stubborn: bool,
}

impl Line {
    fn open(admin: SocketAddr) -> io::Result<Self> {
        Ok(Line {
            admin,
            client: Client::connect(admin)?,
            stubborn: false,
        })
    }

    /// Says it until it is answered well; whoever is not stubborn says it once.
    fn say(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        loop {
            let answer = self.client.request(method, path, body);
            match answer {
                Ok(answer) if !self.stubborn || !answer.is_for_now() => {
                    return expect_good(&answer);
                }
                Err(error) if !self.stubborn => return Err(error),
                // Down, not up yet, or standing still.
                Ok(_) | Err(_) => {}
            }
            thread::sleep(Duration::from_millis(5));
            if let Ok(client) = Client::connect(self.admin) {
                self.client = client;
            }
        }
    }
}

fn feed(mut line: Line, changes: &Receiver<(String, String)>, bulk: bool) -> io::Result<u64> {
    let most = if bulk { BULK } else { 0 };
    let mut count = 0;
    while let Ok(first) = changes.recv() {
        let more: Vec<(String, String)> = changes.try_iter().take(most).collect();
        if more.is_empty() {
            let path = format!("/v1/hints/{}", first.0);
            line.say("PUT", &path, &first.1)?;
        } else {
            // What piled up while the last one was answered goes out together: a queue here would look like a late lamp.
            let all = std::iter::once(&first).chain(&more);
            let hints: Vec<String> = all.map(|(resource, json)| named(resource, json)).collect();
            let body = format!("[{}]", hints.join(","));
            line.say("POST", "/v1/hints", &body)?;
        }
        count += 1 + more.len() as u64;
    }
    Ok(count)
}

/// The JSON of a hint among many: with its resource in it.
fn named(resource: &str, json: &str) -> String {
    format!("{{\"resource\":\"{resource}\",{}", &json[1..])
}

fn expect_good(answer: &Answer) -> io::Result<()> {
    // Among many, each has a problem of its own.
    let each = !answer.body.contains(PROBLEM);
    if (200..300).contains(&answer.status) && each {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a hint was answered {}: {}",
        answer.status, answer.body
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, problems: &[&str]) -> Answer {
        let results = problems.iter();
        let results = results.map(|of| format!("{{\"type\":\"urn:lampfield:problem:{of}\"}}"));
        let body = results.collect::<Vec<_>>().join(",");
        Answer { status, body }
    }

    #[test]
    fn what_may_pass_is_said_again_and_what_is_wrong_is_not() {
        assert!(answer(503, &[]).is_for_now());
        assert!(answer(200, &["unavailable", "unavailable"]).is_for_now());
        assert!(!answer(200, &["unavailable", "invalid"]).is_for_now());
        assert!(!answer(200, &[]).is_for_now());
        assert!(expect_good(&answer(200, &[])).is_ok());
        assert!(expect_good(&answer(200, &["invalid"])).is_err());
    }
}
