//! The form for user name and password of a directory.
//!
//! The form's `state` is sealed under a secret that only the browser has, as it is for providers: another site can
//! neither make one nor send a form with it, and a `state` begins one session.

use std::sync::Arc;

use idm_authn::{ArmedDirectory, ArmedSignIn, LoginForm, Origin};
use idm_plan::SignInEndpoint;
use idm_session::{Browser, Login, Session, Tokens};
use idm_store::Key;
use idm_types::{Reason, Redacted, Refusal};

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
    let Begun { state, .. } = begun(directory, &parameters, &origin, ask)?;
    Ok(pages::login(method, directory, ask, &form_of(directory, state, "", false)))
}

/// A sign-in that a browser began.
struct Begun {
    login: Login,
    state: String,
    browser: Browser,
}

impl Begun {
    /// The sealed state of another sign-in of the same browser to the same page, so that this one is used once.
    fn again(&self, directory: &ArmedDirectory, ask: Ask<'_>) -> Result<String, Refused> {
        let login = Login::begin(self.login.to.clone(), ask.now);
        let state = login.and_then(|login| self.browser.state(&login, &directory.federation().uid));
        state.ok_or_else(|| Refused::new(Reason::InternalError, "there are no random bits"))
    }

    /// Uses it up for one purpose. It is refused where that was done before.
    async fn claim(&self, purpose: &str, directory: &ArmedDirectory, ask: Ask<'_>) -> Result<(), Refused> {
        let key = Key::of(&[purpose, &directory.federation().uid, &self.login.id]);
        if ask.policy.store().claim(&key, USED_MS, ask.now).await? {
            return Ok(());
        }
        let used = Refused::new(Reason::UnknownSignIn, "`state` was used before");
        Err(Refused { again: Some(self.login.to.clone().into()), ..used })
    }
}

fn form_of(directory: &ArmedDirectory, state: String, username: &str, changes_password: bool) -> LoginForm {
    let username = username.chars().filter(|character| !character.is_control()).take(MAX_SHOWN).collect();
    LoginForm { federation: directory.federation().key.name.clone(), state, username, changes_password }
}

/// The sign-in that this browser began at this directory.
fn begun(directory: &ArmedDirectory, parameters: &Parameters, origin: &Origin, ask: Ask<'_>) -> Result<Begun, Refused> {
    let unknown = |why: &str| Refused::new(Reason::UnknownSignIn, why);
    let state = parameters.text("state").ok_or_else(|| unknown("there is no `state`"))?;
    let lost = |why: &str| Refused { again: Browser::hint(state).map(Into::into), ..unknown(why) };
    let way = OnTheWay::read(ask.view, origin).ok_or_else(|| lost("the browser did not bring its cookie back"))?;
    let login = way.browser.login(state, &directory.federation().uid, ask.now);
    let login =
        login.ok_or_else(|| lost("`state` is not of this browser and directory, or is older than 15 minutes"))?;
    Ok(Begun { login, state: state.to_owned(), browser: way.browser })
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
    let begun = begun(directory, &parameters, origin, ask)?;
    let username = parameters.text("username").unwrap_or_default();
    let password = Redacted::new(parameters.text("password").unwrap_or_default().to_owned());
    if let Some(new) = parameters.text("newPassword") {
        let repeated = parameters.text("newPasswordAgain") == Some(new);
        let new = Redacted::new(new.to_owned());
        return changed(method, directory, &begun, (username, password), (new, repeated), ask).await;
    }
    let federation = directory.federation();
    let person = match policy.log_in(directory, username, password, view.address).await {
        Ok(person) => person,
        Err(refusal) if wants_change(directory, &refusal) => {
            let form = form_of(directory, begun.again(directory, ask)?, username, true);
            return Err(Refused { form: Some(Box::new(form)), ..refusal.into() });
        }
        Err(refusal) => {
            let form = form_of(directory, begun.state, username, false);
            return Err(Refused { form: Some(Box::new(form)), ..refusal.into() });
        }
    };
    begun.claim("sign-in", directory, ask).await?;
    let login = begun.login;
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

/// Whether the person may choose a new password here.
fn wants_change(directory: &ArmedDirectory, refusal: &Refusal) -> bool {
    directory.changes_passwords()
        && matches!(refusal.reason, Reason::PasswordExpired | Reason::PasswordMustChange | Reason::NewPasswordRefused)
}

/// Takes a new password. The `state` is used up whatever comes of it, so that nobody sends the form again.
async fn changed(
    method: &ArmedSignIn,
    directory: &Arc<ArmedDirectory>,
    begun: &Begun,
    (username, password): (&str, Redacted<String>),
    (new, repeated): (Redacted<String>, bool),
    ask: Ask<'_>,
) -> Result<Answer, Refused> {
    if !directory.changes_passwords() {
        return Err(Refused::new(Reason::MalformedRequest, "this Federation does not offer to change passwords"));
    }
    begun.claim("password-change", directory, ask).await?;
    let state = begun.again(directory, ask)?;
    let outcome = match repeated {
        true => ask.policy.change_password(directory, username, password, new, ask.view.address).await,
        false => Err(Refusal::new(Reason::NewPasswordRefused, "the new password and its repetition differ")),
    };
    match outcome {
        Ok(()) => Ok(pages::changed(method, directory, ask, &form_of(directory, state, username, false))),
        Err(refusal) => {
            // A person who mistyped the old password tries again in the same form.
            let same = wants_change(directory, &refusal) || refusal.reason.told() == Reason::WrongPassword;
            let form = form_of(directory, state, username, same);
            Err(Refused { form: Some(Box::new(form)), ..refusal.into() })
        }
    }
}
