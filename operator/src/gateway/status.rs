//! Conditions: a chain of pure rules from findings and observations.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use idm_compile::{Cause, Compiled, Condition as Aspect, Finding, ObjectId, World};
use idm_plan::{ObjectKey, Proof};
use idm_types::{Timestamp, visible};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType};
use serde_json::{Value, json};

use super::{Observed, Running};
use crate::objects::Kind;
use crate::{Context, MANAGER, directories, key_status, watch};

/// One condition before it gets its transition time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// Credentials whose status one reconcile writes.
const MOST_WRITTEN: usize = 200;
/// Of those, at the same time.
const AT_ONCE: usize = 16;

/// Writes the status of every object of ours in the namespace, and of Gateways and HTTPRoutes. Returns whether there
/// is more to write: a change that came in the meantime is not kept waiting by thousands of Credentials.
pub(crate) async fn publish(
    context: &Context,
    world: &World,
    compiled: &Compiled,
    running: &[Running],
) -> Result<bool, kube::Error> {
    let elsewhere = context.served.of(&world.namespace);
    // A namespace need not have a gateway of its own.
    let gateways: Vec<&Running> = running.iter().chain(elsewhere.iter().flat_map(|of| &of.gateways)).collect();
    let mut about: HashMap<&ObjectId, Vec<&Finding>> = HashMap::new();
    let elsewhere_found = elsewhere.iter().flat_map(|of| &of.findings);
    for finding in compiled.report.findings().iter().chain(elsewhere_found) {
        about.entry(&finding.object).or_default().push(finding);
    }
    let ended: HashSet<&str> = compiled.credentials.ended.iter().map(|key| key.credential.name.as_str()).collect();
    let (mut states, mut writes) = (Vec::new(), Vec::new());
    // Requests are told of where they are worked on.
    for &kind in Kind::OURS.iter().filter(|kind| **kind != Kind::CredentialRequest) {
        for object in context.store.list(kind, &world.namespace) {
            if object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let id = ObjectId::new(kind.name(), &world.namespace, &object.name_any());
            let findings = about.get(&id).map(Vec::as_slice).unwrap_or_default();
            if kind == Kind::Credential {
                let state = credential_state(world, compiled, &object, findings, &ended);
                if state.is_some_and(|state| context.compiled.is_told(&world.namespace, &id.name, state)) {
                    continue;
                }
                if writes.len() >= MOST_WRITTEN {
                    return finish(context, world, writes, states).await.map(|()| true);
                }
                states.extend(state.map(|state| (id.name.clone(), state)));
            }
            let object = watch::unpacked(&object);
            let is_directory = directories::is_one(kind, &object);
            let gives = kind == Kind::RoleBinding && object.data.pointer("/spec/role").is_none();
            // It is in force elsewhere, and the policies there say so.
            let is_for_class = kind == Kind::IdentityPolicy && crate::world::is_for_class(&object);
            let concerned = concerned(&gateways, &ObjectKey::new(&world.namespace, &id.name));
            let seen = if is_for_class { &[][..] } else { &concerned[..] };
            let mut verdicts = judge(kind, is_directory, findings, seen);
            if gives {
                granted(findings, &mut verdicts);
            }
            let mut extra = json!({});
            if kind == Kind::Credential {
                let pods = gateways.iter().map(|of| of.observed.ready).sum();
                let (name, now) = (object.name_any(), Timestamp::now());
                extra = key_status::members(world, compiled, &context.key_uses, pods, &name, now);
            }
            if let Some(prefix) = credential_prefix(world, &object.name_any()).filter(|_| kind == Kind::Credential) {
                extra["prefix"] = prefix.into();
            }
            if let Some(keys) = signing_keys(compiled, &object.name_any()).filter(|_| kind == Kind::IdentityPolicy) {
                extra = json!({"signingKeys": keys});
            }
            if kind == Kind::Credential {
                let is_news = status_of(&object, &verdicts, &extra).is_some();
                writes.extend(is_news.then_some((object, verdicts, extra)));
            } else {
                write(context, kind, &object, &verdicts, extra).await?;
            }
        }
    }
    finish(context, world, writes, states).await?;
    super::gateway_api::publish(context, world, compiled, running).await?;
    Ok(false)
}

/// The gateways that enforce a policy, as they are told; all of them, where it decides about nothing.
fn concerned<'r>(gateways: &[&'r Running], policy: &ObjectKey) -> Vec<(String, &'r Observed)> {
    let with_it: Vec<_> = gateways.iter().filter(|of| of.policies.contains(policy)).collect();
    let all = if with_it.is_empty() { gateways.iter().collect() } else { with_it };
    all.into_iter().map(|of| (of.told_in(&policy.namespace), &of.observed)).collect()
}

type CredentialStatus = (Arc<DynamicObject>, Vec<Verdict>, Value);

async fn finish(
    context: &Context,
    world: &World,
    writes: Vec<CredentialStatus>,
    states: Vec<(String, u64)>,
) -> Result<(), kube::Error> {
    let writes = writes.into_iter().map(|(object, verdicts, extra)| async move {
        write(context, Kind::Credential, &object, &verdicts, extra).await
    });
    let writes: Vec<_> = writes.collect();
    futures::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    // Only now: a status that could not be written is looked at again.
    context.compiled.told(states, world);
    Ok(())
}

/// Everything that the status of a Credential is made of, as a number; `None` where time or gateways have a part in it.
fn credential_state(
    world: &World,
    compiled: &Compiled,
    object: &DynamicObject,
    findings: &[&Finding],
    ended: &HashSet<&str>,
) -> Option<u64> {
    let name = object.name_any();
    if ended.contains(name.as_str()) || world.register.record(&name).is_some() {
        return None;
    }
    let key = ObjectKey::new(&world.namespace, &name);
    let all = &compiled.credentials.all;
    let lowered = all.binary_search_by(|credential| credential.key.cmp(&key)).ok().and_then(|found| all.get(found));
    let hash = match lowered.map(|credential| &credential.proof) {
        Some(Proof::ApiKey { keys, .. }) if keys.retiring.is_some() => return None,
        Some(Proof::ApiKey { keys, .. }) => keys.current.as_ref().map(|key| key.sha256.as_str()),
        _ => None,
    };
    let mut hasher = DefaultHasher::new();
    (&object.metadata.uid, &object.metadata.resource_version, hash).hash(&mut hasher);
    for finding in findings {
        (&finding.path, finding.condition.name(), finding.cause.name(), &finding.message).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// The keys that a policy's token service signs with and publishes, oldest first; without the keys themselves.
fn signing_keys(compiled: &Compiled, policy: &str) -> Option<Value> {
    let key = ObjectKey::new(&compiled.plan.namespace, policy);
    let service = compiled.plan.policies.iter().find(|known| known.key == key)?.token_service.as_ref()?;
    let keys = service.keys.iter().map(|key| {
        // The handle names the Secret and the key in it.
        let kid = key.key.0.splitn(3, '/').nth(2).unwrap_or_default();
        let mut value = json!({"kid": kid, "algorithm": key.algorithm.name(), "signsFrom": key.signs_from.rfc3339()});
        if let Some(until) = key.published_until {
            value["publishedUntil"] = until.rfc3339().into();
        }
        value
    });
    Some(keys.collect())
}

fn credential_prefix(world: &World, name: &str) -> Option<String> {
    let found = world.credentials.binary_search_by(|object| object.meta.name.as_str().cmp(name)).ok()?;
    let reference = world.credentials.get(found)?.spec.secret_ref.as_ref()?;
    let key = world.key_in_secret(&reference.name, reference.key.as_deref().unwrap_or("key"))?;
    Some(key.prefix().to_owned())
}

/// Conditions from findings: each aspect is false with its first finding; `Ready` sums up.
fn judge(kind: Kind, is_directory: bool, findings: &[&Finding], gateways: &[(String, &Observed)]) -> Vec<Verdict> {
    // A Credential without a key that works is not usable, though nothing about it is wrong.
    let counts = |f: &Finding| !f.is_note() || f.cause == Cause::KeysEnded;
    let first = |aspect: Aspect| findings.iter().find(|f| f.condition == aspect && counts(f));
    let from = |aspect: Aspect, good: &'static str, message: &str| match first(aspect) {
        Some(finding) => {
            Verdict { kind: aspect.name(), status: "False", reason: finding.cause.name(), message: text(finding) }
        }
        None => Verdict { kind: aspect.name(), status: "True", reason: good, message: message.into() },
    };
    let mut verdicts = vec![
        from(Aspect::Accepted, "Accepted", "the spec is valid"),
        from(Aspect::ResolvedRefs, "ResolvedRefs", "everything it refers to is usable"),
    ];
    if kind == Kind::IdentityPolicy {
        verdicts.push(programmed(findings, &verdicts, gateways));
    }
    if is_directory {
        verdicts.push(from(Aspect::Connected, "Connected", "no gateway reports a question without a usable answer"));
    }
    let bad = verdicts.iter().find(|v| v.status != "True").cloned();
    verdicts.push(match bad {
        Some(bad) => Verdict { kind: "Ready", ..bad },
        None => {
            // A request that was not granted is told beside the parts that work.
            let asked = findings.iter().find(|f| f.cause == Cause::NotRotated);
            let programmed = verdicts.iter().find(|v| v.kind == "Programmed").map(|v| v.message.clone());
            let reason = asked.map_or("Ready", |f| f.cause.name());
            let message = asked.map(|f| text(f)).or(programmed).unwrap_or_else(|| "in order".to_owned());
            Verdict { kind: "Ready", status: "True", reason, message }
        }
    });
    verdicts
}

/// Of a RoleBinding with permissions: whether the API server has them.
fn granted(findings: &[&Finding], verdicts: &mut Vec<Verdict>) {
    let Some(ready) = verdicts.pop() else { return };
    let verdict = |status, reason, message: String| Verdict { kind: "Programmed", status, reason, message };
    let bad = findings.iter().find(|finding| finding.condition == Aspect::Programmed && !finding.is_note());
    let programmed = match (ready.status, bad) {
        ("True", None) => verdict("True", "Programmed", "granted at the API server".into()),
        ("True", Some(bad)) => verdict("False", bad.cause.name(), text(bad)),
        _ => verdict("False", ready.reason, format!("it gives nothing: {}", ready.message)),
    };
    let sum = if ready.status == "True" && programmed.status != "True" { programmed.clone() } else { ready };
    verdicts.extend([programmed, Verdict { kind: "Ready", ..sum }]);
}

fn programmed(findings: &[&Finding], before: &[Verdict], gateways: &[(String, &Observed)]) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: "Programmed", status, reason, message };
    if let Some(finding) = findings.iter().find(|f| f.condition == Aspect::Programmed && !f.is_note()) {
        return verdict("False", finding.cause.name(), text(finding));
    }
    if let Some(bad) = before.iter().find(|v| v.status != "True") {
        return verdict("False", bad.reason, format!("not in force, its requests are refused: {}", bad.message));
    }
    if gateways.is_empty() {
        return verdict("False", "Reconciling", "no gateway serves it yet".into());
    }
    let mut counted = Vec::new();
    for (told, observed) in gateways {
        let of = observed.wanted.max(observed.ready);
        let count = format!("{}/{of} gateways {told}", observed.current);
        if !observed.is_programmed() {
            let laggards = if observed.laggards.is_empty() {
                "no gateway pod is ready yet".to_owned()
            } else {
                observed.laggards.join("; ")
            };
            return verdict("False", "Reconciling", format!("{count}: {laggards}"));
        }
        counted.push(count);
    }
    let everywhere = "it holds at the gateways of all namespaces, whose policies say so";
    let counted = if counted.is_empty() { everywhere.to_owned() } else { counted.join(", ") };
    // A baseline is said where there is nothing worse to say.
    match findings.iter().filter(|f| f.is_note()).min_by_key(|note| note.cause == Cause::UnderBaseline) {
        Some(note) => verdict("True", note.cause.name(), format!("{counted}; {}", note.message)),
        None => verdict("True", "Programmed", counted),
    }
}

fn text(finding: &Finding) -> String {
    let text = if finding.path.is_empty() {
        finding.message.clone()
    } else {
        format!("{}: {}", finding.path, finding.message)
    };
    text.chars().take(1024).collect()
}

/// Conditions as JSON; one that keeps its status keeps its transition time. Control characters in messages are
/// made visible, because pods, providers and the authors of objects wrote parts of them.
pub(crate) fn conditions(
    old: Option<&Value>,
    generation: i64,
    verdicts: impl Iterator<Item = (&'static str, &'static str, &'static str, String)>,
    now: Timestamp,
) -> Value {
    let verdicts = verdicts.map(|(kind, status, reason, message)| {
        let before = old.and_then(Value::as_array).into_iter().flatten().find(|c| c["type"] == kind);
        let since =
            before.filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str()).map(str::to_owned);
        let since = since.unwrap_or_else(|| format!("{}Z", &now.rfc3339()[..19]));
        json!({"type": kind, "status": status, "reason": reason, "message": visible(&message),
            "observedGeneration": generation, "lastTransitionTime": since})
    });
    verdicts.collect()
}

/// The status of an object; `None` where it has it already.
fn status_of(object: &DynamicObject, verdicts: &[Verdict], extra: &Value) -> Option<Value> {
    let old = object.data.get("status");
    let generation = object.metadata.generation.unwrap_or(0);
    let tuples = verdicts.iter().map(|v| (v.kind, v.status, v.reason, v.message.clone()));
    let mut status = extra.clone();
    status["observedGeneration"] = generation.into();
    status["conditions"] = conditions(old.and_then(|s| s.get("conditions")), generation, tuples, Timestamp::now());
    (old != Some(&status)).then_some(status)
}

async fn write(
    context: &Context,
    kind: Kind,
    object: &DynamicObject,
    verdicts: &[Verdict],
    extra: Value,
) -> Result<(), kube::Error> {
    let old = object.data.get("status");
    let Some(mut status) = status_of(object, verdicts, &extra) else { return Ok(()) };
    // A merge patch keeps members that it does not name.
    let gone = old
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|old| old.keys())
        .filter(|name| status.get(name.as_str()).is_none());
    let gone: Vec<String> = gone.cloned().collect();
    for name in gone {
        status[name] = Value::Null;
    }
    patch_status(context, kind, object, &status).await?;
    announce(context, kind, object, verdicts).await;
    Ok(())
}

pub(super) async fn patch_status(
    context: &Context,
    kind: Kind,
    object: &DynamicObject,
    status: &Value,
) -> Result<(), kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"status": status}));
    match kind.api(&context.client, &namespace).patch_status(&object.name_any(), &params, &patch).await {
        // It was deleted in the meantime: it needs no status.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// A message for an event: at most 1,024 bytes, because the API server refuses a longer one.
pub(crate) fn note(message: &str) -> String {
    let mut note = String::new();
    for c in visible(message).chars() {
        if note.len() + c.len_utf8() > 1024 {
            break;
        }
        note.push(c);
    }
    note
}

/// One event when the summary changes, for users who look at events first.
async fn announce(context: &Context, kind: Kind, object: &DynamicObject, verdicts: &[Verdict]) {
    let Some(ready) = verdicts.iter().find(|v| v.kind == "Ready") else { return };
    let before = object
        .data
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready");
    if ready.reason == "Reconciling"
        || before.is_some_and(|c| c["status"] == ready.status && c["reason"] == ready.reason)
    {
        return;
    }
    let metadata = &object.metadata;
    let reference = kind.reference(metadata.namespace.as_deref(), &object.name_any(), metadata.uid.clone());
    let event = Event {
        type_: if ready.status == "True" { EventType::Normal } else { EventType::Warning },
        reason: if ready.status == "True" && kind == Kind::IdentityPolicy {
            "Programmed".into()
        } else {
            ready.reason.into()
        },
        note: Some(note(&ready.message)),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::debug!(%error, "an event could not be written");
    }
}

#[cfg(test)]
mod tests {
    use idm_compile::Part;

    use super::*;

    fn finding(condition: Aspect, cause: Cause) -> Finding {
        Finding {
            object: ObjectId::new("IdentityPolicy", "shop", "a"),
            path: "spec.x".into(),
            condition,
            cause,
            message: "must be y".into(),
        }
    }

    fn ready(findings: &[&Finding], observed: &Observed) -> (&'static str, &'static str, String) {
        let verdicts = judge(Kind::IdentityPolicy, false, findings, &[("at generation 7".into(), observed)]);
        assert_eq!(
            verdicts.iter().map(|v| v.kind).collect::<Vec<_>>(),
            ["Accepted", "ResolvedRefs", "Programmed", "Ready"]
        );
        let v = verdicts.into_iter().last().unwrap();
        (v.status, v.reason, v.message)
    }

    #[test]
    fn ready_sums_up() {
        let all = Observed { ready: 3, current: 3, wanted: 3, ..Observed::default() };
        assert_eq!(ready(&[], &all), ("True", "Ready", "3/3 gateways at generation 7".into()));
        let some = Observed { current: 2, laggards: vec!["b is at generation 6".into()], ..all.clone() };
        assert_eq!(
            ready(&[], &some),
            ("False", "Reconciling", "2/3 gateways at generation 7: b is at generation 6".into())
        );
        assert_eq!(ready(&[], &Observed { wanted: 3, ..Observed::default() }).0, "False");
        let invalid = finding(Aspect::Accepted, Cause::Invalid);
        assert_eq!(ready(&[&invalid], &all), ("False", "Invalid", "spec.x: must be y".into()));
        let note = finding(Aspect::Programmed, Cause::PartiallyProgrammed);
        assert_eq!(ready(&[&note], &all).0, "True");
    }

    #[test]
    fn a_policy_waits_for_the_gateways_that_have_it_and_for_no_others() {
        let running = |namespace: &str, part, ready, current, policy: &str| Running {
            namespace: namespace.into(),
            part,
            generation: ready as u64,
            observed: Observed { ready, current, wanted: ready, ..Observed::default() },
            policies: [ObjectKey::new("shop", policy)].into(),
        };
        let edge = || Part::Gateway("edge".into());
        let all = [
            running("shop", Part::Shared, 2, 2, "a"),
            running("shop", edge(), 3, 1, "b"),
            running("shop", edge(), 4, 4, "a"),
            running("infra", edge(), 5, 5, "a"),
            running("infra", Part::Shared, 6, 6, "a"),
        ];
        let all: Vec<&Running> = all.iter().collect();
        let told = |policy: &str| {
            let of = concerned(&all, &ObjectKey::new("shop", policy));
            let verdicts = judge(Kind::IdentityPolicy, false, &[], &of);
            verdicts.last().map(|ready| (ready.status, ready.message.clone())).unwrap()
        };
        let of_a = "2/2 gateways at generation 2, 4/4 gateways of Gateway edge at generation 4, \
                    5/5 gateways of Gateway infra/edge at generation 5, \
                    6/6 gateways of namespace infra at generation 6";
        assert_eq!(told("a"), ("True", of_a.into()));
        let of_b = "1/3 gateways of Gateway edge at generation 3: no gateway pod is ready yet";
        assert_eq!(told("b"), ("False", of_b.into()));
        assert_eq!(told("of no gateway").0, "False", "then all of them must be ready");
    }

    #[test]
    fn what_others_wrote_controls_no_terminal_of_who_reads_conditions_and_events() {
        let planted = "\u{1b}[2J\u{7}\n\u{202e}x\u{2028}";
        let shown = "\\u{1b}[2J\\u{7}\\u{a}\\u{202e}x\\u{2028}";
        // One text comes from an object's author, the other from a pod.
        let bad = Finding { message: planted.into(), ..finding(Aspect::Accepted, Cause::Invalid) };
        let laggard = Observed { ready: 1, wanted: 1, laggards: vec![planted.into()], ..Observed::default() };
        for (findings, observed) in [(vec![&bad], Observed::default()), (vec![], laggard)] {
            let verdicts = judge(Kind::IdentityPolicy, false, &findings, &[("at generation 7".into(), &observed)]);
            let tuples = verdicts.iter().map(|v| (v.kind, v.status, v.reason, v.message.clone()));
            for condition in conditions(None, 1, tuples, Timestamp(0)).as_array().unwrap() {
                let message = condition["message"].as_str().unwrap();
                assert!(!message.chars().any(idm_types::is_hidden), "{message:?}");
                if condition["type"] == "Ready" {
                    assert!(message.contains(shown), "{message:?}");
                }
            }
        }
        assert_eq!(note(planted), shown);
    }

    #[test]
    fn a_note_has_room_in_an_event() {
        assert_eq!(note(&"\u{202e}".repeat(1000)).len(), 1024);
        assert_eq!(note(&"日".repeat(1000)), "日".repeat(341));
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let old = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]);
        let new = |status| conditions(Some(&old), 1, [("Ready", status, "R", String::new())].into_iter(), Timestamp(0));
        assert_eq!(new("True")[0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(new("False")[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }
}
