//! Swaps, one after the other, while somebody else serves the phones: the file is written anew, the server is told,
//! and what it answers is held against what must come of it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::Value;

use super::Site;
use crate::configuration::{Configuration, Listener, Transport};
use crate::field::Field;
use crate::http::Client;
use crate::report::{Report, percentile};
use crate::server;
use crate::transports::Transports;

/// What is new in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A rule only: no transport is touched
    Rules,
    /// DSCP and buffer sizes: sockets are handed over with new options
    Options,
    /// Nothing, but new sockets are asked for on the same addresses
    Sockets,
    /// One more address; half of the phones send their next request there
    Add,
    /// The oldest address goes; its phones go where they are told
    Remove,
    /// Another name in Contact
    Advertise,
    /// A new certificate in the same files
    Certificate,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Rules,
        Kind::Options,
        Kind::Sockets,
        Kind::Add,
        Kind::Remove,
        Kind::Advertise,
    ];

    /// The same with a certificate: two of ten swaps.
    pub const ALL_SECURE: [Kind; 10] = [
        Kind::Rules,
        Kind::Options,
        Kind::Certificate,
        Kind::Sockets,
        Kind::Add,
        Kind::Advertise,
        Kind::Options,
        Kind::Certificate,
        Kind::Remove,
        Kind::Sockets,
    ];
}

/// How many addresses a run uses, one after the other.
const ADDRESSES: u8 = 3;

/// The swaps of one run.
pub struct Swaps {
    kinds: Vec<Kind>,
    pause: Duration,
    configuration: Configuration,
    /// The one that holds if the next is refused.
    before: Configuration,
    generation: u64,
    /// The server's UDP sockets before the swap, and those that listen for connections.
    sockets: BTreeSet<u64>,
    listening: BTreeSet<u64>,
    certificates: u64,
    done: u32,
    under_way: Option<(Kind, JoinHandle<io::Result<Outcome>>)>,
    /// When the last one was done.
    since: Duration,
    times: Vec<Duration>,
    draining_most: usize,
    descriptors_most: usize,
}

/// What one swap came to.
struct Outcome {
    status: u16,
    body: String,
    time: Duration,
    transports: Transports,
}

impl Swaps {
    /// None has been made. No kinds: all of them. The pause is from the end of one to the begin of the next.
    pub fn new(site: &Site<'_>, kinds: &[Kind], pause: Duration) -> io::Result<Self> {
        let all = match site.server.authority {
            None => &Kind::ALL[..],
            Some(_) => &Kind::ALL_SECURE[..],
        };
        let kinds = if kinds.is_empty() { all } else { kinds };
        let configuration = site.server.configuration.clone();
        Ok(Swaps {
            kinds: kinds.to_vec(),
            pause,
            before: configuration.clone(),
            configuration,
            generation: Transports::read(site.server.admin)?.generation,
            sockets: BTreeSet::new(),
            listening: BTreeSet::new(),
            certificates: 0,
            done: 0,
            under_way: None,
            since: site.field.clock(),
            times: Vec::new(),
            draining_most: 0,
            descriptors_most: 0,
        })
    }

    /// To phones that come new: what the server calls itself by now.
    pub fn show(&mut self, site: &mut Site<'_>) {
        self.since = site.field.clock();
        site.field.places.begin(&self.configuration);
        site.field.places.settle(self.since);
    }

    /// How many have been done.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Begins the next one when the pause is over; takes the outcome of the one that is under way.
    pub fn turn(&mut self, site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
        match self.under_way.take() {
            Some((kind, post)) if post.is_finished() => {
                let outcome = post.join();
                let outcome =
                    outcome.map_err(|_| io::Error::other("a swap's thread panicked"))??;
                self.take(site, report, kind, outcome);
            }
            Some(waiting) => self.under_way = Some(waiting),
            None if site.field.clock() - self.since >= self.pause => {
                let kind = self.kinds[self.done as usize % self.kinds.len()];
                self.begin(site, kind)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Waits for the one that is under way and makes what is left over go: one address, as at the start.
    pub fn end(&mut self, site: &mut Site<'_>, report: &mut Report) -> io::Result<()> {
        let done = self.done;
        while self.under_way.is_some() {
            self.turn(site, report)?;
            site.field.turn(Duration::from_millis(1));
        }
        while self.configuration.addresses() > 1 {
            self.begin(site, Kind::Remove)?;
            while self.under_way.is_some() {
                self.turn(site, report)?;
                site.field.turn(Duration::from_millis(1));
            }
        }
        self.done = done;
        self.times.sort();
        report.time("a swap took, median", percentile(&self.times, 0.5));
        report.time("a swap took, worst", percentile(&self.times, 1.0));
        report.count(
            "draining listeners, most at once",
            self.draining_most as u64,
        );
        report.count("descriptors, most at once", self.descriptors_most as u64);
        if self.certificates > 0 {
            report.count("certificates replaced", self.certificates);
        }
        Ok(())
    }

    fn begin(&mut self, site: &mut Site<'_>, kind: Kind) -> io::Result<()> {
        // There is always one address to be found at, and never more than two.
        let kind = match (kind, self.configuration.addresses()) {
            (Kind::Remove, 1) => Kind::Add,
            (Kind::Add, 2) => Kind::Remove,
            (kind, _) => kind,
        };
        self.before = self.configuration.clone();
        self.sockets = self.sockets(server::sockets);
        self.listening = self.sockets(server::listening);
        self.rewrite(kind)?;
        if kind == Kind::Certificate
            && let Some(shown) = site.server.replace_certificate()?
        {
            site.field.expect_certificate(shown);
            self.certificates += 1;
        }
        site.server.configure(&self.configuration)?;
        site.field.places.begin(&self.configuration);
        let admin = site.server.admin;
        let body = match kind {
            Kind::Sockets => r#"{"fresh_sockets":true}"#,
            Kind::Rules
            | Kind::Options
            | Kind::Add
            | Kind::Remove
            | Kind::Advertise
            | Kind::Certificate => "",
        };
        let post = thread::spawn(move || {
            let start = Instant::now();
            let answer = Client::connect(admin)?.request("POST", "/v1/reload", body)?;
            Ok(Outcome {
                time: start.elapsed(),
                status: answer.status,
                body: answer.body,
                transports: Transports::read(admin)?,
            })
        });
        self.under_way = Some((kind, post));
        Ok(())
    }

    /// The sockets of one kind on all ports that are listened on.
    fn sockets(&self, of: fn(u16) -> BTreeSet<u64>) -> BTreeSet<u64> {
        let ports = self.configuration.listeners.iter();
        let ports: BTreeSet<u16> = ports.map(|listener| listener.address.port()).collect();
        ports.into_iter().flat_map(of).collect()
    }

    /// The file of the next swap.
    fn rewrite(&mut self, kind: Kind) -> io::Result<()> {
        let configuration = &mut self.configuration;
        let next = self.done;
        match kind {
            Kind::Rules => configuration.expires_default = 1200 + next,
            Kind::Options => {
                let datagrams = |listener: &&mut Listener| listener.transport == Transport::Udp;
                for listener in configuration.listeners.iter_mut().filter(datagrams) {
                    let other = listener.dscp == Some(46);
                    listener.dscp = Some(if other { 26 } else { 46 });
                    listener.buffer_bytes = Some(if other { 4 << 20 } else { 8 << 20 });
                }
            }
            Kind::Sockets | Kind::Certificate => {}
            Kind::Add => {
                for oldest in configuration.oldest().collect::<Vec<usize>>() {
                    let mut listener = configuration.listeners[oldest].clone();
                    listener.address = other_address(listener.address)?;
                    listener.advertise = None;
                    configuration.listeners.push(listener);
                }
            }
            Kind::Remove => {
                for oldest in configuration
                    .oldest()
                    .collect::<Vec<usize>>()
                    .into_iter()
                    .rev()
                {
                    configuration.listeners.remove(oldest);
                }
            }
            Kind::Advertise => {
                for oldest in configuration.oldest().collect::<Vec<usize>>() {
                    let listener = &mut configuration.listeners[oldest];
                    let port = listener.address.port();
                    listener.advertise = Some(format!("lamps{next}.example.com:{port}"));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, site: &mut Site<'_>, report: &mut Report, kind: Kind, outcome: Outcome) {
        let now = site.field.clock();
        site.field.places.settle(now);
        self.since = now;
        self.done += 1;
        self.times.push(outcome.time);
        let transports = &outcome.transports;
        self.draining_most = self.draining_most.max(transports.draining);
        let descriptors = site.server.descriptors().unwrap_or(0);
        self.descriptors_most = self.descriptors_most.max(descriptors);
        let which = format!("swap {} ({kind:?})", self.done);
        if outcome.status != 200 {
            report.problem(format!("{which}: {} {}", outcome.status, outcome.body));
            // Then it must be as if nobody had asked, and the phones go on to judge by that.
            self.configuration = self.before.clone();
            site.field.places.begin(&self.configuration);
            site.field.places.settle(now);
            return;
        }
        let expected = self.generation + u64::from(kind != Kind::Rules);
        let told = serde_json::from_str::<Value>(&outcome.body);
        let told = told.ok().and_then(|value| value["generation"].as_u64());
        if told != Some(expected) || transports.generation != expected {
            report.problem(format!(
                "{which}: generation {} is told as {told:?} and shown as {}",
                expected, transports.generation
            ));
        }
        self.generation = transports.generation;
        let served = self.configuration.listeners.len();
        if transports.active != served {
            report.problem(format!("{which}: {served} are served: {}", transports.text));
        }
        let shards = site.options.shards;
        let addresses = self.configuration.addresses();
        let now = self.sockets(server::sockets);
        let new = now.difference(&self.sockets).count();
        let now = self.sockets(server::listening);
        let listening = now.difference(&self.listening).count();
        // Sockets that listen are never replaced. An address that came back may have its old ones.
        let [expected, expected_listening] = match kind {
            Kind::Sockets => [addresses * shards, 0],
            Kind::Rules | Kind::Options | Kind::Remove | Kind::Advertise | Kind::Certificate => {
                [0, 0]
            }
            Kind::Add => {
                let streams = served / addresses - 1;
                [new.min(shards), listening.min(streams * shards)]
            }
        };
        if [new, listening] != [expected, expected_listening] {
            report.problem(format!(
                "{which}: {new} new sockets and {listening} that listen, not {expected} and {expected_listening}"
            ));
        }
        match kind {
            Kind::Add => part_of_the_phones_moves(&mut site.field, &self.configuration),
            Kind::Remove => nobody_goes_where_nobody_is(&mut site.field),
            Kind::Rules | Kind::Options | Kind::Sockets | Kind::Advertise | Kind::Certificate => {}
        }
    }
}

/// Their next request goes to the newest address, as when a name leads to it or a proxy has it in its list.
fn part_of_the_phones_moves(field: &mut Field, configuration: &Configuration) {
    let kinds = configuration.listeners.len() / configuration.addresses();
    let newest = configuration.listeners.iter().rev().take(kinds);
    let newest: Vec<_> = newest
        .map(|listener| {
            let lead = format!("sip:{}{}", listener.name(), listener.transport.parameter());
            (listener.transport, field.places.lead(lead.as_bytes()))
        })
        .collect();
    for index in (0..field.phones.len() as u32).filter(|index| index / 8 % 2 == 0) {
        let transport = field.transport_of(index);
        let place = newest.iter().find(|(newest, _)| *newest == transport);
        field.phones[index as usize].moves_to = place.and_then(|(_, place)| *place);
    }
}

fn nobody_goes_where_nobody_is(field: &mut Field) {
    for phone in &mut field.phones {
        let gone = phone
            .moves_to
            .filter(|place| field.places.is_removed(*place));
        if gone.is_some() {
            phone.moves_to = None;
        }
    }
}

/// The next of a few addresses of loopback on the same port, so that one that went away comes back, perhaps while its
/// old sockets still drain. IPv6 has but one address, and other ports.
fn other_address(address: SocketAddr) -> io::Result<SocketAddr> {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [.., last] = ip.octets();
            let next = Ipv4Addr::new(127, 0, 0, last % ADDRESSES + 1);
            Ok(SocketAddr::new(next.into(), address.port()))
        }
        v6 @ IpAddr::V6(_) => TcpListener::bind((v6, 0))?.local_addr(),
    }
}
