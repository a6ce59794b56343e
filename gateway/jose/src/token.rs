//! A signed JWT (RFC 7519), checked as RFC 8725 asks.

use idm_types::{Algorithm, Skew, Timestamp};
use serde_json::Value;

use crate::jws::{object, quoted};
use crate::{Claims, Jws, KeySet, TokenError, VerifiedJws, VerifyingKey};

/// The values that a policy expects in a token of one issuer.
#[derive(Clone, Copy, Debug)]
pub struct Expectations<'a> {
    /// The exact `iss`.
    pub issuer: &'a str,
    /// At least one must be in `aud`. Empty, where `client_ids` is not: the token must have no `aud`.
    pub audiences: &'a [String],
    /// One of these must be the token's client, and the token for access; empty: any client. For issuers that write no
    /// `aud`.
    pub client_ids: &'a [String],
    /// Allowed algorithms.
    pub algorithms: &'a [Algorithm],
    /// Accepted `typ` values, lower case, without `application/`; empty: absent, `jwt` or `at+jwt`.
    pub types: &'a [String],
    /// Tolerance for times.
    pub skew: Skew,
}

/// The values that a policy expects in a token that a caller signs with a key of its own.
#[derive(Clone, Copy, Debug)]
pub struct OwnExpectations<'a> {
    /// The exact `iss`; `None`: whatever it is.
    pub issuer: Option<&'a str>,
    /// At least one must be in `aud`. Empty: the token must have no `aud`.
    pub audiences: &'a [String],
    /// Tolerance for times.
    pub skew: Skew,
}

/// A token that was taken apart and not believed yet. Only its issuer can be read, to find the keys.
#[derive(Debug)]
pub struct Unverified<'t> {
    jws: Jws<'t>,
    claims: Claims,
}

/// A token whose signature and standard claims were checked. Only [`Unverified::verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    claims: Claims,
    expires: Timestamp,
    kid: Option<String>,
    algorithm: Algorithm,
}

impl Verified {
    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The claims, to keep.
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// `exp`, without skew.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The `kid` of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that verified it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<'t> Unverified<'t> {
    /// Takes a signed JWT apart. Nothing is believed yet.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        let jws = Jws::parse(token)?;
        let claims = Claims::new(object(jws.payload())?);
        Ok(Self { jws, claims })
    }

    /// The issuer the token claims to be from: good for choosing keys and nothing else.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// The time of issue that it claims (`iat`), which its author may have made up.
    pub fn claimed_issue_time(&self) -> Option<Timestamp> {
        self.claims.date("iat").ok().flatten().map(Timestamp::from_seconds)
    }

    /// The claims, of which nothing is believed: to show them to people.
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// The signed object, of which nothing is believed yet.
    pub fn jws(&self) -> &Jws<'t> {
        &self.jws
    }

    /// The algorithm that its header names; `None` where it is not a known one.
    pub fn claimed_algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_name(&self.jws.header.alg)
    }

    /// Whether it is signed with this key, in the key's algorithm.
    pub fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        self.claimed_algorithm() == Some(key.algorithm()) && self.jws.is_signed_by(key)
    }

    /// Checks a token that a caller signed with a key of its own: type, algorithm, signature, issuer, audience and
    /// times, in that order.
    pub fn verify_own(
        self,
        key: &VerifyingKey,
        expected: &OwnExpectations<'_>,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        self.jws.header.check_type(&[])?;
        let algorithm = key.algorithm();
        if self.claimed_algorithm() != Some(algorithm) {
            return Err(TokenError::AlgorithmNotAllowed(self.jws.header.alg.clone()));
        }
        if !self.jws.is_signed_by(key) {
            return Err(TokenError::BadSignature { kid: quoted(self.jws.kid()) });
        }
        if let Some(issuer) = expected.issuer {
            check_issuer(&self.claims, issuer)?;
        }
        match self.claims.members().get("aud") {
            None if expected.audiences.is_empty() => {}
            _ => check_audience(&self.claims, expected.audiences, false)?,
        }
        let expires = check_times(&self.claims, expected.skew, now)?;
        Ok(Verified { kid: self.jws.kid().map(str::to_owned), claims: self.claims, expires, algorithm })
    }

    /// Checks everything: type, algorithm, key, signature, issuer, audience and times, in that order,
    /// so that nothing of the claims is believed before the signature.
    pub fn verify(self, keys: &KeySet, expected: &Expectations<'_>, now: Timestamp) -> Result<Verified, TokenError> {
        self.jws.header.check_type(expected.types)?;
        let VerifiedJws { payload: _, kid, algorithm, .. } = self.jws.verify(keys, expected.algorithms)?;
        let expires = check_claims(&self.claims, expected, now)?;
        Ok(Verified { claims: self.claims, expires, kid, algorithm })
    }
}

fn check_claims(claims: &Claims, expected: &Expectations<'_>, now: Timestamp) -> Result<Timestamp, TokenError> {
    check_issuer(claims, expected.issuer)?;
    check_audience(claims, expected.audiences, !expected.client_ids.is_empty())?;
    check_client(claims, expected)?;
    check_times(claims, expected.skew, now)
}

fn check_issuer(claims: &Claims, expected: &str) -> Result<(), TokenError> {
    match claims.text("iss") {
        Some(issuer) if issuer == expected => Ok(()),
        other => Err(TokenError::WrongIssuer(quoted(other))),
    }
}

fn check_times(claims: &Claims, skew: Skew, now: Timestamp) -> Result<Timestamp, TokenError> {
    let (now, skew) = (now.seconds(), skew.seconds());
    let date = |claim| claims.date(claim).map_err(|problem| TokenError::UnusableDate { claim, problem });
    let exp = date("exp")?.ok_or(TokenError::MissingClaim("exp"))?;
    if now >= exp.saturating_add(skew) {
        return Err(TokenError::Expired { seconds_ago: now.saturating_sub(exp) });
    }
    for claim in ["nbf", "iat"] {
        if let Some(seconds) =
            date(claim)?.and_then(|date| date.checked_sub(now.saturating_add(skew))).filter(|s| *s > 0)
        {
            return Err(TokenError::NotYetValid { claim, seconds: seconds.saturating_add(skew) });
        }
    }
    Ok(Timestamp::from_seconds(exp))
}

/// `by_client` says that the token is bound by its client where no audience is expected.
fn check_audience(claims: &Claims, expected: &[String], by_client: bool) -> Result<(), TokenError> {
    let accepted = |audience: &str| expected.iter().any(|a| a == audience);
    let found = match claims.members().get("aud") {
        // Bound by its client instead. One that has an `aud` is for those (RFC 7519 §4.1.3).
        None if expected.is_empty() && by_client => return Ok(()),
        Some(Value::String(one)) if accepted(one) => return Ok(()),
        Some(Value::Array(many)) if many.iter().any(|a| a.as_str().is_some_and(accepted)) => return Ok(()),
        Some(other) => other.to_string().chars().take(200).collect(),
        None if claims.members().contains_key("client_id") || claims.members().contains_key("azp") => {
            "missing (its client is named: such tokens are accepted by `clientIds`)".to_owned()
        }
        None => "missing".to_owned(),
    };
    let wanted = if expected.is_empty() { "none".to_owned() } else { expected.join(", ") };
    Err(TokenError::WrongAudience { found, expected: wanted })
}

/// The client that the token was issued to: `client_id` (RFC 9068 §2.2) or `azp`. Where a token has both, both count.
fn check_client(claims: &Claims, expected: &Expectations<'_>) -> Result<(), TokenError> {
    if expected.client_ids.is_empty() {
        return Ok(());
    }
    let members = claims.members();
    let named: Vec<&Value> = ["client_id", "azp"].iter().filter_map(|name| members.get(*name)).collect();
    let accepted = |client: &&Value| client.as_str().is_some_and(|id| expected.client_ids.iter().any(|c| c == id));
    if named.is_empty() || !named.iter().all(accepted) {
        let found = match named.iter().find(|client| !accepted(client)) {
            Some(other) => other.to_string().chars().take(200).collect(),
            None => "missing".to_owned(),
        };
        return Err(TokenError::WrongClient { found, expected: expected.client_ids.join(", ") });
    }
    // Cognito tells its tokens apart by this claim alone, and an id token is for the client, not for its services.
    match members.get("token_use") {
        Some(usage) if usage != "access" => Err(TokenError::NotForAccess(usage.to_string().chars().take(64).collect())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
