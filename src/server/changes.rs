//! What of a new configuration is new, and which of it the running server can take.

use crate::config::{Config, Listener};
use crate::policy::PolicySettings;
use crate::transport::NatMode;

/// The differences, as keys and tables of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What can be replaced while the server runs.
    pub live: Vec<&'static str>,
    /// What has threads, files or the names of resources behind it.
    pub restart: Vec<&'static str>,
    /// Other listeners are wanted, or the same ones in another way: the transports are to be swapped.
    pub listeners: bool,
}

impl Changes {
    /// From the configuration that holds to another one.
    pub fn between(old: &Config, new: &Config) -> Changes {
        let Config {
            listeners,
            shards,
            pin,
            data_dir,
            durability,
            restart_notify,
            admin,
            policy,
            subscribe_expiry,
            publish_expiry,
            sources,
            subscribe,
            on_timeout,
            on_close,
            pace,
            retry_after,
            quotas,
            render,
            compose,
            dns,
            log,
            drain_max,
        } = new;
        let count = |shards: Option<u16>| shards.unwrap_or_else(super::default_shards);
        let restart = [
            ("shards", count(old.shards) != count(*shards)),
            ("pin", old.pin != *pin),
            ("data_dir", old.data_dir != *data_dir),
            (
                "store",
                (old.durability, old.restart_notify) != (*durability, *restart_notify),
            ),
            ("admin.address", old.admin.address != admin.address),
            // Resources bear their domain in their name, and sources would have to say everything again.
            (
                "default_domain",
                old.policy.domains.default != policy.domains.default,
            ),
            // Every state that is composed already would have to be composed again.
            ("hints", old.compose != *compose),
        ];
        let other_listeners = !same_sockets(&old.listeners, listeners);
        let notify = old.on_timeout != *on_timeout
            || old.on_close != *on_close
            || old.pace != *pace
            || old.render != *render;
        let live = [
            ("transports", old.drain_max != *drain_max),
            ("admin.token", old.admin.token != admin.token),
            ("packages", old.subscribe_expiry != *subscribe_expiry),
            ("publish", old.publish_expiry != *publish_expiry),
            ("limits", old.sources != *sources || old.quotas != *quotas),
            ("dns", old.dns != *dns),
            ("subscribe", old.subscribe != *subscribe),
            ("notify", notify),
            ("overload", old.retry_after != *retry_after),
            ("log", old.log != *log),
        ];
        Changes {
            live: of_policy(&old.policy, policy, other_listeners)
                .into_iter()
                .chain(live)
                .filter_map(named)
                .collect(),
            restart: restart.into_iter().filter_map(named).collect(),
            listeners: other_listeners,
        }
    }
}

fn named((name, is_new): (&'static str, bool)) -> Option<&'static str> {
    is_new.then_some(name)
}

/// Whether the listeners would open the same sockets and say the same of themselves. Their gates are policy.
fn same_sockets(old: &[Listener], new: &[Listener]) -> bool {
    let face = |each: &Listener| Listener {
        nat: NatMode::default(),
        ..each.clone()
    };
    old.iter().map(face).eq(new.iter().map(face))
}

fn of_policy(
    old: &PolicySettings,
    new: &PolicySettings,
    other_listeners: bool,
) -> [(&'static str, bool); 7] {
    let PolicySettings {
        domains,
        digest,
        users,
        access,
        edges,
        shared_watchers,
        gates,
    } = new;
    // Where the listeners are others, that is said already.
    let gate = |differs: fn(&Gates<'_>) -> bool| {
        let pairs = old.gates.iter().zip(gates);
        pairs.into_iter().any(|pair| differs(&pair))
    };
    let asks = gate(|(old, new)| old.realm.is_some() != new.realm.is_some());
    let realm = gate(|(old, new)| old.realm != new.realm);
    let nat = gate(|(old, new)| old.nat != new.nat);
    [
        ("domains", old.domains.domains != domains.domains),
        ("trusted", gate(|(old, new)| old.trusted != new.trusted)),
        ("edges", old.edges != *edges),
        ("shared_watchers", old.shared_watchers != *shared_watchers),
        (
            "auth",
            old.digest != *digest || old.users != *users || realm && !asks,
        ),
        ("access", old.access != *access),
        // Which there are, whether each authenticates, and what source addresses mean to it.
        ("listener", other_listeners || asks || nat),
    ]
}

type Gates<'a> = (
    &'a crate::policy::GateSettings,
    &'a crate::policy::GateSettings,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags};

    fn config(text: &str) -> Config {
        let parsed = config::parse("f", text, &Flags::default());
        parsed.unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    }

    const FILE: &str = "pin = \"auto\"\ndata_dir = \"d\"\nlog = \"info\"\ndefault_domain = \"a.example\"\n\
        trusted = [\"192.0.2.1\"]\nedges = [\"192.0.2.2\"]\nshared_watchers = [\"panel\"]\nshards = 2\n\
        [[listener]]\naddress = \"udp:127.0.0.1:5060\"\nadvertise = \"b.example:1\"\nnat = \"auto\"\nauth = true\ndscp = 24\n\
        [transports]\ndrain_max = 60\n[store]\ndurability = \"process\"\n\
        [admin]\naddress = \"127.0.0.1:8060\"\ntoken = \"0123456789abcdef\"\n\
        [domains]\n\"a.example\" = [\"b.example\"]\n\
        [auth]\nrealm = \"here\"\nnonce_life = 60\n[auth.users]\nalice = \"secret\"\n\
        [access]\nwatch = \"own\"\n[packages.dialog]\nexpires_max = 7200\n[publish]\nexpires_min = 9\n[limits]\nconnections_per_source = 9\n\
        [dns]\ntimeout = 4\n\
        [subscribe]\njitter = true\nsupersede = \"probe\"\n\
        [overload]\nretry_after_min = 7\n[[edge]]\naddresses = [\"192.0.2.3\"]\noverload = 503\n\
        [notify]\non_timeout = \"remove\"\nrate = 10\nall_dialogs = false\n[hints]\nmailbox_source = \"voicemail\"\n";

    #[test]
    fn each_key_is_told_by_the_name_that_it_has_in_the_file() {
        let old = config(FILE);
        for (from, to, live, restart) in [
            ("log = \"info\"", "log = \"debug\"", "log", ""),
            ("192.0.2.1", "192.0.2.9", "trusted", ""),
            ("192.0.2.2", "192.0.2.9", "edges", ""),
            ("panel", "operator", "shared_watchers", ""),
            ("nat = \"auto\"", "nat = \"never\"", "listener", ""),
            ("auth = true", "auth = false", "listener", ""),
            ("0123456789abcdef", "fedcba9876543210", "admin.token", ""),
            ("[\"b.example\"]", "[\"c.example\"]", "domains", ""),
            ("\"here\"", "\"there\"", "auth", ""),
            ("nonce_life = 60", "nonce_life = 61", "auth", ""),
            ("\"secret\"", "\"other\"", "auth", ""),
            ("\"own\"", "\"allow\"", "access", ""),
            ("7200", "7201", "packages", ""),
            ("expires_min = 9", "expires_min = 8", "publish", ""),
            ("per_source = 9", "per_source = 8", "limits", ""),
            ("timeout = 4", "timeout = 3", "dns", ""),
            ("jitter = true", "jitter = false", "subscribe", ""),
            ("\"probe\"", "\"replace\"", "subscribe", ""),
            ("\"remove\"", "\"park\"", "notify", ""),
            ("rate = 10", "rate = 11", "notify", ""),
            ("retry_after_min = 7", "retry_after_min = 8", "overload", ""),
            ("overload = 503", "overload = 500", "edges", ""),
            ("all_dialogs = false", "all_dialogs = true", "notify", ""),
            ("127.0.0.1:5060", "127.0.0.1:5062", "listener", ""),
            ("b.example:1", "b.example:2", "listener", ""),
            ("dscp = 24", "dscp = 26", "listener", ""),
            ("drain_max = 60", "drain_max = 61", "transports", ""),
            ("shards = 2", "shards = 3", "", "shards"),
            ("pin = \"auto\"", "pin = \"off\"", "", "pin"),
            ("data_dir = \"d\"", "data_dir = \"e\"", "", "data_dir"),
            ("\"process\"", "\"disk\"", "", "store"),
            ("8060", "8061", "", "admin.address"),
            ("voicemail", "pbx", "", "hints"),
        ] {
            let text = FILE.replacen(from, to, 1);
            assert_ne!(text, FILE, "{from}");
            let Changes {
                live: found,
                restart: refused,
                listeners: _,
            } = Changes::between(&old, &config(&text));
            assert_eq!(
                (found.join(" "), refused.join(" ")),
                (live.to_owned(), restart.to_owned()),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_not_new() {
        let old = config(FILE);
        let text = format!("# A comment.\n{}", FILE.replace("pin = \"auto\"\n", ""));
        assert_eq!(Changes::between(&old, &config(&text)), Changes::default());
    }

    #[test]
    fn the_domain_in_every_name_stays_until_a_restart() {
        let domains = "[domains]\n\"a.example\" = []\n\"c.example\" = []\n";
        let [old, new] = ["a", "c"]
            .map(|name| config(&format!("default_domain = \"{name}.example\"\n{domains}")));
        assert_eq!(Changes::between(&old, &new).restart, ["default_domain"]);
    }
}
