//! A SAML identity provider: its endpoints, its certificates, and our messages to it. `idm-saml` reads and validates
//! messages.

use idm_trust::{EarlyFetches, HttpClient, Kept, OutboundRequest, RECENT, secret_text};
use std::sync::Arc;
use std::time::Duration;

use idm_plan::{Federation, SamlMetadata, SamlProvider as Plan, StepUp};
use idm_saml::{
    Assertion, AuthnRequest, Carried, Endpoints, Expected, IdentityProvider, LogoutRequest, NameId, OwnKey,
    OwnMetadata, RedirectMessage, Response, SamlError, authn_request, document_text, logout_request, logout_response,
    own_metadata, post_form_value, redirect_url,
};
use idm_types::{Reason, Refusal, Timestamp};
use tokio::time::Instant;

use crate::{Origin, Resources};

/// The age at which metadata is fetched again.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// A message on its way through the browser.
#[derive(Debug)]
pub enum BrowserMessage {
    /// The browser is sent to this address.
    Redirect(String),
    /// The browser is given a form for this address.
    Form {
        /// The URL it is posted to.
        action: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// `RelayState`.
        relay_state: Option<String>,
    },
}

/// Our own addresses at one origin.
#[derive(Clone, Debug)]
pub struct OwnAddresses {
    /// The assertion consumer service.
    pub consumer: String,
    /// The single logout service.
    pub logout: String,
    /// Our entity id.
    pub entity_id: String,
}

/// A provider with its live metadata, shared by all cores.
pub struct SamlProvider {
    federation: Federation,
    plan: Plan,
    key: Option<OwnKey>,
    http: Arc<dyn HttpClient>,
    metadata: Kept<IdentityProvider>,
    early: EarlyFetches,
    born: Instant,
}

impl SamlProvider {
    pub(crate) fn arm(federation: &Federation, plan: &Plan, resources: &Resources<'_>) -> Result<Self, String> {
        let key = match &plan.key {
            None => None,
            Some((chain, handle)) => {
                let key = secret_text(handle, resources.trust.secrets)?;
                Some(
                    OwnKey::from_pem(chain, key.reveal())
                        .map_err(|error| format!("the secret `{}`: {error}", handle.0))?,
                )
            }
        };
        let http = match &plan.metadata {
            SamlMetadata::Url { tls: Some(tls), .. } => {
                resources.trust.http.reached_by(tls, resources.trust.secrets)?
            }
            SamlMetadata::Url { tls: None, .. } | SamlMetadata::Inline(_) => resources.trust.http.clone(),
        };
        Ok(Self {
            federation: federation.clone(),
            plan: plan.clone(),
            key,
            http,
            metadata: Kept::default(),
            early: EarlyFetches::default(),
            born: Instant::now(),
        })
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Its entity id.
    pub fn issuer(&self) -> &str {
        &self.plan.entity_id
    }

    /// Our entity id, where it is not the address of our metadata.
    pub fn own_entity_id(&self) -> Option<&str> {
        self.plan.own_entity_id.as_deref()
    }

    async fn metadata(&self, now: Timestamp) -> Result<Arc<IdentityProvider>, Refusal> {
        self.metadata.get(FRESH, self.read(now)).await
    }

    async fn read(&self, now: Timestamp) -> Result<IdentityProvider, Refusal> {
        let unavailable = |detail: String| Refusal::new(Reason::ProviderUnavailable, detail);
        let text = match &self.plan.metadata {
            SamlMetadata::Inline(text) => text.clone(),
            SamlMetadata::Url { url, .. } => {
                let bytes = self.http.ask(OutboundRequest::document(url)).await.map_err(crate::oidc::no_answer)?;
                document_text(bytes).map_err(|error| unavailable(format!("{url}: {error}")))?
            }
        };
        let provider = IdentityProvider::read(&text, &self.plan.entity_id, now)
            .map_err(|error| unavailable(format!("the provider's metadata: {error}")))?;
        for left_out in &provider.left_out {
            tracing::warn!(provider = ?self.plan.entity_id, "a certificate of the metadata is left out: {left_out}");
        }
        // People's browsers, their passwords and our requests go there: the rules are those of every URL.
        for (name, address) in provider.locations() {
            self.http
                .check(address)
                .map_err(|why| Refusal::new(Reason::UntrustedSignIn, format!("`{name}` of the provider: {why}")))?;
        }
        Ok(provider)
    }

    /// Does something with the provider's keys; when none of them fits, once more with those that it has now.
    async fn with_keys<T>(
        &self,
        now: Timestamp,
        act: impl Fn(&IdentityProvider) -> Result<T, SamlError>,
    ) -> Result<T, Refusal> {
        match act(&*self.metadata(now).await?) {
            // A few times at once, then no more often than every few seconds, with a document that is newer than a key
            // published ahead: anybody can make a signature of an unknown key.
            Err(SamlError::UnknownSigner) => {
                let at_once = self.early.take(self.born.elapsed().as_millis() as u64);
                let age = if at_once { Duration::ZERO } else { RECENT };
                let metadata = self.metadata.get(age, self.read(now)).await?;
                act(&metadata).map_err(|error| Self::unknown_signer(&metadata, error))
            }
            said => Ok(said?),
        }
    }

    /// The refusal of a signer that is not known; it names the certificates that could not be used.
    fn unknown_signer(metadata: &IdentityProvider, error: SamlError) -> Refusal {
        let detail = match metadata.left_out.as_slice() {
            _ if error != SamlError::UnknownSigner => error.to_string(),
            [] => error.to_string(),
            left_out => format!("{error}; in its metadata cannot be used: {}", left_out.join("; ")),
        };
        Refusal::new(error.reason(), detail)
    }

    fn message(
        &self,
        to: &Endpoints,
        carried: Carried,
        relay_state: Option<&str>,
        posts: bool,
        message: impl Fn(&str, Option<&OwnKey>) -> Result<String, SamlError>,
    ) -> Result<BrowserMessage, Refusal> {
        match (&to.redirect, &to.post) {
            (Some(address), post) if !(posts && post.is_some()) => Ok(BrowserMessage::Redirect(redirect_url(
                address,
                carried,
                &message(address, None)?,
                relay_state,
                self.key.as_ref(),
            )?)),
            (_, Some(address)) => Ok(BrowserMessage::Form {
                action: address.clone(),
                field: carried.parameter(),
                value: post_form_value(&message(address, self.key.as_ref())?),
                relay_state: relay_state.map(str::to_owned),
            }),
            _ => Err(Refusal::new(Reason::ProviderUnavailable, "the provider has no address for this message")),
        }
    }

    /// The message that sends the browser to sign in, with a request of this id.
    pub async fn request(
        &self,
        id: &str,
        own: &OwnAddresses,
        step_up: &StepUp,
        now: Timestamp,
    ) -> Result<BrowserMessage, Refusal> {
        let metadata = self.metadata(now).await?;
        if metadata.wants_signed_requests && self.key.is_none() {
            let detail =
                "the provider wants signed requests: give the Federation a `serviceProvider.keyRef`".to_owned();
            return Err(Refusal::new(Reason::ProviderUnavailable, detail));
        }
        let message = |destination: &str, key: Option<&OwnKey>| {
            let request = AuthnRequest {
                id,
                entity_id: &own.entity_id,
                destination,
                consumer: &own.consumer,
                name_format: self.plan.name_format.as_deref(),
                contexts: &step_up.acr,
                // SAML has no greatest age: a person who must have authenticated lately is asked to do it now.
                force: step_up.max_age_seconds.is_some(),
            };
            authn_request(&request, now, key)
        };
        self.message(&metadata.sign_on, Carried::Request, None, self.plan.posts_requests, message)
    }

    /// The assertion of a posted response, if it is valid.
    pub async fn assertion(&self, posted: &str, own: &OwnAddresses, now: Timestamp) -> Result<Assertion, Refusal> {
        let response = Response::posted(posted)?;
        self.with_keys(now, |provider| {
            response.accept(&Expected {
                issuer: &self.plan.entity_id,
                keys: &provider.keys,
                audience: &own.entity_id,
                consumer: &own.consumer,
                own_key: self.key.as_ref(),
                signed_assertions: self.plan.signed_assertions,
                unsolicited: self.plan.unsolicited,
                skew: self.federation.skew,
                now,
            })
        })
        .await
    }

    /// The message that sends the browser to end the provider's session too; `None` where the provider has no such
    /// service.
    pub async fn leave(
        &self,
        id: &str,
        own: &OwnAddresses,
        name: &NameId,
        session: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<BrowserMessage>, Refusal> {
        let metadata = self.metadata(now).await?;
        if metadata.logout == Endpoints::default() {
            return Ok(None);
        }
        // A request in a query carries its signature there; one in a form would need its own, so the query it is.
        let to = Endpoints { post: None, ..metadata.logout.clone() };
        let message = |destination: &str, _: Option<&OwnKey>| {
            Ok(logout_request(id, &own.entity_id, destination, name, session, now))
        };
        self.message(&to, Carried::Request, None, false, message).map(Some)
    }

    /// A request of the provider to end sessions, from a query or a form.
    pub async fn logout_request(
        &self,
        query: Option<&str>,
        posted: Option<&str>,
        own: &OwnAddresses,
        now: Timestamp,
    ) -> Result<LogoutRequest, Refusal> {
        self.with_keys(now, |provider| match (query.and_then(RedirectMessage::of), posted) {
            (Some(message), None) if message.carried() == Carried::Request => {
                LogoutRequest::read(&message.verified(&provider.keys)?, &self.plan.entity_id, &own.logout, now)
            }
            (None, Some(posted)) => {
                LogoutRequest::posted(posted, &provider.keys, &self.plan.entity_id, &own.logout, now)
            }
            _ => Err(SamlError::Missing("SAMLRequest")),
        })
        .await
    }

    /// The message by which the browser brings our response back.
    pub async fn logout_answer(
        &self,
        id: &str,
        request: &str,
        relay_state: Option<&str>,
        own: &OwnAddresses,
        now: Timestamp,
    ) -> Result<BrowserMessage, Refusal> {
        let metadata = self.metadata(now).await?;
        let message = |destination: &str, key: Option<&OwnKey>| {
            logout_response(id, &own.entity_id, destination, request, now, key)
        };
        self.message(&metadata.logout, Carried::Response, relay_state, false, message)
    }

    /// Our own metadata.
    pub fn own_metadata(&self, own: &OwnAddresses) -> String {
        own_metadata(&OwnMetadata {
            entity_id: &own.entity_id,
            consumer: &own.consumer,
            logout: &own.logout,
            key: self.key.as_ref(),
            signed_assertions: self.plan.signed_assertions,
            name_format: self.plan.name_format.as_deref(),
        })
    }

    /// Our addresses at an origin, below a base path.
    pub fn own(&self, origin: &Origin, base: &str) -> OwnAddresses {
        use idm_plan::SignInEndpoint;
        let at = |endpoint: SignInEndpoint| {
            format!("{}{}", origin.text, endpoint.path(base, Some(&self.federation.key.name)))
        };
        let entity_id = self.plan.own_entity_id.clone().unwrap_or_else(|| at(SignInEndpoint::SamlMetadata));
        OwnAddresses { consumer: at(SignInEndpoint::SamlConsumer), logout: at(SignInEndpoint::SamlLogout), entity_id }
    }

    /// The origins to which signing in and out may lead a browser.
    pub fn leads_to(&self) -> Vec<String> {
        let origin = |address: &str| Some(url::Url::parse(address).ok()?.origin().ascii_serialization());
        let known = self.metadata.last();
        known.iter().flat_map(|known| known.locations()).filter_map(|(_, address)| origin(address)).collect()
    }
}
