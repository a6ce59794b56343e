//! A refusal as the caller sees it: the only place that knows status lines and challenges.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use idm_plan::{Disclosure, Method, MethodKind, Policy, Source};
use idm_types::{DecisionId, Reason};

use crate::body::ResponseBody;

/// What a refused caller gets: a problem document (RFC 9457) with the decision id, and for 401 and
/// 403 the challenge that RFC 6750 §3 asks for. The reason itself only where the policy discloses it.
pub(crate) fn refusal(reason: Reason, id: DecisionId, policy: Option<&Policy>, missing_scopes: &[String]) -> Response<ResponseBody> {
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
            members.insert("missingScopes".into(), missing_scopes.into());
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
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if let Some(value) = policy.and_then(|policy| challenge(reason, policy, missing_scopes)) {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

fn challenge(reason: Reason, policy: &Policy, missing_scopes: &[String]) -> Option<HeaderValue> {
    let realm = &policy.key;
    let text = match (reason, reason.status()) {
        (Reason::InsufficientScope, _) => format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{}\"", missing_scopes.join(" ")),
        (Reason::NoCredentials, _) if takes_bearer(policy) => format!("Bearer realm=\"{realm}\""),
        (_, 401) if takes_bearer(policy) => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
        // RFC 9110 §15.5.2 wants a challenge with every 401; API keys have no registered scheme.
        (_, 401) => format!("ApiKey realm=\"{realm}\""),
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

fn takes_bearer(policy: &Policy) -> bool {
    let bearer = |source: &Source| matches!(source, Source::Header { scheme: Some(scheme), .. } if scheme.eq_ignore_ascii_case("bearer"));
    policy.methods.iter().any(|Method { kind, .. }| matches!(kind, MethodKind::Jwt(jwt) if jwt.sources.iter().any(bearer)))
}
