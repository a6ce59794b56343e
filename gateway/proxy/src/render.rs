//! A refusal as the caller sees it: the only place that knows status lines and problem documents.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use idm_authn::ArmedPolicy;
use idm_plan::Disclosure;
use idm_types::{DecisionId, Reason, Timestamp};
use serde_json::Value;

use crate::body::ResponseBody;

/// A refusal, as far as the caller may learn of it.
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) id: DecisionId,
    pub(crate) now: Timestamp,
    pub(crate) missing_scopes: Vec<String>,
    pub(crate) retry_after: Option<u64>,
}

/// A document of the gateway's own: the answer of a token service.
pub(crate) fn document(body: Option<&Value>, public: bool) -> Response<ResponseBody> {
    let text = body.map(ToString::to_string).unwrap_or_default();
    let mut response = Response::new(ResponseBody::Text(Some(Bytes::from(text))));
    let headers = response.headers_mut();
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(if public { "public, max-age=60" } else { "no-store" }));
    response
}

/// What a client gets that the token service refused (RFC 6749 §5.2).
pub(crate) fn oauth_refusal(reason: Reason, id: DecisionId, retry_after: Option<u64>) -> Response<ResponseBody> {
    let body = serde_json::json!({"error": idm_issue::error_code(reason), "error_description": reason.plain(), "decision": id});
    let mut response = document(Some(&body), false);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-decision-id", value);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token service\""));
    }
    if let Some(seconds) = retry_after.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(5)) {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// What a refused caller gets: a problem document (RFC 9457) with the decision id, and for 401 and
/// 403 the challenge that RFC 6750 §3 asks for. The reason itself only where the policy discloses it.
pub(crate) fn refusal(refusal: &Refusal, armed: Option<&ArmedPolicy>) -> Response<ResponseBody> {
    let Refusal { reason, id, now, missing_scopes, retry_after } = refusal;
    let policy = armed.map(ArmedPolicy::plan);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
        "decision": id,
    });
    if policy.is_some_and(|policy| policy.disclosure == Disclosure::Detailed) {
        if let Some(members) = problem.as_object_mut() {
            members.insert("reason".into(), reason.code().into());
            members.insert("detail".into(), reason.plain().into());
        }
    }
    // To a caller who proved who they are, RFC 6750 lets us say which scope is missing.
    if !missing_scopes.is_empty() {
        if let Some(members) = problem.as_object_mut() {
            members.insert("missingScopes".into(), missing_scopes.as_slice().into());
        }
    }
    let mut response = Response::new(ResponseBody::Text(Some(Bytes::from(format!("{problem}\n")))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-decision-id", value);
    }
    if let Some(seconds) = retry_after.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(5)) {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    for value in armed.into_iter().flat_map(|armed| armed.challenges(*reason, missing_scopes, *now)) {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    response
}
