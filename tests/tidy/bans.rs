//! Words that may not stand in some places: clocks and sockets in pure code, `unsafe` without its reason, line
//! splitting beside the one parser, iteration in an order that nobody chose.

use crate::Finding;
use crate::text;

/// Everything else below `src` is pure.
const IMPURE: &[&str] = &[
    "src/main.rs",
    "src/cli/",
    "src/server/",
    "src/uring/",
    "src/admin/",
    "src/config/",
    "src/dns/",
    "src/store/io/",
];

/// What a pure module may not name, its tests excepted.
const IMPURE_WORDS: &[&str] = &[
    "Instant",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "ToSocketAddrs",
    "Mutex",
    "RwLock",
    "Condvar",
    "AtomicBool",
    "AtomicU32",
    "AtomicU64",
    "AtomicUsize",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "thread_local!",
    "static mut",
    "tokio",
    "tokio_uring",
    "io_uring",
    "libc",
    "socket2",
    "crossbeam",
    "getrandom",
    "tracing",
    "async",
    "await",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
];

/// Where `unsafe` may stand, with its reason beside it.
const UNSAFE_ALLOWED: &[&str] = &[
    "src/uring/",
    "tests/kernel.rs",
    "tests/kernel/",
    "tests/process/faults.rs",
    "loadtest/src/sys.rs",
    "tests/allocations.rs",
];

const KERNEL_DEPENDENCIES: &[&str] = &[
    "tokio",
    "tokio-uring",
    "io-uring",
    "libc",
    "rustix",
    "socket2",
    "mio",
    "rustls",
    "ring",
    "aws-lc-rs",
    "axum",
    "hyper",
    "ureq",
    "mimalloc",
    "crossbeam",
    "tracing",
    "getrandom",
    "fjall",
    "hickory-resolver",
];

const ITERATIONS: &[&str] = &[
    ".iter()",
    ".iter_mut()",
    ".into_iter()",
    ".keys()",
    ".into_keys()",
    ".values()",
    ".values_mut()",
    ".into_values()",
    ".drain()",
    ".retain(",
    ".extract_if(",
];

/// A pure module touches no clock, thread, socket, lock or log.
pub fn pure(path: &str, source: &str) -> Vec<Finding> {
    let is_pure = path.starts_with("src/") && !IMPURE.iter().any(|impure| path.starts_with(impure));
    if !is_pure || text::is_test_file(path) {
        return Vec::new();
    }
    let code = text::code(source);
    let code = text::before_tests(&code);
    let mut findings = Vec::new();
    for word in IMPURE_WORDS {
        for position in text::words(code, word) {
            findings.push(Finding {
                line: text::line_of(code, position),
                message: format!("`{word}` in a pure module"),
            });
        }
    }
    findings
}

/// `unsafe` stands in few files, and each has a `SAFETY:` comment.
pub fn unsafe_code(path: &str, source: &str) -> Vec<Finding> {
    let code = text::code(source);
    let allowed = UNSAFE_ALLOWED
        .iter()
        .any(|allowed| path.starts_with(allowed));
    text::words(&code, "unsafe")
        .filter_map(|position| {
            let line = text::line_of(&code, position);
            if !allowed {
                let message = "`unsafe` outside of the files that may have it".to_owned();
                return Some(Finding { line, message });
            }
            // What an `unsafe fn` asks of its callers is clippy's matter; its body needs blocks of its own.
            let is_function = code[position..].split_whitespace().nth(1) == Some("fn");
            let explained = is_function || text::is_explained(source, line, "SAFETY:");
            let message = "`unsafe` without a `// SAFETY:` comment".to_owned();
            (!explained).then_some(Finding { line, message })
        })
        .collect()
}

/// Where lines are those of files and of HTTP.
const NO_SIP: &[&str] = &["src/config/", "src/admin/", "src/cli/", "src/server/"];

/// SIP has one parser. Whoever splits other lines says so with `// NOT SIP:` and what they are.
pub fn line_splitting(path: &str, source: &str) -> Vec<Finding> {
    let exempt =
        path.starts_with("src/sip/") || NO_SIP.iter().any(|no_sip| path.starts_with(no_sip));
    if !path.starts_with("src/") || exempt || text::is_test_file(path) {
        return Vec::new();
    }
    let code = text::without_comments(source);
    let code = text::before_tests(&code);
    let splits = [
        ".lines()",
        ".split(\"\\r\\n",
        ".split(\"\\n",
        ".split('\\n",
        ".split_once(\"\\r\\n",
        ".split_once(\"\\n",
        ".split_once('\\n",
        ".splitn(2, \"\\r\\n",
        "== b'\\n'",
        "== b'\\r'",
        "memchr(b'\\n'",
        "memchr(b'\\r'",
    ];
    let mut findings = Vec::new();
    for split in splits {
        for (position, _) in code.match_indices(split) {
            let line = text::line_of(code, position);
            if !text::is_explained(source, line, "NOT SIP:") {
                let message = format!("`{split}` splits lines outside of `sip`");
                findings.push(Finding { line, message });
            }
        }
    }
    findings
}

/// Who computes for TLS is chosen once, and handed to whoever needs it.
pub fn tls_provider(path: &str, source: &str) -> Vec<Finding> {
    let code = text::code(source);
    // These take what the process has installed, or guess.
    let guessing = [
        "ServerConfig::builder(",
        "ClientConfig::builder(",
        "WebPkiClientVerifier::builder(",
        "WebPkiServerVerifier::builder(",
        "install_default",
        "get_default",
    ];
    let chosen = ["crypto::ring", "crypto::aws_lc_rs"];
    let is_chosen_here = !path.starts_with("src/") || path == "src/config/crypto.rs";
    let chosen: &[&str] = if is_chosen_here { &[] } else { &chosen };
    let mut findings = Vec::new();
    for word in guessing.iter().chain(chosen) {
        for (position, _) in code.match_indices(word) {
            findings.push(Finding {
                line: text::line_of(&code, position),
                message: format!("`{word}` chooses who computes for TLS: `config::crypto` does"),
            });
        }
    }
    findings
}

/// The order of a hash map is nobody's choice. Where it can't be seen, `// ORDER:` says why.
pub fn hash_order(path: &str, source: &str) -> Vec<Finding> {
    if !path.starts_with("src/") || text::is_test_file(path) {
        return Vec::new();
    }
    let code = text::code(source);
    let code = text::before_tests(&code);
    let mut findings = Vec::new();
    for name in hash_maps(code) {
        for position in text::words(code, &name) {
            let after = code[position + name.len()..].trim_start();
            let before = code[..position].trim_end();
            let before = before
                .strip_suffix("self.")
                .unwrap_or(before)
                .trim_end_matches(['&', ' ']);
            let before = before
                .strip_suffix("mut")
                .unwrap_or(before)
                .trim_end_matches(['&', ' ']);
            let looped = before.ends_with(" in") && after.starts_with('{');
            let line = text::line_of(code, position);
            let iterated = looped
                || ITERATIONS
                    .iter()
                    .any(|iteration| after.starts_with(iteration));
            if iterated && !text::is_explained(source, line, "ORDER:") {
                let message = format!("`{name}` is a hash map, and its order would be seen");
                findings.push(Finding { line, message });
            }
        }
    }
    findings
}

/// The names that are declared as hash maps, sets or tables in this file.
fn hash_maps(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["HashMap", "HashSet", "HashTable"] {
        for position in text::words(code, kind) {
            // What stands before is `name: hashbrown::` or `let name = `.
            let mut before = code[..position].trim_end();
            while let Some(shorter) = before.strip_suffix("::") {
                before = shorter.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
            }
            let before = before.trim_end_matches(['&', ' ']);
            let before = before.strip_suffix("mut").unwrap_or(before).trim_end();
            let Some(before) = before.strip_suffix([':', '=']) else {
                continue;
            };
            let before = before.trim_end();
            let start = before
                .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
                .map_or(0, |found| found + 1);
            if start < before.len() {
                names.push(before[start..].to_owned());
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The packages of `cargo tree` that a pure build may not have.
pub fn kernel_dependencies(tree: &str) -> Vec<String> {
    tree.lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|package| KERNEL_DEPENDENCIES.contains(package))
        .map(str::to_owned)
        .collect()
}

mod examples {
    use super::*;

    #[test]
    fn a_clock_in_a_pure_module_is_found_and_one_at_the_edge_is_not() {
        let source = "fn f() {\n    let now = std::time::Instant::now();\n}\n";
        assert_eq!(pure("src/notify/mod.rs", source)[0].line, 2);
        assert!(pure("src/uring/mod.rs", source).is_empty());
        assert!(
            pure(
                "src/wheel.rs",
                "// an Instant\n#[cfg(test)]\nmod tests { use std::thread; }"
            )
            .is_empty()
        );
        assert!(!pure("src/shard/mod.rs", "async fn f() { tracing::info!(\"x\") }").is_empty());
    }

    #[test]
    fn unsafe_needs_its_place_and_its_reason() {
        assert!(!unsafe_code("src/sip/scan.rs", "// SAFETY: no\nunsafe { f() }").is_empty());
        assert!(!unsafe_code("src/uring/ring.rs", "let x = unsafe { f() };").is_empty());
        assert!(
            unsafe_code(
                "src/uring/ring.rs",
                "// SAFETY: because\nlet x = unsafe { f() };"
            )
            .is_empty()
        );
        assert!(
            unsafe_code(
                "src/sip/scan.rs",
                "// unsafe is a word here\nlet s = \"unsafe\";"
            )
            .is_empty()
        );
    }

    #[test]
    fn splitting_lines_outside_of_sip_is_found() {
        assert!(!line_splitting("src/policy/mod.rs", "for line in text.lines() {}").is_empty());
        assert!(
            !line_splitting("src/shard/mod.rs", r#"let parts = text.split("\r\n");"#).is_empty()
        );
        assert!(line_splitting("src/sip/scan.rs", "for line in text.lines() {}").is_empty());
        let explained = "// NOT SIP: a file of passwords\nfor line in text.lines() {}";
        assert!(line_splitting("src/policy/mod.rs", explained).is_empty());
    }

    #[test]
    fn choosing_who_computes_for_tls_is_found_and_handing_it_on_is_not() {
        for wrong in [
            "let config = ServerConfig::builder();",
            "use rustls::crypto::ring::default_provider;",
            "let provider = CryptoProvider::get_default();",
        ] {
            assert_eq!(tls_provider("src/server/tls.rs", wrong).len(), 1, "{wrong}");
        }
        let handed = "let builder = ServerConfig::builder_with_provider(provider);";
        assert!(tls_provider("src/server/tls.rs", handed).is_empty());
        let own = "use rustls::crypto::ring as chosen;";
        assert!(tls_provider("src/config/crypto.rs", own).is_empty());
    }

    #[test]
    fn iterating_a_hash_map_is_found_in_each_of_its_forms() {
        let field = "struct S { map: hashbrown::HashMap<u32, u32> }\n";
        for iteration in [
            "fn f(s: &S) { for x in s.map.keys() {} }",
            "fn f(&self) { self.map\n    .iter()\n    .count(); }",
            "fn f(&self) { for x in &self.map { } }",
            "fn f(&mut self) { for x in &mut self.map { } }",
            "fn f(&mut self) { self.map.retain(|_, x| *x > 0); }",
        ] {
            let source = format!("{field}{iteration}");
            assert!(
                !hash_order("src/state/mod.rs", &source).is_empty(),
                "{iteration}"
            );
        }
        assert!(
            !hash_order(
                "src/state/mod.rs",
                "let mut seen = HashSet::new();\nseen.drain();"
            )
            .is_empty()
        );
    }

    #[test]
    fn looking_up_or_explaining_is_fine() {
        let field = "struct S { map: HashMap<u32, u32>, list: Vec<u32> }\n";
        for fine in [
            "fn f(&self) { self.map.get(&1); for x in &self.list { } }",
            "// ORDER: only the sum is used\nlet n: u32 = self.map.values().sum();",
        ] {
            assert!(
                hash_order("src/state/mod.rs", &format!("{field}{fine}")).is_empty(),
                "{fine}"
            );
        }
    }

    #[test]
    fn a_kernel_dependency_is_found_by_its_whole_name() {
        let tree = "lampfield v0.1.0 (path)\nbytes v1.12.1\ntokio v1.50.0\nringbuffer v1.0.0\n";
        assert_eq!(kernel_dependencies(tree), ["tokio"]);
    }
}
