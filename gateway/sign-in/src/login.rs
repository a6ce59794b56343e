//! The form for user name and password of a directory.
//!
//! The form's `state` is sealed under a secret that only the browser has, as it is for providers: another site can
//! neither make one nor send a form with it, and a `state` begins one session.

use std::sync::Arc;

use idm_authn::{ArmedDirectory, ArmedSignIn, LoginForm, Origin};
use idm_plan::SignInEndpoint;
use idm_session::{Browser, Login, Session, Tokens};
use idm_store::Key;
use idm_types::{Reason, Redacted};

use crate::cookie::OnTheWay;
use crate::parameters::Parameters;
use crate::saml::form;
use crate::start::encoded;
use crate::target::or_front_page;
use crate::{Answer, Ask, Refused, address, callback, check_open, pages};

/// A used `state` is remembered longer than any sign-in may take.
const USED_MS: u64 = 30 * 60_000;
/// The longest user name that is shown again in the form.
const MAX_SHOWN: usize = 256;

/// Sends the browser to the form.
pub(crate) fn start(
    method: &ArmedSignIn,
    directory: &ArmedDirectory,
    origin: &Origin,
    browser: &Browser,
    login: &Login,
) -> Result<Answer, Refused> {
    let federation = directory.federation();
    let state = browser.state(login, &federation.uid);
    let state = state.ok_or_else(|| Refused::new(Reason::InternalError, "there are no random bits"))?;
    let to = address(method, &origin.text, SignInEndpoint::Login, Some(&federation.key.name));
    Answer::redirect(&format!("{to}?state={}", encoded(&state)))
}

/// Shows the form, or takes it.
pub(crate) async fn login(
    method: &ArmedSignIn,
    directory: &Arc<ArmedDirectory>,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    check_open(directory.federation())?;
    let origin = method.origin(ask.view)?;
    if ask.view.method == "POST" {
        return posted(method, directory, &origin, ask).await;
    }
    let parameters = Parameters::read(ask.view.query.unwrap_or_default().as_bytes())?;
    let (_, state) = begun(directory, &parameters, &origin, ask)?;
    let federation = directory.federation().key.name.clone();
    Ok(pages::login(method, directory, ask, &LoginForm { federation, state, username: String::new() }))
}

/// The sign-in that this browser began at this directory.
fn begun(
    directory: &ArmedDirectory,
    parameters: &Parameters,
    origin: &Origin,
    ask: Ask<'_>,
) -> Result<(Login, String), Refused> {
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let state = parameters.text("state").ok_or_else(|| unknown("there is no `state`"))?;
    let lost = |why: &str| Refused { again: Browser::hint(state).map(Into::into), ..unknown(why) };
    let way = OnTheWay::read(ask.view, origin).ok_or_else(|| lost("the browser did not bring its cookie back"))?;
    let login = way.browser.login(state, &directory.federation().uid, ask.now);
    let login =
        login.ok_or_else(|| lost("`state` is not of this browser and directory, or is older than 15 minutes"))?;
    Ok((login, state.to_owned()))
}

async fn posted(
    method: &ArmedSignIn,
    directory: &Arc<ArmedDirectory>,
    origin: &Origin,
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    method.is_own_page(view).map_err(|why| Refused::new(Reason::CrossSiteRequest, why))?;
    let parameters = form(ask)?;
    let (login, state) = begun(directory, &parameters, origin, ask)?;
    let username = parameters.text("username").unwrap_or_default();
    let password = Redacted::new(parameters.text("password").unwrap_or_default().to_owned());
    let federation = directory.federation();
    let again = |refused: Refused| {
        let username = username.chars().filter(|character| !character.is_control()).take(MAX_SHOWN).collect();
        let form = LoginForm { federation: federation.key.name.clone(), state: state.clone(), username };
        Refused { form: Some(Box::new(form)), ..refused }
    };
    let person = policy.log_in(directory, username, password, view.address).await;
    let person = person.map_err(|refusal| again(refusal.into()))?;
    if !policy.store().claim(&Key::of(&["sign-in", &federation.uid, &login.id]), USED_MS, now).await? {
        let used = Refused::new(Reason::UnknownSignIn, "`state` was used before");
        return Err(Refused { again: Some(login.to.into()), ..used });
    }
    let session = Session {
        federation: federation.uid.clone(),
        issuer: directory.issuer().to_owned(),
        generation: String::new(),
        subject: person.id.clone(),
        sid: None,
        claims: directory.claims(&person),
        began: now.0,
        until: now.0.saturating_add(method.plan().absolute_seconds * 1000),
        proved: now.seconds(),
        tokens: Tokens::default(),
        refresh_at: directory.recheck_at(now),
    };
    callback::begin(method, session, or_front_page(Some(&login.to), &method.plan().base), origin, ask).await
}
