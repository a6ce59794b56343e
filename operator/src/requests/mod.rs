//! Requests for Credentials: each is judged (`judge.rs`), an approved one gives a Credential (`issue.rs`), and what
//! became of it is told in status, event and record (`tell.rs`).
//!
//! It begins anew whenever a request or the guard changes, and every [`PERIOD`] for what ends by the clock. Each step
//! starts from what is stored, so an interruption anywhere loses nothing and makes no second key.

mod issue;
mod judge;
mod tell;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idm_api::v1alpha1::CredentialRequest;
use idm_audit::SpoolHandle;
use idm_types::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::objects::Kind;
use crate::{Context, MANAGER};
use issue::Outcome;
use judge::{Delivery, Judged, State, judge};

const PERIOD: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);

/// What wakes the work, and where its records go.
pub(crate) struct Board {
    wake: Notify,
    records: Mutex<Option<SpoolHandle>>,
}

impl Board {
    /// A board whose records go into a spool.
    pub(crate) fn new(records: Option<SpoolHandle>) -> Self {
        Self { wake: Notify::new(), records: Mutex::new(records) }
    }

    /// No more records are written: the spool can be closed.
    pub(crate) fn finish(&self) {
        drop(self.records.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// A request or the guard changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Works on requests, for ever.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        let _ = tokio::time::timeout(PERIOD, context.requests.wake.notified()).await;
        while !context.store.is_synced() {
            tokio::time::sleep(RETRY).await;
        }
        work(&context, Timestamp::now()).await;
    }
}

/// Does what is to be done now about every request. One that fails holds up no other, and is tried again.
async fn work(context: &Context, now: Timestamp) {
    for namespace in context.store.namespaces(Kind::CredentialRequest) {
        for object in context.store.list(Kind::CredentialRequest, &namespace) {
            if object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            if let Err(error) = one(context, &object, now).await {
                let (request, error) = (object.name_any(), format!("{error:#}"));
                tracing::warn!(namespace, request, error, "a request could not be worked on; it is tried again");
            }
        }
    }
}

fn whole(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let resource = Kind::CredentialRequest.resource();
    value["apiVersion"] = resource.api_version.into();
    value["kind"] = resource.kind.into();
    value
}

/// One request: judges it, does what follows, and tells it.
async fn one(context: &Context, object: &Arc<DynamicObject>, now: Timestamp) -> anyhow::Result<()> {
    let trust = context.permissions.trust();
    let Some(judged) = judge(&whole(object), &trust, now) else { return Ok(()) };
    if !matches!(judged.state, State::Approved { .. }) {
        return settle(context, object, judged, None, now).await;
    }
    // A watch may be behind: a key is made for what is stored now, and only once.
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api = Kind::CredentialRequest.api(&context.client, &namespace);
    let Some(stored) = api.get_opt(&name).await?.map(Arc::new) else { return Ok(()) };
    let value = whole(&stored);
    let Some(Judged { hash: Some(hash), answer_until, state: State::Approved { by } }) = judge(&value, &trust, now)
    else {
        return Ok(());
    };
    let request: CredentialRequest = serde_json::from_value(value)?;
    let (state, made) = match issue::make(&context.client, &request, &hash).await? {
        Outcome::Refused(reason, message) => (State::Blocked { by, reason, message }, None),
        Outcome::Made { key_id, ciphertext } => {
            let until = Timestamp(now.0.saturating_add(judge::KEY_MS));
            let delivery = if ciphertext.is_some() { Delivery::Waiting(until) } else { Delivery::Lapsed };
            (State::Issued(delivery), Some(json!({"name": name, "keyId": key_id, "encryptedKey": ciphertext})))
        }
    };
    settle(context, &stored, Judged { hash: Some(hash), answer_until, state }, made, now).await
}

/// Writes the status, if it is news, and tells it. `made` is the Credential that was made just now.
async fn settle(
    context: &Context,
    object: &Arc<DynamicObject>,
    judged: Judged,
    made: Option<Value>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let old = object.data.get("status").cloned().unwrap_or_default();
    if matches!(judged.state, State::Issued(Delivery::Received | Delivery::Lapsed)) && old["encryptedKey"].is_string() {
        issue::forget(&context.client, &namespace, &name).await?;
    }
    let status = status_of(object, &judged, made.as_ref(), now);
    if old == status {
        return Ok(());
    }
    // A merge patch keeps members that it does not name.
    let mut patch = status.clone();
    for member in old.as_object().into_iter().flat_map(|old| old.keys()) {
        if status.get(member).is_none() {
            patch[member] = Value::Null;
        }
    }
    // Only over what was read: a watch that is behind takes nothing back.
    let patch = json!({"metadata": {"resourceVersion": object.resource_version()}, "status": patch});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let api = Kind::CredentialRequest.api(&context.client, &namespace);
    match api.patch_status(&name, &params, &Patch::Merge(patch)).await {
        Ok(_) => {}
        // It changed or was deleted: the watch brings that.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let before = tell::state_of(&old);
    if before != Some(judged.state.name()) {
        tell::tell(context, object, (&judged, &status), before, now).await;
    }
    Ok(())
}

/// The status of a request.
fn status_of(object: &DynamicObject, judged: &Judged, made: Option<&Value>, now: Timestamp) -> Value {
    let old = object.data.get("status");
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let generation = object.metadata.generation.unwrap_or(0);
    let conditions = judged.conditions(&namespace, &name).into_iter();
    let before = old.and_then(|old| old.get("conditions"));
    let conditions = crate::gateway::conditions(before, generation, conditions, now);
    let mut members = vec![("hash", judged.hash.clone().map_or(Value::Null, Value::from))];
    if judged.state == State::Pending {
        members.push(("answerUntilTime", judged.answer_until.rfc3339().into()));
    }
    if let State::Issued(delivery) = judged.state {
        let known = |member: &str| old.and_then(|old| old.get(member)).cloned().unwrap_or_default();
        let credential = made.map(|made| json!({"name": made["name"], "keyId": made["keyId"]}));
        members.push(("credential", credential.unwrap_or_else(|| known("credential"))));
        if let Delivery::Waiting(until) = delivery {
            let ciphertext = made.map_or_else(|| known("encryptedKey"), |made| made["encryptedKey"].clone());
            members.push(("encryptedKey", ciphertext));
            members.push(("keyUntilTime", until.rfc3339().into()));
        }
    }
    let mut status = json!({"observedGeneration": generation, "conditions": conditions});
    for (member, value) in members.into_iter().filter(|(_, value)| !value.is_null()) {
        status[member] = value;
    }
    status
}

#[cfg(test)]
mod tests;
