//! Whole messages: what the scanner says must agree with itself, with the quick way, and with what we write.

use lampfield::sip::{Answer, Message, Name, Start, Writer, quick_answer};

use crate::is_inside;

/// Everything that the scanner finds lies in the input, and each way of asking gives the same.
pub fn scan(data: &[u8]) {
    if let Ok(message) = Message::scan_cut(data) {
        consistent(&message, data);
        if let Start::Request { .. } = message.start {
            assert_eq!(message.request().expect_err("it was cut").status, 513);
        }
        assert!(message.response().is_none());
    }
    let Ok(message) = Message::scan(data) else {
        return;
    };
    consistent(&message, data);
    assert!(is_inside(message.body, data));
    match message.start {
        Start::Request { method, uri } => {
            assert!(message.response().is_none());
            assert_eq!(message.method(), Some(method));
            if let Err(refusal) = message.request() {
                assert!((400..=513).contains(&refusal.status));
            } else {
                assert!(!uri.is_empty());
            }
        }
        Start::Response { status } => {
            assert!((100..700).contains(&status));
            assert!(message.request().is_err());
            assert!(!message.is_answerable());
        }
    }
    if let (Some(quick), Some(response)) = (quick_answer(data), message.response()) {
        assert_eq!(quick.status, response.status);
        assert_eq!(quick.branch, response.branch);
    }
}

fn consistent(message: &Message<'_>, data: &[u8]) {
    assert!(is_inside(message.head(), data));
    let mut lines = 0;
    let mut counts = [0; Name::COUNT];
    for line in message.lines() {
        assert!(is_inside(line.name, data) && is_inside(line.value, data));
        lines += 1;
        if let Some(name) = line.known {
            assert_eq!(Name::of(line.name), Some(name));
            counts[name as usize] += 1;
        }
    }
    assert!(lines <= data.len());
    for name in Name::ALL {
        let count = message.count(name);
        assert_eq!(count, counts[name as usize], "{name:?}");
        assert_eq!(message.lines_of(name).count(), count, "{name:?}");
        assert_eq!(
            message.lines_of(name).next(),
            message.first(name),
            "{name:?}"
        );
        for value in message.values(name) {
            assert!(is_inside(value, data) && !value.is_empty());
        }
    }
}

/// An answer that we write is a response that we can read, and says what the request said.
pub fn answer(data: &[u8]) {
    let Ok(message) = Message::scan(data) else {
        return;
    };
    let mut buffer = vec![0; data.len() * 2 + 1024];
    let mut writer = Writer::new(&mut buffer);
    let common = Answer {
        status: 489,
        reason: None,
        source: "[2001:db8::77]:5077".parse().expect("an address"),
        to_tag: Some(b"ours"),
        record_route: true,
    };
    if !common.write(&message, &mut writer) {
        assert_eq!(writer.len(), 0);
        assert!(message.top_via_for_answer().is_none());
        return;
    }
    writer.number(Name::ContentLength, 0_u32);
    writer.line_end();
    let length = writer.finish().expect("twice the request is room enough");
    let text = &buffer[..length];
    let again = Message::scan(text).expect("readable");
    assert_eq!(again.start, Start::Response { status: 489 });
    assert_eq!(again.head().len(), length, "no empty line but the last");
    assert_eq!(
        again.values(Name::Via).count(),
        message.values(Name::Via).count()
    );
    assert_eq!(
        again.values(Name::RecordRoute).count(),
        message.values(Name::RecordRoute).count()
    );
    let Ok(request) = message.request() else {
        return;
    };
    let response = again
        .response()
        .expect("the answer to a sound request is sound");
    assert_eq!(response.branch, request.via.branch.unwrap_or(&[]));
    assert_eq!(response.call_id, request.call_id);
    assert_eq!(response.cseq, request.cseq);
    assert_eq!(response.method, request.method);
    assert_eq!(response.from_tag, request.from_tag);
    assert_eq!(response.to_tag, Some(request.to_tag.unwrap_or(b"ours")));
    assert_eq!(response.via.received, Some(&b"2001:db8::77"[..]));
    if let Some(quick) = quick_answer(text) {
        assert_eq!(quick.branch, response.branch);
    }
}

/// A message that is written anew, line by line and without folds, means the same.
pub fn rewrite(data: &[u8]) {
    let Ok(message) = Message::scan(data) else {
        return;
    };
    let Ok(request) = message.request() else {
        return;
    };
    let mut buffer = vec![0; data.len() * 2 + 1024];
    let mut writer = Writer::new(&mut buffer);
    writer.put(request.method.as_bytes());
    writer.put(b" ");
    writer.put(request.uri);
    writer.put(b" SIP/2.0\r\n");
    for line in message.lines() {
        match Name::of(line.name) {
            Some(Name::ContentLength) => {}
            Some(name) => {
                writer.name(name);
                writer.unfolded(line.value);
                writer.line_end();
            }
            None => {
                writer.put(line.name);
                writer.put(b": ");
                writer.unfolded(line.value);
                writer.line_end();
            }
        }
    }
    writer.number(Name::ContentLength, message.body.len() as u64);
    writer.line_end();
    writer.put(message.body);
    let length = writer.finish().expect("twice the message is room enough");
    let again = Message::scan(&buffer[..length]).expect("readable");
    assert_eq!(again.body, message.body);
    let twin = match again.request() {
        Ok(twin) => twin,
        // Long names for compact ones can carry it over the limit.
        Err(refusal) if refusal.reason == "Headers Too Long" => return,
        Err(refusal) => panic!("{refusal:?}"),
    };
    assert_eq!(twin.method, request.method);
    assert_eq!(twin.uri, request.uri);
    assert_eq!(twin.target, request.target);
    assert_eq!(twin.from_tag, request.from_tag);
    assert_eq!(twin.to_tag, request.to_tag);
    assert_eq!(twin.from.uri, request.from.uri);
    assert_eq!(twin.to.uri, request.to.uri);
    assert_eq!(twin.call_id, request.call_id);
    assert_eq!(twin.cseq, request.cseq);
    assert_eq!(twin.via.branch, request.via.branch);
    assert_eq!(twin.via.host, request.via.host);
    assert_eq!(twin.via.port, request.via.port);
    for name in Name::ALL {
        if name != Name::ContentLength {
            assert_eq!(again.count(name), message.count(name), "{name:?}");
            assert_eq!(
                again.values(name).count(),
                message.values(name).count(),
                "{name:?}"
            );
        }
    }
}
