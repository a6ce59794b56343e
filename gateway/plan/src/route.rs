use idm_types::Reason;
use serde::{Deserialize, Serialize};

use crate::{BackendTls, Cors, Endpoint, Redirect, Rewrite, Scheme, SignInEndpoint};

/// A set of hostnames and the entries that serve them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualHost {
    /// The host.
    pub host: Host,
    /// Its entries, in the Gateway API's order of precedence: the first that matches serves.
    pub entries: Vec<RouteEntry>,
}

/// The hosts that a virtual host serves. A request is served by the most specific virtual host only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Host {
    /// This host, in lower case.
    Exact(String),
    /// Every host below this domain (`*.example.com` is `example.com` here).
    Below(String),
    /// Every host.
    Any,
}

/// One match of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// The path, in canonical form.
    pub path: PathMatch,
    /// The method; `None`: all.
    pub method: Option<String>,
    /// Headers that must all be present.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must all be present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
    /// Only calls of gRPC, by their content type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
    /// Position of the rule in [`crate::Plan::rules`].
    pub rule: usize,
}

/// The match of a path: always literal, never a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments from the start: `/a` covers `/a` and `/a/b`, not `/ab`. Without a trailing slash; empty: every
    /// path.
    Prefix(String),
}

/// A header with exactly this value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Lower-case name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A query parameter with exactly this value; both are compared with every escape decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    /// The name, in its own case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// One rule of one route: its name and the handler of its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// The name for people: `HTTPRoute shop/orders rule write`.
    pub name: String,
    /// The handler of its requests.
    pub handler: Handler,
    /// The pages of other origins whose scripts may call, in place of what the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Positions in [`crate::Plan::policies`] of those whose baseline holds for its requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<usize>,
    /// Those that judge its requests beside the handler, and change nothing about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<Shadow>,
}

/// A policy that judges the requests of a rule and refuses none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// Position in [`crate::Plan::policies`] of a policy that is in shadow.
    pub policy: usize,
    /// The part of it that judges.
    pub part: ShadowPart,
}

/// The part of a policy that judges in shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ShadowPart {
    /// Its methods and rules: it would decide about the rule.
    Policy,
    /// Its baseline: it would hold beside the policy that decides.
    Baseline,
}

/// The handler of a rule's requests. Only the first variant forwards, and it names its policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Handler {
    /// Decide by the policy, then forward.
    Enforce {
        /// Position of the policy in [`crate::Plan::policies`].
        policy: usize,
        /// The backends. Without a weight above 0 every permitted request is refused as `NoBackend`.
        backends: Vec<Backend>,
        /// The weight of backends that the route names and that cannot be used: their share is refused likewise.
        #[serde(default, skip_serializing_if = "is_zero")]
        unresolved_weight: u64,
        /// The time limits of the exchange with the backend.
        timeouts: Timeouts,
        /// Edits of the request's headers that the route asks for.
        headers: Vec<HeaderEdit>,
        /// The change of its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rewrite: Option<Rewrite>,
        /// Edits of the headers of the backend's answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        answer_headers: Vec<HeaderEdit>,
        /// The backends that get copies of the requests.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mirrors: Vec<Mirror>,
    },
    /// Decide by the policy, then answer with a redirect; nothing is forwarded.
    Redirect {
        /// Position of the policy in [`crate::Plan::policies`].
        policy: usize,
        /// The place that permitted callers are sent to.
        redirect: Redirect,
    },
    /// Answer from the policy's token service; nothing is forwarded.
    Issue {
        /// Position of the policy in [`crate::Plan::policies`].
        policy: usize,
        /// The requested endpoint.
        endpoint: Endpoint,
    },
    /// Answer at an endpoint of the policy's sign-in method; nothing is forwarded.
    SignIn {
        /// Position of the policy in [`crate::Plan::policies`].
        policy: usize,
        /// The endpoint.
        endpoint: SignInEndpoint,
        /// The Federation's name, for endpoints that each Federation has.
        federation: Option<String>,
    },
    /// Answer with the metadata of the policy's protected resource; nothing is forwarded.
    ResourceMetadata {
        /// Position of the policy in [`crate::Plan::policies`].
        policy: usize,
    },
    /// Refuse every request.
    Refuse {
        /// The reason that is recorded.
        reason: Reason,
        /// The finding behind it, for people.
        detail: String,
    },
}

impl Handler {
    /// The policy that decides about the rule's requests, where the rule is one of a route.
    pub fn route_policy(&self) -> Option<usize> {
        match self {
            Handler::Enforce { policy, .. } | Handler::Redirect { policy, .. } => Some(*policy),
            Handler::Issue { .. }
            | Handler::SignIn { .. }
            | Handler::ResourceMetadata { .. }
            | Handler::Refuse { .. } => None,
        }
    }

    /// The position of the policy that it names, to be changed in a plan that has fewer of them.
    pub fn policy_mut(&mut self) -> Option<&mut usize> {
        match self {
            Handler::Enforce { policy, .. }
            | Handler::Redirect { policy, .. }
            | Handler::Issue { policy, .. }
            | Handler::SignIn { policy, .. }
            | Handler::ResourceMetadata { policy } => Some(policy),
            Handler::Refuse { .. } => None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_zero(weight: &u64) -> bool {
    *weight == 0
}

/// An edit of a header, from the route's `RequestHeaderModifier` or `ResponseHeaderModifier`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum HeaderEdit {
    /// Replace.
    Set(String, String),
    /// Append.
    Add(String, String),
    /// Remove.
    Remove(String),
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// A DNS name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: BackendProtocol,
    /// TLS; `None`: the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Its share of the traffic, relative to the other backends of the rule.
    pub weight: u32,
    /// Edits of the headers of the requests that it gets, after those of the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderEdit>,
    /// Addresses of this machine or its link are allowed (only where the operator of the gateway wrote the backend).
    pub local: bool,
}

/// A backend that gets a copy of some of the requests that a rule forwards. Its answers are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The backend; its weight counts nothing.
    pub backend: Backend,
    /// The number of requests among [`Mirror::denominator`] that are copied.
    pub numerator: u32,
    /// Above 0.
    pub denominator: u32,
}

impl Backend {
    /// Its value of `Host`, without the default port of its scheme (RFC 9110 §7.2).
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let scheme = if self.tls.is_some() { Scheme::Https } else { Scheme::Http };
        if *port == scheme.default_port() { host } else { format!("{host}:{port}") }
    }
}

/// The protocol towards a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BackendProtocol {
    /// HTTP/1.1; over TLS also HTTP/2, for calls of gRPC.
    #[default]
    Http1,
    /// HTTP/2: with prior knowledge (Service `appProtocol: kubernetes.io/h2c`), or as agreed on in TLS.
    Http2,
}

/// Time limits in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// From the forwarded request to the head of the response; 0: no limit. The body may take longer.
    pub response_head_ms: u64,
}

impl Timeouts {
    /// The limits where the route sets none: 60 seconds.
    pub const DEFAULT: Self = Self { response_head_ms: 60_000 };
}
