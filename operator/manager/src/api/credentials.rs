//! The keys of Credentials. A new key is in the answer to the request that made it, and nowhere else.

use idm_types::Timestamp;

use crate::call::Call;
use crate::failure::Failure;
use crate::wire::{MadeKey, NewCredential, RevokeRequest, Revoked, RotateRequest};

/// A year: no old key works longer.
const MOST_SECONDS: u64 = 31_536_000;

pub(crate) async fn create(call: Call, body: NewCredential) -> Result<MadeKey, Failure> {
    if let Some(time) = body.expire_time.as_deref().filter(|time| Timestamp::parse_rfc3339(time).is_none()) {
        let message = format!("`{time}` must be a time in UTC such as 2027-01-01T00:00:00Z");
        return Err(Failure::invalid(message).at("expireTime"));
    }
    call.manager.place.create_credential(&call.person, call.part("namespace"), body).await
}

pub(crate) async fn rotate(call: Call, body: RotateRequest) -> Result<MadeKey, Failure> {
    if body.overlap_seconds > MOST_SECONDS {
        return Err(Failure::invalid("the old key may work for a year at most").at("overlapSeconds"));
    }
    let (namespace, name) = (call.part("namespace"), call.part("name"));
    call.manager.place.rotate(&call.person, namespace, name, body.overlap_seconds).await
}

pub(crate) async fn revoke(call: Call, body: RevokeRequest) -> Result<Revoked, Failure> {
    let is_id = |id: &String| id.len() == 12 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if body.key.as_ref().is_some_and(|id| !is_id(id)) {
        return Err(Failure::invalid("`key` must be the id of a key: 12 digits, as the Credential lists it").at("key"));
    }
    let (namespace, name) = (call.part("namespace"), call.part("name"));
    call.manager.place.revoke(&call.person, namespace, name, body.key).await
}
