//! XPIDF, the presence document of phones that are older than PIDF: one address, open, in use or closed.
//! It was a draft and is described in the appendices of vendors; what is written here is what phones read.

use crate::hint::{Basic, Presence};

use super::xml_out::{self, Sink, Slice};

/// The presentity is an element of its own, so the head holds it too.
pub(super) fn head(entity: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut out = Slice::new(out);
    out.push(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence>\n<presentity uri=\"");
    xml_out::uri_value(&mut out, entity);
    out.push(b";method=SUBSCRIBE\"/>");
    out.finish()
}

pub(super) fn tail(resource: &str, presence: &Presence) -> Vec<u8> {
    let (status, substatus) = shown(presence);
    let user = resource.split('@').next().unwrap_or(resource);
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"\n<atom");
    xml_out::attribute(&mut out, "id", user);
    out.extend_from_slice(b">\n<address");
    xml_out::attribute(&mut out, "uri", &format!("sip:{resource};user=ip"));
    xml_out::attribute(&mut out, "priority", "0.800000");
    out.extend_from_slice(b">\n<status");
    xml_out::attribute(&mut out, "status", status);
    out.extend_from_slice(b"/>\n<msnsubstatus");
    xml_out::attribute(&mut out, "substatus", substatus);
    out.extend_from_slice(b"/>\n</address>\n</atom>\n</presence>\n");
    out
}

/// Status and substatus.
fn shown(presence: &Presence) -> (&'static str, &'static str) {
    let does = |activity: &str| {
        presence
            .persons
            .iter()
            .any(|person| person.activities.iter().any(|known| **known == *activity))
    };
    let open = presence
        .tuples
        .iter()
        .any(|tuple| tuple.basic == Some(Basic::Open));
    if !open {
        ("closed", "offline")
    } else if does("on-the-phone") {
        ("inuse", "onthephone")
    } else if does("busy") {
        ("inuse", "busy")
    } else if does("away") {
        ("open", "away")
    } else {
        ("open", "online")
    }
}
