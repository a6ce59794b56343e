//! The checks of every request before anything else looks at it, and the headers that every answer carries.
//!
//! A browser is a deputy of every page that it shows. So a request counts only at a name of this server (DNS
//! rebinding), from this server's own pages (cross-site requests), and where it changes something also with a header
//! and a type of content that a form or a plain script of another site cannot send.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

use crate::failure::{Code, Failure};

/// The policy of contents: the application's own files and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                       img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
                                       require-trusted-types-for 'script'; trusted-types 'none'";
/// The header that a page of another site cannot send without being asked.
const OWN_HEADER: &str = "x-idm-manager";

/// The session's cookie.
const COOKIE: &str = "idm_manager";

/// How browsers reach this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS, which ends here or at a proxy in front.
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The names under which this server may be asked.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    allowed: Vec<String>,
    scheme: Scheme,
}

impl Names {
    /// The names of this machine for itself, and these.
    pub(crate) fn new(more: &[String], scheme: Scheme) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let more = more.iter().map(|name| name.to_ascii_lowercase());
        Self { allowed: own.into_iter().chain(more).collect(), scheme }
    }

    /// Whether the request came to a name of this server.
    pub(crate) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
        let misdirected = || Failure::new(Code::Misdirected, "this server has another name: see --allowed-host");
        let host = one(headers, &header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()));
        let host = host.ok_or_else(misdirected)?.to_ascii_lowercase();
        let is_port = |text: &str| text.is_empty() || text.bytes().all(|b| b.is_ascii_digit());
        let is_it = |name: &String| match host.strip_prefix(name.as_str()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix(':').is_some_and(is_port),
            None => false,
        };
        self.allowed.iter().any(is_it).then_some(()).ok_or_else(misdirected)
    }

    /// Whether a page of this server asks, or no page at all.
    pub(crate) fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
        let foreign = || Failure::new(Code::Forbidden, "the request comes from a page of another origin");
        if let Some(origin) = headers.get(header::ORIGIN) {
            let host = one(headers, &header::HOST).unwrap_or_default();
            let own = format!("{}://{host}", self.scheme.name());
            if !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()) {
                return Err(foreign());
            }
        }
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if !matches!(site, None | Some(b"same-origin" | b"none")) {
            return Err(foreign());
        }
        if method == Method::GET {
            return Ok(());
        }
        let kind = one(headers, &header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Failure::new(Code::UnsupportedMediaType, "send `Content-Type: application/json`"));
        }
        if headers.get(OWN_HEADER).map(HeaderValue::as_bytes) != Some(b"1") {
            return Err(Failure::new(Code::Forbidden, "send the header `X-Idm-Manager: 1`"));
        }
        Ok(())
    }

    /// The header that sets the cookie, or removes it. Over plain http the browser sends it to other ports of this
    /// machine too, so that it is bound to the API's path, where nothing else is likely to be.
    pub(crate) fn set_cookie(&self, value: Option<&str>) -> String {
        let age = if value.is_none() { "; Max-Age=0" } else { "" };
        let secure = if self.scheme == Scheme::Https { "; Secure" } else { "" };
        format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/api/v1{secure}{age}", value.unwrap_or_default())
    }

    /// Adds to an answer what every answer carries.
    pub(crate) fn protect(&self, headers: &mut HeaderMap, is_immutable: bool) {
        protect(headers, is_immutable);
        if self.scheme == Scheme::Https {
            let year = HeaderValue::from_static("max-age=31536000");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
    }
}

/// The cookie of the request; two of them are none.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let named = |pair: &'h str| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    };
    let mut found = lines.flat_map(|line| line.split(';')).filter_map(named);
    found.next().filter(|_| found.next().is_none())
}

fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn protect(headers: &mut HeaderMap, is_immutable: bool) {
    let cache = if is_immutable { "public, max-age=31536000, immutable" } else { "no-store" };
    for (name, value) in [
        (header::CACHE_CONTROL, cache),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        map
    }

    #[test]
    fn only_names_of_this_server_are_answered() {
        let names = Names::new(&["idm.corp.example".into()], Scheme::Http);
        let host = |host: &str| names.check_host(&headers(&[("host", host)]), &Uri::from_static("/"));
        for good in ["localhost", "LOCALHOST:8003", "127.0.0.1:1", "[::1]:8003", "idm.corp.example", "localhost:"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8003", "localhost:x", "127.0.0.2", ""] {
            assert_eq!(host(bad).expect_err(bad).code, Code::Misdirected);
        }
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(names.check_host(&twice, &Uri::from_static("/")).is_err());
        assert!(names.check_host(&HeaderMap::new(), &Uri::from_static("/")).is_err());
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let own = [("host", "localhost:1"), ("content-type", "application/json"), ("x-idm-manager", "1")];
        let post = |more: &[(&str, &str)], without: &str| {
            let all: Vec<_> = own.iter().filter(|(name, _)| *name != without).chain(more).copied().collect();
            Names::new(&[], Scheme::Http).check_origin(&Method::POST, &headers(&all)).map_err(|failure| failure.code)
        };
        assert_eq!(post(&[], ""), Ok(()));
        assert_eq!(post(&[("origin", "http://localhost:1"), ("sec-fetch-site", "same-origin")], ""), Ok(()));
        for origin in ["http://evil.example", "https://localhost:1", "http://localhost:2", "null"] {
            assert_eq!(post(&[("origin", origin)], ""), Err(Code::Forbidden), "{origin}");
        }
        for site in ["cross-site", "same-site", "other"] {
            assert_eq!(post(&[("sec-fetch-site", site)], ""), Err(Code::Forbidden), "{site}");
        }
        assert_eq!(post(&[], "x-idm-manager"), Err(Code::Forbidden));
        assert_eq!(post(&[], "content-type"), Err(Code::UnsupportedMediaType));
        assert_eq!(post(&[("content-type", "text/plain")], "content-type"), Err(Code::UnsupportedMediaType));
    }

    #[test]
    fn over_tls_only_pages_that_came_over_tls_count() {
        let names = Names::new(&[], Scheme::Https);
        let get = |origin| names.check_origin(&Method::GET, &headers(&[("host", "localhost"), ("origin", origin)]));
        assert!(get("https://localhost").is_ok() && get("http://localhost").is_err());
        let mut answer = HeaderMap::new();
        names.protect(&mut answer, false);
        assert!(answer.contains_key("strict-transport-security") && answer.contains_key("content-security-policy"));
    }

    #[test]
    fn of_two_cookies_none_counts() {
        let cookie = |lines: &[&str]| {
            let pairs: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            super::cookie(&headers(&pairs)).map(str::to_owned)
        };
        assert_eq!(cookie(&["a=b; idm_manager=c"]).as_deref(), Some("c"));
        assert_eq!(cookie(&["idm_manager=c; idm_manager=d"]), None);
        assert_eq!(cookie(&["idm_manager=c", "idm_manager=c"]), None);
        let set_cookie = |scheme| Names::new(&[], scheme).set_cookie(Some("x"));
        assert!(set_cookie(Scheme::Http).contains("HttpOnly; SameSite=Strict"));
        assert!(!set_cookie(Scheme::Http).contains("Secure") && set_cookie(Scheme::Https).contains("; Secure"));
    }
}
