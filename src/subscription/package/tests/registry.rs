//! Finding packages, and agreeing on a content type.

use super::super::{ALLOW_EVENTS, LeftOut, PACKAGES, PackageId, TYPES_MAX, allow_events, by_name};
use super::*;
use crate::hint::{Basic, CallState, MessageClass, MessageCount, Note, Tuple};

#[test]
fn each_package_is_found_by_its_name_and_its_number() {
    for (number, package) in PACKAGES.iter().enumerate() {
        assert_eq!(usize::from(package.id.0), number);
        assert!(core::ptr::eq(Package::from_id(package.id), package));
        assert_eq!(
            by_name(package.name.as_bytes()).map(|found| found.id),
            Some(PackageId(number as u8))
        );
        assert!((1..=TYPES_MAX).contains(&package.types.len()));
    }
    //= RFC 6665 8.2.1 type=test
    assert!(
        by_name(b"Dialog").is_none(),
        "names are compared byte by byte"
    );
    assert!(by_name(b"").is_none());
}

#[test]
fn allow_events_names_every_package() {
    let names: Vec<&str> = PACKAGES.iter().map(|package| package.name).collect();
    assert_eq!(allow_events(), names.join(", "));
    assert_eq!(allow_events(), ALLOW_EVENTS);
}

//= RFC 6665 4.2.1.1 type=test
#[test]
fn a_content_type_is_agreed_on_by_accept_and_its_q() {
    let agreed = |name: &str, accept: &[(&str, u16)]| {
        let package = package(name);
        package
            .negotiate(accept.iter().map(|(range, q)| (range.as_bytes(), *q)))
            .map(|content_type| package.type_name(content_type))
    };
    const DIALOG: Option<&str> = Some("application/dialog-info+xml");
    assert_eq!(agreed("dialog", &[]), DIALOG);
    assert_eq!(
        agreed("dialog", &[("Application/Dialog-Info+XML", 1000)]),
        DIALOG
    );
    assert_eq!(
        agreed("dialog", &[("text/plain", 1000), ("*/*", 1)]),
        DIALOG
    );
    assert_eq!(agreed("dialog", &[("application/*", 500)]), DIALOG);
    assert_eq!(agreed("dialog", &[("applicatio/*", 500)]), None);
    assert_eq!(agreed("dialog", &[("application/pidf+xml", 1000)]), None);
    assert_eq!(
        agreed(
            "dialog",
            &[("application/dialog-info+xml", 0), ("*/*", 1000)]
        ),
        None,
        "the most specific range decides, and it says no"
    );
    assert_eq!(agreed("dialog", &[("*/*", 0)]), None);
}

#[test]
fn a_head_that_does_not_fit_is_not_written() {
    let package = package("dialog");
    let mut out = [0; 100];
    assert_eq!(
        package.head(DEFAULT_TYPE, 0, b"sip:1001@example.com", &mut out),
        None
    );
}

#[test]
fn the_longest_head_fits_in_what_is_said_to_be_enough() {
    for package in &PACKAGES {
        for number in 0..package.types.len() {
            let entity = [b'"'; 300];
            let mut out = vec![0; Package::head_size_max(&entity)];
            let content_type = ContentTypeId(number as u8);
            assert!(
                package
                    .head(content_type, u32::MAX, &entity, &mut out)
                    .is_some()
            );
        }
    }
}

#[test]
fn only_types_of_the_package_may_be_published() {
    let dialog = package("dialog");
    assert_eq!(dialog.publish_type(b"APPLICATION/dialog-info+xml"), Some(0));
    assert_eq!(dialog.publish_type(b"application/pidf+xml"), None);
    //= RFC 5264 4 type=test
    assert_eq!(
        package("presence").publish_type(b"application/pidf-diff+xml"),
        None
    );
}

#[test]
fn documents_are_made_to_fit_in_steps() {
    let options = RenderOptions::default();
    let mut before = (u8::MAX, 0);
    for room in 0..8_000 {
        let (step, fitted) = options.within(room);
        assert!(fitted.tail_size_max <= room);
        assert!(step <= before.0 && fitted.tail_size_max >= before.1);
        before = (step, fitted.tail_size_max);
    }
    assert_eq!(before, (0, options.tail_size_max));
}

/// Something to leave out for each package: details first, and more than one of what is told.
fn crowded() -> Snapshot {
    let mut calls = ["a", "b"].map(|id| Call::bare(id, CallState::Early));
    calls[0].call_id = "c".repeat(300).into();
    let tuple = |id: &str| Tuple {
        id: id.into(),
        basic: Some(Basic::Open),
        status_extensions: Vec::new(),
        extensions: Vec::new(),
        contact: "sip:1001@192.0.2.7".into(),
        priority: "".into(),
        notes: Vec::new(),
        timestamp: "".into(),
    };
    let mut snapshot = of_calls(calls.into());
    let presence = Presence {
        tuples: vec![tuple("desk"), tuple("soft")],
        notes: vec![Note {
            language: "".into(),
            text: "back at two".into(),
        }],
        ..Presence::default()
    };
    snapshot.presence = of_presence(presence).presence;
    snapshot.mailbox = of_mailbox(Mailbox {
        waiting: true,
        account: "sip:voicemail@example.com".into(),
        counts: vec![MessageCount {
            class: MessageClass::Voice,
            new: 1,
            old: 2,
            urgent: None,
        }],
    })
    .mailbox;
    snapshot
}

#[test]
fn what_had_to_go_is_said_and_details_go_first() {
    let snapshot = crowded();
    for package in &PACKAGES {
        let tail = |tail_size_max| {
            let options = RenderOptions {
                all_dialogs: true,
                tail_size_max,
                ..RenderOptions::default()
            };
            package.tail(DEFAULT_TYPE, RESOURCE, &snapshot, &options)
        };
        let whole = tail(usize::MAX);
        assert_eq!(whole.left_out, LeftOut::Nothing);
        let mut before = LeftOut::Nothing;
        let mut all = Vec::new();
        for room in (0..=whole.bytes.len()).rev() {
            let tail = tail(room);
            let fits = tail.bytes.len() <= room;
            assert!(fits || tail.left_out == LeftOut::Others, "{room}");
            assert_eq!(tail.bytes == whole.bytes, tail.left_out == LeftOut::Nothing);
            assert!(tail.left_out >= before, "less room, and more is told");
            before = tail.left_out;
            all.push(before);
        }
        all.dedup();
        let name = package.name;
        assert_eq!(
            all,
            [LeftOut::Nothing, LeftOut::Details, LeftOut::Others],
            "{name}"
        );
    }
    // Who bears nothing that could go has lost nothing.
    let idle = Snapshot::empty();
    for package in &PACKAGES {
        let options = RenderOptions {
            tail_size_max: 0,
            message_counts: false,
            ..RenderOptions::default()
        };
        let tail = package.tail(DEFAULT_TYPE, RESOURCE, &idle, &options);
        assert_eq!(tail.left_out, LeftOut::Nothing, "{}", package.name);
    }
}
