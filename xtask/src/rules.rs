//! `cargo xtask rules`: which rules of RFCs the code names, where, and which of them no test names.
//! A rule is a line `//= RFC 6665 4.2.2` above the code, its test has the same line with `type=test`. A scenario names a
//! row of `docs/conformance.md` instead, and that row names the rule.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::run::root;

#[derive(Default)]
struct Places {
    code: Vec<String>,
    tests: Vec<String>,
}

/// Prints the report. True as long as the sources can be read: what is missing is a matter for a reader.
pub fn report() -> bool {
    let mut rules = BTreeMap::new();
    for folder in ["src", "tests"] {
        if let Err(error) = walk(&root(), &root().join(folder), &mut rules) {
            eprintln!("xtask: {folder}: {error}");
            return false;
        }
    }
    if let Err(error) = scenarios(&mut rules) {
        eprintln!("xtask: {error}");
        return false;
    }
    println!("rules that code names and no test does:");
    let untested: Vec<_> = rules
        .iter()
        .filter(|(_, places)| places.tests.is_empty())
        .collect();
    for ((document, section), places) in &untested {
        let section: Vec<String> = section.iter().map(u32::to_string).collect();
        println!(
            "  RFC {document} {:<12} {}",
            section.join("."),
            places.code.join("  ")
        );
    }
    println!(
        "{} rules, {} of them without a test",
        rules.len(),
        untested.len()
    );
    true
}

/// The number of the RFC, and its section: ordered as in the table of contents.
type Rule = (u32, Vec<u32>);

fn walk(root: &Path, folder: &Path, rules: &mut BTreeMap<Rule, Places>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &path, rules)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            collect(&name, &text, rules);
        }
    }
    Ok(())
}

/// The rules of those rows that a scenario shows to hold.
fn scenarios(rules: &mut BTreeMap<Rule, Places>) -> std::io::Result<()> {
    let table = fs::read_to_string(root().join("docs/conformance.md"))?;
    let rows = rows(&table);
    for entry in fs::read_dir(root().join("tests/scenarios"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_name().unwrap_or_default().display().to_string();
        let numbers = text
            .lines()
            .filter_map(|line| line.strip_prefix("#="))
            .flat_map(str::split_whitespace);
        for rule in numbers.filter_map(|number| rows.get(number)).flatten() {
            rules
                .entry(rule.clone())
                .or_default()
                .tests
                .push(name.clone());
        }
    }
    Ok(())
}

/// The rules of each row of the table, by its number.
fn rows(table: &str) -> BTreeMap<&str, Vec<Rule>> {
    let mut rows = BTreeMap::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, number, _, documents, ..] = cells[..] {
            let rules = documents
                .split(',')
                .filter_map(|rule| Some(parse(rule)?.0))
                .collect();
            rows.insert(number, rules);
        }
    }
    rows
}

fn collect(path: &str, text: &str, rules: &mut BTreeMap<Rule, Places>) {
    for (number, line) in text.lines().enumerate() {
        let Some(citation) = line.trim_start().strip_prefix("//= RFC ") else {
            continue;
        };
        let Some((rule, is_test)) = parse(citation) else {
            eprintln!("xtask: {path}:{}: not understood: {citation}", number + 1);
            continue;
        };
        let places: &mut Places = rules.entry(rule).or_default();
        let list = if is_test {
            &mut places.tests
        } else {
            &mut places.code
        };
        list.push(format!("{path}:{}", number + 1));
    }
}

fn parse(citation: &str) -> Option<(Rule, bool)> {
    let mut words = citation.split_whitespace();
    let document = words.next()?.parse().ok()?;
    let section = words
        .next()?
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let is_test = match words.next() {
        None => false,
        Some("type=test") => true,
        Some(_) => return None,
    };
    Some(((document, section), is_test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_and_its_test_meet() {
        let mut rules = BTreeMap::new();
        // In two parts, so that this file cites nothing itself.
        let code = concat!("    //", "= RFC 6665 4.2.2\n    //", "= RFC 3261 8.1\n");
        let test = concat!("//", "= RFC 6665 4.2.2 type=test\n");
        collect("src/a.rs", code, &mut rules);
        collect("tests/b.rs", test, &mut rules);
        let places = &rules[&(6665, vec![4, 2, 2])];
        assert_eq!(
            (places.code.as_slice(), places.tests.as_slice()),
            (
                &["src/a.rs:1".to_owned()][..],
                &["tests/b.rs:1".to_owned()][..]
            )
        );
        assert!(rules[&(3261, vec![8, 1])].tests.is_empty());
        assert_eq!(parse("6665 about"), None);
        let rows = rows("| 7 | a rule | 3261 8.1, 6665 4 | works | here |\n");
        assert_eq!(rows["7"], [(3261, vec![8, 1]), (6665, vec![4])]);
    }
}
