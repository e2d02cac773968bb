//! What HTTP takes and gives: hints, streams, refusals, the token.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::client::{agent, get, get_json, send};
use crate::phone::Phone;
use crate::server::{PATIENCE, Scratch, Server, errors, lampfield, lines};

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
        ("POST", "/v1/reload", "", 409, "without --config"),
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
fn metrics_tell_of_shards_listeners_and_the_process() {
    let server = Server::start(&[]);
    let text = get(&server, "/metrics").body_mut().read_to_string();
    let text = text.expect("text");
    for name in [
        "lampfield_subscriptions{",
        "lampfield_transport_generation ",
        "process_resident_memory_bytes ",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.rsplit(' ').next());
        assert!(
            value.is_some_and(|value| value.parse::<f64>().is_ok()),
            "{name} in {text}"
        );
    }
}
