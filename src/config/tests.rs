//! Whole files, as people write them.

use super::file::parse;
use super::settings::{Config, Flags, Pin};
use crate::policy::{Algorithm, Otherwise, SourceLimits};
use crate::shard::settings::RetryAfter;
use crate::state::DndShows;
use crate::subscription::outcome::OnTimeout;
use crate::transport::NatMode;

fn good(text: &str, flags: &Flags) -> Config {
    parse("lampfield.toml", text, flags).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(text: &str, flags: &Flags) -> String {
    match parse("lampfield.toml", text, flags) {
        Ok(_) => panic!("was taken:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

fn listen(addresses: &[&str]) -> Flags {
    Flags {
        listen: addresses.iter().map(|&text| text.to_owned()).collect(),
        ..Flags::default()
    }
}

const EVERYTHING: &str = r#"
shards = 2
pin = "0, 2"
data_dir = "/var/lib/lampfield"
log = "debug"
default_domain = "example.com"
trusted = ["192.0.2.0/24"]
edges = ["192.0.2.5"]
shared_watchers = ["panel@example.com"]

[[listener]]
address = "udp:0.0.0.0:5060"
advertise = "sip.example.com:5070"
nat = "always"

[[listener]]
address = "udp:127.0.0.1:5060"

[admin]
address = "127.0.0.1:8061"
token = "0123456789abcdef"

[domains]
"example.com" = ["sip.example.com", "192.0.2.10"]
"example.net" = []

[auth]
realm = "example.com"
algorithms = ["SHA-256"]
nonce_life = 600
strict_uri = true

[auth.users]
alice = "secret"
bob = { password = "other", domain = "example.net" }

[access]
publish = "own"

[[access.rule]]
action = "watch"
identity = "*@example.net"
resource = "1???@example.com"
allow = false

[packages.dialog]
expires_min = 30
expires_default = 600
expires_max = 900

[limits]
connections_per_source = 100
handshakes_per_source = 10
connections_per_edge = 5000

[notify]
on_timeout = "park"
call_details = false

[publish]
expires_default = 600
expires_max = 1800

[dns]
servers = ["192.0.2.53", "[2001:db8::53]:5353"]
timeout = 3

[hints]
dnd_shows = "terminated"
mailbox_source = "voicemail"
"#;

#[test]
fn every_key_is_read() {
    let config = good(EVERYTHING, &Flags::default());
    assert_eq!(config.shards, Some(2));
    assert_eq!(config.pin, Pin::List(vec![0, 2]));
    assert_eq!(config.log, "debug");
    let first = &config.listeners[0];
    assert_eq!(first.address, "0.0.0.0:5060".parse().expect("an address"));
    let advertise = first.advertise.as_ref().expect("it is advertised");
    assert_eq!(
        (&*advertise.host, advertise.port),
        ("sip.example.com", Some(5070))
    );
    assert_eq!(config.admin.token.as_deref(), Some("0123456789abcdef"));
    let policy = &config.policy;
    assert_eq!(policy.domains.default, "example.com");
    assert_eq!(policy.domains.domains[0].aliases.len(), 2);
    assert_eq!(policy.digest.algorithms, [Algorithm::Sha256]);
    assert_eq!(policy.digest.nonce_life_seconds, 600);
    assert!(policy.digest.strict_uri);
    assert_eq!(policy.users.len(), 2);
    assert_eq!(policy.access.publish, Otherwise::Own);
    assert_eq!(policy.access.watch, Otherwise::SameDomain);
    assert!(!policy.access.rules[0].allow);
    assert_eq!(policy.gates[0].realm.as_deref(), Some("example.com"));
    assert_eq!(policy.gates[0].nat, NatMode::Always);
    assert_eq!(
        policy.gates[1].realm, None,
        "loopback asks nobody by default"
    );
    assert_eq!(policy.shared_watchers, ["panel@example.com"]);
    let dialog = config.subscribe_expiry[0];
    assert_eq!((dialog.min_seconds, dialog.max_seconds), (30, 900));
    assert_eq!(config.subscribe_expiry[1].max_seconds, 3600);
    assert_eq!(config.publish_expiry.max_seconds, 1800);
    let sources = SourceLimits {
        connections: 100,
        handshakes: 10,
        connections_per_edge: 5000,
    };
    assert_eq!(config.sources, sources);
    let dns = config.dns.expect("names are looked up");
    assert_eq!(dns.timeout.as_secs(), 3);
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
    assert_eq!(config.on_timeout, OnTimeout::Park);
    assert!(config.render.withhold_details);
    assert_eq!(config.compose.dnd_shows, DndShows::Terminated);
}

#[test]
fn an_empty_file_is_the_default_and_the_second_listener_may_fail() {
    let config = good("", &Flags::default());
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.address.to_string(), listener.optional))
        .collect();
    assert_eq!(
        listeners,
        [
            ("127.0.0.1:5060".to_owned(), false),
            ("[::1]:5060".to_owned(), true)
        ]
    );
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:8060");
    assert_eq!(config.data_dir, None);
}

#[test]
fn flags_go_over_the_file() {
    let flags = Flags {
        shards: Some(7),
        pin: Some("off".to_owned()),
        admin: Some("127.0.0.1:0".to_owned()),
        data_dir: Some("/tmp/x".into()),
        ..listen(&["udp:127.0.0.1:0", "udp:127.0.0.1:0"])
    };
    let config = good(EVERYTHING, &flags);
    assert_eq!(config.shards, Some(7));
    assert_eq!(config.pin, Pin::Off);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.admin.address.port(), 0);
    assert_eq!(config.data_dir, Some("/tmp/x".into()));
}

#[test]
fn a_listener_that_others_can_reach_is_refused_with_the_line_to_write() {
    let shown = wrong("", &listen(&["udp:0.0.0.0:5060"]));
    assert!(
        shown.contains("can be reached from other machines"),
        "{shown}"
    );
    assert!(shown.contains("trusted = [\"192.168.0.0/16\"]"), "{shown}");

    let text = "[[listener]]\naddress = \"udp:192.0.2.1:5060\"\n";
    let shown = wrong(text, &Flags::default());
    assert!(shown.starts_with("lampfield.toml:2:11: "), "{shown}");
    assert!(shown.contains("trusted = [\"192.0.2.0/24\"]"), "{shown}");

    let trusted = format!("trusted = [\"192.0.2.0/24\"]\n{text}");
    good(&trusted, &Flags::default());
    let authenticated = format!("[auth.users]\n1001 = \"secret\"\n{text}");
    let config = good(&authenticated, &Flags::default());
    assert!(config.policy.gates[0].realm.is_some());
    let opened = format!("{authenticated}auth = false\n");
    assert!(wrong(&opened, &Flags::default()).contains("can be reached"));
    let flags = Flags {
        trusted: vec!["10.0.0.0/8".to_owned()],
        ..listen(&["udp:0.0.0.0:5060"])
    };
    good("", &flags);
}

#[test]
fn an_admin_port_that_others_can_reach_needs_a_token() {
    let shown = wrong("[admin]\naddress = \"0.0.0.0:8060\"\n", &Flags::default());
    assert!(shown.starts_with("lampfield.toml:2:11: "), "{shown}");
    assert!(shown.contains("token_file = "), "{shown}");
    let text = "[admin]\naddress = \"0.0.0.0:8060\"\ntoken = \"0123456789abcdef\"\n";
    good(text, &Flags::default());
    let shown = wrong("[admin]\ntoken = \"short\"\n", &Flags::default());
    assert!(shown.contains("too easy to guess"), "{shown}");
}

#[test]
fn every_mistake_has_its_place_and_a_remedy() {
    for (text, place, what, help) in [
        ("shrads = 2\n", "1:1", "unknown key `shrads`", "`shards`"),
        ("shards = 0\n", "1:10", "out of its limits", "from 1 to 256"),
        ("a = \n", "1:", "not TOML", ""),
        ("pin = \"some\"\n", "1:7", "no list of CPUs", "0,2,4,6"),
        (
            "trusted = [\"192.0.2.1/24\"]\n",
            "1:12",
            "cannot be used",
            "192.0.2.0/24",
        ),
        (
            "trusted = [\"phones\"]\n",
            "1:12",
            "cannot be used",
            "192.0.2.1",
        ),
        (
            "[[listener]]\naddress = \"wss:127.0.0.1:1\"\n",
            "2:11",
            "no certificate",
            "site.pem",
        ),
        (
            "[[listener]]\naddress = \"sctp:127.0.0.1:1\"\n",
            "2:11",
            "no transport",
            "udp:",
        ),
        (
            "[[listener]]\naddress = \"ws:127.0.0.1:1\"\npath = \"sip\"\n",
            "3:8",
            "no path",
            "/sip",
        ),
        (
            "[[listener]]\naddress = \"ws:127.0.0.1:1\"\norigins = [\"https://a.example\", \"b.example\"]\n",
            "3:33",
            "no origin",
            "https://",
        ),
        (
            "[[listener]]\naddress = \"tcp:127.0.0.1:1\"\npath = \"/\"\n",
            "3:8",
            "only ws and wss",
            "leave it out",
        ),
        (
            "[[listener]]\naddress = \"tls:127.0.0.1:1\"\n",
            "2:11",
            "no certificate",
            "site.pem",
        ),
        (
            "[[listener]]\naddress = \"tls:127.0.0.1:1\"\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n",
            "3:15",
            "nowhere.pem",
            "",
        ),
        (
            "[[listener]]\naddress = \"tcp:127.0.0.1:1\"\ncertificate = \"site.pem\"\n",
            "3:15",
            "only tls",
            "leave it out",
        ),
        (
            "[[listener]]\nadress = \"udp:127.0.0.1:1\"\n",
            "2:1",
            "unknown key",
            "`address`",
        ),
        (
            "[[listener]]\nnat = \"auto\"\n",
            "1:1",
            "no address",
            "address = ",
        ),
        ("[listener]\n", "1:", "table of its own", "[[listener]]"),
        (
            "[[edge]]\noverload = 503\n",
            "1:1",
            "neither an address nor a name",
            "addresses = ",
        ),
        (
            "[[edge]]\naddresses = [\"192.0.2.5\"]\noverload = 404\n",
            "3:12",
            "500 or 503",
            "overload = 500",
        ),
        (
            "[[edge]]\nnames = [\"192.0.2.5\"]\n",
            "2:10",
            "cannot be used",
            "a host name",
        ),
        (
            "[admin]\naddress = \"here\"\n",
            "2:11",
            "no address and port",
            "IP address",
        ),
        (
            "[auth]\nalgorithms = [\"SHA1\"]\n",
            "2:15",
            "no algorithm",
            "SHA-256",
        ),
        (
            "[auth]\nusers_file = \"/nowhere/users\"\n",
            "2:14",
            "No such file",
            "",
        ),
        (
            "[access]\nwatch = \"all\"\n",
            "2:9",
            "cannot be \"all\"",
            "\"allow\"",
        ),
        (
            "[[access.rule]]\nresource = \"1\"\n",
            "1:1",
            "does not say",
            "allow = true",
        ),
        (
            "[packages.dialog]\nexpires_max = 10\n",
            "2:15",
            "cannot last",
            "expires_min <=",
        ),
        (
            "[packages.dialogs]\n",
            "1:11",
            "unknown key `dialogs`",
            "`dialog`",
        ),
        (
            "shards = 2\npin = \"0\"\n",
            "2:7",
            "1 CPUs are listed for 2 shards",
            "one CPU for each",
        ),
        ("log = \"=,=\"\n", "1:7", "no log filter", "debug"),
        (
            "[notify]\non_timeout = \"keep\"\n",
            "2:14",
            "cannot be \"keep\"",
            "\"park\"",
        ),
        (
            "[domains]\n\"a.b\" = []\n\"c.d\" = []\n",
            "",
            "none is the default",
            "default_domain",
        ),
        (
            "default_domain = \"x\"\n[domains]\n\"a.b\" = []\n",
            "1:18",
            "cannot be used",
            "a.b",
        ),
    ] {
        let shown = wrong(text, &Flags::default());
        assert!(
            shown.contains(&format!("lampfield.toml:{place}")) || place.is_empty(),
            "{text}{shown}"
        );
        assert!(shown.contains(what), "{text}{shown}");
        assert!(shown.contains(help), "{text}{shown}");
    }
}

#[test]
fn one_address_cannot_be_listened_on_twice() {
    let shown = wrong("", &listen(&["udp:127.0.0.1:5060", "udp:127.0.0.1:5060"]));
    assert!(shown.contains("twice"), "{shown}");
}

/// The blocks of a Markdown text that are fenced as TOML.
fn toml_blocks(markdown: &str) -> Vec<&str> {
    let blocks = markdown.split("\n```toml\n").skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap_or(""))
        .collect()
}

#[test]
fn the_configuration_in_the_manual_is_one() {
    let blocks = toml_blocks(include_str!("../../docs/operating.md"));
    let [whole, tls, web] = blocks[..] else {
        panic!("{} blocks", blocks.len());
    };
    let shown = whole.replace("write your own here", "0123456789abcdef");
    good(&shown, &Flags::default());
    // Nothing is wrong with the others but that their files are not here.
    for block in [tls, web] {
        let shown = wrong(
            &format!("trusted = [\"192.0.2.0/24\"]\n{block}"),
            &Flags::default(),
        );
        assert_eq!(shown.matches("lampfield.toml:").count(), 1, "{shown}");
        assert!(
            shown.contains("sip.example.com.pem: No such file"),
            "{shown}"
        );
    }
}

#[test]
fn every_tuning_profile_is_a_configuration() {
    for text in [
        include_str!("../../tuning/small-office/lampfield.toml"),
        include_str!("../../tuning/behind-an-sbc/lampfield.toml"),
        include_str!("../../tuning/one-million/lampfield.toml"),
    ] {
        good(text, &Flags::default());
    }
}

/// Every key that a table of the parser knows, as its answer to an unknown one lists them.
#[test]
fn the_manual_names_every_key() {
    let manual = include_str!("../../docs/operating.md");
    for (text, count) in [
        ("zzzzzzzz = 1\n", 24),
        (
            "[[listener]]\naddress = \"udp:127.0.0.1:1\"\nzzzzzzzz = 1\n",
            19,
        ),
        ("[transports]\nzzzzzzzz = 1\n", 1),
        ("[admin]\nzzzzzzzz = 1\n", 3),
        ("[auth]\nzzzzzzzz = 1\n", 6),
        ("[access]\nzzzzzzzz = 1\n", 3),
        ("[packages.dialog]\nzzzzzzzz = 1\n", 3),
        ("[subscribe]\nzzzzzzzz = 1\n", 2),
        ("[limits]\nzzzzzzzz = 1\n", 13),
        ("[limits.domains.default]\nzzzzzzzz = 1\n", 3),
        ("[dns]\nzzzzzzzz = 1\n", 3),
        ("[notify]\nzzzzzzzz = 1\n", 7),
        ("[overload]\nzzzzzzzz = 1\n", 2),
        ("[[edge]]\naddresses = []\nzzzzzzzz = 1\n", 6),
        ("[store]\nzzzzzzzz = 1\n", 2),
        ("[hints]\nzzzzzzzz = 1\n", 2),
    ] {
        let shown = wrong(text, &Flags::default());
        let known = shown.split("known here: ").nth(1).expect("keys are listed");
        let known: Vec<&str> = known.trim().split(", ").collect();
        assert_eq!(known.len(), count, "{known:?}");
        for key in known {
            assert!(manual.contains(key), "the manual does not name `{key}`");
        }
    }
}

#[test]
fn a_domain_has_figures_of_its_own_and_is_one_that_is_served() {
    let text = "[domains]\n\"Example.com\" = []\n[limits]\nrequests_per_domain = 7\npublications_per_domain = 3\n\
                [limits.domains.\"EXAMPLE.com\"]\nsubscriptions = 5\npublications = 0\n";
    let quotas = good(text, &Flags::default()).quotas;
    let own = quotas.of_domain(b"example.com");
    assert_eq!((own.subscriptions, own.publications), (Some(5), None));
    assert_eq!(own.requests, quotas.domain.requests);
    let other = quotas.of_domain(b"example.net");
    assert_eq!((other.subscriptions, other.publications), (None, Some(3)));
    let domains = "[domains]\n\"example.com\" = []\n";
    for (more, what) in [
        (
            "[limits.domains.\"example.con\"]\n",
            "did you mean \"example.com\"?",
        ),
        (
            "[limits.domains]\n\"example.com\" = 5\n",
            "write `\"example.com\" = { … }`",
        ),
        (
            "[limits.domains.\"example.com\"]\n[limits.domains.\"example.COM\"]\n",
            "has its figures twice",
        ),
    ] {
        let shown = wrong(&format!("{domains}{more}"), &Flags::default());
        assert!(shown.contains(what), "{shown}");
    }
}

/// Who says how long to wait at least, and nothing more, still has those who are refused come back one by one.
#[test]
fn whoever_is_refused_waits_for_a_time_of_its_own_whichever_bound_is_written() {
    for (text, min_seconds, max_seconds) in [
        ("", 5, 30),
        ("[overload]\nretry_after_min = 100\n", 100, 125),
        ("[overload]\nretry_after_min = 10\n", 10, 35),
        ("[overload]\nretry_after_max = 60\n", 5, 60),
        (
            "[overload]\nretry_after_min = 7\nretry_after_max = 7\n",
            7,
            7,
        ),
    ] {
        let retry_after = good(text, &Flags::default()).retry_after;
        let wanted = RetryAfter {
            min_seconds,
            max_seconds,
        };
        assert_eq!(retry_after, wanted, "{text}");
    }
}

#[test]
fn names_are_looked_up_unless_it_is_switched_off_and_name_servers_are_addresses() {
    let config = good("", &Flags::default());
    assert!(config.dns.is_some_and(|dns| dns.servers.is_empty()));
    assert_eq!(good("[dns]\nlookup = false\n", &Flags::default()).dns, None);
    let shown = wrong("[dns]\nservers = [\"ns.example.com\"]\n", &Flags::default());
    assert!(shown.contains("`ns.example.com` is no address"), "{shown}");
    assert!(shown.contains("192.0.2.53"), "{shown}");
}
