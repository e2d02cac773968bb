//! Records of every kind, whole and damaged, of this version and of the first one.

use super::*;
use crate::hint::{
    Basic, Call, CallState, DataElement, Direction, ForeignElement, HintState, Mailbox,
    MessageClass, MessageCount, Note, Party, Presence, Tuple,
};
use crate::partition::Partition;

const PARTITION: Partition = Partition::new(17).unwrap();

fn call() -> Call {
    Call {
        direction: Some(Direction::Recipient),
        call_id: "a84b4c76e66710".into(),
        remote: Party {
            identity: "sip:bob@example.com".into(),
            display: "Bob \u{263a}".into(),
            held: true,
            ..Party::default()
        },
        extensions: vec![ForeignElement("<x xmlns=\"urn:x\"/>".into())],
        ..Call::bare("1", CallState::Early)
    }
}

fn mailbox() -> Mailbox {
    Mailbox {
        waiting: true,
        account: "sip:alice@vmail.example.com".into(),
        counts: vec![MessageCount {
            class: MessageClass::Voice,
            new: 2,
            old: 8,
            urgent: Some((0, 2)),
        }],
    }
}

fn presence() -> Presence {
    let note = Note {
        language: "de".into(),
        text: "zu Tisch".into(),
    };
    Presence {
        tuples: vec![Tuple {
            id: "t1".into(),
            basic: Some(Basic::Open),
            priority: "0.8".into(),
            notes: vec![note.clone()],
            ..Tuple::default()
        }],
        persons: vec![DataElement {
            id: "p1".into(),
            activities: vec!["on-the-phone".into()],
            ..DataElement::default()
        }],
        notes: vec![note],
        ..Presence::default()
    }
}

fn standing() -> Standing {
    Standing {
        expires: UnixMillis(1_795_000_000_123),
        spared_seconds: 300,
        over: Over::Udp,
        listener: "[::]:5060".parse().unwrap(),
        local: Some("fe80::1".parse().unwrap()),
        peer: "[fe80::2%7]:1025".parse().unwrap(),
        remote_cseq: 2,
        reserved: 96,
        incarnation: 3,
        terms: None,
    }
}

/// What version 3 says beside that.
fn with_terms() -> Standing {
    Standing {
        terms: Some(Terms {
            source: 0x1122_3344_5566_7788,
            rates: [Some(2_000), None, Some(1)],
        }),
        ..standing()
    }
}

/// One record of each kind, with everything in it that it can have.
fn samples() -> Vec<(Key<'static>, Record<'static>)> {
    let partition = PARTITION;
    let (tag, check) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    let hint = Key::Hint {
        partition,
        resource: "1001@example.com",
        source: "pbx",
    };
    let said = HintContent {
        state: Some(HintState::Ringing),
        calls: vec![call()],
        note: None,
        mailbox: Some(mailbox()),
    };
    let order = Some(Order { epoch: 4, seq: 99 });
    let word = |content| {
        Record::Hint(HintRecord {
            order,
            epoch: 5,
            arrival: 7,
            expires: Some(UnixMillis(1)),
            content,
        })
    };
    let publication = |content| {
        let record = PublicationRecord {
            resource: "1001@example.com",
            arrival: 8,
            expires: UnixMillis(u64::MAX),
            content: Cow::Owned(content),
            publisher: None,
            asked: None,
        };
        (
            Key::Publication { partition, tag },
            Record::Publication(record),
        )
    };
    let subscription = SubscriptionRecord {
        identity: 1,
        device: 3,
        by_instance: true,
        slot: 2,
        first_cseq: 1,
        way: 0,
        resource: "1001@example.com",
        package: "dialog",
        content_type: "application/dialog-info+xml",
        texts: [
            b"call",
            b"<sip:a@x>;tag=1",
            b"<sip:b@x>",
            b"sip:b@x",
            b"",
            b"sip:a@192.0.2.1",
            b"Route: <sip:192.0.2.9;lr>\r\n",
        ],
        standing: standing(),
    };
    vec![
        (Key::Incarnation, Record::Incarnation(u32::MAX)),
        (Key::Epoch { source: "pbx" }, Record::Epoch(5)),
        (hint, word(Some(Cow::Owned(said)))),
        (hint, word(None)),
        publication(Published::Dialogs {
            calls: vec![call()],
            partial: false,
        }),
        publication(Published::Presence(presence())),
        publication(Published::Mailbox(mailbox())),
        (
            Key::Renewal { partition, tag },
            Record::Renewal(UnixMillis(2)),
        ),
        (
            Key::Subscription { partition, check },
            Record::Subscription(subscription),
        ),
        (
            Key::Refresh { partition, check },
            Record::Refresh {
                standing: standing(),
                told: None,
            },
        ),
    ]
}

/// The records that say more since version 3.
fn of_version_3() -> Vec<(Key<'static>, Record<'static>)> {
    let said = samples().into_iter().filter_map(|(key, record)| {
        let record = match record {
            Record::Publication(publication) => Record::Publication(PublicationRecord {
                publisher: Some([1, u64::MAX, 3]),
                ..publication
            }),
            Record::Subscription(subscription) => Record::Subscription(SubscriptionRecord {
                standing: with_terms(),
                ..subscription
            }),
            Record::Refresh { .. } => Record::Refresh {
                standing: with_terms(),
                told: None,
            },
            Record::Incarnation(_) | Record::Epoch(_) | Record::Hint(_) | Record::Renewal(_) => {
                return None;
            }
        };
        Some((key, record))
    });
    let mut records: Vec<_> = said.collect();
    let Some((key, Record::Refresh { standing, .. })) = records.last().cloned() else {
        panic!("a refresh is the last sample")
    };
    let told = Some(7);
    records.push((key, Record::Refresh { standing, told }));
    records
}

/// The records that say more since version 4.
fn newest() -> Vec<(Key<'static>, Record<'static>)> {
    let said = of_version_3().into_iter().filter_map(|(key, record)| {
        let record = match record {
            Record::Publication(publication) => Record::Publication(PublicationRecord {
                asked: Some((u64::MAX - 1, 7)),
                ..publication
            }),
            Record::Subscription(subscription) => Record::Subscription(SubscriptionRecord {
                way: 0x1234,
                ..subscription
            }),
            Record::Incarnation(_)
            | Record::Epoch(_)
            | Record::Hint(_)
            | Record::Renewal(_)
            | Record::Refresh { .. } => return None,
        };
        Some((key, record))
    });
    said.collect()
}

/// Of every kind and version.
fn all() -> impl Iterator<Item = (Key<'static>, Record<'static>)> {
    samples().into_iter().chain(of_version_3()).chain(newest())
}

fn value(key: &Key<'_>, record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    key.write(&mut out);
    let start = out.len();
    record.write(0, &mut out);
    out.split_off(start)
}

#[test]
fn every_record_reads_back_as_it_was_written() {
    for (key, record) in all() {
        let value = value(&key, &record);
        assert_eq!(Record::read(&key, &value).as_ref(), Ok(&record), "{key:?}");
    }
}

#[test]
fn a_record_with_one_wrong_bit_or_one_byte_less_is_not_believed() {
    for (key, record) in all() {
        let value = value(&key, &record);
        for place in 0..value.len() {
            assert!(Record::read(&key, &value[..place]).is_err());
            let mut damaged = value.clone();
            damaged[place] ^= 1 << (place % 8);
            assert_eq!(Record::read(&key, &damaged), Err(Fault::Check));
        }
    }
}

#[test]
fn a_record_under_the_key_of_another_is_not_believed() {
    let [(one, record), .., (_, _)] = &samples()[..] else {
        panic!("there are samples")
    };
    let value = value(one, record);
    let other = Key::Epoch { source: "pbx" };
    assert_eq!(Record::read(&other, &value), Err(Fault::Check));
}

#[test]
fn a_record_of_a_newer_program_says_so() {
    let (key, record) = &samples()[0];
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    let start = bytes.len();
    record.write(0, &mut bytes);
    bytes.truncate(bytes.len() - CHECK);
    bytes[start] = VERSION + 1;
    let check = check(&bytes[..start], &bytes[start..]);
    bytes.extend_from_slice(&check);
    assert_eq!(
        Record::read(key, &bytes[start..]),
        Err(Fault::Version(VERSION + 1))
    );
}

/// What version 1 wrote, byte by byte: whatever is changed later, these must be read.
const VERSION_1: &str = include_str!("version-1.txt");

#[test]
fn records_that_version_1_wrote_are_read() {
    let lines: Vec<&str> = VERSION_1.lines().collect();
    let samples = samples();
    assert_eq!(lines.len(), samples.len());
    for (line, (key, record)) in lines.iter().zip(&samples) {
        let (name, bytes) = line.split_once(' ').expect("key and value");
        let (name, bytes) = (from_hex(name), from_hex(bytes));
        assert_eq!(Key::read(&name), Ok(*key));
        assert_eq!(Record::read(key, &bytes).as_ref(), Ok(record));
    }
}

/// What version 2 wrote where it says more than version 1.
const VERSION_2: &str = include_str!("version-2.txt");

#[test]
fn records_that_version_2_wrote_are_read() {
    let (name, bytes) = VERSION_2.trim_end().split_once(' ').expect("key and value");
    let key = Key::Refresh {
        partition: PARTITION,
        check: 7,
    };
    let record = Record::Refresh {
        standing: standing(),
        told: Some(0x0123_4567_89ab_cdef),
    };
    let (name, bytes) = (from_hex(name), from_hex(bytes));
    assert_eq!(Key::read(&name), Ok(key));
    assert_eq!(Record::read(&key, &bytes).as_ref(), Ok(&record));
    let mut written = name.clone();
    record.write(0, &mut written);
    assert_eq!(written[name.len()..], bytes);
    assert_eq!(bytes[0], 2);
}

/// What version 3 wrote where it says more than the versions before.
const VERSION_3: &str = include_str!("version-3.txt");

#[test]
fn records_that_version_3_wrote_are_read() {
    are_read(VERSION_3, 3, of_version_3());
}

/// What version 4 wrote where it says more than the versions before.
const VERSION_4: &str = include_str!("version-4.txt");

#[test]
fn records_that_version_4_wrote_are_read() {
    are_read(VERSION_4, 4, newest());
}

/// Each line is that record, as this version wrote it and this program does.
fn are_read(lines: &str, version: u8, records: Vec<(Key<'static>, Record<'static>)>) {
    let mut lines = lines.lines();
    for (key, record) in records {
        let (name, bytes) = lines
            .next()
            .and_then(|line| line.split_once(' '))
            .expect("key and value");
        let (name, bytes) = (from_hex(name), from_hex(bytes));
        assert_eq!(Key::read(&name), Ok(key));
        assert_eq!(Record::read(&key, &bytes).as_ref(), Ok(&record));
        assert_eq!((value(&key, &record), bytes[0]), (bytes.clone(), version));
    }
    assert_eq!(lines.next(), None);
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a digit") as u8;
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn a_refresh_holds_until_a_whole_record_of_a_later_request_or_process() {
    let refresh = standing();
    for outdated in [
        Standing {
            remote_cseq: refresh.remote_cseq + 1,
            ..refresh
        },
        Standing {
            incarnation: refresh.incarnation + 1,
            remote_cseq: 0,
            ..refresh
        },
    ] {
        assert!(refresh.is_outdated_by(&outdated) && !outdated.is_outdated_by(&refresh));
    }
    // The last word of a process takes a reservation back.
    let before = Standing {
        reserved: refresh.reserved + 64,
        ..refresh
    };
    assert!(!refresh.is_outdated_by(&before));
}
