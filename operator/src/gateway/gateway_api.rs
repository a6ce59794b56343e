//! Statuses of the Gateway API's own kinds, as its specification requires of an implementation.

use gateway_api::apis::standard::gateways::{Gateway, GatewayListeners};
use gateway_api::apis::standard::httproutes::HttpRouteParentRefs;
use idm_compile::{
    Cause, Compiled, Condition, Finding, ObjectId, RouteKind, RouteStatus, World, attached_elsewhere, is_our_class,
    route_kinds,
};
use idm_types::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::status::{conditions, patch_status};
use super::{Observed, Running, part};
use crate::Context;
use crate::objects::Kind;
use crate::world;

/// A condition: type, status, reason and message.
pub(super) type Verdict = (&'static str, &'static str, &'static str, String);

pub(super) async fn publish(
    context: &Context,
    world: &World,
    compiled: &Compiled,
    running: &[Running],
) -> Result<(), kube::Error> {
    let none = Observed::default();
    for gateway in world.our_gateways() {
        let part = world.part_of(gateway);
        let observed = running.iter().find(|of| of.part == part).map_or(&none, |of| &of.observed);
        write_gateway(context, world, compiled, gateway, observed).await?;
    }
    let (mut elsewhere, mut findings) = (Vec::new(), Vec::new());
    for namespace in world::gateways_of(&context.store, &world.namespace) {
        let of = world::with_other_routes(&context.store, &namespace, world.settings);
        let (statuses, report) = attached_elsewhere(world, &of);
        elsewhere.extend(statuses);
        findings.extend(report.findings().iter().cloned());
    }
    for route in &world.routes {
        let (kind, id) = (route.kind(), ObjectId::new(route.kind().name(), &world.namespace, &route.name()));
        let is_own =
            |status: &&RouteStatus| status.namespace == id.namespace && status.kind == kind && status.route == id.name;
        let here = compiled.report.about(&id);
        let there = findings.iter().filter(|finding| finding.object == id);
        let parents = [
            Parents { statuses: compiled.routes.iter().filter(is_own).collect(), findings: of_rules(here) },
            Parents { statuses: elsewhere.iter().filter(is_own).collect(), findings: of_rules(there) },
        ];
        write_route(context, Kind::of_route(kind), &id, &parents).await?;
    }
    super::backend_tls::publish(context, world, compiled).await
}

/// Accepts every GatewayClass that names this controller.
pub(crate) async fn accept_classes(context: &Context) -> Result<(), kube::Error> {
    for class in context.store.list(Kind::GatewayClass, "") {
        if !is_our_class(&serde_json::to_value(&*class).unwrap_or_default()) {
            continue;
        }
        let old = class.data.pointer("/status/conditions");
        let generation = class.metadata.generation.unwrap_or(0);
        let accepted = [("Accepted", "True", "Accepted", "taken by idm".to_owned())];
        let new = conditions(old, generation, accepted.into_iter(), Timestamp::now());
        if old != Some(&new) {
            patch_status(context, Kind::GatewayClass, &class, &json!({"conditions": new})).await?;
        }
    }
    Ok(())
}

async fn write_gateway(
    context: &Context,
    world: &World,
    compiled: &Compiled,
    gateway: &Gateway,
    observed: &Observed,
) -> Result<(), kube::Error> {
    let name = gateway.name_any();
    let Some(object) = context.store.find(Kind::Gateway, &world.namespace, &name) else { return Ok(()) };
    let (generation, now) = (gateway.metadata.generation.unwrap_or(0), Timestamp::now());
    let id = ObjectId::new("Gateway", &world.namespace, &name);
    let findings: Vec<&Finding> = compiled.report.about(&id).collect();
    let refused =
        findings.iter().find(|finding| matches!(finding.cause, Cause::InvalidParameters | Cause::UnsupportedAddress));
    let addresses = addresses(world, &part::name(&world.part_of(gateway)));
    let serving = if observed.is_programmed() {
        ("Programmed", "True", "Programmed", format!("{}/{} gateways", observed.current, observed.wanted))
    } else {
        ("Programmed", "False", "Pending", pending(observed))
    };
    let old_listeners = object.data.pointer("/status/listeners").and_then(Value::as_array);
    let mut usable = 0;
    let mut listeners = Vec::new();
    for (i, listener) in gateway.spec.listeners.iter().enumerate() {
        let old = old_listeners.into_iter().flatten().find(|l| l["name"] == listener.name);
        let of_listener = format!("spec.listeners[{i}]");
        let about = findings.iter().filter(|finding| {
            finding.path.strip_prefix(&of_listener).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let verdicts = listener_verdicts(refused.into_iter().chain(about).copied(), &serving);
        usable += usize::from(verdicts.iter().all(|(_, status, reason, _)| *status == "True" || *reason == "Pending"));
        listeners.push(json!({
            "name": listener.name,
            "attachedRoutes": attached(compiled, &name, listener),
            "conditions": conditions(old.and_then(|l| l.get("conditions")), generation, verdicts.into_iter(), now),
            "supportedKinds": supported_kinds(listener),
        }));
    }
    let open = findings.iter().find(|finding| finding.cause == Cause::DangerousOption);
    let invalid = usable < gateway.spec.listeners.len();
    let accepted = match (refused, invalid) {
        (Some(finding), _) => ("Accepted", "False", finding.cause.name(), finding.message.clone()),
        (None, true) => {
            let status = if usable > 0 { "True" } else { "False" };
            ("Accepted", status, "ListenersNotValid", "read the conditions of the listeners".to_owned())
        }
        (None, false) => ("Accepted", "True", "Accepted", open.map(|note| note.message.clone()).unwrap_or_default()),
    };
    let programmed = match accepted.1 {
        "True" => unusable_address(gateway, &addresses).unwrap_or(serving),
        _ => {
            let why = refused.map(|finding| finding.message.clone());
            ("Programmed", "False", "Invalid", why.unwrap_or_else(|| "no listener can be used".to_owned()))
        }
    };
    let old = object.data.pointer("/status/conditions");
    let verdicts = [accepted, programmed].into_iter().chain(client_certificate(gateway, &findings));
    let status = json!({
        "addresses": addresses,
        "listeners": listeners,
        "conditions": conditions(old, generation, verdicts, now),
    });
    let old = object.data.get("status").cloned().unwrap_or_default();
    let same = ["addresses", "listeners", "conditions"].iter().all(|field| old.get(field) == status.get(field));
    if same { Ok(()) } else { patch_status(context, Kind::Gateway, &object, &status).await }
}

fn pending(observed: &Observed) -> String {
    let why = observed.laggards.join("; ");
    let colon = if why.is_empty() { "" } else { ": " };
    format!("no gateway pod enforces the configuration yet{colon}{why}")
}

/// The condition of a Gateway that asks for an address which its Service does not have. An entry without a value asks
/// for any.
fn unusable_address(gateway: &Gateway, addresses: &Value) -> Option<Verdict> {
    let has = |value: &str| addresses.as_array().into_iter().flatten().any(|address| address["value"] == value);
    let mut asked = gateway.spec.addresses.iter().flatten().filter_map(|address| address.value.as_deref());
    let missing = asked.find(|value| !value.is_empty() && !has(value))?;
    let message = format!("address '{missing}' is not one of the gateway's Service");
    Some(("Programmed", "False", "AddressNotUsable", message))
}

/// Whether the certificate for backends can be used, where the Gateway names one.
fn client_certificate(gateway: &Gateway, findings: &[&Finding]) -> Option<Verdict> {
    gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let fault = findings.iter().find(|finding| finding.path.starts_with("spec.tls.backend"));
    Some(match fault {
        Some(finding) => {
            let permitted = finding.cause != Cause::RefNotPermitted;
            let reason = if permitted { "InvalidClientCertificateRef" } else { "RefNotPermitted" };
            ("ResolvedRefs", "False", reason, finding.message.clone())
        }
        None => ("ResolvedRefs", "True", "ResolvedRefs", String::new()),
    })
}

/// The conditions of a listener with these findings.
fn listener_verdicts<'f>(findings: impl Iterator<Item = &'f Finding>, serving: &Verdict) -> [Verdict; 3] {
    let mut accepted = ("Accepted", "True", "Accepted", String::new());
    let mut resolved = ("ResolvedRefs", "True", "ResolvedRefs", String::new());
    let mut programmed = ("Programmed", serving.1, serving.2, String::new());
    for finding in findings {
        let reason = match finding.cause {
            Cause::RefNotFound | Cause::InvalidRef => "InvalidCertificateRef",
            // Only the combination of values is unknown here; the specification has no nearer reason.
            Cause::InvalidParameters | Cause::UnsupportedListener | Cause::UnsupportedAddress => "UnsupportedValue",
            cause => cause.name(),
        };
        let condition = if finding.condition == Condition::ResolvedRefs { &mut resolved } else { &mut accepted };
        if condition.1 == "True" {
            *condition = (condition.0, "False", reason, finding.message.clone());
        }
        programmed = ("Programmed", "False", "Invalid", finding.message.clone());
    }
    [accepted, programmed, resolved]
}

fn supported_kinds(listener: &GatewayListeners) -> Value {
    let kinds = RouteKind::ALL.into_iter().filter(|kind| route_kinds(listener).hold(*kind));
    kinds.map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind.name()})).collect()
}

/// The number of routes that a listener took.
fn attached(compiled: &Compiled, gateway: &str, listener: &GatewayListeners) -> usize {
    let took = |names: &Vec<String>| names.contains(&listener.name);
    let parents = compiled.routes.iter().filter(|route| route.parent.name == gateway);
    let routes = parents.filter(|route| route.listeners.as_ref().is_ok_and(took));
    let routes = routes.map(|route| (&route.namespace, route.kind, &route.route));
    routes.collect::<std::collections::BTreeSet<_>>().len()
}

/// The addresses of the gateway of this name: the balancer's addresses where its Service has one, else the Service's
/// own, and its name in the cluster.
fn addresses(world: &World, name: &str) -> Value {
    let service = world.services.iter().find(|service| service.name_any() == name);
    let ingress = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref());
    let mut addresses: Vec<Value> = Vec::new();
    for of_balancer in ingress.into_iter().flatten() {
        addresses.extend(of_balancer.ip.iter().map(|ip| json!({"type": "IPAddress", "value": ip})));
        addresses.extend(of_balancer.hostname.iter().map(|name| json!({"type": "Hostname", "value": name})));
    }
    let own = service.and_then(|service| service.spec.as_ref()?.cluster_ip.as_ref());
    let own = own.filter(|ip| addresses.is_empty() && ip.parse::<std::net::IpAddr>().is_ok());
    addresses.extend(own.map(|ip| json!({"type": "IPAddress", "value": ip})));
    let name = format!("{name}.{}.svc.cluster.local", world.namespace);
    addresses.push(json!({"type": "Hostname", "value": name}));
    addresses.into()
}

/// Parents of a route, and what is wrong with its rules there.
struct Parents<'a> {
    statuses: Vec<&'a RouteStatus>,
    findings: Vec<&'a Finding>,
}

fn of_rules<'f>(findings: impl Iterator<Item = &'f Finding>) -> Vec<&'f Finding> {
    findings.filter(|finding| finding.path.starts_with("spec.rules")).collect()
}

/// Our parents' entries are replaced, other controllers' are kept.
async fn write_route(context: &Context, kind: Kind, id: &ObjectId, of_ours: &[Parents<'_>]) -> Result<(), kube::Error> {
    let Some(object) = context.store.find(kind, &id.namespace, &id.name) else { return Ok(()) };
    let old = object.data.pointer("/status/parents").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut parents: Vec<Value> = old.iter().filter(|parent| !is_by_us(parent)).cloned().collect();
    for Parents { statuses, findings } in of_ours {
        for status in statuses {
            let refused = status.listeners.as_ref().err();
            let refused = refused.map(|why| (why.cause().name(), why.message(&status.parent.name)));
            let parent = serde_json::to_value(&status.parent).unwrap_or_default();
            let before = old
                .iter()
                .find(|entry| is_by_us(entry) && entry["parentRef"] == parent)
                .and_then(|entry| entry.get("conditions"));
            let verdicts = route_verdicts(refused, findings);
            let generation = object.metadata.generation.unwrap_or(0);
            let new = conditions(before, generation, verdicts.into_iter(), Timestamp::now());
            parents.push(json!({"parentRef": parent, "controllerName": idm_api::CONTROLLER_NAME, "conditions": new}));
        }
    }
    if parents == old {
        return Ok(());
    }
    patch_status(context, kind, &object, &json!({"parents": parents})).await
}

/// Whether an entry of a route's status is ours.
fn is_by_us(parent: &Value) -> bool {
    parent["controllerName"] == idm_api::CONTROLLER_NAME
}

/// Whether some route of the namespace names a Gateway of ours in another one, or did when its status was written.
pub(crate) fn has_parents_elsewhere(context: &Context, world: &World) -> bool {
    let mut parents = world.routes.iter().flat_map(|route| route.parents());
    let routes = Kind::ROUTES.iter().flat_map(|kind| context.store.list(*kind, &world.namespace));
    let routes: Vec<_> = routes.collect();
    let mut written = routes
        .iter()
        .flat_map(|route| route.data.pointer("/status/parents").and_then(Value::as_array).into_iter().flatten());
    parents.any(|parent| is_elsewhere(context, world, parent)) || written.any(is_by_us)
}

/// Whether a route's parent is a Gateway of ours in another namespace.
fn is_elsewhere(context: &Context, world: &World, parent: &HttpRouteParentRefs) -> bool {
    let Some(namespace) = parent.namespace.as_ref().filter(|namespace| **namespace != world.namespace) else {
        return false;
    };
    let gateway = context.store.find(Kind::Gateway, namespace, &parent.name);
    let gateway = gateway.and_then(|object| serde_json::from_value(serde_json::to_value(&*object).ok()?).ok());
    parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && parent.group.as_deref().unwrap_or("gateway.networking.k8s.io") == "gateway.networking.k8s.io"
        && gateway.is_some_and(|gateway: Gateway| world.classes.holds(&gateway))
}

/// The conditions of a route under a parent that refused it, or took it.
fn route_verdicts(refused: Option<(&'static str, String)>, findings: &[&Finding]) -> [Verdict; 2] {
    let first = |condition: Condition| findings.iter().find(|finding| finding.condition == condition);
    let text = |finding: &Finding| format!("{}: {}", finding.path, finding.message);
    let accepted = match (refused, first(Condition::Accepted)) {
        (Some((reason, message)), _) => ("Accepted", "False", reason, message),
        (None, Some(finding)) => ("Accepted", "False", "UnsupportedValue", text(finding)),
        (None, None) => ("Accepted", "True", "Accepted", String::new()),
    };
    let resolved = match first(Condition::ResolvedRefs) {
        Some(finding) if finding.cause == Cause::RefNotFound => {
            ("ResolvedRefs", "False", "BackendNotFound", text(finding))
        }
        Some(finding) => ("ResolvedRefs", "False", finding.cause.name(), text(finding)),
        None => ("ResolvedRefs", "True", "ResolvedRefs", String::new()),
    };
    [accepted, resolved]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_has_the_addresses_of_its_service_and_no_others() {
        let addresses = json!([{"type": "IPAddress", "value": "10.0.0.9"}, {"type": "Hostname", "value": "a.example"}]);
        let of = |asked: Value| {
            let spec = json!({"gatewayClassName": "idm", "listeners": [], "addresses": asked});
            let gateway = serde_json::from_value(json!({"metadata": {"name": "g"}, "spec": spec})).unwrap();
            unusable_address(&gateway, &addresses).map(|verdict| verdict.2)
        };
        assert_eq!(of(json!([])), None);
        assert_eq!(of(json!([{"type": "IPAddress"}])), None);
        assert_eq!(of(json!([{"value": "10.0.0.9"}, {"type": "Hostname", "value": "a.example"}])), None);
        assert_eq!(of(json!([{"value": "10.0.0.9"}, {"value": "10.0.0.8"}])), Some("AddressNotUsable"));
    }
}
