//! The presence package (RFC 3856): PIDF (RFC 3863) with the person and device elements of the data
//! model (RFC 4479) and the activities of RPID (RFC 4480).

use crate::config::limits;
use crate::hint::{
    Aspect, Basic, DataElement, ForeignElement, Note, Presence, Published, Snapshot, Tuple,
};

use super::xml_in::{self, Element, XML_NAMESPACE};
use super::xml_out::{self, Sink, Slice};
use super::{
    ContentTypeId, LeftOut, Malformed, Package, PackageId, RenderOptions, Rendered, fitting, xpidf,
};

const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
/// What phones of one vendor read in place of RPID: the namespace of one of its drafts.
const DRAFT_RPID: &str = "urn:ietf:params:xml:ns:pidf:status:rpid";
const MEDIA_TYPE: &str = "application/pidf+xml";
const CPIM_PIDF: ContentTypeId = ContentTypeId(1);
const XPIDF: ContentTypeId = ContentTypeId(2);

pub(super) const PACKAGE: Package = Package {
    id: PackageId(1),
    name: "presence",
    aspect: Aspect::Presence,
    default_expires_seconds: 3600,
    types: &[
        MEDIA_TYPE,
        "application/cpim-pidf+xml",
        "application/xpidf+xml",
    ],
    publish_types: &[MEDIA_TYPE],
    render,
    head,
    parse,
};

//= RFC 3863 4.1
fn head(content_type: ContentTypeId, _: u32, entity: &[u8], out: &mut [u8]) -> Option<usize> {
    if content_type == XPIDF {
        return xpidf::head(entity, out);
    }
    let mut out = Slice::new(out);
    out.push(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence");
    xml_out::attribute(&mut out, "xmlns", PIDF);
    xml_out::attribute(&mut out, "xmlns:dm", DATA_MODEL);
    let rpid = match content_type {
        CPIM_PIDF => DRAFT_RPID,
        _ => RPID,
    };
    xml_out::attribute(&mut out, "xmlns:rpid", rpid);
    out.push(b" entity=\"");
    xml_out::uri_value(&mut out, entity);
    out.push(b"\">");
    out.finish()
}

/// What is told. Each step leaves out what is missed least among the rest.
#[derive(Clone, Copy)]
struct Told {
    foreign: bool,
    devices: bool,
    notes: bool,
    contacts: bool,
    tuples_max: usize,
}

const EVERYTHING: Told = Told {
    foreign: true,
    devices: true,
    notes: true,
    contacts: true,
    tuples_max: usize::MAX,
};

const NO_DETAILS: Told = Told {
    foreign: false,
    devices: false,
    notes: false,
    contacts: false,
    tuples_max: usize::MAX,
};

const STEPS: [Told; 5] = [
    EVERYTHING,
    Told {
        foreign: false,
        ..EVERYTHING
    },
    Told {
        foreign: false,
        devices: false,
        ..EVERYTHING
    },
    Told {
        contacts: true,
        ..NO_DETAILS
    },
    Told {
        tuples_max: 1,
        ..NO_DETAILS
    },
];

fn render(
    content_type: ContentTypeId,
    resource: &str,
    snapshot: &Snapshot,
    options: &RenderOptions,
) -> Rendered {
    let presence = &snapshot.presence.content;
    if content_type == XPIDF {
        return (xpidf::tail(resource, presence), LeftOut::Nothing);
    }
    if options.withhold_details {
        return (document(presence, NO_DETAILS), LeftOut::Nothing);
    }
    let steps = STEPS.map(|told| {
        let left_out = match presence.tuples.len() > told.tuples_max {
            true => LeftOut::Others,
            false => LeftOut::Details,
        };
        (told, left_out)
    });
    fitting(steps, options, |told| document(presence, told))
}

fn document(presence: &Presence, told: Told) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if *presence == Presence::default() {
        //= RFC 3856 6.5
        // Nothing is known: a presentity that can't be reached, rather than an empty body.
        out.extend_from_slice(
            b"\n<tuple id=\"none\"><status><basic>closed</basic></status></tuple>",
        );
    }
    // Where not all are told, an open one is the most telling.
    let mut tuples: Vec<&Tuple> = presence.tuples.iter().collect();
    if tuples.len() > told.tuples_max {
        tuples.sort_by_key(|tuple| tuple.basic != Some(Basic::Open));
        tuples.truncate(told.tuples_max);
    }
    for tuple in tuples {
        write_tuple(&mut out, tuple, told);
    }
    write_notes(&mut out, "note", &presence.notes, told);
    for person in &presence.persons {
        write_element(&mut out, "person", person, told);
    }
    if told.devices {
        for device in &presence.devices {
            write_element(&mut out, "device", device, told);
        }
    }
    write_foreign(&mut out, &presence.extensions, told);
    out.extend_from_slice(b"\n</presence>\n");
    out
}

//= RFC 3863 4.1.2
fn write_tuple(out: &mut Vec<u8>, tuple: &Tuple, told: Told) {
    out.extend_from_slice(b"\n<tuple");
    xml_out::attribute(out, "id", &tuple.id);
    out.extend_from_slice(b">\n<status>");
    if let Some(basic) = tuple.basic {
        xml_out::element(out, "basic", basic.name());
    }
    write_foreign(out, &tuple.status_extensions, told);
    out.extend_from_slice(b"</status>");
    write_foreign(out, &tuple.extensions, told);
    if told.contacts && !tuple.contact.is_empty() {
        out.extend_from_slice(b"\n<contact");
        xml_out::attribute_if_any(out, "priority", &tuple.priority);
        out.extend_from_slice(b">");
        xml_out::text(out, &tuple.contact);
        out.extend_from_slice(b"</contact>");
    }
    write_notes(out, "note", &tuple.notes, told);
    if !tuple.timestamp.is_empty() {
        out.extend_from_slice(b"\n");
        xml_out::element(out, "timestamp", &tuple.timestamp);
    }
    out.extend_from_slice(b"\n</tuple>");
}

//= RFC 4479 3
fn write_element(out: &mut Vec<u8>, name: &str, element: &DataElement, told: Told) {
    out.extend_from_slice(b"\n<dm:");
    out.extend_from_slice(name.as_bytes());
    xml_out::attribute(out, "id", &element.id);
    out.extend_from_slice(b">");
    //= RFC 4480 3.2
    if !element.activities.is_empty() {
        out.extend_from_slice(b"\n<rpid:activities>");
        for activity in &element.activities {
            out.extend_from_slice(b"<rpid:");
            out.extend_from_slice(activity.as_bytes());
            out.extend_from_slice(b"/>");
        }
        out.extend_from_slice(b"</rpid:activities>");
    }
    write_foreign(out, &element.extensions, told);
    if !element.device_id.is_empty() {
        out.extend_from_slice(b"\n");
        xml_out::element(out, "dm:deviceID", &element.device_id);
    }
    write_notes(out, "dm:note", &element.notes, told);
    if !element.timestamp.is_empty() {
        out.extend_from_slice(b"\n");
        xml_out::element(out, "dm:timestamp", &element.timestamp);
    }
    out.extend_from_slice(b"\n</dm:");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b">");
}

fn write_notes(out: &mut Vec<u8>, name: &str, notes: &[Note], told: Told) {
    if !told.notes {
        return;
    }
    for note in notes {
        out.extend_from_slice(b"\n<");
        out.extend_from_slice(name.as_bytes());
        xml_out::attribute_if_any(out, "xml:lang", &note.language);
        out.extend_from_slice(b">");
        xml_out::text(out, &note.text);
        out.extend_from_slice(b"</");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b">");
    }
}

fn write_foreign(out: &mut Vec<u8>, elements: &[ForeignElement], told: Told) {
    if told.foreign {
        for ForeignElement(text) in elements {
            out.extend_from_slice(b"\n");
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// A publication's entity is not looked at: the Request-URI said which presentity it means.
fn parse(_: usize, body: &[u8]) -> Result<Published, Malformed> {
    let root = xml_in::parse(body)?;
    if !root.is(PIDF, "presence") {
        return Err(Malformed("the root element is not presence"));
    }
    if root.children().count() > limits::PRESENCE_PARTS_PER_RESOURCE {
        return Err(Malformed("the presence document has too many parts"));
    }
    let mut presence = Presence::default();
    for child in root.children() {
        if child.is(PIDF, "tuple") {
            presence.tuples.push(parse_tuple(child)?);
        } else if child.is(PIDF, "note") {
            presence.notes.push(parse_note(child));
        } else if child.is(DATA_MODEL, "person") {
            presence.persons.push(parse_element(child));
        } else if child.is(DATA_MODEL, "device") {
            presence.devices.push(parse_element(child));
        } else {
            presence.extensions.push(child.to_foreign());
        }
    }
    Ok(Published::Presence(presence))
}

fn parse_tuple(element: &Element) -> Result<Tuple, Malformed> {
    let id = element.attribute("id");
    if id.is_empty() {
        return Err(Malformed("a tuple has no id"));
    }
    let mut tuple = Tuple {
        id: id.into(),
        ..Tuple::default()
    };
    let mut has_status = false;
    for child in element.children() {
        if child.is(PIDF, "status") {
            has_status = true;
            parse_status(child, &mut tuple)?;
        } else if child.is(PIDF, "contact") {
            tuple.contact = child.text().into();
            tuple.priority = child.attribute("priority").into();
        } else if child.is(PIDF, "note") {
            tuple.notes.push(parse_note(child));
        } else if child.is(PIDF, "timestamp") {
            tuple.timestamp = child.text().into();
        } else {
            tuple.extensions.push(child.to_foreign());
        }
    }
    match has_status {
        true => Ok(tuple),
        false => Err(Malformed("a tuple has no status")),
    }
}

fn parse_status(status: &Element, tuple: &mut Tuple) -> Result<(), Malformed> {
    for child in status.children() {
        if child.is(PIDF, "basic") {
            tuple.basic = match &*child.text() {
                "open" => Some(Basic::Open),
                "closed" => Some(Basic::Closed),
                _ => return Err(Malformed("a basic status is neither open nor closed")),
            };
        } else {
            tuple.status_extensions.push(child.to_foreign());
        }
    }
    Ok(())
}

fn parse_element(element: &Element) -> DataElement {
    // Some publishers leave the id out; they have one person, and one device.
    let id = match element.attribute("id") {
        "" => &element.name,
        id => id,
    };
    let mut data = DataElement {
        id: id.into(),
        ..DataElement::default()
    };
    for child in element.children() {
        if child.is(DATA_MODEL, "note") {
            data.notes.push(parse_note(child));
        } else if child.is(DATA_MODEL, "timestamp") {
            data.timestamp = child.text().into();
        } else if child.is(DATA_MODEL, "deviceID") {
            data.device_id = child.text().into();
        } else if let Some(activities) = plain_activities(child) {
            for activity in activities {
                if !data.activities.contains(&activity) {
                    data.activities.push(activity);
                }
            }
        } else {
            data.extensions.push(child.to_foreign());
        }
    }
    data
}

/// The names of activities that have nothing more to say than their names.
fn plain_activities(element: &Element) -> Option<Vec<Box<str>>> {
    if !element.is(RPID, "activities") || element.has_attributes() {
        return None;
    }
    element
        .children()
        .map(|activity| {
            let plain = *activity.namespace == *RPID
                && !activity.has_attributes()
                && activity.children().next().is_none()
                && activity.text().is_empty();
            plain.then(|| activity.name.clone())
        })
        .collect()
}

fn parse_note(note: &Element) -> Note {
    Note {
        language: note.attribute_of(XML_NAMESPACE, "lang").into(),
        text: note.text().into(),
    }
}
