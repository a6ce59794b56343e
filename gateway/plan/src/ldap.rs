//! Names and filters of LDAP: RFC 4514 and RFC 4515, read once and compared as what they mean.

use serde::{Deserialize, Serialize};

/// A distinguished name (RFC 4514), as it is written and as it is compared: types and values in lower case, escapes
/// decoded, spaces folded, the parts of each relative name sorted. Names that directories with the usual matching rules
/// call equal are equal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DistinguishedName {
    text: String,
    parts: Vec<Vec<(String, String)>>,
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for DistinguishedName {}

impl std::hash::Hash for DistinguishedName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

impl From<DistinguishedName> for String {
    fn from(name: DistinguishedName) -> Self {
        name.text
    }
}

impl TryFrom<String> for DistinguishedName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("it is not a distinguished name")
    }
}

impl DistinguishedName {
    /// Reads a name; `None` if it is none, or if it has no part at all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim_matches(' ');
        let (mut names, mut name) = (Vec::new(), Vec::new());
        while !rest.is_empty() {
            let (kind, after) = rest.split_once('=')?;
            let kind = kind.trim_matches(' ').to_ascii_lowercase();
            let kind = kind.strip_prefix("oid.").unwrap_or(&kind).to_owned();
            if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            {
                return None;
            }
            let (value, separator, after) = value(after)?;
            name.push((kind, value));
            if separator != Some('+') {
                name.sort();
                names.push(std::mem::take(&mut name));
            }
            // A separator has something behind it.
            if separator.is_some() && after.trim_matches(' ').is_empty() {
                return None;
            }
            rest = after;
        }
        (!names.is_empty()).then(|| Self { text: text.to_owned(), parts: names })
    }

    /// The name as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this is the name of an entry below `base`, or of `base` itself.
    pub fn is_within(&self, base: &Self) -> bool {
        self.parts.ends_with(&base.parts)
    }
}

/// A value, the separator behind it, and the text behind that.
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let text = text.trim_start_matches(' ');
    if let Some(hexadecimal) = text.strip_prefix('#') {
        let end = hexadecimal.find([',', ';', '+']).unwrap_or(hexadecimal.len());
        let (digits, rest) = hexadecimal.split_at(end);
        let octets = unhex(digits.trim_end_matches(' '))?;
        let mut rest = rest.chars();
        let separator = rest.next();
        return Some((fold(&of_ber(&octets)?), separator, rest.as_str()));
    }
    // Octets, since an escape may be one byte of a character; `kept` is the length up to the last octet that a trailing
    // space may not take away.
    let (mut octets, mut kept) = (Vec::new(), 0);
    let mut rest = text.chars();
    let separator = loop {
        match rest.next() {
            None => break None,
            Some(separator @ (',' | ';' | '+')) => break Some(separator),
            Some('\\') => {
                let escaped = rest.next()?;
                match escaped.to_digit(16) {
                    Some(high) => octets.push((high * 16 + rest.next()?.to_digit(16)?) as u8),
                    None if matches!(escaped, ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\') => {
                        octets.push(escaped as u8);
                    }
                    None => return None,
                }
                kept = octets.len();
            }
            Some('"' | '<' | '>' | '\0') => return None,
            Some(other) => {
                octets.extend(other.encode_utf8(&mut [0; 4]).bytes());
                if other != ' ' {
                    kept = octets.len();
                }
            }
        }
    };
    octets.truncate(kept);
    Some((fold(&octets), separator, rest.as_str()))
}

/// The octets of a string in BER, as `#` writes it (RFC 4514 §2.4); another type of value is compared as it is.
fn of_ber(ber: &[u8]) -> Option<Vec<u8>> {
    match ber {
        [0x04 | 0x0c | 0x13 | 0x16, length, octets @ ..] if usize::from(*length) == octets.len() => {
            Some(octets.to_vec())
        }
        [_, ..] => Some(ber.to_vec()),
        [] => None,
    }
}

/// The form in which values are compared: lower case, one space where there are several, none at the ends (RFC 4518).
fn fold(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets).to_lowercase();
    let mut folded = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(word);
    }
    folded
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let bytes = digits.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..bytes.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}

/// A text as the value of an attribute in a distinguished name (RFC 4514 §2.4).
pub fn escape_dn_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for (position, character) in text.char_indices() {
        let at_end = position + character.len_utf8() == text.len();
        match character {
            '\0' => escaped.push_str("\\00"),
            ' ' if position == 0 || at_end => escaped.push_str("\\ "),
            '#' if position == 0 => escaped.push_str("\\#"),
            '"' | '+' | ',' | ';' | '<' | '=' | '>' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// A filter (RFC 4511 §4.5.1.7). Its values are decoded: there is nothing to escape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LdapFilter {
    /// All of them.
    And(Vec<LdapFilter>),
    /// One of them.
    Or(Vec<LdapFilter>),
    /// Not this one.
    Not(Box<LdapFilter>),
    /// The attribute has the value.
    Equal(String, String),
    /// The attribute has a value of these parts.
    Substrings {
        /// The attribute.
        attribute: String,
        /// Its beginning.
        initial: Option<String>,
        /// Parts in the middle, in order.
        any: Vec<String>,
        /// Its end.
        last: Option<String>,
    },
    /// The attribute has a value that is greater or equal.
    AtLeast(String, String),
    /// The attribute has a value that is less or equal.
    AtMost(String, String),
    /// The attribute has a value.
    Present(String),
    /// The attribute has a value that is approximately this one.
    Approximate(String, String),
    /// A matching rule says that the attribute matches the value.
    Rule {
        /// The rule; `None`: that of the attribute.
        rule: Option<String>,
        /// The attribute; `None`: every one.
        attribute: Option<String>,
        /// The value.
        value: String,
        /// Also the attributes of the distinguished name.
        of_name: bool,
    },
}

/// Filters that are nested deeper are refused.
const MAX_DEPTH: usize = 16;

impl LdapFilter {
    /// Reads a filter (RFC 4515). The error says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (filter, rest) = filter(text.trim_matches(' '), MAX_DEPTH)?;
        if rest.is_empty() { Ok(filter) } else { Err(format!("there is text behind the filter: `{rest}`")) }
    }
}

fn filter(text: &str, depth: usize) -> Result<(LdapFilter, &str), String> {
    let depth = depth.checked_sub(1).ok_or_else(|| format!("it is nested more than {MAX_DEPTH} deep"))?;
    let inner =
        text.strip_prefix('(').ok_or_else(|| format!("a filter begins with `(`, and this does not: `{text}`"))?;
    let (read, rest) = match inner.chars().next() {
        Some('&') => filters(&inner[1..], depth).map(|(all, rest)| (LdapFilter::And(all), rest))?,
        Some('|') => filters(&inner[1..], depth).map(|(all, rest)| (LdapFilter::Or(all), rest))?,
        Some('!') => filter(&inner[1..], depth).map(|(not, rest)| (LdapFilter::Not(Box::new(not)), rest))?,
        _ => {
            let end = inner.find([')', '(']).unwrap_or(inner.len());
            let (item, rest) = inner.split_at(end);
            (
                read_item(item).ok_or_else(|| format!("`({item})` is not an assertion such as `(attribute=value)`"))?,
                rest,
            )
        }
    };
    let rest = rest.strip_prefix(')').ok_or_else(|| format!("a `)` is missing before `{rest}`"))?;
    Ok((read, rest))
}

fn filters(mut text: &str, depth: usize) -> Result<(Vec<LdapFilter>, &str), String> {
    let mut all = Vec::new();
    while text.starts_with('(') {
        let (one, rest) = filter(text, depth)?;
        all.push(one);
        text = rest;
    }
    if all.is_empty() { Err("`&` and `|` need at least one filter".into()) } else { Ok((all, text)) }
}

fn read_item(item: &str) -> Option<LdapFilter> {
    let (left, value) = item.split_once('=')?;
    let last = left.chars().last()?;
    let shorter = &left[..left.len() - last.len_utf8()];
    match last {
        '>' => Some(LdapFilter::AtLeast(attribute(shorter)?, decoded(value)?)),
        '<' => Some(LdapFilter::AtMost(attribute(shorter)?, decoded(value)?)),
        '~' => Some(LdapFilter::Approximate(attribute(shorter)?, decoded(value)?)),
        ':' => read_rule(shorter, value),
        _ => read_equality(attribute(left)?, value),
    }
}

fn read_equality(attribute: String, value: &str) -> Option<LdapFilter> {
    if value == "*" {
        return Some(LdapFilter::Present(attribute));
    }
    let parts: Vec<&str> = value.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return Some(LdapFilter::Equal(attribute, decoded(value)?));
    };
    let end = |part: &str| if part.is_empty() { Some(None) } else { decoded(part).map(Some) };
    let any: Option<Vec<String>> = middle.iter().map(|part| decoded(part).filter(|part| !part.is_empty())).collect();
    Some(LdapFilter::Substrings { attribute, initial: end(first)?, any: any?, last: end(last)? })
}

/// `attr:dn:rule`, where each of the three may be missing, but not attribute and rule both.
fn read_rule(left: &str, value: &str) -> Option<LdapFilter> {
    let mut parts: Vec<&str> = left.split(':').collect();
    let name = parts.remove(0);
    let of_name = parts.first().is_some_and(|part| part.eq_ignore_ascii_case("dn"));
    if of_name {
        parts.remove(0);
    }
    let rule = match parts.as_slice() {
        [] => None,
        [rule] => Some(attribute(rule)?),
        _ => return None,
    };
    let attribute = if name.is_empty() { None } else { Some(attribute(name)?) };
    (rule.is_some() || attribute.is_some()).then_some(())?;
    Some(LdapFilter::Rule { rule, attribute, value: decoded(value)?, of_name })
}

/// A description of an attribute: a name or an OID, perhaps with options (RFC 4512 §2.5).
fn attribute(text: &str) -> Option<String> {
    is_attribute(text).then(|| text.to_owned())
}

/// Whether a text is the id of a group and no name: a security identifier (MS-DTYP §2.4.2.1) or a UUID (RFC 9562 §4).
pub fn is_group_id(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let is_uuid =
        text.split('-').map(str::len).eq(lengths) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    is_uuid || text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("S-1-"))
}

/// Whether a text describes an attribute (RFC 4512 §2.5).
pub fn is_attribute(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b';'))
}

/// A value with its escapes decoded (RFC 4515 §3); `None` if it has a `*`, a broken escape, or is not UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => octets.push((rest.next()?.to_digit(16)? * 16 + rest.next()?.to_digit(16)?) as u8),
            '*' | '\0' => return None,
            other => octets.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> DistinguishedName {
        DistinguishedName::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn r22_names_are_equal_by_what_they_mean() {
        for (one, other) in [
            ("CN=Ana,DC=Corp,DC=Test", "cn=ana, dc=corp ,dc=test"),
            (r"cn=Ana\, Inc.,dc=x", r"CN=ana\2C inc.,DC=X"),
            ("cn=a+ou=b,dc=x", "OU=B + CN=A,dc=x"),
            ("cn=a  b,dc=x", "cn=a b,dc=x"),
            ("cn=#0403616263,dc=x", "cn=abc,dc=x"),
            ("oid.2.5.4.3=a", "2.5.4.3=A"),
            (r"cn=M\C3\BCller", "CN=MÜLLER"),
            ("cn=a;dc=x", "cn=a,dc=x"),
        ] {
            assert_eq!(dn(one), dn(other), "{one} {other}");
        }
        // A space at an end is no part of a value unless it is escaped, and matching ignores it then, too.
        assert_eq!(dn(r"cn= a\ ,dc=x"), dn("cn=a,dc=x"));
        for (one, other) in [("cn=a,dc=x", "cn=a,dc=y"), ("cn=ab", "cn=a b"), ("cn=a,cn=b", "cn=a+cn=b")] {
            assert_ne!(dn(one), dn(other));
        }
        for wrong in ["", "ana", "cn", "=a", "cn=a,", "cn=a\\", "cn=a\\zz", "cn=a\"b", "c n=a", "cn=#", "cn=#0"] {
            assert!(DistinguishedName::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_lies_within_its_base() {
        assert!(dn("cn=a,ou=g,dc=x").is_within(&dn("OU=G,DC=x")) && dn("dc=x").is_within(&dn("dc=x")));
        assert!(!dn("cn=a,ou=gg,dc=x").is_within(&dn("ou=g,dc=x")) && !dn("dc=x").is_within(&dn("ou=g,dc=x")));
    }

    #[test]
    fn an_escaped_value_is_one_value_again() {
        for text in [" a ", "#a", "a,b", "a+b=c", "\"<>;\\", "a\0b", "ä#", ","] {
            let name = dn(&format!("uid={},dc=x", escape_dn_value(text)));
            assert_eq!(name.parts, [vec![("uid".to_owned(), fold(text.as_bytes()))], vec![("dc".into(), "x".into())]]);
        }
    }

    #[test]
    fn filters_are_read_as_rfc_4515_writes_them() {
        use LdapFilter::*;
        let equal = |a: &str, v: &str| Equal(a.into(), v.into());
        let substrings = |initial: Option<&str>, any: &[&str], last: Option<&str>| Substrings {
            attribute: "o".into(),
            initial: initial.map(str::to_owned),
            any: any.iter().map(|part| (*part).to_owned()).collect(),
            last: last.map(str::to_owned),
        };
        for (text, read) in [
            ("(cn=Babs Jensen)", equal("cn", "Babs Jensen")),
            ("(!(cn=Tim Howes))", Not(Box::new(equal("cn", "Tim Howes")))),
            (
                "(&(objectClass=Person)(|(sn=Jensen)(cn=B)))",
                And(vec![equal("objectClass", "Person"), Or(vec![equal("sn", "Jensen"), equal("cn", "B")])]),
            ),
            ("(o=univ*of*mich*)", substrings(Some("univ"), &["of", "mich"], None)),
            ("(o=*x)", substrings(None, &[], Some("x"))),
            ("(seeAlso=)", equal("seeAlso", "")),
            (
                "(o=Parens R Us \\28for all your parenthetical needs\\29)",
                equal("o", "Parens R Us (for all your parenthetical needs)"),
            ),
            ("(cn=*)", Present("cn".into())),
            ("(n>=3)", AtLeast("n".into(), "3".into())),
            ("(n<=3)", AtMost("n".into(), "3".into())),
            ("(n~=3)", Approximate("n".into(), "3".into())),
            (
                "(userAccountControl:1.2.840.113556.1.4.803:=2)",
                Rule {
                    rule: Some("1.2.840.113556.1.4.803".into()),
                    attribute: Some("userAccountControl".into()),
                    value: "2".into(),
                    of_name: false,
                },
            ),
            (
                "(:dn:2.4.6.8.10:=Dino)",
                Rule { rule: Some("2.4.6.8.10".into()), attribute: None, value: "Dino".into(), of_name: true },
            ),
        ] {
            assert_eq!(LdapFilter::parse(text).as_ref(), Ok(&read), "{text}");
        }
        let deep = "(!".repeat(20) + "(a=b)" + &")".repeat(20);
        for wrong in [
            "",
            "cn=a",
            "(cn=a",
            "(cn=a))",
            "(&)",
            "(cn)",
            "(=a)",
            "(cn=a\\2)",
            "(cn=a\\zz)",
            "(c n=a)",
            "(:=a)",
            "(o=a**b)",
            &deep,
        ] {
            assert!(LdapFilter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
