//! A phone that says that it knows the state, at the very moment at which that changes. No kernel, no clock.

#[path = "support/site.rs"]
mod site;

use std::net::SocketAddr;
use std::time::Duration;

use lampfield::hint::HintState;
use lampfield_sim::message::Message;
use lampfield_sim::script::settings::Settings;
use lampfield_sim::world::reply;
use site::{Site, subscribe};

/// A NOTIFY without its body is owed, and before it goes out the state is another one: then that is told.
//= RFC 5839 6.2 type=test
#[test]
fn what_changes_before_a_notify_without_a_body_goes_out_is_told() {
    for changes in [false, true] {
        let mut site = Site::new(&Settings::default());
        let phone = SocketAddr::from(([192, 0, 2, 77], 5060));
        let accepted = site.receive(phone, &subscribe("phone", phone, 1, "", 600));
        let accepted = Message::read_loosely(&accepted[0].bytes);
        let tag = accepted.tag("To").expect("a dialog").to_owned();
        let first = site.tick().remove(0);
        let answer = reply(&Message::read_loosely(&first.bytes), 200, None);
        site.receive(phone, &answer);
        let refresh = subscribe("phone", phone, 2, &tag, 600);
        let refresh = String::from_utf8(refresh).expect("a text");
        let refresh = refresh.replacen("\r\nEvent:", "\r\nSuppress-If-Match: *\r\nEvent:", 1);
        site.receive(phone, refresh.as_bytes());
        if changes {
            site.set("1001", Some(HintState::Ringing));
        }
        let told: Vec<_> = site.pass(Duration::from_millis(1));
        let (_, notify) = told.first().expect("a refresh is told something");
        let text = String::from_utf8_lossy(&notify.bytes).into_owned();
        assert_eq!(text.contains("<state>early</state>"), changes, "{text}");
        assert_eq!(text.contains("Content-Type:"), changes, "{text}");
        assert_eq!(site.complaint(), None);
    }
}
