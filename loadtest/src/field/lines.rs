//! The phones' connections: which phone speaks by which, opened when a phone has something to say, renewed while it
//! lives, left when nobody uses it any more; and visitors, who come, ask once, and go.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::{Field, PlaceId, Port, Way};
use crate::configuration::Transport;
use crate::line::{Line, whole};
use crate::phone::{Phone, Stage};
use crate::sys::Poller;
use crate::wire::{Heard, number, write_options};

/// How long a connection is kept that no phone uses any more: what was on its way on it is still heard.
const LEFT_FOR: Duration = Duration::from_secs(3);
/// How many failures are told in words.
const FAILURES: usize = 8;
/// Addresses of loopback that phones connect from: none runs out of ports, or is taken for a flood.
const SOURCES: u8 = 250;

/// Connections of one kind, over which its phones are spread.
#[derive(Clone)]
pub struct Group {
    pub transport: Transport,
    pub server: SocketAddr,
    pub count: u32,
}

/// What phones on connections have in common.
#[derive(Clone, Default)]
pub struct Connected {
    pub groups: Vec<Group>,
    /// Nobody sends datagrams.
    pub only: bool,
    /// Whom phones on TLS trust, and the certificate that is shown at the start.
    pub trust: Option<Arc<ClientConfig>>,
    pub shown: Vec<u8>,
}

/// What lasts of one connection when it is opened anew: the phones that use it.
#[derive(Default)]
pub(super) struct Bundle {
    /// The ports that are open for it, oldest first.
    ports: Vec<usize>,
}

/// All connections of a field.
pub(super) struct Lines {
    pub(super) poller: Poller,
    /// The bundles of all groups, one group after the other.
    bundles: Vec<Bundle>,
    /// Ports with something to write.
    touched: Vec<usize>,
    left: VecDeque<(Duration, usize)>,
    /// The certificate that is shown, and the one before; while a swap is under way it may be either.
    certificates: [Vec<u8>; 2],
    visitors: u64,
    /// The first few things that went wrong with connections, in words.
    failures: Vec<String>,
    /// Visitors that wait for their answer.
    visiting: usize,
    scratch: Vec<u8>,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Bundle(usize),
    Visitor,
}

impl Lines {
    pub(super) fn new(connected: &Connected) -> io::Result<Self> {
        let bundles = connected.groups.iter().map(|group| group.count).sum();
        Ok(Lines {
            poller: Poller::new()?,
            bundles: (0..bundles).map(|_| Bundle::default()).collect(),
            touched: Vec::new(),
            left: VecDeque::new(),
            certificates: [connected.shown.clone(), connected.shown.clone()],
            visitors: 0,
            failures: Vec::new(),
            visiting: 0,
            scratch: Vec::new(),
        })
    }

    pub(super) fn fail(&mut self, what: String) {
        if self.failures.len() < FAILURES {
            self.failures.push(what);
        }
    }
}

impl Field {
    /// The first few things that went wrong with connections, in words.
    pub fn failures(&self) -> &[String] {
        &self.lines.failures
    }

    /// A phone that waits in vain, in words.
    pub(super) fn describe(&self, index: u32) -> String {
        let phone = &self.phones[index as usize];
        let at = |place| {
            let (address, gone) = (self.places.address(place), self.places.is_removed(place));
            format!("{address}{}", if gone { ", which went" } else { "" })
        };
        let open = phone.port.map(|port| match &self.ports[port].way {
            Way::Datagrams { .. } => "by datagrams",
            Way::Line { .. } => "by a connection that is open",
            Way::Closed => "by a connection that is closed",
        });
        format!(
            "phone {index} by {:?}, {:?}, SUBSCRIBE {}: not answered {open:?} at {}, told before at {}",
            self.transport_of(index),
            phone.stage,
            phone.cseq,
            at(phone.asked_at),
            at(phone.known),
        )
    }

    /// What this phone speaks by.
    pub fn transport_of(&self, index: u32) -> Transport {
        let group = self.group_of(index);
        group.map_or(Transport::Udp, |group| {
            self.plan.connected.groups[group].transport
        })
    }

    fn group_of(&self, index: u32) -> Option<usize> {
        let connected = &self.plan.connected;
        let datagrams = usize::from(!connected.only);
        let kind = index as usize % (connected.groups.len() + datagrams);
        kind.checked_sub(datagrams)
    }

    /// The ports of the datagrams, or the connections, that this phone may speak by.
    fn bundle_of(&self, index: u32, group: usize) -> usize {
        let groups = &self.plan.connected.groups;
        let kinds = groups.len() + usize::from(!self.plan.connected.only);
        let first: u32 = groups[..group].iter().map(|group| group.count).sum();
        (first + index / kinds as u32 % groups[group].count) as usize
    }

    /// The port by which this phone speaks to that place; a connection is opened where there is none.
    pub(super) fn port_to(&mut self, index: u32, place: PlaceId) -> io::Result<usize> {
        let Some(group) = self.group_of(index) else {
            return Ok(index as usize % self.plan.ports);
        };
        let bundle = self.bundle_of(index, group);
        let leads = |port: &&usize| {
            let port = &self.ports[**port];
            !port.elder && matches!(port.way, Way::Line { place: to, .. } if to == place)
        };
        if let Some(&port) = self.lines.bundles[bundle].ports.iter().rfind(leads) {
            return Ok(port);
        }
        let transport = self.plan.connected.groups[group].transport;
        let port = self.connect(transport, place, Whose::Bundle(bundle))?;
        self.lines.bundles[bundle].ports.push(port);
        Ok(port)
    }

    /// The phones of one connection, in turn, speak by a new one from their next request on.
    pub fn renew(&mut self, which: u32) {
        let count = self.lines.bundles.len();
        if count == 0 {
            return;
        }
        for at in 0..self.lines.bundles[which as usize % count].ports.len() {
            let port = self.lines.bundles[which as usize % count].ports[at];
            self.ports[port].elder = true;
            self.leave_unused(port);
        }
    }

    /// Whether this phone is told by a connection that is to be left.
    pub fn is_behind(&self, index: u32) -> bool {
        let known = self.phones[index as usize].known_port;
        known.is_some_and(|port| self.ports[port].elder)
    }

    /// Somebody connects, asks what the server can do, and goes.
    pub fn visit(&mut self, transport: Transport) {
        let place = self.places.main(transport);
        let Ok(port) = self.connect(transport, place, Whose::Visitor) else {
            return;
        };
        self.lines.visitors += 1;
        self.lines.visiting += 1;
        let visitor = self.lines.visitors;
        self.seen.requests_sent += 1;
        let open = &mut self.ports[port];
        let here = open.here.clone();
        write_options(open.way.open(), transport, &here, &self.server, visitor);
        self.lines.touched.push(port);
    }

    /// Visitors that wait for their answer.
    pub fn visiting(&self) -> usize {
        self.lines.visiting
    }

    /// Phones' connections that are open.
    pub fn connections(&self) -> usize {
        let bundles = self.lines.bundles.iter();
        bundles.map(|bundle| bundle.ports.len()).sum()
    }

    /// Opens every connection that there is to be by this transport, without a word. How many there are.
    pub fn connect_all(&mut self, transport: Transport) -> u64 {
        let place = self.places.main(transport);
        let groups = self.plan.connected.groups.clone();
        let (mut first, mut opened) = (0, 0);
        for group in groups {
            let bundles = first..first + group.count as usize;
            first = bundles.end;
            for bundle in bundles.filter(|_| group.transport == transport) {
                let Ok(port) = self.connect(transport, place, Whose::Bundle(bundle)) else {
                    continue;
                };
                self.lines.bundles[bundle].ports.push(port);
                opened += 1;
                self.turn(Duration::ZERO);
            }
        }
        opened
    }

    /// Whether all that are open are open for messages.
    pub fn is_connected(&self) -> bool {
        self.ports.iter().all(|port| match &port.way {
            Way::Line { line, .. } => line.is_ready(),
            Way::Datagrams { .. } | Way::Closed => true,
        })
    }

    /// The server has been given this certificate, and will show it.
    pub fn expect_certificate(&mut self, shown: Vec<u8>) {
        self.lines.certificates.swap(0, 1);
        self.lines.certificates[0] = shown;
    }

    fn connect(&mut self, transport: Transport, place: PlaceId, whose: Whose) -> io::Result<usize> {
        let number = self.ports.len();
        let from = match self.plan.server.ip() {
            IpAddr::V4(_) => {
                let last = (number % usize::from(SOURCES)) as u8 + 1;
                IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))
            }
            v6 @ IpAddr::V6(_) => v6,
        };
        let trust = self.plan.connected.trust.as_ref();
        let trust = trust.filter(|_| transport.is_secure());
        let line = Line::connect(from, self.places.address(place), trust, transport.is_web());
        let line = line.and_then(|line| {
            self.lines.poller.add(&line, number)?;
            Ok((line.here()?, line))
        });
        let (here, line) = match line {
            Ok(line) => line,
            Err(error) => {
                self.seen.connections_refused += 1;
                let to = self.places.address(place);
                self.lines.fail(format!("a connection to {to}: {error}"));
                return Err(error);
            }
        };
        self.seen.connections_opened += 1;
        self.ports.push(Port {
            transport,
            here: here.to_string(),
            users: 0,
            elder: false,
            way: Way::Line {
                line: Box::new(line),
                place,
                whose,
                opened: self.start.elapsed(),
                seen: false,
            },
        });
        // A handshake begins with our word.
        self.lines.touched.push(number);
        Ok(number)
    }

    /// Something is to be written by this port.
    pub(super) fn touch(&mut self, port: usize) {
        if self.lines.touched.last() != Some(&port) {
            self.lines.touched.push(port);
        }
    }

    pub(super) fn use_port(&mut self, port: usize) {
        self.ports[port].users += 1;
    }

    pub(super) fn let_go(&mut self, port: Option<usize>) {
        let Some(port) = port else { return };
        self.ports[port].users -= 1;
        self.leave_unused(port);
    }

    fn leave_unused(&mut self, port: usize) {
        let Way::Line { whose, .. } = &self.ports[port].way else {
            return;
        };
        let others = match whose {
            Whose::Bundle(bundle) => self.lines.bundles[*bundle].ports.len() > 1,
            Whose::Visitor => false,
        };
        if self.ports[port].users == 0 && (self.ports[port].elder || others) {
            self.ports[port].elder = true;
            let due = self.now + LEFT_FOR;
            self.lines.left.push_back((due, port));
        }
    }

    pub(super) fn leave(&mut self) {
        while let Some(&(due, port)) = self.lines.left.front()
            && due <= self.now
        {
            self.lines.left.pop_front();
            if self.ports[port].users == 0 {
                self.close(port);
            }
        }
    }

    fn close(&mut self, port: usize) {
        let way = std::mem::replace(&mut self.ports[port].way, Way::Closed);
        if let Way::Line { whose, .. } = way {
            match whose {
                Whose::Bundle(bundle) => {
                    self.lines.bundles[bundle]
                        .ports
                        .retain(|&other| other != port);
                }
                Whose::Visitor => self.lines.visiting -= 1,
            }
        }
    }

    /// Reads what connections have brought. How many messages that were.
    pub(super) fn receive_lines(&mut self) -> usize {
        let ready = self.lines.poller.wait(0);
        let mut came = 0;
        for index in 0..ready {
            let port = self.lines.poller.ready(index);
            let Way::Line { whose, .. } = &self.ports[port].way else {
                continue;
            };
            // What was said by another connection of the same phones, where they came from, was said before.
            if let Whose::Bundle(bundle) = *whose {
                let others = self.lines.bundles[bundle].ports.clone();
                for other in others.into_iter().filter(|&other| other != port) {
                    came += self.receive_line(other);
                }
            }
            came += self.receive_line(port);
        }
        came
    }

    fn receive_line(&mut self, port: usize) -> usize {
        let mut came = std::mem::take(&mut self.lines.scratch);
        came.clear();
        let Way::Line { line, place, .. } = &mut self.ports[port].way else {
            return 0;
        };
        let peer = self.places.address(*place);
        let lasts = line.receive(&mut came);
        // A handshake has its next word.
        self.touch(port);
        let (mut start, mut count) = (0, 0);
        while let Some(length) = whole(&came[start..]) {
            self.hear(port, &came[start..start + length], peer, None);
            start += length;
            count += 1;
        }
        if let Way::Line { line, .. } = &mut self.ports[port].way {
            line.keep(&came[start..]);
        }
        self.look_at_certificate(port);
        self.lines.scratch = came;
        match lasts {
            Ok(true) => {}
            Ok(false) => self.lose_line(port, "it ended"),
            Err(error) => self.lose_line(port, &error.to_string()),
        }
        count
    }

    /// The server has ended it. It may, with an address that went away, when no dialog is left on it.
    fn lose_line(&mut self, port: usize, why: &str) {
        let Way::Line { place, whose, .. } = &self.ports[port].way else {
            return;
        };
        let (place, whose) = (*place, *whose);
        let needs = |phone: &Phone| {
            let lives = matches!(phone.stage, Stage::Active | Stage::Leaving);
            (phone.known_port == Some(port) && lives)
                || (phone.port == Some(port) && phone.awaits_answer)
        };
        let needed = self.phones.iter().any(needs);
        let went = self.places.has_been_removed(place) && whose != Whose::Visitor;
        if went && !needed {
            self.seen.connections_ended += 1;
        } else {
            self.seen.connections_lost += 1;
            let name = self.ports[port].transport.name();
            let here = &self.ports[port].here;
            let failure = format!("the connection from {name}:{here} is lost: {why}");
            self.lines.fail(failure);
        }
        self.close(port);
    }

    /// A handshake that began after a swap shows what came with it; until then it may be either.
    fn look_at_certificate(&mut self, port: usize) {
        let settled = self.places.settled();
        let Way::Line {
            line,
            place,
            opened,
            seen,
            ..
        } = &mut self.ports[port].way
        else {
            return;
        };
        if *seen || !line.is_ready() {
            return;
        }
        *seen = true;
        if self.places.is_removed(*place) {
            // Whoever goes where they were not told any more is shown what was shown there last.
            return;
        }
        if let Some(shown) = line.shown() {
            let [now, before] = &self.lines.certificates;
            let old = settled.is_none_or(|settled| *opened <= settled);
            let right = shown == now.as_slice() || (old && shown == before.as_slice());
            self.seen.handshakes += 1;
            self.seen.certificate_wrong += u64::from(!right);
        }
    }

    pub(super) fn flush_lines(&mut self) {
        for port in std::mem::take(&mut self.lines.touched) {
            let Way::Line { line, .. } = &mut self.ports[port].way else {
                continue;
            };
            let outcome = line.flush();
            let room = outcome.as_ref().is_ok_and(|done| !done);
            if outcome.is_ok() {
                let asked = self.lines.poller.want_room(&**line, port, room);
                asked.expect("a socket that is waited for");
            }
            if let Err(error) = outcome {
                self.lose_line(port, &error.to_string());
            }
        }
    }

    /// An answer to a visitor: it goes. False: it is nobody's.
    pub(super) fn hear_visit(&mut self, port: usize, heard: &Heard<'_>) -> bool {
        let is_visitor = heard
            .call_id
            .strip_prefix(b"v")
            .and_then(|rest| number(rest.split(|&byte| byte == b'-').next()?));
        if is_visitor.is_none() {
            return false;
        }
        self.seen.visits += 1;
        self.seen.answer_unexpected += u64::from(heard.status != 200);
        self.look_at_certificate(port);
        self.close(port);
        true
    }

    /// Whether this port is another one of the phone than the one that it speaks by: it came from there, and may be the
    /// younger one.
    pub(super) fn is_another(&self, index: u32, port: usize) -> bool {
        let Some(by) = self.phones[index as usize].port else {
            return false;
        };
        let bundle = |port: usize| match self.ports[port].way {
            Way::Line { whose, .. } => Some(whose),
            Way::Datagrams { .. } | Way::Closed => None,
        };
        port != by && bundle(port).is_some() && bundle(port) == bundle(by)
    }
}
