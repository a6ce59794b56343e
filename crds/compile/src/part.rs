//! Parts of a namespace: the traffic that one gateway, with pods and an address of its own, serves.
//!
//! The namespace's own gateway serves the Services that policies name, and the Gateways that share it. Every other
//! Gateway is a part of its own: its plan has its listeners, the routes that they take, the policies that decide about
//! them, and no more. Roles and Credentials are those of the namespace in every part.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::apis::standard::gateways::Gateway;
use idm_api::v1alpha1::TargetReference;
use idm_plan::{Bundle, ObjectKey, Plan, Policy, RouteRule, Secrets, ServerCertificate, VirtualHost};
use kube::ResourceExt;

use crate::parameters::{Parameters, parameters};
use crate::{ListenerPorts, World};

/// How the Gateways of a namespace are spread over gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One process serves the whole namespace: a folder.
    #[default]
    OneProcess,
    /// Gateways share the namespace's gateway, unless they ask for one of their own.
    Shared,
    /// A Gateway has one of its own, unless it asks to share or is in [`World::shared_gateways`].
    Own,
}

/// One part of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Served by the namespace's own gateway.
    #[default]
    Shared,
    /// The Gateway of this name.
    Gateway(String),
}

/// The configuration of the gateway of one part.
#[derive(Clone, Debug)]
pub struct CompiledPart {
    /// The part.
    pub part: Part,
    /// The part of the namespace's plan that its gateway enforces.
    pub plan: Plan,
    /// The secrets that this plan refers to.
    pub secrets: Secrets,
    /// The ports of its listeners in use.
    pub ports: ListenerPorts,
    /// The parameters of its pods and its Service; `None`: those that its Gateway names cannot be used.
    pub parameters: Option<Parameters>,
}

/// The wish in a Gateway's annotation. An error says what is wrong with it.
pub(crate) fn wish(gateway: &Gateway) -> Result<Option<bool>, String> {
    match gateway.annotations().get(idm_api::LAYOUT_ANNOTATION).map(String::as_str) {
        None => Ok(None),
        Some("own") => Ok(Some(true)),
        Some("shared") => Ok(Some(false)),
        Some(other) => Err(format!("'{other}' must be `own` or `shared`")),
    }
}

impl World {
    /// The part that a Gateway belongs to.
    pub fn part_of(&self, gateway: &Gateway) -> Part {
        let name = gateway.name_any();
        let own = match self.settings.layout {
            Layout::OneProcess => false,
            Layout::Shared => wish(gateway) == Ok(Some(true)),
            Layout::Own => wish(gateway).ok().flatten().unwrap_or_else(|| !self.shared_gateways.contains(&name)),
        };
        if own { Part::Gateway(name) } else { Part::Shared }
    }

    /// The parts that have a gateway.
    pub fn parts(&self) -> BTreeSet<Part> {
        let live = self.our_gateways().filter(|gateway| gateway.metadata.deletion_timestamp.is_none());
        let mut parts: BTreeSet<Part> = live.map(|gateway| self.part_of(gateway)).collect();
        // Routes and Gateways have gateways of their own, or none.
        let is_service = |target: &TargetReference| target.kind == "Service";
        let has_services = |targets: &[TargetReference]| targets.is_empty() || targets.iter().any(is_service);
        let broken = self.broken.iter().filter(|broken| broken.id.kind == "IdentityPolicy");
        let mut all = self.policies.iter().map(|policy| &policy.spec.target_refs).chain(broken.map(|of| &of.targets));
        if all.any(|targets| has_services(targets)) {
            parts.insert(Part::Shared);
        }
        parts
    }

    /// The Gateways of ours that belong to a part.
    pub fn gateways_in<'w>(&'w self, part: &'w Part) -> impl Iterator<Item = &'w Gateway> {
        self.our_gateways().filter(move |gateway| self.part_of(gateway) == *part)
    }
}

/// The routing of one part.
pub(crate) struct PartRouting {
    pub(crate) hosts: Vec<VirtualHost>,
    pub(crate) secure_hosts: Vec<VirtualHost>,
    pub(crate) certificates: Vec<ServerCertificate>,
    pub(crate) ports: ListenerPorts,
}

/// Cuts a part out of the namespace's plan.
pub(crate) fn cut(world: &World, part: Part, routing: PartRouting, whole: &Plan, secrets: &Secrets) -> CompiledPart {
    let PartRouting { mut hosts, mut secure_hosts, certificates, ports } = routing;
    let rules = rules_of(&mut hosts, &mut secure_hosts, &whole.rules);
    let (rules, policies) = policies_of(rules, &whole.policies);
    let used = |federation: &&idm_plan::Federation| {
        let near = policies.iter().filter(|policy| policy.key.namespace == federation.key.namespace);
        near.flat_map(|policy| &policy.methods).any(|method| method.kind.uses_federation(&federation.key.name))
    };
    let plan = Plan {
        namespace: whole.namespace.clone(),
        federations: whole.federations.iter().filter(used).cloned().collect(),
        policies,
        hosts,
        secure_hosts,
        certificates,
        rules,
        grants: whole.grants.clone(),
        api_server: whole.api_server.clone(),
    };
    let secrets = secrets.named_by(&serde_json::to_value(&plan).unwrap_or_default());
    let parameters = match &part {
        Part::Shared => Some(Parameters::default()),
        Part::Gateway(_) => world.gateways_in(&part).next().and_then(|gateway| parameters(world, gateway).ok()),
    };
    CompiledPart { part, plan, secrets, ports, parameters }
}

/// The rules that entries refer to, in their order; the entries refer to their new places.
fn rules_of(hosts: &mut [VirtualHost], secure_hosts: &mut [VirtualHost], all: &[RouteRule]) -> Vec<RouteRule> {
    let mut entries: Vec<_> =
        hosts.iter_mut().chain(secure_hosts).flat_map(|host| &mut host.entries).map(|entry| &mut entry.rule).collect();
    let used: BTreeSet<usize> = entries.iter().map(|rule| **rule).collect();
    let places: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    for rule in &mut entries {
        if let Some(place) = places.get(*rule) {
            **rule = *place;
        }
    }
    used.iter().filter_map(|rule| all.get(*rule).cloned()).collect()
}

/// The policies that rules refer to, in their order, with rules that refer to their new places.
fn policies_of(mut rules: Vec<RouteRule>, all: &[Policy]) -> (Vec<RouteRule>, Vec<Policy>) {
    fn places(rules: &mut [RouteRule]) -> impl Iterator<Item = &mut usize> {
        rules.iter_mut().flat_map(|rule| {
            let shadows = rule.shadows.iter_mut().map(|shadow| &mut shadow.policy);
            rule.handler.policy_mut().into_iter().chain(&mut rule.baselines).chain(shadows)
        })
    }
    let used: BTreeSet<usize> = places(&mut rules).map(|place| *place).collect();
    let new: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    for place in places(&mut rules) {
        if let Some(to) = new.get(place) {
            *place = *to;
        }
    }
    (rules, used.iter().filter_map(|policy| all.get(*policy).cloned()).collect())
}

/// The configuration that the gateways of a namespace enforce, in one: a policy, a Federation or a UsagePlan that became
/// invalid finds its last good version there. `None` without any bundle.
pub fn in_force<'b>(mut bundles: impl Iterator<Item = &'b Bundle>) -> Option<Bundle> {
    let mut together = bundles.next()?.clone();
    for Bundle { plan, secrets, credentials, .. } in bundles {
        let Plan { policies, federations, .. } = &mut together.plan;
        // A write that did not reach all of them: the newer version counts, with its secrets.
        let mut is_newer = false;
        for policy in &plan.policies {
            match policies.iter_mut().find(|known| known.uid == policy.uid) {
                Some(known) if known.generation >= policy.generation => {}
                Some(known) => {
                    *known = policy.clone();
                    is_newer = true;
                }
                None => policies.push(policy.clone()),
            }
        }
        add_new(federations, &plan.federations, |federation| &federation.key);
        add_new(&mut together.credentials.usage_plans, &credentials.usage_plans, |plan| &plan.key);
        let known = std::mem::take(&mut together.secrets);
        together.secrets = if is_newer { secrets.clone() } else { known.clone() };
        together.secrets.keep_from(if is_newer { &known } else { secrets });
    }
    Some(together)
}

/// Adds those that are not there yet.
fn add_new<T: Clone>(all: &mut Vec<T>, more: &[T], key: impl Fn(&T) -> &ObjectKey) {
    for one in more {
        if all.iter().all(|known| key(known) != key(one)) {
            all.push(one.clone());
        }
    }
}
