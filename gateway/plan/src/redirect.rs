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

/// The change of a redirect's path.
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
