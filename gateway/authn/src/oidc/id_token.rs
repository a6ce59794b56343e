//! The validation of an id token (OpenID Connect Core §3.1.3.7).

use aws_lc_rs::digest::{Algorithm as Hash, SHA256, SHA384, SHA512, digest};
use idm_jose::{Claims, Expectations, TokenError, Unverified, Verified, to_base64url};
use idm_plan::StepUp;
use idm_types::{Algorithm, Reason, Redacted, Refusal, Skew, Timestamp};
use serde_json::{Map, Value};

use super::Provider;

/// A person whom a provider authenticated.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// `sub`: together with the issuer, it identifies the person.
    pub subject: String,
    /// The provider's name of its own session.
    pub sid: Option<String>,
    /// The time at which the person authenticated, in seconds.
    pub proved: u64,
    /// All claims.
    pub claims: Map<String, Value>,
}

/// The expected content of an id token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// Its `nonce`; `None` where the request had no nonce.
    pub nonce: Option<&'a str>,
    /// Its `sub`, where it is known already.
    pub subject: Option<&'a str>,
    /// The required strength and age of the sign-in.
    pub step_up: Option<&'a StepUp>,
}

impl Provider {
    /// The claims of a token of this provider for our client, whatever it is for.
    pub(super) async fn verify(&self, token: &str, types: &[String], now: Timestamp) -> Result<Verified, Refusal> {
        let untrusted = |error: TokenError| super::untrusted(format!("{}: {error}", error.reason()));
        let audiences = std::slice::from_ref(&self.oidc.client_id);
        let skew = self.federation.skew;
        let expected = Expectations {
            issuer: &self.oidc.issuer,
            audiences,
            client_ids: &[],
            algorithms: &self.oidc.algorithms,
            types,
            skew,
        };
        let attempt = || {
            let keys = self.keys.load()?;
            Some(Unverified::parse(token).and_then(|token| token.verify(&keys, &expected, now)))
        };
        // Read before the first attempt: keys that arrive in between justify a second one.
        let judged = self.keys.epoch();
        match attempt() {
            None | Some(Err(TokenError::UnknownKey { .. })) => {}
            Some(result) => return result.map_err(untrusted),
        }
        // The provider may have changed its keys a moment ago.
        self.keys.refetch(judged).await;
        match attempt() {
            Some(result) => result.map_err(untrusted),
            None => Err(super::unavailable(format!("no keys of `{}` yet", self.oidc.issuer))),
        }
    }

    pub(super) async fn check_id_token(
        &self,
        token: &str,
        access: Option<&Redacted<String>>,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<Person, Refusal> {
        let verified = self.verify(token, &[], now).await?;
        let algorithm = verified.algorithm();
        let person =
            check(verified.claims(), algorithm, &self.oidc.client_id, access, expected, (now, self.federation.skew))?;
        Ok(Person { claims: verified.into_claims().members().clone(), ..person })
    }
}

fn check(
    claims: &Claims,
    algorithm: Algorithm,
    client_id: &str,
    access: Option<&Redacted<String>>,
    expected: &Expected<'_>,
    (now, skew): (Timestamp, Skew),
) -> Result<Person, Refusal> {
    let untrusted = |why: &str| Err(super::untrusted(why));
    let members = claims.members();
    let seconds =
        |name: &str| claims.date(name).map_err(|why| super::untrusted(format!("the id token's `{name}` {why}")));
    let Some(subject) = claims.subject().filter(|sub| sub.len() <= 255) else {
        return untrusted("the id token has no usable `sub`");
    };
    if expected.subject.is_some_and(|known| known != subject) {
        return untrusted("the id token speaks of another person");
    }
    let Some(issued) = seconds("iat")? else { return untrusted("the id token has no `iat`") };
    match (expected.nonce, claims.text("nonce")) {
        (None, _) => {}
        (Some(wanted), Some(found)) if wanted == found => {}
        (Some(_), Some(_)) => return untrusted("`nonce` of the id token is not the one that was sent"),
        (Some(_), None) => return untrusted("the id token has no `nonce`"),
    }
    let several = matches!(members.get("aud"), Some(Value::Array(all)) if all.len() > 1);
    match members.get("azp") {
        Some(party) if party.as_str() == Some(client_id) => {}
        Some(_) => return untrusted("`azp` of the id token is another client"),
        None if several => return untrusted("the id token has several audiences and no `azp`"),
        None => {}
    }
    if let (Some(hash), Some(access)) = (members.get("at_hash"), access) {
        let whole = digest(hash_of(algorithm), access.reveal().as_bytes());
        let half = whole.as_ref().get(..whole.as_ref().len() / 2).unwrap_or_default();
        if hash.as_str() != Some(to_base64url(half).as_str()) {
            return untrusted("`at_hash` of the id token is not that of the access token");
        }
    }
    let proved = seconds("auth_time")?;
    if let Some(StepUp { acr, max_age_seconds }) = expected.step_up {
        let weak = |why: String| Err(Refusal::new(Reason::StepUpRequired, why));
        if !acr.is_empty() && !claims.text("acr").is_some_and(|found| acr.iter().any(|wanted| wanted == found)) {
            return weak(format!(
                "`acr` is {:?}, and the policy wants one of {}",
                claims.text("acr").unwrap_or_default(),
                acr.join(", ")
            ));
        }
        if let Some(max_age) = max_age_seconds {
            let Some(proved) = proved else {
                return untrusted("the provider does not say when the person proved themselves (`auth_time`)");
            };
            if now.seconds() > proved.saturating_add(*max_age).saturating_add(skew.seconds()) {
                return weak(format!("the person proved themselves {} s ago", now.seconds().saturating_sub(proved)));
            }
        }
    }
    let sid = claims.text("sid").filter(|sid| !sid.is_empty() && sid.len() <= 255).map(str::to_owned);
    Ok(Person { subject: subject.into_owned(), sid, proved: proved.unwrap_or(issued), claims: Map::new() })
}

/// The hash of an algorithm (OpenID Connect Core §3.1.3.6); Ed25519 has SHA-512 inside.
fn hash_of(algorithm: Algorithm) -> &'static Hash {
    use Algorithm::*;
    match algorithm {
        RS384 | PS384 | ES384 | HS384 => &SHA384,
        RS512 | PS512 | ES512 | HS512 | EdDSA => &SHA512,
        _ => &SHA256,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn claims(change: Value) -> Claims {
        let mut claims = json!({"sub": "ana", "aud": "me", "iat": 1_700_000_000u64, "nonce": "n",
            "auth_time": 1_699_999_000u64, "acr": "gold"});
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                drop(claims.as_object_mut().unwrap().remove(name))
            } else {
                claims[name] = value.clone()
            }
        }
        Claims::new(claims.as_object().unwrap().clone())
    }

    fn refused(change: Value, expected: Expected<'_>) -> Option<(Reason, String)> {
        let access = Redacted::new("token".to_owned());
        check(&claims(change), Algorithm::RS256, "me", Some(&access), &expected, (NOW, Skew::from_seconds(30)))
            .err()
            .map(|error| (error.reason, error.detail))
    }

    #[test]
    fn each_check_refuses_by_its_name() {
        let usual = Expected { nonce: Some("n"), ..Expected::default() };
        let half = to_base64url(&digest(&SHA256, b"token").as_ref()[..16]);
        for good in
            [json!({}), json!({"azp": "me"}), json!({"aud": ["me", "you"], "azp": "me"}), json!({"at_hash": half})]
        {
            assert_eq!(refused(good.clone(), usual), None, "{good}");
        }
        for (change, why) in [
            (json!({"sub": null}), "`sub`"),
            (json!({"sub": ""}), "`sub`"),
            (json!({"sub": "a".repeat(256)}), "`sub`"),
            (json!({"iat": null}), "has no `iat`"),
            (json!({"iat": "yesterday"}), "`iat` is a text that is not a number"),
            (json!({"iat": -1}), "`iat` is negative"),
            (json!({"iat": NOW.0}), "milliseconds"),
            (json!({"auth_time": true}), "`auth_time` is neither"),
            (json!({"sub": 4711.5}), "`sub`"),
            (json!({"sub": 1e30}), "`sub`"),
            (json!({"nonce": null}), "no `nonce`"),
            (json!({"nonce": "other"}), "not the one that was sent"),
            (json!({"azp": "you"}), "`azp`"),
            (json!({"azp": 1}), "`azp`"),
            (json!({"aud": ["me", "you"]}), "no `azp`"),
            (json!({"at_hash": "wrong"}), "`at_hash`"),
            (json!({"at_hash": 1}), "`at_hash`"),
        ] {
            let (reason, detail) = refused(change.clone(), usual).unwrap_or_else(|| panic!("{change}"));
            assert!(reason == Reason::UntrustedSignIn && detail.contains(why), "{change}: {detail}");
        }
        let other = Expected { subject: Some("bob"), ..Expected::default() };
        assert!(refused(json!({}), other).unwrap().1.contains("another person"));
    }

    #[test]
    fn f10_f14_numbers_are_read_however_a_provider_writes_them() {
        let usual = Expected { nonce: Some("n"), ..Expected::default() };
        let read = |change: Value| {
            check(&claims(change), Algorithm::RS256, "me", None, &usual, (NOW, Skew::from_seconds(30))).unwrap()
        };
        let person = read(json!({"iat": 1_700_000_000.25, "auth_time": 1_699_999_000.75, "sub": 4711}));
        assert_eq!((person.subject.as_str(), person.proved), ("4711", 1_699_999_000));
        let person = read(json!({"iat": "1700000000", "auth_time": null, "sub": u64::MAX}));
        assert_eq!((person.subject.as_str(), person.proved), ("18446744073709551615", 1_700_000_000));
    }

    #[test]
    fn a_weak_or_old_sign_in_is_told_apart() {
        let gold = StepUp { acr: vec!["gold".into()], max_age_seconds: Some(1000) };
        let expected = Expected { nonce: Some("n"), step_up: Some(&gold), ..Expected::default() };
        assert_eq!(refused(json!({}), expected), None);
        for change in [json!({"acr": "silver"}), json!({"acr": null}), json!({"auth_time": 1_699_998_000u64})] {
            assert_eq!(refused(change.clone(), expected).unwrap().0, Reason::StepUpRequired, "{change}");
        }
        assert_eq!(refused(json!({"auth_time": null}), expected).unwrap().0, Reason::UntrustedSignIn);
    }
}
