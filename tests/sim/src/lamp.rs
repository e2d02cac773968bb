//! What a phone makes of a NOTIFY's document: is the lamp dark, blinking, lit?
//!
//! Documents are read with quick-xml, so one that is not well formed is an error here.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::message::Message;

/// What a key of a phone shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lamp {
    Dark,
    Trying,
    Blinking,
    Lit,
    Held,
}

/// One `<dialog>` of a dialog-info document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialog {
    pub id: String,
    pub state: String,
    pub held: bool,
}

/// A NOTIFY's body, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// No body.
    Empty,
    Dialog {
        version: u32,
        full: bool,
        entity: String,
        dialogs: Vec<Dialog>,
    },
    Presence {
        entity: String,
        /// `open` or `closed`, one for each tuple.
        basic: Vec<String>,
        /// RPID activities and notes, in the order of the document.
        activities: Vec<String>,
    },
    Mailbox {
        waiting: bool,
        /// Message class and `new/old (urgent new/urgent old)`, as written.
        counts: Vec<(String, String)>,
    },
    /// A type that this reader does not know.
    Other,
}

impl Document {
    /// Reads the body of a message by its Content-Type.
    pub fn read(message: &Message) -> Result<Document, String> {
        let Some(kind) = message.header("Content-Type") else {
            return Ok(Document::Empty);
        };
        let text = std::str::from_utf8(&message.body).map_err(|_| "a body that is not UTF-8")?;
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/dialog-info+xml" => read_dialog_info(text),
            "application/pidf+xml" => read_pidf(text),
            "application/simple-message-summary" => read_mailbox(text),
            _ => Ok(Document::Other),
        }
    }

    /// What the key shows: of several dialogs the most telling one counts.
    pub fn lamp(&self) -> Lamp {
        let Document::Dialog { dialogs, .. } = self else {
            return Lamp::Dark;
        };
        let shows = |lamp: Lamp| dialogs.iter().any(|dialog| dialog.lamp() == lamp);
        [Lamp::Blinking, Lamp::Lit, Lamp::Held, Lamp::Trying]
            .into_iter()
            .find(|&lamp| shows(lamp))
            .unwrap_or(Lamp::Dark)
    }
}

impl Dialog {
    fn lamp(&self) -> Lamp {
        match (self.state.as_str(), self.held) {
            ("confirmed", true) => Lamp::Held,
            ("confirmed", false) => Lamp::Lit,
            ("early", _) => Lamp::Blinking,
            ("trying" | "proceeding", _) => Lamp::Trying,
            _ => Lamp::Dark,
        }
    }
}

/// One element or text of a document, with the names of the elements around it.
struct Node {
    path: Vec<String>,
    attributes: Vec<(String, String)>,
    text: String,
}

impl Node {
    fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All elements of a document in the order in which they begin.
fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<usize> = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    loop {
        match reader
            .read_event()
            .map_err(|error| format!("{error}: {text}"))?
        {
            Event::Start(start) => {
                let node = node(&open, &nodes, &start)?;
                open.push(nodes.len());
                nodes.push(node);
            }
            Event::Empty(start) => {
                let node = node(&open, &nodes, &start)?;
                nodes.push(node);
            }
            Event::End(_) => {
                open.pop().ok_or("an end without a start")?;
            }
            Event::Text(text) => {
                if let Some(&last) = open.last() {
                    nodes[last].text.push_str(&text.into_inner());
                }
            }
            Event::GeneralRef(name) => {
                if let Some(&last) = open.last() {
                    nodes[last]
                        .text
                        .push_str(&format!("&{};", name.into_inner()));
                }
            }
            Event::DocType(_) => return Err("a DOCTYPE".to_string()),
            Event::CData(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    match open.is_empty() {
        true => Ok(nodes),
        false => Err(format!("elements left open: {text}")),
    }
}

fn node(open: &[usize], nodes: &[Node], start: &BytesStart<'_>) -> Result<Node, String> {
    let mut path = open
        .last()
        .map_or(Vec::new(), |&last| nodes[last].path.clone());
    path.push(start.local_name().into_inner().to_string());
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| format!("{error}"))?;
        let key: &str = attribute.key.into_inner();
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("{error}"))?;
        attributes.push((key.to_string(), value.to_string()));
    }
    Ok(Node {
        path,
        attributes,
        text: String::new(),
    })
}

fn read_dialog_info(text: &str) -> Result<Document, String> {
    let nodes = nodes(text)?;
    let root = nodes.first().ok_or("an empty document")?;
    if root.name() != "dialog-info" {
        return Err(format!("the root is {}", root.name()));
    }
    let version = root.attribute("version").ok_or("no version")?;
    let version = version.parse().map_err(|_| format!("version {version}"))?;
    let full = match root.attribute("state") {
        Some("full") => true,
        Some("partial") => false,
        other => return Err(format!("state {other:?}")),
    };
    let entity = root.attribute("entity").ok_or("no entity")?.to_string();
    let mut dialogs: Vec<Dialog> = Vec::new();
    for node in &nodes[1..] {
        match node.path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["dialog-info", "dialog"] => dialogs.push(Dialog {
                id: node
                    .attribute("id")
                    .ok_or("a dialog without id")?
                    .to_string(),
                ..Dialog::default()
            }),
            ["dialog-info", "dialog", "state"] => {
                let dialog = dialogs.last_mut().ok_or("a state without dialog")?;
                dialog.state = node.text.trim().to_string();
            }
            [
                "dialog-info",
                "dialog",
                "local" | "remote",
                "target",
                "param",
            ] if node.attribute("pname") == Some("+sip.rendering") => {
                let dialog = dialogs.last_mut().ok_or("a target without dialog")?;
                dialog.held |= node.attribute("pval") == Some("no");
            }
            _ => {}
        }
    }
    for (index, dialog) in dialogs.iter().enumerate() {
        if dialogs[..index].iter().any(|other| other.id == dialog.id) {
            return Err(format!("the dialog id {} twice", dialog.id));
        }
        let known = ["trying", "proceeding", "early", "confirmed", "terminated"];
        if !known.contains(&dialog.state.as_str()) {
            return Err(format!("the dialog state {:?}", dialog.state));
        }
    }
    Ok(Document::Dialog {
        version,
        full,
        entity,
        dialogs,
    })
}

fn read_pidf(text: &str) -> Result<Document, String> {
    let nodes = nodes(text)?;
    let root = nodes.first().ok_or("an empty document")?;
    if root.name() != "presence" {
        return Err(format!("the root is {}", root.name()));
    }
    let entity = root.attribute("entity").ok_or("no entity")?.to_string();
    let mut basic = Vec::new();
    let mut activities = Vec::new();
    for node in &nodes[1..] {
        let parent = node.path.iter().rev().nth(1).map_or("", String::as_str);
        match (parent, node.name()) {
            ("status", "basic") => basic.push(node.text.trim().to_string()),
            ("activities", activity) => activities.push(activity.to_string()),
            _ => {}
        }
    }
    Ok(Document::Presence {
        entity,
        basic,
        activities,
    })
}

fn read_mailbox(text: &str) -> Result<Document, String> {
    let mut lines = text.split("\r\n");
    let waiting = match lines.next() {
        Some("Messages-Waiting: yes") => true,
        Some("Messages-Waiting: no") => false,
        other => return Err(format!("the first line is {other:?}")),
    };
    let mut counts = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (class, count) = line
            .split_once(": ")
            .ok_or_else(|| format!("the line {line:?}"))?;
        counts.push((class.to_string(), count.to_string()));
    }
    if !text.ends_with("\r\n") {
        return Err("the last line does not end".to_string());
    }
    Ok(Document::Mailbox { waiting, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog_info(inner: &str) -> Result<Document, String> {
        read_dialog_info(&format!(
            "<?xml version=\"1.0\"?><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
             version=\"3\" state=\"full\" entity=\"sip:1001@example.com\">{inner}</dialog-info>"
        ))
    }

    #[test]
    fn the_most_telling_dialog_is_shown() {
        let document = dialog_info(
            "<dialog id=\"a\"><state>confirmed</state></dialog>\
             <dialog id=\"b\"><state>early</state></dialog>",
        );
        assert_eq!(document.expect("well formed").lamp(), Lamp::Blinking);
    }

    #[test]
    fn a_call_on_hold_is_not_a_lit_lamp() {
        let document = dialog_info(
            "<dialog id=\"a\"><state>confirmed</state><local><target uri=\"sip:x\">\
             <param pname=\"+sip.rendering\" pval=\"no\"/></target></local></dialog>",
        );
        assert_eq!(document.expect("well formed").lamp(), Lamp::Held);
    }

    #[test]
    fn broken_documents_are_errors() {
        assert!(dialog_info("<dialog id=\"a\">").is_err());
        assert!(dialog_info("<dialog id=\"a\"><state>odd</state></dialog>").is_err());
        assert!(read_mailbox("Messages-Waiting: maybe\r\n").is_err());
        assert!(read_mailbox("Messages-Waiting: yes").is_err());
    }

    #[test]
    fn a_mailbox_is_read() {
        let document = read_mailbox("Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n\r\n");
        let Ok(Document::Mailbox { waiting, counts }) = document else {
            panic!("{document:?}");
        };
        assert!(waiting);
        assert_eq!(
            counts,
            [("Voice-Message".to_string(), "2/8 (0/2)".to_string())]
        );
    }
}
