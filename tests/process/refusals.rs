//! What the program refuses to start with, and in which words.

use crate::server::{Scratch, Server, errors, run};

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
fn a_wrong_file_is_shown_with_line_column_and_remedy() {
    let scratch = Scratch::new("wrong");
    let file = scratch.file(
        "lampfield.toml",
        "shards = 2\n[[listener]]\nadress = \"udp:127.0.0.1:5060\"\naddress = \"sctp:127.0.0.1:5060\"\n",
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
            text.contains(&format!("{file}:4:11: `sctp` is no transport")),
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
