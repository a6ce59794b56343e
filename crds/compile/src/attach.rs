//! Attachment: the policy that covers each part of the traffic.
//!
//! The rule (Gateway API, GEP-713): a more specific target wins (rule of a route, then route, then
//! listener, then gateway; a Service is its own target); between equals the older policy wins, then the
//! one whose `namespace/name` comes first. The winner applies whole: nothing of a loser is merged in. A policy covers
//! targets of its own namespace only; the Gateway of another one takes its routes, with that Gateway's policy as the
//! least specific.

use std::collections::BTreeMap;

use idm_api::v1alpha1::TargetReference;
use idm_plan::ObjectKey;

use crate::{Meta, RouteKind, World};

/// A policy as attachment sees it; broken ones take part, so that the requests that they cover are refused.
pub(crate) struct Candidate<'w> {
    pub(crate) namespace: &'w str,
    pub(crate) meta: &'w Meta,
    pub(crate) targets: &'w [TargetReference],
    /// It has a baseline, or cannot be read.
    pub(crate) demands: bool,
    /// It judges, and decides nothing.
    pub(crate) shadow: bool,
}

/// A target that a policy can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    RouteRule(RouteKind, String, String),
    Route(RouteKind, String),
    Listener(String, String),
    Gateway(String),
    /// Of the cluster: only baselines are attached to it.
    GatewayClass(String),
    Service(String, Option<String>),
}

impl Target {
    pub(crate) fn of(reference: &TargetReference) -> Option<Self> {
        let TargetReference { group, kind, name, section_name } = reference;
        let (name, section) = (name.clone(), section_name.clone());
        let route = RouteKind::of_name(kind).filter(|_| group == "gateway.networking.k8s.io");
        if let Some(kind) = route {
            return Some(match section {
                Some(rule) => Target::RouteRule(kind, name, rule),
                None => Target::Route(kind, name),
            });
        }
        Some(match (group.as_str(), kind.as_str(), section) {
            ("gateway.networking.k8s.io", "Gateway", Some(listener)) => Target::Listener(name, listener),
            ("gateway.networking.k8s.io", "Gateway", None) => Target::Gateway(name),
            ("gateway.networking.k8s.io", "GatewayClass", None) => Target::GatewayClass(name),
            ("", "Service", port) => Target::Service(name, port),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::RouteRule(kind, route, rule) => write!(f, "rule '{rule}' of {} '{route}'", kind.name()),
            Target::Route(kind, route) => write!(f, "{} '{route}'", kind.name()),
            Target::Listener(gateway, listener) => write!(f, "listener '{listener}' of Gateway '{gateway}'"),
            Target::Gateway(gateway) => write!(f, "Gateway '{gateway}'"),
            Target::GatewayClass(class) => write!(f, "GatewayClass '{class}'"),
            Target::Service(service, None) => write!(f, "Service '{service}'"),
            Target::Service(service, Some(port)) => write!(f, "port '{port}' of Service '{service}'"),
        }
    }
}

/// A target with its namespace.
pub(crate) type Placed = (String, Target);

/// The holder of each target, and the conflicts that were lost: (loser, target, winner).
#[derive(Default)]
pub(crate) struct Attachments {
    holders: BTreeMap<Placed, ObjectKey>,
    /// The policies with a baseline for each Gateway or listener, oldest first.
    baselines: BTreeMap<Placed, Vec<ObjectKey>>,
    /// The same of policies in shadow, which hold nothing among the others.
    shadows: Option<Box<Attachments>>,
    lost: Vec<(ObjectKey, Target, ObjectKey)>,
}

impl Attachments {
    /// Determines the holder of each target. `candidates` may be in any order. Only those of the namespace `platform`
    /// can hold for a GatewayClass.
    pub(crate) fn settle(candidates: Vec<Candidate<'_>>, platform: &str) -> Self {
        let (shadows, enforced) = candidates.into_iter().partition(|candidate| candidate.shadow);
        Self { shadows: Some(Box::new(Self::of(shadows, platform))), ..Self::of(enforced, platform) }
    }

    fn of(mut candidates: Vec<Candidate<'_>>, platform: &str) -> Self {
        candidates.sort_by_key(|c| (c.meta.created.clone(), c.namespace, c.meta.name.clone()));
        let mut settled = Self::default();
        for Candidate { namespace, meta, targets, demands, shadow: _ } in candidates {
            let key = ObjectKey::new(namespace, &meta.name);
            for target in targets.iter().filter_map(Target::of) {
                let placed = (namespace.to_owned(), target);
                let is_of_class = matches!(placed.1, Target::GatewayClass(_));
                let can_demand = matches!(placed.1, Target::Gateway(_) | Target::Listener(..))
                    || is_of_class && namespace == platform;
                if demands && can_demand {
                    settled.baselines.entry(placed.clone()).or_default().push(key.clone());
                }
                if is_of_class {
                    continue;
                }
                match settled.holders.get(&placed) {
                    Some(winner) if *winner != key => settled.lost.push((key.clone(), placed.1, winner.clone())),
                    _ => drop(settled.holders.insert(placed, key.clone())),
                }
            }
        }
        settled
    }

    /// The policy that covers a route's rule under a listener, and those that would have covered it too, most specific
    /// first.
    pub(crate) fn covering(&self, targets: &[Placed]) -> (Option<&ObjectKey>, Vec<&ObjectKey>) {
        let mut held = targets.iter().filter_map(|target| self.holders.get(target));
        let winner = held.next();
        (winner, held.filter(|policy| Some(*policy) != winner).collect())
    }

    /// The policy in shadow that would decide about a rule if it were enforced: one that is at least as specific as the
    /// one that decides. What it would have to give way to is not its to judge.
    pub(crate) fn shadow(&self, targets: &[Placed]) -> Option<&ObjectKey> {
        let decides = targets.iter().position(|target| self.holders.contains_key(target));
        let would = targets.iter().take(decides.map_or(targets.len(), |position| position + 1));
        would.filter_map(|target| self.shadows.as_ref()?.holders.get(target)).next()
    }

    /// The policies in shadow whose targets these are, and that give way to a more specific one.
    pub(crate) fn shadows_given_way(&self, targets: &[Placed]) -> Vec<&ObjectKey> {
        let judging = self.shadow(targets);
        let held = targets.iter().filter_map(|target| self.shadows.as_ref()?.holders.get(target));
        held.filter(|policy| Some(*policy) != judging).collect()
    }

    /// The policies in shadow whose baselines would hold under these targets.
    pub(crate) fn demanding_in_shadow(&self, targets: &[Placed]) -> Vec<&ObjectKey> {
        self.shadows.as_ref().map(|shadows| shadows.demanding(targets)).unwrap_or_default()
    }

    /// All conflicts that were lost: (loser, target, winner).
    pub(crate) fn all_lost(&self) -> impl Iterator<Item = &(ObjectKey, Target, ObjectKey)> {
        self.lost.iter().chain(self.shadows.iter().flat_map(|shadows| &shadows.lost))
    }

    /// The Services that only policies in shadow are attached to, each with the policy.
    pub(crate) fn unprotected_services<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Target, &'a ObjectKey)> {
        let protected = |name: &str| self.services(namespace).any(|(held, _)| held == name);
        let held = self.shadows.iter().flat_map(|shadows| &shadows.holders).filter(move |((of, _), _)| of == namespace);
        held.filter_map(move |((_, target), policy)| match target {
            Target::Service(name, _) if !protected(name) => Some((target, policy)),
            _ => None,
        })
    }

    /// Whether the most specific of these targets that a policy holds is a Gateway or a listener.
    pub(crate) fn holder_is_of_gateway(&self, targets: &[Placed]) -> bool {
        let held = targets.iter().find(|target| self.holders.contains_key(target));
        held.is_some_and(|(_, target)| matches!(target, Target::Gateway(_) | Target::Listener(..)))
    }

    /// The policies whose baselines hold under one of these targets: all of them, whichever holds the target. The pods
    /// of the Gateways serve the Services of their namespace, too, under hosts that their authors choose: so all of its
    /// baselines hold there.
    pub(crate) fn demanding(&self, targets: &[Placed]) -> Vec<&ObjectKey> {
        let of_services = |namespace: &String| {
            targets.iter().any(|(of, target)| of == namespace && matches!(target, Target::Service(..)))
        };
        let holds = |placed: &Placed| targets.contains(placed) || of_services(&placed.0);
        self.baselines.iter().filter(|(placed, _)| holds(placed)).flat_map(|(_, policies)| policies).collect()
    }

    /// Every Service of a namespace that a policy is attached to.
    pub(crate) fn services<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.holders.keys().filter(move |(of, _)| of == namespace).filter_map(|(_, target)| match target {
            Target::Service(name, port) => Some((name.as_str(), port.as_deref())),
            _ => None,
        })
    }
}

/// Whether the target exists.
pub(crate) fn exists(world: &World, target: &Target) -> bool {
    use kube::ResourceExt;
    let gateway = |name: &str| world.our_gateways().find(|g| g.name_any() == name);
    let route = |kind: RouteKind, name: &str| world.routes.iter().find(|r| r.kind() == kind && r.name() == name);
    let service = |name: &str| world.services.iter().find(|s| s.name_any() == name);
    match target {
        Target::Route(kind, name) => route(*kind, name).is_some(),
        Target::RouteRule(kind, name, rule) => {
            route(*kind, name).is_some_and(|r| r.rules().any(|r| r.rule.name.as_deref() == Some(rule)))
        }
        Target::Gateway(name) => gateway(name).is_some(),
        Target::GatewayClass(name) => world.classes.names().any(|class| class == name),
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
