//! One spelling of host and path; a request that can be read in two ways is refused.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, Version, header};
use idm_plan::{PathForms, ReadPath, read_path};
use idm_types::{Reason, Refusal};

/// The parts of a request that routing, rules, audit and forwarding agree on.
#[derive(Debug)]
pub(crate) struct Canonical {
    /// Lower case, without port and trailing dot.
    pub(crate) host: String,
    /// The host with the port that the caller named, for the upstream's `Host`.
    pub(crate) authority: HeaderValue,
    /// Canonical path, with its parameters, and the query as it came.
    pub(crate) target: PathAndQuery,
    /// The length of the path without parameters.
    decided: usize,
    /// The forms in it that only some policies take.
    pub(crate) forms: PathForms,
}

impl Canonical {
    /// The path that is matched, recorded and shown to rules: without parameters.
    pub(crate) fn path(&self) -> &str {
        let path = self.target.path();
        path.get(..self.decided).unwrap_or(path)
    }

    /// The path as it was read.
    pub(crate) fn read_path(&self) -> ReadPath<'_> {
        ReadPath { text: Cow::Borrowed(self.target.path()), decided: self.decided, forms: self.forms }
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Reads host and path; the error describes the fault, for the audit.
    pub(crate) fn of(method: &http::Method, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Self, Refusal> {
        // TRACE would show the caller the headers that the gateway adds for the upstream (RFC 9110 §9.3.8); CONNECT is
        // for forward proxies.
        if method == http::Method::CONNECT || method == http::Method::TRACE {
            return Err(Refusal::new(Reason::MethodNotAllowed, "TRACE and CONNECT are never forwarded"));
        }
        let given = authority(uri, headers, version)?;
        let (host, port) = canonical_host(given)?;
        let authority = match (headers.get(header::HOST), port) {
            // Nearly always the path arrived in its canonical spelling, and is shared instead of copied.
            (Some(sent), None) if sent.as_bytes() == host.as_bytes() => sent.clone(),
            (_, None) => header_value(&host)?,
            (_, Some(port)) => header_value(&format!("{host}:{port}"))?,
        };
        let asked =
            uri.path_and_query().ok_or_else(|| Refusal::new(Reason::AmbiguousPath, "the request has no path"))?;
        let ReadPath { text, decided, forms } =
            read_path(asked.path()).map_err(|error| Refusal::new(Reason::AmbiguousPath, path_problem(error)))?;
        let target = match text {
            Cow::Borrowed(_) => asked.clone(),
            Cow::Owned(path) => {
                let text = asked.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
                text.parse().map_err(|_| Refusal::new(Reason::AmbiguousPath, "the path has no canonical form"))?
            }
        };
        Ok(Self { host, authority, target, decided, forms })
    }
}

fn path_problem(error: idm_plan::PathError) -> Cow<'static, str> {
    use idm_plan::{NamedByte, PathError::*};
    match error {
        NotAbsolute => "the path does not start with `/`",
        DotSegment => "the path has `.` or `..` segments",
        EmptySegment => "the path has empty segments (`//`)",
        ForbiddenCharacter(b';') => "the path has `;` before its last segment",
        ForbiddenCharacter(byte) => return format!("the path has {}", NamedByte(byte)).into(),
        BrokenEscape => "the path has a broken `%` escape",
        HiddenCharacter(byte) => return format!("the path has {} in an escape", NamedByte(byte)).into(),
        DoubleEscape => "the path has an escape inside an escape (`%25` before two hexadecimal digits)",
        EscapedParameters => "the path has escapes in the parameters behind `;`",
        NotUtf8 => "the path does not decode to UTF-8",
        Form(form) => return format!("the path has {form}").into(),
    }
    .into()
}

/// The single authority that a request names. `Host`, `:authority` and an absolute target must agree.
pub fn authority<'r>(uri: &'r Uri, headers: &'r HeaderMap, version: Version) -> Result<&'r str, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::new(Reason::InvalidHost, "there are several Host headers")),
        (Some(value), None) => {
            Some(value.to_str().map_err(|_| Refusal::new(Reason::InvalidHost, "the Host header is not ASCII"))?)
        }
        (None, None) => None,
    };
    match (uri.authority().map(http::uri::Authority::as_str), host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            Err(Refusal::new(Reason::InvalidHost, "target and Host header name different hosts"))
        }
        (Some(target), _) => Ok(target),
        (None, Some(host)) => Ok(host),
        (None, None) if version < Version::HTTP_11 => {
            Err(Refusal::new(Reason::InvalidHost, "HTTP/1.0 requests must carry a Host header here"))
        }
        (None, None) => Err(Refusal::new(Reason::InvalidHost, "there is no Host header")),
    }
}

fn header_value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|_| Refusal::new(Reason::InvalidHost, "the host is malformed"))
}

/// The host in lower case without a trailing dot, and the port where one is named.
fn canonical_host(authority: &str) -> Result<(String, Option<u16>), Refusal> {
    let malformed = || Refusal::new(Reason::InvalidHost, "the host is malformed");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or_else(malformed)?;
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| malformed())?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(malformed)?) };
            (authority.get(..inside.len() + 2).ok_or_else(malformed)?, port)
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().map_err(|_| malformed())?),
        Some(_) => return Err(malformed()),
        None => None,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if host.is_empty()
        || host.len() > 253
        || host.contains("..")
        || host.starts_with('.')
        || host.ends_with('.')
        || !(host.starts_with('[') || host.bytes().all(plain))
    {
        return Err(malformed());
    }
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Option<String> {
        canonical_host(text).ok().map(|(host, _)| host)
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (text, canonical) in [
            ("A.Example", "a.example"),
            ("a.example.", "a.example"),
            ("a.example:8080", "a.example"),
            ("[::1]:80", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(host(text).as_deref(), Some(canonical), "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            "a.example..",
            "a:b",
            "a:",
            "a:99999",
            "a:+80",
            "user@a",
            "a b",
            "a/b",
            "[::1",
            "[x]",
            "é",
            ":80",
        ] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn contradictory_hosts_are_refused() {
        let headers = |hosts: &[&str]| HeaderMap::from_iter(hosts.iter().map(|h| (header::HOST, h.parse().unwrap())));
        let read = |uri: &str, hosts: &[&str]| {
            Canonical::of(&http::Method::GET, &uri.parse().unwrap(), &headers(hosts), Version::HTTP_11)
                .map(|c| c.host)
                .map_err(|e| e.reason)
        };
        assert_eq!(read("/", &["a"]), Ok("a".into()));
        assert_eq!(read("http://a/", &["A"]), Ok("a".into()));
        assert_eq!(read("http://a/", &["b"]), Err(Reason::InvalidHost));
        assert_eq!(read("/", &["a", "a"]), Err(Reason::InvalidHost));
        assert_eq!(read("/", &[]), Err(Reason::InvalidHost));
    }

    #[test]
    fn the_authority_for_the_upstream_is_the_host_that_was_judged() {
        for (sent, forwarded) in
            [("a.example", "a.example"), ("A.Example.", "a.example"), ("A:080", "a:80"), ("[::1]:8080", "[::1]:8080")]
        {
            let headers = HeaderMap::from_iter([(header::HOST, sent.parse().unwrap())]);
            let canonical = Canonical::of(&http::Method::GET, &"/".parse().unwrap(), &headers, Version::HTTP_11);
            assert_eq!(canonical.unwrap().authority, forwarded);
        }
    }

    #[test]
    fn what_is_matched_is_what_is_forwarded() {
        let headers = HeaderMap::from_iter([(header::HOST, "a".parse().unwrap())]);
        let canonical =
            Canonical::of(&http::Method::GET, &"/%6frders?x=%2e%2e/".parse().unwrap(), &headers, Version::HTTP_11)
                .unwrap();
        assert_eq!((canonical.path(), canonical.target.as_str()), ("/orders", "/orders?x=%2e%2e/"));
    }
}
