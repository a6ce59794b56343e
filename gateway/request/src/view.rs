//! Finds credentials in a request, and removes them.

use http::{HeaderMap, header};
use idm_plan::Source;
use idm_types::Reason;

/// The parts of a request that authentication may see.
#[derive(Clone, Copy)]
pub struct RequestView<'r> {
    /// All headers.
    pub headers: &'r HeaderMap,
    /// The raw query, without `?`.
    pub query: Option<&'r str>,
    /// The request's method.
    pub method: &'r str,
    /// The canonical host.
    pub host: &'r str,
    /// Host and port as the caller wrote them.
    pub authority: &'r str,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// The canonical path.
    pub path: &'r str,
    /// Path and query exactly as the caller wrote them.
    pub target: &'r str,
    /// The request as it is forwarded.
    pub forwarded: AsForwarded<'r>,
    /// The address of the caller.
    pub address: std::net::IpAddr,
    /// The whole body, where a method asked for it.
    pub body: Option<&'r [u8]>,
    /// The certificate that the client proved on this connection.
    pub certificate: Option<ClientCertificate<'r>>,
}

/// The parts of a request in the spelling that the upstream gets, for methods that verify what was signed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsForwarded<'r> {
    /// The host in lower case, with the port that the caller named.
    pub authority: &'r str,
    /// The canonical path with its parameters. The query is as it came.
    pub path: &'r str,
    /// Whether a body may follow: false only where it is known that none does.
    pub has_body: bool,
}

/// A client certificate whose possession the TLS handshake proved.
#[derive(Clone, Copy)]
pub struct ClientCertificate<'r> {
    /// The certificate and the chain sent with it, its own first.
    pub chain: &'r [rustls::pki_types::CertificateDer<'static>],
    /// SHA-256 of its DER in base64url, as in `x5t#S256`.
    pub thumbprint: &'r str,
}

/// A credential that was found in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented<'r> {
    /// The credential itself.
    pub value: &'r str,
    /// The source that it came from.
    pub source: usize,
}

/// The one credential in the given sources. More than one, or one that cannot be read, is an error:
/// a gateway that verifies the first and an upstream that believes the second would disagree.
pub fn find<'r>(view: RequestView<'r>, sources: &[Source]) -> Result<Option<Presented<'r>>, Reason> {
    let mut found: Option<Presented<'r>> = None;
    for (source, wanted) in sources.iter().enumerate() {
        let value = match wanted {
            Source::Header { name, scheme } => in_header(view.headers, name, scheme.as_deref())?,
            Source::Cookie { name } => in_cookies(view.headers, name)?,
            Source::Query { name, .. } => in_query(view.query, name)?,
        };
        let Some(value) = value else { continue };
        if found.replace(Presented { value, source }).is_some() {
            return Err(Reason::AmbiguousCredential);
        }
    }
    Ok(found)
}

/// A single credential in one of these headers, for a first check; an ambiguous one is detected later.
pub fn in_headers<'r>(headers: &'r HeaderMap, sources: &[Source]) -> Option<&'r str> {
    sources.iter().find_map(|source| match source {
        Source::Header { name, scheme } => in_header(headers, name, scheme.as_deref()).ok().flatten(),
        Source::Cookie { .. } | Source::Query { .. } => None,
    })
}

fn in_header<'r>(headers: &'r HeaderMap, name: &str, scheme: Option<&str>) -> Result<Option<&'r str>, Reason> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Reason::AmbiguousCredential);
    }
    let text = value.to_str().map_err(|_| Reason::MalformedRequest)?;
    let Some(scheme) = scheme else { return Ok(Some(text.trim())) };
    // RFC 9110 §11.4: the scheme is compared without regard to case and followed by spaces.
    match text.split_once(' ') {
        Some((given, value)) if given.eq_ignore_ascii_case(scheme) => Ok(Some(value.trim())),
        None if text.eq_ignore_ascii_case(scheme) => Ok(Some("")),
        _ => Ok(None),
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';')).map(str::trim)
}

/// The value of a cookie that is there once.
pub fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    in_cookies(headers, name).ok().flatten()
}

fn in_cookies<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<&'r str>, Reason> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = texts.flat_map(|text| {
        // Search for the name instead of parsing every pair: most callers send many cookies that are not ours.
        text.match_indices(name).filter_map(|(at, _)| {
            let before = text.get(..at)?.trim_end();
            let value = text.get(at..)?.strip_prefix(name)?.strip_prefix('=')?;
            let begins = before.is_empty() || before.ends_with(';');
            begins.then(|| value.split(';').next().unwrap_or_default().trim_end())
        })
    });
    match (values.next(), values.next()) {
        (found, None) => Ok(found),
        _ => Err(Reason::AmbiguousCredential),
    }
}

fn in_query<'r>(query: Option<&'r str>, name: &str) -> Result<Option<&'r str>, Reason> {
    let pairs = query.into_iter().flat_map(|q| q.split('&')).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(n, _)| is_name(n, name)).map(|(_, v)| v);
    match (values.next(), values.next()) {
        (found, None) => Ok(found),
        _ => Err(Reason::AmbiguousCredential),
    }
}

/// Compares a parameter name with every escape decoded, so that `%6bey` is `key` here as it is for an upstream.
fn is_name(raw: &str, name: &str) -> bool {
    // Most names have no escape, and an escape takes three bytes for one: this is checked without allocation.
    if !raw.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return raw == name;
    }
    raw.len() <= name.len().saturating_mul(3)
        && idm_types::percent_decoded(&raw.replace('+', " ")).is_some_and(|bytes| bytes == name.as_bytes())
}

/// Removes a cookie from the `Cookie` headers, in every spelling.
pub fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let kept: Vec<&str> =
        cookies(headers).filter(|pair| pair.split('=').next().is_none_or(|n| n.trim() != name)).collect();
    let joined = kept.join("; ");
    headers.remove(header::COOKIE);
    if let Ok(value) = joined.parse() {
        if !joined.is_empty() {
            headers.insert(header::COOKIE, value);
        }
    }
}

/// The query without a parameter; `None` when nothing is left.
pub fn remove_query(query: &str, name: &str) -> Option<String> {
    let kept: Vec<&str> =
        query.split('&').filter(|pair| !is_name(pair.split('=').next().unwrap_or_default(), name)).collect();
    let joined = kept.join("&");
    (!joined.is_empty()).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'r>(headers: &'r HeaderMap, query: Option<&'r str>) -> RequestView<'r> {
        RequestView {
            headers,
            query,
            method: "GET",
            host: "a",
            authority: "a",
            secure: false,
            path: "/",
            target: "/",
            forwarded: AsForwarded::default(),
            address: [192, 0, 2, 1].into(),
            body: None,
            certificate: None,
        }
    }

    fn bearer() -> Source {
        Source::Header { name: "authorization".into(), scheme: Some("Bearer".into()) }
    }

    #[test]
    fn a_scheme_is_found_in_any_case_and_only_whole() {
        for (text, expected) in [
            ("Bearer a", Some("a")),
            ("bEARER  a ", Some("a")),
            ("Bearer", Some("")),
            ("Bearerx a", None),
            ("Basic a", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
            assert_eq!(find(view(&headers, None), &[bearer()]).unwrap().map(|p| p.value), expected, "{text}");
        }
    }

    #[test]
    fn two_credentials_are_ambiguous() {
        let twice = HeaderMap::from_iter([
            (header::AUTHORIZATION, "Bearer a".parse().unwrap()),
            (header::AUTHORIZATION, "Bearer b".parse().unwrap()),
        ]);
        assert_eq!(find(view(&twice, None), &[bearer()]), Err(Reason::AmbiguousCredential));
        let both = HeaderMap::from_iter([
            (header::AUTHORIZATION, "Bearer a".parse().unwrap()),
            (header::COOKIE, "t=b".parse().unwrap()),
        ]);
        assert_eq!(
            find(view(&both, None), &[bearer(), Source::Cookie { name: "t".into() }]),
            Err(Reason::AmbiguousCredential)
        );
        let cookies = HeaderMap::from_iter([(header::COOKIE, "t=a; t=b".parse().unwrap())]);
        assert_eq!(
            find(view(&cookies, None), &[Source::Cookie { name: "t".into() }]),
            Err(Reason::AmbiguousCredential)
        );
        // A name counts only at the beginning of a pair, and before its value.
        let others = "xt=1; t; t =2; ;\tt=a=t= ;u=t=3;t2=4;;";
        let cookies = HeaderMap::from_iter([(header::COOKIE, others.parse().unwrap())]);
        assert_eq!(cookie(&cookies, "t"), Some("a=t="));
        let empty = HeaderMap::new();
        assert_eq!(
            find(view(&empty, Some("k=a&x=1&%6b=b")), &[Source::Query { name: "k".into(), per_minute: None }]),
            Err(Reason::AmbiguousCredential)
        );
    }

    #[test]
    fn what_is_removed_is_gone_in_every_spelling() {
        assert_eq!(remove_query("a=1&key=x&%6Bey=y&b", "key").as_deref(), Some("a=1&b"));
        assert_eq!(remove_query("key=x", "key"), None);
        let mut headers = HeaderMap::from_iter([
            (header::COOKIE, "a=1; t=x".parse().unwrap()),
            (header::COOKIE, "t=y".parse().unwrap()),
        ]);
        remove_cookie(&mut headers, "t");
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1"]);
    }
}
