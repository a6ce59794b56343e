//! Headers that only the gateway may set, in every spelling that an upstream might read.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Prefixes that are reserved for the gateway.
const PREFIXES: &[&str] = &["x-authenticated-", "x-forwarded-", "x-original-"];
/// The length of the shortest of them.
const SHORTEST_PREFIX: usize = 11;
/// Names that some upstream trusts for the identity, the origin, the path or the method of a request.
const NAMES: &[&str] = &[
    // the origin
    "forwarded",
    "x-forwarded",
    "forwarded-for",
    "forwarded-for-ip",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "http-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "remote-addr",
    "x-originating-ip",
    "x-cluster-client-ip",
    "x-proxyuser-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "fastly-client-ip",
    "fly-client-ip",
    "do-connecting-ip",
    "akamai-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-envoy-external-address",
    // the host, path and method
    "x-host",
    "x-http-host-override",
    "x-host-override",
    "x-rewrite-url",
    "x-override-url",
    "x-http-path-override",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    // the identity
    "remote-user",
    "x-remote-user",
    "x-webauth-user",
    "x-ssl-client-cert",
    "x-ssl-client-dn",
    "x-ssl-client-verify",
    "ssl-client-cert",
    "client-cert",
    "client-cert-chain",
];
/// Names that a caller may send as they are, and in no other spelling: they define how the body is read.
const PLAIN_ONLY: &[&str] = &[
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "transfer-encoding",
];

/// Names that a caller may not send, or only as they are written here.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// By length and then by plain spelling.
    names: Vec<Name>,
    /// Bit n is set when a reserved name has n bytes: most headers are cleared by one test.
    lengths: u128,
    prefixes: bool,
    /// Every name that is not spelled plainly is reserved.
    one_spelling: bool,
}

#[derive(Debug)]
struct Name {
    plain: String,
    /// Spellings in which the caller may send it.
    allowed: BTreeSet<String>,
}

impl Reserved {
    /// The headers that no caller may send to any route: the fixed names, and `written`.
    pub(crate) fn everywhere<'a>(written: impl Iterator<Item = &'a str>) -> Self {
        let all = written.chain(NAMES.iter().copied());
        Self { prefixes: true, ..Self::new(all, PLAIN_ONLY.iter().copied(), false) }
    }

    /// `removed` in every spelling, `kept` in every spelling but their own; with `one_spelling` also every other name
    /// that is not spelled plainly.
    pub(crate) fn new<'a>(
        removed: impl Iterator<Item = &'a str>,
        kept: impl Iterator<Item = &'a str>,
        one_spelling: bool,
    ) -> Self {
        let mut found: BTreeMap<(usize, String), BTreeSet<String>> = BTreeMap::new();
        let place = |name: &str| (name.len(), name.bytes().map(|byte| char::from(plain(byte))).collect::<String>());
        for name in removed {
            found.entry(place(name)).or_default();
        }
        for name in kept {
            found.entry(place(name)).or_default().insert(name.to_owned());
        }
        // A name of letters and digits alone has one spelling.
        found.retain(|(_, plain), allowed| allowed.is_empty() || plain.contains('-'));
        let lengths = found.keys().fold(0, |bits, (length, _)| bits | bit(*length));
        let names = found.into_iter().map(|((_, plain), allowed)| Name { plain, allowed }).collect();
        Self { names, lengths, prefixes: false, one_spelling }
    }

    /// Whether the caller may not send this (lower-case) name, because some upstream could read it as a reserved one.
    pub(crate) fn holds(&self, name: &str) -> bool {
        if self.prefixes && name.len() > SHORTEST_PREFIX && name.starts_with('x') {
            let starts =
                |prefix: &&str| prefix.len() <= name.len() && prefix.bytes().eq(spelled(name).take(prefix.len()));
            if PREFIXES.iter().any(starts) {
                return true;
            }
        }
        if self.lengths & bit(name.len()) != 0 {
            if let Some(Name { allowed, .. }) = self.find(name) {
                return !allowed.contains(name);
            }
        }
        self.one_spelling && !name.bytes().all(|byte| plain(byte) == byte)
    }

    fn find(&self, name: &str) -> Option<&Name> {
        let compare = |Name { plain, .. }: &Name| match plain.len().cmp(&name.len()) {
            Ordering::Equal => plain.bytes().cmp(spelled(name)),
            different => different,
        };
        self.names.binary_search_by(compare).ok().and_then(|position| self.names.get(position))
    }

    /// Removes every reserved header.
    pub(crate) fn scrub(&self, headers: &mut HeaderMap) {
        // Most requests have none: search first, and collect only if one was found.
        if headers.keys().any(|name| self.holds(name.as_str())) {
            let found: Vec<HeaderName> = headers.keys().filter(|name| self.holds(name.as_str())).cloned().collect();
            found.iter().for_each(|name| drop(headers.remove(name)));
        }
    }
}

fn bit(length: usize) -> u128 {
    1 << length.min(127)
}

/// Header names are compared without case; CGI, WSGI, PHP and others also read `_` and most
/// punctuation as `-`.
fn plain(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn spelled(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(plain)
}

/// Whether an upstream could read two names as one.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && spelled(one).eq(spelled(other))
}

const HOP_BY_HOP: [HeaderName; 6] = [
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The most names that `Connection` may list: more headers than this no request has.
const MOST_LISTED: usize = 96;

/// Whether `Connection` lists more names than a request has headers. Each name is parsed and looked up, so that a list
/// that fills a head would cost as much as many requests.
pub(crate) fn lists_too_many(headers: &HeaderMap) -> bool {
    let names = |value: &HeaderValue| 1 + value.as_bytes().iter().filter(|byte| **byte == b',').count();
    headers.get_all(header::CONNECTION).iter().map(names).sum::<usize>() > MOST_LISTED
}

/// Removes the headers that `Connection` names (RFC 9110 §7.6.1), before any code reads or writes headers: so no header
/// that the decision used is removed later, and the caller cannot name a header that the gateway writes later. A name
/// for which `is_used` holds stays: no client has a reason to make it specific to one connection, and the caller must
/// not be able to hide from a policy a header that an honest proxy in front added.
pub(crate) fn remove_listed(headers: &mut HeaderMap, is_used: impl Fn(&str) -> bool) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        // Nearly all heads that have one say only this; these options name no header, or one that goes anyway.
        .filter(|name| !is_option(name))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        // Only names of headers that are present matter.
        .filter(|name| headers.contains_key(name))
        // A request for a WebSocket is recognized later, by the headers themselves.
        .filter(|name| !is_end_to_end(name) && !HOP_BY_HOP.contains(name) && !is_used(name.as_str()))
        .collect();
    listed.iter().for_each(|name| drop(headers.remove(name)));
}

/// Whether `TE` lists `trailers` (RFC 9110 §10.1.4): the one thing that a request may say of its connection which holds
/// for the next connection too, as the gateway passes trailers of answers on.
pub(crate) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let lists = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    headers.get_all(header::TE).iter().any(lists)
}

/// Removes the headers that concern one connection whatever `Connection` says.
pub(crate) fn remove_connections_own(headers: &mut HeaderMap) {
    // Most heads have one of these fields at most: comparing names costs less than looking each of them up.
    let is_own = |name: &&HeaderName| **name == header::CONNECTION || HOP_BY_HOP.contains(name);
    while let Some(name) = headers.keys().find(is_own).cloned() {
        headers.remove(name);
    }
}

/// The connection options that say something of the connection itself (RFC 9110 §7.6.1, §7.8).
fn is_option(name: &str) -> bool {
    ["keep-alive", "close", "upgrade"].iter().any(|option| name.eq_ignore_ascii_case(option))
}

/// Removes the headers that concern one connection only (RFC 9110 §7.6.1), so that none of them is forwarded.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_listed(headers, |_| false);
    remove_connections_own(headers);
}

/// Headers that `Connection` must not be able to remove: the request would have another meaning without them.
fn is_end_to_end(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 12] = [
        header::CONNECTION,
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::AUTHORIZATION,
        header::COOKIE,
        header::ORIGIN,
        HeaderName::from_static("dpop"),
        HeaderName::from_static("sec-fetch-site"),
        HeaderName::from_static("sec-fetch-mode"),
        HeaderName::from_static("sec-fetch-dest"),
    ];
    NAMES.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_reserved() {
        let reserved = Reserved::everywhere(["x-tenant"].into_iter());
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
            "client-ip",
            "client_ip",
            "x-host",
            "x-original-forwarded-for",
            "x_original.forwarded_for",
            "x-http-host-override",
            "content_length",
            "transfer_encoding",
        ] {
            assert!(reserved.holds(name), "{name}");
        }
        for name in
            ["x-request-id", "authorization", "x-tenants", "accept", "x-authenticate", "content-length", "x-originals"]
        {
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

    #[test]
    fn trailers_are_taken_by_those_who_say_so() {
        let accepts = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(header::TE, HeaderValue::from_static(value));
            });
            accepts_trailers(&headers)
        };
        assert!(accepts(&["trailers"]) && accepts(&["gzip;q=0.5 , Trailers"]) && accepts(&["gzip", "trailers"]));
        assert!(!accepts(&[]) && !accepts(&["gzip"]) && !accepts(&["xtrailers"]) && !accepts(&["trailers;q=0"]));
    }

    #[test]
    fn a_name_that_a_policy_reads_has_one_spelling() {
        let reserved = Reserved::new(["x-passport"].into_iter(), ["x-order", "x_old", "etag"].into_iter(), false);
        let held = |name: &str| reserved.holds(name);
        assert!(held("x-passport") && held("x.passport") && held("x_order") && held("x.order") && held("x-old"));
        assert!(!held("x-order") && !held("x_old") && !held("etag") && !held("x_other") && !held("x-orders"));
        let strict = Reserved::new(std::iter::empty(), ["x_old"].into_iter(), true);
        assert!(strict.holds("x_other") && strict.holds("x.y") && strict.holds("x-old"));
        assert!(!strict.holds("x-other") && !strict.holds("x_old"));
    }

    #[test]
    fn connection_removes_nothing_that_is_used() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "upgrade, x-order, x-other, te"),
            ("upgrade", "websocket"),
            ("x-order", "1"),
            ("x-other", "1"),
            ("te", "trailers"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        remove_listed(&mut headers, |name| name == "x-order");
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<BTreeSet<_>>(),
            ["connection", "upgrade", "x-order", "te"].into()
        );
        remove_connections_own(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-order"]);
    }

    proptest::proptest! {
        /// The index agrees with the definition, for every spelling of every name.
        #[test]
        fn the_index_agrees_with_trying_every_name(
            removed in proptest::collection::vec("[a-c_.-]{1,4}", 0..6),
            kept in proptest::collection::vec("[a-c_.-]{1,4}", 0..6),
            asked in "[a-c_.-]{1,4}",
        ) {
            let names = || removed.iter().map(String::as_str);
            let reserved = Reserved::new(names(), kept.iter().map(String::as_str), false);
            let is_allowed = kept.contains(&asked);
            let is_like_one = names().chain(kept.iter().map(String::as_str)).any(|name| is_same(name, &asked));
            proptest::prop_assert_eq!(reserved.holds(&asked), is_like_one && !is_allowed);
        }
    }
}
