//! Which records of a name are asked for, and in which order its addresses are tried (RFC 3263). Pure: it says what to ask
//! next and is told what came; whoever asks has a resolver, and a limit to its patience.
//!
//! Only datagrams are sent to an address that was looked up, so UDP is the one transport that is asked for.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use super::DEFAULT_PORT;
use crate::config::limits;
use crate::rng::Rng;
use crate::sip::{Host, Uri};

/// The longest name that there is (RFC 1035 2.3.4).
const NAME_BYTES: usize = 253;
/// Names below these are never asked for: no server knows them (RFC 6761, RFC 7686, RFC 6762).
const HOPELESS: [&str; 4] = ["invalid", "localhost", "onion", "local"];
/// Names of one question that are asked for at most, whatever the answers say.
const QUERIES: usize = 16;

/// A host name that something is to be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// In lower case, without a dot at its end.
    pub host: Box<str>,
    pub port: Option<u16>,
    /// The URI names no transport.
    pub any_transport: bool,
    /// The address has to be an IPv4 address, or else an IPv6 address.
    pub v4: bool,
}

impl Question {
    /// What a URI asks for; None: it names an address, or nothing that could be found.
    pub fn of(uri: &Uri<'_>, v4: bool) -> Option<Question> {
        let Host::Name(name) = uri.host else {
            return None;
        };
        let name = core::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let last = name.rsplit('.').next().unwrap_or(name);
        if name.is_empty() || name.len() > NAME_BYTES || HOPELESS.contains(&last) {
            return None;
        }
        Some(Question {
            host: name.into(),
            port: uri.port,
            any_transport: uri.param("transport").is_none(),
            v4,
        })
    }
}

/// What is to be asked for. Names end with a dot: they are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Naptr(String),
    Srv(String),
    /// A, or AAAA.
    Address(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Naptr(Vec<Naptr>),
    Srv(Vec<Srv>),
    Addresses(Vec<IpAddr>),
    /// There is no such record, and a server said so.
    Nothing,
    /// Nobody has answered, or nobody who knows.
    Failed,
}

/// One NAPTR record (RFC 3403 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    pub flags: String,
    pub services: String,
    pub replacement: String,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

/// What a question has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Where to send to, in the order in which to try; at least one.
    Targets(Vec<SocketAddr>),
    /// There is nothing of that name.
    Nowhere,
    /// It could not be found out.
    Unknown,
}

/// A question that is being answered.
pub struct Search {
    question: Question,
    todo: VecDeque<Step>,
    targets: Vec<SocketAddr>,
    asked: usize,
    failed: bool,
}

enum Step {
    Naptr,
    Srv(String),
    Address { name: String, port: u16 },
}

impl Search {
    /// Nothing has been asked yet.
    //= RFC 3263 4.1
    //= RFC 3263 4.2
    pub fn new(question: Question) -> Search {
        let host = whole(&question.host);
        let first = match (question.port, question.any_transport) {
            (Some(port), _) => Step::Address { name: host, port },
            (None, true) => Step::Naptr,
            (None, false) => Step::Srv(service(&host)),
        };
        Search {
            question,
            todo: VecDeque::from([first]),
            targets: Vec::new(),
            asked: 0,
            failed: false,
        }
    }

    /// What to ask for now; None: that is all.
    pub fn next(&self) -> Option<Query> {
        let enough = self.targets.len() >= limits::TARGETS_PER_NAME || self.asked >= QUERIES;
        let step = self.todo.front().filter(|_| !enough)?;
        Some(match step {
            Step::Naptr => Query::Naptr(whole(&self.question.host)),
            Step::Srv(name) => Query::Srv(name.clone()),
            Step::Address { name, .. } => Query::Address(name.clone()),
        })
    }

    /// What came of the query that `next` names. `rng` shares what is offered among those who ask.
    pub fn take(&mut self, found: Found, rng: &mut Rng) {
        let Some(step) = self.todo.pop_front() else {
            return;
        };
        self.asked += 1;
        self.failed |= found == Found::Failed;
        match (step, found) {
            (Step::Naptr, Found::Naptr(records)) => self.take_naptr(records),
            (Step::Naptr, _) => self.ask_service(),
            (Step::Srv(_), Found::Srv(records)) => {
                let targets = in_order(records, rng).into_iter().map(|srv| Step::Address {
                    name: whole(&srv.target),
                    port: srv.port,
                });
                // Before what other records of NAPTR would lead to.
                let mut todo: VecDeque<Step> = targets.collect();
                todo.append(&mut self.todo);
                self.todo = todo;
            }
            //= RFC 3263 4.2
            (Step::Srv(_), _) if self.todo.is_empty() && self.targets.is_empty() => {
                self.todo.push_back(Step::Address {
                    name: whole(&self.question.host),
                    port: DEFAULT_PORT,
                });
            }
            (Step::Address { port, .. }, Found::Addresses(addresses)) => {
                self.take_addresses(&addresses, port);
            }
            (Step::Srv(_) | Step::Address { .. }, _) => {}
        }
    }

    /// What it has come to.
    pub fn finish(self) -> Located {
        match (self.targets.is_empty(), self.failed) {
            (false, _) => Located::Targets(self.targets),
            (true, true) => Located::Unknown,
            (true, false) => Located::Nowhere,
        }
    }

    /// The services that we can use, the best first. Where there is none, somebody may have forgotten it.
    //= RFC 3263 4.1
    fn take_naptr(&mut self, mut records: Vec<Naptr>) {
        records.retain(|naptr| naptr.services.eq_ignore_ascii_case("SIP+D2U"));
        records.sort_by_key(|naptr| (naptr.order, naptr.preference));
        for naptr in records {
            let name = whole(&naptr.replacement);
            if naptr.flags.eq_ignore_ascii_case("s") {
                self.todo.push_back(Step::Srv(name));
            } else if naptr.flags.eq_ignore_ascii_case("a") {
                let port = DEFAULT_PORT;
                self.todo.push_back(Step::Address { name, port });
            }
        }
        if self.todo.is_empty() {
            self.ask_service();
        }
    }

    fn ask_service(&mut self) {
        let name = service(&whole(&self.question.host));
        self.todo.push_back(Step::Srv(name));
    }

    fn take_addresses(&mut self, addresses: &[IpAddr], port: u16) {
        for address in addresses {
            let target = SocketAddr::new(*address, port);
            let fits = address.is_ipv4() == self.question.v4 && port != 0;
            if fits && !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
        self.targets.truncate(limits::TARGETS_PER_NAME);
    }
}

/// Lower priorities first; among those of one priority each comes first as often as its weight says. A target `.`
/// offers nothing.
//= RFC 2782
fn in_order(mut records: Vec<Srv>, rng: &mut Rng) -> Vec<Srv> {
    records.retain(|srv| !matches!(&*srv.target, "." | ""));
    // Those without weight first, so that they are chosen only where chance has it exactly so.
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let peers = records.iter().take_while(|srv| srv.priority == priority);
        let sum: u64 = peers.map(|srv| u64::from(srv.weight)).sum();
        let chance = rng.below(sum + 1);
        let mut running = 0;
        let chosen = records.iter().position(|srv| {
            running += u64::from(srv.weight);
            running >= chance
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

fn whole(name: &str) -> String {
    match name.ends_with('.') {
        true => name.to_owned(),
        false => format!("{name}."),
    }
}

/// Where SIP over UDP is offered for a name.
fn service(host: &str) -> String {
    format!("_sip._udp.{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn question(uri: &str) -> Question {
        let uri = Uri::parse(uri.as_bytes()).expect("a URI");
        Question::of(&uri, true).expect("a name")
    }

    fn naptr(order: u16, preference: u16, services: &str, replacement: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: "s".to_owned(),
            services: services.to_owned(),
            replacement: replacement.to_owned(),
        }
    }

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv {
            priority,
            weight,
            port: 5060 + priority,
            target: target.to_owned(),
        }
    }

    /// Asks as long as there is something to ask: what was asked, and what it came to.
    fn search(uri: &str, zone: &[(Query, Found)]) -> (Vec<Query>, Located) {
        let mut search = Search::new(question(uri));
        let mut asked = Vec::new();
        let mut rng = Rng::new([1; 16]);
        while let Some(query) = search.next() {
            let found = zone.iter().find(|(known, _)| *known == query);
            search.take(
                found.map_or(Found::Nothing, |(_, found)| found.clone()),
                &mut rng,
            );
            asked.push(query);
            assert!(asked.len() < 100, "{asked:?}");
        }
        (asked, search.finish())
    }

    fn addresses(list: &[&str]) -> Found {
        let parse = |text: &&str| text.parse().expect("an address");
        Found::Addresses(list.iter().map(parse).collect())
    }

    fn targets(list: &[&str]) -> Located {
        let parse = |text: &&str| text.parse().expect("an address and a port");
        Located::Targets(list.iter().map(parse).collect())
    }

    //= RFC 3263 4.1 type=test
    //= RFC 3263 4.2 type=test
    #[test]
    fn the_example_of_the_rfc_is_looked_up_by_naptr_srv_and_address_in_that_order() {
        let zone = [
            (
                Query::Naptr("example.com.".into()),
                Found::Naptr(vec![
                    naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com."),
                    naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com"),
                    naptr(100, 50, "SIP+D2U", "_sip._udp.example.com."),
                ]),
            ),
            (
                Query::Srv("_sip._udp.example.com.".into()),
                Found::Srv(vec![
                    srv(1, 1, "server2.example.com"),
                    srv(0, 1, "server1.example.com."),
                ]),
            ),
            (
                Query::Address("server1.example.com.".into()),
                addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.1"]),
            ),
            (
                Query::Address("server2.example.com.".into()),
                addresses(&["192.0.2.2"]),
            ),
        ];
        let (asked, located) = search("sip:alice@Example.COM", &zone);
        let expected: Vec<Query> = zone.iter().map(|(query, _)| query.clone()).collect();
        assert_eq!(asked, expected);
        assert_eq!(located, targets(&["192.0.2.1:5060", "192.0.2.2:5061"]));
    }

    //= RFC 3263 4.2 type=test
    #[test]
    fn what_a_uri_says_already_is_not_asked_for() {
        let host = [(
            Query::Address("sbc.example.com.".into()),
            addresses(&["192.0.2.5"]),
        )];
        let service = || Query::Srv("_sip._udp.sbc.example.com.".into());
        let name = || Query::Address("sbc.example.com.".into());
        for (uri, asked, target) in [
            ("sip:sbc.example.com:5080", vec![name()], "192.0.2.5:5080"),
            (
                "sip:sbc.example.com:5080;transport=udp",
                vec![name()],
                "192.0.2.5:5080",
            ),
            (
                "sip:sbc.example.com;transport=udp",
                vec![service(), name()],
                "192.0.2.5:5060",
            ),
            (
                "sip:sbc.example.com.;lr",
                vec![Query::Naptr("sbc.example.com.".into()), service(), name()],
                "192.0.2.5:5060",
            ),
        ] {
            assert_eq!(search(uri, &host), (asked, targets(&[target])), "{uri}");
        }
    }

    #[test]
    fn what_nobody_can_know_is_no_question() {
        for uri in [
            "sip:df7jal23ls0d.invalid",
            "sip:a@x.y.INVALID.",
            "sip:localhost:5070",
            "sip:a.local",
            "sip:192.0.2.1",
            "sip:[2001:db8::1]",
        ] {
            let uri = Uri::parse(uri.as_bytes()).expect("a URI");
            assert_eq!(Question::of(&uri, true), None);
        }
    }

    #[test]
    fn a_service_that_is_not_offered_is_looked_for_nowhere_else() {
        let zone = [(
            Query::Srv("_sip._udp.example.com.".into()),
            Found::Srv(vec![srv(0, 0, ".")]),
        )];
        let (asked, located) = search("sip:example.com;transport=udp", &zone);
        assert_eq!((asked.len(), located), (1, Located::Nowhere));
    }

    #[test]
    fn who_has_no_answer_is_told_from_who_has_none_to_give() {
        let (_, located) = search("sip:example.com", &[]);
        assert_eq!(located, Located::Nowhere);
        let dead = [
            Query::Naptr("example.com.".into()),
            Query::Srv("_sip._udp.example.com.".into()),
            Query::Address("example.com.".into()),
        ]
        .map(|query| (query, Found::Failed));
        let (asked, located) = search("sip:example.com", &dead);
        assert_eq!((asked.len(), located), (3, Located::Unknown));
        // A server that knows no NAPTR is no reason to give up.
        let mut half = dead.clone();
        half[2].1 = addresses(&["192.0.2.9"]);
        let (_, located) = search("sip:example.com", &half);
        assert_eq!(located, targets(&["192.0.2.9:5060"]));
    }

    #[test]
    fn a_zone_that_leads_in_circles_comes_to_an_end() {
        let many = (0..100).map(|n| srv(n, 0, &format!("h{n}.example.com")));
        let zone = [(
            Query::Srv("_sip._udp.example.com.".into()),
            Found::Srv(many.collect()),
        )];
        let (asked, located) = search("sip:example.com;transport=udp", &zone);
        assert_eq!((asked.len(), located), (QUERIES, Located::Nowhere));
        let flood: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
        let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
        let zone = [(Query::Address("example.com.".into()), addresses(&flood))];
        let Located::Targets(found) = search("sip:example.com:5060", &zone).1 else {
            panic!("there are addresses");
        };
        assert_eq!(found.len(), limits::TARGETS_PER_NAME);
    }

    //= RFC 2782 type=test
    #[test]
    fn weights_share_a_priority_and_a_lower_priority_goes_first() {
        let records = || {
            vec![
                srv(1, 100, "late"),
                srv(0, 3, "much"),
                srv(0, 1, "little"),
                srv(0, 0, "never"),
            ]
        };
        let mut rng = Rng::new([7; 16]);
        let mut firsts = BTreeMap::new();
        for _ in 0..4_000 {
            let ordered = in_order(records(), &mut rng);
            assert_eq!(ordered.len(), 4);
            assert_eq!(ordered[3].target, "late");
            *firsts.entry(ordered[0].target.clone()).or_insert(0_u32) += 1;
        }
        // Of five chances that there are, three are one's, one is another's, and one that of who has no weight.
        assert!((2_200..2_600).contains(&firsts["much"]), "{firsts:?}");
        assert!((650..950).contains(&firsts["little"]), "{firsts:?}");
        assert!((650..950).contains(&firsts["never"]), "{firsts:?}");
    }
}
