//! Which GatewayClasses are ours, and what their Gateways do with routes that no policy covers.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::Gateway;
use idm_plan::{Policy, Secrets};

use crate::lower::{Notes, policy::lower_policy};
use crate::{Meta, Object, ObjectId, Report, World};

/// The treatment of requests of a route that no IdentityPolicy covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncovered {
    /// They are refused.
    Refuse,
    /// They are forwarded, whoever sent them. Only the annotation [`idm_api::DANGER_OPEN_ANNOTATION`] of a
    /// GatewayClass, which administrators of the cluster alone can write, says so.
    Forward,
}

/// The GatewayClasses of this controller, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(BTreeMap<String, Uncovered>);

impl Default for Classes {
    /// The class that the chart installs.
    fn default() -> Self {
        Self(BTreeMap::from([(idm_api::GATEWAY_CLASS.to_owned(), Uncovered::Refuse)]))
    }
}

impl Classes {
    /// Those of the GatewayClasses that name this controller; their own names do not matter.
    pub fn of<'a>(classes: impl Iterator<Item = &'a serde_json::Value>) -> Self {
        let ours = classes.filter(|class| is_our_class(class));
        Self(ours.map(|class| (text(class, "/metadata/name").to_owned(), uncovered(class))).collect())
    }

    /// Adds a GatewayClass; one of another controller takes its name away from us.
    pub fn insert(&mut self, class: &serde_json::Value) {
        let name = text(class, "/metadata/name");
        if is_our_class(class) {
            self.0.insert(name.to_owned(), uncovered(class));
        } else {
            self.0.remove(name);
        }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a Gateway is ours to serve.
    pub fn holds(&self, gateway: &Gateway) -> bool {
        self.0.contains_key(&gateway.spec.gateway_class_name)
    }

    /// Whether a Gateway forwards requests of routes that no policy covers.
    pub fn forwards_uncovered(&self, gateway: &Gateway) -> bool {
        self.0.get(&gateway.spec.gateway_class_name) == Some(&Uncovered::Forward)
    }
}

/// Whether a GatewayClass, as JSON, names this controller.
pub fn is_our_class(class: &serde_json::Value) -> bool {
    text(class, "/spec/controllerName") == idm_api::CONTROLLER_NAME
}

/// The name of the policy that stands for an open default. No object can have it.
const OPEN_POLICY: &str = "(open by default)";

/// A policy that lets everyone pass.
pub(crate) fn open_policy(world: &World) -> Option<Policy> {
    let spec = serde_json::json!({
        "targetRefs": [], "authentication": {"methods": [{"name": "everyone", "anonymous": {}}]},
    });
    let meta = Meta { name: OPEN_POLICY.to_owned(), uid: OPEN_POLICY.to_owned(), ..Meta::default() };
    let object = Object { meta, spec: serde_json::from_value(spec).ok()? };
    let mut report = Report::default();
    let mut notes = Notes::new(&mut report, ObjectId::new("IdentityPolicy", &world.namespace, OPEN_POLICY));
    lower_policy(world, &[], &object, &mut Secrets::default(), &mut notes)
}

fn uncovered(class: &serde_json::Value) -> Uncovered {
    let annotations = class.pointer("/metadata/annotations").and_then(|all| all.as_object());
    match annotations.and_then(|all| all.get(idm_api::DANGER_OPEN_ANNOTATION)?.as_str()) {
        Some("true") => Uncovered::Forward,
        _ => Uncovered::Refuse,
    }
}

fn text<'a>(class: &'a serde_json::Value, pointer: &str) -> &'a str {
    class.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, controller: &str, annotation: Option<&str>) -> serde_json::Value {
        let mut class = json!({"metadata": {"name": name}, "spec": {"controllerName": controller}});
        if let Some(value) = annotation {
            class["metadata"]["annotations"] = json!({idm_api::DANGER_OPEN_ANNOTATION: value});
        }
        class
    }

    fn gateway(class: &str) -> Gateway {
        let spec = json!({"gatewayClassName": class, "listeners": []});
        serde_json::from_value(json!({"metadata": {"name": "g"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_class_is_ours_by_its_controller_and_open_by_exactly_one_value() {
        let all = [
            class("idm", "example.com/other", Some("true")),
            class("ours", idm_api::CONTROLLER_NAME, None),
            class("open", idm_api::CONTROLLER_NAME, Some("true")),
            class("yes", idm_api::CONTROLLER_NAME, Some("yes")),
        ];
        let classes = Classes::of(all.iter());
        let of = |name: &str| (classes.holds(&gateway(name)), classes.forwards_uncovered(&gateway(name)));
        assert_eq!(of("idm"), (false, false));
        assert_eq!(of("ours"), (true, false));
        assert_eq!(of("open"), (true, true));
        assert_eq!(of("yes"), (true, false));
        assert_eq!(of("unknown"), (false, false));
    }
}
