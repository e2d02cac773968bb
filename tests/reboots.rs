//! Ten thousand phones reboot: what they had before is gone within the time of one transaction and a little more, and
//! nothing else is. No kernel, no clock.

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lampfield::stats::Counter;
use lampfield::time::T64;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, Settings};
use lampfield_sim::world::reply;
use site::Site;

const PHONES: usize = 10_000;

/// What a phone answers to a NOTIFY of a dialog that it has forgotten.
#[derive(Clone, Copy, PartialEq)]
enum Forgotten {
    Says481,
    SaysNothing,
}

/// The phones' side.
struct Phones {
    /// The life that each phone is in: the dialogs of an earlier one are forgotten.
    lives: Vec<u32>,
    forgotten: Forgotten,
    /// NOTIFYs of forgotten dialogs, by Call-ID.
    probes: BTreeMap<String, u32>,
}

impl Phones {
    fn hear(&mut self, message: &Message) -> Option<Vec<u8>> {
        message.method()?;
        let call_id = message.header("Call-ID").expect("a Call-ID");
        let mut words = call_id.split('.');
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (phone, life) = (number().expect("a phone"), number().expect("a life"));
        if life == self.lives[phone as usize] {
            return Some(reply(message, 200, None));
        }
        *self.probes.entry(call_id.to_owned()).or_default() += 1;
        match self.forgotten {
            Forgotten::Says481 => Some(reply(message, 481, None)),
            Forgotten::SaysNothing => None,
        }
    }
}

struct Town {
    site: Site,
    phones: Phones,
}

impl Town {
    fn new(forgotten: Forgotten) -> Self {
        Town {
            site: Site::new(&Settings::default()),
            phones: Phones {
                lives: vec![0; PHONES],
                forgotten,
                probes: BTreeMap::new(),
            },
        }
    }

    /// Each phone subscribes, with two keys for one resource and one for another.
    fn subscribe_all(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], 7000));
        for phone in 0..PHONES {
            let life = self.phones.lives[phone];
            for (key, resource) in [(0, 1001 + phone % 100), (1, 1001 + phone % 100), (2, 900)] {
                let text = format!(
                    "SUBSCRIBE sip:{resource}@{DEFAULT_DOMAIN} SIP/2.0\r\n\
                     Via: SIP/2.0/UDP {address};branch=z9hG4bK{phone}.{life}.{key};rport\r\n\
                     From: <sip:{phone}@{DEFAULT_DOMAIN}>;tag=f{phone}.{key}\r\n\
                     To: <sip:{resource}@{DEFAULT_DOMAIN}>\r\nContact: <sip:{phone}@{address}>\r\n\
                     Call-ID: {phone}.{life}.{key}\r\nCSeq: 1 SUBSCRIBE\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
                     Expires: 3600\r\nContent-Length: 0\r\n\r\n"
                );
                let sent = self.site.receive(address, text.as_bytes());
                self.site
                    .converse(sent, |_, message| self.phones.hear(message));
                self.pass(Duration::ZERO);
            }
        }
    }

    /// Lets time pass, from timer to timer.
    fn pass(&mut self, time: Duration) {
        self.site
            .pass_conversing(time, |_, message| self.phones.hear(message));
        assert_eq!(self.site.complaint(), None);
    }

    fn subscriptions(&mut self) -> usize {
        self.site.census().subscriptions
    }
}

fn reboot(forgotten: Forgotten) {
    let mut town = Town::new(forgotten);
    town.subscribe_all();
    town.pass(T64 + Duration::from_secs(5));
    assert_eq!(
        town.subscriptions(),
        3 * PHONES,
        "two keys for one resource are two"
    );
    assert!(town.phones.probes.is_empty());
    for life in &mut town.phones.lives {
        *life += 1;
    }
    town.subscribe_all();
    town.pass(T64 + Duration::from_secs(5));
    assert_eq!(town.subscriptions(), 3 * PHONES, "as many as before");
    let times = if forgotten == Forgotten::Says481 {
        1
    } else {
        11
    };
    assert_eq!(town.phones.probes.len(), 3 * PHONES);
    assert!(town.phones.probes.values().all(|count| *count <= times));
    town.pass(T64);
    assert_eq!(town.subscriptions(), 3 * PHONES);
}

#[test]
fn ten_thousand_reboots_leave_as_many_subscriptions_as_there_were() {
    reboot(Forgotten::Says481);
}

#[test]
fn ten_thousand_reboots_of_phones_that_answer_nothing_do_so_too() {
    reboot(Forgotten::SaysNothing);
}

/// A window that stays closed for longer than a probe may take, as phones that answer nothing go on coming.
#[test]
fn nobody_is_given_up_before_it_was_asked_and_a_ghost_is_soon_after() {
    let mut settings = Settings::default();
    settings.set("in_flight_max", "128").expect("a setting");
    let mut site = Site::new(&settings);
    let address = SocketAddr::from(([127, 0, 0, 1], 7000));
    let ask = |call_id: &str, phone: &str, cseq: u32, tag: &str| {
        format!(
            "SUBSCRIBE sip:1001@{DEFAULT_DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK{call_id}.{cseq}\r\n\
             From: <sip:{phone}@{DEFAULT_DOMAIN}>;tag=f{call_id}\r\n\
             To: <sip:1001@{DEFAULT_DOMAIN}>{tag}\r\nContact: <sip:{phone}@{address}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} SUBSCRIBE\r\nMax-Forwards: 70\r\nEvent: dialog\r\n\
             Expires: 3600\r\nContent-Length: 0\r\n\r\n"
        )
    };
    // One phone with two keys, and one that has rebooted and knows its first dialog no more.
    let mut rebooted = false;
    let mut told = Vec::new();
    let mut hear = |now, message: &Message, rebooted: bool| {
        message.method()?;
        let call_id = message.header("Call-ID").expect("a Call-ID").to_owned();
        told.push((now, call_id.clone()));
        let answers = match call_id.as_str() {
            "first" | "second" | "after" => true,
            "before" => !rebooted,
            _ => false,
        };
        answers.then(|| reply(message, 200, None))
    };
    let mut tags = BTreeMap::new();
    for call_id in ["first", "before"] {
        let sent = site.receive(address, ask(call_id, call_id, 1, "").as_bytes());
        let answer = Message::read_loosely(&sent[0].bytes);
        tags.insert(
            call_id,
            format!(";tag={}", answer.tag("To").expect("a tag")),
        );
        site.converse(sent, |now, message| hear(now, message, false));
        site.pass_conversing(T64, |now, message| hear(now, message, false));
    }
    let mut strangers = 0;
    for tenth in 0..450 {
        for _ in 0..40 {
            let name = format!("stranger{strangers}");
            strangers += 1;
            site.receive(address, ask(&name, &name, 1, "").as_bytes());
        }
        if tenth == 20 {
            rebooted = true;
            site.receive(address, ask("second", "first", 1, "").as_bytes());
            site.receive(address, ask("after", "before", 1, "").as_bytes());
        }
        let step = Duration::from_millis(100);
        site.pass_conversing(step, |now, message| hear(now, message, rebooted));
    }
    let closed = site.now;
    let waits = T64 + Duration::from_secs(5);
    site.pass_conversing(3 * waits, |now, message| hear(now, message, rebooted));
    let asked = |of: &str| {
        let since = closed - Duration::from_secs(43);
        let mut told = told
            .iter()
            .filter(|(now, call_id)| *now > since && call_id == of);
        told.next().map(|(now, _)| *now)
    };
    let (first, before) = (asked("first"), asked("before"));
    let first = first.expect("the first key is asked");
    let before = before.expect("so is the ghost");
    assert!(
        first > closed - Duration::from_secs(5),
        "it waited for the window"
    );
    assert!(site.now > before + waits, "the ghost had its time");
    let mut refresh = |call_id: &str, phone: &str| {
        let sent = site.receive(address, ask(call_id, phone, 2, &tags[call_id]).as_bytes());
        Message::read_loosely(&sent[0].bytes).status()
    };
    assert_eq!(
        refresh("first", "first"),
        Some(200),
        "a key that answers lives on"
    );
    assert_eq!(refresh("before", "before"), Some(481), "a ghost does not");
    assert_eq!(site.complaint(), None);
}

/// Three keys come from another port, where they are known by another Contact too.
#[test]
fn a_key_that_follows_its_phone_is_counted_once() {
    let mut site = Site::new(&Settings::default());
    let mut ask = |port: u16, key: u32, cseq: u32, tag: &str| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let text = format!(
            "SUBSCRIBE sip:100{key}@{DEFAULT_DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK{key}.{cseq}\r\n\
             From: <sip:7@{DEFAULT_DOMAIN}>;tag=f{key}\r\nTo: <sip:100{key}@{DEFAULT_DOMAIN}>{tag}\r\n\
             Contact: <sip:7@{address}>\r\nCall-ID: {key}\r\nCSeq: {cseq} SUBSCRIBE\r\nMax-Forwards: 70\r\n\
             Event: dialog\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        let sent = site.receive(address, text.as_bytes());
        let answers = sent.iter().map(|sent| Message::read_loosely(&sent.bytes));
        let to = answers
            .filter(|message| message.status() == Some(200))
            .find_map(|answer| answer.header("To").map(str::to_owned));
        site.converse(sent, |_, message| {
            message.method().map(|_| reply(message, 200, None))
        });
        let to = to.expect("a 200");
        let (_, tag) = to.split_once(">").expect("a tag");
        (tag.to_owned(), site.figures())
    };
    let (tag, _) = ask(7000, 1, 1, "");
    ask(7000, 2, 1, "");
    ask(7000, 3, 1, "");
    let (_, figures) = ask(7001, 1, 2, &tag);
    assert_eq!(figures.stats.get(Counter::SubscriptionMoved), 2);
}
