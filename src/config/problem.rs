//! What is wrong with a configuration, where, and what to write instead.

use core::fmt;
use core::ops::Range;

/// One mistake. A mistake of the command line has no place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    /// What to write instead, as a sentence.
    pub help: Option<String>,
    /// The bytes of the file that are meant.
    pub span: Option<Range<usize>>,
}

impl Problem {
    /// A mistake in these bytes of the file.
    pub fn at(span: Range<usize>, what: impl Into<String>) -> Self {
        Problem {
            what: what.into(),
            help: None,
            span: Some(span),
        }
    }

    /// A mistake that no line of the file has made.
    pub fn nowhere(what: impl Into<String>) -> Self {
        Problem {
            what: what.into(),
            help: None,
            span: None,
        }
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The mistakes of one file, in the order of its lines, with everything needed to show them.
#[derive(Debug)]
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    /// Of the file of this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        Problems {
            name: name.into(),
            text: text.into(),
            list,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match &problem.span {
                Some(span) => self.show_place(f, span, &problem.what)?,
                None => writeln!(f, "{}", problem.what)?,
            }
            for line in problem.help.iter().flat_map(|help| help.lines()) {
                writeln!(f, "   = {line}")?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for Problems {}

impl Problems {
    /// `file:line:column: what`, the line itself, and a mark under the bytes that are meant.
    fn show_place(
        &self,
        f: &mut fmt::Formatter<'_>,
        span: &Range<usize>,
        what: &str,
    ) -> fmt::Result {
        let place = Place::of(&self.text, span);
        writeln!(f, "{}:{}:{}: {what}", self.name, place.line, place.column)?;
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", place.text)?;
        writeln!(f, "{margin} | {}{}", place.indent, "^".repeat(place.width))
    }
}

/// A place in a text as people count: lines and columns from 1, columns in characters.
struct Place<'a> {
    line: usize,
    column: usize,
    text: &'a str,
    /// As wide as what stands before the place; tabs stay tabs.
    indent: String,
    width: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: &Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let before = &text[line_start..start];
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: before.chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r'),
            indent: before
                .chars()
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect(),
            width: text[start..end.min(line_end)].chars().count().max(1),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The known name that a misspelt one most likely means: the nearest one, if it is near.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many characters must be inserted, removed or replaced to make one of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_file_line_column_and_what_to_write() {
        let text = "shards = 2\n[admin]\n\tadress = 1\n";
        let start = text.find("adress").expect("is there");
        let problems = Problems::new(
            "lampfield.toml",
            text,
            vec![Problem::at(start..start + 6, "unknown key `adress`").help("write `address`")],
        );
        let expected = "lampfield.toml:3:2: unknown key `adress`\n  |\n3 | \tadress = 1\n  | \t^^^^^^\n   = write `address`\n";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn columns_count_characters_and_marks_stay_within_their_line() {
        let text = "a = \"äöü\" # \nb = 1";
        let start = text.find('#').expect("is there");
        let problems = Problems::new(
            "f",
            text,
            vec![Problem::at(start..text.len(), "everything")],
        );
        let shown = problems.to_string();
        assert!(shown.starts_with("f:1:11: everything"), "{shown}");
        assert!(shown.ends_with("^^\n"), "{shown}");
    }

    #[test]
    fn a_span_beyond_the_text_does_no_harm() {
        let problems = Problems::new("f", "ab", vec![Problem::at(7..9, "beyond")]);
        assert!(problems.to_string().starts_with("f:1:3: beyond"));
    }

    #[test]
    fn problems_come_in_the_order_of_their_lines() {
        let list = vec![
            Problem::nowhere("last"),
            Problem::at(2..3, "second"),
            Problem::at(0..1, "first"),
        ];
        let shown = Problems::new("f", "a\nb\n", list).to_string();
        let order: Vec<_> = ["first", "second", "last"]
            .iter()
            .map(|word| shown.find(word).expect("is shown"))
            .collect();
        assert!(order.is_sorted(), "{shown}");
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("listner", ["listener", "shards"]), Some("listener"));
        assert_eq!(nearest("Shard", ["listener", "shards"]), Some("shards"));
        assert_eq!(nearest("colour", ["listener", "shards"]), None);
    }
}
