//! Which policy decides about each rule of a route, under each listener, as it was compiled.

use std::fmt;

use idm_plan::ObjectKey;

use crate::RouteKind;

/// The part of the traffic that one policy decides about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Covered {
    /// A rule of a route, under one listener.
    Rule {
        /// The route's kind.
        kind: RouteKind,
        /// The route.
        route: ObjectKey,
        /// The position of the rule.
        position: usize,
        /// The name of the rule, where it has one.
        name: Option<String>,
        /// The Gateway, which is in the namespace that was compiled.
        gateway: String,
        /// Its listener.
        listener: String,
    },
    /// A Service, under the names that clients in the cluster use.
    Service(ObjectKey),
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Covered::Rule { kind, route, name: Some(name), .. } => write!(f, "{} {route} rule {name}", kind.name()),
            Covered::Rule { kind, route, position, .. } => write!(f, "{} {route} rule {position}", kind.name()),
            Covered::Service(service) => write!(f, "Service {service}"),
        }
    }
}

/// The policies of one part of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The part.
    pub covered: Covered,
    /// The policy that decides; `None` where none covers it.
    pub policy: Option<ObjectKey>,
    /// That policy is attached to the Gateway or the listener, and to nothing more specific.
    pub inherited: bool,
    /// The policies that cover it too and are less specific, the most specific first.
    pub overridden: Vec<ObjectKey>,
    /// The position of the rule in the plan.
    pub rule: usize,
}
