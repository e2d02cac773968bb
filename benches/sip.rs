//! What a message costs: scanning, checking, answering, against rsip as the baseline.
//!
//! `cargo bench --no-default-features --bench sip`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lampfield::sip::{Answer, Message, NameAddr, Uri, Via, Writer, quick_answer};

/// A refresh as it comes through two proxies: 958 bytes.
const SUBSCRIBE: &[u8] = b"SUBSCRIBE sip:1001@pbx.lamp.example:5060;transport=udp SIP/2.0\r\n\
Via: SIP/2.0/UDP 198.51.100.20:5060;branch=z9hG4bK9f3a.41c2e6d1.0\r\n\
Via: SIP/2.0/UDP 10.20.30.41:5062;rport=5062;received=203.0.113.9;branch=z9hG4bK1873460172\r\n\
Record-Route: <sip:198.51.100.20;lr;ftag=2078913304;did=3a1.92f>\r\n\
Record-Route: <sip:198.51.100.21;r2=on;lr;ftag=2078913304>\r\n\
From: \"Reception Desk\" <sip:2000@pbx.lamp.example>;tag=2078913304\r\n\
To: <sip:1001@pbx.lamp.example>;tag=a81c03ff92d1e7\r\n\
Call-ID: 0_2094873610@10.20.30.41\r\n\
CSeq: 4711 SUBSCRIBE\r\n\
Contact: <sip:2000@10.20.30.41:5062>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-0015655a8f21>\"\r\n\
Accept: application/dialog-info+xml\r\n\
Max-Forwards: 69\r\n\
User-Agent: Yealink SIP-T46S 66.86.0.15\r\n\
Expires: 3600\r\n\
Event: dialog\r\n\
Supported: replaces, eventlist\r\n\
Allow-Events: dialog, message-summary\r\n\
Content-Length: 0\r\n\
\r\n";

/// The answer of a phone to one of our NOTIFYs.
const ANSWER: &[u8] = b"SIP/2.0 200 OK\r\n\
Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK03f1.9c52a7e0.71;rport=5060;received=198.51.100.7\r\n\
From: <sip:1001@pbx.lamp.example>;tag=a81c03ff92d1e7\r\n\
To: \"Reception Desk\" <sip:2000@pbx.lamp.example>;tag=2078913304\r\n\
Call-ID: 0_2094873610@10.20.30.41\r\n\
CSeq: 102 NOTIFY\r\n\
Contact: <sip:2000@10.20.30.41:5062>\r\n\
User-Agent: Yealink SIP-T46S 66.86.0.15\r\n\
Content-Length: 0\r\n\
\r\n";

fn scanning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sip");
    group.throughput(Throughput::Bytes(SUBSCRIBE.len() as u64));
    group.bench_function("scan SUBSCRIBE", |bencher| {
        bencher.iter(|| {
            Message::scan(black_box(SUBSCRIBE))
                .expect("readable")
                .body
                .len()
        });
    });
    group.bench_function("scan and check SUBSCRIBE", |bencher| {
        bencher.iter(|| {
            let message = Message::scan(black_box(SUBSCRIBE)).expect("readable");
            message.request().expect("sound").cseq
        });
    });
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("scan and check 200", |bencher| {
        bencher.iter(|| {
            let message = Message::scan(black_box(ANSWER)).expect("readable");
            message.response().expect("sound").cseq
        });
    });
    group.bench_function("quick answer 200", |bencher| {
        bencher.iter(|| quick_answer(black_box(ANSWER)).expect("usual").status);
    });
    group.finish();
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sip values");
    group.bench_function("Via", |bencher| {
        let raw = b"SIP/2.0/UDP 10.20.30.41:5062;rport=5062;received=203.0.113.9;branch=z9hG4bK1873460172";
        bencher.iter(|| Via::parse(black_box(raw)).expect("sound").port);
    });
    group.bench_function("From", |bencher| {
        let raw = b"\"Reception Desk\" <sip:2000@pbx.lamp.example>;tag=2078913304";
        bencher.iter(|| NameAddr::parse(black_box(raw)).expect("sound").tag);
    });
    group.bench_function("URI", |bencher| {
        let raw = b"sip:2000@10.20.30.41:5062;transport=udp";
        bencher.iter(|| Uri::parse(black_box(raw)).expect("sound").port);
    });
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let answer = Answer {
        status: 200,
        reason: None,
        source: "198.51.100.20:5060".parse().expect("an address"),
        to_tag: None,
        record_route: true,
    };
    let message = Message::scan(SUBSCRIBE).expect("readable");
    let mut buffer = [0; 2048];
    let mut group = criterion.benchmark_group("sip");
    group.bench_function("write 200", |bencher| {
        bencher.iter(|| {
            let mut writer = Writer::new(black_box(&mut buffer));
            assert!(answer.write(&message, &mut writer));
            writer.number(lampfield::sip::Name::ContentLength, 0_u32);
            writer.line_end();
            writer.finish().expect("fits")
        });
    });
    group.finish();
}

fn baseline(criterion: &mut Criterion) {
    use rsip::prelude::{HeadersExt as _, ToTypedHeader as _, UntypedHeader as _};
    let mut group = criterion.benchmark_group("rsip");
    group.bench_function("parse SUBSCRIBE", |bencher| {
        bencher.iter(|| {
            rsip::Request::try_from(black_box(SUBSCRIBE))
                .expect("sound")
                .headers
                .iter()
                .count()
        });
    });
    group.bench_function("parse SUBSCRIBE, typed", |bencher| {
        bencher.iter(|| {
            let request = rsip::Request::try_from(black_box(SUBSCRIBE)).expect("sound");
            let via = request
                .via_header()
                .and_then(|via| via.typed())
                .expect("sound");
            let from = request
                .from_header()
                .and_then(|from| from.typed())
                .expect("sound");
            let to = request
                .to_header()
                .and_then(|to| to.typed())
                .expect("sound");
            let cseq = request
                .cseq_header()
                .and_then(|cseq| cseq.typed())
                .expect("sound");
            let call_id = request.call_id_header().expect("sound").value().len();
            (
                via.params.len(),
                from.params.len(),
                to.params.len(),
                cseq.seq,
                call_id,
            )
        });
    });
    group.bench_function("parse 200, typed Via", |bencher| {
        bencher.iter(|| {
            let response = rsip::Response::try_from(black_box(ANSWER)).expect("sound");
            response
                .via_header()
                .and_then(|via| via.typed())
                .expect("sound")
                .params
                .len()
        });
    });
    group.finish();
}

criterion_group!(benches, scanning, values, writing, baseline);
criterion_main!(benches);
