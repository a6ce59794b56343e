//! Attachment: the policy that covers each part of the traffic.
//!
//! The rule (Gateway API, GEP-713): a more specific target wins (rule of a route, then route, then
//! listener, then gateway; a Service is its own target); between equals the older policy wins, then the
//! one whose `namespace/name` comes first. The winner applies whole: nothing of a loser is merged in.

use std::collections::BTreeMap;

use idm_api::v1alpha1::TargetReference;

use crate::{Meta, World};

/// A policy as attachment sees it; broken ones take part, so that the requests that they cover are refused.
pub(crate) struct Candidate<'w> {
    pub(crate) meta: &'w Meta,
    pub(crate) targets: &'w [TargetReference],
}

/// A target that a policy can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    RouteRule(String, String),
    Route(String),
    Listener(String, String),
    Gateway(String),
    Service(String, Option<String>),
}

impl Target {
    pub(crate) fn of(reference: &TargetReference) -> Option<Self> {
        let TargetReference { group, kind, name, section_name } = reference;
        let (name, section) = (name.clone(), section_name.clone());
        Some(match (group.as_str(), kind.as_str(), section) {
            ("gateway.networking.k8s.io", "HTTPRoute", Some(rule)) => Target::RouteRule(name, rule),
            ("gateway.networking.k8s.io", "HTTPRoute", None) => Target::Route(name),
            ("gateway.networking.k8s.io", "Gateway", Some(listener)) => Target::Listener(name, listener),
            ("gateway.networking.k8s.io", "Gateway", None) => Target::Gateway(name),
            ("", "Service", port) => Target::Service(name, port),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::RouteRule(route, rule) => write!(f, "rule '{rule}' of HTTPRoute '{route}'"),
            Target::Route(route) => write!(f, "HTTPRoute '{route}'"),
            Target::Listener(gateway, listener) => write!(f, "listener '{listener}' of Gateway '{gateway}'"),
            Target::Gateway(gateway) => write!(f, "Gateway '{gateway}'"),
            Target::Service(service, None) => write!(f, "Service '{service}'"),
            Target::Service(service, Some(port)) => write!(f, "port '{port}' of Service '{service}'"),
        }
    }
}

/// The holder of each target, and the conflicts that were lost: (loser, target, winner).
#[derive(Default)]
pub(crate) struct Attachments<'w> {
    holders: BTreeMap<Target, &'w str>,
    pub(crate) lost: Vec<(&'w str, Target, &'w str)>,
}

impl<'w> Attachments<'w> {
    /// Determines the holder of each target. `candidates` may be in any order.
    pub(crate) fn settle(mut candidates: Vec<Candidate<'w>>) -> Self {
        candidates.sort_by_key(|c| (c.meta.created.clone(), c.meta.name.clone()));
        let mut settled = Self::default();
        for candidate in candidates {
            let name = candidate.meta.name.as_str();
            for target in candidate.targets.iter().filter_map(Target::of) {
                match settled.holders.get(&target) {
                    Some(winner) if *winner != name => settled.lost.push((name, target, winner)),
                    _ => drop(settled.holders.insert(target, name)),
                }
            }
        }
        settled
    }

    /// The policy that covers a route's rule under a listener, and the targets that would have covered
    /// it too, most specific first.
    pub(crate) fn covering(&self, targets: &[Target]) -> (Option<&'w str>, Vec<(&'w str, Target)>) {
        let mut held = targets.iter().filter_map(|t| self.holders.get(t).map(|policy| (*policy, t.clone())));
        let winner = held.next().map(|(policy, _)| policy);
        (winner, held.filter(|(policy, _)| Some(*policy) != winner).collect())
    }

    /// Every Service that a policy is attached to.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.holders.keys().filter_map(|target| match target {
            Target::Service(name, port) => Some((name.as_str(), port.as_deref())),
            _ => None,
        })
    }
}

/// Whether the target exists.
pub(crate) fn exists(world: &World, target: &Target) -> bool {
    use kube::ResourceExt;
    let gateway = |name: &str| world.our_gateways().find(|g| g.name_any() == name);
    let route = |name: &str| world.routes.iter().find(|r| r.name_any() == name);
    let service = |name: &str| world.services.iter().find(|s| s.name_any() == name);
    match target {
        Target::Route(name) => route(name).is_some(),
        Target::RouteRule(name, rule) => {
            route(name).is_some_and(|r| r.spec.rules.iter().flatten().any(|r| r.name.as_deref() == Some(rule)))
        }
        Target::Gateway(name) => gateway(name).is_some(),
        Target::Listener(name, listener) => {
            gateway(name).is_some_and(|g| g.spec.listeners.iter().any(|l| l.name == *listener))
        }
        Target::Service(name, None) => service(name).is_some(),
        Target::Service(name, Some(port)) => {
            let ports = |s: &k8s_openapi::api::core::v1::Service| {
                s.spec.clone().and_then(|spec| spec.ports).unwrap_or_default()
            };
            service(name).is_some_and(|s| ports(s).iter().any(|p| p.name.as_deref() == Some(port)))
        }
    }
}
