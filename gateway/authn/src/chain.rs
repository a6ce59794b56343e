//! The methods of one policy, in order.

use idm_request::{ArmedMapping, Facts, Identity, IssuedTo, Presented, RequestView};
use idm_trust::{IssuerKeys, Trust};
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use idm_jose::KeySetError;
use idm_plan::{Base64Method, BasicMethod, Confirmation, Federation, Issuer, MethodKind, Policy, Source};
use idm_session::Session;
use idm_types::{MethodName, Reason, Refusal, Timestamp};

use crate::cache::Scope;
use crate::credential::Through;
use crate::digest::ArmedDigest;
use crate::exchange::ArmedExchange;
use crate::federated::Federated;
use crate::introspection::ArmedIntrospection;
use crate::jwt::ArmedJwt;
use crate::mtls::ArmedMtls;
use crate::revocation::{is_any_revoked, is_revoked};
use crate::sign_in::ArmedSignIn;
use crate::{Authenticated, CredentialTable, Grants, Memory, NewPerson, TokenCache, api_key, basic, binding};

/// What one method says about a request. "Not presented" and "not mine" are not "tried and failed".
pub(crate) enum Attempt {
    /// Presented where this method looks, but not of its kind: another method may know it.
    NotMine(Refusal),
    /// Verified.
    Verified(Fresh),
    /// Of its kind, and refused. A bad key does not get to try the next door.
    Rejected(Refusal),
    /// Those of this epoch have no key for it; after a fetch the same attempt may succeed.
    NeedsKeys(Arc<IssuerKeys>, u64, Refusal),
}

impl Attempt {
    /// The end of it: verified, or why not and whether that is final.
    fn verdict(self) -> Result<Fresh, (Refusal, bool)> {
        match self {
            Attempt::Verified(fresh) => Ok(fresh),
            Attempt::Rejected(denied) | Attempt::NeedsKeys(_, _, denied) => Err((denied, true)),
            Attempt::NotMine(denied) => Err((denied, false)),
        }
    }
}

/// What a verified credential yields: the identity, and until when and under which keys it may be reused.
pub(crate) struct Fresh {
    pub(crate) identity: Rc<Identity>,
    pub(crate) until: u64,
    pub(crate) epoch: u64,
}

pub(crate) enum Armed {
    Jwt(ArmedJwt),
    Introspection(Box<ArmedIntrospection>),
    Mtls(Box<ArmedMtls>),
    ApiKey { sources: Vec<Source>, only: Option<Vec<String>> },
    Basic(BasicMethod, [Source; 1]),
    Digest(Box<ArmedDigest>, [Source; 1]),
    Base64(Base64Method),
    SignIn(Box<ArmedSignIn>),
    Anonymous,
}

/// What a policy is armed with, besides itself.
pub struct Armory<'a> {
    /// Keys of issuers, secrets, and who asks outside servers.
    pub trust: Trust<'a>,
    /// The RoleBindings.
    pub grants: Arc<Grants>,
    /// The Credentials.
    pub credentials: Arc<CredentialTable>,
    /// What is remembered across configurations.
    pub memory: Arc<Memory>,
    /// Where people sign in.
    pub federations: &'a [Federation],
    /// Those that are armed already, by name: policies share them.
    pub providers: HashMap<String, Federated>,
}

/// Why a policy of a plan could not be armed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Inline keys that compile let through cannot be read here.
    #[error("policy {policy}: the keys of issuer `{issuer}` cannot be used")]
    Keys {
        /// The policy.
        policy: String,
        /// The issuer.
        issuer: String,
        /// Why.
        source: KeySetError,
    },
    /// A method without a source would never see a credential.
    #[error("policy {0}: a method has no source")]
    NoSource(String),
    /// An expression that compile let through cannot be armed.
    #[error("policy {policy}: {problem}")]
    Expression {
        /// The policy.
        policy: String,
        /// What is wrong.
        problem: String,
    },
    /// A secret that compile wrote is missing or unusable.
    #[error("policy {policy}: {problem}")]
    Secret {
        /// The policy.
        policy: String,
        /// What is wrong, without the secret.
        problem: String,
    },
}

/// One policy with its live keys, shared by all cores.
pub struct ArmedPolicy {
    plan: Policy,
    position: usize,
    methods: Vec<(MethodName, Armed)>,
    mapping: ArmedMapping,
    grants: Arc<Grants>,
    credentials: Arc<CredentialTable>,
    memory: Arc<Memory>,
    exchange: Option<ArmedExchange>,
}

impl ArmedPolicy {
    /// Arms a policy. Keys are looked up in the armory's ring, and added there when they are new.
    pub fn arm(plan: &Policy, position: usize, armory: &mut Armory<'_>) -> Result<Self, PolicyError> {
        let mut methods = Vec::with_capacity(plan.methods.len());
        for method in &plan.methods {
            let armed = match &method.kind {
                MethodKind::Jwt(jwt) => {
                    let keys =
                        jwt.issuers.iter().map(|issuer| keys_of(plan, issuer, armory)).collect::<Result<_, _>>()?;
                    Armed::Jwt(ArmedJwt { plan: jwt.clone(), keys })
                }
                MethodKind::Introspection(method) => {
                    let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
                    Armed::Introspection(Box::new(
                        ArmedIntrospection::new(method, armory.trust.secrets, armory.trust.outside.clone())
                            .map_err(secret)?,
                    ))
                }
                MethodKind::Mtls(method) => {
                    let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
                    Armed::Mtls(Box::new(ArmedMtls::new(method).map_err(secret)?))
                }
                MethodKind::ApiKey(method) => {
                    Armed::ApiKey { sources: method.sources.clone(), only: method.only.clone() }
                }
                MethodKind::Basic(method) => Armed::Basic(method.clone(), scheme("Basic")),
                MethodKind::Digest(method) => {
                    let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
                    Armed::Digest(
                        Box::new(ArmedDigest::new(method, armory.trust.secrets).map_err(secret)?),
                        scheme("Digest"),
                    )
                }
                MethodKind::Base64(method) => Armed::Base64(method.clone()),
                MethodKind::SignIn(method) => {
                    let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
                    Armed::SignIn(Box::new(ArmedSignIn::arm(method, armory.federations, armory).map_err(secret)?))
                }
                MethodKind::Anonymous => Armed::Anonymous,
            };
            if !matches!(armed, Armed::Anonymous | Armed::Mtls(_) | Armed::SignIn(_)) && sources(&armed).is_empty() {
                return Err(PolicyError::NoSource(plan.key.to_string()));
            }
            methods.push((method.name.clone(), armed));
        }
        let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
        let exchange = plan
            .upstream
            .exchange
            .as_ref()
            .map(|exchange| ArmedExchange::new(exchange, armory.trust.secrets, armory.trust.outside.clone()));
        let exchange = exchange.transpose().map_err(secret)?;
        let Armory { grants, credentials, memory, .. } = armory;
        let expression = |problem| PolicyError::Expression { policy: plan.key.to_string(), problem };
        let mapping = ArmedMapping::arm(plan).map_err(expression)?;
        Ok(Self {
            plan: plan.clone(),
            position,
            methods,
            mapping,
            grants: grants.clone(),
            credentials: credentials.clone(),
            memory: memory.clone(),
            exchange,
        })
    }

    /// The `Authorization` header that the upstream gets in exchange for the caller's token; `None` where the policy
    /// exchanges nothing.
    pub async fn exchange(
        &self,
        view: RequestView<'_>,
        source: Option<&Source>,
        who: &Identity,
        now: Timestamp,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let Some(exchange) = &self.exchange else { return Ok(None) };
        let denied = |detail: &str| Refusal::new(Reason::TokenExchangeRefused, detail).by_method(&who.method);
        if let Some(token) = who.session_token() {
            return exchange.header(token.reveal(), who, &self.memory, view.address, now).await.map(Some);
        }
        if !matches!(who.kind, "jwt" | "introspection") {
            return Err(denied("the caller came without a token that could be exchanged"));
        }
        let presented = source.and_then(|source| idm_request::find(view, std::slice::from_ref(source)).ok().flatten());
        let presented = presented.ok_or_else(|| denied("the caller's token is not where it was"))?;
        exchange.header(presented.value, who, &self.memory, view.address, now).await.map(Some)
    }

    /// The upstream's headers that depend on the request, and not on the caller alone.
    pub fn request_headers(&self, facts: &Facts<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        self.mapping.headers(false, facts).map_err(Refusal::from)
    }

    /// Whether an address is one of the proxies whose word about client certificates the policy believes.
    pub fn believes_proxy(&self, address: std::net::IpAddr) -> bool {
        self.methods
            .iter()
            .any(|(_, armed)| matches!(armed, Armed::Mtls(method) if method.plan().trusted_proxies.iter().any(|network| network.contains(address))))
    }

    pub(crate) fn methods(&self) -> impl Iterator<Item = &(MethodName, Armed)> {
        self.methods.iter()
    }

    /// Whether a method must see the whole body before it can judge this request's credential, and everything about
    /// the credential that can be judged without is right.
    pub fn wants_body(&self, view: RequestView<'_>, now: Timestamp) -> bool {
        let digest = self.methods.iter().find_map(|(_, armed)| {
            if let Armed::Digest(digest, sources) = armed { Some((digest, sources)) } else { None }
        });
        digest.is_some_and(|(digest, sources)| {
            idm_request::in_headers(view.headers, sources)
                .is_some_and(|credential| digest.wants_body(credential, view.target, now))
        })
    }

    /// The method by which people sign in.
    pub fn sign_in(&self) -> Option<&ArmedSignIn> {
        self.methods
            .iter()
            .find_map(|(_, armed)| if let Armed::SignIn(method) = armed { Some(&**method) } else { None })
    }

    /// The identity of a session's user, for the audit record only: it authenticates nobody. If the policy's
    /// expressions make no identity of the session, it is named by `iss` and `sub`. `None` without a sign-in method.
    /// The error is an expression that exceeds its budget.
    pub fn person(
        &self,
        session: &Session,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Option<Rc<Identity>>, Refusal> {
        let method = self
            .methods
            .iter()
            .find_map(|(name, armed)| if let Armed::SignIn(method) = armed { Some((name, method)) } else { None });
        let Some((name, method)) = method else { return Ok(None) };
        let through = self.through(name, "signIn", view, now);
        let nameless = || Identity {
            id: format!("{}#{}", session.issuer, session.subject),
            username: session.subject.clone(),
            issuer: Some(session.issuer.clone()),
            ..Identity::nobody(name, "signIn")
        };
        match method.identity(through, session) {
            Err(denied) if denied.reason == Reason::ExpressionTooCostly => Err(denied),
            identity => Ok(Some(Rc::new(identity.unwrap_or_else(|_| nameless())))),
        }
    }

    /// Notes that a person signed in, where the Federation provisions.
    pub fn note_person(&self, federation: &Federation, who: &Identity) {
        if federation.provisions.is_some() {
            let (federation, issuer) = (federation.key.name.clone(), who.issuer.clone().unwrap_or_default());
            self.memory.note_person(NewPerson { federation, issuer, username: who.username.clone() });
        }
    }

    /// Counts a sign-in that is begun; the error is the seconds after which the next is taken.
    pub fn take_sign_in(&self, address: std::net::IpAddr, per_minute: u32) -> Result<(), u64> {
        self.memory.take_sign_in(address, per_minute)
    }

    /// The plan behind it.
    pub fn plan(&self) -> &Policy {
        &self.plan
    }

    /// Every place where one of the methods looks for a credential.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.methods.iter().flat_map(|(_, armed)| sources(armed))
    }

    /// Whether keys of all issuers are there.
    pub fn keys_loaded(&self) -> bool {
        self.methods.iter().all(|(_, armed)| match armed {
            Armed::Jwt(jwt) => jwt.keys.iter().all(|keys| keys.is_loaded()),
            Armed::SignIn(method) => method.providers().iter().all(|provider| provider.keys_loaded()),
            _ => true,
        })
    }

    /// Asks the methods in order; the first that recognises its credential decides. Without any
    /// credential, an anonymous method lets the caller in.
    pub async fn authenticate(
        &self,
        view: RequestView<'_>,
        cache: &std::cell::RefCell<TokenCache>,
        now: Timestamp,
    ) -> Result<(Authenticated, Option<Source>), Refusal> {
        let mut not_mine: Option<Refusal> = None;
        let is_over = |denied: &Refusal| denied.reason == Reason::SessionEnded;
        let mut anonymous = None;
        for (position, (name, armed)) in self.methods.iter().enumerate() {
            if matches!(armed, Armed::Anonymous) {
                anonymous = anonymous.or(Some(name));
                continue;
            }
            let presented = match armed {
                // Not sent in the request, but proven by the connection it came on.
                Armed::Mtls(_) => {
                    view.certificate.map(|certificate| Presented { value: certificate.thumbprint, source: 0 })
                }
                Armed::SignIn(method) => idm_request::find(view, method.sources(view))
                    .map_err(|reason| Refusal::new(reason, "").by_method(name))?,
                _ => idm_request::find(view, sources(armed))
                    .map_err(|reason| Refusal::new(reason, "").by_method(name))?,
            };
            let Some(presented) = presented else { continue };
            let source = sources(armed).get(presented.source).cloned();
            if let Some(Source::Query { per_minute: Some(per_minute), .. }) = source {
                let taken = self.memory.in_query.take(view.address, per_minute, self.memory.uptime());
                taken.map_err(|seconds| {
                    Refusal::new(Reason::TooManyQueryTokens, "").by_method(name).retry_after(seconds)
                })?;
            }
            let scope = Scope { policy: self.position, method: position };
            match self.verify(name, armed, presented.value, scope, cache, view, now).await {
                Ok(who) => match self.confirm(name, armed, presented.value, source.as_ref(), &who, view, now).await {
                    Ok(()) => return Ok((who, source)),
                    Err(denied) if is_over(&denied) => drop(not_mine.get_or_insert(denied)),
                    Err(denied) => return Err(denied),
                },
                Err((denied, true)) => return Err(denied),
                // A session that is over is the least that can be wrong.
                Err((denied, false)) if not_mine.as_ref().is_none_or(is_over) => not_mine = Some(denied),
                Err((_, false)) => {}
            }
        }
        // Whose session is over has none: what is open to everyone is open to them too.
        match (not_mine.filter(|denied| anonymous.is_none() || !is_over(denied)), anonymous) {
            (Some(denied), _) => Err(denied),
            (None, Some(name)) => Ok((Authenticated::new(Rc::new(Identity::nobody(name, "anonymous")), false), None)),
            (None, None) => Err(Refusal::new(Reason::NoCredentials, self.expectation())),
        }
    }

    /// Checks on every request what a cached verdict cannot answer: whether the Credential is still valid, whether the
    /// token or session was revoked, and whether the caller proves possession of the key that the token is bound to. A
    /// new method must state here which of these checks it needs.
    #[allow(clippy::too_many_arguments)] // each is a different thing, and there is one caller
    async fn confirm(
        &self,
        name: &MethodName,
        armed: &Armed,
        token: &str,
        source: Option<&Source>,
        who: &Authenticated,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let denied = |refusal: Refusal| refusal.by_method(name);
        if let Some(credential) = &who.identity().credential {
            self.credentials.stands(credential, now).map_err(denied)?;
        }
        match armed {
            Armed::Jwt(jwt) => {
                let bound = jwt.plan.confirmation;
                self.confirm_token(bound, token, source, who, view, now).await.map_err(denied)
            }
            Armed::Introspection(method) => {
                let bound = method.plan.confirmation;
                self.confirm_token(bound, token, source, who, view, now).await.map_err(denied)
            }
            Armed::Digest(digest, _) => {
                self.confirm_count(digest, token, now).await.map_err(denied)?;
                digest.admitted(token, view, &self.memory);
                Ok(())
            }
            Armed::SignIn(method) => {
                let Some(session) = &who.identity().session else {
                    return Err(denied(Refusal::new(Reason::InternalError, "a person without a session")));
                };
                match is_any_revoked(&self.memory.store, &session.keys, now) {
                    Ok(false) => {
                        method.check_site(view).map_err(|why| denied(Refusal::new(Reason::CrossSiteRequest, why)))
                    }
                    Ok(true) => Err(denied(Refusal::new(Reason::SessionEnded, "it was ended a moment ago"))),
                    Err(stale) => Err(denied(Refusal::new(Reason::StoreUnavailable, stale.to_string()))),
                }
            }
            // These end only with their Credential or certificate, which was checked already.
            Armed::ApiKey { .. } | Armed::Basic(..) | Armed::Base64(_) | Armed::Mtls(_) | Armed::Anonymous => Ok(()),
        }
    }

    /// Uses up a count of a nonce on all gateways; in this process it is used up already.
    async fn confirm_count(&self, digest: &ArmedDigest, token: &str, now: Timestamp) -> Result<(), Refusal> {
        if !self.memory.store.is_shared() {
            return Ok(());
        }
        let (key, for_ms) = digest.used(token).ok_or_else(|| Refusal::new(Reason::MalformedCredential, ""))?;
        match self.memory.store.claim(&key, for_ms, now).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Refusal::new(Reason::ReplayedNonce, "this count of the nonce was used at another gateway"))
            }
            Err(error) => Err(Refusal::new(Reason::StoreUnavailable, error.to_string())),
        }
    }

    async fn confirm_token(
        &self,
        confirmation: Confirmation,
        token: &str,
        source: Option<&Source>,
        who: &Authenticated,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let identity = who.identity();
        if let (Some(jti), Some(issuer)) = (&identity.token_id, &identity.issuer) {
            match is_revoked(&self.memory.store, issuer, jti, now) {
                Ok(false) => {}
                Ok(true) => return Err(Refusal::new(Reason::TokenRevoked, "")),
                Err(stale) => return Err(Refusal::new(Reason::StoreUnavailable, stale.to_string())),
            }
        }
        if let Some(to) = &identity.issued_to {
            self.credentials.token_stands(to, &self.plan.key.name, now)?;
        }
        let dpop =
            matches!(source, Some(Source::Header { scheme: Some(scheme), .. }) if scheme.eq_ignore_ascii_case("dpop"));
        binding::check(confirmation, identity, token, dpop, view, &self.memory, now).await
    }

    /// Whether a token of this policy's service still stands with the Credentials that it was issued to.
    pub fn issued_token_stands(&self, client: &str, subject: &str, now: Timestamp) -> bool {
        let to = IssuedTo { client: client.to_owned(), subject: subject.to_owned() };
        self.credentials.token_stands(&to, &self.plan.key.name, now).is_ok()
    }

    /// One method's verdict; the flag tells whether it is final.
    #[allow(clippy::too_many_arguments)] // each is a different thing, and there is one caller
    async fn verify(
        &self,
        name: &MethodName,
        armed: &Armed,
        credential: &str,
        scope: Scope,
        cache: &std::cell::RefCell<TokenCache>,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, (Refusal, bool)> {
        let key = self.cache_key(armed, credential);
        let Some(key) = key.as_deref() else {
            return self
                .attempt(name, armed, credential, view, now)
                .await
                .verdict()
                .map(|fresh| Authenticated::new(fresh.identity, false));
        };
        let hash = cache.borrow().hash(scope, key);
        let epoch_of = |identity: &Identity| match armed {
            Armed::Jwt(jwt) => jwt.epoch(identity),
            _ => 0,
        };
        if let Some(identity) = cache.borrow_mut().get(hash, scope, key, now.0, epoch_of) {
            return Ok(Authenticated::new(identity, true));
        }
        let mut attempt = self.attempt(name, armed, credential, view, now).await;
        if let Attempt::NeedsKeys(keys, judged, denied) = attempt {
            if !keys.refetch(judged).await {
                return Err((denied, true));
            }
            attempt = self.attempt(name, armed, credential, view, now).await;
        }
        let Fresh { identity, until, epoch } = attempt.verdict()?;
        cache.borrow_mut().put(hash, scope, key, epoch, now.0..until, identity.clone());
        Ok(Authenticated::new(identity, false))
    }

    /// Under which name a verdict may be kept; `None` where each request needs its own.
    fn cache_key<'c>(&self, armed: &Armed, credential: &'c str) -> Option<Cow<'c, str>> {
        match armed {
            Armed::Digest(..) => None,
            // No password stays in memory.
            Armed::Basic(..) | Armed::Base64(_) => {
                Some(Cow::Owned(idm_types::hex(self.memory.fingerprint(&[credential]).as_ref())))
            }
            Armed::Jwt(_)
            | Armed::Introspection(_)
            | Armed::Mtls(_)
            | Armed::ApiKey { .. }
            | Armed::SignIn(_)
            | Armed::Anonymous => Some(Cow::Borrowed(credential)),
        }
    }

    /// What a method works with.
    pub(crate) fn through<'a>(
        &'a self,
        name: &'a MethodName,
        kind: &'static str,
        view: RequestView<'a>,
        now: Timestamp,
    ) -> Through<'a> {
        let (table, memory) = (&*self.credentials, &*self.memory);
        Through {
            name,
            kind,
            policy: &self.plan,
            mapping: &self.mapping,
            grants: &self.grants,
            table,
            memory,
            view,
            now,
        }
    }

    /// What the gateways share, or what this process has for itself.
    pub fn store(&self) -> &idm_store::Store {
        self.memory.store()
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn credentials(&self) -> &CredentialTable {
        &self.credentials
    }

    async fn attempt(
        &self,
        name: &MethodName,
        armed: &Armed,
        credential: &str,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Attempt {
        let through = |kind| self.through(name, kind, view, now);
        match armed {
            Armed::Jwt(jwt) => jwt.attempt(through("jwt"), credential),
            Armed::Introspection(method) => method.attempt(through("introspection"), credential).await,
            Armed::Mtls(method) => match view.certificate {
                Some(certificate) => method.attempt(through("mtls"), certificate),
                None => Attempt::NotMine(Refusal::new(Reason::NoCredentials, "").by_method(name)),
            },
            Armed::ApiKey { only, .. } => api_key::attempt(through("apiKey"), credential, only.as_deref()),
            Armed::Basic(BasicMethod { only, .. }, _) => {
                basic::attempt(through("basic"), credential, only.as_deref()).await
            }
            Armed::Base64(Base64Method { layout, only, .. }) => {
                basic::attempt_layout(through("base64"), credential, layout, only.as_deref()).await
            }
            Armed::Digest(digest, _) => digest.attempt(through("digest"), credential),
            Armed::SignIn(method) => method.attempt(through("signIn"), credential).await,
            Armed::Anonymous => Attempt::Rejected(Refusal::new(Reason::InternalError, "").by_method(name)),
        }
    }

    /// Where credentials are looked for, in words.
    fn expectation(&self) -> String {
        let session = self.sign_in().map(|_| "the session of a browser".to_owned());
        let places: Vec<String> = self.sources().map(describe).chain(session).collect();
        format!("the policy looks for {}", places.join(", "))
    }
}

fn sources(armed: &Armed) -> &[Source] {
    match armed {
        Armed::Jwt(jwt) => &jwt.plan.sources,
        Armed::Introspection(method) => &method.plan.sources,
        Armed::ApiKey { sources, .. } | Armed::Base64(Base64Method { sources, .. }) => sources,
        Armed::Basic(_, sources) | Armed::Digest(_, sources) => sources,
        // A session's cookie depends on the address; every one is taken out of the request elsewhere.
        Armed::Anonymous | Armed::Mtls(_) | Armed::SignIn(_) => &[],
    }
}

fn scheme(name: &str) -> [Source; 1] {
    [Source::Header { name: "authorization".into(), scheme: Some(name.into()) }]
}

fn describe(source: &Source) -> String {
    match source {
        Source::Header { name, scheme: Some(scheme) } => format!("the header `{name}: {scheme} …`"),
        Source::Header { name, scheme: None } => format!("the header `{name}`"),
        Source::Cookie { name } => format!("the cookie `{name}`"),
        Source::Query { name, .. } => format!("the query parameter `{name}`"),
    }
}

fn keys_of(policy: &Policy, issuer: &Issuer, armory: &mut Armory<'_>) -> Result<Arc<IssuerKeys>, PolicyError> {
    let broken = |source| PolicyError::Keys { policy: policy.key.to_string(), issuer: issuer.issuer.clone(), source };
    armory.trust.keys(&issuer.keys, &issuer.algorithms).map_err(broken)
}
