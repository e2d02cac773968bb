//! A new configuration for a server that runs: asked for by HTTP, by the command and by SIGHUP.

use serde_json::{Value, json};

use crate::client::{agent, get, send};
use crate::phone::{Phone, Received};
use crate::server::{Scratch, Server, errors};

/// A server with a file of its own that can be written anew.
struct Case {
    server: Server,
    scratch: Scratch,
    file: String,
}

impl Case {
    fn start(name: &str, text: &str) -> Case {
        let scratch = Scratch::new(name);
        let file = scratch.file("lampfield.toml", &Case::text(text));
        let server = Server::start_with(&["--config", &file]);
        Case {
            server,
            scratch,
            file,
        }
    }

    /// What all of these files have.
    fn text(text: &str) -> String {
        format!("{text}\n[[listener]]\naddress = \"udp:127.0.0.1:0\"\nauth = true\n")
    }

    fn write(&self, text: &str) {
        self.scratch.file("lampfield.toml", &Case::text(text));
    }

    fn post(&self) -> (u16, Value) {
        send(&self.server, "POST", "/v1/reload", "")
    }

    /// Writes a file that must be taken, and says what is new in it.
    fn take(&self, text: &str) -> Value {
        self.write(text);
        let (status, answer) = self.post();
        assert_eq!(status, 200, "{answer}");
        answer["changed"].clone()
    }

    /// What a SUBSCRIBE of 100 with this password gets.
    fn subscribe(&self, phone: &Phone, user: &str, password: &str) -> Received {
        phone.subscribe(user, "dialog", 590);
        let challenge = phone.answered();
        assert!(challenge.0.starts_with("SIP/2.0 401 "), "{challenge:?}");
        let extra = challenge.credentials("100", password, "SUBSCRIBE");
        phone.subscribe_with(user, "dialog", 590, 2, &extra);
        phone.answered()
    }
}

const USERS: &str =
    "[auth]\nrealm = \"here\"\nalgorithms = [\"SHA-256\"]\n[auth.users]\n100 = \"open sesame\"\n";

#[test]
fn new_passwords_rules_and_limits_hold_and_what_was_granted_stays() {
    let case = Case::start("reload-live", USERS);
    let old = Phone::new(case.server.sip[0], "100");
    let granted = case.subscribe(&old, "1001", "open sesame");
    assert_eq!(granted.header("Expires"), "590", "{granted:?}");
    assert_eq!(old.notified(|_| true).header("CSeq"), "1 NOTIFY");

    let users = USERS.replace("open", "close");
    let rules = "[[access.rule]]\nresource = \"1009@*\"\nallow = false\n\
        [packages.dialog]\nexpires_max = 120\nexpires_default = 120\n[notify]\ncall_details = false\n";
    let changed = case.take(&format!("{users}{rules}"));
    assert_eq!(changed, json!(["auth", "access", "packages", "notify"]));

    // The old subscription lives, and goes on counting.
    let set = case.server.tell(&["set-hint", "1001", "ringing"]);
    assert_eq!(set.status.code(), Some(0), "{}", errors(&set));
    let ringing = old.notified(|notify| notify.has("early"));
    assert_eq!(ringing.header("CSeq"), "2 NOTIFY");
    assert!(ringing.header("Subscription-State").starts_with("active"));

    let phone = |name: &str| Phone::named(case.server.sip[0], "100", name);
    let refused = case.subscribe(&phone("a"), "1001", "open sesame");
    assert!(refused.0.starts_with("SIP/2.0 401 "), "{refused:?}");
    let taken = case.subscribe(&phone("b"), "1001", "close sesame");
    assert!(taken.0.starts_with("SIP/2.0 200 "), "{taken:?}");
    assert_eq!(taken.header("Expires"), "120");
    let denied = case.subscribe(&phone("c"), "1009", "close sesame");
    assert!(denied.0.starts_with("SIP/2.0 403 "), "{denied:?}");

    let (status, again) = case.post();
    assert_eq!((status, &again["changed"]), (200, &json!([])));
}

#[test]
fn a_wrong_file_changes_nothing_and_the_command_shows_the_place() {
    let case = Case::start("reload-wrong", USERS);
    case.write(
        &format!("{}\nexpire = 7\n", USERS.replace("open", "close"))
            .replace("[auth.users]", "strict_url = true\n[auth.users]"),
    );
    let place = format!("{}:4:1: unknown key `strict_url`", case.file);
    let (status, problem) = case.post();
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["type"], "urn:lampfield:problem:wrong-configuration");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains(&place), "{detail}");
    assert!(detail.contains("did you mean `strict_uri`?"), "{detail}");

    let told = case.server.tell(&["reload"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        errors(&told)
            .lines()
            .any(|line| line == place || line.starts_with(&place)),
        "{}",
        errors(&told)
    );
    // By the password of the file before.
    let phone = Phone::new(case.server.sip[0], "100");
    let taken = case.subscribe(&phone, "1001", "open sesame");
    assert!(taken.0.starts_with("SIP/2.0 200 "), "{taken:?}");
}

#[test]
fn what_needs_a_restart_is_refused_by_name_and_with_it_the_whole_file() {
    let case = Case::start("reload-restart", USERS);
    let other = "log = \"debug\"\ndata_dir = \"elsewhere\"\n[hints]\ndnd_shows = \"terminated\"\n";
    case.write(&format!("{other}{USERS}"));
    let (status, problem) = case.post();
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["keys"], json!(["data_dir", "hints"]));
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("restart it"), "{detail}");
    let told = case.server.tell(&["reload"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        errors(&told).contains("data_dir, hints"),
        "{}",
        errors(&told)
    );
    case.write(USERS);
    let (status, answer) = case.post();
    assert_eq!((status, &answer["changed"]), (200, &json!([])));
    assert!(!case.scratch.0.join("elsewhere").exists());
}

#[test]
fn sighup_and_the_command_reload_and_the_log_has_a_line_for_each() {
    let case = Case::start("reload-ways", USERS);
    let told = case.server.tell(&["reload"]);
    assert_eq!(told.status.code(), Some(0), "{}", errors(&told));
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(said.contains("nothing has changed"), "{said}");

    case.write(&format!("log = \"debug\"\n{USERS}"));
    case.server.signal("HUP");
    let line = case.server.logged("reload: new configuration");
    assert!(
        line.contains("SIGHUP") && line.contains("changed=\"log\""),
        "{line}"
    );

    let token = "0123456789abcdef0123";
    case.write(&format!("{USERS}[admin]\ntoken = \"{token}\"\n"));
    // The port is open until the token has been taken.
    let told = case.server.tell(&["reload"]);
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(said, "new: admin.token, log\n", "{}", errors(&told));
    assert_eq!(get(&case.server, "/v1/status").status(), 401);
    let answer = agent()
        .get(case.server.url("/v1/status"))
        .header("Authorization", format!("Bearer {token}"))
        .call();
    assert_eq!(answer.expect("an answer").status(), 200);

    // What is told at the end on this level shows that it holds.
    case.write(&format!(
        "log = \"debug\"\n{USERS}[admin]\ntoken = \"{token}\"\n"
    ));
    case.server.signal("HUP");
    case.server.logged("changed=\"log\"");
    case.server.signal("TERM");
    let (code, log) = case.server.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("shard ended"), "{log}");
}

#[test]
fn without_a_file_there_is_nothing_to_read_again() {
    let server = Server::start(&[]);
    let told = server.tell(&["reload"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        errors(&told).contains("without --config"),
        "{}",
        errors(&told)
    );
    server.signal("HUP");
    let line = server.logged("SIGHUP");
    assert!(line.contains("without --config"), "{line}");
    let page = agent()
        .post(server.url("/v1/reload"))
        .header("Origin", "http://page.example")
        .send_empty();
    assert_eq!(page.expect("an answer").status(), 403);
}
