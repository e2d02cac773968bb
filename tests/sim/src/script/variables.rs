//! Variables of a scenario: `${etag}`, and `${x*1000}` for a thousand times `x`.

use super::language::{Line, Word};
use super::stage::Stage;

/// Puts variables in their places: `${etag}`, and `${text*1000}` for a thousand times `text`.
pub fn fill(stage: &Stage, text: &str) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..].find('}').ok_or("`${` without `}`")? + start;
        filled.push_str(&rest[..start]);
        let name = &rest[start + 2..end];
        match (stage.variables.get(name), name.rsplit_once('*')) {
            (Some(value), _) => filled.push_str(value),
            (None, Some((unit, count))) => {
                let count = count.parse().map_err(|_| format!("no count: {count}"))?;
                filled.push_str(&unit.repeat(count));
            }
            (None, None) if name == "length" => filled.push_str("${length}"),
            (None, None) => return Err(format!("no variable {name}")),
        }
        rest = &rest[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

pub fn fill_words(stage: &Stage, words: &[Word]) -> Result<Vec<Word>, String> {
    words
        .iter()
        .map(|word| {
            let check = match &word.check {
                Some((compare, value)) => Some((*compare, fill(stage, value)?)),
                None => None,
            };
            Ok(Word {
                key: fill(stage, &word.key)?,
                check,
            })
        })
        .collect()
}

pub fn fill_lines(stage: &Stage, lines: &[Line]) -> Result<Vec<Line>, String> {
    lines
        .iter()
        .map(|line| {
            Ok(match line.clone() {
                Line::Header { name, value } => Line::Header {
                    name,
                    value: fill(stage, &value)?,
                },
                Line::More { name, value } => Line::More {
                    name,
                    value: fill(stage, &value)?,
                },
                Line::Compare {
                    name,
                    compare,
                    value,
                } => Line::Compare {
                    name,
                    compare,
                    value: fill(stage, &value)?,
                },
                Line::Text(text) => Line::Text(fill(stage, &text)?),
                Line::Without { name } => Line::Without { name },
                Line::Keep { name, variable } => Line::Keep { name, variable },
            })
        })
        .collect()
}
