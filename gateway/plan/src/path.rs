use std::borrow::Cow;

/// The reason why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is not absolute.
    #[error("the path must start with `/`")]
    NotAbsolute,
    /// `.` or `..`, plain or encoded: implementations disagree about when to resolve them.
    #[error("the path must not contain `.` or `..` segments")]
    DotSegment,
    /// `//`: some implementations merge slashes.
    #[error("the path must not contain empty segments (`//`)")]
    EmptySegment,
    /// A byte that is not of a path: `;`, `\`, `#`, `?`, what RFC 3986 does not allow, or none of visible ASCII.
    #[error("the path must not contain {}", NamedByte(*.0))]
    ForbiddenCharacter(u8),
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("every `%` in the path must be followed by two hexadecimal digits")]
    BrokenEscape,
    /// An escape that hides a character with a meaning: `/ \ . ; % ? #` or a control character.
    #[error("the path must not encode {}", NamedByte(*.0))]
    HiddenCharacter(u8),
    /// The decoded bytes are not UTF-8 (overlong forms included).
    #[error("the decoded path must be UTF-8")]
    NotUtf8,
}

/// A byte of a path by the name that a person knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedByte(pub u8);

impl std::fmt::Display for NamedByte {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b' ' => f.write_str("a space"),
            0x21..=0x7e => write!(f, "`{}`", char::from(self.0)),
            0x00..=0x1f | 0x7f => write!(f, "the control character {:#04x}", self.0),
            _ => f.write_str("characters beyond ASCII"),
        }
    }
}

/// The one spelling of a path that is matched, recorded and forwarded; or the reason why the path has none.
///
/// Escapes of unreserved characters are resolved, and the others are written in upper case (RFC 3986 §6.2.2). A path
/// that two implementations could understand differently is refused, not repaired. Idempotent: a canonical path is its
/// own canonical form.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let escaped = check_characters(bytes)?;
    let canonical = if escaped { Cow::Owned(resolve_escapes(path)?) } else { Cow::Borrowed(path) };
    check_segments(canonical.as_bytes())?;
    Ok(canonical)
}

/// Refuses dot segments, and empty segments except the last: byte by byte, because the caller chooses how many there
/// are.
fn check_segments(path: &[u8]) -> Result<(), PathError> {
    let (mut length, mut dots) = (0, 0);
    let is_dot_segment = |length: usize, dots: usize| dots == length && (length == 1 || length == 2);
    for byte in path.iter().skip(1) {
        if *byte != b'/' {
            length += 1;
            dots += usize::from(*byte == b'.');
            continue;
        }
        if length == 0 {
            return Err(PathError::EmptySegment);
        }
        if is_dot_segment(length, dots) {
            return Err(PathError::DotSegment);
        }
        (length, dots) = (0, 0);
    }
    if is_dot_segment(length, dots) { Err(PathError::DotSegment) } else { Ok(()) }
}

/// Refuses characters that never belong in a path. Returns whether there are escapes to resolve.
fn check_characters(bytes: &[u8]) -> Result<bool, PathError> {
    const ALLOWED: [bool; 256] = {
        let mut allowed = [false; 256];
        let mut byte = 0x21;
        while byte <= 0x7e {
            allowed[byte] = !matches!(
                byte as u8,
                b';' | b'\\' | b'#' | b'?' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}'
            );
            byte += 1;
        }
        allowed
    };
    // Without an early end the loop has no branches.
    let (mut allowed, mut escaped) = (true, false);
    for byte in bytes {
        allowed &= ALLOWED.get(usize::from(*byte)).is_some_and(|allowed| *allowed);
        escaped |= *byte == b'%';
    }
    if allowed {
        return Ok(escaped);
    }
    let is_forbidden = |byte: &&u8| !ALLOWED.get(usize::from(**byte)).is_some_and(|allowed| *allowed);
    Err(PathError::ForbiddenCharacter(bytes.iter().find(is_forbidden).copied().unwrap_or_default()))
}

fn resolve_escapes(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(PathError::BrokenEscape);
        };
        let value = (high << 4 | low) as u8;
        match value {
            b'/' | b'\\' | b'.' | b';' | b'%' | b'?' | b'#' | 0x00..=0x1f | 0x7f => {
                return Err(PathError::HiddenCharacter(value));
            }
            b'-' | b'_' | b'~' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(value)),
            _ => {
                let digit = |four| char::from_digit(four, 16).unwrap_or('0').to_ascii_uppercase();
                out.extend(['%', digit(high), digit(low)]);
            }
        }
        decoded.push(value);
    }
    std::str::from_utf8(&decoded).map_err(|_| PathError::NotUtf8)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_byte_that_is_there() {
        let said = |path: &str| canonical_path(path).unwrap_err().to_string();
        assert_eq!(said("/d/{a}"), "the path must not contain `{`");
        assert_eq!(said("/a b;c"), "the path must not contain a space");
        assert_eq!(said("/a\u{1}"), "the path must not contain the control character 0x01");
        assert_eq!(said("/\u{e9}"), "the path must not contain characters beyond ASCII");
        assert_eq!(said("/a%2Fb"), "the path must not encode `/`");
        assert_eq!(said("/a%7f"), "the path must not encode the control character 0x7f");
    }

    #[test]
    fn plain_paths_are_their_own_canonical_form() {
        for path in [
            "/",
            "/orders",
            "/orders/",
            "/a/b.c/d-e_f~g",
            "/a%20b",
            "/caf%C3%A9",
            "/a:b@c!$&'()*+,=",
            "/...",
            "/.well-known/x",
        ] {
            assert_eq!(canonical_path(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn escapes_have_one_spelling() {
        assert_eq!(canonical_path("/%6frders").as_deref(), Ok("/orders"));
        assert_eq!(canonical_path("/caf%c3%a9%7E").as_deref(), Ok("/caf%C3%A9~"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use PathError::*;
        for (path, error) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("orders", NotAbsolute),
            ("/a/../b", DotSegment),
            ("/a/..", DotSegment),
            ("/./a", DotSegment),
            ("/a//b", EmptySegment),
            ("//a", EmptySegment),
            ("//", EmptySegment),
            ("/a;x", ForbiddenCharacter(b';')),
            ("/d/{a}", ForbiddenCharacter(b'{')),
            ("/x/a|b", ForbiddenCharacter(b'|')),
            ("/a\\b", ForbiddenCharacter(b'\\')),
            ("/a#b", ForbiddenCharacter(b'#')),
            ("/a b", ForbiddenCharacter(b' ')),
            ("/a\u{0}", ForbiddenCharacter(0)),
            ("/é", ForbiddenCharacter(0xc3)),
            ("/%", BrokenEscape),
            ("/%2", BrokenEscape),
            ("/%zz", BrokenEscape),
            ("/%2e%2e/a", HiddenCharacter(b'.')),
            ("/%2E/a", HiddenCharacter(b'.')),
            ("/a%2fb", HiddenCharacter(b'/')),
            ("/a%5cb", HiddenCharacter(b'\\')),
            ("/a%252fb", HiddenCharacter(b'%')),
            ("/a%00", HiddenCharacter(0)),
            ("/a%0d%0a", HiddenCharacter(b'\r')),
            ("/a%3bx", HiddenCharacter(b';')),
            ("/a%3fx", HiddenCharacter(b'?')),
            ("/%c0%af", NotUtf8),
            ("/%e0%80%af", NotUtf8),
            ("/%ff", NotUtf8),
        ] {
            assert_eq!(canonical_path(path), Err(error), "{path}");
        }
    }
}
