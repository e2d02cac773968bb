//! Doors that would stand open: addresses that others can reach, with nobody said who may come in.
//! They are refused with the line to write.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;

use crate::config::file::Written;
use crate::config::problem::Problem;
use crate::config::section::Notes;
use crate::config::settings::Admin;
use crate::policy::PolicySettings;

/// A listener that others can reach must authenticate, or know whom it trusts.
pub(super) fn refuse_open_listeners(listeners: &[Written], policy: &PolicySettings, notes: &Notes) {
    for (written, gate) in listeners.iter().zip(&policy.gates) {
        let address = written.listener.address;
        if address.ip().is_loopback() || gate.realm.is_some() || !gate.trusted.is_empty() {
            continue;
        }
        let what = format!(
            "{} can be reached from other machines, and nobody said who may use it",
            written.listener.endpoint()
        );
        let network = example_network(address.ip());
        let help = format!(
            "write `trusted = [\"{network}\"]` at the top of the configuration, with the network of your phones,\n\
             or start with `--trusted {network}`,\n\
             or let phones authenticate: write `[auth.users]` and below it `1001 = \"its password\"`"
        );
        notes.push(place(what, written.span.clone()).help(help));
    }
}

/// The admin port takes hints and shows who watches whom.
pub(super) fn refuse_open_admin(admin: &Admin, span: Option<Range<usize>>, notes: &Notes) {
    if admin.address.ip().is_loopback() || admin.token.is_some() {
        return;
    }
    let what = format!(
        "the admin port {} can be reached from other machines, and has no token",
        admin.address
    );
    let help = "write `token_file = \"admin.token\"` below `[admin]`, and into that file what `openssl rand -hex 16` prints";
    notes.push(place(what, span).help(help));
}

fn place(what: String, span: Option<Range<usize>>) -> Problem {
    match span {
        Some(span) => Problem::at(span, what),
        None => Problem::nowhere(what),
    }
}

/// The network around an address, as a line that can be copied.
fn example_network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "192.168.0.0/16".to_owned(),
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) if address.is_unspecified() => "fd00::/8".to_owned(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            format!("{}/64", core::net::Ipv6Addr::from_bits(network))
        }
    }
}
