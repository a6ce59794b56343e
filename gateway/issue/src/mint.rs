//! Writes access tokens as RFC 9068 defines them.

use idm_expr::EvaluationError;
use idm_jose::{system_entropy, to_base64url};
use idm_request::{Facts, Identity, SharedFacts};
use idm_types::{Reason, Timestamp};
use serde_json::{Map, Value};

use crate::{Ask, Refused, TokenIssuer};

/// The content of a token.
pub(crate) struct Token<'t> {
    pub(crate) client: &'t str,
    pub(crate) subject: &'t Identity,
    pub(crate) scopes: &'t [String],
    pub(crate) audiences: &'t [String],
    pub(crate) lifetime_seconds: u64,
    /// The thumbprint of the DPoP key that it is bound to.
    pub(crate) dpop: Option<&'t str>,
    /// The thumbprint of the certificate that it is bound to.
    pub(crate) certificate: Option<&'t str>,
    /// The sign-in that it belongs to.
    pub(crate) family: Option<&'t str>,
}

impl Token<'_> {
    /// The claims that the service itself asserts; a claim that a policy adds cannot replace them.
    fn claims(&self, issuer: &str, id: &str, now: Timestamp) -> Map<String, Value> {
        let Token { client, subject, scopes, audiences, lifetime_seconds, dpop, certificate, family: _ } = self;
        let issued = now.seconds();
        let audience = match audiences {
            [one] => one.as_str().into(),
            several => Value::from(*several),
        };
        let confirmation: Map<String, Value> = [("jkt", dpop), ("x5t#S256", certificate)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), (*value)?.into())))
            .collect();
        // A person of a directory is named by the id that stays, behind the directory whose id it is: other
        // directories, Credentials and clients may have the same name, and `sub` names one of them (RFC 9068 §2.2).
        let person = subject.directory.as_ref().zip(subject.issuer.as_deref());
        let of_directory = person.map(|(person, issuer)| format!("{issuer}#{}", person.id));
        let own: [(&str, Option<Value>); 12] = [
            ("iss", Some(issuer.into())),
            ("sub", Some(of_directory.as_deref().unwrap_or(&subject.username).into())),
            ("idp", person.map(|(_, issuer)| issuer.into())),
            ("preferred_username", person.map(|_| subject.username.as_str().into())),
            ("aud", Some(audience)),
            ("client_id", Some((*client).into())),
            ("jti", Some(id.into())),
            ("iat", Some(issued.into())),
            ("exp", Some(issued.saturating_add(*lifetime_seconds).into())),
            ("scope", (!scopes.is_empty()).then(|| scopes.join(" ").into())),
            ("roles", (!subject.roles.is_empty()).then(|| subject.roles.as_slice().into())),
            ("cnf", (!confirmation.is_empty()).then(|| confirmation.into())),
        ];
        own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// This many random bytes in base64url.
pub(crate) fn random<const BYTES: usize>() -> Result<String, Refused> {
    let mut bytes = [0; BYTES];
    system_entropy(&mut bytes).map_err(|_| Refused::new(Reason::InternalError, "there are no random bits"))?;
    Ok(to_base64url(&bytes))
}

impl TokenIssuer {
    /// Signs a token; returns it with its `jti`.
    pub(crate) fn mint(&self, token: Token<'_>, ask: Ask<'_>) -> Result<(String, String), Refused> {
        let key = self
            .keys
            .signing(ask.now)
            .ok_or_else(|| Refused::new(Reason::KeysUnavailable, "no signing key is in its time"))?;
        let shared = SharedFacts::of(ask.view);
        let facts = Facts {
            identity: Some(token.subject),
            policy: Some(&ask.policy.plan().key),
            gateway: ask.gateway,
            now: Some(ask.now),
            shared: Some(&shared),
            ..Facts::default()
        };
        let mut claims = Map::new();
        for (name, expression) in &self.claims {
            match expression.value(&facts) {
                Ok(value) => drop(claims.insert(name.clone(), value)),
                Err(EvaluationError::Missing(_)) => {}
                // Incomplete facts about the caller are worse than none.
                Err(error @ (EvaluationError::Failed(_) | EvaluationError::TooCostly(_))) => {
                    let reason = error.reason(Reason::ObjectNotMade);
                    return Err(Refused::new(reason, format!("the claim `{name}` cannot be made: {error}")));
                }
            }
        }
        let id = match token.family {
            Some(family) => format!("{family}.{}", random::<12>()?),
            None => random::<16>()?,
        };
        claims.extend(token.claims(&self.plan.issuer, &id, ask.now));
        let mut header = key.header();
        header.insert("typ".into(), "at+jwt".into());
        let signed = key.sign_with_header(&Value::Object(header), &Value::Object(claims));
        signed.map(|token| (token, id)).map_err(|_| Refused::new(Reason::ObjectNotMade, "the token cannot be signed"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ana(roles: &[&str]) -> Identity {
        let nobody = Identity::nobody(&"password".parse().unwrap(), "basic");
        Identity { username: "ana".into(), roles: names(roles), ..nobody }
    }

    const NOW: Timestamp = Timestamp(1_800_000_000_999);

    #[test]
    fn a_token_says_what_rfc_9068_asks_and_what_it_is_bound_to() {
        let (subject, scopes, audiences) =
            (ana(&["writer"]), names(&["orders.read", "orders.write"]), names(&["orders", "billing"]));
        let token = Token {
            client: "reports",
            subject: &subject,
            scopes: &scopes,
            audiences: &audiences,
            lifetime_seconds: 300,
            dpop: Some("key"),
            certificate: Some("certificate"),
            family: Some("family"),
        };
        assert_eq!(
            Value::Object(token.claims("https://shop.example", "id", NOW)),
            json!({
                "iss": "https://shop.example", "sub": "ana", "aud": ["orders", "billing"], "client_id": "reports",
                "jti": "id", "iat": 1_800_000_000, "exp": 1_800_000_300, "scope": "orders.read orders.write",
                "roles": ["writer"], "cnf": {"jkt": "key", "x5t#S256": "certificate"},
            })
        );
    }

    #[test]
    fn what_there_is_nothing_of_is_left_out() {
        let (subject, audiences) = (ana(&[]), names(&["orders"]));
        let token = Token {
            client: "reports",
            subject: &subject,
            scopes: &[],
            audiences: &audiences,
            lifetime_seconds: u64::MAX,
            dpop: None,
            certificate: None,
            family: None,
        };
        assert_eq!(
            Value::Object(token.claims("https://shop.example", "id", NOW)),
            json!({
                "iss": "https://shop.example", "sub": "ana", "aud": "orders", "client_id": "reports", "jti": "id",
                "iat": 1_800_000_000, "exp": u64::MAX,
            })
        );
    }
}
