//! What is declared for all is used by somebody: a limit that nothing asks for limits nothing, and a counter that
//! nothing counts says zero forever.

use crate::Finding;
use crate::text;

/// The limits in `limits` that stand in none of `sources`.
pub fn unused_limits<'a>(
    limits: &str,
    sources: impl Iterator<Item = &'a str> + Clone,
) -> Vec<Finding> {
    let code = text::code(limits);
    text::words(&code, "pub const ")
        .filter_map(|position| {
            let name = identifier(&code[position + "pub const ".len()..]);
            let used = sources
                .clone()
                .any(|source| text::words(source, name).next().is_some());
            (!used).then(|| Finding {
                line: text::line_of(&code, position),
                message: format!("nothing asks for the limit `{name}`"),
            })
        })
        .collect()
}

/// The counters and gauges of `stats` that nothing in `sources` names.
pub fn unused_metrics<'a>(
    stats: &str,
    sources: impl Iterator<Item = &'a str> + Clone,
) -> Vec<Finding> {
    let code = text::code(stats);
    let mut findings = Vec::new();
    let mut kind = "";
    for (number, line) in code.lines().enumerate() {
        let word = identifier(line.trim_start());
        match line.trim() {
            "Counter:" | "Gauge:" => kind = word,
            "}" if !line.starts_with(' ') => kind = "",
            _ => {}
        }
        // A metric stands on a line of its own: `Name { label = "value" }`.
        let is_metric =
            line.trim_start()[word.len()..].starts_with(" {") && line.trim_end().ends_with('}');
        if kind.is_empty() || word.is_empty() || !is_metric {
            continue;
        }
        let named = format!("{kind}::{word}");
        if !sources
            .clone()
            .any(|source| text::words(source, &named).next().is_some())
        {
            findings.push(Finding {
                line: number + 1,
                message: format!("nothing sets `{named}`"),
            });
        }
    }
    findings
}

fn identifier(code: &str) -> &str {
    let end = code
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(code.len());
    &code[..end]
}

mod examples {
    use super::*;

    #[test]
    fn a_limit_that_nothing_asks_for_is_found() {
        let limits = "/// One.\npub const ONE: usize = 1;\npub const TWO: usize = 2;\nconst _: () = assert!(TWO > ONE);";
        let found = unused_limits(
            limits,
            ["if n > limits::ONE {", "let TWOS = 2;"].into_iter(),
        );
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [3]
        );
    }

    #[test]
    fn a_metric_that_nothing_sets_is_found() {
        let stats = "metrics! {\n    Counter:\n    \"x\" \"y\" {\n        One { a = \"b\" }\n        Two {}\n    }\n}\n\
                     metrics! {\n    Gauge:\n    \"z\" \"z\" {\n        Two {}\n    }\n}\nfn f() { One {} }\n";
        let found = unused_metrics(
            stats,
            ["stats.record(Counter::One); gauges.set(Gauge::Two, 1)"].into_iter(),
        );
        assert_eq!(
            found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [5]
        );
    }
}
