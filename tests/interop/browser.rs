//! A page in Chromium with SIP.js, which nobody has told of Lampfield: it opens a secure WebSocket, subscribes, and what
//! it shows is read out of it by the protocol of its developer tools.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::authority::Authority;
use crate::ours;
use crate::support::{PATIENCE, Program, Scratch, Server, await_that, free, need};

/// Where `cargo xtask packages` puts SIP.js.
fn sip_js() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let folder = target
        .expect("the target directory")
        .join("npm/sip.js-0.21.2");
    assert!(
        folder.join("lib/index.js").is_file(),
        "this test needs SIP.js: `cargo xtask packages` fetches it"
    );
    folder
}

/// Serves the page and the files of SIP.js for as long as the test runs.
fn serve_site() -> SocketAddr {
    let folder = sip_js();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // A browser that has gone away meanwhile is no failure.
            thread::spawn(move || drop(answer(stream, &folder)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let (file, kind) = match path.strip_prefix("/sip.js/") {
        Some(rest) if !rest.contains("..") => (folder.join(rest), "text/javascript"),
        Some(_) | None => (ours("tests/interop/page.html"), "text/html"),
    };
    let body = fs::read(file).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

/// A browser with one page.
struct Browser {
    program: Program,
    tools: WebSocket<TcpStream>,
    asked: u64,
}

impl Browser {
    /// `key`: the one that is believed without a certificate that the machine trusts.
    fn open(scratch: &Scratch, url: &str, key: &str) -> Browser {
        need("chromium", "chromium");
        let profile = scratch.path().join("profile");
        let mut command = Command::new("chromium");
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args([
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
            ])
            // It talks to this test and to nobody else.
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-sync",
                "--no-proxy-server",
                "--remote-debugging-port=0",
            ])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--ignore-certificate-errors-spki-list={key}"))
            .arg(url)
            .stdin(Stdio::null());
        let mut program = Program::start(&mut command, scratch.path().join("chromium.output"));
        let mut address = None;
        await_that("Chromium opens the page", || {
            program.assert_running();
            let port = fs::read_to_string(profile.join("DevToolsActivePort")).ok();
            let port = port.and_then(|text| text.lines().next()?.parse::<u16>().ok());
            address = port.and_then(|port| page_of(port, url));
            address.is_some()
        });
        let (port, address) = address.expect("it was awaited");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (tools, _) = tungstenite::client(address, stream).expect("it opens");
        Browser {
            program,
            tools,
            asked: 0,
        }
    }

    /// What an expression is on the page.
    fn evaluate(&mut self, expression: &str) -> Value {
        self.program.assert_running();
        self.asked += 1;
        let question = json!({
            "id": self.asked,
            "method": "Runtime.evaluate",
            "params": { "expression": expression, "returnByValue": true, "awaitPromise": true },
        });
        let question = Message::Text(question.to_string().into());
        self.tools.send(question).expect("it is asked");
        loop {
            let Message::Text(text) = self.tools.read().expect("it answers") else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == self.asked {
                return answer["result"]["result"]["value"].clone();
            }
        }
    }

    /// Waits until an element of the page shows this.
    fn await_shown(&mut self, element: &str, text: &str) {
        let expression = format!("document.getElementById('{element}')?.textContent");
        let mut shown = Value::Null;
        let seen = (0..3_000).any(|_| {
            shown = self.evaluate(&expression);
            shown == text || {
                thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
        let all = self.evaluate("document.body?.innerText");
        assert!(seen, "{element} shows {shown}, not {text}: {all}");
    }
}

/// The port and the address of the developer tools of the page that has been loaded from there.
fn page_of(port: u16, url: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let pages: Value = serde_json::from_slice(&body).ok()?;
    let page = pages.as_array()?.iter().find(|page| page["url"] == url)?;
    Some((port, page["webSocketDebuggerUrl"].as_str()?.to_owned()))
}

#[test]
fn a_page_in_a_browser_shows_dialogs_and_presence_over_secure_websocket() {
    let scratch = Scratch::new("browser");
    let authority = Authority::new(scratch.path());
    let key = authority.issue("lampfield");
    let address = free(Ipv4Addr::LOCALHOST);
    let site = serve_site();
    let server = Server::start_with(&format!(
        "[[listener]]\naddress = \"wss:{address}\"\npath = \"/sip\"\norigins = [\"http://{site}\"]\n{}",
        authority.keys("lampfield")
    ));
    let url = format!("http://{site}/?server=wss://{address}/sip");
    let mut browser = Browser::open(&scratch, &url, &key);
    browser.await_shown("connection", "Connected");
    browser.await_shown("presence", "closed");
    server.await_metric("lampfield_subscriptions", &["active"], 2);
    for (state, dialog, presence) in [
        ("ringing", "early", "open"),
        ("inuse", "confirmed", "open"),
        ("idle", "terminated", "open"),
    ] {
        server.set_hint("1001", state);
        browser.await_shown("dialog", dialog);
        browser.await_shown("presence", presence);
        // Its connection lives on over a swap, and over a certificate that it would not believe.
        authority.issue("lampfield");
        assert_eq!(server.http("POST", "/v1/reload", "").0, 200);
    }
    browser.evaluate("window.leave()");
    server.await_metric("lampfield_subscriptions", &["active"], 0);
    assert_eq!(server.metric("lampfield_connections", &[]), 1);
    assert_eq!(server.metric("lampfield_bugs_total", &[]), 0);
    assert_eq!(server.metric("lampfield_notifies_total", &["timed_out"]), 0);
}
