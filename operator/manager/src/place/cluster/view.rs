//! Objects of a cluster as they are shown: by their content, and by what the operator writes into their status.

use std::collections::BTreeMap;

use idm_compile::effective;
use idm_permission::Kind;
use idm_plan::ObjectKey;
use idm_types::{Timestamp, visible};
use kube::Client;
use serde_json::Value;

use super::request::together;
use super::{merge, owner, read, text, world};
use crate::failure::Failure;
use crate::kind::ObjectKind;
use crate::place::ObjectRef;
use crate::place::folder::snapshot::field_of;
use crate::place::summary::{MOST_SHOWN, SOON_MS, summary};
use crate::table::Later;
use crate::wire::audit::{Expiring, Failing};
use crate::wire::{FindingView, GatewayView, Item, KeyView, ObjectView, Ready};

/// The name of a namespace's own gateway; those of Gateways are called as these.
const GATEWAY: &str = "idm-gateway";

/// An object in a list.
pub(super) fn item(object: &Value, kind: ObjectKind) -> Item {
    Item {
        kind: kind.name().to_owned(),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
        team: read::team_of(object, kind).map(str::to_owned),
        ready: ready(object, kind),
        summary: summary(object, kind, &keys(object)),
        version: merge::version(&with_kind(object, kind)),
        managed_by: owner::of(object, kind.name()),
    }
}

/// Items of a list have neither.
fn with_kind(object: &Value, kind: ObjectKind) -> Value {
    let mut object = object.clone();
    if let Some(own) = kind.ours() {
        object["apiVersion"] = "identity-manager.io/v1alpha1".into();
        object["kind"] = own.name().into();
    }
    object
}

/// One object with everything that is known of it.
pub(super) async fn whole(client: &Client, object: &ObjectRef, found: &Value) -> Result<ObjectView, Failure> {
    let ObjectRef { kind, namespace, name } = object;
    let is = |one: Kind| *kind == ObjectKind::Ours(one);
    let effective = match is(Kind::IdentityPolicy) {
        true => {
            let read = world::understood(client, namespace).await?;
            let policy = effective(&read.world, &read.compiled, &ObjectKey::new(namespace, name));
            policy.and_then(|policy| serde_json::to_value(policy).ok())
        }
        false => None,
    };
    Ok(ObjectView {
        item: item(found, *kind),
        yaml: serde_yaml_ng::to_string(&merge::plain(found)).unwrap_or_default(),
        file: None,
        line: None,
        findings: findings(found),
        keys: is(Kind::Credential).then(|| keys(found)),
        effective,
    })
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// The condition `Ready` of an object of ours, or the first that is bad of another's.
fn ready(object: &Value, kind: ObjectKind) -> Ready {
    let shown = |status: &str, reason: &str, message: &str| Ready {
        status: status.to_owned(),
        reason: visible(reason).into_owned(),
        message: visible(message).into_owned(),
    };
    if kind.ours().is_none() {
        let bad = conditions(object).find(|one| text(one, "/status") == "False");
        return match bad {
            Some(bad) => shown("False", text(bad, "/reason"), text(bad, "/message")),
            None => shown("True", "Ready", ""),
        };
    }
    let generation = &object["metadata"]["generation"];
    let found = conditions(object).find(|one| text(one, "/type") == "Ready");
    match found.filter(|one| one["observedGeneration"].is_null() || one["observedGeneration"] == *generation) {
        Some(one) => shown(text(one, "/status"), text(one, "/reason"), text(one, "/message")),
        None => shown("Unknown", "Pending", "the operator has not looked at this version yet"),
    }
}

/// The conditions that are false, but for the one that sums them up.
fn findings(object: &Value) -> Vec<FindingView> {
    let bad = conditions(object).filter(|one| text(one, "/status") == "False" && text(one, "/type") != "Ready");
    let shown = bad.map(|one| FindingView {
        field: field_of(text(one, "/message")).unwrap_or_default(),
        reason: visible(text(one, "/reason")).into_owned(),
        message: visible(text(one, "/message")).into_owned(),
        is_note: false,
    });
    shown.collect()
}

/// The keys of a Credential.
pub(super) fn keys(object: &Value) -> Vec<KeyView> {
    let keys = object.pointer("/status/keys").and_then(Value::as_array).into_iter().flatten();
    let shown = keys.map(|key| KeyView {
        id: text(key, "/id").to_owned(),
        state: text(key, "/state").to_owned(),
        until_time: Some(text(key, "/untilTime").to_owned()).filter(|time| !time.is_empty()),
    });
    shown.collect()
}

/// The first objects of some kinds in some namespaces.
async fn all(client: &Client, kinds: &[Kind], namespaces: &[String]) -> Result<Vec<(Kind, Value)>, Failure> {
    let mut wanted = Vec::new();
    let mut work: Vec<Later<'_, Vec<Value>>> = Vec::new();
    for namespace in namespaces {
        for kind in kinds {
            wanted.push(*kind);
            work.push(Box::pin(read::first(client, ObjectKind::Ours(*kind), namespace)));
        }
    }
    let found = wanted.into_iter().zip(together(work).await?);
    Ok(found.flat_map(|(kind, objects)| objects.into_iter().map(move |object| (kind, object))).collect())
}

/// The gateways of namespaces, as the statuses of their policies tell of them.
pub(super) async fn gateways(client: &Client, namespaces: &[String]) -> Result<Vec<GatewayView>, Failure> {
    let policies = all(client, &[Kind::IdentityPolicy], namespaces).await?;
    let mut all: BTreeMap<(String, String), GatewayView> = BTreeMap::new();
    for told in policies.iter().flat_map(|(_, policy)| gateways_of(policy)) {
        let known = all.get(&(told.namespace.clone(), told.name.clone()));
        // The newest generation counts; of one generation, the policy with more to say.
        let is_newer = known.is_none_or(|known| {
            (told.generation, !told.message.is_empty()) > (known.generation, !known.message.is_empty())
        });
        if is_newer {
            all.insert((told.namespace.clone(), told.name.clone()), told);
        }
    }
    Ok(all.into_values().collect())
}

/// The gateways in the condition `Programmed` of a policy. All that have it are there where all are in order:
/// `2/2 gateways at generation 7, 3/3 gateways of Gateway public at generation 2`. Else it is the first that is not,
/// and the obstacle behind a colon: `2/3 gateways at generation 7: a is at generation 6`.
fn gateways_of(policy: &Value) -> Vec<GatewayView> {
    let Some(programmed) = conditions(policy).find(|one| text(one, "/type") == "Programmed") else { return Vec::new() };
    let namespace = text(policy, "/metadata/namespace");
    let told = text(programmed, "/message");
    if text(programmed, "/status") != "True" {
        let (gateway, message) = told.split_once(": ").unwrap_or((told, ""));
        return gateway_of(gateway, namespace, message).into_iter().collect();
    }
    // A note follows.
    let counted = told.split_once("; ").map_or(told, |(counted, _)| counted);
    counted.split(", ").filter_map(|gateway| gateway_of(gateway, namespace, "")).collect()
}

/// `2/3 gateways of Gateway infra/public at generation 7`. The namespace, and a Gateway of it, may be unnamed.
fn gateway_of(told: &str, namespace: &str, message: &str) -> Option<GatewayView> {
    let (counts, rest) = told.split_once(" gateways ")?;
    let (which, generation) = rest.rsplit_once("at generation ")?;
    let (ready, wanted) = counts.split_once('/')?;
    let (namespace, name) = match which.trim_end().strip_prefix("of ").and_then(|which| which.split_once(' ')) {
        None => (namespace, GATEWAY),
        Some(("namespace", other)) => (other, GATEWAY),
        Some(("Gateway", gateway)) => gateway.split_once('/').unwrap_or((namespace, gateway)),
        Some(_) => return None,
    };
    Some(GatewayView {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        generation: generation.parse().ok()?,
        digest: String::new(),
        ready: ready.parse().ok()?,
        wanted: wanted.parse().ok()?,
        message: visible(message).into_owned(),
    })
}

/// Objects that are not in force, and what ends within two weeks.
pub(super) async fn attention(
    client: &Client,
    namespaces: &[String],
    now: Timestamp,
) -> Result<(Vec<Failing>, Vec<Expiring>), Failure> {
    let (mut failing, mut expiring) = (Vec::new(), Vec::new());
    for (kind, object) in all(client, Kind::ALL, namespaces).await? {
        let Item { kind: shown, namespace, name, ready, .. } = item(&object, ObjectKind::Ours(kind));
        if kind == Kind::Credential {
            expiring.extend(ending(&object, now));
        }
        if ready.status == "False" && failing.len() < MOST_SHOWN {
            let Ready { reason, message, .. } = ready;
            failing.push(Failing { kind: shown, namespace, name, reason, message });
        }
    }
    expiring.sort_by(|a, b| (&a.time, &a.name).cmp(&(&b.time, &b.name)));
    expiring.truncate(MOST_SHOWN);
    Ok((failing, expiring))
}

/// The Credential and its keys, as far as they end soon.
fn ending(object: &Value, now: Timestamp) -> Vec<Expiring> {
    let soon = |time: &str| {
        let at = Timestamp::parse_rfc3339(time)?;
        (now < at && at.0 - now.0 <= SOON_MS).then(|| at.rfc3339())
    };
    let of = |what: String, time: String| Expiring {
        kind: Kind::Credential.name().to_owned(),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
        what,
        time,
    };
    let whole = soon(text(object, "/spec/expireTime")).map(|time| of("the Credential".to_owned(), time));
    let keys = keys(object).into_iter().filter(|key| matches!(key.state.as_str(), "Active" | "Overlapping"));
    let keys = keys.filter_map(|key| Some(of(format!("key {}", key.id), soon(key.until_time.as_deref()?)?)));
    whole.into_iter().chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(status: &str, message: &str) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "p", "generation": 2}, "status": {"conditions": [
            {"type": "Programmed", "status": status, "message": message, "reason": "R"},
            {"type": "Ready", "status": status, "message": message, "reason": "R", "observedGeneration": 2},
        ]}})
    }

    #[test]
    fn gateways_are_what_the_operator_wrote_of_them() {
        let one = |status, message| gateways_of(&policy(status, message)).pop().expect("a gateway");
        let told = one("False", "2/3 gateways at generation 7: b is at generation 6");
        assert_eq!((told.ready, told.wanted, told.generation), (2, 3, 7));
        assert_eq!((told.name.as_str(), told.message.as_str()), (GATEWAY, "b is at generation 6"));
        let told = one("True", "3/3 gateways at generation 7; a baseline, it holds: all of it");
        assert_eq!((told.ready, told.generation, told.message.as_str()), (3, 7, ""));
        let told = one("False", "0/1 gateways of Gateway public at generation 2: no gateway pod is ready yet");
        assert_eq!(
            (told.ready, told.name.as_str(), told.message.as_str()),
            (0, "public", "no gateway pod is ready yet")
        );
        let all = "2/2 gateways at generation 7, 3/3 gateways of Gateway public at generation 2, \
                   1/1 gateways of Gateway infra/edge at generation 4, 5/5 gateways of namespace infra at generation 9";
        let told = gateways_of(&policy("True", all));
        let told: Vec<_> =
            told.iter().map(|of| (of.namespace.as_str(), of.name.as_str(), of.ready, of.generation)).collect();
        let expected =
            [("shop", GATEWAY, 2, 7), ("shop", "public", 3, 2), ("infra", "edge", 1, 4), ("infra", GATEWAY, 5, 9)];
        assert_eq!(told, expected);
        assert!(gateways_of(&policy("False", "spec.targetRefs: there is no such Service")).is_empty());
        assert!(gateways_of(&policy("False", "no gateway serves it yet")).is_empty());
    }

    #[test]
    fn a_status_of_an_older_version_says_nothing_about_this_one() {
        let kind = ObjectKind::Ours(Kind::IdentityPolicy);
        let mut object = policy("False", "spec.targetRefs[0].name: there is no Service");
        assert_eq!(ready(&object, kind).status, "False");
        assert_eq!(findings(&object)[0].field, "spec.targetRefs[0].name");
        object["metadata"]["generation"] = 3.into();
        assert_eq!(ready(&object, kind).status, "Unknown");
    }

    #[test]
    fn what_ends_within_two_weeks_is_told() {
        let now = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").expect("a time");
        let keys = json!([
            {"id": "1", "state": "Overlapping", "untilTime": "2027-01-02T00:00:00Z"},
            {"id": "2", "state": "Revoked", "untilTime": "2027-01-02T00:00:00Z"},
            {"id": "3", "state": "Active"},
        ]);
        let object = json!({
            "metadata": {"namespace": "shop", "name": "a"}, "spec": {"expireTime": "2027-01-10T00:00:00Z"},
            "status": {"keys": keys},
        });
        let told: Vec<_> = ending(&object, now).into_iter().map(|one| one.what).collect();
        assert_eq!(told, ["the Credential", "key 1"]);
        assert_eq!(ending(&object, Timestamp::parse_rfc3339("2027-02-01T00:00:00Z").expect("a time")).len(), 0);
    }
}
