//! The house rules that a compiler does not know: who may name whom, what pure code may not touch, what a file
//! opens with. Each rule is a function over one file and has a test that shows it a violation.
//! This reads the sources and the dependency graph; it runs nothing of the product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "tidy/bans.rs"]
mod bans;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/size.rs"]
mod size;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/used.rs"]
mod used;

/// One place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    pub message: String,
}

/// A rule looks at one file: its path from the root of the repository, and its text.
type Rule = fn(&str, &str) -> Vec<Finding>;

#[test]
fn modules_name_only_the_layers_below_them() {
    check(is_rust, layers::layers);
}

#[test]
fn pure_modules_touch_no_clock_thread_socket_or_log() {
    check(is_rust, bans::pure);
}

#[test]
fn unsafe_stands_only_where_it_is_allowed_and_says_why() {
    check(is_rust, bans::unsafe_code);
}

#[test]
fn who_computes_for_tls_is_chosen_in_one_place() {
    check(is_rust, bans::tls_provider);
}

#[test]
fn only_the_sip_module_splits_lines() {
    check(is_rust, bans::line_splitting);
}

#[test]
fn no_hash_map_is_iterated_where_order_can_be_seen() {
    check(is_rust, bans::hash_order);
}

#[test]
fn every_rust_file_says_what_it_is() {
    check(is_rust, documents::opening);
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    check(|_| true, documents::foreign_paths);
}

#[test]
fn no_merge_is_unfinished() {
    check(|_| true, documents::conflicts);
}

#[test]
fn every_path_that_a_document_names_exists() {
    let root = root();
    check_with(
        &root,
        |path| path.ends_with(".md"),
        |path, text| documents::named_paths(path, text, |named| root.join(named).exists()),
    );
}

#[test]
fn the_pure_build_has_no_kernel_or_network_dependency() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "lampfield", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    assert!(tree.starts_with("lampfield "), "{tree}");
    assert_eq!(bans::kernel_dependencies(&tree), Vec::<String>::new());
}

#[test]
fn every_limit_limits_something_and_every_metric_is_set() {
    let sources: Vec<(String, String)> = files(&root(), is_rust)
        .into_iter()
        .filter(|(path, _)| path.starts_with("src/") && !text::is_test_file(path))
        .map(|(path, source)| (path, text::before_tests(&text::code(&source)).to_owned()))
        .collect();
    let limits = "src/config/limits.rs";
    let others = sources
        .iter()
        .filter(|(path, _)| path != limits)
        .map(|(_, code)| code.as_str());
    let mut found = used::unused_limits(&read(limits), others);
    found.extend(used::unused_metrics(
        &read("src/stats/table.rs"),
        sources.iter().map(|(_, code)| code.as_str()),
    ));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_dependency_has_its_reason() {
    let found = documents::dependencies(
        &read("Cargo.toml"),
        &read("docs/decisions/0003-dependencies.md"),
    );
    assert!(found.is_empty(), "{found:#?}");
}

/// Fails never: a long file or function tells its reader something, and only a reader can judge what.
#[test]
fn long_files_and_functions_are_listed() {
    for (path, text) in files(&root(), is_rust) {
        for finding in size::long(&path, &text) {
            println!("{path}:{}: {}", finding.line, finding.message);
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a readable file")
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn check(applies: fn(&str) -> bool, rule: Rule) {
    check_with(&root(), applies, rule);
}

fn check_with(root: &Path, applies: fn(&str) -> bool, rule: impl Fn(&str, &str) -> Vec<Finding>) {
    let files = files(root, applies);
    assert!(!files.is_empty(), "the rule looked at nothing");
    let broken: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| {
            rule(path, text)
                .into_iter()
                .map(move |finding| format!("{path}:{}: {}", finding.line, finding.message))
        })
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All text files of the repository that the rule applies to, in the order of their paths.
fn files(root: &Path, applies: fn(&str) -> bool) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    walk(root, &mut paths);
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(root).expect("below the root");
        let name = relative.to_str().expect("a path in UTF-8").to_owned();
        // What is not UTF-8 is a message or a corpus, and none of our writing.
        if applies(&name)
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.push((name, text));
        }
    }
    files.sort();
    files
}

fn walk(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let entry = entry.expect("a readable entry");
        let name = entry.file_name();
        let kind = entry.file_type().expect("an entry with a type");
        // A generated tree, git's own, or inputs that a fuzzer made.
        if ["target", ".git", "corpus", "corpora"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}
