//! The keys of a service: the key that signs, and the keys that are published.

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
            // The times are internal to the service; readers of a JWKS do not expect them as members.
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
        // This JWKS has the gateway's own keys: a fault in one of them is an error and is not ignored.
        if let Some(left_out) = verifying.left_out().first() {
            return Err(left_out.to_string());
        }
        Ok(Self { keys, verifying, algorithms })
    }

    fn alive(&self, now: Timestamp) -> impl Iterator<Item = &TimedKey> {
        self.keys.iter().filter(move |key| key.published_until.is_none_or(|until| now < until))
    }

    /// The key that signs: the latest one of those whose time has come.
    pub(crate) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        self.alive(now).filter(|key| key.signs_from <= now).max_by_key(|key| key.signs_from).map(|key| &key.key)
    }

    /// The public keys, including those that will sign later.
    pub(crate) fn published(&self, now: Timestamp) -> Value {
        json!({"keys": self.alive(now).map(|key| &key.public).collect::<Vec<_>>()})
    }

    /// Verifies that a token is one of our own, whatever the time is: for a revocation it must not matter whether the
    /// clock of this pod regards the token as expired or as not valid yet.
    pub(crate) fn verify_at_any_time(&self, token: &str, issuer: &str, audiences: &[String]) -> Option<Verified> {
        let issued = Unverified::parse(token).ok()?.claimed_issue_time()?;
        self.verify_by(token, issuer, audiences, issued)
    }

    /// Verifies that a token is one of our own, has not expired, and that its key is still published.
    pub(crate) fn verify(&self, token: &str, issuer: &str, audiences: &[String], now: Timestamp) -> Option<Verified> {
        let verified = self.verify_by(token, issuer, audiences, now)?;
        self.alive(now).any(|key| key.key.kid() == verified.kid()).then_some(verified)
    }

    fn verify_by(&self, token: &str, issuer: &str, audiences: &[String], now: Timestamp) -> Option<Verified> {
        let types = ["at+jwt".to_owned()];
        let expected = Expectations {
            client_ids: &[],
            issuer,
            audiences,
            algorithms: &self.algorithms,
            types: &types,
            skew: Skew::from_seconds(0),
        };
        Unverified::parse(token).ok()?.verify(&self.verifying, &expected, now).ok()
    }
}

#[cfg(test)]
mod tests {
    use idm_plan::SecretHandle;
    use idm_types::Redacted;

    use super::*;

    const ISSUER: &str = "https://shop.example";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// Keys by name, each with the times from which it signs and until which it is published.
    fn keys(times: &[(&str, u64, Option<u64>)]) -> ServiceKeys {
        let mut secrets = Secrets::default();
        let mut plan = Vec::new();
        for &(kid, signs_from, until) in times {
            let made = SigningKey::generate(Algorithm::ES256, kid).unwrap();
            let mut jwk: Value = serde_json::from_str(made.reveal_jwk()).unwrap();
            jwk["nbf"] = signs_from.into();
            let key = SecretHandle(kid.into());
            secrets.put(key.clone(), Redacted::new(jwk.to_string().into_bytes()));
            let published_until = until.map(at);
            plan.push(ServiceKey { key, algorithm: Algorithm::ES256, signs_from: at(signs_from), published_until });
        }
        ServiceKeys::arm(&plan, &secrets).unwrap()
    }

    fn signer(keys: &ServiceKeys, now: u64) -> Option<&str> {
        keys.signing(at(now)).and_then(SigningKey::kid)
    }

    fn token(keys: &ServiceKeys, now: u64) -> String {
        let key = keys.signing(at(now)).unwrap();
        let mut header = key.header();
        header.insert("typ".into(), "at+jwt".into());
        let claims = json!({"iss": ISSUER, "aud": "orders", "sub": "ana", "iat": now, "exp": now + 300});
        key.sign_with_header(&Value::Object(header), &claims).unwrap()
    }

    #[test]
    fn the_key_that_began_last_signs_and_one_that_is_coming_is_published_before() {
        let keys = keys(&[("old", 100, Some(900)), ("present", 500, None), ("next", 800, None)]);
        for (now, kid) in
            [(99, None), (100, Some("old")), (499, Some("old")), (500, Some("present")), (800, Some("next"))]
        {
            assert_eq!(signer(&keys, now), kid, "{now}");
        }
        let published = |now| {
            let all = keys.published(at(now));
            all["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(published(0), ["old", "present", "next"]);
        assert_eq!(published(900), ["present", "next"]);
    }

    #[test]
    fn only_public_members_are_published_and_no_times() {
        let published = keys(&[("k", 100, None)]).published(at(200));
        let key = published["keys"][0].as_object().unwrap();
        let names: Vec<&str> = key.keys().map(String::as_str).collect();
        assert!(["d", "nbf"].iter().all(|name| !names.contains(name)), "{names:?}");
        assert_eq!((&key["use"], &key["alg"], &key["kid"]), (&json!("sig"), &json!("ES256"), &json!("k")));
    }

    #[test]
    fn a_token_is_ours_while_it_lives_and_its_key_is_published() {
        let keys = keys(&[("k", 100, Some(350))]);
        let token = token(&keys, 100);
        let audiences = ["orders".to_owned()];
        let is_ours = |now| keys.verify(&token, ISSUER, &audiences, at(now)).is_some();
        assert!(is_ours(100) && is_ours(349));
        assert!(!is_ours(350), "its key is withdrawn");
        assert!(!is_ours(400), "it has expired");
        assert!(keys.verify_at_any_time(&token, ISSUER, &audiences).is_some(), "to be revoked it need not live");
        assert!(keys.verify(&token, "https://other.example", &audiences, at(100)).is_none());
        assert!(keys.verify(&token, ISSUER, &["billing".to_owned()], at(100)).is_none());
        let others = self::keys(&[("k", 100, None)]);
        assert!(others.verify_at_any_time(&token, ISSUER, &audiences).is_none(), "another key of the same name");
    }

    #[test]
    fn a_shared_secret_is_never_published() {
        let made = SigningKey::generate(Algorithm::HS256, "k").unwrap();
        let mut secrets = Secrets::default();
        let key = SecretHandle("k".into());
        secrets.put(key.clone(), Redacted::new(made.reveal_jwk().as_bytes().to_vec()));
        let plan = [ServiceKey { key, algorithm: Algorithm::HS256, signs_from: at(0), published_until: None }];
        assert_eq!(ServiceKeys::arm(&plan, &secrets).err().as_deref(), Some("a symmetric key cannot be published"));
    }
}
