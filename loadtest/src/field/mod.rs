//! All phones of a load, their sockets and their clocks, in one thread; and what is true, so that every
//! lamp can be judged. It drives nothing by itself: a load tells phones what to do and calls `turn`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

mod hear;
mod lines;
mod places;
#[cfg(test)]
mod tests;

pub use lines::{Connected, Group};
pub use places::{PlaceId, Places};

use lines::{Lines, Whose};

use crate::configuration::{Configuration, Listener, Transport};
use crate::lamp::State;
use crate::line::Line;
use crate::phone::{Phone, Seen, Stage};
use crate::publisher::Publisher;
use crate::random::Random;
use crate::sys::{self, Inbox, Outbox};
use crate::wire::{Package, Subscribe};

/// Intervals after which an unanswered request is sent again: T1 doubling to T2 (RFC 3261 17.1.2.2).
/// The last is that of connections, where nothing is sent twice.
const AGAIN_MILLISECONDS: [u64; 12] = [
    500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 500, 32_000,
];
/// With the wait of that number there is no more to be sent.
const LAST_WAIT: usize = 10;
/// The wait of connections.
const ONLY_WAIT: usize = 11;

/// Between two turns passes less, unless nobody ran the phones: they, too, live on machines that stand still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// So many things that must not happen are told one by one.
const ODDITIES: usize = 8;

/// What all phones of a load have in common.
#[derive(Clone)]
pub struct Plan {
    pub server: SocketAddr,
    /// A proxy that everything goes through.
    pub edge: Option<SocketAddr>,
    pub package: Package,
    pub expires: u32,
    /// Phones are spread over so many sockets.
    pub ports: usize,
    /// How many keys share one From address.
    pub keys: u32,
    pub edges: u8,
    /// Of a thousand datagrams, how many are thrown away, each way.
    pub lose_permille: u32,
    pub seed: u64,
    pub connected: Connected,
}

/// What is true of one resource.
pub struct Resource {
    pub name: String,
    pub state: State,
    /// When it last changed.
    pub changed: Duration,
    pub watchers: Vec<u32>,
}

/// One way to the server and back.
struct Port {
    transport: Transport,
    here: String,
    /// How often phones name it as theirs.
    users: u32,
    /// No phone begins anything on it any more.
    elder: bool,
    way: Way,
}

enum Way {
    Datagrams {
        socket: UdpSocket,
        outbox: Outbox,
    },
    Line {
        line: Box<Line>,
        /// Where it was opened to.
        place: PlaceId,
        whose: Whose,
        opened: Duration,
        /// Its certificate has been looked at, or it has none.
        seen: bool,
    },
    Closed,
}

impl Port {
    /// What Call-IDs end with: a connection is opened anew, and its dialogs go on.
    fn home(&self) -> &str {
        match self.transport.is_datagrams() {
            true => &self.here,
            false => "connected.example.com",
        }
    }
}

impl Way {
    /// Where the next message is written.
    fn open(&mut self) -> &mut Vec<u8> {
        match self {
            Way::Datagrams { outbox, .. } => outbox.open(),
            Way::Line { line, .. } => line.open(),
            Way::Closed => unreachable!("nobody writes to what is closed"),
        }
    }
}

/// A request that waits for its answer.
struct Wait {
    due: Duration,
    who: Who,
    cseq: u32,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Phone { index: u32, incarnation: u32 },
    Publisher(u32),
}

/// The phones, and what they have seen.
pub struct Field {
    pub plan: Plan,
    pub places: Places,
    /// The phones are off the network: nothing reaches them, and they answer nothing.
    pub deaf: bool,
    /// Subscriptions are left to expire: their end is no fault.
    pub may_end: bool,
    /// The server is killed between any two messages.
    pub killed: bool,
    pub phones: Vec<Phone>,
    pub publishers: Vec<Publisher>,
    pub resources: Vec<Resource>,
    pub seen: Seen,
    /// What must not happen and did, in words.
    pub oddities: Vec<String>,
    pub random: Random,
    /// The phones whose lamps and answers are timed.
    pub timed: Range<u32>,
    /// How long each lamp of them that turned right had been wrong.
    pub delays: Vec<Duration>,
    /// How long they waited for each answer.
    pub answer_times: Vec<Duration>,
    /// Phones with an active subscription whose lamp is wrong.
    wrong: usize,
    /// Phones and publishers that wait for something.
    open: usize,
    run: u32,
    server: String,
    /// First those of datagrams, as many as the plan has.
    ports: Vec<Port>,
    lines: Lines,
    /// Out of its place only while its datagrams are being heard.
    inbox: Option<Inbox>,
    start: Instant,
    now: Duration,
    /// When the last turn began.
    turned: Duration,
    waits: [VecDeque<Wait>; AGAIN_MILLISECONDS.len()],
    retries: BinaryHeap<Reverse<(Duration, u32)>>,
    local_tag: Vec<u8>,
}

impl Field {
    /// `count` phones that watch `resources` in turn.
    pub fn new(plan: Plan, count: u32, resources: u32) -> io::Result<Self> {
        let mut random = Random::new(plan.seed);
        let mut ports = Vec::with_capacity(plan.ports);
        let lines = Lines::new(&plan.connected)?;
        for _ in 0..plan.ports {
            let ip = match plan.server.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                v6 @ IpAddr::V6(_) => v6,
            };
            let socket = sys::bind(SocketAddr::new(ip, 0))?;
            if plan.edge.is_none() {
                sys::show_class(&socket)?;
            }
            lines.poller.add(&socket, ports.len())?;
            ports.push(Port {
                transport: Transport::Udp,
                here: socket.local_addr()?.to_string(),
                users: 0,
                elder: false,
                way: Way::Datagrams {
                    socket,
                    outbox: Outbox::default(),
                },
            });
        }
        let mut start = Configuration::new(plan.server);
        for Group {
            transport, server, ..
        } in &plan.connected.groups
        {
            start.listeners.push(Listener::of(*transport, *server));
        }
        let mut field = Field {
            run: random.below(u32::MAX),
            server: plan.server.to_string(),
            places: Places::new(&start),
            deaf: false,
            may_end: false,
            killed: false,
            plan,
            phones: Vec::with_capacity(count as usize),
            publishers: Vec::new(),
            resources: Vec::with_capacity(resources as usize),
            seen: Seen::default(),
            oddities: Vec::new(),
            random,
            timed: 0..u32::MAX,
            delays: Vec::new(),
            answer_times: Vec::new(),
            wrong: 0,
            open: 0,
            ports,
            lines,
            inbox: Some(Inbox::default()),
            start: Instant::now(),
            now: Duration::ZERO,
            turned: Duration::ZERO,
            waits: Default::default(),
            retries: BinaryHeap::new(),
            local_tag: Vec::new(),
        };
        for number in 0..resources {
            field.resources.push(Resource {
                name: format!("{}", 1000 + number),
                state: State::Idle,
                changed: Duration::ZERO,
                watchers: Vec::new(),
            });
        }
        let nowhere: Rc<[u8]> = Rc::from(&b""[..]);
        for index in 0..count {
            let resource = index % resources;
            field.resources[resource as usize].watchers.push(index);
            field.phones.push(Phone {
                resource,
                target: nowhere.clone(),
                routes: nowhere.clone(),
                ..Phone::default()
            });
        }
        Ok(field)
    }

    /// Since the field was made.
    pub fn clock(&self) -> Duration {
        self.start.elapsed()
    }

    /// Datagrams that the kernel dropped at the phones' sockets because we were behind.
    pub fn drops(&self) -> u64 {
        let ports = self.ports.iter();
        ports
            .filter_map(|port| match &port.way {
                Way::Datagrams { socket, .. } => socket.local_addr().ok(),
                Way::Line { .. } | Way::Closed => None,
            })
            .map(|address| crate::server::drops(address.port()))
            .sum()
    }

    /// How many requests or NOTIFYs are still owed to phones and publishers.
    pub fn open(&self) -> usize {
        self.open
    }

    /// How many were told to come again later, and have not yet.
    pub fn put_off(&self) -> usize {
        self.retries.len()
    }

    /// How many active phones show what is not true.
    pub fn wrong(&self) -> usize {
        self.wrong
    }

    /// How many phones are in this stage.
    pub fn count(&self, stage: Stage) -> usize {
        self.phones
            .iter()
            .filter(|phone| phone.stage == stage)
            .count()
    }

    /// The Call-IDs of some phones that are wrong or wait, each with what the phone knows.
    pub fn suspects(&self, most: usize) -> Vec<(String, String)> {
        let is_suspect =
            |phone: &Phone| phone.waits() || (phone.stage == Stage::Active && !phone.right);
        (0..)
            .zip(&self.phones)
            .filter(|(_, phone)| is_suspect(phone))
            .take(most)
            .map(|(index, _)| self.known_of(index))
            .collect()
    }

    /// The Call-ID of a phone's dialog, and what it knows.
    fn known_of(&self, index: u32) -> (String, String) {
        let phone = &self.phones[index as usize];
        let here = self.ports[phone.port.unwrap_or(0)].home();
        let call_id = format!("{index}-{}-{:08x}@{here}", phone.incarnation, self.run);
        let resource = &self.resources[phone.resource as usize];
        let knows = format!(
            "{:?}, SUBSCRIBE {}, NOTIFY {:?}, awaits answer {}, awaits NOTIFY {}, shows {:?}, {} is {:?} for {:?}",
            phone.stage,
            phone.cseq,
            phone.heard_cseq,
            phone.awaits_answer,
            phone.awaits_notify,
            phone.lamp,
            resource.name,
            resource.state,
            self.clock() - resource.changed,
        );
        (call_id, knows)
    }

    /// A new dialog.
    pub fn subscribe(&mut self, index: u32) {
        let phone = &mut self.phones[index as usize];
        self.wrong -= usize::from(phone.stage == Stage::Active && !phone.right);
        self.open -= usize::from(phone.waits());
        let ports = [phone.port.take(), phone.known_port.take()];
        *phone = Phone {
            resource: phone.resource,
            target: phone.target.clone(),
            routes: phone.routes.clone(),
            stage: Stage::Subscribing,
            incarnation: phone.incarnation + 1,
            ..Phone::default()
        };
        for port in ports {
            self.let_go(port);
        }
        self.ask(index, self.plan.expires);
    }

    /// The same dialog, once more.
    pub fn refresh(&mut self, index: u32) {
        self.ask(index, self.plan.expires);
    }

    /// Expires: 0 in the dialog.
    pub fn unsubscribe(&mut self, index: u32) {
        let phone = &mut self.phones[index as usize];
        self.wrong -= usize::from(phone.stage == Stage::Active && !phone.right);
        phone.stage = Stage::Leaving;
        self.ask(index, 0);
    }

    fn ask(&mut self, index: u32, expires: u32) {
        let place = self.next_place(index);
        // Who cannot connect has been counted.
        let Ok(port) = self.port_to(index, place) else {
            return;
        };
        self.use_port(port);
        let before = self.phones[index as usize].port.replace(port);
        self.let_go(before);
        let phone = &mut self.phones[index as usize];
        self.open += usize::from(!phone.waits());
        phone.cseq += 1;
        phone.asked = expires;
        phone.asked_at = place;
        phone.asked_since = self.start.elapsed();
        if phone.stage == Stage::Subscribing {
            phone.known = place;
        }
        phone.awaits_answer = true;
        phone.awaits_notify = true;
        self.seen.requests_sent += 1;
        self.send_subscribe(index);
        let attempt = match self.ports[port].transport.is_datagrams() {
            true => 0,
            false => ONLY_WAIT,
        };
        self.wait(
            attempt,
            Who::Phone {
                index,
                incarnation: self.phones[index as usize].incarnation,
            },
            self.phones[index as usize].cseq,
        );
    }

    /// A dialog's requests go where its remote target leads (RFC 3261 12.2.1.1), others to where the server is found.
    fn next_place(&mut self, index: u32) -> PlaceId {
        let transport = self.transport_of(index);
        let phone = &mut self.phones[index as usize];
        if phone.tag.is_empty() {
            return self.places.main(transport);
        }
        let told = self.places.lead(&phone.target);
        // What leads nowhere has been counted when it was heard.
        phone.moves_to.take().or(told).unwrap_or(phone.known)
    }

    fn send_subscribe(&mut self, index: u32) {
        let phone = &self.phones[index as usize];
        let number = phone.port.expect("it has been asked");
        let port = &mut self.ports[number];
        if matches!(port.way, Way::Closed) {
            return;
        }
        let in_dialog = phone.stage != Stage::Subscribing && !phone.tag.is_empty();
        let next = self.places.address(phone.asked_at);
        let mut text = std::mem::take(port.way.open());
        Subscribe {
            transport: port.transport,
            here: &port.here,
            home: port.home(),
            server: &self.server,
            phone: index,
            incarnation: phone.incarnation,
            run: self.run,
            cseq: phone.cseq,
            owner: index / self.plan.keys,
            resource: &self.resources[phone.resource as usize].name,
            package: self.plan.package,
            expires: phone.asked,
            dialog: in_dialog.then_some((&*phone.tag, &*phone.target)),
            edges: self.plan.edges,
            routes: if in_dialog { &phone.routes } else { b"" },
            next: self.plan.edge.map(|_| next),
        }
        .write(&mut text);
        *port.way.open() = text;
        self.post(number, self.plan.edge.unwrap_or(next));
    }

    /// What was just written goes out with the next flush; a datagram may be lost on purpose.
    fn post(&mut self, port: usize, peer: SocketAddr) {
        if !matches!(self.ports[port].way, Way::Datagrams { .. }) {
            return self.touch(port);
        }
        let lost = self.lose();
        if let Way::Datagrams { socket, outbox } = &mut self.ports[port].way {
            if lost {
                outbox.discard();
            } else if outbox.close(peer) {
                self.seen.sends_refused += outbox.flush(socket) as u64;
            }
        }
    }

    fn lose(&mut self) -> bool {
        let lost = self.plan.lose_permille > 0 && self.random.below(1000) < self.plan.lose_permille;
        self.seen.datagrams_lost_on_purpose += u64::from(lost);
        lost
    }

    /// A publisher for the resource of that number.
    pub fn add_publisher(&mut self, resource: u32) {
        self.publishers.push(Publisher::new(resource));
    }

    /// Publishes a state; it is what is true from now on. Not while an answer is awaited.
    pub fn publish(&mut self, index: u32, state: State) {
        let publisher = &mut self.publishers[index as usize];
        assert!(!publisher.awaits_answer, "one PUBLISH at a time");
        self.open += 1;
        publisher.next(state);
        self.seen.requests_sent += 1;
        let resource = publisher.resource;
        let cseq = publisher.cseq;
        self.change(resource, state);
        self.send_publish(index);
        self.wait(0, Who::Publisher(index), cseq);
    }

    fn send_publish(&mut self, index: u32) {
        let ports = self.plan.ports;
        let publisher = &self.publishers[index as usize];
        let port = &mut self.ports[index as usize % ports];
        let name = &self.resources[publisher.resource as usize].name;
        publisher.write(
            port.way.open(),
            &port.here,
            &self.server,
            index,
            self.run,
            name,
        );
        let main = self.places.address(self.places.main(Transport::Udp));
        self.post(index as usize % ports, self.plan.edge.unwrap_or(main));
    }

    fn wait(&mut self, attempt: usize, who: Who, cseq: u32) {
        let due = self.now + Duration::from_millis(AGAIN_MILLISECONDS[attempt]);
        self.waits[attempt].push_back(Wait { due, who, cseq });
    }

    /// What is true of a resource from now on; its watchers are wrong until they show it.
    pub fn change(&mut self, resource: u32, state: State) {
        self.now = self.start.elapsed();
        let truth = &mut self.resources[resource as usize];
        truth.state = state;
        truth.changed = self.now;
        for &index in &truth.watchers {
            let phone = &mut self.phones[index as usize];
            let right = state.shows_as(self.plan.package, phone.lamp);
            if phone.stage == Stage::Active {
                self.wrong -= usize::from(!phone.right);
                self.wrong += usize::from(!right);
            }
            if phone.right && !right {
                phone.wrong_since = self.now;
            }
            phone.right = right;
        }
    }

    /// Receives, answers, sends again what is due. Waits at most so long if there is nothing to do.
    pub fn turn(&mut self, wait: Duration) {
        self.now = self.start.elapsed();
        let since = self.now - std::mem::replace(&mut self.turned, self.now);
        if since >= STANDSTILL {
            self.stood_still(since);
        }
        let mut came = 0;
        for port in 0..self.plan.ports {
            came += self.receive(port);
        }
        came += self.receive_lines();
        self.send_again();
        self.try_again();
        self.leave();
        for port in &mut self.ports[..self.plan.ports] {
            if let Way::Datagrams { socket, outbox } = &mut port.way {
                self.seen.sends_refused += outbox.flush(socket) as u64;
            }
        }
        self.flush_lines();
        if came == 0 {
            self.lines.poller.wait(wait.as_millis() as i32);
        }
    }

    /// Nobody ran the phones for so long: it is no answer's fault that it was not heard. If it was the machine, the server
    /// stood still too, and what it told last to whoever had left is lost with its retransmissions.
    fn stood_still(&mut self, time: Duration) {
        self.seen.standstills += 1;
        for wait in self.waits.iter_mut().flatten() {
            wait.due += time;
        }
        if self.may_end {
            self.forgive_last_notifies();
        }
    }

    fn receive(&mut self, port: usize) -> usize {
        let Way::Datagrams { socket, .. } = &self.ports[port].way else {
            return 0;
        };
        let mut inbox = self.inbox.take().expect("receive does not call itself");
        let count = inbox.receive(socket);
        for index in 0..count {
            let (bytes, peer) = inbox.datagram(index);
            if !self.deaf && !self.lose() {
                self.hear(port, bytes, peer, inbox.class(index));
            }
        }
        self.inbox = Some(inbox);
        count
    }
}
