//! The grammar of XML 1.0 and of its namespaces, for documents of elements and text alone.
//!
//! The reader behind [`crate::xml::parse`] takes more than the specification does: other versions, undeclared prefixes.
//! This module refuses documents that two parsers may read differently, and names the error. `xml.rs` has refused
//! document types, comments, CDATA and processing instructions before, so that little is left of the grammar.
//! References: XML 1.0 (fifth edition), Namespaces in XML 1.0 (third edition).

use std::collections::HashSet;

const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

type Wrong = &'static str;

/// Says what keeps a text from being well-formed.
pub(crate) fn check(text: &str) -> Result<(), Wrong> {
    // XML 1.0 §2.2. A mark of the byte order stands at the beginning alone.
    if !text.chars().all(is_char) {
        return Err("it has a character that XML 1.0 does not have");
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = declaration(text)?;
    let mut open: Vec<Element<'_>> = Vec::new();
    let mut seen_root = false;
    loop {
        let Some((before, after)) = rest.split_once('<') else {
            if !open.is_empty() {
                return Err("an element does not end");
            }
            return if seen_root && is_blank(rest) { Ok(()) } else { Err("there is text outside of its element") };
        };
        if open.is_empty() {
            if !is_blank(before) {
                return Err("there is text outside of its element");
            }
        } else {
            content(before)?;
        }
        rest = if let Some(end) = after.strip_prefix('/') {
            let (name, rest) = end.split_once('>').ok_or("a tag does not end")?;
            if open.pop().is_none_or(|element| element.name != name.trim_end_matches(is_space)) {
                return Err("an element ends that did not begin");
            }
            rest
        } else {
            if open.is_empty() && seen_root {
                return Err("it has two elements at its root");
            }
            seen_root = true;
            let (element, is_empty, rest) = start(after, &open)?;
            if !is_empty {
                open.push(element);
            }
            rest
        };
    }
}

struct Element<'t> {
    name: &'t str,
    /// Prefixes that it declares, each with its namespace.
    declares: Vec<(&'t str, &'t str)>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// XML 1.0 §2.2.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0 §2.3, without the colon.
fn begins_name(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

fn continues_name(c: char) -> bool {
    begins_name(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// Prefix and local part (Namespaces §4).
fn qualified(name: &str) -> Result<(Option<&str>, &str), Wrong> {
    let is_name = |part: &str| part.starts_with(begins_name) && part.chars().all(continues_name);
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) => (Some(prefix), local),
        None => (None, name),
    };
    if prefix.is_none_or(is_name) && is_name(local) { Ok((prefix, local)) } else { Err("a name is not one") }
}

/// XML 1.0 §2.8: what follows the declaration, if there is one.
fn declaration(text: &str) -> Result<&str, Wrong> {
    let Some(rest) = text.strip_prefix("<?xml").filter(|rest| rest.starts_with(is_space)) else { return Ok(text) };
    let (inside, rest) = rest.split_once("?>").ok_or("its declaration does not end")?;
    let mut inside = inside;
    let mut last = 0;
    while !is_blank(inside) {
        let (name, value, after) = attribute(inside)?;
        let (order, usable) = match name {
            "version" if value == "1.0" => (1, Ok(())),
            "version" => (1, Err("it is of another version of XML than 1.0")),
            "encoding" if value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii") => (2, Ok(())),
            "encoding" => (2, Err("its declaration names another encoding than UTF-8")),
            "standalone" if matches!(value, "yes" | "no") => (3, Ok(())),
            _ => (0, Err("its declaration is not one")),
        };
        usable?;
        if order <= last || last == 0 && order != 1 {
            return Err("its declaration is not one");
        }
        (last, inside) = (order, after);
    }
    if last == 0 { Err("its declaration has no version") } else { Ok(rest) }
}

/// One attribute after white space: its name, its value as written, and what follows.
fn attribute(text: &str) -> Result<(&str, &str, &str), Wrong> {
    let begins = text.trim_start_matches(is_space);
    if begins.len() == text.len() {
        return Err("there is no space before an attribute");
    }
    let (name, value) = begins.split_once('=').ok_or("an attribute has no value")?;
    let value = value.trim_start_matches(is_space);
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("an attribute has no quotes")?;
    let (value, rest) = value.split_at(1).1.split_once(quote).ok_or("an attribute does not end")?;
    Ok((name.trim_end_matches(is_space), value, rest))
}

/// A start tag after its `<`: the element, whether it is empty, and what follows.
fn start<'t>(text: &'t str, open: &[Element<'t>]) -> Result<(Element<'t>, bool, &'t str), Wrong> {
    let end = text.find(|c| is_space(c) || matches!(c, '>' | '/')).ok_or("a tag does not end")?;
    let (name, mut rest) = text.split_at(end);
    let (prefix, _) = qualified(name)?;
    let mut declares = Vec::new();
    let mut attributes = Vec::new();
    let is_empty = loop {
        let trimmed = rest.trim_start_matches(is_space);
        if let Some(after) = trimmed.strip_prefix("/>") {
            rest = after;
            break true;
        }
        if let Some(after) = trimmed.strip_prefix('>') {
            rest = after;
            break false;
        }
        let (name, value, after) = attribute(rest)?;
        rest = after;
        if value.contains('<') {
            return Err("an attribute has a `<`");
        }
        references(value)?;
        match qualified(name)? {
            (None, "xmlns") => declares.push(("", value)),
            (Some("xmlns"), prefix) => declares.push((prefix, value)),
            named => attributes.push(named),
        }
    };
    declared(&declares)?;
    let namespace = |prefix: &str| -> Result<&str, Wrong> {
        if prefix == "xml" {
            return Ok(XML);
        }
        let own = declares.iter().find(|(declared, _)| *declared == prefix);
        let outer =
            || open.iter().rev().flat_map(|element| &element.declares).find(|(declared, _)| *declared == prefix);
        own.or_else(outer).map(|(_, namespace)| *namespace).ok_or("a prefix is not declared")
    };
    if let Some(prefix) = prefix {
        namespace(prefix)?;
    }
    // Namespaces §6.3: unique by what they mean, not by how they are written.
    let mut seen = HashSet::new();
    for (prefix, local) in attributes {
        let meant = prefix.map(namespace).transpose()?;
        if !seen.insert((meant, local)) {
            return Err("an attribute is there twice");
        }
    }
    Ok((Element { name, declares }, is_empty, rest))
}

/// Namespaces §3 and §5.
fn declared(declares: &[(&str, &str)]) -> Result<(), Wrong> {
    let mut seen = HashSet::new();
    for (prefix, namespace) in declares {
        let usable = match *prefix {
            "" => *namespace != XML && *namespace != XMLNS,
            "xml" => *namespace == XML,
            "xmlns" => false,
            _ => !namespace.is_empty() && *namespace != XML && *namespace != XMLNS,
        };
        if !usable || !seen.insert(*prefix) {
            return Err("a prefix is declared as it must not be");
        }
    }
    Ok(())
}

fn content(text: &str) -> Result<(), Wrong> {
    if text.contains("]]>") {
        return Err("its text has a `]]>`");
    }
    references(text)
}

/// XML 1.0 §4.1: characters by number, and the five names that every reader knows.
fn references(text: &str) -> Result<(), Wrong> {
    for after in text.split('&').skip(1) {
        let (name, _) = after.split_once(';').ok_or("a reference does not end")?;
        let number = |digits: &str, radix| {
            let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            is_number.then(|| u32::from_str_radix(digits, radix).ok()).flatten().and_then(char::from_u32)
        };
        let known = match name.strip_prefix('#') {
            Some(name) => match name.strip_prefix('x') {
                Some(digits) => number(digits, 16),
                None => number(name, 10),
            }
            .is_some_and(is_char),
            None => matches!(name, "amp" | "lt" | "gt" | "quot" | "apos"),
        };
        if !known {
            return Err("a reference means nothing");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a19_what_is_not_well_formed_is_refused_by_name() {
        for (text, wrong) in [
            ("<?xml version='1.1'?><a/>", "it is of another version of XML than 1.0"),
            ("<?xml version='2.0'?><a/>", "it is of another version of XML than 1.0"),
            ("<?xml encoding='UTF-8'?><a/>", "its declaration is not one"),
            ("<?xml version='1.0' standalone='yes' encoding='UTF-8'?><a/>", "its declaration is not one"),
            ("<?xml version='1.0' encoding='UTF-16'?><a/>", "its declaration names another encoding than UTF-8"),
            ("<?xml version='1.0' encoding='iso-8859-1'?><a/>", "its declaration names another encoding than UTF-8"),
            ("<?xml version='1.0'encoding='UTF-8'?><a/>", "there is no space before an attribute"),
            ("<p:a/>", "a prefix is not declared"),
            ("<a p:b='c'/>", "a prefix is not declared"),
            ("<a><b xmlns:p='u'/><p:c/></a>", "a prefix is not declared"),
            ("<a xmlns:p=''/>", "a prefix is declared as it must not be"),
            ("<a xmlns:xmlns='u'/>", "a prefix is declared as it must not be"),
            ("<a xmlns:xml='u'/>", "a prefix is declared as it must not be"),
            ("<a xmlns:p='u' xmlns:p='v'/>", "a prefix is declared as it must not be"),
            ("<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", "an attribute is there twice"),
            ("<a b='' b=''/>", "an attribute is there twice"),
            ("<a b=''c=''/>", "there is no space before an attribute"),
            ("<a b='<'/>", "an attribute has a `<`"),
            ("<a b=c/>", "an attribute has no quotes"),
            ("<a b/>", "an attribute has no value"),
            ("<a>]]></a>", "its text has a `]]>`"),
            ("<a>&nbsp;</a>", "a reference means nothing"),
            ("<a>&#0;</a>", "a reference means nothing"),
            ("<a>&#xFFFE;</a>", "a reference means nothing"),
            ("<a>&#+65;</a>", "a reference means nothing"),
            ("<a>&amp</a>", "a reference does not end"),
            ("<a>\u{1}</a>", "it has a character that XML 1.0 does not have"),
            ("<a>\u{0}</a>", "it has a character that XML 1.0 does not have"),
            ("<a/><b/>", "it has two elements at its root"),
            ("<a/>x", "there is text outside of its element"),
            ("x<a/>", "there is text outside of its element"),
            ("\u{feff}\u{feff}<a/>", "there is text outside of its element"),
            ("", "there is text outside of its element"),
            ("<a>", "an element does not end"),
            ("<a></b>", "an element ends that did not begin"),
            ("</a>", "an element ends that did not begin"),
            ("<1a/>", "a name is not one"),
            ("<a:b:c xmlns:a='u'/>", "a name is not one"),
            ("<:a/>", "a name is not one"),
            (" <?xml version='1.0'?><a/>", "a name is not one"),
        ] {
            assert_eq!(check(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn what_is_well_formed_passes() {
        for text in [
            "<a/>",
            "\u{feff}<?xml version=\"1.0\" encoding='utf-8' standalone='no' ?>\r\n<a></a >\n",
            "<p:a xmlns:p='u' xmlns='v' p:b='1' b='2' xml:lang='de'><c xmlns=''>&#65;&#x1F600;&lt;]] ></c></p:a>",
            "<é.-1 b = 'x>y/' />",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }
}
