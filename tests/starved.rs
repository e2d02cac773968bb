//! One shard whose window is full of NOTIFYs that nobody answers: what is owed to a living phone waits, and the phone
//! keeps its subscription. No kernel, no clock.

#[path = "support/site.rs"]
mod site;

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield_sim::edge::Datagram;
use lampfield_sim::script::settings::Settings;
use site::{Site, subscribe};

const IN_FLIGHT: usize = 128;

/// A site, and every NOTIFY to one of its phones.
struct Starved {
    site: Site,
    phones: usize,
    /// The CSeqs of the NOTIFYs that the first phone was sent.
    heard: Vec<String>,
}

impl Starved {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings
            .set("in_flight_max", &IN_FLIGHT.to_string())
            .expect("a setting");
        Starved {
            site: Site::new(&settings),
            phones: 0,
            heard: Vec::new(),
        }
    }

    /// So many new phones subscribe, and answer nothing.
    fn crowd(&mut self, count: usize) {
        let address = SocketAddr::from(([127, 0, 0, 1], 7000));
        for _ in 0..count {
            let name = format!("phone{}", self.phones);
            self.phones += 1;
            let sent = self
                .site
                .receive(address, &subscribe(&name, address, 1, "", 3600));
            self.hear(sent);
        }
        self.pass(Duration::ZERO);
    }

    fn set(&mut self, state: HintState) {
        let sent = self.site.set("1001", Some(state));
        self.hear(sent);
    }

    fn pass(&mut self, time: Duration) {
        let sent = self.site.pass(time);
        self.hear(sent.into_iter().map(|(_, datagram)| datagram));
        assert_eq!(self.site.complaint(), None);
    }

    fn hear(&mut self, sent: impl IntoIterator<Item = Datagram>) {
        for datagram in sent {
            let text = String::from_utf8_lossy(&datagram.bytes);
            if text.starts_with("NOTIFY") && text.contains("Call-ID: phone0.\r\n") {
                let cseq = text
                    .split("CSeq: ")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                self.heard.extend(cseq.map(str::to_string));
            }
        }
    }
}

//= RFC 6665 4.2.2 type=test
#[test]
fn a_notify_that_stood_back_for_a_newer_one_does_not_end_its_subscription() {
    let mut starved = Starved::new();
    starved.crowd(1);
    assert_eq!(starved.heard, ["1"]);
    starved.pass(Duration::from_millis(100));
    // From here on the window is full of what goes before a change: the NOTIFYs of new phones, all of them dead.
    starved.crowd(IN_FLIGHT);
    starved.set(HintState::Ringing);
    for _ in 0..90 {
        starved.pass(Duration::from_millis(400));
        starved.crowd(IN_FLIGHT);
    }
    assert!(starved.heard.iter().all(|cseq| cseq == "1"));
    // The crowd is gone, its NOTIFYs are old: the first phone hears what it was owed.
    starved.pass(Duration::from_secs(40));
    assert!(
        starved.heard.iter().any(|cseq| cseq == "2"),
        "{:?}",
        starved.heard
    );
}
