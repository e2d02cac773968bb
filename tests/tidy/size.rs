//! Files and functions that have grown long: they may hold two things.

use crate::Finding;
use crate::text;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// A file of more than 600 lines, and each function of more than 70.
pub fn long(_path: &str, source: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.lines().count();
    if lines > FILE_LINES {
        findings.push(Finding {
            line: 1,
            message: format!("{lines} lines"),
        });
    }
    let code = text::code(source);
    for position in text::words(&code, "fn") {
        let Some(length) = body_lines(&code[position..]) else {
            continue;
        };
        if length > FUNCTION_LINES {
            let name: String = code[position + 2..]
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            findings.push(Finding {
                line: text::line_of(&code, position),
                message: format!("function `{name}` has {length} lines"),
            });
        }
    }
    findings
}

/// The lines from `fn` to the end of its body; None if it has no body.
fn body_lines(code: &str) -> Option<usize> {
    let open = code
        .find(['{', ';'])
        .filter(|open| code[*open..].starts_with('{'))?;
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(text::line_of(code, open + at));
        }
    }
    None
}

mod examples {
    use super::*;

    #[test]
    fn a_long_function_and_a_long_file_are_found() {
        let body = "    x();\n".repeat(80);
        let found = long(
            "src/x.rs",
            &format!("fn short() {{}}\n\nfn long() {{\n{body}}}\n"),
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].line, found[0].message.as_str()),
            (3, "function `long` has 82 lines")
        );
        assert_eq!(long("src/x.rs", &"\n".repeat(601)).len(), 1);
        assert!(long("src/x.rs", "trait T { fn f(); }\n").is_empty());
    }
}
