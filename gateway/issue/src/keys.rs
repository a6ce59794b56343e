//! The keys of a service: the one that signs, and those that are published.

use idm_jose::{Expectations, Jwk, KeySet, SigningKey, Unverified, Verified};
use idm_plan::{Secrets, ServiceKey};
use idm_types::{Algorithm, Skew, Timestamp};
use serde_json::{Value, json};

struct TimedKey {
    key: SigningKey,
    public: Value,
    signs_from: Timestamp,
    published_until: Option<Timestamp>,
}

pub(crate) struct ServiceKeys {
    keys: Vec<TimedKey>,
    verifying: KeySet,
    algorithms: Vec<Algorithm>,
}

impl ServiceKeys {
    pub(crate) fn arm(plan: &[ServiceKey], secrets: &Secrets) -> Result<Self, String> {
        let mut keys = Vec::new();
        for ServiceKey { key, algorithm, signs_from, published_until } in plan {
            let jwk = Jwk::parse(secrets.wanted(key)?.reveal())
                .map_err(|error| format!("the secret `{}`: {error}", key.0))?;
            let mut public = jwk.public().ok_or("a symmetric key cannot be published")?.reveal();
            // The times are the service's own business, and not members that every reader of a JWKS expects.
            if let Some(members) = public.as_object_mut() {
                members.retain(|name, _| !matches!(name.as_str(), "iat" | "nbf" | "exp"));
                members.insert("use".into(), "sig".into());
            }
            let key =
                SigningKey::from_jwk(&jwk, *algorithm).map_err(|error| format!("the secret `{}`: {error}", key.0))?;
            keys.push(TimedKey { key, public, signs_from: *signs_from, published_until: *published_until });
        }
        let mut algorithms: Vec<_> = keys.iter().map(|key| key.key.algorithm()).collect();
        algorithms.sort();
        algorithms.dedup();
        let all = json!({"keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>()}).to_string();
        let verifying = KeySet::parse(all.as_bytes(), &algorithms).map_err(|error| error.to_string())?;
        // Our own keys are written here: what is wrong with one is not passed over.
        if let Some(left_out) = verifying.left_out().first() {
            return Err(left_out.to_string());
        }
        Ok(Self { keys, verifying, algorithms })
    }

    fn alive(&self, now: Timestamp) -> impl Iterator<Item = &TimedKey> {
        self.keys.iter().filter(move |key| key.published_until.is_none_or(|until| now < until))
    }

    /// The key that signs: of those whose time has come, the one that came last.
    pub(crate) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        self.alive(now).filter(|key| key.signs_from <= now).max_by_key(|key| key.signs_from).map(|key| &key.key)
    }

    /// The public keys, those that will sign later included.
    pub(crate) fn published(&self, now: Timestamp) -> Value {
        json!({"keys": self.alive(now).map(|key| &key.public).collect::<Vec<_>>()})
    }

    /// One of our own tokens, if it is one, whatever the time is: to revoke it, it must not matter whether the clock of
    /// this pod takes it for expired or for not valid yet.
    pub(crate) fn verify_at_any_time(&self, token: &str, issuer: &str, audiences: &[String]) -> Option<Verified> {
        let issued = Unverified::parse(token).ok()?.claimed_issue_time()?;
        self.verify_by(token, issuer, audiences, issued)
    }

    /// One of our own tokens, if it is one, has not expired, and its key is still published.
    pub(crate) fn verify(&self, token: &str, issuer: &str, audiences: &[String], now: Timestamp) -> Option<Verified> {
        let verified = self.verify_by(token, issuer, audiences, now)?;
        self.alive(now).any(|key| key.key.kid() == verified.kid()).then_some(verified)
    }

    fn verify_by(&self, token: &str, issuer: &str, audiences: &[String], now: Timestamp) -> Option<Verified> {
        let types = ["at+jwt".to_owned()];
        let expected = Expectations {
            issuer,
            audiences,
            algorithms: &self.algorithms,
            types: &types,
            skew: Skew::from_seconds(0),
        };
        Unverified::parse(token).ok()?.verify(&self.verifying, &expected, now).ok()
    }
}
