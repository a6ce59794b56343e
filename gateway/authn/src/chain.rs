//! The methods of one policy, in order.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use idm_jose::KeySetError;
use idm_plan::{Federation, FederationKind, ObjectKey, Plan, Policy, Source};
use idm_request::{ArmedMapping, Facts, Identity, IssuedTo, RequestView};
use idm_session::Session;
use idm_trust::Trust;
use idm_types::{MethodName, Reason, Redacted, Refusal, Timestamp};

use crate::basis::Basis;
use crate::cache::Scope;
use crate::directory::issuer_of;
use crate::exchange::ArmedExchange;
use crate::federated::Federated;
use crate::method::{Attempt, Caching, Method, MethodContext, NewVerdict, Proven, Recheck};
use crate::methods::{self, Armed};
use crate::restrictions::Use;
use crate::validators::{self, Pair};
use crate::{ArmedDirectory, ArmedSignIn, Authenticated, CredentialTable, Grants, Memory, NewPerson, TokenCache};

/// The values that are needed to arm a policy.
pub struct Resources<'a> {
    /// Keys of issuers, secrets, and the client for requests to outside servers.
    pub trust: Trust<'a>,
    /// The plan whose policies are armed.
    pub plan: &'a Plan,
    /// Its RoleBindings by namespace.
    pub grants: HashMap<String, Arc<Grants>>,
    /// The state that is kept across configurations.
    pub memory: Arc<Memory>,
    /// The bases of the policies of the previous configuration.
    pub before: Vec<Basis>,
    /// Federations that are armed already, by uid: policies share them.
    pub providers: HashMap<String, Federated>,
}

/// The reason why a policy of a plan could not be armed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Inline keys that compile let through cannot be read here.
    #[error("policy {policy}: the keys of issuer `{issuer}` cannot be used")]
    Keys {
        /// The policy.
        policy: String,
        /// The issuer.
        issuer: String,
        /// The cause.
        source: KeySetError,
    },
    /// An expression that compile let through cannot be armed.
    #[error("policy {policy}: {problem}")]
    Expression {
        /// The policy.
        policy: String,
        /// The problem.
        problem: String,
    },
    /// A secret that compile wrote is missing or unusable.
    #[error("policy {policy}: {problem}")]
    Secret {
        /// The policy.
        policy: String,
        /// The problem, without the secret.
        problem: String,
    },
}

/// One policy with its live keys, shared by all cores.
pub struct ArmedPolicy {
    plan: Policy,
    basis: Basis,
    methods: Vec<(MethodName, Arc<dyn Method>)>,
    /// The method by which people sign in; it is one of `methods`, too.
    sign_in: Option<(MethodName, Arc<ArmedSignIn>)>,
    /// The method that admits callers without a credential.
    anonymous: Option<MethodName>,
    mapping: ArmedMapping,
    grants: Arc<Grants>,
    /// The directories of the namespace that are not suspended, as issuers.
    vouch: HashSet<String>,
    memory: Arc<Memory>,
    exchange: Option<ArmedExchange>,
}

impl ArmedPolicy {
    /// Arms a policy. Keys are looked up in the ring of the resources, and added there when they are new.
    pub fn arm(plan: &Policy, resources: &mut Resources<'_>) -> Result<Self, PolicyError> {
        let mut methods: Vec<(MethodName, Arc<dyn Method>)> = Vec::with_capacity(plan.methods.len());
        let (mut sign_in, mut anonymous) = (None, None);
        for idm_plan::Method { name, kind } in &plan.methods {
            match methods::arm(plan, kind, resources)? {
                Armed::Method(method) => methods.push((name.clone(), method)),
                Armed::SignIn(method) => {
                    sign_in.get_or_insert_with(|| (name.clone(), method.clone()));
                    methods.push((name.clone(), method));
                }
                Armed::Anonymous => drop(anonymous.get_or_insert_with(|| name.clone())),
            }
        }
        let secret = |problem| PolicyError::Secret { policy: plan.key.to_string(), problem };
        let trust = &resources.trust;
        let exchange = plan.upstream.exchange.as_ref();
        let exchange =
            exchange.map(|exchange| ArmedExchange::new(exchange, trust.secrets, trust.http.clone())).transpose();
        let expression = |problem| PolicyError::Expression { policy: plan.key.to_string(), problem };
        Ok(Self {
            plan: plan.clone(),
            basis: Basis::of(plan, resources.plan, trust.secrets, resources.before.iter()),
            methods,
            sign_in,
            anonymous,
            mapping: ArmedMapping::arm(plan).map_err(expression)?,
            grants: resources.grants.get(&plan.key.namespace).cloned().unwrap_or_default(),
            vouch: vouching(resources.plan, &plan.key.namespace),
            memory: resources.memory.clone(),
            exchange: exchange.map_err(secret)?,
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
        // Without a token there is nothing to exchange for a caller who is assumed.
        let Some(exchange) = self.exchange.as_ref().filter(|_| self.memory.assumed().is_none()) else {
            return Ok(None);
        };
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

    /// Whether an address is one of the proxies whose forwarded client certificates the policy trusts.
    pub fn believes_proxy(&self, address: std::net::IpAddr) -> bool {
        self.methods.iter().any(|(_, method)| method.believes_proxy(address))
    }

    pub(crate) fn anonymous(&self) -> Option<&MethodName> {
        self.anonymous.as_ref()
    }

    pub(crate) fn methods(&self) -> impl Iterator<Item = &(MethodName, Arc<dyn Method>)> {
        self.methods.iter()
    }

    /// Whether a method needs the whole body before it can verify this request's credential, and everything about the
    /// credential that can be checked without the body is right.
    pub fn wants_body(&self, view: RequestView<'_>, now: Timestamp) -> bool {
        self.methods.iter().any(|(_, method)| method.wants_body(view, now))
    }

    /// The method by which people sign in.
    pub fn sign_in(&self) -> Option<&ArmedSignIn> {
        self.sign_in.as_ref().map(|(_, method)| &**method)
    }

    /// The identity of a session's user, for the audit record only: it authenticates nobody. If the policy's
    /// expressions make no identity of the session, it is named by `iss` and `sub`. `None` without a sign-in method.
    /// The error is an expression that exceeds its budget.
    pub fn person(
        &self,
        session: &Session,
        table: &CredentialTable,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Option<Rc<Identity>>, Refusal> {
        let Some((name, method)) = &self.sign_in else { return Ok(None) };
        let context = self.context(name, method.kind(), table, view, now);
        let nameless = || Identity {
            id: format!("{}#{}", session.issuer, session.subject),
            username: session.subject.clone(),
            issuer: Some(session.issuer.clone()),
            ..Identity::nobody(name, method.kind())
        };
        match method.identity(context, session) {
            Err(denied) if denied.reason == Reason::ExpressionTooCostly => Err(denied),
            identity => Ok(Some(Rc::new(identity.unwrap_or_else(|_| nameless())))),
        }
    }

    /// Checks the password of a person who signs in at the form of a directory. The refusal holds no password.
    pub async fn log_in(
        &self,
        directory: &Arc<ArmedDirectory>,
        username: &str,
        password: Redacted<String>,
        address: std::net::IpAddr,
    ) -> Result<idm_trust::Person, Refusal> {
        validators::log_in(&self.memory, directory, Pair { username: username.to_owned(), password }, address).await
    }

    /// Replaces the password of a person at a directory that wants it changed. The old one counts as a guess.
    pub async fn change_password(
        &self,
        directory: &Arc<ArmedDirectory>,
        username: &str,
        password: Redacted<String>,
        new: Redacted<String>,
        address: std::net::IpAddr,
    ) -> Result<(), Refusal> {
        let pair = Pair { username: username.to_owned(), password };
        validators::change_password(&self.memory, directory, pair, new, address).await
    }

    /// Notes that a person signed in, where the Federation provisions.
    pub fn note_person(&self, federation: &Federation, who: &Identity) {
        if federation.provisions.is_some() {
            let ObjectKey { namespace, name } = federation.key.clone();
            let (issuer, username) = (who.issuer.clone().unwrap_or_default(), who.username.clone());
            self.memory.note_person(NewPerson { namespace, federation: name, issuer, username });
        }
    }

    /// Counts a sign-in that begins; the error is the number of seconds after which the next one is accepted.
    pub fn take_sign_in(&self, address: std::net::IpAddr, per_minute: u32) -> Result<(), u64> {
        self.memory.take_sign_in(address, per_minute)
    }

    /// The plan of the policy.
    pub fn plan(&self) -> &Policy {
        &self.plan
    }

    /// Every place where one of the methods looks for a credential.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.methods.iter().flat_map(|(_, method)| method.sources())
    }

    /// The basis of its verdicts.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The epoch that a verdict of the method at this position must have to be valid; `None` where there is no such
    /// method.
    pub(crate) fn epoch(&self, method: usize, identity: &Identity, table: &CredentialTable) -> Option<u64> {
        self.methods.get(method).map(|(_, method)| method.epoch(identity, table))
    }

    /// Asks the methods in order; the first that recognises its credential decides. Without any
    /// credential, an anonymous method lets the caller in.
    pub async fn authenticate(
        &self,
        view: RequestView<'_>,
        table: &CredentialTable,
        cache: &RefCell<TokenCache>,
        now: Timestamp,
    ) -> Result<(Authenticated, Option<Source>), Refusal> {
        if let Some(assumption) = self.memory.assumed() {
            return self.assume(assumption, view, table, now).map(|who| (who, None));
        }
        let mut last = None;
        let found = self.ask_in_order(view, table, cache, now, &mut last).await;
        match (&found, last) {
            (Ok((who, _)), _) if !who.cached() => self.memory.note_let_in(view.address, who.identity()),
            (Err(refusal), Some((name, credential))) => {
                self.memory.note_refused(name, credential, view.address, refusal);
            }
            _ => {}
        }
        found
    }

    /// The verdict of the methods. `last` becomes the credential that was looked at last.
    async fn ask_in_order<'v>(
        &'v self,
        view: RequestView<'v>,
        table: &CredentialTable,
        cache: &RefCell<TokenCache>,
        now: Timestamp,
        last: &mut Option<(&'v MethodName, &'v str)>,
    ) -> Result<(Authenticated, Option<Source>), Refusal> {
        let mut not_mine: Option<Refusal> = None;
        let is_over = |refusal: &Refusal| refusal.reason == Reason::SessionEnded;
        for (position, (name, method)) in self.methods.iter().enumerate() {
            let found = method.find(view).map_err(|reason| Refusal::new(reason, "").by_method(name))?;
            let Some(presented) = found else { continue };
            let source = method.sources().get(presented.source);
            self.count_in_query(name, source, view)?;
            let context = self.context(name, method.kind(), table, view, now);
            let scope = Scope { basis: self.basis.id(), method: position };
            self.memory.check_presented(name, presented.value, view.address)?;
            *last = Some((name, presented.value));
            let verdict = self.verify(&**method, context, presented.value, scope, cache).await;
            let refusal = match verdict {
                Ok(who) => {
                    let proven = Proven { credential: presented.value, source, identity: who.identity() };
                    match self.recheck(&**method, context, proven).await {
                        Ok(()) => return Ok((who, source.cloned())),
                        Err(refusal) if is_over(&refusal) => refusal,
                        Err(refusal) => return Err(refusal),
                    }
                }
                Err((refusal, true)) => return Err(refusal),
                Err((refusal, false)) => refusal,
            };
            // If several methods refused, any other refusal is reported rather than the end of a session.
            if not_mine.as_ref().is_none_or(is_over) {
                not_mine = Some(refusal);
            }
        }
        // A caller whose session is over has no session: a route that is open to everyone is open to this caller, too.
        match (not_mine.filter(|refusal| self.anonymous.is_none() || !is_over(refusal)), &self.anonymous) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(name)) => Ok((Authenticated::new(Rc::new(Identity::nobody(name, "anonymous")), false), None)),
            (None, None) => Err(Refusal::new(Reason::NoCredentials, self.expectation())),
        }
    }

    /// Counts a credential in a query, where the policy bounds how many of them an address may send.
    fn count_in_query(&self, name: &MethodName, source: Option<&Source>, view: RequestView<'_>) -> Result<(), Refusal> {
        let Some(Source::Query { per_minute: Some(per_minute), .. }) = source else { return Ok(()) };
        let taken = self.memory.in_query.take(view.address, *per_minute, self.memory.uptime());
        taken.map_err(|seconds| Refusal::new(Reason::TooManyQueryTokens, "").by_method(name).retry_after(seconds))
    }

    /// Checks on every request what a kept verdict cannot answer: whether the Credential is still valid, and what the
    /// method has to check again.
    async fn recheck(
        &self,
        method: &dyn Method,
        context: MethodContext<'_>,
        proven: Proven<'_>,
    ) -> Result<(), Refusal> {
        self.admits(context, proven.identity, proven.identity.kid.as_deref())?;
        let checked = match method.recheck(context, proven) {
            Recheck::Done(checked) => checked,
            Recheck::Wait(checking) => checking.await,
        };
        checked.map_err(|refusal| refusal.by_method(context.name))
    }

    /// Whether the caller's Credential, and its key by which it was found, may be used here and now.
    pub(crate) fn admits(
        &self,
        context: MethodContext<'_>,
        identity: &Identity,
        key: Option<&str>,
    ) -> Result<(), Refusal> {
        let refused = |refusal: Refusal| refusal.by_method(context.name);
        if let Some(credential) = &identity.credential {
            let stands = context.table.stands(credential, key, context.now, context.view.address);
            stands.map_err(refused).inspect_err(|refusal| {
                let key = ObjectKey::new(&self.plan.key.namespace, credential);
                self.memory.ended_uses.note(&key, identity.owner.as_deref(), refusal);
            })?;
        }
        let used = Use::Request(context.view);
        context.table.allows(identity, used, &self.plan.key.name, context.now).map_err(refused)
    }

    /// Whether the Credentials that a token of this policy's service was issued to are still valid.
    pub fn issued_token_stands(&self, to: &IssuedTo, table: &CredentialTable, now: Timestamp) -> bool {
        table.token_stands(to, &self.plan.key.name, &self.vouch, now).is_ok()
    }

    /// One method's verdict, kept or new; the flag tells whether a refusal is final.
    async fn verify(
        &self,
        method: &dyn Method,
        context: MethodContext<'_>,
        credential: &str,
        scope: Scope,
        cache: &RefCell<TokenCache>,
    ) -> Result<Authenticated, (Refusal, bool)> {
        let key = match method.caching() {
            Caching::Never => {
                let attempt = method.verify(context, credential).await;
                return attempt.verdict().map(|fresh| Authenticated::new(fresh.identity, false));
            }
            Caching::ByCredential => Cow::Borrowed(credential),
            Caching::ByFingerprint => Cow::Owned(idm_types::hex(self.memory.fingerprint(&[credential]).as_ref())),
        };
        let now = context.now.0;
        let hash = cache.borrow().hash(scope, &key);
        let kept = cache.borrow_mut().get(hash, scope, &key, now, |identity| method.epoch(identity, context.table));
        if let Some(identity) = kept {
            return Ok(Authenticated::new(identity, true));
        }
        let mut attempt = method.verify(context, credential).await;
        if let Attempt::NeedsKeys(keys, judged, refusal) = attempt {
            if !keys.refetch(judged).await {
                return Err((refusal, true));
            }
            attempt = method.verify(context, credential).await;
        }
        let NewVerdict { identity, until, epoch } = attempt.verdict()?;
        cache.borrow_mut().put(hash, scope, &key, epoch, now..until, identity.clone());
        Ok(Authenticated::new(identity, false))
    }

    /// The context in which a method verifies a credential.
    pub(crate) fn context<'a>(
        &'a self,
        name: &'a MethodName,
        kind: &'static str,
        table: &'a CredentialTable,
        view: RequestView<'a>,
        now: Timestamp,
    ) -> MethodContext<'a> {
        MethodContext {
            name,
            kind,
            policy: &self.plan,
            mapping: &self.mapping,
            grants: &self.grants,
            vouch: &self.vouch,
            table,
            memory: &self.memory,
            view,
            now,
            shadow: false,
        }
    }

    /// The store that the gateways share, or that this process has for itself.
    pub fn store(&self) -> &idm_store::Store {
        self.memory.store()
    }

    /// The counters of limits, of this process or shared.
    pub fn counters(&self) -> &Arc<idm_store::Counters> {
        self.memory.counters()
    }

    pub(crate) fn vouch(&self) -> &HashSet<String> {
        &self.vouch
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The places where credentials are looked for, in words.
    pub(crate) fn expectation(&self) -> String {
        let session = self.sign_in().map(|_| "the session of a browser".to_owned());
        let places: Vec<String> = self.sources().map(describe).chain(session).collect();
        format!("the policy looks for {}", places.join(", "))
    }
}

/// The directories of a namespace that are not suspended, as issuers.
fn vouching(plan: &Plan, namespace: &str) -> HashSet<String> {
    let directories = plan.federations.iter().filter(|federation| {
        matches!(federation.kind, FederationKind::Directory(_))
            && federation.key.namespace == namespace
            && !federation.suspended
    });
    directories.map(|federation| issuer_of(&federation.key)).collect()
}

fn describe(source: &Source) -> String {
    match source {
        Source::Header { name, scheme: Some(scheme) } => format!("the header `{name}: {scheme} …`"),
        Source::Header { name, scheme: None } => format!("the header `{name}`"),
        Source::Cookie { name } => format!("the cookie `{name}`"),
        Source::Query { name, .. } => format!("the query parameter `{name}`"),
    }
}
