//! A storm of expiries with NOTIFYs in flight, as an operator looks at it.

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::shard::filter::SubscriptionFilter;
use lampfield::time::T64;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;

use crate::site::{Site, subscribe};

/// Phones of the storm: more than the window lets out at once.
const STORM: usize = 2_000;
const STORM_EXPIRES: u32 = 60;

/// The rows that an operator gets with `show subscriptions --like 'expiry=0'`.
fn expired(site: &mut Site) -> usize {
    let filter = SubscriptionFilter::parse("expiry=0").expect("a filter");
    site.rows_like(filter).len()
}

/// Those who had to run this query elsewhere found thousands.
#[test]
fn nobody_is_left_at_expiry_0_after_a_storm_of_expiries_with_notifys_in_flight() {
    for on_timeout in ["remove", "park"] {
        let mut settings = Settings::default();
        settings.set("on_timeout", on_timeout).expect("a setting");
        let mut site = Site::new(&settings);
        let address = |phone: usize| SocketAddr::from(([10, 3, (phone / 250) as u8, 1], 5060));
        let mut tags = Vec::new();
        for phone in 0..STORM {
            let name = format!("phone{phone}");
            let request = subscribe(&name, address(phone), 1, "", STORM_EXPIRES);
            for datagram in site.receive(address(phone), &request) {
                let answer = Message::read(&datagram.bytes).expect("a message");
                tags.push(answer.tag("To").expect("a tag").to_string());
            }
            // Their first NOTIFYs are answered.
            for (_, datagram) in site.pass(Duration::from_millis(1)) {
                let notify = Message::read(&datagram.bytes).expect("a message");
                site.receive(datagram.peer, &reply(&notify, 200, None));
            }
        }
        assert_eq!((tags.len(), site.rows().len()), (STORM, STORM));
        // From here on nobody answers: a state changes, and everybody's time runs out.
        let began = site.now;
        site.pass(Duration::from_secs(u64::from(STORM_EXPIRES) - 5));
        site.set("1001", Some(HintState::Ringing));
        site.pass(Duration::from_secs(7));
        assert!(expired(&mut site) > STORM / 2, "this is the storm");
        let last = began + Duration::from_secs(u64::from(STORM_EXPIRES)) + T64;
        site.pass(last.since(site.now) + Duration::from_millis(2));
        assert_eq!(expired(&mut site), 0, "{on_timeout}");
        assert_eq!(site.rows().len(), 0);
        for (phone, tag) in tags.iter().enumerate() {
            let name = format!("phone{phone}");
            let request = subscribe(&name, address(phone), 2, tag, STORM_EXPIRES);
            let sent = site.receive(address(phone), &request);
            let answer = Message::read(&sent[0].bytes).expect("a message");
            assert_eq!(answer.status(), Some(481));
        }
        assert_eq!(site.complaint(), None);
    }
}
