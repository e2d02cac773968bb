//! Documents as phones read them, and what publishers send.

mod dialog;
mod message_summary;
mod presence;
mod registry;

use std::sync::Arc;

use crate::hint::{Call, Mailbox, Presence, Published, Snapshot};

use super::{ContentTypeId, Malformed, Package, RenderOptions};

const RESOURCE: &str = "1001@example.com";
const DEFAULT_TYPE: ContentTypeId = ContentTypeId(0);

fn package(name: &str) -> &'static Package {
    super::by_name(name.as_bytes()).expect("a package of that name")
}

fn of_calls(calls: Vec<Call>) -> Snapshot {
    let mut snapshot = Snapshot::clone(&Snapshot::empty());
    snapshot.dialogs.content = calls.into();
    snapshot
}

fn of_presence(presence: Presence) -> Snapshot {
    let mut snapshot = Snapshot::clone(&Snapshot::empty());
    snapshot.presence.content = Arc::new(presence);
    snapshot
}

fn of_mailbox(mailbox: Mailbox) -> Snapshot {
    let mut snapshot = Snapshot::clone(&Snapshot::empty());
    snapshot.mailbox.content = Some(Arc::new(mailbox));
    snapshot
}

/// A whole document: head and tail.
fn document(name: &str, version: u32, snapshot: &Snapshot, options: &RenderOptions) -> String {
    let package = package(name);
    let entity = b"sip:1001@example.com:5060;user=phone";
    let mut head = vec![0; Package::head_size_max(entity)];
    let length = package
        .head(DEFAULT_TYPE, version, entity, &mut head)
        .expect("room for the head");
    head.truncate(length);
    head.extend_from_slice(
        &package
            .tail(DEFAULT_TYPE, RESOURCE, snapshot, options)
            .bytes,
    );
    String::from_utf8(head).expect("documents are UTF-8")
}

fn tail_size(name: &str, snapshot: &Snapshot, options: &RenderOptions) -> usize {
    package(name)
        .tail(DEFAULT_TYPE, RESOURCE, snapshot, options)
        .bytes
        .len()
}

fn publish(name: &str, body: &str) -> Result<Published, Malformed> {
    package(name).parse(0, body.as_bytes())
}

/// What a publisher would be understood to say if it sent our own document.
fn read_back(name: &str, snapshot: &Snapshot, options: &RenderOptions) -> Published {
    publish(name, &document(name, 0, snapshot, options)).expect("our own document")
}
