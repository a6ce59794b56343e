//! The objects of the gateway of one part of a namespace: their names, labels and owners.

use aws_lc_rs::digest::{SHA256, digest};
use idm_compile::{Meta, Part, World};
use idm_types::hex;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{NAME, owner};
use crate::MANAGER;
use crate::sealing::GATEWAY_KEYS;

/// The longest name of a Service, and the longest value of a label.
const LONGEST: usize = 63;
/// Hexadecimal digits of a hash in a name.
const DIGITS: usize = 10;
/// The label that says by its value which gateway an object belongs to.
const NAME_LABEL: &str = "app.kubernetes.io/name";

/// The name of every object of a part's gateway. No two parts of a namespace have the same one, and none is that of a
/// shard, or of the keys of the namespace's gateways.
pub(crate) fn name(part: &Part) -> String {
    let Part::Gateway(gateway) = part else { return NAME.to_owned() };
    let plain = format!("{NAME}-{gateway}");
    let ends_in_hash = gateway.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == DIGITS && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    let is_free = plain.len() <= LONGEST && !gateway.starts_with("shard-") && plain != GATEWAY_KEYS;
    if is_free && !gateway.contains('.') && !ends_in_hash {
        return plain;
    }
    let hash = hex(digest(&SHA256, gateway.as_bytes()).as_ref());
    let room = LONGEST.saturating_sub(DIGITS + 1);
    let beginning: String = plain.chars().map(|c| if c == '.' { '-' } else { c }).take(room).collect();
    format!("{}-{}", beginning.trim_end_matches('-'), hash.get(..DIGITS).unwrap_or_default())
}

/// Whether a name can be that of a gateway's objects. Those of what all gateways of a namespace read cannot.
pub(crate) fn is_name(name: &str) -> bool {
    let is_shard = |rest: &str| rest.strip_prefix("-shard-").is_some_and(|number| number.parse::<usize>().is_ok());
    let is_free = |rest: &str| rest.is_empty() || rest.starts_with('-') && !is_shard(rest);
    name != GATEWAY_KEYS && name.strip_prefix(NAME).is_some_and(is_free)
}

/// Labels of all objects of a gateway of this name.
pub(super) fn labels(name: &str) -> Value {
    json!({NAME_LABEL: name, "app.kubernetes.io/component": "gateway", "app.kubernetes.io/part-of": "idm",
        "app.kubernetes.io/managed-by": MANAGER})
}

/// The labels by which its pods are found.
pub(super) fn selector(name: &str) -> Value {
    json!({NAME_LABEL: name, "app.kubernetes.io/managed-by": MANAGER})
}

/// Whether an object belongs to the gateway of this name.
pub(crate) fn is_of(object: &DynamicObject, name: &str) -> bool {
    object.labels().get(NAME_LABEL).is_some_and(|of| of == name)
}

/// Whether an object of a gateway may have a label or annotation of this name: those that find and manage it are ours.
fn is_free(name: &str) -> bool {
    !["app.kubernetes.io/", "identity-manager.io/"].iter().any(|prefix| name.starts_with(prefix))
}

/// The labels and annotations that the Gateways of a part ask for (`spec.infrastructure`), those of an older Gateway
/// before those of a younger one. Ours stay as they are.
pub(super) fn propagated(world: &World, part: &Part) -> (Value, Value) {
    let mut gateways: Vec<_> = world.gateways_in(part).collect();
    gateways.sort_by_key(|gateway| (gateway.metadata.creation_timestamp.clone(), gateway.metadata.name.clone()));
    let (mut all_labels, mut annotations) = (labels(&name(part)), json!({}));
    for settings in gateways.iter().filter_map(|gateway| gateway.spec.infrastructure.as_ref()) {
        let asked = [(&settings.labels, &mut all_labels), (&settings.annotations, &mut annotations)];
        for (asked, members) in asked {
            let Some(members) = members.as_object_mut() else { continue };
            for (name, value) in asked.iter().flatten().filter(|(name, _)| is_free(name)) {
                members.entry(name.clone()).or_insert_with(|| value.clone().into());
            }
        }
    }
    (all_labels, annotations)
}

/// The label of the Gateway API, where a part has one Gateway to name and its name fits a label.
pub(super) fn gateway_label(world: &World, part: &Part) -> Option<String> {
    let mut gateways = world.gateways_in(part);
    let (Some(gateway), None) = (gateways.next(), gateways.next()) else { return None };
    Some(gateway.name_any()).filter(|name| name.len() <= LONGEST)
}

/// The owners of a part's objects. Kubernetes deletes them with the last of these, even without an operator: those of a
/// Gateway with it, those of the namespace with the last of its policies and of the Gateways that share them.
pub(super) fn owners(world: &World, part: &Part) -> Vec<OwnerReference> {
    let gateways = world.gateways_in(part).map(|gateway| of_gateway(&Meta::of(&gateway.metadata, "Gateway")));
    match part {
        Part::Gateway(_) => gateways.collect(),
        Part::Shared => of_policies(world).chain(gateways).collect(),
    }
}

/// The owners of what all gateways of a namespace use.
pub(super) fn owners_of_all(world: &World) -> Vec<OwnerReference> {
    let gateways = world.our_gateways().map(|gateway| of_gateway(&Meta::of(&gateway.metadata, "Gateway")));
    of_policies(world).chain(gateways).collect()
}

fn of_policies(world: &World) -> impl Iterator<Item = OwnerReference> {
    let broken = world.broken.iter().filter(|broken| broken.id.kind == "IdentityPolicy");
    let all = world.policies.iter().map(|policy| &policy.meta).chain(broken.map(|broken| &broken.meta));
    all.map(|meta| owner("IdentityPolicy", meta))
}

fn of_gateway(meta: &Meta) -> OwnerReference {
    OwnerReference { api_version: "gateway.networking.k8s.io/v1".into(), ..owner("Gateway", meta) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_gateway_has_a_name_of_its_own_that_fits_a_service() {
        let of = |gateway: &str| name(&Part::Gateway(gateway.to_owned()));
        assert_eq!(name(&Part::Shared), "idm-gateway");
        assert_eq!(of("public"), "idm-gateway-public");
        let longest = "g".repeat(51);
        assert_eq!(of(&longest), format!("idm-gateway-{longest}"));
        let long = "x".repeat(253);
        let hashed = of("a.b");
        let all = [
            "public",
            "a.b",
            "a-b",
            "shard-0",
            "shard-0-1",
            "seal",
            "public-0123456789",
            &long,
            &format!("{long}y"),
            &longest,
            &format!("{longest}g"),
            hashed.trim_start_matches("idm-gateway-"),
        ];
        let names: BTreeSet<String> = all.iter().map(|gateway| of(gateway)).collect();
        assert_eq!(names.len(), all.len(), "{names:?}");
        for name in &names {
            assert!(is_name(name) && name.len() <= 63 && !name.contains('.') && !name.ends_with('-'), "{name}");
        }
        for other in [GATEWAY_KEYS, "idm-gateway-shard-0", "idm-gateway-shard-63", "idm-gatewayx"] {
            assert!(!names.contains(other) && !is_name(other), "{other}");
        }
    }
}
