//! Well-formed and famous broken messages, to start mutations from.

use std::path::Path;

#[path = "../../torture/reader.rs"]
mod reader;

pub use reader::TestMessage;

/// What phones and servers send each other: long, short, folded, compact.
const MESSAGES: [&str; 8] = [
    "SUBSCRIBE sip:1001@lamp.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.51:5060;branch=z9hG4bK-1;rport\r\nMax-Forwards: 70\r\nFrom: \"Desk, 2\" <sip:2000@lamp.example>;tag=f1\r\nTo: <sip:1001@lamp.example>\r\nCall-ID: s1@192.0.2.51\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:2000@192.0.2.51:5060>;+sip.instance=\"<urn:uuid:0>\"\r\nEvent: dialog;id=3\r\nAccept: application/dialog-info+xml;q=0.8, */*;q=0.1\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n",
    "SUBSCRIBE sip:1001@lamp.example;transport=udp SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.20;branch=z9hG4bK9f3a.0\r\nVia: SIP/2.0/UDP 10.0.0.4:5062;rport=5062;received=203.0.113.9;branch=z9hG4bK18\r\nRecord-Route: <sip:198.51.100.20;lr;ftag=20>,<sip:198.51.100.21;r2=on;lr>\r\nRoute: <sip:198.51.100.7;lr>\r\nFrom: <sip:2000@lamp.example>;tag=20\r\nTo: <sip:1001@lamp.example>;tag=a81c\r\nCall-ID: 0_20@10.0.0.4\r\nCSeq: 4711 SUBSCRIBE\r\nContact: <sip:2000@10.0.0.4:5062>\r\nEvent: presence\r\nExpires: 0\r\nAuthorization: Digest username=\"2000\", realm=\"lamp.example\", nonce=\"0a\\\"b\", uri=\"sip:1001@lamp.example\", response=\"6629fae49393a05397450978507c4ef1\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"x\"\r\nSuppress-If-Match: *\r\nContent-Length: 0\r\n\r\n",
    "SUBSCRIBE sip:vm@[2001:db8::1]:5060 SIP/2.0\r\nv:SIP / 2.0/UDP [2001:db8::9];branch=z9hG4bK6\r\nf:sip:a@[2001:db8::9];tag=1\r\nt:sip:vm@[2001:db8::1]\r\ni:6\r\nCSeq:1 SUBSCRIBE\r\nm:<sip:a@[2001:db8::9]>\r\no:message-summary\r\nk:eventlist,\r\n replaces\r\nl:0\r\n\r\n",
    "PUBLISH sip:1001@lamp.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.52;branch=z9hG4bKp\r\nFrom: <sip:1001@lamp.example>;tag=p\r\nTo: <sip:1001@lamp.example>\r\nCall-ID: p\r\nCSeq: 2 PUBLISH\r\nSIP-If-Match: dx200xyz\r\nEvent: presence\r\nExpires: 3600\r\nContent-Type: application/pidf+xml;charset=\"utf-8\"\r\nContent-Length: 161\r\n\r\n<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:1001@lamp.example\"><tuple id=\"a\"><status><basic>open</basic></status></tuple></presence>",
    "NOTIFY sip:2000@192.0.2.51 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKn\r\nFrom: <sip:1001@lamp.example>;tag=o\r\nTo: <sip:2000@lamp.example>;tag=f1\r\nCall-ID: s1@192.0.2.51\r\nCSeq: 9 NOTIFY\r\nSubscription-State: active;expires=599\r\nEvent: dialog;id=3\r\nContact: <sip:192.0.2.1>\r\nContent-Type: application/simple-message-summary\r\nContent-Length: 23\r\n\r\nMessages-Waiting: yes\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKn;rport=5060;received=192.0.2.1\r\nFrom: <sip:1001@lamp.example>;tag=o\r\nTo: <sip:2000@lamp.example>;tag=f1\r\nCall-ID: s1@192.0.2.51\r\nCSeq: 9 NOTIFY\r\nContent-Length: 0\r\n\r\n",
    "SIP/2.0 503 Busy\r\nv: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKn\r\nf: <sip:1001@lamp.example>;tag=o\r\nt: <sip:2000@lamp.example>;tag=f1\r\ni: s1@192.0.2.51\r\nCSeq: 10 NOTIFY\r\nRetry-After: 30 (later);duration=5\r\nl: 0\r\n\r\n",
    "OPTIONS tel:+1-201-555-0123;phone-context=lamp.example SIP/2.0\r\nVia: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bKo;keep\r\nVia: SIP/2.0/TLS h.example:5061;alias\r\nFrom: x <sips:x@h.example>;tag=x\r\nTo: tel:+1-201-555-0123\r\nCall-ID: o\r\nCSeq: 2147483647 OPTIONS\r\nMax-Forwards: 0\r\nRequire: nothing\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n\r\n",
];

/// The messages above, and the test messages of `tests/torture`.
pub fn messages() -> Vec<Vec<u8>> {
    let own = MESSAGES.iter().map(|message| message.as_bytes().to_vec());
    own.chain(torture().into_iter().map(|test| test.bytes))
        .collect()
}

/// The test messages of `tests/torture`, with what must become of them.
pub fn torture() -> Vec<TestMessage> {
    reader::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../torture"))
}

/// One well-formed SUBSCRIBE, for those who mutate systematically.
pub fn subscribe() -> &'static [u8] {
    MESSAGES[0].as_bytes()
}
