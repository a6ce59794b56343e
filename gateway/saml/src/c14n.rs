//! Exclusive XML Canonicalization 1.0 without comments: the one spelling of an element that is signed and read.

use std::collections::BTreeMap;

use roxmltree::{Node, NodeId};

use crate::SamlError;

const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The canonical form of an element, without `left_out` and what is inside it. `inclusive` are the prefixes of an
/// `InclusiveNamespaces` list, `#default` for none.
pub(crate) fn canonical(apex: Node<'_, '_>, left_out: Option<NodeId>, inclusive: &[&str]) -> Result<String, SamlError> {
    let mut writer = Writer { source: apex.document().input_text(), left_out, inclusive, out: String::new() };
    writer.element(apex, &BTreeMap::new())?;
    Ok(writer.out)
}

struct Writer<'w> {
    source: &'w str,
    left_out: Option<NodeId>,
    inclusive: &'w [&'w str],
    out: String,
}

/// The prefix of a name as it was written.
fn prefix(qname: &str) -> &str {
    qname.split_once(':').map_or("", |(prefix, _)| prefix)
}

impl<'w> Writer<'w> {
    /// Depth is bounded where the text is read.
    fn element(&mut self, node: Node<'_, '_>, rendered: &BTreeMap<String, String>) -> Result<(), SamlError> {
        let broken = || SamlError::Malformed("a name is not where it was read");
        let after = self.source.get(node.range().start.saturating_add(1)..).ok_or_else(broken)?;
        let qname =
            after.split([' ', '\t', '\r', '\n', '/', '>']).next().filter(|name| !name.is_empty()).ok_or_else(broken)?;
        let mut attributes = Vec::new();
        let mut used = vec![prefix(qname)];
        for attribute in node.attributes() {
            let name = self.source.get(attribute.range_qname()).ok_or_else(broken)?;
            if !prefix(name).is_empty() {
                used.push(prefix(name));
            }
            attributes.push((attribute.namespace().unwrap_or_default(), attribute.name(), name, attribute.value()));
        }
        let listed = self.inclusive.iter().map(|name| if *name == "#default" { "" } else { name });
        let in_scope = |name: &str| node.lookup_namespace_uri(if name.is_empty() { None } else { Some(name) });
        used.extend(listed.filter(|name| in_scope(name).is_some()));
        used.sort_unstable();
        used.dedup();
        self.out.push('<');
        self.out.push_str(qname);
        let mut inside = rendered.clone();
        for name in used.into_iter().filter(|name| *name != "xml") {
            let uri = in_scope(name).unwrap_or_default();
            // An empty default namespace is written only to end another one.
            if rendered.get(name).map_or("", String::as_str) == uri && (rendered.contains_key(name) || uri.is_empty()) {
                continue;
            }
            self.out.push_str(if name.is_empty() { " xmlns" } else { " xmlns:" });
            self.out.push_str(name);
            self.out.push_str("=\"");
            self.value(uri);
            self.out.push('"');
            inside.insert(name.to_owned(), uri.to_owned());
        }
        attributes.sort_unstable();
        for (namespace, local, name, value) in attributes {
            self.out.push(' ');
            if namespace == XML {
                self.out.push_str("xml:");
                self.out.push_str(local);
            } else {
                self.out.push_str(name);
            }
            self.out.push_str("=\"");
            self.value(value);
            self.out.push('"');
        }
        self.out.push('>');
        let left_out = self.left_out;
        for child in node.children().filter(|child| Some(child.id()) != left_out) {
            if child.is_element() {
                self.element(child, &inside)?;
            } else if let (true, Some(text)) = (child.is_text(), child.text()) {
                self.text(text);
            } else if child.is_pi() {
                return Err(SamlError::Forbidden("a processing instruction"));
            }
        }
        self.out.push_str("</");
        self.out.push_str(qname);
        self.out.push('>');
        Ok(())
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
    }

    fn value(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, name: &str, inclusive: &[&str]) -> String {
        let document = roxmltree::Document::parse(text).unwrap();
        let node = document.descendants().find(|node| node.is_element() && node.tag_name().name() == name).unwrap();
        canonical(node, None, inclusive).unwrap()
    }

    /// The examples of the recommendation's §2.2.
    #[test]
    fn only_the_namespaces_that_are_used_are_written() {
        let one = "<n0:pdu xmlns:n0=\"http://a\" xmlns:n3=\"x\"><n1:elem2 xmlns:n1=\"http://example.net\" \
            xml:lang=\"en\"><n3:stuff xmlns:n3=\"ftp://example.org\"/></n1:elem2></n0:pdu>";
        let canonical = "<n1:elem2 xmlns:n1=\"http://example.net\" xml:lang=\"en\"><n3:stuff \
            xmlns:n3=\"ftp://example.org\"></n3:stuff></n1:elem2>";
        assert_eq!(of(one, "elem2", &[]), canonical);
        let two = "<n2:pdu xmlns:n1=\"http://example.com\" xmlns:n2=\"http://foo.example\" xmlns:n4=\"http://four\" \
            xml:lang=\"fr\" xml:space=\"retain\"><n1:elem2 xmlns:n1=\"http://example.net\" xml:lang=\"en\"><n3:stuff \
            xmlns:n3=\"ftp://example.org\"/></n1:elem2></n2:pdu>";
        assert_eq!(of(two, "elem2", &[]), canonical);
        assert!(
            of(two, "elem2", &["n4", "absent"])
                .starts_with("<n1:elem2 xmlns:n1=\"http://example.net\" xmlns:n4=\"http://four\" xml:lang=\"en\">")
        );
    }

    #[test]
    fn a_default_namespace_begins_and_ends_where_it_must() {
        let text = "<a xmlns=\"u\"><b xmlns=\"\"><c/></b><d/></a>";
        assert_eq!(of(text, "a", &[]), "<a xmlns=\"u\"><b xmlns=\"\"><c></c></b><d></d></a>");
        assert_eq!(of(text, "b", &[]), "<b><c></c></b>");
        assert_eq!(
            of("<p:a xmlns:p=\"v\" xmlns=\"u\"><b/></p:a>", "a", &[]),
            "<p:a xmlns:p=\"v\"><b xmlns=\"u\"></b></p:a>"
        );
        assert_eq!(
            of("<p:a xmlns:p=\"v\" xmlns=\"u\"><b/></p:a>", "a", &["#default"]),
            "<p:a xmlns=\"u\" xmlns:p=\"v\"><b></b></p:a>"
        );
    }

    #[test]
    fn attributes_are_ordered_and_text_is_escaped_in_one_way() {
        let text = "<a z='1' xmlns:y='b' xmlns:x='c' x:q='2' y:q='3' \
            b=\"&quot;'&#9;&#10;&#13;&lt;&amp;>\">t&amp;&lt;&gt;&#13;\"</a >";
        let expected = "<a xmlns:x=\"c\" xmlns:y=\"b\" b=\"&quot;'&#x9;&#xA;&#xD;&lt;&amp;>\" z=\"1\" y:q=\"3\" \
            x:q=\"2\">t&amp;&lt;&gt;&#xD;\"</a>";
        assert_eq!(of(text, "a", &[]), expected);
    }
}
