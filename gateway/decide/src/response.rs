//! Applies the policy's steps to the upstream's response.

use bytes::Bytes;
use http::HeaderMap;
use idm_plan::Message;
use idm_request::{Facts, SharedFacts};
use idm_transform::Content;
use idm_types::{Refusal, Timestamp};
use serde_json::Value;

use crate::engine::Engine;
use crate::{Process, Trace};

/// Whether the policy of a decided request needs the whole response.
pub fn wants_response(engine: &Engine, trace: &Trace) -> bool {
    let policy = trace.policy.and_then(|policy| engine.policies.get(policy));
    policy.is_some_and(|policy| policy.steps.wants_response())
}

/// Applies the policy's steps to a response: its headers, and the whole body, which is returned as it is now. `jose`
/// has the results of the steps on the request.
pub fn make_response(
    engine: &Engine,
    process: &Process,
    trace: &Trace,
    jose: Option<&Value>,
    now: Timestamp,
    headers: &mut HeaderMap,
    body: Bytes,
) -> Result<Bytes, Refusal> {
    let Some(policy) = trace.policy.and_then(|policy| engine.policies.get(policy)) else { return Ok(body) };
    let shared = SharedFacts::default();
    let facts = Facts {
        identity: trace.identity.as_ref().map(|(identity, _)| &**identity),
        policy: Some(&policy.armed.plan().key),
        gateway: &process.gateway,
        jose,
        now: Some(now),
        shared: Some(&shared),
        ..Facts::default()
    };
    let mut content = Content { headers, body: Some(body), replaced: false };
    policy.steps.make(Message::Response, &mut content, &facts)?;
    Ok(content.body.take().unwrap_or_default())
}
