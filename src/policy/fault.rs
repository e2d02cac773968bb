//! A setting that can't be used: what stands there, and what to write instead. Where it stands in which file
//! is known to who read the file.

use core::fmt;

/// A setting that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands, such as `access.rules[3].resource`; may be empty.
    pub at: String,
    pub value: String,
    /// What to write there.
    pub instead: String,
}

impl Fault {
    pub(super) fn new(value: &str, instead: impl Into<String>) -> Fault {
        Fault {
            at: String::new(),
            value: value.to_owned(),
            instead: instead.into(),
        }
    }

    pub(super) fn at(mut self, at: &str) -> Fault {
        self.at = at.to_owned();
        self
    }

    pub(super) fn within(mut self, outer: &str) -> Fault {
        self.at = match self.at.as_str() {
            "" => outer.to_owned(),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        write!(
            f,
            "\"{}\" can't be used; write {}",
            self.value, self.instead
        )
    }
}

impl core::error::Error for Fault {}
