//! What files say about themselves and about each other.

use crate::Finding;

/// Folders and files of the first level that documents may name in backticks.
const TOP: &[&str] = &[
    "src",
    "tests",
    "benches",
    "loadtest",
    "tuning",
    "docs",
    "xtask",
    "examples",
    ".ci",
    ".cargo",
    "Cargo.toml",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];

/// A file opens with `//!`: what it is, and what it may not do.
pub fn opening(_path: &str, source: &str) -> Vec<Finding> {
    if source.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding {
        line: 1,
        message: "a file opens with `//!` and what it is".to_owned(),
    }]
}

/// Paths below somebody's home or workplace mean nothing elsewhere.
pub fn foreign_paths(_path: &str, text: &str) -> Vec<Finding> {
    // In two parts, so that this file does not name them.
    let roots = [
        ("/ho", "me/"),
        ("/ro", "ot/"),
        ("/Us", "ers/"),
        ("/wo", "rk/"),
        ("/tmp/", "wt"),
    ];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (first, second) in roots {
            let root = format!("{first}{second}");
            let named = line.match_indices(&root).any(|(at, _)| {
                // A part of a longer path or URL is none.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-}/:".contains(c))
            });
            if named {
                findings.push(Finding {
                    line: number + 1,
                    message: format!("`{root}…` is a path of somebody's machine"),
                });
            }
        }
    }
    findings
}

/// Paths in backticks and relative links lead somewhere. `exists` takes a path from the root of the repository.
pub fn named_paths(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block {
            continue;
        }
        let in_backticks = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(repository_path)
            .map(str::to_owned);
        let in_links = links(line).filter_map(|link| relative(path, link));
        for named in in_backticks.chain(in_links) {
            // A README may also speak of what lies beside it.
            let beside = path
                .rsplit_once('/')
                .map(|(folder, _)| format!("{folder}/{named}"));
            if !exists(&named) && !beside.is_some_and(|beside| exists(&beside)) {
                findings.push(Finding {
                    line: number + 1,
                    message: format!("`{named}` does not exist"),
                });
            }
        }
    }
    findings
}

/// What a merge left behind.
pub fn conflicts(_path: &str, text: &str) -> Vec<Finding> {
    let is_marker = |line: &str| {
        ["<", ">"]
            .iter()
            .any(|sign| line.starts_with(&format!("{} ", sign.repeat(7))))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| is_marker(line))
        .map(|(number, _)| Finding {
            line: number + 1,
            message: "a merge that was not finished".to_owned(),
        })
        .collect()
}

/// Each dependency of the manifest stands in the record of dependencies.
pub fn dependencies(manifest: &str, record: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
            continue;
        }
        let Some((name, value)) = line.split_once(" = ").filter(|_| in_dependencies) else {
            continue;
        };
        let is_ours = value.contains("path = ");
        if !is_ours && crate::text::words(record, name).next().is_none() {
            findings.push(Finding {
                line: number + 1,
                message: format!("`{name}` has no line in the record of dependencies"),
            });
        }
    }
    findings
}

/// The words of a span that begin with a name of the first level, as far as they are one path.
fn repository_path(span: &str) -> Option<&str> {
    let path = span.split(':').next().unwrap_or(span);
    let path = path.trim_end_matches('/');
    let first = path.split('/').next()?;
    let plain = path
        .chars()
        .all(|c| c.is_alphanumeric() || "._-/".contains(c));
    let is_path = first != path || first.contains('.') || first == "LICENSE";
    (plain && is_path && TOP.contains(&first)).then_some(path)
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| {
        let rest = &line[at + 2..];
        rest.split_once(')').map(|(link, _)| link)
    })
}

/// A link of the document at `path`, as a path from the root of the repository.
fn relative(path: &str, link: &str) -> Option<String> {
    let link = link.split('#').next().unwrap_or(link);
    if link.is_empty() || link.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

mod examples {
    use super::*;

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert!(!opening("src/x.rs", "use core::fmt;\n").is_empty());
        assert!(opening("src/x.rs", "//! What it is.\n").is_empty());
    }

    #[test]
    fn a_path_of_somebodys_machine_is_found_and_a_part_of_a_path_is_not() {
        let home = concat!("see /ho", "me/alice/notes");
        assert_eq!(foreign_paths("README.md", home).len(), 1);
        assert_eq!(foreign_paths("x.sh", concat!("cd /tmp/", "wt/x")).len(), 1);
        let fine = concat!(
            "GET http://example.com/ho",
            "me/page and docs/wo",
            "rk/list and /etc/lampfield"
        );
        assert!(foreign_paths("README.md", fine).is_empty());
    }

    #[test]
    fn a_merge_that_was_not_finished_is_found() {
        let text = format!("a\n{} HEAD\nb\n", "<".repeat(7));
        assert_eq!(conflicts("README.md", &text)[0].line, 2);
        assert_eq!(conflicts("README.md", "a << b\n> quoted\n"), []);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nbytes = \"1\"\nour = { path = \"a\" }\n\
                        [dev-dependencies]\nrand = \"1\"\n";
        let found = dependencies(manifest, "| bytes | bodies |");
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [7]
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_found() {
        let exists =
            |path: &str| ["src/wheel.rs", "docs/a.md", "README.md", "src/sip"].contains(&path);
        let document = "See `src/wheel.rs`, `src/sip/` and [a](a.md), [top](../README.md#x), [web](https://x.y/z).\n\
                        `cargo run`, `application/pidf+xml`, `tests` and `src/*.rs` are no paths of ours.\n";
        assert_eq!(named_paths("docs/b.md", document, exists), []);
        assert_eq!(
            named_paths("docs/b.md", "`src/x.rs`", |path| path == "docs/src/x.rs"),
            []
        );
        let wrong = "one\n`src/gone.rs` and [b](b.md)\n```\n`src/in_block.rs`\n```\n";
        let found = named_paths("docs/c.md", wrong, exists);
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [2, 2]
        );
    }
}
