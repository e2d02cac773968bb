//! One simulated connection: bytes both ways, each with a window and a pace, and two ends that need not know of each
//! other's. The server's end is the pure part of the real one.

use std::collections::VecDeque;

use lampfield::time::Time;
use lampfield::transport::stream::Outgoing;

use crate::random::Random;
use crate::web::{Page, Said};

/// How the bytes that a peer sends are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Not,
    EachByte,
    Anywhere,
}

/// How fast a peer reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub bytes: usize,
    pub every_ms: u64,
}

impl Pace {
    pub const FAST: Pace = Pace {
        bytes: usize::MAX,
        every_ms: 1,
    };
}

/// What a peer that speaks WebSocket knows of its connection.
#[derive(Debug, Default)]
pub struct Web {
    pub page: Page,
    pub open: bool,
    /// What it will say when the connection is open.
    pub waiting: Vec<Vec<u8>>,
    /// It has closed; the server has heard that.
    pub closes: bool,
    pub close_heard: bool,
}

/// What a peer has read.
pub enum Read {
    Message(Vec<u8>),
    Web(Said),
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// Whose it is; a stranger's is nobody's.
    pub carrier: Option<usize>,
    /// The listening socket that it came to.
    pub socket: u32,
    /// What the shard wants written and the kernel has not taken.
    pub out: Outgoing,
    /// The shard knows it.
    pub known: bool,
    /// The server has a socket of it.
    pub open: bool,
    /// The end of what the server says is behind `down`.
    pub down_ends: bool,
    /// What the kernel has taken, and the peer has not read.
    pub down: VecDeque<u8>,
    /// So much the kernel takes.
    pub window: usize,
    /// What the peer has sent, and the server has not read.
    pub up: VecDeque<u8>,
    /// The end of what the peer says is behind `up`; it was heard.
    pub up_ends: bool,
    pub end_heard: bool,
    pub cut: Cut,
    pub pace: Pace,
    pub stalled_until: Time,
    /// Nothing gets through any more, and nobody says so.
    pub vanished: bool,
    /// The peer still reads.
    pub peer_reads: bool,
    /// What the peer has read of a message that is not whole.
    begun: Vec<u8>,
    /// It came to a listener of WebSocket, and knows that.
    pub is_web: bool,
    pub web: Option<Web>,
    /// An event of this kind is coming.
    pub arriving: bool,
    pub reading: bool,
    pub losing: bool,
}

impl Wire {
    pub fn new(carrier: Option<usize>, socket: u32, is_web: bool, random: &mut Random) -> Self {
        let cuts = [Cut::Not, Cut::Not, Cut::EachByte, Cut::Anywhere];
        Wire {
            carrier,
            socket,
            out: Outgoing::default(),
            known: true,
            open: true,
            down_ends: false,
            down: VecDeque::new(),
            window: *random.pick(&[1_000, 8_000, 65_536, 200_000]),
            up: VecDeque::new(),
            up_ends: false,
            end_heard: false,
            cut: *random.pick(&cuts),
            pace: Pace::FAST,
            stalled_until: Time::ZERO,
            vanished: false,
            peer_reads: true,
            begun: Vec::new(),
            is_web,
            web: None,
            arriving: false,
            reading: false,
            losing: false,
        }
    }

    /// The kernel takes what it has room for. How many bytes of the shard's those were, if it is to be told.
    pub fn pump(&mut self) -> usize {
        let mut taken = 0;
        if self.open {
            let room = self.window.saturating_sub(self.down.len());
            let rest = self.out.rest();
            taken = rest.len().min(room);
            self.down.extend(&rest[..taken]);
            self.out.take(taken);
        }
        let said = self.out.settle(taken);
        self.down_ends |= self.out.ends();
        match self.out.lingers_until() {
            None => said,
            Some(_) => 0,
        }
    }

    /// The next piece of what the peer has sent.
    pub fn piece(&mut self, random: &mut Random) -> Vec<u8> {
        let length = match self.cut {
            Cut::Not => self.up.len(),
            Cut::EachByte => 1,
            Cut::Anywhere => random.between(1, 300) as usize,
        };
        self.up.drain(..length.min(self.up.len())).collect()
    }

    /// The peer reads for once; what is whole now. A stranger does not look at it.
    pub fn read(&mut self) -> Result<Vec<Read>, String> {
        let length = self.down.len().min(self.pace.bytes);
        let came = self.down.drain(..length);
        if self.carrier.is_none() {
            drop(came);
            return Ok(Vec::new());
        }
        if let Some(web) = &mut self.web {
            let came: Vec<u8> = came.collect();
            let said = web.page.read(&came)?;
            return Ok(said.into_iter().map(Read::Web).collect());
        }
        self.begun.extend(came);
        let mut messages = Vec::new();
        while let Some(message) = next_message(&mut self.begun)? {
            messages.push(Read::Message(message));
        }
        Ok(messages)
    }

    /// Whether the peer has read all, and knows that nothing more comes.
    pub fn is_read_to_the_end(&self) -> bool {
        self.down_ends && self.down.is_empty() && !self.vanished
    }

    /// Whether all has been read that either side has sent.
    pub fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    /// Whether what the shard sends gets to the peer, and soon.
    pub fn is_well(&self) -> bool {
        self.known
            && !self.up_ends
            && !self.vanished
            && self.peer_reads
            && self.out.rest().is_empty()
    }
}

/// A message as a phone finds it in what has come: line ends before it are pongs.
fn next_message(begun: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    while begun.starts_with(b"\r\n") {
        begun.drain(..2);
    }
    let Some(head) = begun.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&begun[..head]).into_owned();
    let stated = text
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Content-Length:"))
        .and_then(|digits| digits.trim().parse::<usize>().ok());
    let length = head + 4 + stated.ok_or_else(|| format!("no Content-Length:\n{text}"))?;
    if begun.len() < length {
        return Ok(None);
    }
    Ok(Some(begun.drain(..length).collect()))
}
