//! The steps that a scenario file is made of; `reader` finds them in its text. Nothing here knows what they mean
//! to a shard; docs/simulation.md describes the language for those who write it.

use std::time::Duration;

use lampfield::transport::Transport;

use super::connections::End;

/// One file: settings and phones that hold for all of its cases, then the cases.
#[derive(Debug)]
pub struct Script {
    pub cases: Vec<Case>,
}

/// One conversation, with a fresh shard of its own.
#[derive(Clone, Debug)]
pub struct Case {
    pub title: String,
    pub line: usize,
    /// Numbers of docs/conformance.md that this case shows to hold.
    pub rules: Vec<u32>,
    /// Why the case is expected to fail for now.
    pub later: Option<String>,
    /// Where alone it goes as it is written, and why.
    pub only: Option<(Only, String)>,
    pub steps: Vec<Step>,
}

/// What carries the messages of a case that does not go the same by everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// `#udp`
    Datagrams,
    /// `#framed`: datagrams and the frames of WebSocket, which say where a message ends.
    Framed,
}

impl Only {
    /// Whether a case goes otherwise by this.
    pub fn excludes(self, transport: Transport) -> bool {
        match self {
            Only::Datagrams => transport.is_stream(),
            Only::Framed => transport.is_stream() && !transport.is_web(),
        }
    }
}

/// One step and the line that it stands on.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

/// What a step does. A phone without a name is `phone`.
#[derive(Clone, Debug)]
pub enum Action {
    /// `set key value`
    Set {
        key: String,
        value: String,
    },
    /// `reload key value`: the shards adopt the settings with this one changed.
    Reload {
        key: String,
        value: String,
    },
    /// `phone alice 10.0.0.9:5060`
    Phone {
        name: String,
        address: String,
    },
    /// `alice answers 200`: from now on every NOTIFY is answered so; `alice answers nothing` ends it.
    Answers {
        phone: String,
        status: Option<u16>,
    },
    /// `alice> SUBSCRIBE 1001 expires=60`, `> 200`, `> again`, `> raw`
    Send {
        phone: String,
        words: Vec<Word>,
        lines: Vec<Line>,
    },
    /// `alice< NOTIFY active early`, `< 200`, `< again`, `< nothing`
    Expect {
        phone: String,
        words: Vec<Word>,
        lines: Vec<Line>,
    },
    /// `hint 1001 ringing source=pbx`
    Hint {
        resource: String,
        words: Vec<Word>,
    },
    /// `+ 32s`
    Advance(Duration),
    /// `asleep 20s`: time passes and nobody ticks, as when the host is suspended.
    Asleep(Duration),
    /// `lose next`, `lose 3`, `alice lose all`: of what the server sends.
    Lose {
        phone: String,
        count: u32,
    },
    /// `refuse next`: the kernel refuses the next send.
    Refuse {
        count: u32,
    },
    /// `snapshot begin pbx 2`, `snapshot end pbx 2`: a source tells all it knows, in a new epoch.
    Snapshot {
        begins: bool,
        source: String,
        epoch: u64,
    },
    /// `listen second 192.0.2.2:5060`: with the next swap.
    Listen {
        name: String,
        address: String,
    },
    /// `unlisten four`: with the next swap.
    Unlisten {
        name: String,
    },
    /// `swap`, `swap fresh`, `swap refused`, `swap stays 10s`: a reload of the transports.
    Swap {
        words: Vec<String>,
    },
    /// `draining 2`: so many listeners drain now.
    Draining(usize),
    /// `drain 2s`: a planned stop, within that time.
    Drain(Duration),
    /// `alice closes`: her connection; `alice ends`: only what she says.
    Connection {
        phone: String,
        end: End,
    },
    /// `alice closed`: the server has closed her connection.
    Closed {
        phone: String,
    },
    /// `cut 1`: what is sent by connections comes in pieces of so many bytes.
    Cut(usize),
    /// `hold`: what comes from now on comes in one turn of the shard, until `go`.
    Hold,
    Go,
    /// `ignore`, `alice ignore`: what has come unread is thrown away.
    Ignore {
        phone: String,
    },
}

/// `expires=60`, `expires<=60`, or a plain word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub key: String,
    pub check: Option<(Compare, String)>,
}

impl Case {
    /// Whether it loses, repeats or refuses datagrams, or changes listeners: that is for datagrams only, here.
    pub fn is_of_datagrams(&self) -> bool {
        let repeats = |words: &[Word]| words[0].key == "again";
        self.steps.iter().any(|step| match &step.action {
            Action::Lose { .. }
            | Action::Refuse { .. }
            | Action::Listen { .. }
            | Action::Unlisten { .. }
            | Action::Swap { .. }
            | Action::Draining(_) => true,
            Action::Send { words, .. } | Action::Expect { words, .. } => repeats(words),
            Action::Set { key, .. } => key == "transport" || key == "receive_buffer",
            Action::Reload { .. }
            | Action::Phone { .. }
            | Action::Answers { .. }
            | Action::Hint { .. }
            | Action::Advance(_)
            | Action::Asleep(_)
            | Action::Snapshot { .. }
            | Action::Drain(_)
            | Action::Connection { .. }
            | Action::Closed { .. }
            | Action::Cut(_)
            | Action::Hold
            | Action::Go
            | Action::Ignore { .. } => false,
        })
    }
}

impl Word {
    /// The value of `key=value`.
    pub fn value_of<'a>(words: &'a [Word], key: &str) -> Option<&'a str> {
        words.iter().find_map(|word| match &word.check {
            Some((Compare::Is, value)) if word.key == key => Some(value.as_str()),
            Some(_) | None => None,
        })
    }
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Is,
    IsNot,
    AtMost,
    AtLeast,
    Contains,
    ContainsNot,
}

/// An indented line below a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `Name: value`
    Header { name: String, value: String },
    /// `+ Name: value` adds one more when sending; `+ Name` expects one.
    More { name: String, value: String },
    /// `- Name`
    Without { name: String },
    /// `Name ~ text`, `Name !~ text`
    Compare {
        name: String,
        compare: Compare,
        value: String,
    },
    /// `Name -> variable`
    Keep { name: String, variable: String },
    /// `| text`: a line of the body, or of the raw message.
    Text(String),
}
