//! The endpoints of a sign-in method, at which the gateway itself answers browsers and providers.
//!
//! In: a request to an endpoint, as [`Ask`]. Out: an [`Answer`], or [`Refused`] with its reason. The provider
//! identifies the person, and `idm-authn` checks its answers; `idm-session` keeps sessions. Never does IO of its own,
//! and redirects a browser only to a path of its own host, to a provider, or to an address of the policy. Start at
//! [`answer`]; a session begins in `callback.rs`, with SAML in `saml.rs`, at the form of a directory in `login.rs`, and
//! ends in `logout.rs`; `pages.rs` has the pages.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod callback;
mod cookie;
mod login;
mod logout;
mod pages;
mod parameters;
mod saml;
mod start;
mod target;
mod texts;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use idm_authn::{ArmedPolicy, ArmedSignIn, CredentialTable, Federated};
pub use idm_authn::{LoginForm, Refused};
use idm_plan::{Federation, SignInEndpoint};
use idm_request::{Identity, RequestView};
use idm_types::{Reason, Timestamp};

pub use pages::{PageRequest, RefusedPage, refusal_page};
pub use start::start_target;
pub use target::is_local_target;

/// The largest form that is read: a SAML response with many attributes.
pub const MAX_FORM: usize = 512 * 1024;

/// A request to an endpoint.
#[derive(Clone, Copy)]
pub struct Ask<'r> {
    /// The policy of the endpoint.
    pub policy: &'r ArmedPolicy,
    /// The Credentials in force.
    pub credentials: &'r CredentialTable,
    /// The request; its form, if it has one, is complete.
    pub view: RequestView<'r>,
    /// The page request, where a browser can show an answer.
    pub page_request: Option<&'r PageRequest>,
    /// The time.
    pub now: Timestamp,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The person whose session began or ended.
    pub who: Option<Rc<Identity>>,
}

impl Answer {
    fn empty(status: u16) -> Self {
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
        Self { status, headers, body: Bytes::new(), who: None }
    }

    /// Redirects the browser. The next site must not get the referrer: the address may contain a code.
    fn redirect(to: &str) -> Result<Self, Refused> {
        let mut answer = Self::empty(303);
        let to = HeaderValue::from_str(to)
            .map_err(|_| Refused::new(Reason::InternalError, "an address cannot travel in a header"))?;
        answer.headers.insert(header::LOCATION, to);
        answer.headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(answer)
    }

    fn with_cookie(mut self, cookie: Option<HeaderValue>) -> Self {
        self.headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        self
    }

    fn of(self, who: Option<Rc<Identity>>) -> Self {
        Self { who, ..self }
    }
}

/// Whether an endpoint reads a form.
pub fn wants_form(endpoint: SignInEndpoint) -> bool {
    matches!(
        endpoint,
        SignInEndpoint::Callback
            | SignInEndpoint::Login
            | SignInEndpoint::Logout
            | SignInEndpoint::BackChannel
            | SignInEndpoint::SamlConsumer
            | SignInEndpoint::SamlLogout
    )
}

/// Answers at an endpoint; `federation` is the Federation of an endpoint that each Federation has.
pub async fn answer(endpoint: SignInEndpoint, federation: Option<&str>, ask: Ask<'_>) -> Result<Answer, Refused> {
    let internal =
        || Refused::new(Reason::InternalError, "an endpoint without a sign-in method or Federation behind it");
    let method = ask.policy.sign_in().ok_or_else(internal)?;
    let reads = matches!(ask.view.method, "GET" | "HEAD");
    let writes = ask.view.method == "POST";
    let fits = match endpoint {
        SignInEndpoint::Start
        | SignInEndpoint::LoggedOut
        | SignInEndpoint::FrontChannel
        | SignInEndpoint::SamlMetadata => reads,
        SignInEndpoint::Callback | SignInEndpoint::Login | SignInEndpoint::Logout | SignInEndpoint::SamlLogout => {
            reads || writes
        }
        SignInEndpoint::BackChannel | SignInEndpoint::SamlConsumer => writes,
    };
    if !fits {
        return Err(Refused::new(
            Reason::MalformedRequest,
            format!("{} is not asked with {}", endpoint.name(), ask.view.method),
        ));
    }
    let provider = federation.and_then(|name| method.provider(name));
    match (endpoint, provider) {
        (SignInEndpoint::Start, _) => start::start(method, ask).await,
        (SignInEndpoint::Login, Some(Federated::Directory(directory))) => login::login(method, directory, ask).await,
        (SignInEndpoint::Logout, _) => logout::logout(method, ask).await,
        (SignInEndpoint::LoggedOut, _) => logout::logged_out(method, ask),
        (SignInEndpoint::Callback, Some(Federated::Oidc(provider))) if writes => {
            callback::posted(method, provider, ask)
        }
        (SignInEndpoint::Callback, Some(Federated::Oidc(provider))) => callback::callback(method, provider, ask).await,
        (SignInEndpoint::BackChannel, Some(Federated::Oidc(provider))) => logout::back_channel(provider, ask).await,
        (SignInEndpoint::FrontChannel, Some(Federated::Oidc(provider))) => logout::front_channel(provider, ask).await,
        (SignInEndpoint::Callback, Some(Federated::Saml(_))) if writes => {
            Err(Refused::new(Reason::MalformedRequest, "the callback of a SAML provider is not asked with POST"))
        }
        (SignInEndpoint::Callback, Some(Federated::Saml(provider))) => saml::finish(method, provider, ask).await,
        (SignInEndpoint::SamlConsumer, Some(Federated::Saml(provider))) => saml::consumer(method, provider, ask).await,
        (SignInEndpoint::SamlMetadata, Some(Federated::Saml(provider))) => saml::metadata(method, provider, ask),
        (SignInEndpoint::SamlLogout, Some(Federated::Saml(provider))) => saml::logout(method, provider, ask).await,
        _ => Err(internal()),
    }
}

/// A suspended Federation refuses every sign-in.
fn check_open(federation: &Federation) -> Result<(), Refused> {
    if federation.suspended {
        Err(Refused::new(Reason::FederationSuspended, format!("Federation {}", federation.key)))
    } else {
        Ok(())
    }
}

/// The address of an endpoint below the policy's base.
fn address(method: &ArmedSignIn, origin: &str, endpoint: SignInEndpoint, federation: Option<&str>) -> String {
    format!("{origin}{}", endpoint.path(&method.plan().base, federation))
}
