use serde::{Deserialize, Serialize};

use crate::{Host, Scheme};

/// The pages of other origins whose scripts may use a rule (the Fetch standard's CORS protocol).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// The origins of these pages.
    pub origins: Origins,
    /// Methods besides GET, HEAD and POST, which are always allowed.
    pub methods: Names,
    /// Request headers, in lower case.
    pub headers: Names,
    /// Headers of answers that scripts may read, in lower case.
    pub exposed: Names,
    /// The seconds for which a browser may keep the answer to a preflight.
    pub max_age_seconds: u32,
}

/// Origins. Every origin together with credentials cannot be written: any page that a person opens could then act with
/// the person's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Origins {
    /// Every origin, without credentials.
    Any,
    /// These origins.
    Listed {
        /// The origins. Never empty.
        patterns: Vec<OriginPattern>,
        /// Browsers may send cookies and certificates.
        credentials: bool,
    },
}

/// Names of methods or headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Names {
    /// Every name.
    Any,
    /// These names.
    Listed(Vec<String>),
}

impl Cors {
    /// Whether browsers may send credentials.
    pub fn takes_credentials(&self) -> bool {
        matches!(self.origins, Origins::Listed { credentials: true, .. })
    }

    /// Whether every origin is allowed.
    pub fn takes_any_origin(&self) -> bool {
        self.origins == Origins::Any
    }

    /// Whether the origin of a request is listed. An opaque origin (`null`) is not, and neither is one that is spelled
    /// otherwise than browsers spell it (RFC 6454 §6.2).
    pub fn lists(&self, origin: &str) -> bool {
        let Origins::Listed { patterns, .. } = &self.origins else { return false };
        OriginPattern::parse(origin)
            .filter(|given| matches!(given.host, Host::Exact(_)) && given.to_string() == origin)
            .is_some_and(|given| patterns.iter().any(|pattern| pattern.covers(&given)))
    }
}

/// An origin whose host may be a name, every name below a domain, or any name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginPattern {
    /// The scheme.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port, also where it is the scheme's own.
    pub port: u16,
}

impl OriginPattern {
    /// Reads `https://app.example.com`, `https://*.example.com:8443` or `https://*`, as the Gateway API writes them.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let (host, port) = match rest.split_once(':') {
            None => (rest, scheme.default_port()),
            Some((host, digits)) => {
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
                (host, digits.parse().ok().filter(|_| plain)?)
            }
        };
        let host = host.to_ascii_lowercase();
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => Host::Any,
            Some(domain) if is_name(domain) => Host::Below(domain.to_owned()),
            None if is_name(&host) => Host::Exact(host),
            _ => return None,
        };
        Some(Self { scheme, host, port })
    }

    fn covers(&self, origin: &Self) -> bool {
        let Host::Exact(name) = &origin.host else { return false };
        (self.scheme, self.port) == (origin.scheme, origin.port)
            && match &self.host {
                Host::Exact(host) => host == name,
                Host::Below(domain) => name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')),
                Host::Any => true,
            }
    }
}

impl std::fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.scheme.name();
        match &self.host {
            Host::Exact(host) => write!(f, "{scheme}://{host}")?,
            Host::Below(domain) => write!(f, "{scheme}://*.{domain}")?,
            Host::Any => write!(f, "{scheme}://*")?,
        }
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A DNS name or an IPv4 address.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(patterns: &[&str]) -> Cors {
        let patterns = patterns.iter().map(|text| OriginPattern::parse(text).unwrap()).collect();
        let none = || Names::Listed(vec![]);
        let origins = Origins::Listed { patterns, credentials: true };
        Cors { origins, methods: none(), headers: none(), exposed: none(), max_age_seconds: 5 }
    }

    #[test]
    fn an_origin_matches_by_scheme_host_and_port() {
        let cors =
            listed(&["https://app.example", "http://app.example:3000", "https://*.shop.example", "http://B.c:80"]);
        for origin in [
            "https://app.example",
            "http://app.example:3000",
            "https://a.shop.example",
            "https://a.b.shop.example",
            "http://b.c",
        ] {
            assert!(cors.lists(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "*",
            "https://*",
            "https://*.shop.example",
            "http://app.example",
            "https://app.example:3000",
            "https://app.example:443",
            "https://APP.example",
            "https://app.example/",
            "https://app.example.evil",
            "https://evil-app.example",
            "https://shop.example",
            "https://evilshop.example",
            "https://.shop.example",
            "https://a.shop.example.",
            "https://user@a.shop.example",
            "https://a.shop.example https://app.example",
            "https://a b.shop.example",
            "https://x\u{e9}.shop.example",
            "https://app.example\u{0}",
        ] {
            assert!(!cors.lists(origin), "{origin}");
        }
        assert!(listed(&["https://*"]).lists("https://x") && !listed(&["https://*"]).lists("http://x"));
    }

    #[test]
    fn what_is_no_origin_is_not_read() {
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://a:080",
            "https://a:65536",
            "https://a/b",
            "https://a*",
            "https://*a",
            "https://*.",
            "https://a.*.b",
            "HTTPS://a",
            "https://a..b",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }
}
