//! The dialog package (RFC 4235): `application/dialog-info+xml`.
//!
//! Phones differ in what they bear, and agree on this: no prefix for the namespace, a full document
//! each time, one dialog in it, and when nothing goes on, that dialog terminated rather than none.

use crate::config::limits;
use crate::hint::{Aspect, Call, CallState, Direction, ForeignElement, Party, Published, Snapshot};

use super::xml_in::{self, Element};
use super::xml_out::{self, Sink, Slice};
use super::{
    ContentTypeId, LeftOut, Malformed, Package, PackageId, RenderOptions, Rendered, fitting,
};

const NAMESPACE: &str = "urn:ietf:params:xml:ns:dialog-info";
const MEDIA_TYPE: &str = "application/dialog-info+xml";
/// The parameter of a target whose end has put the call on hold (RFC 4235 4.1.6.2, RFC 3840).
const RENDERING: &str = "+sip.rendering";

pub(super) const PACKAGE: Package = Package {
    id: PackageId(0),
    name: "dialog",
    aspect: Aspect::Dialogs,
    default_expires_seconds: 3600,
    types: &[MEDIA_TYPE],
    publish_types: &[MEDIA_TYPE],
    render,
    head,
    parse,
};

//= RFC 4235 4.1
fn head(_: ContentTypeId, version: u32, entity: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut out = Slice::new(out);
    out.push(b"<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"");
    out.push(NAMESPACE.as_bytes());
    out.push(b"\" version=\"");
    out.push(itoa::Buffer::new().format(version).as_bytes());
    out.push(b"\" state=\"full\" entity=\"");
    xml_out::uri_value(&mut out, entity);
    out.push(b"\">");
    out.finish()
}

/// How much of a dialog is told; each step leaves out what phones miss least among the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// Not even which dialog it is.
    Withheld,
    Bare,
    /// With what a pickup names: call-id and tags.
    Dialog,
    WithRemoteIdentity,
    WithRemote,
    WithLocal,
    WithDisplayNames,
    WithExtensions,
}

/// From everything to the least. The second: detail of dialogs after the first, if they are told at all.
const STEPS: [(Detail, Option<Detail>); 9] = [
    (Detail::WithExtensions, Some(Detail::WithExtensions)),
    (Detail::WithExtensions, Some(Detail::Bare)),
    (Detail::WithDisplayNames, Some(Detail::Bare)),
    (Detail::WithLocal, Some(Detail::Bare)),
    (Detail::WithRemote, Some(Detail::Bare)),
    (Detail::WithRemoteIdentity, Some(Detail::Bare)),
    (Detail::Dialog, Some(Detail::Bare)),
    (Detail::Bare, Some(Detail::Bare)),
    (Detail::Bare, None),
];

fn render(
    _: ContentTypeId,
    resource: &str,
    snapshot: &Snapshot,
    options: &RenderOptions,
) -> Rendered {
    let calls = &snapshot.dialogs.content;
    let calls = match options.all_dialogs {
        true => calls,
        false => &calls[..calls.len().min(1)],
    };
    if options.withhold_details {
        let tail = document(resource, calls, Detail::Withheld, Some(Detail::Withheld));
        return (tail, LeftOut::Nothing);
    }
    let steps = STEPS.map(|(first, others)| {
        let left_out = match others {
            None if calls.len() > 1 => LeftOut::Others,
            Some(_) | None => LeftOut::Details,
        };
        ((first, others), left_out)
    });
    fitting(steps, options, |(first, others)| {
        document(resource, calls, first, others)
    })
}

fn document(resource: &str, calls: &[Call], first: Detail, others: Option<Detail>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if calls.is_empty() {
        let idle = Call::bare("", CallState::Terminated);
        dialog(&mut out, resource, 0, &idle, Detail::Withheld);
    }
    for (number, call) in calls.iter().enumerate() {
        let detail = if number == 0 { Some(first) } else { others };
        if let Some(detail) = detail {
            dialog(&mut out, resource, number, call, detail);
        }
    }
    out.extend_from_slice(b"\n</dialog-info>\n");
    out
}

//= RFC 4235 4.1.1
fn dialog(out: &mut Vec<u8>, resource: &str, number: usize, call: &Call, detail: Detail) {
    out.extend_from_slice(b"\n<dialog");
    if detail == Detail::Withheld {
        xml_out::attribute(out, "id", &anonymous_id(resource, number));
    } else {
        xml_out::attribute(out, "id", &call.id);
    }
    if detail >= Detail::Dialog {
        xml_out::attribute_if_any(out, "call-id", &call.call_id);
        xml_out::attribute_if_any(out, "local-tag", &call.local_tag);
        xml_out::attribute_if_any(out, "remote-tag", &call.remote_tag);
    }
    if let Some(direction) = call.direction {
        xml_out::attribute(out, "direction", direction.name());
    }
    out.extend_from_slice(b">\n<state");
    if detail > Detail::Withheld {
        xml_out::attribute_if_any(out, "event", &call.event);
    }
    out.extend_from_slice(b">");
    out.extend_from_slice(call.state.name().as_bytes());
    out.extend_from_slice(b"</state>");
    if call.is_live() {
        parties(out, resource, call, detail);
        if detail >= Detail::WithExtensions {
            for ForeignElement(text) in &call.extensions {
                out.extend_from_slice(b"\n");
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    out.extend_from_slice(b"\n</dialog>");
}

/// A call that has ended has no parties any more.
fn parties(out: &mut Vec<u8>, resource: &str, call: &Call, detail: Detail) {
    let local = told(&call.local, detail >= Detail::WithLocal, true, detail);
    let mut remote = told(
        &call.remote,
        detail >= Detail::WithRemoteIdentity,
        detail >= Detail::WithRemote,
        detail,
    );
    // That our side holds is what a lamp shows; that the other does is a detail.
    remote.held &= detail >= Detail::WithRemoteIdentity;
    let own_uri = || format!("sip:{resource}");
    party(out, "local", &local, own_uri);
    party(out, "remote", &remote, || {
        "sip:anonymous@anonymous.invalid".into()
    });
}

/// What of a party is told.
fn told(party: &Party, identity: bool, target: bool, detail: Detail) -> Party {
    let mut told = Party {
        held: party.held,
        ..Party::default()
    };
    if identity {
        told.identity = party.identity.clone();
        if target {
            told.target = party.target.clone();
        }
        if detail >= Detail::WithDisplayNames {
            told.display = party.display.clone();
        }
    }
    told
}

fn party(out: &mut Vec<u8>, name: &str, party: &Party, uri_if_none: impl Fn() -> String) {
    if party.is_empty() {
        return;
    }
    out.extend_from_slice(b"\n<");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b">");
    if !party.identity.is_empty() || !party.display.is_empty() {
        out.extend_from_slice(b"\n<identity");
        xml_out::attribute_if_any(out, "display", &party.display);
        out.extend_from_slice(b">");
        match &*party.identity {
            "" => xml_out::text(out, &uri_if_none()),
            identity => xml_out::text(out, identity),
        }
        out.extend_from_slice(b"</identity>");
    }
    if party.held || !party.target.is_empty() {
        out.extend_from_slice(b"\n<target");
        match (&*party.target, &*party.identity) {
            ("", "") => xml_out::attribute(out, "uri", &uri_if_none()),
            ("", uri) | (uri, _) => xml_out::attribute(out, "uri", uri),
        }
        if party.held {
            out.extend_from_slice(b">\n<param");
            xml_out::attribute(out, "pname", RENDERING);
            // The RFC's name, and the one that phones know from other servers.
            xml_out::attribute(out, "pval", "no");
            xml_out::attribute(out, "pvalue", "no");
            out.extend_from_slice(b"/>\n</target>");
        } else {
            out.extend_from_slice(b"/>");
        }
    }
    out.extend_from_slice(b"\n</");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b">");
}

/// An id that tells nothing but the user that is watched anyway.
fn anonymous_id(resource: &str, number: usize) -> String {
    let user = resource.split('@').next().unwrap_or(resource);
    match number {
        0 => user.to_owned(),
        _ => format!("{user}-{number}"),
    }
}

/// A publication's entity is not looked at: the Request-URI said which resource it means.
fn parse(_: usize, body: &[u8]) -> Result<Published, Malformed> {
    let root = xml_in::parse(body)?;
    if !root.is(NAMESPACE, "dialog-info") {
        return Err(Malformed("the root element is not dialog-info"));
    }
    let partial = match root.attribute("state") {
        "full" | "" => false,
        "partial" => true,
        _ => {
            return Err(Malformed(
                "the state of dialog-info is neither full nor partial",
            ));
        }
    };
    let dialogs = || {
        root.children()
            .filter(|child| child.is(NAMESPACE, "dialog"))
    };
    if dialogs().count() > limits::CALLS_PER_RESOURCE {
        return Err(Malformed("there are too many dialogs"));
    }
    let calls = dialogs().map(parse_dialog).collect::<Result<_, _>>()?;
    Ok(Published::Dialogs { calls, partial })
}

fn parse_dialog(dialog: &Element) -> Result<Call, Malformed> {
    let id = dialog.attribute("id");
    if id.is_empty() {
        return Err(Malformed("a dialog has no id"));
    }
    let direction = match dialog.attribute("direction") {
        "" => None,
        name => match Direction::from_name(name) {
            Some(direction) => Some(direction),
            None => return Err(Malformed("a dialog has an unknown direction")),
        },
    };
    let state = dialog
        .child("state")
        .ok_or(Malformed("a dialog has no state"))?;
    Ok(Call {
        id: id.into(),
        state: CallState::from_name(&state.text())
            .ok_or(Malformed("a dialog has an unknown state"))?,
        direction,
        call_id: dialog.attribute("call-id").into(),
        local_tag: dialog.attribute("local-tag").into(),
        remote_tag: dialog.attribute("remote-tag").into(),
        local: dialog.child("local").map(parse_party).unwrap_or_default(),
        remote: dialog.child("remote").map(parse_party).unwrap_or_default(),
        event: state.attribute("event").into(),
        extensions: dialog
            .children()
            .filter(|child| *child.namespace != *NAMESPACE)
            .map(Element::to_foreign)
            .collect(),
    })
}

fn parse_party(party: &Element) -> Party {
    let identity = party.child("identity");
    let target = party.child("target");
    let held = target.is_some_and(|target| {
        target.children().any(|param| {
            param.is(NAMESPACE, "param")
                && param
                    .attribute("pname")
                    .trim_start_matches('+')
                    .eq_ignore_ascii_case("sip.rendering")
                && ["pval", "pvalue"]
                    .into_iter()
                    .any(|name| param.attribute(name).eq_ignore_ascii_case("no"))
        })
    });
    Party {
        identity: identity
            .map(|identity| identity.text().into())
            .unwrap_or_default(),
        display: identity
            .map(|identity| identity.attribute("display").into())
            .unwrap_or_default(),
        target: target
            .map(|target| target.attribute("uri").into())
            .unwrap_or_default(),
        held,
    }
}
