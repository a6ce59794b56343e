//! The endpoints of a SAML service provider.
//!
//! A response is posted from the provider's page, where the browser does not send our cookies. So the response is
//! checked without cookies, and parked for a short time; then the browser follows a link of the gateway with its
//! cookie, and only the browser that began the sign-in gets the session.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use idm_authn::{ArmedSignIn, BrowserMessage, Origin, OwnAddresses, SamlProvider};
use idm_plan::SignInEndpoint;
use idm_saml::{Assertion, LogoutRequest, NameId};
use idm_session::{Browser, Login, Parked, Session, Sessions, Tokens};
use idm_store::Key;
use idm_types::Reason;
use serde_json::{Map, Value, json};

use crate::cookie::OnTheWay;
use crate::parameters::{Parameters, is_form};
use crate::target::{is_local_target, or_front_page};
use crate::{Answer, Ask, Refused, address, callback, check_open, pages};

/// The time limit for a person at the provider.
const REQUEST_MS: u64 = 15 * 60_000;
/// A used assertion is remembered for this time beyond its validity.
const MARGIN_MS: u64 = 10 * 60_000;
/// Claims that only the gateway may set, even if attributes have these names.
const OWN_CLAIMS: &[&str] =
    &["iss", "sub", "sid", "acr", "auth_time", "nameId", "exp", "iat", "nbf", "aud", "cnf", "scope", "scp"];

fn request_key(provider: &SamlProvider, id: &str) -> Key {
    Key::of(&["saml request", &provider.federation().uid, id])
}

/// Sends the browser to the provider with a request.
pub(crate) async fn start(
    method: &ArmedSignIn,
    provider: &SamlProvider,
    origin: &Origin,
    browser: &Browser,
    login: &Login,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let (own, id) = (provider.own(origin, &method.plan().base), format!("_{}", login.id));
    let state = browser
        .state(login, &provider.federation().uid)
        .ok_or_else(|| Refused::new(Reason::InternalError, "there are no random bits"))?;
    let message = provider.request(&id, &own, &method.plan().step_up, ask.now).await?;
    let (key, from) = (request_key(provider, &id), ask.view.address);
    ask.policy.store().begin(from, &key, state.into_bytes(), REQUEST_MS, ask.now).await?;
    run(method, message, ask)
}

fn run(method: &ArmedSignIn, message: BrowserMessage, ask: Ask<'_>) -> Result<Answer, Refused> {
    match message {
        BrowserMessage::Redirect(to) => Answer::redirect(&to),
        BrowserMessage::Form { action, field, value, relay_state } => {
            Ok(pages::onward(method, ask, &action, field, &value, relay_state.as_deref()))
        }
    }
}

/// The one form that a request carries.
pub(crate) fn form(ask: Ask<'_>) -> Result<Parameters, Refused> {
    if !is_form(ask.view) {
        return Err(Refused::new(Reason::MalformedRequest, "the body is not a form"));
    }
    Parameters::read(ask.view.body.unwrap_or_default())
}

/// The assertion consumer service, which receives a response.
pub(crate) async fn consumer(
    method: &ArmedSignIn,
    provider: &Arc<SamlProvider>,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let federation = provider.federation();
    check_open(federation)?;
    let parameters = form(ask)?;
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let posted = parameters.text("SAMLResponse").ok_or_else(|| unknown("there is no `SAMLResponse`"))?;
    let assertion = provider.assertion(posted, &provider.own(&origin, &method.plan().base), now).await?;
    let store = policy.store();
    // Each may be used once, on all gateways together.
    let for_ms = assertion.ends.0.saturating_sub(now.0).saturating_add(MARGIN_MS);
    if !store.claim(&Key::of(&["saml assertion", &federation.uid, &assertion.id]), for_ms, now).await? {
        return Err(unknown("the assertion was used before"));
    }
    let state = match &assertion.in_response_to {
        None => None,
        Some(id) => {
            let state =
                store.begun(&request_key(provider, id), now).await?.and_then(|state| String::from_utf8(state).ok());
            Some(state.ok_or_else(|| unknown("it answers no request that was made here in the last 15 minutes"))?)
        }
    };
    let to = parameters
        .text("RelayState")
        .filter(|to| assertion.in_response_to.is_none() && is_local_target(to))
        .map(str::to_owned);
    let request = assertion.in_response_to.clone();
    let session = session(method, provider, assertion, now.0);
    let who = policy.person(&session, ask.credentials, view, now)?;
    let ticket = Sessions { store }
        .park(&Parked { session, request, state, to }, now)
        .await
        .map_err(|error| Refused { who: who.clone(), ..error.into() })?;
    let callback = address(method, &origin.text, SignInEndpoint::Callback, Some(&federation.key.name));
    Ok(Answer::redirect(&format!("{callback}?ticket={ticket}"))?.of(who))
}

/// The session that an assertion names.
fn session(method: &ArmedSignIn, provider: &SamlProvider, assertion: Assertion, now: u64) -> Session {
    let Assertion { name, session, session_ends, proved, context, attributes, .. } = assertion;
    let mut claims: Map<String, Value> = attributes
        .into_iter()
        .filter(|(name, values)| !values.is_empty() && !OWN_CLAIMS.contains(&name.as_str()))
        // Always a list, because the assertion does not tell whether an attribute can have several values.
        .map(|(name, values)| (name, values.into()))
        .collect();
    let NameId { value, format, qualifier, sp_qualifier } = name;
    claims.insert("iss".into(), provider.issuer().into());
    claims.insert("sub".into(), value.as_str().into());
    claims.insert(
        "nameId".into(),
        json!({"value": value, "format": format, "qualifier": qualifier, "spQualifier": sp_qualifier}),
    );
    claims.extend(context.map(|context| ("acr".to_owned(), context.into())));
    let until = now.saturating_add(method.plan().absolute_seconds * 1000);
    Session {
        federation: provider.federation().uid.clone(),
        issuer: provider.issuer().to_owned(),
        subject: value,
        sid: session,
        claims,
        began: now,
        until: session_ends.map_or(until, |ends| until.min(ends.0)),
        proved: proved.seconds(),
        generation: String::new(),
        tokens: Tokens::default(),
        refresh_at: u64::MAX,
    }
}

/// The endpoint where the browser collects the parked response of the provider.
pub(crate) async fn finish(
    method: &ArmedSignIn,
    provider: &Arc<SamlProvider>,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let federation = provider.federation();
    check_open(federation)?;
    let parameters = Parameters::read(view.query.unwrap_or_default().as_bytes())?;
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let ticket = parameters.text("ticket").ok_or_else(|| unknown("there is no `ticket`"))?;
    let parked = Sessions { store: policy.store() }.unpark(ticket, now).await?;
    let Parked { session, request, state, to } =
        parked.ok_or_else(|| unknown("the ticket is not known, or was used before"))?;
    if session.federation != federation.uid {
        return Err(unknown("the ticket is of another provider"));
    }
    let to = match (request, state) {
        (None, _) => to,
        (Some(request), state) => {
            let way =
                OnTheWay::read(view, &origin).ok_or_else(|| unknown("the browser did not bring its cookie back"))?;
            let again = state.as_deref().and_then(Browser::hint);
            let login = state.and_then(|state| way.browser.login(&state, &federation.uid, now));
            let login = login.filter(|login| request.strip_prefix('_') == Some(login.id.as_str()));
            let login = login.ok_or_else(|| Refused {
                again: again.map(Into::into),
                ..unknown("another browser began this sign-in, or more than 15 minutes ago")
            })?;
            if !policy
                .store()
                .claim(&Key::of(&["sign-in", &federation.uid, &login.id]), REQUEST_MS + MARGIN_MS, now)
                .await?
            {
                return Err(Refused { again: Some(login.to.into()), ..unknown("the sign-in was finished before") });
            }
            Some(login.to)
        }
    };
    let who = policy.person(&session, ask.credentials, view, now)?;
    method.is_strong_enough(&session, now).map_err(|denied| Refused { who, ..denied.into() })?;
    let to = or_front_page(to.as_deref(), &method.plan().base).to_owned();
    callback::begin(method, session, &to, &origin, ask).await
}

/// Our own metadata, for the administrator of the provider.
pub(crate) fn metadata(method: &ArmedSignIn, provider: &SamlProvider, ask: Ask<'_>) -> Result<Answer, Refused> {
    let origin = method.origin(ask.view)?;
    let mut answer = Answer::empty(200);
    answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/samlmetadata+xml"));
    answer.body = Bytes::from(provider.own_metadata(&provider.own(&origin, &method.plan().base)));
    Ok(answer)
}

/// The next step of the browser to end the provider's session of a person, too.
pub(crate) async fn leave(
    provider: &SamlProvider,
    session: &Session,
    own: &OwnAddresses,
    ask: Ask<'_>,
) -> Option<String> {
    let of = |name: &str| {
        session.claims.get("nameId").and_then(|name_id| name_id.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let name = NameId {
        value: of("value")?,
        format: of("format"),
        qualifier: of("qualifier"),
        sp_qualifier: of("spQualifier"),
    };
    let id = format!("_{}", Login::begin("", ask.now)?.id);
    match provider.leave(&id, own, &name, session.sid.as_deref(), ask.now).await {
        Ok(Some(BrowserMessage::Redirect(to))) => Some(to),
        _ => None,
    }
}

/// The single logout service: receives the provider's requests to end sessions, and its answers to ours.
pub(crate) async fn logout(
    method: &ArmedSignIn,
    provider: &Arc<SamlProvider>,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let posted = if view.method == "POST" { Some(form(ask)?) } else { None };
    let query = Parameters::read(if posted.is_some() { b"" } else { view.query.unwrap_or_default().as_bytes() })?;
    let parameters = posted.as_ref().unwrap_or(&query);
    if parameters.text("SAMLResponse").is_some() {
        // The provider's session has ended, or has not; ours ended before the request was sent.
        return Answer::redirect(&address(method, &origin.text, SignInEndpoint::LoggedOut, None));
    }
    let own = provider.own(&origin, &method.plan().base);
    let invalid = |detail: String| Refused::new(Reason::InvalidLogoutToken, detail);
    let raw = posted.is_none().then(|| view.query.unwrap_or_default());
    let form = posted.as_ref().map(|form| form.text("SAMLRequest").unwrap_or_default());
    let request = provider.logout_request(raw, form, &own, now).await;
    let LogoutRequest { id, name, sessions } = request.map_err(|error| match error.reason {
        Reason::ProviderUnavailable => error.into(),
        _ => invalid(error.detail),
    })?;
    let (store, federation) = (policy.store(), &provider.federation().uid);
    if !store.claim(&Key::of(&["saml logout", federation, &id]), 2 * MARGIN_MS, now).await? {
        return Err(invalid("the request was used before".into()));
    }
    let kept = Sessions { store };
    if sessions.is_empty() {
        kept.end_person(federation, &name.value, now).await?;
    }
    for session in &sessions {
        kept.end_sid(federation, session, now).await?;
    }
    let answer =
        Login::begin("", now).ok_or_else(|| Refused::new(Reason::InternalError, "there are no random bits"))?.id;
    let message = provider.logout_answer(&format!("_{answer}"), &id, parameters.text("RelayState"), &own, now).await?;
    Ok(run(method, message, ask)?.with_cookie(crate::cookie::take_session(&origin)))
}
