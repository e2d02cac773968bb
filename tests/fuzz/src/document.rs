//! Documents that strangers publish: each package reads or refuses them, and what it understood it can tell
//! to watchers in words that it understands itself.

use std::sync::Arc;

use lampfield::hint::{Published, Snapshot};
use lampfield::subscription::package::{ContentTypeId, PACKAGES, Package, RenderOptions};

const RESOURCE: &str = "1001@lamp.example";

/// What publishers send, as a fuzzer's first words.
const SEEDS: &[&str] = &[
    "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" state=\"full\" entity=\"sip:1001@lamp.example\"><dialog id=\"a\" call-id=\"c@h\" local-tag=\"l\" remote-tag=\"r\" direction=\"recipient\"><state event=\"rejected\">early</state><local><identity display=\"&quot;A&quot;\">sip:1001@lamp.example</identity><target uri=\"sip:1001@192.0.2.1\"><param pname=\"+sip.rendering\" pval=\"no\"/></target></local><remote><identity>sip:2000@lamp.example</identity></remote><sa:appearance xmlns:sa=\"urn:ietf:params:xml:ns:sa-dialog-info\">1</sa:appearance></dialog></dialog-info>",
    "<d:dialog-info xmlns:d='urn:ietf:params:xml:ns:dialog-info' state='partial'><d:dialog id='1'><d:state>Trying</d:state></d:dialog><d:dialog id='2'><d:state>terminated</d:state></d:dialog></d:dialog-info>",
    "<?xml version='1.0' encoding='UTF-8'?><presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid' entity='pres:1001@lamp.example'><tuple id='t'><status><basic>open</basic><x:y xmlns:x='urn:x' x:z='&amp;'>&#233;</x:y></status><contact priority='0.8'>sip:1001@192.0.2.1</contact><note xml:lang='fr'><![CDATA[<occup\u{e9}>]]></note><timestamp>2026-11-22T18:00:00Z</timestamp></tuple><note>n</note><dm:person id='p'><rpid:activities><rpid:away/></rpid:activities><rpid:mood><rpid:happy/></rpid:mood><dm:note>m</dm:note></dm:person><dm:device id='d'><dm:deviceID>urn:x</dm:deviceID></dm:device></presence>",
    "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><!-- c --><presence xmlns=\"urn:ietf:params:xml:ns:pidf\"/>",
    "Messages-Waiting: yes\r\nMessage-Account: sip:vm@lamp.example\r\nVoice-Message: 2/8 (0/2)\r\nFax-Message: 1/0\r\n\r\nTo: <sip:a@b>\r\n",
];

/// The seeds.
pub fn seeds() -> Vec<Vec<u8>> {
    SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

/// What one package makes of a document, and of its own words for it.
pub fn document(data: &[u8]) {
    for package in &PACKAGES {
        for publish_type in 0..package.publish_types.len() {
            if let Ok(published) = package.parse(publish_type, data) {
                // The first telling may add what makes a document valid; the second must add nothing.
                if let Some(told) = retold(package, published) {
                    assert_eq!(retold(package, told.clone()), Some(told));
                }
            }
        }
    }
}

/// None: with what a telling adds, the document reaches a limit that the publisher's had just kept.
fn retold(package: &Package, published: Published) -> Option<Published> {
    let mut snapshot = Snapshot::clone(&Snapshot::empty());
    match published {
        Published::Dialogs { calls, .. } => snapshot.dialogs.content = calls.into(),
        Published::Presence(presence) => snapshot.presence.content = Arc::new(presence),
        Published::Mailbox(mailbox) => snapshot.mailbox.content = Some(Arc::new(mailbox)),
    }
    let whole = RenderOptions {
        all_dialogs: true,
        tail_size_max: usize::MAX,
        ..RenderOptions::default()
    };
    for number in 0..package.types.len() as u8 {
        let content_type = ContentTypeId(number);
        let body = told(package, content_type, &snapshot, &RenderOptions::default());
        assert!(core::str::from_utf8(&body).is_ok());
    }
    let body = told(package, ContentTypeId(0), &snapshot, &whole);
    match package.parse(0, &body) {
        Ok(published) => Some(published),
        Err(why) if why.0.contains(" too ") => None,
        Err(why) => panic!("{why:?}: {}", String::from_utf8_lossy(&body)),
    }
}

fn told(
    package: &Package,
    content_type: ContentTypeId,
    snapshot: &Snapshot,
    options: &RenderOptions,
) -> Vec<u8> {
    let entity = b"sip:1001@lamp.example;user=\"<&>\xff\"";
    let mut body = vec![0; Package::head_size_max(entity)];
    let length = package
        .head(content_type, 7, entity, &mut body)
        .expect("what is said to be enough is enough");
    body.truncate(length);
    body.extend_from_slice(
        &package
            .tail(content_type, RESOURCE, snapshot, options)
            .bytes,
    );
    body
}
