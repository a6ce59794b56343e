use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The reason why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is not absolute.
    #[error("the path must start with `/`")]
    NotAbsolute,
    /// `.` or `..`, plain or encoded: implementations disagree about when to resolve them.
    #[error("the path must not contain `.` or `..` segments")]
    DotSegment,
    /// A segment that is empty once an encoded slash is read as a slash.
    #[error("the path must not contain empty segments (`//`)")]
    EmptySegment,
    /// A byte that is not of a path: `\`, `#`, `?`, what RFC 3986 does not allow, none of visible ASCII, or `;` before
    /// the last segment.
    #[error("the path must not contain {}", NamedByte(*.0))]
    ForbiddenCharacter(u8),
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("every `%` in the path must be followed by two hexadecimal digits")]
    BrokenEscape,
    /// An escape that hides a character with a meaning: `\ . ;` or a control character.
    #[error("the path must not encode {}", NamedByte(*.0))]
    HiddenCharacter(u8),
    /// An escape inside an escape, `%252F` excepted.
    #[error("the path must not contain an escape inside an escape (`%25` before two hexadecimal digits)")]
    DoubleEscape,
    /// An escape in parameters.
    #[error("the path must not have escapes in the parameters behind `;`")]
    EscapedParameters,
    /// The decoded bytes are not UTF-8 (overlong forms included).
    #[error("the decoded path must be UTF-8")]
    NotUtf8,
    /// A form that is taken only where a policy says so.
    #[error("the path must not contain {0}")]
    Form(PathForm),
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

/// A form of paths that not all servers read alike. A policy may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathForm {
    /// `%2F`, a slash inside a segment.
    EncodedSlash,
    /// `%25`, a percent sign.
    EncodedPercent,
    /// `%3F`, a question mark that begins no query.
    EncodedQuestionMark,
    /// `%23`, a number sign that begins no fragment.
    EncodedHash,
    /// `;` and what follows it in the last segment.
    Parameters,
    /// `//`, which becomes `/`.
    EmptySegments,
}

impl PathForm {
    /// Every form.
    pub const ALL: [Self; 6] = [
        Self::EncodedSlash,
        Self::EncodedPercent,
        Self::EncodedQuestionMark,
        Self::EncodedHash,
        Self::Parameters,
        Self::EmptySegments,
    ];

    /// The name in a policy.
    pub const fn name(self) -> &'static str {
        match self {
            PathForm::EncodedSlash => "EncodedSlash",
            PathForm::EncodedPercent => "EncodedPercent",
            PathForm::EncodedQuestionMark => "EncodedQuestionMark",
            PathForm::EncodedHash => "EncodedHash",
            PathForm::Parameters => "Parameters",
            PathForm::EmptySegments => "EmptySegments",
        }
    }
}

impl std::fmt::Display for PathForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathForm::EncodedSlash => "`/` in an escape (`%2F`)",
            PathForm::EncodedPercent => "`%` in an escape (`%25`)",
            PathForm::EncodedQuestionMark => "`?` in an escape (`%3F`)",
            PathForm::EncodedHash => "`#` in an escape (`%23`)",
            PathForm::Parameters => "`;` with parameters",
            PathForm::EmptySegments => "empty segments (`//`)",
        })
    }
}

/// A set of forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathForms(u8);

impl PathForms {
    /// Adds a form.
    pub fn insert(&mut self, form: PathForm) {
        self.0 |= 1 << form as u8;
    }

    /// Whether it is there.
    pub fn contains(self, form: PathForm) -> bool {
        self.0 & (1 << form as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first form that is not among `others`.
    pub fn first_outside(self, others: Self) -> Option<PathForm> {
        PathForm::ALL.into_iter().find(|form| self.contains(*form) && !others.contains(*form))
    }
}

impl FromIterator<PathForm> for PathForms {
    fn from_iter<I: IntoIterator<Item = PathForm>>(forms: I) -> Self {
        let mut all = Self::default();
        forms.into_iter().for_each(|form| all.insert(form));
        all
    }
}

/// A path in its canonical spelling, with the forms in it that only some policies take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPath<'p> {
    /// The path as it is forwarded: the decided part, and parameters.
    pub text: Cow<'p, str>,
    /// The length of the part that is matched, recorded and shown to rules.
    pub decided: usize,
    /// The forms in it.
    pub forms: PathForms,
}

impl ReadPath<'_> {
    /// The part that is matched, recorded and shown to rules: without parameters.
    pub fn decided(&self) -> &str {
        self.text.get(..self.decided).unwrap_or(&self.text)
    }

    /// The other paths that a server could take it for: one that decodes before it splits at slashes, that decodes
    /// twice, or that finds a query in what it decoded. A path that would have dot segments or empty ones there is
    /// refused.
    pub fn other_readings(&self) -> Result<Vec<String>, PathError> {
        let mut readings = vec![self.decided().to_owned()];
        let once = |text: &str| text.replace("%2F", "/");
        let twice = |text: &str| once(text).replace("%252F", "/").replace("%252f", "/");
        let until = |text: &str, escape: &str| text.split(escape).next().unwrap_or_default().to_owned();
        let cut = |text: &str| until(&until(text, "%3F"), "%23");
        for read in
            [&once as &dyn Fn(&str) -> String, &twice, &cut, &|text| cut(&once(text)), &|text| cut(&twice(text))]
        {
            let reading = read(self.decided());
            if !readings.contains(&reading) {
                check_segments(reading.as_bytes())?;
                readings.push(reading);
            }
        }
        readings.remove(0);
        Ok(readings)
    }
}

/// The one spelling of a path that has one reading only; or the reason why it has none. For paths in a configuration.
///
/// Idempotent: a canonical path is its own canonical form.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    if let Some(byte) = path.bytes().find(|byte| is_escaped_only(*byte)) {
        return Err(PathError::ForbiddenCharacter(byte));
    }
    let ReadPath { text, forms, .. } = read_path(path)?;
    match forms.first_outside(PathForms::default()) {
        None => Ok(text),
        Some(form) => Err(PathError::Form(form)),
    }
}

/// The one spelling of a caller's path that is matched, recorded and forwarded; or the reason why the path has none.
///
/// Escapes of unreserved characters are resolved, the others are written in upper case (RFC 3986 §6.2.2), what RFC 3986
/// does not allow in a path and no server takes for a separator is escaped (`{` is `%7B`), and empty segments are left
/// out. What two servers could understand differently is refused, not repaired, or is among the forms. Idempotent but
/// for the form `EmptySegments`, which the canonical path does not have any more.
pub fn read_path(path: &str) -> Result<ReadPath<'_>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(bytes) && check_segments(bytes).is_ok() {
        return Ok(ReadPath { text: Cow::Borrowed(path), decided: path.len(), forms: PathForms::default() });
    }
    let mut forms = PathForms::default();
    let mut text = resolve(path, &mut forms)?;
    check_segments(text.as_bytes())?;
    check_double_escapes(&text, &mut forms)?;
    let decided = text.len();
    if let Some((_, parameters)) = path.split_once(';') {
        forms.insert(PathForm::Parameters);
        text.push(';');
        text.push_str(checked_parameters(parameters)?);
    }
    let text = if text == path { Cow::Borrowed(path) } else { Cow::Owned(text) };
    Ok(ReadPath { text, decided, forms })
}

/// Parameters are in the last segment, and have no escapes.
fn checked_parameters(parameters: &str) -> Result<&str, PathError> {
    match parameters.bytes().find(|byte| *byte != b';' && (*byte == b'/' || *byte == b'%' || !is_allowed(*byte))) {
        None => Ok(parameters),
        Some(b'/') => Err(PathError::ForbiddenCharacter(b';')),
        Some(b'%') => Err(PathError::EscapedParameters),
        Some(byte) => Err(PathError::ForbiddenCharacter(byte)),
    }
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

/// Characters that RFC 3986 does not allow in a path, that clients send all the same, and that separate nothing.
const fn is_escaped_only(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

const fn is_allowed(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && !matches!(byte, b';' | b'\\' | b'#' | b'?') && !is_escaped_only(byte)
}

/// Whether every character may stand in a path, and none is an escape.
fn is_plain(bytes: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            plain[byte] = is_allowed(byte as u8) && byte as u8 != b'%';
            byte += 1;
        }
        plain
    };
    // Without an early end the loop has no branches.
    let mut plain = true;
    for byte in bytes {
        plain &= PLAIN.get(usize::from(*byte)).is_some_and(|plain| *plain);
    }
    plain
}

/// The canonical spelling of the path up to its parameters.
fn resolve(path: &str, forms: &mut PathForms) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(PathError::BrokenEscape);
                };
                let value = (high << 4 | low) as u8;
                write_escaped(value, &mut out, forms)?;
                decoded.push(value);
            }
            b';' => break,
            b'/' if out.ends_with('/') => forms.insert(PathForm::EmptySegments),
            _ if is_allowed(byte) => {
                out.push(char::from(byte));
                decoded.push(byte);
            }
            _ if is_escaped_only(byte) => push_escape(byte, &mut out),
            _ => return Err(PathError::ForbiddenCharacter(byte)),
        }
    }
    std::str::from_utf8(&decoded).map_err(|_| PathError::NotUtf8)?;
    Ok(out)
}

/// Writes a byte that came as an escape.
fn write_escaped(value: u8, out: &mut String, forms: &mut PathForms) -> Result<(), PathError> {
    let form = match value {
        b'\\' | b'.' | b';' | 0x00..=0x1f | 0x7f => return Err(PathError::HiddenCharacter(value)),
        b'-' | b'_' | b'~' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
            out.push(char::from(value));
            return Ok(());
        }
        b'/' => Some(PathForm::EncodedSlash),
        b'%' => Some(PathForm::EncodedPercent),
        b'?' => Some(PathForm::EncodedQuestionMark),
        b'#' => Some(PathForm::EncodedHash),
        _ => None,
    };
    form.into_iter().for_each(|form| forms.insert(form));
    push_escape(value, out);
    Ok(())
}

fn push_escape(value: u8, out: &mut String) {
    let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or('0').to_ascii_uppercase();
    out.extend(['%', digit(value >> 4), digit(value & 15)]);
}

/// Refuses what a second decoding would find: any escape but that of a slash, which then is an encoded slash, too.
fn check_double_escapes(canonical: &str, forms: &mut PathForms) -> Result<(), PathError> {
    for (_, rest) in canonical.match_indices("%25").map(|(at, escape)| (at, canonical.get(at + escape.len()..))) {
        let digits = rest.and_then(|rest| rest.get(..2)).unwrap_or_default();
        if digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            if !digits.eq_ignore_ascii_case("2f") {
                return Err(PathError::DoubleEscape);
            }
            forms.insert(PathForm::EncodedSlash);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_byte_that_is_there() {
        let said = |path: &str| read_path(path).unwrap_err().to_string();
        assert_eq!(said("/a b;c"), "the path must not contain a space");
        assert_eq!(said("/a\u{1}"), "the path must not contain the control character 0x01");
        assert_eq!(said("/\u{e9}"), "the path must not contain characters beyond ASCII");
        assert_eq!(said("/a;b/c"), "the path must not contain `;`");
        assert_eq!(said("/a%7f"), "the path must not encode the control character 0x7f");
        let said = |path: &str| canonical_path(path).unwrap_err().to_string();
        assert_eq!(said("/d/{a}"), "the path must not contain `{`");
        assert_eq!(said("/a%2Fb"), "the path must not contain `/` in an escape (`%2F`)");
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
            assert!(matches!(canonical_path(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn escapes_have_one_spelling() {
        assert_eq!(canonical_path("/%6frders").as_deref(), Ok("/orders"));
        assert_eq!(canonical_path("/caf%c3%a9%7E").as_deref(), Ok("/caf%C3%A9~"));
        let raw = read_path("/d/{a}|b^`\"<>").unwrap();
        assert_eq!((raw.decided(), raw.forms.is_empty()), ("/d/%7Ba%7D%7Cb%5E%60%22%3C%3E", true));
        assert_eq!(canonical_path("/d/%7ba%7d%7cb").as_deref(), Ok("/d/%7Ba%7D%7Cb"));
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
            ("/a/..;x", DotSegment),
            ("/a/..;/b", DotSegment),
            ("/a;x/b", ForbiddenCharacter(b';')),
            ("/a;x=%2F", EscapedParameters),
            ("/a;x\\", ForbiddenCharacter(b'\\')),
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
            ("/a%5cb", HiddenCharacter(b'\\')),
            ("/a%00", HiddenCharacter(0)),
            ("/a%0d%0a", HiddenCharacter(b'\r')),
            ("/a%3bx", HiddenCharacter(b';')),
            ("/a%252e", DoubleEscape),
            ("/a%25%32%65", DoubleEscape),
            ("/a%2525", DoubleEscape),
            ("/a%2561", DoubleEscape),
            ("/%c0%af", NotUtf8),
            ("/%e0%80%af", NotUtf8),
            ("/%ff", NotUtf8),
        ] {
            assert_eq!(read_path(path).map(|read| read.text.into_owned()), Err(error), "{path}");
            assert!(canonical_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn forms_are_named_and_have_one_spelling() {
        use PathForm::*;
        for (path, text, decided, forms) in [
            ("/a%2fb", "/a%2Fb", "/a%2Fb", &[EncodedSlash][..]),
            ("/a%3fb", "/a%3Fb", "/a%3Fb", &[EncodedQuestionMark]),
            ("/a%23b", "/a%23b", "/a%23b", &[EncodedHash]),
            ("/100%25", "/100%25", "/100%25", &[EncodedPercent]),
            ("/a%252Fb", "/a%252Fb", "/a%252Fb", &[EncodedSlash, EncodedPercent]),
            ("/a%25%32%46b", "/a%252Fb", "/a%252Fb", &[EncodedSlash, EncodedPercent]),
            ("//a///b//", "/a/b/", "/a/b/", &[EmptySegments]),
            ("/a;jsessionid=1.x!y", "/a;jsessionid=1.x!y", "/a", &[Parameters]),
            ("/a//;x;y", "/a/;x;y", "/a/", &[Parameters, EmptySegments]),
        ] {
            let read = read_path(path).unwrap();
            assert_eq!((&*read.text, read.decided()), (text, decided), "{path}");
            assert_eq!(read.forms, forms.iter().copied().collect(), "{path}");
            assert_eq!(canonical_path(path), Err(PathError::Form(forms[0])), "{path}");
            let again = read_path(&read.text).unwrap();
            assert_eq!((again.text, again.decided), (read.text.clone(), read.decided), "{path}");
        }
    }

    /// Every path of up to four of these parts: what is canonical is read as itself, and nothing hides in it.
    #[test]
    fn a_canonical_path_is_its_own_canonical_form() {
        let parts = [
            "/", "a", ".", "..", "%2F", "%252f", "%25", "2F", "%2e", "%3f", "%23", ";", ";a=.", "{", "%61", "%32",
            "\\", "%",
        ];
        let mut all = vec!["/".to_owned()];
        for _ in 0..4 {
            let longer: Vec<String> =
                all.iter().flat_map(|path| parts.iter().map(move |part| format!("{path}{part}"))).collect();
            for read in longer.iter().filter_map(|path| read_path(path).ok()) {
                let again = read_path(&read.text).unwrap();
                assert_eq!((&again.text, again.decided), (&read.text, read.decided));
                assert_eq!(again.forms.first_outside(read.forms), None, "{}", read.text);
                let readings = read.other_readings().into_iter().flatten();
                for path in readings.chain([read.decided().to_owned()]) {
                    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
                    assert!(!path.contains([';', '\\', '{']), "{path}");
                    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path}");
                }
                let plain = canonical_path(&read.text);
                assert_eq!(plain.is_ok(), again.forms.is_empty(), "{}", read.text);
            }
            all = longer;
        }
    }

    #[test]
    fn other_readings_are_all_that_a_server_could_take_a_path_for() {
        let of = |path: &str| read_path(path).unwrap().other_readings();
        assert_eq!(of("/a%2Fb"), Ok(vec!["/a/b".into()]));
        assert_eq!(of("/a%2Fb%252fc"), Ok(vec!["/a/b%252fc".into(), "/a/b/c".into()]));
        assert_eq!(of("/a%3Fb"), Ok(vec!["/a".into()]));
        assert_eq!(of("/a%2Fb%23c"), Ok(vec!["/a/b%23c".into(), "/a%2Fb".into(), "/a/b".into()]));
        assert_eq!(of("/a;x"), Ok(vec![]));
        for path in ["/a/..%2Fb", "/..%252Fb", "/a/.%2F", "/a/..%3Fx", "/..%23"] {
            assert_eq!(of(path), Err(PathError::DotSegment), "{path}");
        }
        for path in ["/%2Fa", "/a%2F%2Fb", "/a%2F/b", "/%252Fa"] {
            assert_eq!(of(path), Err(PathError::EmptySegment), "{path}");
        }
    }
}
