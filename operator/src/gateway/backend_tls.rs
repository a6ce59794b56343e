//! Statuses of BackendTLSPolicies, one for each Gateway of ours that sends requests to their Services.

use std::collections::BTreeSet;

use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicy;
use idm_compile::{Compiled, Condition, Finding, ObjectId, Route, World, targeted_services};
use idm_types::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::gateway_api::Verdict;
use super::status::{conditions, patch_status};
use crate::Context;
use crate::objects::Kind;

/// The most ancestors that a status may have.
const MAX_ANCESTORS: usize = 16;

/// Writes those of the namespace and of the namespaces whose routes its Gateways take.
pub(super) async fn publish(context: &Context, world: &World, compiled: &Compiled) -> Result<(), kube::Error> {
    for of in std::iter::once(world).chain(world.tenants()) {
        for policy in &of.backend_tls_policies {
            write(context, world, of, compiled, policy).await?;
        }
    }
    Ok(())
}

/// The entries for Gateways of this namespace are replaced, and all others are kept.
async fn write(
    context: &Context,
    world: &World,
    of: &World,
    compiled: &Compiled,
    policy: &BackendTlsPolicy,
) -> Result<(), kube::Error> {
    let name = policy.name_any();
    let Some(object) = context.store.find(Kind::BackendTlsPolicy, &of.namespace, &name) else { return Ok(()) };
    let old = object.data.pointer("/status/ancestors").and_then(Value::as_array).cloned().unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = old.iter().cloned().partition(|ancestor| {
        ancestor["controllerName"] == idm_api::CONTROLLER_NAME
            && ancestor["ancestorRef"]["namespace"] == world.namespace
    });
    let id = ObjectId::new("BackendTLSPolicy", &of.namespace, &name);
    let findings: Vec<&Finding> = compiled.report.about(&id).collect();
    let generation = policy.metadata.generation.unwrap_or(0);
    let room = MAX_ANCESTORS.saturating_sub(others.len());
    let mut new = others;
    new.extend(gateways(of, compiled, policy).into_iter().take(room).map(|gateway| {
        let ancestor = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway",
            "namespace": world.namespace, "name": gateway});
        let before = ours.iter().find(|known| known["ancestorRef"] == ancestor);
        let before = before.and_then(|known| known.get("conditions"));
        let conditions = conditions(before, generation, verdicts(&findings).into_iter(), Timestamp::now());
        json!({"ancestorRef": ancestor, "controllerName": idm_api::CONTROLLER_NAME, "conditions": conditions})
    }));
    if new == old {
        return Ok(());
    }
    patch_status(context, Kind::BackendTlsPolicy, &object, &json!({"ancestors": new})).await
}

/// The Gateways that took a route to one of the policy's Services.
fn gateways<'c>(of: &World, compiled: &'c Compiled, policy: &BackendTlsPolicy) -> BTreeSet<&'c str> {
    let services: BTreeSet<&str> = targeted_services(policy).collect();
    let leads_there = |route: &&Route| route.referred_services().any(|(_, name)| services.contains(name));
    let routes: BTreeSet<_> = of.routes.iter().filter(leads_there).map(|route| (route.kind(), route.name())).collect();
    let taken = compiled.routes.iter().filter(|status| {
        let route = (status.kind, status.route.clone());
        status.listeners.is_ok() && status.namespace == of.namespace && routes.contains(&route)
    });
    taken.map(|status| status.parent.name.as_str()).collect()
}

fn verdicts(findings: &[&Finding]) -> [Verdict; 2] {
    let verdict = |kind: &'static str, good: &'static str, condition: Condition| match findings
        .iter()
        .find(|finding| finding.condition == condition)
    {
        Some(finding) => (kind, "False", finding.cause.name(), format!("{}: {}", finding.path, finding.message)),
        None => (kind, "True", good, String::new()),
    };
    [
        verdict("Accepted", "Accepted", Condition::Accepted),
        verdict("ResolvedRefs", "ResolvedRefs", Condition::ResolvedRefs),
    ]
}
