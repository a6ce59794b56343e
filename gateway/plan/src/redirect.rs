use serde::{Deserialize, Serialize};

/// A redirect, from the route's `RequestRedirect`. A part that is absent is that of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host, in lower case.
    pub host: Option<String>,
    /// The port that the route names.
    pub port: Option<u16>,
    /// The port of the listener, which counts where the route names neither port nor scheme.
    pub listener_port: u16,
    /// The change of the path.
    pub path: Option<PathChange>,
}

/// The scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// Its name in a URI.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port of a URI that names none (RFC 9110 §4.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The change of a request's address on its way to the backend, from the route's `URLRewrite`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The host that the backend is asked for, in lower case; `None`: the one that the caller asked for.
    pub host: Option<String>,
    /// The change of the path.
    pub path: Option<PathChange>,
}

/// The change of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PathChange {
    /// This path, in canonical form, replaces the whole.
    Full(String),
    /// `with` replaces `prefix`; both canonical and without a trailing slash.
    Prefix {
        /// The prefix by which the rule matches.
        prefix: String,
        /// Its replacement.
        with: String,
    },
}

impl PathChange {
    /// The path after the change of one that the rule matches.
    pub fn of(&self, path: &str) -> String {
        match self {
            PathChange::Full(full) => full.clone(),
            PathChange::Prefix { prefix, with } => {
                let rest = path.strip_prefix(prefix.as_str()).unwrap_or(path);
                if rest.is_empty() && with.is_empty() { "/".to_owned() } else { format!("{with}{rest}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_replaced_whole_or_from_the_start() {
        let prefix = |with: &str| PathChange::Prefix { prefix: "/foo".into(), with: with.into() };
        for (change, path, changed) in [
            (PathChange::Full("/new".into()), "/foo/bar", "/new"),
            (prefix("/xyz"), "/foo/bar", "/xyz/bar"),
            (prefix("/xyz"), "/foo/", "/xyz/"),
            (prefix("/xyz"), "/foo", "/xyz"),
            (prefix(""), "/foo/bar", "/bar"),
            (prefix(""), "/foo/", "/"),
            (prefix(""), "/foo", "/"),
            (PathChange::Prefix { prefix: String::new(), with: "/v2".into() }, "/a", "/v2/a"),
            (PathChange::Prefix { prefix: String::new(), with: "/v2".into() }, "/", "/v2/"),
        ] {
            assert_eq!(change.of(path), changed, "{change:?} {path}");
        }
    }
}
