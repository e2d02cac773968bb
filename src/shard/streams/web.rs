//! Connections that speak WebSocket: the request that opens one is answered here, and each of its messages is one of SIP
//! (RFC 7118). What is told by them, and when they are closed, is as with any other connection.

use core::time::Duration;

use super::ending::Ending;
use super::{Connection, Shard};
use crate::arena::SlotSize;
use crate::shard::effects::{Effects, StreamOrder, StreamSend};
use crate::sip::Writer;
use crate::stats::Counter;
use crate::time::Time;
use crate::transport::stream::{
    Answer, CloseCode, ControlFrame, Framed, WebFound, WebRules, WebSocket,
};
use crate::transport::{ConnectionId, Flow};

impl Ending {
    /// As the other side is told in the last frame.
    pub(super) fn close_code(self) -> CloseCode {
        match self {
            Ending::ByPeer | Ending::Idle | Ending::Refused => CloseCode::Normal,
            Ending::Unreadable => CloseCode::Invalid,
            Ending::TooLong => CloseCode::TooBig,
            Ending::Silent | Ending::Unfinished | Ending::Stalled | Ending::Flooded => {
                CloseCode::Policy
            }
        }
    }
}

impl Connection {
    /// One that takes nothing is not pinged: it will stall.
    pub(super) fn next_ping(&self) -> Option<Time> {
        self.ping
            .filter(|_| self.backlog.bytes() == 0)
            .map(|after| self.said + after)
    }
}

impl Shard {
    /// Takes in what came. True: a whole message was among it. None: the connection has been closed.
    pub(super) fn read_web(
        &mut self,
        now: Time,
        flow: Flow,
        web: &mut WebSocket,
        bytes: &[u8],
        out: &mut Effects,
    ) -> Option<bool> {
        let id = flow.connection?;
        let mut room = core::mem::take(&mut self.streams.room);
        let everybody = WebRules::default();
        let (mut rest, mut whole, mut pong) = (bytes, false, None);
        loop {
            let local = self.listeners.local(flow.listener);
            let rules = local.map_or(&everybody, |local| &local.listener.web);
            let Some(found) = web.next(&mut rest, rules, &mut room) else {
                break;
            };
            match found {
                WebFound::Handshake(answer) => {
                    let ping = rules.ping;
                    self.answer_handshake(now, id, answer, ping, out);
                }
                WebFound::Framed(Framed::Message(message)) => {
                    whole |= self.on_web_message(now, flow, message, out);
                }
                // Of several the last one is answered.
                //= RFC 6455 5.5.3
                WebFound::Framed(Framed::Ping(payload)) => pong = Some(ControlFrame::pong(payload)),
                WebFound::Framed(Framed::Pong) => {}
                //= RFC 6455 5.5.1
                WebFound::Framed(Framed::Closed(code)) => {
                    self.close_with(now, id, Ending::ByPeer, code, out);
                }
                WebFound::Framed(Framed::Broken(code)) => {
                    let ending = match code {
                        CloseCode::TooBig => Ending::TooLong,
                        CloseCode::Normal
                        | CloseCode::GoingAway
                        | CloseCode::ProtocolError
                        | CloseCode::Invalid
                        | CloseCode::Policy
                        | CloseCode::Theirs(_) => Ending::Unreadable,
                    };
                    self.close_with(now, id, ending, code, out);
                }
            }
            if !self.streams.by_id.contains_key(&id) {
                self.streams.room = room;
                return None;
            }
        }
        self.streams.room = room;
        if let Some(pong) = pong {
            self.stats.record(Counter::DatagramKeepalive);
            self.say(now, id, |writer| writer.put(pong.as_bytes()), out);
        }
        let here = self.streams.by_id.contains_key(&id);
        here.then_some(whole)
    }

    fn answer_handshake(
        &mut self,
        now: Time,
        id: ConnectionId,
        answer: Answer,
        ping: Option<Duration>,
        out: &mut Effects,
    ) {
        self.say(now, id, |writer| answer.write(writer), out);
        match answer {
            Answer::Accepted(_) => {
                if let Some(&index) = self.streams.by_id.get(&id) {
                    self.streams.connections[index].framed = true;
                    self.streams.connections[index].ping = ping;
                    out.streams.push(StreamSend {
                        connection: id,
                        order: StreamOrder::Framed,
                    });
                    self.watch_connection(index);
                }
            }
            Answer::Refused(_) => self.cut(now, id, Ending::Refused, out),
        }
    }

    /// True: it was a message of SIP, and no line ends that keep the connection alive.
    fn on_web_message(&mut self, now: Time, flow: Flow, message: &[u8], out: &mut Effects) -> bool {
        let line_ends = message.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        //= RFC 7118 6
        match (line_ends, message, flow.connection) {
            (true, b"\r\n\r\n", Some(id)) => self.pong(now, id, out),
            (true, _, _) => {}
            //= RFC 7118 4.2
            (false, _, _) => self.on_message(now, flow, message, false, out),
        }
        !line_ends
    }

    /// What stands between us and a page forgets a connection on which nothing moves.
    //= RFC 7118 6
    pub(super) fn ping_if_due(&mut self, now: Time, index: u32, out: &mut Effects) {
        let connection = &self.streams.connections[index];
        if connection.next_ping().is_some_and(|when| when <= now) {
            let id = connection.id;
            let ping = ControlFrame::ping();
            self.say(now, id, |writer| writer.put(ping.as_bytes()), out);
        }
    }

    /// The last frame of a connection that is about to be closed.
    pub(super) fn say_close(
        &mut self,
        now: Time,
        id: ConnectionId,
        code: CloseCode,
        out: &mut Effects,
    ) {
        let frame = ControlFrame::close(code);
        self.say(now, id, |writer| writer.put(frame.as_bytes()), out);
    }

    /// Writes something that is no message of SIP.
    fn say(
        &mut self,
        now: Time,
        id: ConnectionId,
        write: impl FnOnce(&mut Writer<'_>),
        out: &mut Effects,
    ) {
        let Some(&index) = self.streams.by_id.get(&id) else {
            return;
        };
        let Some(slot) = self.arena.take(SlotSize::Small) else {
            return self.stats.record(Counter::ResponseNoSlot);
        };
        let mut writer = Writer::new(self.arena.buffer(slot));
        write(&mut writer);
        let length = writer.finish().expect("it is shorter than a slot");
        self.arena.set_len(slot, length);
        out.released.push(slot);
        self.order(now, index, StreamOrder::Write(slot), length, out);
    }
}
