//! One table of a configuration file, read key by key: every key asked for is known, every other is a mistake.
//! A wrong value is noted and reads as absent, so that one look finds every mistake of a file.

use core::cell::RefCell;
use core::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Problem, nearest};

/// Where the mistakes of one file are noted.
#[derive(Debug, Default)]
pub struct Notes(RefCell<Vec<Problem>>);

impl Notes {
    /// Notes one.
    pub fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// All that were noted.
    pub fn into_list(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value and the bytes that it stands in.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// What may be written short or long.
#[derive(Debug)]
pub enum TextOrSection<'t> {
    Text(Placed<&'t str>),
    Section(Section<'t>),
}

/// One table.
#[derive(Debug)]
pub struct Section<'t> {
    table: &'t DeTable<'t>,
    notes: &'t Notes,
    /// As it is written in a header: `admin`; empty for the file itself.
    name: String,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The table of this name.
    pub fn new(name: impl Into<String>, table: &'t DeTable<'t>, notes: &'t Notes) -> Self {
        Section {
            table,
            notes,
            name: name.into(),
            known: Vec::new(),
        }
    }

    /// Where mistakes are noted.
    pub fn notes(&self) -> &'t Notes {
        self.notes
    }

    fn take(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn mismatch(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let written = match key.bytes().all(is_bare) {
            true => key.to_owned(),
            false => format!("\"{key}\""),
        };
        self.notes.push(
            Problem::at(value.span(), format!("`{key}` is {wanted}, not {found}"))
                .help(format!("write `{written} = {}`", example(wanted))),
        );
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<Placed<&'t str>> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.mismatch(key, value, "a text in quotes");
            return None;
        };
        Some(Placed {
            value: text,
            span: value.span(),
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.mismatch(key, value, "true or false");
        }
        flag
    }

    /// A whole number within limits.
    pub fn number(
        &mut self,
        key: &'static str,
        limits: RangeInclusive<u64>,
    ) -> Option<Placed<u64>> {
        let value = self.take(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.mismatch(key, value, "a whole number");
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if limits.contains(&number) => Some(Placed {
                value: number,
                span: value.span(),
            }),
            _ => {
                self.notes.push(
                    Problem::at(value.span(), format!("`{key}` is out of its limits")).help(
                        format!("write a number from {} to {}", limits.start(), limits.end()),
                    ),
                );
                None
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<Placed<&'t str>>> {
        let value = self.take(key)?;
        self.texts_in(key, value)
    }

    fn texts_in(&self, key: &str, value: &'t Spanned<DeValue<'t>>) -> Option<Vec<Placed<&'t str>>> {
        let Some(array) = value.get_ref().as_array() else {
            self.mismatch(key, value, "a list of texts");
            return None;
        };
        let mut texts = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Placed {
                    value: text,
                    span: item.span(),
                }),
                None => self.mismatch(key, item, "a list of texts"),
            }
        }
        Some(texts)
    }

    /// One of the given words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.notes.push(
                Problem::at(text.span, format!("`{key}` cannot be \"{}\"", text.value))
                    .help(format!("write one of \"{}\"", known.join("\", \""))),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// A table within: `[admin]`.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'t>> {
        let value = self.take(key)?;
        let Some(table) = value.get_ref().as_table() else {
            let header = self.child_name(key);
            self.notes.push(
                Problem::at(value.span(), format!("`{key}` is a table"))
                    .help(format!("write `[{header}]` and its keys below")),
            );
            return None;
        };
        Some(Section::new(self.child_name(key), table, self.notes))
    }

    /// Tables that may be written many times: `[[listener]]`. With the place of each.
    pub fn sections(&mut self, key: &'static str) -> Vec<Placed<Section<'t>>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let header = self.child_name(key);
        let items = value.get_ref().as_array();
        let tables: Option<Vec<_>> = items.and_then(|items| {
            items
                .iter()
                .map(|item| Some((item.get_ref().as_table()?, item.span())))
                .collect()
        });
        let Some(tables) = tables else {
            self.notes.push(
                Problem::at(value.span(), format!("`{key}` is a table of its own")).help(format!(
                    "write `[[{header}]]` and its keys below, once for each"
                )),
            );
            return Vec::new();
        };
        tables
            .into_iter()
            .map(|(table, span)| Placed {
                value: Section::new(header.clone(), table, self.notes),
                span,
            })
            .collect()
    }

    /// Every entry of a table whose keys the writer chooses and whose values are lists of texts,
    /// in the order of the keys.
    pub fn lists(&mut self) -> Vec<(Placed<&'t str>, Vec<Placed<&'t str>>)> {
        let mut entries = Vec::with_capacity(self.table.len());
        for (key, value) in self.table.iter() {
            let name: &'t str = key.get_ref();
            if let Some(texts) = self.texts_in(name, value) {
                let span = key.span();
                entries.push((Placed { value: name, span }, texts));
            }
        }
        entries
    }

    /// Every entry of a table whose keys the writer chooses and whose values are tables, in the order of the keys.
    pub fn tables(&mut self) -> Vec<(Placed<&'t str>, Section<'t>)> {
        let mut entries = Vec::with_capacity(self.table.len());
        for (key, value) in self.table.iter() {
            let name: &'t str = key.get_ref();
            let Some(table) = value.get_ref().as_table() else {
                self.mismatch(name, value, "a table");
                continue;
            };
            let section = Section::new(self.child_name(name), table, self.notes);
            let span = key.span();
            entries.push((Placed { value: name, span }, section));
        }
        entries
    }

    /// Every entry of a table whose keys the writer chooses and whose values are texts or tables,
    /// in the order of the keys.
    pub fn texts_or_sections(&mut self) -> Vec<(Placed<&'t str>, TextOrSection<'t>)> {
        let mut entries = Vec::with_capacity(self.table.len());
        for (key, value) in self.table.iter() {
            let name: &'t str = key.get_ref();
            let span = value.span();
            let entry = match value.get_ref() {
                DeValue::String(text) => TextOrSection::Text(Placed {
                    value: &**text,
                    span,
                }),
                DeValue::Table(table) => {
                    let section = Section::new(self.child_name(name), table, self.notes);
                    TextOrSection::Section(section)
                }
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    self.mismatch(name, value, "a text in quotes");
                    continue;
                }
            };
            let span = key.span();
            entries.push((Placed { value: name, span }, entry));
        }
        entries
    }

    /// Notes every key that nobody asked for. To be called when all were asked for.
    pub fn finish(self) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = match self.name.as_str() {
                "" => String::new(),
                name => format!(" in [{name}]"),
            };
            let help = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.notes
                .push(Problem::at(key.span(), format!("unknown key `{name}`{place}")).help(help));
        }
    }

    fn child_name(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

fn example(wanted: &str) -> &'static str {
    match wanted {
        "a text in quotes" => "\"…\"",
        "true or false" => "true",
        "a whole number" => "1",
        "a table" => "{ … }",
        _ => "[\"…\", \"…\"]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problems;

    fn problems_of(text: &str, read: impl FnOnce(&mut Section<'_>)) -> String {
        let table = DeTable::parse(text).expect("well-formed").into_inner();
        let notes = Notes::default();
        let mut section = Section::new("", &table, &notes);
        read(&mut section);
        section.finish();
        Problems::new("f", text, notes.into_list()).to_string()
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let shown = problems_of("shard = 3\nfoo = 1\n", |section| {
            assert!(section.number("shards", 1..=64).is_none());
        });
        assert!(shown.contains("f:1:1: unknown key `shard`"), "{shown}");
        assert!(shown.contains("did you mean `shards`?"), "{shown}");
        assert!(shown.contains("f:2:1: unknown key `foo`"), "{shown}");
        assert!(shown.contains("known here: shards"), "{shown}");
    }

    #[test]
    fn every_wrong_value_of_a_file_is_found_in_one_look() {
        let text = "a = 1\nb = \"x\"\nc = -1\nd = [1]\ne = 2\nf = \"blue\"\n";
        let shown = problems_of(text, |section| {
            section.text("a");
            section.flag("b");
            section.number("c", 0..=9);
            section.texts("d");
            section.section("e");
            section.word("f", &[("red", 1), ("green", 2)]);
        });
        for part in [
            "f:1:5: `a` is a text in quotes, not a whole number",
            "f:2:5: `b` is true or false",
            "f:3:5: `c` is out of its limits",
            "f:4:6: `d` is a list of texts",
            "f:5:5: `e` is a table",
            "write one of \"red\", \"green\"",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn right_values_are_read() {
        let text = "n = 0x10\n[[l]]\nx = \"1\"\n[[l]]\nx = \"2\"\n[m]\n\"a.b\" = [\"c\"]\n";
        let shown = problems_of(text, |section| {
            assert_eq!(section.number("n", 0..=99).map(|n| n.value), Some(16));
            let mut all = Vec::new();
            for mut item in section.sections("l") {
                all.extend(item.value.text("x").map(|text| text.value.to_owned()));
                item.value.finish();
            }
            assert_eq!(all, ["1", "2"]);
            let entries = section.section("m").expect("is there").lists();
            assert_eq!(entries[0].0.value, "a.b");
            assert_eq!(entries[0].1[0].value, "c");
        });
        assert_eq!(shown, "");
    }
}
