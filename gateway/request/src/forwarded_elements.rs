//! The grammar of `Forwarded` (RFC 7239 §4): elements separated by `,`, pairs by `;`, values that may be quoted.
//!
//! A line is read as a whole and refused as a whole: a quote that one side sees and the other does not would move the
//! border between elements.

use std::borrow::Cow;

/// The parts of an element that are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element<'h> {
    /// `for`, without its quotes.
    pub(crate) node: Option<Cow<'h, [u8]>>,
    /// `proto`, without its quotes.
    pub(crate) proto: Option<Cow<'h, [u8]>>,
}

/// The elements of a line, in their order.
pub(crate) fn elements(line: &[u8]) -> Result<Vec<Element<'_>>, &'static str> {
    let mut all = Vec::new();
    let mut rest = line;
    loop {
        let mut element = Element::default();
        loop {
            rest = rest.trim_ascii_start();
            rest = pair(rest, &mut element)?.trim_ascii_start();
            match rest.split_first() {
                Some((b';', after)) => rest = after,
                Some((b',', _)) | None => break,
                Some(_) => return Err("`Forwarded` is not written by its grammar"),
            }
        }
        all.push(element);
        match rest.split_first() {
            Some((_, after)) => rest = after,
            None => return Ok(all),
        }
    }
}

/// Reads one pair and returns what follows it.
fn pair<'h>(text: &'h [u8], element: &mut Element<'h>) -> Result<&'h [u8], &'static str> {
    const MALFORMED: &str = "`Forwarded` is not written by its grammar";
    let (name, rest) = token(text);
    let rest = rest.strip_prefix(b"=").filter(|_| !name.is_empty()).ok_or(MALFORMED)?;
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(quoted) => unquoted(quoted).ok_or(MALFORMED)?,
        None => {
            let (value, rest) = token(rest);
            if value.is_empty() {
                return Err(MALFORMED);
            }
            (Cow::Borrowed(value), rest)
        }
    };
    let place = match name {
        name if name.eq_ignore_ascii_case(b"for") => &mut element.node,
        name if name.eq_ignore_ascii_case(b"proto") => &mut element.proto,
        _ => return Ok(rest),
    };
    if place.replace(value).is_some() {
        return Err("an element of `Forwarded` has a parameter twice");
    }
    Ok(rest)
}

/// A token (RFC 9110 §5.6.2) and what follows it.
fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    text.split_at(text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len()))
}

/// The text before the closing quote, without its escapes, and the text after it.
fn unquoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let (plain, rest) = text.split_at(end);
    if let Some(rest) = rest.strip_prefix(b"\"") {
        return Some((Cow::Borrowed(plain), rest));
    }
    let mut value = plain.to_vec();
    let mut rest = rest.iter();
    loop {
        match rest.next()? {
            b'"' => return Some((Cow::Owned(value), rest.as_slice())),
            b'\\' => value.push(*rest.next()?),
            byte => value.push(*byte),
        }
    }
}
