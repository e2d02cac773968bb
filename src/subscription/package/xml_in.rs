//! Reading XML that a stranger wrote: a small tree, or a reason for refusing it.
//!
//! Size, depth, elements and attributes are bounded; a document type is refused, so that no entity but
//! the five predefined ones exists; nothing is fetched. Namespaces are resolved.

use std::borrow::Cow;
use std::rc::Rc;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use crate::config::limits;
use crate::hint::ForeignElement;

use super::Malformed;
use super::xml_out::{self, is_allowed};

/// The namespace of the prefix `xml`.
pub const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// An element with everything in it.
#[derive(Debug)]
pub struct Element {
    /// Empty: none.
    pub namespace: Rc<str>,
    /// As it was written; empty: none.
    prefix: Box<str>,
    pub name: Box<str>,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Attribute {
    /// Empty: none, as for every attribute without a prefix.
    namespace: Rc<str>,
    prefix: Box<str>,
    name: Box<str>,
    value: Box<str>,
}

#[derive(Debug)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// Whether this is the element of that name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        *self.namespace == *namespace && *self.name == *name
    }

    /// The elements directly in it.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first of the elements directly in it that has its own namespace and this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children()
            .find(|child| child.is(&self.namespace, name))
    }

    /// The value of an attribute without a namespace; empty if it is absent.
    pub fn attribute(&self, name: &str) -> &str {
        self.attribute_of("", name)
    }

    /// The value of an attribute of a namespace; empty if it is absent.
    pub fn attribute_of(&self, namespace: &str, name: &str) -> &str {
        self.attributes
            .iter()
            .find(|attribute| *attribute.namespace == *namespace && *attribute.name == *name)
            .map_or("", |attribute| &attribute.value)
    }

    /// Whether it has any attribute.
    pub fn has_attributes(&self) -> bool {
        !self.attributes.is_empty()
    }

    /// The character data directly in it, without white space around it.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        let first = texts.next().unwrap_or_default();
        match texts.next() {
            None => Cow::Borrowed(first.trim()),
            Some(second) => {
                let mut all = String::from(first) + second;
                all.extend(texts);
                Cow::Owned(all.trim().to_owned())
            }
        }
    }

    /// The element as text that is well formed wherever it is put.
    pub fn to_foreign(&self) -> ForeignElement {
        let mut out = Vec::new();
        self.write(&mut out, &mut Vec::new());
        let text = String::from_utf8(out).expect("made of strings");
        ForeignElement(text.into())
    }

    /// `declared`: prefix and namespace of what elements around it have declared within the fragment.
    fn write<'a>(&'a self, out: &mut Vec<u8>, declared: &mut Vec<(&'a str, &'a str)>) {
        let around = declared.len();
        let qualified = qualified(&self.prefix, &self.name);
        out.extend_from_slice(b"<");
        out.extend_from_slice(qualified.as_bytes());
        declare(out, declared, &self.prefix, &self.namespace);
        for attribute in &self.attributes {
            if !attribute.prefix.is_empty() {
                declare(out, declared, &attribute.prefix, &attribute.namespace);
            }
            let name = self::qualified(&attribute.prefix, &attribute.name);
            xml_out::attribute(out, &name, &attribute.value);
        }
        if self.nodes.is_empty() {
            out.extend_from_slice(b"/>");
        } else {
            out.extend_from_slice(b">");
            for node in &self.nodes {
                match node {
                    Node::Element(element) => element.write(out, declared),
                    Node::Text(text) => xml_out::text(out, text),
                }
            }
            out.extend_from_slice(b"</");
            out.extend_from_slice(qualified.as_bytes());
            out.extend_from_slice(b">");
        }
        declared.truncate(around);
    }
}

fn qualified<'a>(prefix: &str, name: &'a str) -> Cow<'a, str> {
    if prefix.is_empty() {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{prefix}:{name}"))
    }
}

/// Declares a prefix unless the innermost declaration of it says the same.
fn declare<'a>(
    out: &mut Vec<u8>,
    declared: &mut Vec<(&'a str, &'a str)>,
    prefix: &'a str,
    namespace: &'a str,
) {
    let known = declared.iter().rev().find(|(known, _)| *known == prefix);
    if prefix == "xml" || known.is_some_and(|(_, known)| *known == namespace) {
        return;
    }
    declared.push((prefix, namespace));
    let name = if prefix.is_empty() {
        Cow::Borrowed("xmlns")
    } else {
        Cow::Owned(format!("xmlns:{prefix}"))
    };
    xml_out::attribute(out, &name, namespace);
}

/// The root element of a document.
pub fn parse(body: &[u8]) -> Result<Element, Malformed> {
    if body.len() > limits::BODY_BYTES {
        return Err(Malformed("the document is too long"));
    }
    let body = decode(body)?;
    let mut reader = Reader::from_str(&body);
    reader.config_mut().check_comments = true;
    let mut builder = Builder::default();
    loop {
        let event = reader
            .read_event()
            .map_err(|_| Malformed("the XML is not well formed"))?;
        if matches!(event, Event::Eof) {
            return builder.finish();
        }
        builder.take(event)?;
    }
}

/// The text of a document. Latin-1 is taken where it is declared and nothing says otherwise.
fn decode(body: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = core::str::from_utf8(body) {
        return Ok(Cow::Borrowed(text));
    }
    let declaration = &body[..memchr::memchr(b'>', body).unwrap_or(0)];
    if memchr::memmem::find(&declaration.to_ascii_lowercase(), b"iso-8859-1").is_some() {
        return Ok(Cow::Owned(body.iter().copied().map(char::from).collect()));
    }
    Err(Malformed("the XML is not UTF-8"))
}

#[derive(Default)]
struct Builder {
    /// The elements that are open, the root first.
    open: Vec<Element>,
    /// How many bindings each open element found.
    marks: Vec<usize>,
    /// Prefixes and what they mean, the innermost last.
    bindings: Vec<(Box<str>, Rc<str>)>,
    root: Option<Element>,
    elements: usize,
    /// Something that must come before everything else would come too late now.
    begun: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), Malformed> {
        let first = !core::mem::replace(&mut self.begun, true);
        match event {
            Event::Start(start) => self.start(&start),
            Event::Empty(start) => {
                self.start(&start)?;
                self.end();
                Ok(())
            }
            Event::End(_) => {
                self.end();
                Ok(())
            }
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(reference) => self.reference(&reference),
            Event::Decl(declaration) => check_declaration(&declaration, first),
            Event::Comment(_) | Event::PI(_) => Ok(()),
            Event::DocType(_) => Err(Malformed("a document type is not taken")),
            Event::Eof => unreachable!("the caller ends here"),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), Malformed> {
        self.elements += 1;
        if self.open.len() >= limits::XML_DEPTH {
            return Err(Malformed("the XML is nested too deeply"));
        }
        if self.elements > limits::XML_ELEMENTS {
            return Err(Malformed("the XML has too many elements"));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(Malformed("the XML has two roots"));
        }
        self.marks.push(self.bindings.len());
        let attributes = self.read_attributes(start)?;
        let (prefix, name) = split_name(start.name().into_inner())?;
        let namespace = self.namespace(prefix)?;
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| {
                let (prefix, name) = split_name(key)?;
                let namespace = match prefix {
                    "" => Rc::from(""),
                    _ => self.namespace(prefix)?,
                };
                Ok(Attribute {
                    namespace,
                    prefix: prefix.into(),
                    name: name.into(),
                    value,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        self.open.push(Element {
            namespace,
            prefix: prefix.into(),
            name: name.into(),
            attributes,
            nodes: Vec::new(),
        });
        Ok(())
    }

    /// The attributes that are not declarations of namespaces; those become bindings.
    fn read_attributes<'a>(
        &mut self,
        start: &'a BytesStart<'_>,
    ) -> Result<Vec<(&'a str, Box<str>)>, Malformed> {
        let mut attributes = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            if count >= limits::XML_ATTRIBUTES {
                return Err(Malformed("an element has too many attributes"));
            }
            let attribute = attribute.map_err(|_| Malformed("an attribute is not well formed"))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|_| Malformed("an attribute refers to an unknown entity"))?;
            if attribute.value.contains('<') || !value.chars().all(is_allowed) {
                return Err(Malformed("an attribute holds what it may not"));
            }
            let key = attribute.key.into_inner();
            if key == "xmlns" {
                self.bindings.push((Box::default(), Rc::from(&*value)));
            } else if let Some(prefix) = key.strip_prefix("xmlns:") {
                if value.is_empty() {
                    return Err(Malformed("a prefix is bound to nothing"));
                }
                self.bindings.push((prefix.into(), Rc::from(&*value)));
            } else {
                attributes.push((key, value.into()));
            }
        }
        Ok(attributes)
    }

    fn namespace(&self, prefix: &str) -> Result<Rc<str>, Malformed> {
        let bound = self
            .bindings
            .iter()
            .rev()
            .find(|(known, _)| **known == *prefix);
        match bound {
            Some((_, namespace)) => Ok(Rc::clone(namespace)),
            None if prefix.is_empty() => Ok(Rc::from("")),
            None if prefix == "xml" => Ok(Rc::from(XML_NAMESPACE)),
            None => Err(Malformed("a prefix is not bound to a namespace")),
        }
    }

    fn end(&mut self) {
        let element = self.open.pop().expect("the reader checks end tags");
        let mark = self.marks.pop().expect("one for each open element");
        self.bindings.truncate(mark);
        match self.open.last_mut() {
            Some(parent) => parent.nodes.push(Node::Element(element)),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Malformed> {
        if !text.chars().all(is_allowed) {
            return Err(Malformed("the XML holds a character that it may not"));
        }
        match self.open.last_mut() {
            Some(element) => match element.nodes.last_mut() {
                Some(Node::Text(before)) => before.push_str(text),
                Some(Node::Element(_)) | None => element.nodes.push(Node::Text(text.to_owned())),
            },
            None if text.trim().is_empty() => {}
            None => return Err(Malformed("there is text outside the root element")),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), Malformed> {
        if self.open.is_empty() {
            return Err(Malformed("there is text outside the root element"));
        }
        let character = reference
            .resolve_char_ref()
            .map_err(|_| Malformed("a character reference is wrong"))?;
        match character {
            Some(character) => self.text(character.encode_utf8(&mut [0; 4])),
            None => match resolve_predefined_entity(reference) {
                Some(text) => self.text(text),
                None => Err(Malformed("the XML refers to an unknown entity")),
            },
        }
    }

    fn finish(self) -> Result<Element, Malformed> {
        if !self.open.is_empty() {
            return Err(Malformed("the XML ends too early"));
        }
        self.root.ok_or(Malformed("the XML has no root element"))
    }
}

fn check_declaration(declaration: &BytesDecl<'_>, first: bool) -> Result<(), Malformed> {
    if !first {
        return Err(Malformed("the XML declaration is not at the beginning"));
    }
    match declaration.version() {
        Ok(_) => Ok(()),
        Err(_) => Err(Malformed("the XML declaration is wrong")),
    }
}

/// Prefix and local name.
fn split_name(name: &str) -> Result<(&str, &str), Malformed> {
    let (prefix, local) = name.split_once(':').unwrap_or(("", name));
    let is_name = |part: &str| {
        let starts = |c: char| c.is_alphabetic() || c == '_';
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{b7}');
        part.starts_with(starts) && part.chars().all(goes_on)
    };
    let prefix_is_right = is_name(prefix) || (prefix.is_empty() && !name.starts_with(':'));
    if prefix_is_right && is_name(local) {
        Ok((prefix, local))
    } else {
        Err(Malformed("a name is not one"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn foreign(document: &str) -> String {
        let root = parse(document.as_bytes()).unwrap();
        let child = root.children().next().expect("a child");
        child.to_foreign().0.into()
    }

    #[test]
    fn a_fragment_declares_every_namespace_that_it_uses_and_only_once() {
        assert_eq!(
            foreign(
                r#"<a xmlns="urn:a" xmlns:b="urn:b" b:unused="1"><b:c b:d="1"><b:e/><f/></b:c></a>"#
            ),
            r#"<b:c xmlns:b="urn:b" b:d="1"><b:e/><f xmlns="urn:a"/></b:c>"#
        );
        assert_eq!(
            foreign("<a><c xml:lang='de'>x &amp; &#60;y</c></a>"),
            r#"<c xmlns="" xml:lang="de">x &amp; &lt;y</c>"#
        );
    }

    #[test]
    fn text_is_joined_over_references_and_comments() {
        let root = parse(b"<a> 1&lt;2<!-- no --> &amp; <![CDATA[<3>]]> </a>").unwrap();
        assert_eq!(root.text(), "1<2 & <3>");
    }

    #[test]
    fn latin_1_is_read_where_it_is_declared() {
        let body = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>J\xf6rg</a>";
        assert_eq!(parse(body).unwrap().text(), "J\u{f6}rg");
        assert!(parse(b"<a>J\xf6rg</a>").is_err());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for body in [
            "",
            " ",
            "a",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "x<a/>",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<a b='&x;'/>",
            "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#xFFFE;</a>",
            "<a>\u{1}</a>",
            "<p:a/>",
            "<a p:b='1'/>",
            "<1a/>",
            "<a:b:c xmlns:a='x'/>",
            "<:a/>",
            "<a><?xml version='1.0'?></a>",
            "<a",
            "<a><!-- -- --></a>",
            "<!DOCTYPE a><a/>",
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
            "<a xmlns:p=''/>",
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn depth_elements_attributes_and_size_are_bounded() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(parse(nested(limits::XML_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(limits::XML_DEPTH + 1).as_bytes()).is_err());
        assert!(parse(nested(2_000).as_bytes()).is_err());

        let many = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
        assert!(parse(many(limits::XML_ELEMENTS - 1).as_bytes()).is_ok());
        assert!(parse(many(limits::XML_ELEMENTS).as_bytes()).is_err());

        let wide = |count: usize| {
            let attributes: String = (0..count).map(|n| format!(" a{n}=''")).collect();
            format!("<a{attributes}/>")
        };
        assert!(parse(wide(limits::XML_ATTRIBUTES).as_bytes()).is_ok());
        assert!(parse(wide(limits::XML_ATTRIBUTES + 1).as_bytes()).is_err());

        let long = |length: usize| format!("<a>{}</a>", "x".repeat(length - 7));
        assert!(parse(long(limits::BODY_BYTES).as_bytes()).is_ok());
        assert!(parse(long(limits::BODY_BYTES + 1).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{0,60}") {
            let mut body = b"<a".to_vec();
            xml_out::attribute(&mut body, "b", &text);
            body.extend_from_slice(b"><c>");
            xml_out::text(&mut body, &text);
            body.extend_from_slice(b"</c></a>");
            let root = parse(&body).unwrap();
            prop_assert_eq!(root.attribute("b"), &text);
            let child = root.child("c").unwrap();
            let read: String = child.nodes.iter().map(|node| match node {
                Node::Text(text) => text.as_str(),
                Node::Element(_) => "",
            }).collect();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn any_tags_are_read_or_refused(body in "[<>/a:b =\"'&;!?\\[\\]x-]{0,80}") {
            if let Ok(root) = parse(body.as_bytes()) {
                let again = root.to_foreign();
                let read = parse(again.0.as_bytes()).unwrap();
                prop_assert_eq!(read.to_foreign(), again);
            }
        }
    }
}
