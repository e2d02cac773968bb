//! The text of a scenario file, read into steps.

use std::time::Duration;

use super::connections::End;
use super::language::{Action, Case, Compare, Line, Only, Script, Step, Word};

/// Reads a file; an error names its line.
pub fn parse(text: &str, file_title: &str) -> Result<Script, (usize, String)> {
    let mut reader = Reader {
        preamble: Vec::new(),
        cases: Vec::new(),
        rules: Vec::new(),
        later: None,
        only: None,
    };
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        reader
            .line(line, raw, file_title)
            .map_err(|error| (line, error))?;
    }
    if !reader.rules.is_empty() || reader.later.is_some() {
        let line = text.lines().count();
        return Err((line, "`#=` and `#!` stand above a case".to_string()));
    }
    Ok(Script {
        cases: reader.cases,
    })
}

struct Reader {
    preamble: Vec<Step>,
    cases: Vec<Case>,
    rules: Vec<u32>,
    later: Option<String>,
    only: Option<(Only, String)>,
}

impl Reader {
    fn line(&mut self, line: usize, raw: &str, file_title: &str) -> Result<(), String> {
        if raw.starts_with([' ', '\t']) && !raw.trim().is_empty() {
            return self.below(raw);
        }
        let text = raw.trim_end();
        if let Some(numbers) = text.strip_prefix("#=") {
            for number in numbers.split_whitespace() {
                let number = number.parse().map_err(|_| format!("no number: {number}"))?;
                self.rules.push(number);
            }
        } else if let Some(reason) = text.strip_prefix("#!") {
            self.later = Some(reason.trim().to_string());
        } else if let Some(reason) = text.strip_prefix("#udp") {
            self.only = Some((Only::Datagrams, reason.trim().to_string()));
        } else if let Some(reason) = text.strip_prefix("#framed") {
            self.only = Some((Only::Framed, reason.trim().to_string()));
        } else if let Some(title) = text.strip_prefix("===") {
            self.open(line, title.trim());
        } else if !text.is_empty() && !text.starts_with('#') {
            let action = action(text.split(" # ").next().unwrap_or(text).trim_end())?;
            self.step(Step { line, action }, file_title);
        }
        Ok(())
    }

    /// An indented line belongs to the message above it.
    fn below(&mut self, raw: &str) -> Result<(), String> {
        let last = match self.cases.last_mut() {
            Some(case) => case.steps.last_mut(),
            None => self.preamble.last_mut(),
        };
        match last.map(|step| &mut step.action) {
            Some(Action::Send { lines, .. } | Action::Expect { lines, .. }) => {
                lines.push(below(raw.trim_start())?);
                Ok(())
            }
            _ => Err("an indented line belongs to a message, and there is none above".to_string()),
        }
    }

    fn open(&mut self, line: usize, title: &str) {
        self.cases.push(Case {
            title: title.to_string(),
            line,
            rules: std::mem::take(&mut self.rules),
            later: self.later.take(),
            only: self.only.take(),
            steps: self.preamble.clone(),
        });
    }

    fn step(&mut self, step: Step, file_title: &str) {
        let setting = matches!(step.action, Action::Set { .. } | Action::Phone { .. });
        if self.cases.is_empty() {
            if setting {
                self.preamble.push(step);
                return;
            }
            self.open(step.line, file_title);
        }
        let case = self.cases.last_mut().expect("a case is open");
        case.steps.push(step);
    }
}

fn ends(phone: &str, end: End) -> Action {
    let phone = phone.to_string();
    Action::Connection { phone, end }
}

fn closed(phone: &str) -> Action {
    let phone = phone.to_string();
    Action::Closed { phone }
}

fn action(text: &str) -> Result<Action, String> {
    for (sign, sends) in [('>', true), ('<', false)] {
        let Some((name, rest)) = text.split_once(sign) else {
            continue;
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            continue;
        }
        let phone = if name.is_empty() { "phone" } else { name }.to_string();
        let words = words(rest)?;
        if words.is_empty() {
            return Err("nothing to send or to expect".to_string());
        }
        let lines = Vec::new();
        return Ok(match sends {
            true => Action::Send {
                phone,
                words,
                lines,
            },
            false => Action::Expect {
                phone,
                words,
                lines,
            },
        });
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    match parts[..] {
        ["set", key, ..] => Ok(Action::Set {
            key: key.to_string(),
            value: parts[2..].join(" "),
        }),
        ["reload", key, ..] => Ok(Action::Reload {
            key: key.to_string(),
            value: parts[2..].join(" "),
        }),
        ["phone", name, address] => Ok(Action::Phone {
            name: name.to_string(),
            address: address.to_string(),
        }),
        ["hint", resource, ..] => Ok(Action::Hint {
            resource: resource.to_string(),
            words: words(&parts[2..].join(" "))?,
        }),
        ["+", time] => Ok(Action::Advance(duration(time)?)),
        ["refuse", count] => Ok(Action::Refuse {
            count: count_of(count)?,
        }),
        ["lose", count] => lose("phone", count),
        [phone, "lose", count] => lose(phone, count),
        ["snapshot", "begin", source, epoch] => snapshot(true, source, epoch),
        ["snapshot", "end", source, epoch] => snapshot(false, source, epoch),
        ["listen", name, address] => Ok(Action::Listen {
            name: name.to_string(),
            address: address.to_string(),
        }),
        ["unlisten", name] => Ok(Action::Unlisten {
            name: name.to_string(),
        }),
        ["swap", ..] => Ok(Action::Swap {
            words: parts[1..].iter().map(|word| word.to_string()).collect(),
        }),
        ["draining", count] => Ok(Action::Draining(count_of(count)? as usize)),
        ["drain", time] => Ok(Action::Drain(duration(time)?)),
        ["asleep", time] => Ok(Action::Asleep(duration(time)?)),
        ["cut", length] => Ok(Action::Cut(count_of(length)? as usize)),
        ["closes"] => Ok(ends("phone", End::Closes)),
        [phone, "closes"] => Ok(ends(phone, End::Closes)),
        ["ends"] => Ok(ends("phone", End::Ends)),
        [phone, "ends"] => Ok(ends(phone, End::Ends)),
        ["closed"] => Ok(closed("phone")),
        [phone, "closed"] => Ok(closed(phone)),
        ["hold"] => Ok(Action::Hold),
        ["go"] => Ok(Action::Go),
        ["ignore"] => Ok(Action::Ignore {
            phone: "phone".to_string(),
        }),
        [phone, "ignore"] => Ok(Action::Ignore {
            phone: phone.to_string(),
        }),
        ["answers", status] => answers("phone", status),
        [phone, "answers", status] => answers(phone, status),
        _ => Err(format!("no step of the language: {text}")),
    }
}

fn lose(phone: &str, count: &str) -> Result<Action, String> {
    Ok(Action::Lose {
        phone: phone.to_string(),
        count: count_of(count)?,
    })
}

fn answers(phone: &str, status: &str) -> Result<Action, String> {
    let status = match status {
        "nothing" => None,
        _ => Some(
            status
                .parse()
                .map_err(|_| format!("no status code: {status}"))?,
        ),
    };
    Ok(Action::Answers {
        phone: phone.to_string(),
        status,
    })
}

fn snapshot(begins: bool, source: &str, epoch: &str) -> Result<Action, String> {
    Ok(Action::Snapshot {
        begins,
        source: source.to_string(),
        epoch: epoch.parse().map_err(|_| format!("no epoch: {epoch}"))?,
    })
}

fn count_of(text: &str) -> Result<u32, String> {
    match text {
        "next" => Ok(1),
        "all" => Ok(u32::MAX),
        "none" => Ok(0),
        _ => text.parse().map_err(|_| format!("no count: {text}")),
    }
}

/// `500ms`, `32s`, `5min`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: f64 = digits.parse().map_err(|_| format!("no duration: {text}"))?;
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("no unit of time: {unit:?}; ms, s, min or h")),
    };
    Ok(Duration::from_millis(
        (number * unit * 1000.0).round() as u64
    ))
}

/// Splits at spaces outside quotes; the quotes go.
fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let (mut current, mut quoted, mut any) = (String::new(), false, false);
    for character in text.chars() {
        match character {
            '"' => (quoted, any) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if any {
                    words.push(word(&std::mem::take(&mut current)));
                }
                any = false;
            }
            c => {
                current.push(c);
                any = true;
            }
        }
    }
    if quoted {
        return Err("a quote is left open".to_string());
    }
    if any {
        words.push(word(&current));
    }
    Ok(words)
}

fn word(text: &str) -> Word {
    let name_end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'))
        .unwrap_or(text.len());
    let (key, rest) = text.split_at(name_end);
    for (sign, compare) in [
        ("<=", Compare::AtMost),
        (">=", Compare::AtLeast),
        ("!=", Compare::IsNot),
        ("!~", Compare::ContainsNot),
        ("=", Compare::Is),
        ("~", Compare::Contains),
    ] {
        if let Some(value) = rest.strip_prefix(sign)
            && !key.is_empty()
        {
            return Word {
                key: key.to_string(),
                check: Some((compare, value.to_string())),
            };
        }
    }
    Word {
        key: text.to_string(),
        check: None,
    }
}

fn below(text: &str) -> Result<Line, String> {
    if let Some(text) = text.strip_prefix('|') {
        return Ok(Line::Text(
            text.strip_prefix(' ').unwrap_or(text).to_string(),
        ));
    }
    let text = text.trim_end();
    if let Some(name) = text.strip_prefix("- ") {
        let name = name.to_string();
        return Ok(Line::Without { name });
    }
    if let Some(more) = text.strip_prefix("+ ") {
        let (name, value) = more.split_once(':').unwrap_or((more, ""));
        return Ok(Line::More {
            name: name.to_string(),
            value: value.trim().to_string(),
        });
    }
    let name_end = text.find([' ', ':']).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let name = name.to_string();
    let rest = rest.trim_start();
    for (sign, compare) in [("!~ ", Compare::ContainsNot), ("~ ", Compare::Contains)] {
        if let Some(value) = rest.strip_prefix(sign) {
            let value = value.trim().to_string();
            return Ok(Line::Compare {
                name,
                compare,
                value,
            });
        }
    }
    if let Some(variable) = rest.strip_prefix("-> ") {
        let variable = variable.trim().to_string();
        return Ok(Line::Keep { name, variable });
    }
    match rest.strip_prefix(':') {
        Some(value) => Ok(Line::Header {
            name,
            value: value.trim().to_string(),
        }),
        None => Err(format!("neither a header nor a check: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_action(text: &str) -> Action {
        let script = parse(text, "test").expect("readable");
        script.cases[0].steps.last().expect("a step").action.clone()
    }

    #[test]
    fn a_request_of_a_named_phone_is_read_with_its_headers() {
        let action = only_action(
            "alice> SUBSCRIBE 1001 expires=60\n  Accept: a/b;q=0.2, c/d\n  - Contact\n  | body\n",
        );
        let Action::Send {
            phone,
            words,
            lines,
        } = action
        else {
            panic!("{action:?}");
        };
        assert_eq!(phone, "alice");
        assert_eq!(words[1].key, "1001");
        assert_eq!(Word::value_of(&words, "expires"), Some("60"));
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            Line::Without {
                name: "Contact".to_string()
            }
        );
        assert_eq!(lines[2], Line::Text("body".to_string()));
    }

    #[test]
    fn checks_are_read_with_their_comparison() {
        let action =
            only_action("< NOTIFY active expires<=60\n  body !~ confirmed\n  Via -> via\n");
        let Action::Expect {
            phone,
            words,
            lines,
        } = action
        else {
            panic!("{action:?}");
        };
        assert_eq!(phone, "phone");
        assert_eq!(words[2].check, Some((Compare::AtMost, "60".to_string())));
        assert!(matches!(
            &lines[0],
            Line::Compare {
                compare: Compare::ContainsNot,
                ..
            }
        ));
        assert!(matches!(&lines[1], Line::Keep { variable, .. } if variable == "via"));
    }

    #[test]
    fn settings_and_phones_above_the_cases_hold_for_each() {
        let script = parse(
            "set on_timeout park\nphone a 10.0.0.1:5060\n#= 1 2\n=== one\n> 200\n#= 3\n#! not yet\n=== two\n+ 5s\n",
            "file",
        )
        .expect("readable");
        assert_eq!(script.cases.len(), 2);
        assert_eq!(script.cases[0].rules, [1, 2]);
        assert_eq!(script.cases[1].rules, [3]);
        assert_eq!(script.cases[1].later.as_deref(), Some("not yet"));
        assert_eq!(script.cases[1].steps.len(), 3);
        assert_eq!(script.cases[1].title, "two");
    }

    #[test]
    fn errors_name_their_line() {
        assert_eq!(parse("> 200\nfly away\n", "x").unwrap_err().0, 2);
        assert_eq!(parse("  Via: x\n", "x").unwrap_err().0, 1);
        assert_eq!(parse("+ 5 parsecs\n", "x").unwrap_err().0, 1);
        assert_eq!(parse("> SUBSCRIBE \"1001\n", "x").unwrap_err().0, 1);
        assert!(parse("> 200\n#= 5\n", "x").is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        assert!(duration("3").is_err());
    }

    #[test]
    fn losses_and_standing_answers_are_read() {
        assert!(matches!(
            only_action("> 200\nlose all\n"),
            Action::Lose {
                count: u32::MAX,
                ..
            }
        ));
        assert!(matches!(
            only_action("bob answers 481\n"),
            Action::Answers { phone, status: Some(481) } if phone == "bob"
        ));
    }
}
