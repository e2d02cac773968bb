//! `application/pidf+xml`.

use crate::hint::{Basic, DataElement, ForeignElement, Note, Tuple};

use super::*;

fn full() -> Presence {
    Presence {
        tuples: vec![Tuple {
            id: "desk".into(),
            basic: Some(Basic::Open),
            status_extensions: vec![],
            extensions: vec![ForeignElement(
                r#"<s:servcaps xmlns:s="urn:ietf:params:xml:ns:pidf:caps"><s:audio>true</s:audio></s:servcaps>"#.into(),
            )],
            contact: "sip:1001@192.0.2.7;a=\"&\"".into(),
            priority: "0.8".into(),
            notes: vec![Note {
                language: "fr".into(),
                text: "tr\u{e8}s <occup\u{e9}>".into(),
            }],
            timestamp: "2026-11-22T18:00:00Z".into(),
        }],
        persons: vec![DataElement {
            id: "p1".into(),
            activities: vec!["on-the-phone".into(), "busy".into()],
            extensions: vec![],
            device_id: "".into(),
            notes: vec![Note {
                language: "".into(),
                text: "In a call".into(),
            }],
            timestamp: "".into(),
        }],
        devices: vec![DataElement {
            id: "d1".into(),
            device_id: "urn:uuid:48662e19-5fbf-43fc-a2fd-d23002787599".into(),
            ..DataElement::default()
        }],
        notes: vec![Note {
            language: "en".into(),
            text: "back at two".into(),
        }],
        extensions: vec![],
    }
}

fn unlimited() -> RenderOptions {
    RenderOptions {
        tail_size_max: usize::MAX,
        ..RenderOptions::default()
    }
}

//= RFC 3863 4.1 type=test
//= RFC 3863 4.1.2 type=test
//= RFC 4479 3 type=test
//= RFC 4480 3.2 type=test
#[test]
fn everything_that_is_known_is_told_in_the_order_of_the_schema() {
    assert_eq!(
        document("presence", 3, &of_presence(full()), &unlimited()),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="sip:1001@example.com:5060;user=phone">
<tuple id="desk">
<status><basic>open</basic></status>
<s:servcaps xmlns:s="urn:ietf:params:xml:ns:pidf:caps"><s:audio>true</s:audio></s:servcaps>
<contact priority="0.8">sip:1001@192.0.2.7;a="&amp;"</contact>
<note xml:lang="fr">très &lt;occupé&gt;</note>
<timestamp>2026-11-22T18:00:00Z</timestamp>
</tuple>
<note xml:lang="en">back at two</note>
<dm:person id="p1">
<rpid:activities><rpid:on-the-phone/><rpid:busy/></rpid:activities>
<dm:note>In a call</dm:note>
</dm:person>
<dm:device id="d1">
<dm:deviceID>urn:uuid:48662e19-5fbf-43fc-a2fd-d23002787599</dm:deviceID>
</dm:device>
</presence>
"#
    );
}

//= RFC 3856 6.5 type=test
#[test]
fn a_presentity_without_state_is_closed_rather_than_an_empty_body() {
    let text = document(
        "presence",
        0,
        &of_presence(Presence::default()),
        &RenderOptions::default(),
    );
    assert!(text.ends_with(
        "\n<tuple id=\"none\"><status><basic>closed</basic></status></tuple>\n</presence>\n"
    ));
}

#[test]
fn what_a_document_tells_is_read_back_from_it() {
    let read = read_back("presence", &of_presence(full()), &unlimited());
    assert_eq!(read, Published::Presence(full()));
}

#[test]
fn withheld_details_leave_open_or_closed_and_what_the_person_does() {
    let options = RenderOptions {
        withhold_details: true,
        ..unlimited()
    };
    let Published::Presence(told) = read_back("presence", &of_presence(full()), &options) else {
        panic!("a presence document");
    };
    assert_eq!(told.tuples[0].basic, Some(Basic::Open));
    assert!(told.tuples[0].contact.is_empty() && told.tuples[0].notes.is_empty());
    assert!(told.notes.is_empty() && told.devices.is_empty());
    assert_eq!(told.persons[0].activities, full().persons[0].activities);
}

#[test]
fn a_document_that_would_be_too_long_keeps_an_open_tuple() {
    let mut presence = full();
    let mut closed = full().tuples.remove(0);
    closed.id = "closed".into();
    closed.basic = Some(Basic::Closed);
    presence.tuples.insert(0, closed);
    let snapshot = of_presence(presence);
    let mut sizes = Vec::new();
    for tail_size_max in (0..1500).step_by(50) {
        let options = RenderOptions {
            tail_size_max,
            ..RenderOptions::default()
        };
        let Published::Presence(told) = read_back("presence", &snapshot, &options) else {
            panic!("a presence document");
        };
        let open = told
            .tuples
            .iter()
            .any(|tuple| tuple.basic == Some(Basic::Open));
        assert!(open, "at {tail_size_max}");
        let size = tail_size("presence", &snapshot, &options);
        assert!(size <= tail_size_max || told.tuples.len() == 1);
        sizes.push(size);
    }
    assert!(sizes.is_sorted());
    assert!(sizes.first() < sizes.last());
}

//= RFC 3863 4.2 type=test
#[test]
fn what_we_do_not_know_is_kept_where_it_stood() {
    let body = r#"<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
    xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" xmlns:x="urn:x" entity="pres:someone@else">
  <tuple id="t1">
    <status><basic>closed</basic><x:mood>sunny</x:mood></status>
    <x:thing x:of="1"/>
    <contact priority="0.5">sip:a@b</contact>
    <note xml:lang="en">n1</note>
  </tuple>
  <dm:person id="p1">
    <r:activities><r:away/><r:away/><r:lunch/></r:activities>
    <r:mood><r:happy/></r:mood>
    <r:activities from="2026-11-22T18:00:00Z"><r:meeting/></r:activities>
  </dm:person>
  <x:last/>
</presence>"#;
    let Ok(Published::Presence(presence)) = publish("presence", body) else {
        panic!("a presence document");
    };
    let tuple = &presence.tuples[0];
    assert_eq!(tuple.basic, Some(Basic::Closed));
    let texts = |elements: &[ForeignElement]| -> Vec<String> {
        elements
            .iter()
            .map(|element| element.0.to_string())
            .collect()
    };
    assert_eq!(
        texts(&tuple.status_extensions),
        [r#"<x:mood xmlns:x="urn:x">sunny</x:mood>"#]
    );
    assert_eq!(
        texts(&tuple.extensions),
        [r#"<x:thing xmlns:x="urn:x" x:of="1"/>"#]
    );
    assert_eq!(
        texts(&presence.extensions),
        [r#"<x:last xmlns:x="urn:x"/>"#]
    );
    let person = &presence.persons[0];
    assert_eq!(person.activities, ["away".into(), "lunch".into()]);
    assert_eq!(
        texts(&person.extensions),
        [
            r#"<r:mood xmlns:r="urn:ietf:params:xml:ns:pidf:rpid"><r:happy/></r:mood>"#,
            r#"<r:activities xmlns:r="urn:ietf:params:xml:ns:pidf:rpid" from="2026-11-22T18:00:00Z"><r:meeting/></r:activities>"#,
        ],
        "an activity that says more than its name is kept whole"
    );
    assert_eq!(
        read_back("presence", &of_presence(presence.clone()), &unlimited()),
        Published::Presence(presence)
    );
}

#[test]
fn what_is_not_a_presence_document_is_refused() {
    let wrapped = |inner: &str| {
        format!(r#"<presence xmlns="urn:ietf:params:xml:ns:pidf">{inner}</presence>"#)
    };
    for body in [
        "open".to_owned(),
        "<presence/>".to_owned(),
        wrapped("<tuple><status><basic>open</basic></status></tuple>"),
        wrapped("<tuple id='1'/>"),
        wrapped("<tuple id='1'><status><basic>ajar</basic></status></tuple>"),
    ] {
        assert!(publish("presence", &body).is_err(), "{body}");
    }
}

#[test]
fn a_person_without_an_id_is_one_person() {
    let body = r#"<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
        xmlns:r="urn:ietf:params:xml:ns:pidf:rpid"><dm:person><r:activities><r:away/></r:activities></dm:person></presence>"#;
    let Ok(Published::Presence(presence)) = publish("presence", body) else {
        panic!("a presence document");
    };
    assert_eq!(*presence.persons[0].id, *"person");
    assert_eq!(presence.persons[0].activities, ["away".into()]);
}

fn as_type(media_type: &str, presence: Presence) -> String {
    let package = package("presence");
    let content_type = package
        .negotiate([(media_type.as_bytes(), 1000)].into_iter())
        .expect("a type that we offer");
    let mut body = vec![0; 1000];
    let entity = b"sip:1001@pbx";
    let length = package
        .head(content_type, 0, entity, &mut body)
        .expect("room for the head");
    body.truncate(length);
    let options = RenderOptions::default();
    let tail = package
        .tail(content_type, RESOURCE, &of_presence(presence), &options)
        .bytes;
    body.extend_from_slice(&tail);
    String::from_utf8(body).expect("documents are UTF-8")
}

#[test]
fn an_old_phone_is_told_open_in_use_or_closed() {
    let mut presence = full();
    assert_eq!(
        as_type("application/xpidf+xml", presence.clone()),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<presence>
<presentity uri="sip:1001@pbx;method=SUBSCRIBE"/>
<atom id="1001">
<address uri="sip:1001@example.com;user=ip" priority="0.800000">
<status status="inuse"/>
<msnsubstatus substatus="onthephone"/>
</address>
</atom>
</presence>
"#
    );
    presence.persons.clear();
    let text = as_type("application/xpidf+xml", presence.clone());
    assert!(text.contains(r#"<status status="open"/>"#));
    presence.tuples[0].basic = Some(Basic::Closed);
    let text = as_type("application/xpidf+xml", presence);
    assert!(text.contains(r#"<status status="closed"/>"#));
}

#[test]
fn a_phone_that_reads_the_draft_finds_activities_in_the_namespace_of_the_draft() {
    let text = as_type("application/cpim-pidf+xml", full());
    assert!(text.contains(r#"="urn:ietf:params:xml:ns:pidf:status:rpid""#));
    assert!(text.contains("<rpid:on-the-phone/>"));
    assert!(!text.contains(r#"="urn:ietf:params:xml:ns:pidf:rpid""#));
}
