//! The redirect back from a provider, where a session begins.

use std::sync::Arc;

use idm_authn::{ArmedSignIn, Expected, Origin, Provider, SignedIn};
use idm_session::{Browser, Ended, Session, Sessions};
use idm_store::Key;
use idm_types::Reason;

use crate::cookie::{self, OnTheWay};
use crate::parameters::Parameters;
use crate::start::redirect_uri;
use crate::target::or_front_page;
use crate::{Answer, Ask, Refused, check_open};

/// A used `state` is remembered longer than any sign-in may take.
const USED_MS: u64 = 30 * 60_000;
const MAX_CODE: usize = 4096;

pub(crate) async fn callback(method: &ArmedSignIn, provider: &Arc<Provider>, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let parameters = Parameters::read(view.query.unwrap_or_default().as_bytes())?;
    let federation = provider.federation();
    check_open(federation)?;
    // First check: did this browser begin the sign-in at this provider? No other part of the answer is read before.
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let state = parameters.text("state").ok_or_else(|| unknown("there is no `state`"))?;
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
    if let Some(error) = parameters.text("error") {
        // RFC 6749 §4.1.2.1: a code of printable characters; other text is kept out of the records.
        let code = if error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            error
        } else {
            "an error"
        };
        return Err(Refused::new(Reason::SignInRefused, format!("the provider answered `{code}`")));
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
