//! Who may name whom. A module may name the layers below its own; those of one layer do not know each other.

use crate::Finding;
use crate::text;

/// From top to bottom.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["server"],
    &["uring", "admin", "config", "dns", "store::io"],
    &["shard"],
    &[
        "transaction",
        "policy",
        "subscription",
        "notify",
        "state",
        "store",
    ],
    // Flows and listeners are what all of them speak of.
    &["transport"],
    &["sip"],
    &[
        "wheel",
        "time",
        "rate",
        "quota",
        "rng",
        "slab",
        "table",
        "arena",
        "bits",
        "hex",
        "partition",
        "stats",
        "hint",
    ],
];

/// Leaves that stand on other leaves.
const LEAVES: &[(&str, &str)] = &[
    ("wheel", "time"),
    ("rate", "time"),
    ("quota", "rate"),
    ("quota", "slab"),
    ("quota", "table"),
    ("quota", "time"),
    ("slab", "bits"),
    ("arena", "bits"),
    ("partition", "hex"),
];

/// Finds each `crate::` path that leads to a layer which the file may not name.
pub fn layers(path: &str, source: &str) -> Vec<Finding> {
    let Some(own) = module_of(path) else {
        return Vec::new();
    };
    let code = text::code(source);
    let code = text::before_tests(&code);
    let mut findings = Vec::new();
    for (position, named) in named_modules(code) {
        if !may_name(own, &named) {
            findings.push(Finding {
                line: text::line_of(code, position),
                message: format!("`{own}` may not name `{named}`"),
            });
        }
    }
    // `super` must stay inside the module.
    let depth = path.matches('/').count() - 1 + usize::from(!path.ends_with("/mod.rs"));
    let climb = vec!["super"; depth].join("::");
    for position in text::words(code, &climb) {
        findings.push(Finding {
            line: text::line_of(code, position),
            message: format!("`{climb}` leaves the module: name the path from `crate`"),
        });
    }
    findings
}

/// The module of the first level that a file of `src` belongs to; None for what stands outside of the layers.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    if inside == "lib.rs" || inside == "config/limits.rs" || text::is_test_file(path) {
        return None;
    }
    if inside.starts_with("store/io/") {
        return Some("store::io");
    }
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

fn may_name(own: &str, named: &str) -> bool {
    let rank = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    if own == named || named == "config::limits" {
        return true;
    }
    match (rank(own), rank(named)) {
        (Some(own_rank), Some(named_rank)) => {
            own_rank < named_rank || LEAVES.contains(&(own, named))
        }
        // A module without a layer has to be given one.
        (None, _) | (_, None) => false,
    }
}

/// The modules that `crate::a`, `crate::{a, b::c}` and their like name.
fn named_modules(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for start in text::words(code, "crate::") {
        let after = start + "crate::".len();
        if let Some(group) = code[after..].strip_prefix('{') {
            for part in split_group(group) {
                named.push((start, module_name(part.trim_start())));
            }
        } else {
            named.push((start, module_name(&code[after..])));
        }
    }
    // Macros of the crate and items of its root are no modules.
    named.retain(|(_, name)| !name.is_empty());
    named
}

fn module_name(path: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let first: String = path.chars().take_while(|c| is_word(*c)).collect();
    if first == "config" && path[first.len()..].trim_start().starts_with("::limits") {
        return "config::limits".to_owned();
    }
    if first == "store" && path[first.len()..].starts_with("::io") {
        return "store::io".to_owned();
    }
    first
}

/// The parts of a `{…}` group that are separated by commas on its own level.
fn split_group(group: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[start..at]);
                return parts;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

mod examples {
    use super::*;

    fn broken(path: &str, source: &str) -> bool {
        !layers(path, source).is_empty()
    }

    #[test]
    fn naming_a_layer_above_or_a_sibling_is_found() {
        assert!(broken("src/sip/mod.rs", "use crate::shard::Shard;"));
        assert!(broken(
            "src/transaction/mod.rs",
            "fn f(x: crate::subscription::Key) {}"
        ));
        assert!(broken(
            "src/wheel.rs",
            "use crate::{time::Time, sip::Method};"
        ));
        assert!(broken(
            "src/notify/mod.rs",
            "use crate::{\n    config::{limits, file},\n};"
        ));
        assert!(broken("src/shard/mod.rs", "use crate::store::io::Disk;"));
        assert!(broken("src/store/io/disk.rs", "use crate::uring::clock;"));
        assert!(broken("src/newcomer.rs", "use crate::time::Time;"));
    }

    #[test]
    fn naming_what_lies_below_is_fine() {
        assert!(!broken(
            "src/shard/mod.rs",
            "use crate::{sip::Message, notify, wheel::{Token, Wheel}};"
        ));
        assert!(!broken(
            "src/sip/mod.rs",
            "use crate::config::limits;\nuse crate::sip::uri::Uri;"
        ));
        assert!(!broken(
            "src/slab.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use crate::rng::Rng; }"
        ));
        assert!(!broken(
            "src/store/io/disk.rs",
            "use crate::shard::mail::Mail;"
        ));
        assert!(!broken("src/lib.rs", "pub use crate::shard::Shard;"));
    }

    #[test]
    fn climbing_out_of_a_module_is_found() {
        assert!(broken("src/sip/uri.rs", "use super::super::shard::Shard;"));
        assert!(broken("src/wheel.rs", "use super::shard::Shard;"));
        assert!(!broken("src/sip/uri.rs", "use super::scan;"));
        assert!(!broken(
            "src/subscription/package/dialog.rs",
            "use super::super::Key;"
        ));
    }
}
