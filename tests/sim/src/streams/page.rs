//! Peers that speak WebSocket: what they say before, between and after their messages.

use lampfield::transport::ConnectionId;

use super::Streams;
use super::wire::Web;
use crate::web;

impl Streams {
    /// A peer that has connected asks for the connection to be opened.
    pub(super) fn asks_for_page(&mut self, id: ConnectionId) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        wire.web = Some(Web::default());
        let request = web::request(&mut self.random);
        self.say(id, &request);
    }

    /// It is open: what was to be said is said.
    pub(super) fn opens_page(&mut self, id: ConnectionId) {
        let web = self.wires.get_mut(&id).and_then(|wire| wire.web.as_mut());
        if let Some(web) = web {
            web.open = true;
            for message in core::mem::take(&mut web.waiting) {
                self.asked_again(&message);
                self.say_message(id, &message);
            }
        }
    }

    /// A peer says a message, in the way that its connection takes it.
    pub(super) fn say_message(&mut self, id: ConnectionId, message: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id) else {
            return;
        };
        match &mut wire.web {
            None => self.say(id, message),
            Some(web) if web.closes => {}
            Some(web) if web.open => {
                let frames = web.page.message(message, &mut self.random);
                self.say(id, &frames);
            }
            Some(web) => web.waiting.push(message.to_vec()),
        }
    }

    fn say_frame(&mut self, id: ConnectionId, frame: &[u8]) {
        let web = self.wires.get(&id).and_then(|wire| wire.web.as_ref());
        if web.is_some_and(|web| web.open && !web.closes) {
            self.say(id, frame);
        }
    }

    pub(super) fn pings(&mut self, id: ConnectionId) {
        let web = self.wires.get_mut(&id).and_then(|wire| wire.web.as_mut());
        if let Some(web) = web.filter(|web| web.open && !web.closes) {
            let frame = web.page.ping(&mut self.random);
            self.say(id, &frame);
        }
    }

    pub(super) fn pongs(&mut self, id: ConnectionId, payload: &[u8]) {
        let frame = web::pong(payload, &mut self.random);
        self.say_frame(id, &frame);
    }

    /// The server has closed: some say so too, and some never do.
    pub(super) fn answers_close(&mut self, id: ConnectionId, code: Option<u16>) {
        if self.random.per_mille(500) {
            let frame = web::close(code, &mut self.random);
            self.say_frame(id, &frame);
        }
        if let Some(web) = self.wires.get_mut(&id).and_then(|wire| wire.web.as_mut()) {
            web.closes = true;
        }
    }

    /// A peer closes, perhaps right behind a request, and waits until the server does.
    pub(super) fn closes_page(&mut self, id: ConnectionId, carrier: usize) {
        self.refresh_some(carrier);
        let code = *self
            .random
            .pick(&[None, Some(1000), Some(1001), Some(4001)]);
        let frame = web::close(code, &mut self.random);
        self.say_frame(id, &frame);
        let web = self.wires.get_mut(&id).and_then(|wire| wire.web.as_mut());
        if let Some(web) = web.filter(|web| web.open) {
            web.closes = true;
        }
    }
}
