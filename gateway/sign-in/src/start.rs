//! Sends a browser to a provider to sign in.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_authn::{ArmedSignIn, Asked, Federated, Provider};
use idm_plan::SignInEndpoint;
use idm_session::Login;
use idm_types::{Reason, Refusal};

use crate::cookie::OnTheWay;
use crate::parameters::Parameters;
use crate::target::{is_local_target, or_front_page};
use crate::{Answer, Ask, Refused, address, check_open, login as login_form, pages, saml};

/// Sign-ins that one address may begin in a minute: enough for an office behind one address.
const PER_MINUTE: u32 = 600;
/// This number of redirects for the same page in half a minute counts as a loop.
const LOOP: u32 = 6;

/// The address for a browser that must sign in before it may see a page.
pub fn start_target(method: &ArmedSignIn, page: &str) -> String {
    let base = &method.plan().base;
    if !is_local_target(page) {
        return base.clone();
    }
    format!("{base}?to={}", encoded(page))
}

pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Sends the browser to the provider; if there are several, the person chooses.
pub(crate) async fn start(method: &ArmedSignIn, ask: Ask<'_>) -> Result<Answer, Refused> {
    let Ask { policy, view, now, .. } = ask;
    let origin = method.origin(view)?;
    let parameters = Parameters::read(view.query.unwrap_or_default().as_bytes())?;
    let to = or_front_page(parameters.text("to"), &method.plan().base);
    let taken = policy.take_sign_in(view.address, PER_MINUTE);
    taken.map_err(|seconds| Refusal::new(Reason::TooManySignIns, "").retry_after(seconds))?;
    let provider = match (parameters.text("at"), method.providers()) {
        (Some(name), _) => {
            method.provider(name).ok_or_else(|| Refused::new(Reason::MalformedRequest, "nobody signs in there"))?
        }
        (None, [only]) => only,
        (None, _) => return Ok(pages::chooser(method, ask, to)),
    };
    check_open(provider.federation())?;
    let no_random = || Refused::new(Reason::InternalError, "there are no random bits");
    let mut way = OnTheWay::read(view, &origin).or_else(OnTheWay::new).ok_or_else(no_random)?;
    let page = URL_SAFE_NO_PAD.encode(digest(&SHA256, to.as_bytes()).as_ref().get(..9).unwrap_or_default());
    if way.count(&page, now) > LOOP {
        return Err(Refused::new(Reason::SignInLoop, format!("for `{to}`")));
    }
    let login = Login::begin(to, now).ok_or_else(no_random)?;
    let provider = match provider {
        Federated::Saml(provider) => {
            return Ok(saml::start(method, provider, &origin, &way.browser, &login, ask)
                .await?
                .with_cookie(way.give(&origin)));
        }
        Federated::Directory(directory) => {
            return Ok(
                login_form::start(method, directory, &origin, &way.browser, &login)?.with_cookie(way.give(&origin))
            );
        }
        Federated::Oidc(provider) => provider,
    };
    let state = way.browser.state(&login, &provider.federation().uid).ok_or_else(no_random)?;
    let asked = Asked {
        redirect_uri: &redirect_uri(method, provider, &origin.text),
        state: &state,
        nonce: &way.browser.nonce(&login),
        verifier: &way.browser.verifier(&login),
        step_up: &method.plan().step_up,
    };
    let url = provider.authorization_url(&asked, now).await?;
    Ok(Answer::redirect(&url)?.with_cookie(way.give(&origin)))
}

/// The redirect URI of a provider; each provider has its own, so that no answer counts for another provider.
pub(crate) fn redirect_uri(method: &ArmedSignIn, provider: &Provider, origin: &str) -> String {
    address(method, origin, SignInEndpoint::Callback, Some(&provider.federation().key.name))
}
