//! The redirect back from a provider, where a session begins.

use std::sync::Arc;

use idm_authn::{ArmedSignIn, Expected, Origin, Provider, SignedIn};
use idm_session::{Browser, Ended, Session, Sessions};
use idm_store::Key;
use idm_types::{Reason, visible};

use crate::cookie::{self, OnTheWay};
use crate::parameters::Parameters;
use crate::saml::form;
use crate::start::redirect_uri;
use crate::target::or_front_page;
use crate::{Answer, Ask, Refused, check_open};

/// A used `state` is remembered longer than any sign-in may take.
const USED_MS: u64 = 30 * 60_000;
const MAX_CODE: usize = 4096;
/// The characters of a provider's description that are kept.
const MAX_DESCRIPTION: usize = 300;

/// Brings an answer that a provider's page posted (OAuth 2.0 Form Post Response Mode §2) to where it is checked.
///
/// Nothing of it is believed or used up here. The post comes from another site, so that the browser leaves the login
/// cookie out (`SameSite=Lax`); it brings it along where this answer sends it, and that cookie needs not be open to
/// posts of any site.
pub(crate) fn posted(method: &ArmedSignIn, provider: &Provider, ask: Ask<'_>) -> Result<Answer, Refused> {
    if !provider.posts_answers() {
        let detail = "the callback is asked with POST, and the Federation's `oidc.client.parameters` have no \
                      `response_mode` with `form_post`";
        return Err(Refused::new(Reason::MalformedRequest, detail));
    }
    let origin = method.origin(ask.view)?;
    let form = form(ask)?;
    let kept = ["state", "code", "iss", "error", "error_description"];
    let kept = kept.into_iter().filter_map(|name| Some((name, form.text(name)?)));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
    Answer::redirect(&format!("{}?{query}", redirect_uri(method, provider, &origin.text)))
}

pub(crate) async fn callback(method: &ArmedSignIn, provider: &Arc<Provider>, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let parameters = Parameters::read(view.query.unwrap_or_default().as_bytes())?;
    let federation = provider.federation();
    check_open(federation)?;
    // First check: did this browser begin the sign-in at this provider? No other part of the answer is read before.
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let Some(state) = parameters.text("state") else {
        // Some providers leave `state` out where they say no. Anybody can write such an address, so that nothing is
        // used up by it; what it says helps whoever looks for the cause.
        return Err(match said_no(&parameters) {
            Some(said) => Refused::new(Reason::SignInRefused, format!("an answer without `state` says {said}")),
            None => unknown("there is no `state`"),
        });
    };
    let way = OnTheWay::read(view, &origin).ok_or_else(|| unknown("the browser did not bring its cookie back"))?;
    let login = way.browser.login(state, &federation.uid, now);
    // If several tabs were opened at once, each got a secret, and the cookie has the last one: the other tabs begin
    // anew.
    let lost = || Refused {
        again: Browser::hint(state).map(Into::into),
        ..unknown("`state` is not of this browser and provider, or is older than 15 minutes")
    };
    let login = login.ok_or_else(lost)?;
    provider.answered(parameters.text("iss")).await?;
    // The caller is not known yet, and an unknown caller can send an answer for each sign-in that it began.
    let asked = Key::of(&["answer", &federation.uid, &login.id]);
    if !policy.store().claim_begun(view.address, &asked, USED_MS, now).await? {
        return Err(Refused { again: Some(login.to.into()), ..unknown("`state` was used before") });
    }
    if let Some(said) = said_no(&parameters) {
        return Err(Refused::new(Reason::SignInRefused, format!("the provider answered {said}")));
    }
    let code =
        parameters.text("code").filter(|code| code.len() <= MAX_CODE).ok_or_else(|| unknown("there is no `code`"))?;
    let (nonce, verifier) = (way.browser.nonce(&login), way.browser.verifier(&login));
    let expected = Expected { nonce: Some(&nonce), subject: None, step_up: Some(&method.plan().step_up) };
    let signed_in =
        provider.redeem(code, &redirect_uri(method, provider, &origin.text), &verifier, &expected, now).await?;
    if !policy.store().claim(&Key::of(&["sign-in", &federation.uid, &login.id]), USED_MS, now).await? {
        return Err(Refused { again: Some(login.to.into()), ..unknown("`state` was used before") });
    }
    let SignedIn { person, tokens, refresh_at } = signed_in;
    let session = Session {
        federation: federation.uid.clone(),
        issuer: provider.issuer().to_owned(),
        generation: String::new(),
        subject: person.subject,
        sid: person.sid,
        claims: person.claims,
        began: now.0,
        until: now.0.saturating_add(method.plan().absolute_seconds * 1000),
        proved: person.proved,
        tokens,
        refresh_at,
    };
    begin(method, session, or_front_page(Some(&login.to), &method.plan().base), &origin, ask).await
}

/// The error that an answer has (RFC 6749 §4.1.2.1), with its description: bounded and of visible characters, for it
/// goes into records.
fn said_no(parameters: &Parameters) -> Option<String> {
    let error = parameters.text("error")?;
    let is_code = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let code = if is_code { format!("`{error}`") } else { "an error that is not a code".to_owned() };
    let Some(description) = parameters.text("error_description") else { return Some(code) };
    let words: Vec<&str> = description.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(MAX_DESCRIPTION).collect();
    Some(format!("{code}: {}", visible(&short)))
}

/// Begins a session, ends the one before, and sends the browser to its page.
pub(crate) async fn begin(
    method: &ArmedSignIn,
    session: Session,
    to: &str,
    origin: &Origin,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let sessions = Sessions { store: policy.store() };
    let session =
        Session { generation: sessions.generation(&session.federation, &session.subject, now).await?, ..session };
    let who = policy.person(&session, ask.credentials, view, now)?;
    let id = sessions
        .begin(&session, method.plan().idle_seconds * 1000, now)
        .await
        .map_err(|error| Refused { who: who.clone(), ..error.into() })?;
    // A sign-in makes a new session and ends the previous one (ASVS 7.2.4).
    if let Some(old) = cookie::session(view, origin) {
        if let Some(found) = sessions.find(&old, 1, now).await? {
            sessions.end(&old, &found.session, Ended::This, now).await?;
        }
    }
    if let (Some(provider), Some(who)) = (method.provider_of_session(&session), &who) {
        policy.note_person(provider.federation(), who);
    }
    Ok(Answer::redirect(to)?.with_cookie(cookie::give_session(&id, origin)).of(who))
}
