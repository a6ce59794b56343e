//! Statuses of the Gateway API's own kinds, as its specification requires of an implementation.

use gateway_api::apis::standard::gateways::Gateway;
use idm_compile::{Compiled, Condition, ObjectId, World};
use idm_types::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::status::{conditions, patch_status};
use super::{NAME, Observed};
use crate::Context;
use crate::objects::Kind;

pub(super) async fn publish(
    context: &Context,
    world: &World,
    compiled: &Compiled,
    observed: &Observed,
) -> Result<(), kube::Error> {
    accept_class(context).await?;
    for gateway in world.gateways.iter().filter(|g| g.spec.gateway_class_name == idm_api::GATEWAY_CLASS) {
        write_gateway(context, world, compiled, gateway, observed).await?;
    }
    for route in &world.routes {
        write_route(context, world, compiled, &route.name_any()).await?;
    }
    Ok(())
}

async fn accept_class(context: &Context) -> Result<(), kube::Error> {
    let Some(class) = context.store.find(Kind::GatewayClass, "", idm_api::GATEWAY_CLASS) else { return Ok(()) };
    if class.data.pointer("/spec/controllerName").and_then(Value::as_str) != Some(idm_api::CONTROLLER_NAME) {
        return Ok(());
    }
    let old = class.data.pointer("/status/conditions");
    let new = conditions(
        old,
        class.metadata.generation.unwrap_or(0),
        [("Accepted", "True", "Accepted", "taken by idm".to_owned())].into_iter(),
        Timestamp::now(),
    );
    if old == Some(&new) {
        return Ok(());
    }
    patch_status(context, Kind::GatewayClass, &class, &json!({"conditions": new})).await
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
    let programmed = if observed.is_programmed() {
        ("Programmed", "True", "Programmed", format!("{}/{} gateways", observed.current, observed.wanted))
    } else {
        ("Programmed", "False", "Pending", "no gateway pod enforces the configuration yet".to_owned())
    };
    let finding_of = |i: usize| compiled.report.about(&id).find(|f| f.path == format!("spec.listeners[{i}]"));
    let old_listeners = object.data.pointer("/status/listeners").and_then(Value::as_array);
    let listeners = gateway.spec.listeners.iter().enumerate().map(|(i, listener)| {
        let old = old_listeners.into_iter().flatten().find(|l| l["name"] == listener.name).and_then(|l| l.get("conditions"));
        let verdicts = match finding_of(i) {
            None => [
                ("Accepted", "True", "Accepted", String::new()),
                ("Programmed", programmed.1, programmed.2, String::new()),
                ("ResolvedRefs", "True", "ResolvedRefs", String::new()),
            ],
            Some(finding) => {
                let reason = if listener.protocol == "HTTP" { "PortUnavailable" } else { "UnsupportedProtocol" };
                [
                    ("Accepted", "False", reason, finding.message.clone()),
                    ("Programmed", "False", "Invalid", finding.message.clone()),
                    ("ResolvedRefs", "True", "ResolvedRefs", String::new()),
                ]
            }
        };
        let attached = compiled.routes.iter().filter(|r| r.parent.name == name && r.listeners.contains(&listener.name)).count();
        json!({"name": listener.name, "attachedRoutes": attached, "conditions": conditions(old, generation, verdicts.into_iter(), now),
            "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]})
    });
    let status = json!({
        "addresses": [{"type": "Hostname", "value": format!("{NAME}.{}.svc.cluster.local", world.namespace)}],
        "listeners": listeners.collect::<Vec<_>>(),
        "conditions": conditions(object.data.pointer("/status/conditions"), generation, [("Accepted", "True", "Accepted", String::new()), programmed.clone()].into_iter(), now),
    });
    let old = object.data.get("status").cloned().unwrap_or_default();
    let same = ["addresses", "listeners", "conditions"].iter().all(|field| old.get(field) == status.get(field));
    if same { Ok(()) } else { patch_status(context, Kind::Gateway, &object, &status).await }
}

/// The entries for our parents are replaced, those of other controllers are kept.
async fn write_route(context: &Context, world: &World, compiled: &Compiled, name: &str) -> Result<(), kube::Error> {
    let Some(object) = context.store.find(Kind::HttpRoute, &world.namespace, name) else { return Ok(()) };
    let old = object.data.pointer("/status/parents").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut parents: Vec<Value> =
        old.iter().filter(|p| p["controllerName"] != idm_api::CONTROLLER_NAME).cloned().collect();
    let id = ObjectId::new("HTTPRoute", &world.namespace, name);
    let first = |condition: Condition| {
        compiled.report.about(&id).find(|f| f.condition == condition && f.path.starts_with("spec.rules"))
    };
    for status in compiled.routes.iter().filter(|status| status.route == name) {
        let parent = serde_json::to_value(&status.parent).unwrap_or_default();
        let before = old
            .iter()
            .find(|p| p["controllerName"] == idm_api::CONTROLLER_NAME && p["parentRef"] == parent)
            .and_then(|p| p.get("conditions"));
        let accepted = match (status.listeners.is_empty(), first(Condition::Accepted)) {
            (true, _) => {
                ("Accepted", "False", "NoMatchingParent", "no listener of the Gateway takes this route".to_owned())
            }
            (_, Some(finding)) => {
                ("Accepted", "False", "UnsupportedValue", format!("{}: {}", finding.path, finding.message))
            }
            _ => ("Accepted", "True", "Accepted", String::new()),
        };
        let resolved = match first(Condition::ResolvedRefs) {
            Some(finding) if finding.cause.name() == "RefNotFound" => {
                ("ResolvedRefs", "False", "BackendNotFound", format!("{}: {}", finding.path, finding.message))
            }
            Some(finding) => {
                ("ResolvedRefs", "False", finding.cause.name(), format!("{}: {}", finding.path, finding.message))
            }
            None => ("ResolvedRefs", "True", "ResolvedRefs", String::new()),
        };
        let new = conditions(
            before,
            object.metadata.generation.unwrap_or(0),
            [accepted, resolved].into_iter(),
            Timestamp::now(),
        );
        parents.push(json!({"parentRef": parent, "controllerName": idm_api::CONTROLLER_NAME, "conditions": new}));
    }
    if parents == old {
        return Ok(());
    }
    patch_status(context, Kind::HttpRoute, &object, &json!({"parents": parents})).await
}
