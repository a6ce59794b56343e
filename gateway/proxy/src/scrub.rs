//! Headers that only the gateway may set, in every spelling an upstream might read.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, header};

/// Prefixes that are the gateway's alone.
const PREFIXES: &[&str] = &["x-authenticated-", "x-forwarded-"];
/// Names that some upstream trusts for who calls, from where, for which path or with which method.
const NAMES: &[&str] = &[
    "forwarded",
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-original-host",
    "x-rewrite-url",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-remote-user",
    "remote-user",
    "x-forwarded",
];

/// The names reserved by a plan: the fixed ones and every header that a policy maps.
#[derive(Debug)]
pub(crate) struct Reserved {
    names: BTreeSet<String>,
    /// Bit n is set when a reserved name has n bytes: most headers are cleared by one test.
    lengths: u128,
}

impl Reserved {
    pub(crate) fn new<'a>(mapped: impl Iterator<Item = &'a str>) -> Self {
        let names: BTreeSet<String> = mapped.chain(NAMES.iter().copied()).map(spelled_plainly).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | 1 << name.len().min(127));
        Self { names, lengths }
    }

    /// Whether some upstream could read this header as a reserved one.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let may_be_prefixed = name.len() > 11 && name.as_bytes().first() == Some(&b'x');
        let may_be_named = self.lengths >> name.len().min(127) & 1 == 1;
        if !may_be_prefixed && !may_be_named {
            return false;
        }
        let plain = spelled_plainly(name);
        PREFIXES.iter().any(|prefix| plain.starts_with(prefix)) || self.names.contains(&plain)
    }

    /// Removes every reserved header.
    pub(crate) fn scrub(&self, headers: &mut HeaderMap) {
        // Most requests carry none: look first, collect only then.
        if headers.keys().any(|name| self.holds(name.as_str())) {
            let found: Vec<HeaderName> = headers.keys().filter(|name| self.holds(name.as_str())).cloned().collect();
            found.iter().for_each(|name| drop(headers.remove(name)));
        }
    }
}

/// Header names are compared without case; CGI, WSGI, PHP and others also read `_` and most
/// punctuation as `-`.
fn spelled_plainly(name: &str) -> String {
    name.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b.to_ascii_lowercase()) } else { '-' }).collect()
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1), so that none of it crosses.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        listed.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(header::CONNECTION);
    }
    const HOP_BY_HOP: [HeaderName; 6] = [
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Headers that `Connection` must not be able to remove: the request would mean something else without them.
fn is_end_to_end(name: &HeaderName) -> bool {
    [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::CONTENT_TYPE].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_reserved() {
        let reserved = Reserved::new(["x-tenant"].into_iter());
        for name in [
            "x-authenticated-userid",
            "x_authenticated_userid",
            "x-authenticated_userid",
            "x.authenticated.userid",
            "x-authenticated-anything",
            "x_tenant",
            "x-tenant",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-prefix",
            "forwarded",
            "x-original-url",
            "x-real-ip",
            "x-http-method-override",
        ] {
            assert!(reserved.holds(name), "{name}");
        }
        for name in ["x-request-id", "authorization", "x-tenants", "accept", "x-authenticate"] {
            assert!(!reserved.holds(name), "{name}");
        }
    }

    #[test]
    fn connection_cannot_remove_what_gives_the_request_its_meaning() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret, authorization"),
            ("x-secret", "1"),
            ("authorization", "a"),
            ("te", "trailers"),
            ("keep-alive", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["authorization"]);
    }
}
