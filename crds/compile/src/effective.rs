//! The settings in force for one policy, and the source of each: the policy, a default, or a Gateway's baseline.

use std::collections::{BTreeMap, BTreeSet};

use idm_api::v1alpha1::IdentityPolicySpec;
use idm_plan::{MethodKind, ObjectKey, Plan, Policy, Source};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Compiled, Coverage, Finding, Object, ObjectId, World};

/// A policy as gateways enforce it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePolicy {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The generation of the object.
    pub generation: i64,
    /// The generation that is in force; `None` where none is.
    pub in_force: Option<i64>,
    /// The findings of the compiler about it.
    pub notes: Vec<String>,
    /// The parts of the traffic about which it decides.
    pub holds: Vec<Holding>,
    /// The parts of its targets about which another policy decides.
    pub overridden: Vec<Overriding>,
    /// The parts of the traffic that it, or its baseline, judges in shadow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<String>,
    /// The settings. None where another generation than that of the object is in force.
    pub settings: Vec<Setting>,
}

/// A part of the traffic about which the policy decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Holding {
    /// The rule or the Service.
    pub rule: String,
    /// Through the Gateway or a listener, and not by a target of its own.
    pub inherited: bool,
}

/// A part of the traffic about which a more specific policy decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Overriding {
    /// The rule or the Service.
    pub rule: String,
    /// The policy that decides.
    pub by: String,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// The field, from `spec` on, with elements of lists by their names: `authorization.rules[write]`.
    pub field: String,
    /// Its value, as it would be written.
    pub value: Value,
    /// Its source.
    pub source: SettingSource,
}

/// The source of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum SettingSource {
    /// The policy itself.
    Policy,
    /// The policy does not say it.
    Default,
    /// The baseline of a policy of the Gateway.
    Baseline {
        /// That policy.
        policy: String,
        /// The rules for which it holds; all of those about which the policy decides.
        rules: Vec<String>,
    },
}

impl std::fmt::Display for SettingSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SettingSource::Policy => f.write_str("the policy"),
            SettingSource::Default => f.write_str("default"),
            SettingSource::Baseline { policy, .. } => write!(f, "baseline of IdentityPolicy {policy}"),
        }
    }
}

/// The settings in force for a policy; `None` where there is no such policy.
pub fn effective(world: &World, compiled: &Compiled, key: &ObjectKey) -> Option<EffectivePolicy> {
    let worlds: Vec<&World> = std::iter::once(world).chain(world.tenants()).chain(world.platform()).collect();
    let id = ObjectId::new("IdentityPolicy", &key.namespace, &key.name);
    let object = policy_of(&worlds, key);
    let broken = worlds.iter().flat_map(|of| &of.broken).find(|broken| broken.id == id);
    let generation = object.map(|of| of.meta.generation).or(broken.map(|broken| broken.meta.generation))?;
    let plan = &compiled.plan;
    let in_force = plan.policies.iter().find(|policy| policy.key == *key);
    let deciding = || compiled.coverage.iter().filter(|of| of.policy.as_ref() == Some(key));
    let holds: BTreeSet<_> =
        deciding().map(|of| Holding { rule: of.covered.to_string(), inherited: of.inherited }).collect();
    let lost = compiled.coverage.iter().filter(|of| of.overridden.contains(key));
    let lost =
        lost.filter_map(|of| Some(Overriding { rule: of.covered.to_string(), by: of.policy.as_ref()?.to_string() }));
    let judges = |of: &&Coverage| {
        let shadows = plan.rules.get(of.rule).into_iter().flat_map(|rule| &rule.shadows);
        shadows.filter_map(|shadow| plan.policies.get(shadow.policy)).any(|policy| policy.key == *key)
    };
    let judges: BTreeSet<_> = compiled.coverage.iter().filter(judges).map(|of| of.covered.to_string()).collect();
    let notes = compiled.report.about(&id).map(note).collect();
    let mut settings = Vec::new();
    if let (Some(object), Some(policy)) = (object, in_force.filter(|policy| policy.generation == generation)) {
        settings.extend(own(&object.spec));
        settings.extend(defaults(&object.spec, policy));
    }
    settings.extend(of_baselines(&worlds, plan, key, deciding()));
    Some(EffectivePolicy {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        generation,
        in_force: in_force.map(|policy| policy.generation),
        notes,
        holds: holds.into_iter().collect(),
        overridden: lost.collect::<BTreeSet<_>>().into_iter().collect(),
        judges: judges.into_iter().collect(),
        settings,
    })
}

fn note(finding: &Finding) -> String {
    let Finding { path, message, .. } = finding;
    if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
}

fn policy_of<'w>(worlds: &[&'w World], key: &ObjectKey) -> Option<&'w Object<IdentityPolicySpec>> {
    let of = worlds.iter().find(|of| of.namespace == key.namespace)?;
    of.policies.iter().find(|policy| policy.meta.name == key.name)
}

/// The settings that the policy has itself. Its targets are where it holds, and its baseline is for others.
fn own(spec: &IdentityPolicySpec) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(spec) {
        for (name, value) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "targetRefs" | "baseline")) {
            flatten(name, value, 1, &mut all);
        }
    }
    let own = |(field, value)| Setting { field, value, source: SettingSource::Policy };
    all.into_iter().map(own).collect()
}

/// Members and named elements, down to the second level.
fn flatten(path: &str, value: &Value, level: usize, all: &mut Vec<(String, Value)>) {
    match value {
        Value::Array(items) if items.iter().all(|item| item["name"].is_string()) && !items.is_empty() => {
            for item in items {
                let mut item = item.clone();
                let name = item["name"].take();
                if let Some(members) = item.as_object_mut() {
                    members.remove("name");
                }
                all.push((format!("{path}[{}]", name.as_str().unwrap_or_default()), item));
            }
        }
        Value::Object(members) if level < 3 => {
            for (name, value) in members {
                flatten(&format!("{path}.{name}"), value, level + 1, all);
            }
        }
        _ => all.push((path.to_owned(), value.clone())),
    }
}

/// The settings that hold because the policy does not say otherwise.
fn defaults(spec: &IdentityPolicySpec, policy: &Policy) -> Vec<Setting> {
    let written = serde_json::to_value(spec).unwrap_or_default();
    let unset = |pointer: &str| written.pointer(pointer).is_none();
    let mut all: Vec<(String, Value)> = Vec::new();
    for (pointer, field, value) in [
        ("/enforcement", "enforcement", "Enforce"),
        ("/authorization", "authorization", "being authenticated is enough"),
        ("/disclosure", "disclosure", "Minimal"),
        ("/upstream/credential", "upstream.credential", "Remove"),
        ("/paths", "paths.allow", "no form that servers read differently"),
        ("/openStreams", "openStreams", "cut within a second"),
    ] {
        if unset(pointer) {
            all.push((field.into(), value.into()));
        }
    }
    let given = spec.upstream.iter().flat_map(|upstream| upstream.headers.iter().flatten());
    let given: BTreeSet<_> = given.map(|header| header.name.to_ascii_lowercase()).collect();
    for header in policy.upstream.headers.iter().filter(|header| !given.contains(&header.name)) {
        all.push((format!("upstream.headers[{}]", header.name), json!(header.value.to_string())));
    }
    for (i, method) in policy.methods.iter().enumerate() {
        let kind = method.kind.label();
        let path = format!("authentication.methods[{}].{kind}", method.name);
        if let MethodKind::Jwt(jwt) = &method.kind {
            if unset(&format!("/authentication/methods/{i}/jwt/clockSkewSeconds")) {
                all.push((format!("{path}.clockSkewSeconds"), jwt.skew.seconds().into()));
            }
        }
        let sources = method.kind.sources();
        if !sources.is_empty() && unset(&format!("/authentication/methods/{i}/{kind}/sources")) {
            let places: Vec<_> = sources.iter().map(place).collect();
            all.push((format!("{path}.sources"), json!(places)));
        }
    }
    let default = |(field, value)| Setting { field, value, source: SettingSource::Default };
    all.into_iter().map(default).collect()
}

fn place(source: &Source) -> String {
    match source {
        Source::Header { name, scheme: Some(scheme) } => format!("header {name} with the scheme {scheme}"),
        Source::Header { name, scheme: None } => format!("header {name}"),
        Source::Cookie { name } => format!("cookie {name}"),
        Source::Query { name, .. } => format!("query parameter {name}"),
    }
}

/// The demands of others that hold where the policy decides.
fn of_baselines<'c>(
    worlds: &[&World],
    plan: &Plan,
    key: &ObjectKey,
    deciding: impl Iterator<Item = &'c Coverage>,
) -> Vec<Setting> {
    let mut rules: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for coverage in deciding {
        let baselines = plan.rules.get(coverage.rule).into_iter().flat_map(|rule| &rule.baselines);
        for position in baselines {
            rules.entry(*position).or_default().insert(coverage.covered.to_string());
        }
    }
    let mut settings = Vec::new();
    for (position, rules) in rules {
        let Some(policy) = plan.policies.get(position) else { continue };
        let written = policy_of(worlds, &policy.key).filter(|of| of.meta.generation == policy.generation);
        let baseline = written.and_then(|of| serde_json::to_value(&of.spec.baseline).ok());
        let mut all = Vec::new();
        match baseline {
            Some(baseline @ Value::Object(_)) => flatten("baseline", &baseline, 1, &mut all),
            // The object has changed since, and is not valid.
            _ => all.push(("baseline".into(), json!(format!("that of generation {}", policy.generation)))),
        }
        let name = if policy.key.namespace == key.namespace { policy.key.name.clone() } else { policy.key.to_string() };
        let source = SettingSource::Baseline { policy: name, rules: rules.into_iter().collect() };
        settings.extend(all.into_iter().map(|(field, value)| Setting { field, value, source: source.clone() }));
    }
    settings
}
