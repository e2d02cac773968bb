//! The real program, as people start it: its ports, its messages, its exit codes.
#![cfg(feature = "server")]

#[path = "process/phone.rs"]
mod phone;
#[path = "process/server.rs"]
mod server;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::Body;
use ureq::http::Response;

use phone::Phone;
use server::{PATIENCE, Scratch, Server, errors, lampfield, lines, run};

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent()
}

fn get(server: &Server, path: &str) -> Response<Body> {
    agent().get(server.url(path)).call().expect("an answer")
}

fn get_json(server: &Server, path: &str) -> Value {
    let mut response = get(server, path);
    assert_eq!(response.status(), 200, "{path}");
    response.body_mut().read_json().expect("JSON")
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(server.url(path))
        .header("Content-Type", "application/json")
        .body(body.to_owned())
        .expect("a request");
    let mut response = agent().run(request).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().unwrap_or_default())
}

#[test]
fn it_serves_on_ports_that_it_chose_and_tells() {
    let server = Server::start(&[]);
    assert_ne!(server.sip[0].port(), 0);
    assert!(
        server.banner.contains("watch 1001 --admin"),
        "{}",
        server.banner
    );
    let status = get_json(&server, "/v1/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["shards"], 2);
    assert_eq!(status["ready"], true);
    assert_eq!(status["listeners"][0]["address"], server.sip[0].to_string());
    assert_eq!(get(&server, "/healthz").status(), 200);
    assert_eq!(get(&server, "/readyz").status(), 200);
    let document = get_json(&server, "/v1/openapi.json");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_lamp_lights_and_goes_dark_again_and_the_counters_say_so() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    let answer = phone.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_eq!(answer.header("Expires"), "600");
    let first = phone.notified(|_| true);
    assert!(
        first.header("Subscription-State").starts_with("active"),
        "{first:?}"
    );
    assert_eq!(first.header("CSeq"), "1 NOTIFY");

    let set = server.tell(&["set-hint", "1001", "ringing"]);
    assert_eq!(set.status.code(), Some(0), "{}", errors(&set));
    let ringing = phone.notified(|notify| notify.has("early"));
    assert_eq!(ringing.header("CSeq"), "2 NOTIFY");
    let (status, answer) = send(&server, "PUT", "/v1/hints/1001", r#"{"state":"idle"}"#);
    assert_eq!((status, &answer["changed"]), (200, &json!(true)));
    phone.notified(|notify| notify.has("terminated"));

    let metrics = get(&server, "/metrics").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let sum = |name: &str, label: &str| -> u64 {
        let of = metrics
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        of.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()))
            .map(|value| value.expect("a number"))
            .sum()
    };
    assert_eq!(sum("lampfield_subscriptions_created_total", ""), 1);
    assert_eq!(sum("lampfield_notifies_total", "event=\"sent\""), 3);
    assert_eq!(sum("lampfield_bugs_total", ""), 0);
}

#[test]
fn a_publication_lights_a_lamp() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    let publisher = Phone::new(server.sip[0], "1001");
    let document = "<?xml version=\"1.0\"?>\r\n\
        <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" \
        entity=\"sip:1001@example.com\"><dialog id=\"d1\" direction=\"recipient\">\
        <state>early</state></dialog></dialog-info>";
    publisher.publish("1001", "dialog", "application/dialog-info+xml", document);
    let answer = publisher.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    assert_ne!(answer.header("SIP-ETag"), "");
    phone.notified(|notify| notify.has("early"));
}

#[test]
fn a_phone_that_must_authenticate_is_challenged_and_let_in() {
    let scratch = Scratch::new("digest");
    let file = scratch.file(
        "lampfield.toml",
        "[auth]\nrealm = \"here\"\nalgorithms = [\"SHA-256\"]\n[auth.users]\n100 = \"open sesame\"\n\
         [[listener]]\naddress = \"udp:127.0.0.1:0\"\nauth = true\n",
    );
    let server = Server::start_with(&["--config", &file]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    let challenge = phone.receive();
    assert!(challenge.0.starts_with("SIP/2.0 401 "), "{challenge:?}");
    let demand = challenge.header("WWW-Authenticate");
    let nonce = demand
        .split("nonce=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let nonce = nonce.expect("a nonce");
    let authorization = |password: &str| {
        let secret = sha256(&format!("100:here:{password}"));
        let request = sha256("SUBSCRIBE:sip:1001@here");
        let response = sha256(&format!("{secret}:{nonce}:00000001:c:auth:{request}"));
        format!(
            "Authorization: Digest username=\"100\", realm=\"here\", nonce=\"{nonce}\", \
             uri=\"sip:1001@here\", response=\"{response}\", algorithm=SHA-256, qop=auth, \
             nc=00000001, cnonce=\"c\"\r\n"
        )
    };
    phone.subscribe_with("1001", "dialog", 600, 2, &authorization("close sesame"));
    assert!(phone.receive().0.starts_with("SIP/2.0 401 "));
    phone.subscribe_with("1001", "dialog", 600, 3, &authorization("open sesame"));
    let answer = phone.receive();
    assert!(answer.0.starts_with("SIP/2.0 200 "), "{answer:?}");
    phone.notified(|_| true);
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn who_watches_what_is_listed_and_filtered() {
    let server = Server::start(&[]);
    for name in ["100", "101", "102"] {
        let phone = Phone::new(server.sip[0], name);
        phone.subscribe("1001", "dialog", 600);
        phone.notified(|_| true);
    }
    let like = |conditions: &str| {
        let output = server.tell(&["show", "subscriptions", "--json", "--like", conditions]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!(like(""), 3);
    assert_eq!(like("watcher=101"), 1);
    assert_eq!(like("expiry>0 package=dialog resource=100*"), 3);
    assert_eq!(like("expiry=0"), 0);
    let table = server.tell(&["show", "subscriptions"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains("WATCHER") && table.contains("102@"),
        "{table}"
    );
    let wrong = server.tell(&["show", "subscriptions", "--like", "expires=0"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(errors(&wrong).contains("is no field"), "{}", errors(&wrong));
    // Page by page, each of them once.
    let mut seen = Vec::new();
    let mut path = "/v1/subscriptions?limit=1".to_owned();
    loop {
        let page = get_json(&server, &path);
        for row in page["subscriptions"].as_array().expect("rows") {
            seen.push(row["watcher"].to_string());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/v1/subscriptions?limit=1&cursor={next}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn every_change_is_streamed_and_watched() {
    let server = Server::start(&[]);
    let body = agent().get(server.url("/v1/events?resource=1001")).call();
    let stream = lines(body.expect("a stream").into_body().into_reader());
    let event = || loop {
        let line = stream.recv_timeout(PATIENCE).expect("an event");
        if let Some(data) = line.strip_prefix("data:") {
            return serde_json::from_str::<Value>(data).expect("JSON");
        }
    };
    assert_eq!(
        event()["lamp"],
        "terminated",
        "the present state comes first"
    );

    let mut watch = lampfield()
        .args(["watch", "1001", "--admin", &server.admin.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut watched = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut watched = || watched.next().expect("a line").expect("text");
    assert!(watched().contains("terminated"));

    send(&server, "PUT", "/v1/hints/1002", r#"{"state":"busy"}"#);
    let call = r#"{"state":"ringing","calls":[{"state":"early","direction":"recipient",
        "remote":{"identity":"sip:1002@example.com","display":"Bob"}}]}"#;
    assert_eq!(send(&server, "PUT", "/v1/hints/1001", call).0, 200);
    let ringing = event();
    assert_eq!(ringing["lamp"], "early");
    assert_eq!(ringing["calls"][0]["remote"]["display"], "Bob");
    let line = watched();
    assert!(
        line.contains("early") && line.contains("\"Bob\" <sip:1002@example.com>"),
        "{line}"
    );
    let _ = watch.kill();
    let _ = watch.wait();
}

#[test]
fn an_older_change_is_refused_with_the_values_that_stand() {
    let server = Server::start(&[]);
    let path = "/v1/hints/1001";
    let newer = r#"{"state":"busy","source":"pbx","epoch":2,"seq":5}"#;
    assert_eq!(send(&server, "PUT", path, newer).0, 200);
    let older = r#"{"state":"idle","source":"pbx","epoch":2,"seq":4}"#;
    let (status, problem) = send(&server, "PUT", path, older);
    assert_eq!(status, 409);
    assert_eq!(problem["standing"], json!({ "epoch": 2, "seq": 5 }));
    assert_eq!(problem["status"], 409);
    let (status, _) = send(
        &server,
        "DELETE",
        "/v1/hints/1001?source=pbx&epoch=2&seq=6",
        "",
    );
    assert_eq!(status, 204);
    assert_eq!(
        send(&server, "DELETE", "/v1/hints/1001?source=nobody", "").0,
        404
    );
}

#[test]
fn a_feed_that_comes_back_clears_what_it_does_not_name_on_every_shard() {
    let server = Server::start(&[]);
    let said = |numbers: core::ops::Range<u64>, epoch: u64| {
        let items: Vec<Value> = numbers
            .map(|number| {
                json!({ "resource": format!("{number}"), "state": "busy", "source": "pbx",
                    "epoch": epoch, "seq": number })
            })
            .collect();
        json!(items).to_string()
    };
    let (status, _) = send(&server, "POST", "/v1/hints", &said(1000..1040, 1));
    assert_eq!(status, 200);
    let phones: Vec<Phone> = [1000, 1001, 1002, 1003]
        .into_iter()
        .map(|number| {
            let phone = Phone::new(server.sip[0], "200");
            phone.subscribe(&format!("{number}"), "dialog", 600);
            phone.notified(|notify| notify.has("confirmed"));
            phone
        })
        .collect();
    let path = "/v1/hints?source=pbx&epoch=2&snapshot=whole";
    let (status, answer) = send(&server, "POST", path, &said(1004..1040, 2));
    assert_eq!((status, &answer["accepted"]), (200, &json!(36)));
    for phone in phones {
        phone.notified(|notify| notify.has("terminated"));
    }
    let (status, problem) = send(
        &server,
        "POST",
        "/v1/hints?source=pbx&epoch=1&snapshot=begin",
        "[]",
    );
    assert_eq!(status, 409);
    assert_eq!(problem["standing"]["epoch"], 2);
    let (status, _) = send(&server, "POST", "/v1/hints?snapshot=whole", "[]");
    assert_eq!(status, 400);
}

#[test]
fn many_hints_have_a_result_each() {
    let server = Server::start(&[]);
    let mut items: Vec<Value> = (0..10_000)
        .map(|number| json!({ "resource": format!("{}", 10_000 + number), "state": "busy" }))
        .collect();
    items[17] = json!({ "resource": "", "state": "busy" });
    items[18] = json!({ "resource": "10018", "remove": true });
    let (status, answer) = send(&server, "POST", "/v1/hints", &json!(items).to_string());
    assert_eq!(status, 200);
    assert_eq!(answer["accepted"], 9_998);
    assert_eq!(answer["results"][16]["status"], 200);
    assert_eq!(answer["results"][17]["status"], 404);
    assert_eq!(answer["results"][18]["status"], 404);
    assert_eq!(get_json(&server, "/v1/status")["resources"], 9_998);
    items.push(json!({ "resource": "1", "state": "busy" }));
    let (status, problem) = send(&server, "POST", "/v1/hints", &json!(items).to_string());
    assert_eq!((status, &problem["status"]), (413, &json!(413)));
}

#[test]
fn what_cannot_be_understood_is_refused_with_its_place() {
    let server = Server::start(&[]);
    for (method, path, body, status, detail) in [
        (
            "PUT",
            "/v1/hints/1",
            r#"{"state":"ringin"}"#,
            400,
            "state: unknown state `ringin`",
        ),
        (
            "PUT",
            "/v1/hints/1",
            r#"{"state":"idle","x":1}"#,
            400,
            "unknown field `x`",
        ),
        (
            "PUT",
            "/v1/hints/1",
            r#"{"state":"idle","calls":[{"state":"up"}]}"#,
            400,
            "calls[0].state",
        ),
        ("PUT", "/v1/hints/1", "{}", 400, "one of `state`"),
        ("PUT", "/v1/hints/1", "{", 400, "EOF"),
        (
            "POST",
            "/v1/hints",
            r#"[{"resource":"1","state":"no"}]"#,
            400,
            "[0].state",
        ),
        ("GET", "/v1/hints/nobody", "", 404, "nothing is known"),
        ("GET", "/v1/nothing", "", 404, "no path"),
        ("PATCH", "/v1/hints/1", "", 405, "Allow"),
        ("GET", "/v1/hints?limit=0", "", 400, "limit"),
        ("GET", "/v1/hints?cursor=x", "", 400, "cursor"),
        ("GET", "/v1/subscriptions?likes=x", "", 400, "likes"),
        ("POST", "/v1/reload", "", 501, "restart"),
    ] {
        let (answered, problem) = send(&server, method, path, body);
        assert_eq!(answered, status, "{method} {path} {body}: {problem}");
        let text = problem["detail"].as_str().unwrap_or_default();
        assert!(text.contains(detail), "{method} {path} {body}: {problem}");
        assert_eq!(problem["status"], status);
    }
    let long = format!(r#"{{"state":"idle","note":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(send(&server, "PUT", "/v1/hints/1", &long).0, 413);
    let plain = agent().put(server.url("/v1/hints/1")).send("state=idle");
    assert_eq!(plain.expect("an answer").status(), 415);
}

#[test]
fn a_token_is_demanded_where_one_is_configured() {
    let scratch = Scratch::new("token");
    let token = scratch.file("admin.token", "0123456789abcdef0123\n");
    let file = scratch.file("lampfield.toml", "[admin]\ntoken_file = \"admin.token\"\n");
    let server = Server::start(&["--config", &file]);
    assert_eq!(get(&server, "/v1/status").status(), 401);
    assert_eq!(get(&server, "/metrics").status(), 401);
    assert_eq!(get(&server, "/healthz").status(), 200);
    let refused = server.tell(&["show", "hints"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors(&refused).contains("token"), "{}", errors(&refused));
    let shown = server.tell(&["show", "hints", "--json", "--token-file", &token]);
    assert_eq!(shown.status.code(), Some(0), "{}", errors(&shown));
}

#[test]
fn sigterm_tells_the_phones_and_ends_with_0() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    server.signal("HUP");
    server.signal("TERM");
    let last = phone.notified(|_| true);
    assert_eq!(
        last.header("Subscription-State"),
        "terminated;reason=deactivated"
    );
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("needs a restart"), "{log}");
    assert!(log.contains("told=1 unanswered=0"), "{log}");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let server = Server::start(&[]);
    // A phone that never answers keeps the server waiting for it.
    let phone = Phone::new(server.sip[0], "100");
    phone.subscribe("1001", "dialog", 600);
    phone.notified(|_| true);
    server.signal("TERM");
    while get(&server, "/readyz").status() == 200 {}
    server.signal("TERM");
    let (code, log) = server.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("stopped at once"), "{log}");
    drop(phone);
}

#[test]
fn secrets_are_kept_in_the_data_directory() {
    let scratch = Scratch::new("data");
    let directory = scratch.0.join("data");
    let directory = directory.to_str().expect("a plain path");
    let secrets = || std::fs::read(scratch.0.join("data/secrets")).expect("secrets");
    let server = Server::start(&["--data-dir", directory]);
    let first = secrets();
    server.signal("INT");
    assert_eq!(server.ended().0, Some(0));
    let server = Server::start(&["--data-dir", directory]);
    assert_eq!(secrets(), first);
    server.signal("INT");
    assert_eq!(server.ended().0, Some(0));
}

#[test]
fn an_open_door_is_refused_with_the_line_to_write() {
    let output = run(&[
        "serve",
        "--listen",
        "udp:0.0.0.0:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(
        text.contains("can be reached from other machines"),
        "{text}"
    );
    assert!(text.contains("trusted = [\"192.168.0.0/16\"]"), "{text}");
    let output = run(&[
        "serve",
        "--listen",
        "udp:127.0.0.1:0",
        "--admin",
        "0.0.0.0:0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("token_file"),
        "{}",
        errors(&output)
    );
}

#[test]
fn a_trusted_network_opens_a_wildcard_listener_to_itself_only() {
    let arguments = ["--listen", "udp:0.0.0.0:0", "--trusted", "127.0.0.1"];
    let server = Server::start(&arguments);
    let sip = server
        .sip
        .iter()
        .find(|address| address.ip().is_unspecified());
    let port = sip.expect("the wildcard").port();
    let near = Phone::new(([127, 0, 0, 1], port).into(), "100");
    near.subscribe("1001", "dialog", 600);
    assert!(near.receive().0.starts_with("SIP/2.0 200 "));
    near.notified(|_| true);
}

#[test]
fn a_wrong_file_is_shown_with_line_column_and_remedy() {
    let scratch = Scratch::new("wrong");
    let file = scratch.file(
        "lampfield.toml",
        "shards = 2\n[[listener]]\nadress = \"udp:127.0.0.1:5060\"\naddress = \"tcp:127.0.0.1:5060\"\n",
    );
    for arguments in [&["check", &file][..], &["serve", "--config", &file]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = errors(&output);
        assert!(
            text.contains(&format!("{file}:3:1: unknown key `adress`")),
            "{text}"
        );
        assert!(text.contains("did you mean `address`?"), "{text}");
        assert!(
            text.contains(&format!("{file}:4:11: `tcp` is not in this version")),
            "{text}"
        );
    }
    let good = scratch.file("good.toml", "shards = 2\n");
    assert_eq!(run(&["check", &good]).status.code(), Some(0));
    let missing = run(&["check", "/nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        errors(&missing).contains("/nowhere.toml"),
        "{}",
        errors(&missing)
    );
}

#[test]
fn usage_is_2_and_a_server_that_is_not_there_is_1() {
    assert_eq!(run(&["serve", "--persist"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["version"]).status.code(), Some(0));
    let nobody = run(&["show", "hints", "--admin", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        errors(&nobody).contains("no answer from"),
        "{}",
        errors(&nobody)
    );
}

#[test]
fn a_taken_port_is_named() {
    let server = Server::start(&[]);
    let listen = format!("udp:{}", server.sip[0]);
    let output = run(&["serve", "--listen", &listen, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&listen), "{}", errors(&output));
    let admin = server.admin.to_string();
    let output = run(&["serve", "--listen", "udp:127.0.0.1:0", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains(&admin), "{}", errors(&output));
}

#[test]
fn garbage_is_survived() {
    let server = Server::start(&[]);
    let phone = Phone::new(server.sip[0], "100");
    for bytes in [
        &b""[..],
        b"\0\0\0\0",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 9_000],
    ] {
        phone.send(bytes);
    }
    phone.subscribe("1001", "presence", 600);
    assert!(phone.receive().0.starts_with("SIP/2.0 200 "));
    assert!(phone.notified(|_| true).has("application/pidf+xml"));
}
