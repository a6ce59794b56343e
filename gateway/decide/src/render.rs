//! The answer to a refused caller: the only place that knows status lines and problem documents.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use idm_authn::{ArmedPolicy, ArmedSignIn, ChallengeFor};
use idm_plan::Disclosure;
use idm_sign_in::{PageRequest, RefusedPage};
use idm_types::{DecisionId, Reason, Refusal, Timestamp};

use crate::Trace;
use crate::engine::{ArmedHandler, Engine};
use crate::own::{document, page as written};

/// The answer to a refused caller: a person is sent to sign in or gets a page, a client of a token service gets its
/// error document (RFC 6749 §5.2), and every other program gets a problem document (RFC 9457). Scripts whose origin
/// the rule takes may read it: with it they can tell their user what is missing, and name the decision.
pub fn refusal(
    engine: Option<&Engine>,
    trace: &Trace,
    refusal: &Refusal,
    id: DecisionId,
    now: Timestamp,
) -> Response<Bytes> {
    let handler = engine.zip(trace.rule).and_then(|(engine, rule)| engine.rules.get(rule)).map(|rule| &rule.handler);
    let policy = engine.zip(trace.policy).and_then(|(engine, policy)| engine.policies.get(policy));
    let armed = policy.map(|policy| &policy.armed);
    let mut response = match (handler, armed.and_then(|armed| armed.sign_in()), &trace.page_request) {
        (Some(ArmedHandler::Issue { .. }), _, _) => oauth_refusal(refusal.reason, id, refusal.retry_after),
        (Some(ArmedHandler::Enforce(_) | ArmedHandler::Redirect { .. }), Some(method), Some(page_request))
            if asks_to_sign_in(refusal.reason) && !page_request.is_form =>
        {
            to_sign_in(method, &page_request.page, id)
        }
        (_, Some(method), Some(page_request)) => match &trace.again {
            Some(page) => to_sign_in(method, page, id),
            None => page(method, page_request, trace, refusal, id),
        },
        _ => problem(refusal, armed, trace, id, now),
    };
    if matches!(handler, Some(ArmedHandler::ResourceMetadata { .. })) && refusal.reason == Reason::MethodNotAllowed {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    // Gateway API: a call without a backend is UNAVAILABLE, which clients of gRPC make of this status.
    if trace.grpc && refusal.reason == Reason::NoBackend {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    if let Some(sharing) = &trace.sharing {
        sharing.write(response.headers_mut(), true);
    }
    trace.tell_limits(response.headers_mut());
    response
}

/// Whether a person could get access by signing in, or by signing in again.
fn asks_to_sign_in(reason: Reason) -> bool {
    matches!(reason, Reason::NoCredentials | Reason::SessionEnded | Reason::StepUpRequired)
}

const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");
const DECISION: HeaderName = HeaderName::from_static("x-decision-id");

/// Sends a browser to sign in, and back to its page afterwards.
fn to_sign_in(method: &ArmedSignIn, page: &str, id: DecisionId) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(&idm_sign_in::start_target(method, page));
    response.headers_mut().extend(to.ok().map(|to| (header::LOCATION, to)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    decided(&mut response, id);
    response
}

/// A page that tells a person of the refusal.
fn page(
    method: &ArmedSignIn,
    page_request: &PageRequest,
    trace: &Trace,
    refusal: &Refusal,
    id: DecisionId,
) -> Response<Bytes> {
    let told = RefusedPage { page_request, host: &trace.host, reason: refusal.reason, form: trace.form.as_deref(), id };
    let mut response = written(idm_sign_in::refusal_page(method, told));
    decided(&mut response, id);
    wait(&mut response, refusal.retry_after);
    response
}

fn decided(response: &mut Response<Bytes>, id: DecisionId) {
    let value = HeaderValue::from_str(&id.to_string());
    response.headers_mut().extend(value.ok().map(|value| (DECISION, value)));
}

fn wait(response: &mut Response<Bytes>, retry_after: Option<u64>) {
    let is_away = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .extend(retry_after.or(is_away.then_some(5)).map(|seconds| (header::RETRY_AFTER, seconds.into())));
}

/// The error document for a client that the token service refused (RFC 6749 §5.2).
fn oauth_refusal(reason: Reason, id: DecisionId, retry_after: Option<u64>) -> Response<Bytes> {
    let body = serde_json::json!({"error": idm_issue::error_code(reason), "error_description": reason.plain(),
        "decision": id});
    let mut response = document(Some(&body), false);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    decided(&mut response, id);
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token service\""));
    }
    wait(&mut response, retry_after);
    response
}

/// The problem document (RFC 9457) for a refused caller, with the decision id, and for 401 and 403 the challenge that
/// RFC 6750 §3 requires. The document has the reason itself only where the policy discloses it.
fn problem(
    refusal: &Refusal,
    armed: Option<&ArmedPolicy>,
    trace: &Trace,
    id: DecisionId,
    now: Timestamp,
) -> Response<Bytes> {
    let Refusal { reason, missing_scopes, retry_after, detail: _, by: _ } = refusal;
    let policy = armed.map(ArmedPolicy::plan);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
        "decision": id,
    });
    if reason.is_always_told() || policy.is_some_and(|policy| policy.disclosure == Disclosure::Detailed) {
        if let Some(members) = problem.as_object_mut() {
            members.insert("reason".into(), reason.told().code().into());
            members.insert("detail".into(), reason.told().plain().into());
        }
    }
    // A script in a page cannot follow a redirect to the provider, but it can navigate its window there.
    if let Some(method) = armed.and_then(ArmedPolicy::sign_in).filter(|_| status == StatusCode::UNAUTHORIZED) {
        if let Some(members) = problem.as_object_mut() {
            members.insert("signIn".into(), method.plan().base.as_str().into());
        }
    }
    // RFC 6750 permits to tell an authenticated caller which scope is missing.
    if !missing_scopes.is_empty() {
        if let Some(members) = problem.as_object_mut() {
            members.insert("missingScopes".into(), missing_scopes.to_vec().into());
        }
    }
    let mut response = Response::new(Bytes::from(format!("{problem}\n")));
    *response.status_mut() = status;
    let resource_metadata = trace.resource_metadata.as_deref();
    let asked = ChallengeFor { reason: *reason, missing_scopes, resource_metadata, now };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for value in armed.into_iter().flat_map(|armed| armed.challenges(&asked)) {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
    let accept = armed.and_then(|armed| armed.accept_signature(*reason, trace.has_body));
    headers.extend(accept.map(|value| (ACCEPT_SIGNATURE, value)));
    decided(&mut response, id);
    wait(&mut response, *retry_after);
    response
}
