//! The end of sessions: at the person's request, and at the provider's.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, header};
use idm_authn::{ArmedSignIn, Federated, LogoutToken, Origin, Provider};
use idm_plan::SignInEndpoint;
use idm_session::{Ended, Session, Sessions};
use idm_store::Key;
use idm_types::{Reason, Refusal};
use url::Url;

use crate::parameters::{Parameters, is_form};
use crate::{Answer, Ask, Refused, address, cookie, pages, saml};

/// The `jti` of a logout token is remembered longer than the token is accepted.
const USED_MS: u64 = 30 * 60_000;

/// Signs a person out, here and at the provider. Where another site sent the browser, the person is asked first.
pub(crate) async fn logout(method: &ArmedSignIn, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let posted = view.method == "POST";
    if posted {
        method.is_own_page(view).map_err(|why| Refused::new(Reason::CrossSiteRequest, why))?;
    } else if !came_by_itself(ask) {
        return Ok(pages::confirm_logout(method, ask));
    }
    let parameters = Parameters::read(if posted {
        view.body.unwrap_or_default()
    } else {
        view.query.unwrap_or_default().as_bytes()
    })?;
    let what = if parameters.text("everywhere").is_some() { Ended::Everywhere } else { Ended::This };
    let sessions = Sessions { store: policy.store() };
    let mut found = None;
    if let Some(id) = cookie::session(view, &origin) {
        if let Some(session) =
            sessions.find(&id, method.plan().idle_seconds * 1000, now).await?.map(|found| found.session)
        {
            sessions.end(&id, &session, what, now).await?;
            found = Some(session);
        }
    }
    let to = match &found {
        Some(session) => leave(method, session, &origin, ask).await,
        None => address(method, &origin.text, SignInEndpoint::LoggedOut, None),
    };
    let who = found.as_ref().map(|session| policy.person(session, ask.credentials, view, now)).transpose()?.flatten();
    Ok(Answer::redirect(&to)?.with_cookie(cookie::take_session(&origin)).of(who))
}

/// Whether the browser reports that a page of this origin, or the person alone, caused the request.
fn came_by_itself(ask: Ask<'_>) -> bool {
    let mut values = ask.view.headers.get_all("sec-fetch-site").iter();
    matches!((values.next().and_then(|value| value.to_str().ok()), values.next()), (Some("same-origin" | "none"), None))
}

/// The next address for the browser: the provider's, so that the session there ends too. A provider that cannot be
/// reached does not keep the person signed in here.
async fn leave(method: &ArmedSignIn, session: &Session, origin: &Origin, ask: Ask<'_>) -> String {
    let back = address(method, &origin.text, SignInEndpoint::LoggedOut, None);
    let Some(provider) = method.provider_of_session(session) else { return back };
    let there = match provider {
        Federated::Oidc(provider) => provider.end_session_url(&session.tokens, &back, "out").await.ok().flatten(),
        Federated::Saml(provider) => {
            saml::leave(provider, session, &provider.own(origin, &method.plan().base), ask).await
        }
        // A directory keeps no session of its own.
        Federated::Directory(_) => None,
    };
    there.unwrap_or(back)
}

/// The address where the browser ends up.
pub(crate) fn logged_out(method: &ArmedSignIn, ask: Ask<'_>) -> Result<Answer, Refused> {
    match &method.plan().after_logout {
        Some(to) => Answer::redirect(to),
        None => Ok(pages::logged_out(method, ask)),
    }
}

/// OpenID Connect Back-Channel Logout §2.5: the provider sends the request, not the browser.
pub(crate) async fn back_channel(provider: &Arc<Provider>, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let invalid = |why: &str| Refused::new(Reason::InvalidLogoutToken, why);
    if !is_form(view) {
        return Err(invalid("the body is not a form"));
    }
    let parameters = Parameters::read(view.body.unwrap_or_default())?;
    let token = parameters.text("logout_token").ok_or_else(|| invalid("there is no `logout_token`"))?;
    let LogoutToken { subject, sid, id } = provider.logout_token(token, now).await.map_err(|error| match error {
        Refusal { reason: Reason::ProviderUnavailable, .. } => error.into(),
        Refusal { detail, .. } => invalid(&detail),
    })?;
    let federation = &provider.federation().uid;
    if !policy.store().claim(&Key::of(&["logout token", federation, &id]), USED_MS, now).await? {
        return Err(invalid("the logout token was used before"));
    }
    let sessions = Sessions { store: policy.store() };
    match (sid, subject) {
        (Some(sid), _) => drop(sessions.end_sid(federation, &sid, now).await?),
        (None, Some(subject)) => sessions.end_person(federation, &subject, now).await?,
        (None, None) => return Err(invalid("it names neither person nor session")),
    }
    Ok(Answer::empty(200))
}

/// OpenID Connect Front-Channel Logout §3: a frame in the provider's page. The browser sends no cookies there, so the
/// session is found by the provider's `sid`, which cannot be guessed.
pub(crate) async fn front_channel(provider: &Arc<Provider>, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let parameters = Parameters::read(view.query.unwrap_or_default().as_bytes())?;
    let invalid = |why: &str| Refused::new(Reason::InvalidLogoutToken, why);
    // §3: a provider that sends one of them sends both. Without `iss` the request could come from another provider's
    // page.
    match parameters.text("iss") {
        Some(iss) if iss == provider.issuer() => {}
        Some(_) => return Err(invalid("`iss` names another provider")),
        None => return Err(invalid("there is no `iss`: register the client with a session that is required")),
    }
    let sid = parameters
        .text("sid")
        .filter(|sid| sid.len() <= 255)
        .ok_or_else(|| invalid("there is no `sid`: let the provider send it"))?;
    Sessions { store: policy.store() }.end_sid(&provider.federation().uid, sid, now).await?;
    let mut answer = Answer::empty(200);
    answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let parent = Url::parse(provider.issuer()).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let policy = HeaderValue::from_str(&format!("default-src 'none'; frame-ancestors {parent}"));
    answer.headers.extend(policy.ok().map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    answer.body = Bytes::from_static(b"<!doctype html><html lang=\"en\"><title>-</title></html>");
    Ok(answer)
}
