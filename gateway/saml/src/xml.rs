//! XML, as little of it as SAML needs.
//!
//! Document types, entities, processing instructions, comments and CDATA have no use in a message and a long history of
//! attacks: two readers of one text that see two texts. They are refused before anything is read.

use roxmltree::{Document, Node, ParsingOptions};

use crate::{SamlError, well_formed};

/// Larger messages are refused; those of real providers have a few KiB.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 48;
const MAX_ATTRIBUTES: usize = 64;
const MAX_NODES: u32 = 20_000;

pub(crate) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(crate) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(crate) const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
pub(crate) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
pub(crate) const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
pub(crate) const XENC11: &str = "http://www.w3.org/2009/xmlenc11#";
pub(crate) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, SamlError> {
    look_over(text)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    // The reader takes what the specification does not: the grammar is checked first, by name.
    well_formed::check(text).map_err(SamlError::Malformed)?;
    Document::parse_with_options(text, options).map_err(|_| SamlError::Malformed("it is not well-formed XML"))
}

/// One pass over the text that bounds what reading it may cost.
fn look_over(text: &str) -> Result<(), SamlError> {
    if text.len() > MAX_BYTES {
        return Err(SamlError::TooLarge);
    }
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    if rest.starts_with("<?xml ") {
        rest = rest.split_once("?>").ok_or(SamlError::Malformed("its declaration does not end"))?.1;
    }
    for (mark, what) in [
        ("<!DOCTYPE", "a document type"),
        ("<!ENTITY", "an entity"),
        ("<!--", "a comment"),
        ("<![CDATA[", "a CDATA section"),
    ] {
        if rest.contains(mark) {
            return Err(SamlError::Forbidden(what));
        }
    }
    if rest.contains("<!") {
        return Err(SamlError::Forbidden("a declaration"));
    }
    if rest.contains("<?") {
        return Err(SamlError::Forbidden("a processing instruction"));
    }
    let mut depth = 0usize;
    for tag in rest.split('<').skip(1) {
        let mut quote = None;
        let (mut attributes, mut before, mut closed) = (0, ' ', false);
        for c in tag.chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '=') => attributes += 1,
                (None, '>') => {
                    closed = true;
                    break;
                }
                (None, _) => {}
            }
            before = c;
        }
        if attributes > MAX_ATTRIBUTES {
            return Err(SamlError::Malformed("an element has too many attributes"));
        }
        if tag.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else if closed && before != '/' {
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(SamlError::Malformed("its elements are nested too deeply"));
        }
    }
    Ok(())
}

/// Whether an element has this name.
pub(crate) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element() && node.tag_name().namespace() == Some(namespace) && node.tag_name().name() == name
}

/// The child elements of this name.
pub(crate) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    namespace: &'a str,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| is(*child, namespace, name))
}

/// The one child of this name; `None` where there is none, an error where there are several.
pub(crate) fn child<'a, 'i>(
    node: Node<'a, 'i>,
    namespace: &'a str,
    name: &'a str,
) -> Result<Option<Node<'a, 'i>>, SamlError> {
    let mut found = children(node, namespace, name);
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        _ => Err(SamlError::Malformed("an element is there twice")),
    }
}

/// The one child of this name, which must be there.
pub(crate) fn wanted<'a, 'i>(
    node: Node<'a, 'i>,
    namespace: &'a str,
    name: &'static str,
) -> Result<Node<'a, 'i>, SamlError> {
    child(node, namespace, name)?.ok_or(SamlError::Missing(name))
}

/// The whole text of an element that has nothing but text.
pub(crate) fn text(node: Node<'_, '_>) -> Result<String, SamlError> {
    if node.children().any(|child| !child.is_text()) {
        return Err(SamlError::Malformed("an element that should be text has others inside"));
    }
    Ok(node.children().filter_map(|child| child.text()).collect::<String>().trim().to_owned())
}

/// An attribute without a prefix.
pub(crate) fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes()
        .find(|attribute| attribute.namespace().is_none() && attribute.name() == name)
        .map(|attribute| attribute.value())
}

/// Text that is text, wherever it stands in XML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused_by_name() {
        for (text, what) in [
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "a document type"),
            ("<a>ad<!-- x -->min</a>", "a comment"),
            ("<a><![CDATA[x]]></a>", "a CDATA section"),
            ("<a><?x y?></a>", "a processing instruction"),
            ("<a/><?xml version='1.0'?>", "a processing instruction"),
        ] {
            assert_eq!(parse(text).map(drop), Err(SamlError::Forbidden(what)), "{text}");
        }
        assert!(parse("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a>&amp;&lt;&#65;</a>").is_ok());
        assert!(matches!(parse("<a>&x;</a>"), Err(SamlError::Malformed(_))));
        assert!(matches!(parse("<a></b>"), Err(SamlError::Malformed(_))));
    }

    #[test]
    fn size_depth_and_width_are_bounded_and_quickly_told() {
        let start = std::time::Instant::now();
        let wide = format!("<a {}/>", (0..20_000).map(|i| format!("a{i}='' ")).collect::<String>());
        assert_eq!(parse(&wide).map(drop), Err(SamlError::Malformed("an element has too many attributes")));
        let names = format!("<a {}/>", (0..9_000).map(|i| format!("xmlns:a{i}='u' ")).collect::<String>());
        assert_eq!(parse(&names).map(drop), Err(SamlError::Malformed("an element has too many attributes")));
        assert_eq!(
            parse(&"<a>".repeat(50_000)).map(drop),
            Err(SamlError::Malformed("its elements are nested too deeply"))
        );
        assert_eq!(parse(&format!("<a>{}</a>", "x".repeat(MAX_BYTES))).map(drop), Err(SamlError::TooLarge));
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}
