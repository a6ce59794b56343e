//! The keys of a Credential in its status.

use idm_compile::{Compiled, World, held_keys};
use idm_plan::{EndCause, ObjectKey, Proof, key_id, key_state};
use idm_types::Timestamp;
use serde_json::{Value, json};

use crate::key_uses::KeyUses;

/// Keys that have ended and are still shown.
const SHOWN_ENDED: usize = 4;
/// The time of a last use is rounded to this, so that a busy key does not change the status all the time.
const ROUNDED_MS: u64 = 5 * 60_000;

/// The members `keys` and `rotation` of the status of a Credential with API keys; empty for others. Without two keys
/// nothing in it changes by itself.
pub(crate) fn members(
    world: &World,
    compiled: &Compiled,
    uses: &KeyUses,
    ready_gateways: usize,
    name: &str,
    now: Timestamp,
) -> Value {
    // Both are in the order of their names.
    let found = world.credentials.binary_search_by(|object| object.meta.name.as_str().cmp(name)).ok();
    let Some(object) = found.and_then(|found| world.credentials.get(found)) else { return json!({}) };
    if object.spec.api_key.is_none() {
        return json!({});
    }
    let record = world.register.record(name);
    let since = |sha256: &str| {
        let known = record.into_iter().flat_map(|record| record.current.iter().chain(&record.retiring));
        known.filter(|known| known.sha256 == sha256).map(|known| known.since.rfc3339()).next()
    };
    let key = ObjectKey::new(&world.namespace, name);
    let all = &compiled.credentials.all;
    let lowered = all.binary_search_by(|credential| credential.key.cmp(&key)).ok().and_then(|found| all.get(found));
    let live = match lowered.map(|credential| &credential.proof) {
        Some(Proof::ApiKey { keys, .. }) => Some(keys),
        _ => None,
    };
    let both = live.is_some_and(|keys| keys.current.is_some() && keys.retiring.is_some());
    let mut shown = Vec::new();
    for (sha256, end) in live.into_iter().flat_map(|keys| keys.all()) {
        let id = key_id(sha256);
        let mut value = json!({"id": id, "state": key_state(end, now)});
        set(&mut value, "sinceTime", since(sha256));
        set(&mut value, "untilTime", end.map(|end| end.at.rfc3339()));
        if both && end.is_none() {
            let known = uses.knowing(&world.namespace, name, id);
            set(&mut value, "gateways", Some(format!("{known}/{}", ready_gateways.max(known))));
        }
        if let Some(last) = uses.last(&world.namespace, name, id).filter(|_| end.is_some()) {
            set(&mut value, "lastUseTime", Some(Timestamp(last.at - last.at % ROUNDED_MS).rfc3339()));
            set(&mut value, "lastUseAddress", Some(idm_types::visible(&last.address).to_string()));
        }
        shown.push(value);
    }
    let held = held_keys(world, object);
    let mut ended: Vec<_> = compiled.credentials.ended.iter().filter(|ended| ended.credential == key).collect();
    // The one that the Secret still holds matters most, then the last ones.
    ended.sort_by_key(|ended| (!held.contains(&ended.sha256), std::cmp::Reverse(ended.end.at), ended.sha256.clone()));
    for ended in ended.into_iter().take(SHOWN_ENDED) {
        let mut value = json!({"id": key_id(&ended.sha256), "state": ended.end.cause.name()});
        let at = (ended.end.at.0 > 0 && (ended.end.cause == EndCause::Revoked || ended.end.at <= now))
            .then_some(ended.end.at);
        set(&mut value, "untilTime", at.map(Timestamp::rfc3339));
        shown.push(value);
    }
    let mut members = json!({"keys": shown});
    if let Some(request) = record.and_then(|record| record.requests.last()) {
        members["rotation"] = json!({"request": request});
    }
    members
}

fn set(value: &mut Value, name: &str, text: Option<String>) {
    if let Some(text) = text {
        value[name] = text.into();
    }
}

#[cfg(test)]
mod tests;
