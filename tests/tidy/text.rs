//! Views of a Rust source in which rules can look for words: without comments, without the contents of strings,
//! without the tests at its end. Lines keep their numbers. It is a lexer for this purpose, and no parser.

/// The source with comments and the contents of strings and characters turned into spaces.
pub fn code(source: &str) -> String {
    blank(source, true)
}

/// The source with comments turned into spaces.
pub fn without_comments(source: &str) -> String {
    blank(source, false)
}

/// What stands before the tests, which are the last thing in a file.
pub fn before_tests(code: &str) -> &str {
    match code.find("\n#[cfg(test)]\nmod tests") {
        Some(start) => &code[..start + 1],
        None => code,
    }
}

/// Whether the whole file is tests of the module above it.
pub fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Where `word` stands as a word of its own.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(start, _)| start)
        .filter(move |start| {
            let before = code[..*start].chars().next_back();
            let after = code[start + word.len()..].chars().next();
            let longer_before =
                before.is_some_and(is_identifier) && word.starts_with(is_identifier);
            let longer_after = after.is_some_and(is_identifier) && word.ends_with(is_identifier);
            !longer_before && !longer_after
        })
}

/// The line, counted from 1, of a position.
pub fn line_of(text: &str, position: usize) -> usize {
    text[..position]
        .bytes()
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// Whether a comment with `marker` stands on this line, or right above the statement that the line is part of.
pub fn is_explained(source: &str, line: usize, marker: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    if lines[line - 1].contains(marker) {
        return true;
    }
    let is_comment = |line: &str| line.starts_with("//") || line.starts_with("#[");
    let mut above = lines[..line - 1].iter().rev().copied().peekable();
    // Up to the first line of the statement.
    while above
        .next_if(|line| !is_comment(line) && !line.is_empty() && !line.ends_with([';', '{', '}']))
        .is_some()
    {}
    above
        .take_while(|line| is_comment(line))
        .any(|line| line.contains(marker))
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(source: &str, strings_too: bool) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, is_comment) = match literal_or_comment(bytes, at) {
            Some(found) => found,
            None => {
                at += 1;
                continue;
            }
        };
        if is_comment || strings_too {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole literals and comments were replaced")
}

/// The end of the literal or comment that begins at `at`, and whether it is a comment.
fn literal_or_comment(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        return Some((at + length, true));
    }
    if rest.starts_with(b"/*") {
        return Some((at + block_comment(rest), true));
    }
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if let Some(hashes) = raw_string(rest).filter(|_| !in_word || bytes[at - 1] == b'b') {
        let mut close = vec![b'"'];
        close.resize(hashes + 1, b'#');
        let start = hashes + 2;
        let length = rest[start..]
            .windows(close.len())
            .position(|window| window == close)
            .map_or(rest.len(), |found| start + found + close.len());
        return Some((at + length, false));
    }
    match rest[0] {
        b'"' => Some((at + quoted(rest, b'"'), false)),
        b'\'' if is_character(rest) => Some((at + quoted(rest, b'\''), false)),
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The number of `#` of a raw string that begins here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let after = rest.strip_prefix(b"r")?;
    let hashes = after.iter().take_while(|byte| **byte == b'#').count();
    (after.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        None => false,
        Some(b'\\') => true,
        Some(byte) if byte.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
    }
}

mod examples {
    use super::*;

    #[test]
    fn comments_and_strings_become_spaces_and_lines_stay() {
        let source = "let a = \"x // y\"; // z\n/* b /* c */ d */ e('\"', b\"\\\"f\", r#\"g\"h\"#, 'i, '\\'')";
        let code = code(source);
        assert_eq!(code.lines().count(), 2);
        for gone in ["x", "y", "z", "b /", "d", "f", "g", "h"] {
            assert_eq!(words(&code, gone).count(), 0, "{gone} in {code}");
        }
        for kept in ["let", "a", "e", "'i"] {
            assert_eq!(words(&code, kept).count(), 1, "{kept} in {code}");
        }
        assert!(without_comments(source).contains("x // y"));
    }

    #[test]
    fn only_the_tests_at_the_end_are_left_out() {
        let source = "#[cfg(test)]\nfn helper() {}\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(
            before_tests(source),
            "#[cfg(test)]\nfn helper() {}\nfn f() {}\n"
        );
    }

    #[test]
    fn a_word_inside_another_is_none() {
        assert_eq!(
            words("Instantly Instant _Instant", "Instant").collect::<Vec<_>>(),
            [10]
        );
    }

    #[test]
    fn an_explanation_may_stand_above_attributes() {
        let source = "x();\n// SAFETY: it is\n#[inline]\nunsafe {}\n";
        assert!(is_explained(source, 4, "SAFETY:"));
        assert!(!is_explained(source, 1, "SAFETY:"));
        let statement = "// SAFETY: it is\nlet (a, b):\n    (A, B) =\n    unsafe {}\nunsafe {}\n";
        assert!(is_explained(statement, 4, "SAFETY:"));
        assert!(!is_explained(
            "// SAFETY: it is\nf();\nunsafe {}\n",
            3,
            "SAFETY:"
        ));
    }
}
