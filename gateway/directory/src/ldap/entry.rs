//! Entries, and the text of their values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idm_plan::{DirectoryServer, DistinguishedName, LdapSyntax};
use idm_trust::{DirectoryError, DirectoryErrorKind};
use ldap3_proto::proto::LdapSearchResultEntry;

/// An entry as a server sent it. Names of attributes are compared without regard to case (RFC 4512 §2.5).
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) dn: String,
    /// The server to which a reference led; `None`: one of the directory's own.
    pub(super) origin: Option<DirectoryServer>,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl From<LdapSearchResultEntry> for Entry {
    fn from(entry: LdapSearchResultEntry) -> Self {
        let attributes = entry.attributes.into_iter().map(|attribute| (attribute.atype, attribute.vals)).collect();
        Self { dn: entry.dn, origin: None, attributes }
    }
}

impl Entry {
    /// The name as it is compared.
    pub(super) fn name(&self) -> Result<DistinguishedName, DirectoryError> {
        DistinguishedName::parse(&self.dn).ok_or_else(|| unusable("an entry has a name that cannot be read".into()))
    }

    /// The values of an attribute; none if it is not there.
    pub(super) fn values(&self, attribute: &str) -> &[Vec<u8>] {
        let found = self.attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
        found.map(|(_, values)| values.as_slice()).unwrap_or_default()
    }

    /// The first value as text.
    pub(super) fn text(&self, attribute: &str) -> Result<Option<&str>, DirectoryError> {
        self.values(attribute).first().map(|value| text(attribute, value)).transpose()
    }

    /// The first value as a number.
    pub(super) fn number(&self, attribute: &str) -> Option<i64> {
        std::str::from_utf8(self.values(attribute).first()?).ok()?.trim().parse().ok()
    }

    /// Whether the first value is `TRUE`.
    pub(super) fn is_true(&self, attribute: &str) -> bool {
        self.values(attribute).first().is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
    }

    /// Active Directory's answer for an attribute with more values than it sends at once, `member;range=0-1499`.
    pub(super) fn take_range(&mut self, attribute: &str) -> Option<Range> {
        let position = self.attributes.iter().position(|(name, _)| range(name, attribute).is_some())?;
        let (name, values) = self.attributes.remove(position);
        range(&name, attribute).map(|(start, next)| Range { start, next, values })
    }

    /// Replaces the values of an attribute.
    pub(super) fn set(&mut self, attribute: &str, values: Vec<Vec<u8>>) {
        self.attributes.retain(|(name, _)| !name.eq_ignore_ascii_case(attribute));
        self.attributes.push((attribute.to_owned(), values));
    }
}

/// Some values of an attribute.
#[derive(Debug, PartialEq)]
pub(super) struct Range {
    /// The position of the first of them.
    pub(super) start: u32,
    /// The position behind the last of them; `None`: there are no more.
    pub(super) next: Option<u32>,
    pub(super) values: Vec<Vec<u8>>,
}

/// Start and end of the range that the name of an attribute describes.
fn range(name: &str, attribute: &str) -> Option<(u32, Option<u32>)> {
    let options = name.get(attribute.len()..)?;
    if !name.get(..attribute.len())?.eq_ignore_ascii_case(attribute) {
        return None;
    }
    let lower = options.to_ascii_lowercase();
    let (start, end) = lower.strip_prefix(";range=")?.split_once('-')?;
    let next = if end == "*" { None } else { Some(end.parse::<u32>().ok()?.checked_add(1)?) };
    Some((start.parse().ok()?, next))
}

fn unusable(detail: String) -> DirectoryError {
    DirectoryError::new(DirectoryErrorKind::Unusable, detail)
}

/// A value as text. The error names the attribute and never shows the value.
pub(super) fn text<'a>(attribute: &str, value: &'a [u8]) -> Result<&'a str, DirectoryError> {
    std::str::from_utf8(value).map_err(|_| {
        unusable(format!("the attribute `{attribute}` has a value that is not UTF-8; set its syntax, or name another"))
    })
}

/// A value read by a syntax. The error names the attribute and never shows the value.
pub(super) fn read(attribute: &str, syntax: LdapSyntax, value: &[u8]) -> Result<String, DirectoryError> {
    let read = match syntax {
        LdapSyntax::Text => return text(attribute, value).map(str::to_owned),
        LdapSyntax::Guid => guid(value),
        LdapSyntax::Sid => sid(value),
        LdapSyntax::Base64 => Some(STANDARD.encode(value)),
    };
    read.ok_or_else(|| unusable(format!("the attribute `{attribute}` has a value that is no {syntax:?}")))
}

/// The text of a GUID in Microsoft's byte order: its first three parts are little-endian (MS-DTYP §2.3.4.2).
pub(super) fn guid(octets: &[u8]) -> Option<String> {
    let [a, b, c, d, e, f, g, h, i, j, rest @ ..] = octets else { return None };
    let [k, l, m, n, o, p] = rest else { return None };
    let part = |octets: &[&u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    Some([part(&[d, c, b, a]), part(&[f, e]), part(&[h, g]), part(&[i, j]), part(&[k, l, m, n, o, p])].join("-"))
}

/// The octets of a GUID in Microsoft's byte order.
pub(super) fn guid_octets(text: &str) -> Option<Vec<u8>> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    if !lengths.eq([8, 4, 4, 4, 12]) || !text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = Vec::with_capacity(16);
    for (position, part) in parts.iter().enumerate() {
        let number = u64::from_str_radix(part, 16).ok()?.to_be_bytes();
        let mut bytes: Vec<u8> = number.into_iter().skip(8 - part.len() / 2).collect();
        if position < 3 {
            bytes.reverse();
        }
        octets.extend(bytes);
    }
    Some(octets)
}

/// The text of a security identifier (MS-DTYP §2.4.2.1): revision, number of subauthorities, authority in six octets
/// big-endian, and each subauthority in four little-endian.
pub(super) fn sid(octets: &[u8]) -> Option<String> {
    let [1, count, a, b, c, d, e, f, rest @ ..] = octets else { return None };
    if *count > 15 || rest.len() != usize::from(*count) * 4 {
        return None;
    }
    let authority = u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]);
    let mut text =
        if authority > u64::from(u32::MAX) { format!("S-1-0x{authority:012x}") } else { format!("S-1-{authority}") };
    for sub in rest.chunks_exact(4) {
        let sub: [u8; 4] = sub.try_into().ok()?;
        text.push_str(&format!("-{}", u32::from_le_bytes(sub)));
    }
    Some(text)
}

#[cfg(test)]
mod tests;
