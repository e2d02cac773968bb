//! A page in a browser: another library's WebSocket client at the other end of a connection of the house.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use lampfield::transport::ConnectionId;
use lampfield_sim::script::settings::{DEFAULT_DOMAIN, WEB};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::house::{House, answer_of};

pub const PAGE: &str = "198.51.100.20:49152";
const HOST: &str = "df7jal23ls0d.invalid";

/// What a browser asks, for who writes it by hand.
pub const REQUEST: &str = "GET / HTTP/1.1\r\nHost: sip.example.com:8080\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[derive(Default)]
struct Ends {
    to_client: VecDeque<u8>,
    to_server: Vec<u8>,
}

/// The client's end of the connection: it never waits.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Ends>>);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.0.borrow_mut();
        if ends.to_client.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ends.to_client.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().to_server.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Browser {
    pub id: ConnectionId,
    socket: WebSocket<Pipe>,
    pipe: Pipe,
    /// What it sends comes in pieces of so many bytes.
    piece: usize,
}

impl Browser {
    /// Connects, and opens the WebSocket.
    pub fn open(house: &mut House, shard: u16, piece: usize) -> Browser {
        let id = house.connect_to(WEB, shard, PAGE);
        house.reads(id, false);
        let pipe = Pipe::default();
        let mut request = "ws://sip.example.com:8080/"
            .into_client_request()
            .expect("a request");
        let subprotocol = HeaderValue::from_static("sip");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", subprotocol);
        let mut handshake = tungstenite::client(request, pipe.clone());
        let socket = loop {
            match handshake {
                Ok((socket, answer)) => {
                    assert_eq!(answer.status(), 101);
                    break socket;
                }
                Err(HandshakeError::Interrupted(middle)) => {
                    assert!(pump(house, id, &pipe, piece), "the request is answered");
                    handshake = middle.handshake();
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        };
        Browser {
            id,
            socket,
            pipe,
            piece,
        }
    }

    pub fn send(&mut self, house: &mut House, text: String) {
        self.send_message(house, Message::Text(text.into()));
    }

    pub fn send_message(&mut self, house: &mut House, message: Message) {
        self.socket.send(message).expect("it is sent");
        self.pump_out(house);
    }

    /// Bytes that are no library's.
    pub fn send_raw(&mut self, house: &mut House, bytes: &[u8]) {
        house.send(self.id, bytes);
    }

    /// What has come; NOTIFYs are answered.
    pub fn messages(&mut self, house: &mut House) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let moved = pump(house, self.id, &self.pipe, self.piece);
            while let Ok(message) = self.socket.read() {
                if let Message::Text(text) = &message
                    && text.starts_with("NOTIFY ")
                {
                    let answer = Message::Text(answer_of(text).into());
                    self.socket.send(answer).expect("it is sent");
                }
                all.push(message);
            }
            if !moved {
                return all;
            }
        }
    }

    /// The same, where nothing but text has come.
    pub fn texts(&mut self, house: &mut House) -> Vec<String> {
        let text = |message: Message| match message {
            Message::Text(text) => text.to_string(),
            other => panic!("no text: {other:?}"),
        };
        self.messages(house).into_iter().map(text).collect()
    }

    /// The page closes; the code that it is answered.
    pub fn close(&mut self, house: &mut House, code: u16) -> Option<u16> {
        let frame = CloseFrame {
            code: code.into(),
            reason: "the page is closed".into(),
        };
        self.socket.close(Some(frame)).expect("it is sent");
        self.pump_out(house);
        self.last_code(house)
    }

    /// The code of the server's close frame.
    pub fn last_code(&mut self, house: &mut House) -> Option<u16> {
        self.messages(house)
            .into_iter()
            .find_map(|message| match message {
                Message::Close(Some(frame)) => Some(u16::from(frame.code)),
                _ => None,
            })
    }

    fn pump_out(&mut self, house: &mut House) {
        let bytes = std::mem::take(&mut self.pipe.0.borrow_mut().to_server);
        for piece in bytes.chunks(self.piece) {
            house.send(self.id, piece);
        }
    }
}

/// Carries bytes both ways. True: there were some.
fn pump(house: &mut House, id: ConnectionId, pipe: &Pipe, piece: usize) -> bool {
    let out = std::mem::take(&mut pipe.0.borrow_mut().to_server);
    for piece in out.chunks(piece) {
        house.send(id, piece);
    }
    let came = house.take_bytes(id);
    pipe.0.borrow_mut().to_client.extend(&came);
    !out.is_empty() || !came.is_empty()
}

/// A SUBSCRIBE of a page, as SIP stacks for browsers write it.
pub fn subscribe(page: &str, user: &str, cseq: u32, to_tag: &str, expires: u32) -> String {
    let to_tag = match to_tag {
        "" => String::new(),
        tag => format!(";tag={tag}"),
    };
    format!(
        "SUBSCRIBE sip:{user}@{DEFAULT_DOMAIN} SIP/2.0\r\n\
         Via: SIP/2.0/WS {HOST};branch=z9hG4bK-{page}-{user}-{cseq}\r\n\
         From: <sip:{page}@{DEFAULT_DOMAIN}>;tag=f-{page}-{user}\r\nTo: <sip:{user}@{DEFAULT_DOMAIN}>{to_tag}\r\n\
         Call-ID: {page}-{user}\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:{page}@{HOST};transport=ws>\r\n\
         Max-Forwards: 70\r\nEvent: dialog\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
    )
}
