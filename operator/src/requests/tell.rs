//! Tells what became of a request: an event for those who look, a record for the audit.

use std::sync::PoisonError;

use aws_lc_rs::digest::{SHA256, digest};
use idm_audit::{Action, Change, ChangeBy, Evidence, ObjectName, Record, SCHEMA};
use idm_types::{DecisionId, Timestamp, visible};
use kube::ResourceExt;
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType};
use serde_json::Value;

use super::judge::{Judged, State};
use crate::objects::Kind;
use crate::{Context, MANAGER};

/// The state that a status tells.
pub(super) fn state_of(status: &Value) -> Option<&str> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")?["reason"].as_str()
}

/// The facts of a request in its new state, one a line, and the one who brought it there.
fn facts<'o>(
    object: &'o DynamicObject,
    judged: &Judged,
    status: &Value,
    before: Option<&str>,
) -> (&'o str, Vec<String>) {
    let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str);
    let (requester, answerer) = (text("/spec/requester/username"), text("/spec/approval/by/username"));
    let by = match &judged.state {
        State::Pending => requester,
        State::Issued(super::Delivery::Received) => requester,
        State::Rejected { .. } | State::Stale { .. } | State::Issued(super::Delivery::Waiting(_)) => answerer,
        _ => None,
    };
    let mut all = vec![format!("state: {} → {}", before.unwrap_or("none"), judged.state.name())];
    let mut put = |name: &str, value: Option<&str>| {
        all.extend(value.map(|value| format!("{name}: {}", visible(value))));
    };
    put("hash", judged.hash.as_deref());
    put("requester", requester);
    put("purpose", text("/spec/purpose"));
    put("answered by", answerer);
    put("decision", text("/spec/approval/decision"));
    put("reason", text("/spec/approval/reason"));
    put("credential", status["credential"]["name"].as_str());
    put("key", status["credential"]["keyId"].as_str());
    (by.unwrap_or(MANAGER), all)
}

/// Writes the event and the record.
pub(super) async fn tell(
    context: &Context,
    object: &DynamicObject,
    (judged, status): (&Judged, &Value),
    before: Option<&str>,
    now: Timestamp,
) {
    let (by, facts) = facts(object, judged, status, before);
    record(context, object, by, &facts, now);
    let is_bad = !matches!(judged.state, State::Pending | State::Approved { .. } | State::Issued(_));
    let event = Event {
        type_: if is_bad { EventType::Warning } else { EventType::Normal },
        reason: judged.state.name().into(),
        note: Some(crate::gateway::note(&format!("by {by}: {}", facts.join("; ")))),
        action: "Request".into(),
        secondary: None,
    };
    let metadata = &object.metadata;
    let kind = Kind::CredentialRequest;
    let reference = kind.reference(metadata.namespace.as_deref(), &object.name_any(), metadata.uid.clone());
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::debug!(%error, "an event could not be written");
    }
}

/// A record of the transition.
fn record(context: &Context, object: &DynamicObject, by: &str, facts: &[String], now: Timestamp) {
    let records = context.requests.records.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(records) = &*records else { return };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid().unwrap_or_default();
    let of_facts = digest(&SHA256, format!("{uid}\n{}", facts.join("\n")).as_bytes());
    let random = of_facts.as_ref().first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    let (id, names) = (DecisionId::from_parts(now.0, random).to_string(), [by.to_owned()]);
    // Names of people are those that the guard compared with the API server's.
    let record = Record::Change(Change {
        time: now,
        id: &id,
        schema: SCHEMA,
        action: Action::Updated,
        object: ObjectName {
            kind: Kind::CredentialRequest.name(),
            namespace: &namespace,
            name: &name,
            uid: &uid,
            generation: object.metadata.generation.unwrap_or(0),
            version: "",
        },
        actor: by,
        by: ChangeBy { evidence: Evidence::Authenticated, names: &names, uid: "", groups: &[], manager: MANAGER },
        origin: None,
        between: None,
        diff: facts,
    });
    // Nothing waits for the disk: what cannot be stored now is tried again.
    drop(records.record_durably(&record));
}
