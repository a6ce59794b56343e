//! Values as the places of a request hold them. A value that a place cannot hold as it is has no form there.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use idm_trust::Password;
use idm_types::Redacted;

use super::request::NotSent;

/// The value of a header that is read as exactly this text: readers drop spaces at both ends (RFC 9110 §5.5), and
/// control characters end a value or are read in different ways.
pub(super) fn header(text: &str) -> Option<HeaderValue> {
    let whole = !text.starts_with(' ') && !text.ends_with(' ') && !text.chars().any(char::is_control);
    whole.then(|| HeaderValue::from_bytes(text.as_bytes()).ok())?
}

/// The credential of RFC 7617 in UTF-8, which has no form for a user name with a colon, nor for control characters
/// (§2).
pub(super) fn basic(username: &str, password: &Password) -> Result<Redacted<String>, NotSent> {
    if username.contains(':') {
        return Err(NotSent::Username("Basic cannot hold a colon in it"));
    }
    if password.reveal().chars().any(char::is_control) {
        return Err(NotSent::Password("Basic cannot hold a control character in it"));
    }
    let pair = Redacted::new([username, ":", password.reveal()].concat());
    Ok(Redacted::new(["Basic ", &STANDARD.encode(pair.reveal())].concat()))
}

/// A segment of a path. Empty ones and dot segments have no form: a server may take `%2E%2E` for `..` and leave out the
/// segment before it (RFC 3986 §5.2.4, §6.2.2.2).
pub(super) fn segment(text: &str) -> Result<String, NotSent> {
    if ["", ".", ".."].contains(&text) {
        return Err(NotSent::Username("a path cannot hold it as a segment"));
    }
    Ok(encoded(text))
}

/// Percent-encoded but for unreserved characters (RFC 3986 §2.3), which is also right in a query and in a form.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
