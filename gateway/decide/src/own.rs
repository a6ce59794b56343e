//! Requests that the gateway answers itself: endpoints of a token service, those of a sign-in method, and metadata.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use idm_issue::{Answered, Ask};
use idm_plan::{Endpoint, ProtectedResource, SignInEndpoint};
use idm_request::RequestView;
use idm_sign_in::Refused;
use idm_types::{Reason, Refusal};
use serde_json::Value;

use crate::canonical::Canonical;
use crate::engine::PolicyInForce;
use crate::{Context, Trace, resource};

/// An endpoint that the gateway answers itself.
#[derive(Clone, Copy)]
pub(crate) enum Own<'e> {
    /// An endpoint of a token service.
    Endpoint(Endpoint),
    /// An address of a sign-in method, and the Federation that it belongs to.
    SignInEndpoint(SignInEndpoint, Option<&'e str>),
    /// The metadata of a protected resource.
    ResourceMetadata(&'e ProtectedResource),
}

impl Own<'_> {
    /// The most bytes of the form that the endpoint reads; `None` where it reads no form.
    pub(crate) fn form(self) -> Option<usize> {
        match self {
            Own::Endpoint(endpoint) => idm_issue::wants_form(endpoint).then_some(idm_issue::MAX_FORM),
            Own::SignInEndpoint(endpoint, _) => idm_sign_in::wants_form(endpoint).then_some(idm_sign_in::MAX_FORM),
            Own::ResourceMetadata(_) => None,
        }
    }
}

/// Answers, and notes on the trace the identity that the answer concerns.
pub(crate) async fn answer(
    own: Own<'_>,
    policy: &PolicyInForce,
    view: RequestView<'_>,
    canonical: &Canonical,
    context: Context<'_>,
    trace: &mut Trace,
) -> Result<Response<Bytes>, Refusal> {
    let (credentials, now) = (context.table(policy), context.now);
    match own {
        Own::Endpoint(endpoint) => {
            let issuer = policy.issuer.as_ref();
            let issuer =
                issuer.ok_or_else(|| Refusal::new(Reason::InternalError, "an endpoint without a token service"))?;
            let ask = Ask { policy: &policy.armed, credentials, view, gateway: &context.process.gateway, now };
            let answered = issuer.answer(endpoint, ask).await.map_err(|refused| noted(refused, trace))?;
            let Answered { body, public, who, issued } = answered;
            trace.identity = who.map(|who| (who, false));
            trace.issued = issued;
            Ok(document(body.as_ref(), public))
        }
        Own::SignInEndpoint(endpoint, federation) => {
            let page_request = trace.page_request.clone();
            let page_request = page_request.as_ref();
            let ask = idm_sign_in::Ask { policy: &policy.armed, credentials, view, page_request, now };
            let answered = idm_sign_in::answer(endpoint, federation, ask).await;
            let answer = answered.map_err(|refused| noted(refused, trace))?;
            trace.authentication = answer.who.as_ref().map(|who| who.method.clone());
            trace.identity = answer.who.clone().map(|who| (who, false));
            Ok(page(answer))
        }
        Own::ResourceMetadata(described) => {
            resource::answer(described, &resource::origin(canonical, context.peer.https), view)
        }
    }
}

/// Notes the identity that a refusal concerns, and the page for which the browser may begin its sign-in anew.
fn noted(refused: Refused, trace: &mut Trace) -> Refusal {
    let Refused { refusal, who, again, form } = refused;
    trace.identity = who.map(|who| (who, false));
    trace.again = again;
    trace.form = form;
    refusal
}

/// A document of the gateway's own: the answer of a token service.
pub(crate) fn document(body: Option<&Value>, public: bool) -> Response<Bytes> {
    let text = body.map(ToString::to_string).unwrap_or_default();
    let mut response = Response::new(Bytes::from(text));
    let headers = response.headers_mut();
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let kept = if public { "public, max-age=60" } else { "no-store" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    response
}

/// An answer to a browser or a provider.
pub(crate) fn page(answer: idm_sign_in::Answer) -> Response<Bytes> {
    let idm_sign_in::Answer { status, headers, body, who: _ } = answer;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}
