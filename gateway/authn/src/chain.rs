//! The methods of one policy, in order.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use idm_jose::{KeySet, KeySetError};
use idm_plan::{Issuer, KeySource, MethodKind, Policy, Source};
use idm_types::{Algorithm, MethodName, Reason, Timestamp};

use crate::cache::Scope;
use crate::jwt::{ArmedJwt, Fresh};
use crate::present::{self, RequestView};
use crate::{Authenticated, CredentialTable, Denied, Grants, Identity, IssuerKeys, TokenCache, api_key};

/// What one method says about a request. "Not presented" and "not mine" are not "tried and failed".
pub(crate) enum Attempt {
    /// Presented where this method looks, but not of its kind: another method may know it.
    NotMine(Denied),
    /// Verified.
    Verified(Fresh),
    /// Of its kind, and refused. A bad key does not get to try the next door.
    Rejected(Denied),
    /// Keys are missing; after a fetch the same attempt may succeed.
    NeedsKeys(Arc<IssuerKeys>, Denied),
}

enum Armed {
    Jwt(ArmedJwt),
    ApiKey { sources: Vec<Source>, only: Option<Vec<String>> },
    Anonymous,
}

/// Where armed issuers' keys live, so that a reload finds the fetched keys of the engine before it.
pub type KeyRing = HashMap<(KeySource, Vec<Algorithm>), Arc<IssuerKeys>>;

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
}

/// One policy with its live keys, shared by all cores.
pub struct ArmedPolicy {
    plan: Policy,
    position: usize,
    methods: Vec<(MethodName, Armed)>,
    grants: Arc<Grants>,
    credentials: Arc<CredentialTable>,
}

impl ArmedPolicy {
    /// Arms a policy. Keys are looked up in `ring`, and added there when they are new.
    pub fn arm(plan: &Policy, position: usize, ring: &mut KeyRing, grants: Arc<Grants>, credentials: Arc<CredentialTable>) -> Result<Self, PolicyError> {
        let mut methods = Vec::with_capacity(plan.methods.len());
        for method in &plan.methods {
            let armed = match &method.kind {
                MethodKind::Jwt(jwt) => {
                    let keys = jwt.issuers.iter().map(|issuer| keys_of(plan, issuer, ring)).collect::<Result<_, _>>()?;
                    Armed::Jwt(ArmedJwt { plan: jwt.clone(), keys })
                }
                MethodKind::ApiKey(method) => Armed::ApiKey { sources: method.sources.clone(), only: method.only.clone() },
                MethodKind::Anonymous => Armed::Anonymous,
            };
            if !matches!(armed, Armed::Anonymous) && sources(&armed).is_empty() {
                return Err(PolicyError::NoSource(plan.key.to_string()));
            }
            methods.push((method.name.clone(), armed));
        }
        Ok(Self { plan: plan.clone(), position, methods, grants, credentials })
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
    ) -> Result<(Authenticated, Option<Source>), Denied> {
        let mut not_mine: Option<Denied> = None;
        let mut anonymous = None;
        for (position, (name, armed)) in self.methods.iter().enumerate() {
            if matches!(armed, Armed::Anonymous) {
                anonymous = anonymous.or(Some(name));
                continue;
            }
            let presented = present::find(view, sources(armed)).map_err(|reason| Denied::new(reason, "", Some(name)))?;
            let Some(presented) = presented else { continue };
            let source = sources(armed).get(presented.source).cloned();
            let scope = Scope { policy: self.position, method: position };
            match self.verify(name, armed, presented.value, scope, cache, now).await {
                Ok(who) => return Ok((who, source)),
                Err((denied, true)) => return Err(denied),
                Err((denied, false)) => drop(not_mine.get_or_insert(denied)),
            }
        }
        match (not_mine, anonymous) {
            (Some(denied), _) => Err(denied),
            (None, Some(name)) => Ok((Authenticated::new(Rc::new(nobody(name)), false), None)),
            (None, None) => Err(Denied::new(Reason::NoCredentials, self.expectation(), None)),
        }
    }

    /// One method's verdict; the flag tells whether it is final.
    async fn verify(
        &self,
        name: &MethodName,
        armed: &Armed,
        credential: &str,
        scope: Scope,
        cache: &std::cell::RefCell<TokenCache>,
        now: Timestamp,
    ) -> Result<Authenticated, (Denied, bool)> {
        let hash = cache.borrow().hash(scope, credential);
        let epoch_of = |identity: &Identity| match armed {
            Armed::Jwt(jwt) => jwt.epoch(identity),
            _ => 0,
        };
        if let Some(identity) = cache.borrow_mut().get(hash, scope, credential, now.0, epoch_of) {
            return Ok(Authenticated::new(identity, true));
        }
        let mut attempt = self.attempt(name, armed, credential, now);
        if let Attempt::NeedsKeys(keys, denied) = attempt {
            if !keys.refetch(now).await {
                return Err((denied, true));
            }
            attempt = self.attempt(name, armed, credential, now);
        }
        match attempt {
            Attempt::Verified(Fresh { identity, until, epoch }) => {
                cache.borrow_mut().put(hash, scope, credential, epoch, until, identity.clone());
                Ok(Authenticated::new(identity, false))
            }
            Attempt::Rejected(denied) | Attempt::NeedsKeys(_, denied) => Err((denied, true)),
            Attempt::NotMine(denied) => Err((denied, false)),
        }
    }

    fn attempt(&self, name: &MethodName, armed: &Armed, credential: &str, now: Timestamp) -> Attempt {
        match armed {
            Armed::Jwt(jwt) => jwt.attempt(name, credential, &self.plan, &self.grants, now),
            Armed::ApiKey { only, .. } => api_key::attempt(name, credential, only.as_deref(), &self.credentials, &self.plan, &self.grants, now),
            Armed::Anonymous => Attempt::Rejected(Denied::new(Reason::InternalError, "", Some(name))),
        }
    }

    /// Where credentials are looked for, in words.
    fn expectation(&self) -> String {
        let places: Vec<String> = self.sources().map(describe).collect();
        format!("the policy looks for {}", places.join(", "))
    }
}

fn sources(armed: &Armed) -> &[Source] {
    match armed {
        Armed::Jwt(jwt) => &jwt.plan.sources,
        Armed::ApiKey { sources, .. } => sources,
        Armed::Anonymous => &[],
    }
}

fn describe(source: &Source) -> String {
    match source {
        Source::Header { name, scheme: Some(scheme) } => format!("the header `{name}: {scheme} …`"),
        Source::Header { name, scheme: None } => format!("the header `{name}`"),
        Source::Cookie { name } => format!("the cookie `{name}`"),
        Source::Query { name } => format!("the query parameter `{name}`"),
    }
}

fn keys_of(policy: &Policy, issuer: &Issuer, ring: &mut KeyRing) -> Result<Arc<IssuerKeys>, PolicyError> {
    let id = (issuer.keys.clone(), issuer.algorithms.clone());
    if let Some(keys) = ring.get(&id) {
        return Ok(keys.clone());
    }
    let keys = match &issuer.keys {
        KeySource::Inline { jwks } => {
            let broken = |source| PolicyError::Keys { policy: policy.key.to_string(), issuer: issuer.issuer.clone(), source };
            IssuerKeys::fixed(KeySet::parse(jwks.as_bytes(), &issuer.algorithms).map_err(broken)?)
        }
        KeySource::Discovery { .. } | KeySource::Url { .. } => IssuerKeys::remote(),
    };
    ring.insert(id, keys.clone());
    Ok(keys)
}

fn nobody(name: &MethodName) -> Identity {
    Identity {
        method: name.clone(),
        kind: "anonymous",
        id: String::new(),
        username: String::new(),
        issuer: None,
        roles: Vec::new(),
        groups: Vec::new(),
        scopes: Vec::new(),
        attributes: Vec::new(),
        credential: None,
        owner: None,
        kid: None,
        expires: None,
        headers: Vec::new(),
        only_policies: None,
    }
}
