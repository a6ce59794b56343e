//! Bearer tokens: signed JWTs of the policy's issuers.

use std::rc::Rc;
use std::sync::Arc;

use idm_jose::{Claims, Expectations, TokenError, Unverified, Verified};
use idm_plan::{Issuer, JwtMethod, Policy};
use idm_types::{MethodName, Reason, Timestamp};

use crate::chain::{Attempt, Fresh};
use crate::mapping;
use crate::{Denied, Grants, Identity, IssuerKeys};

/// The method, with the live keys of its issuers.
pub(crate) struct ArmedJwt {
    pub(crate) plan: JwtMethod,
    pub(crate) keys: Vec<Arc<IssuerKeys>>,
}

impl ArmedJwt {
    fn issuer(&self, name: &str) -> Option<(&Issuer, &Arc<IssuerKeys>)> {
        self.plan.issuers.iter().zip(&self.keys).find(|(issuer, _)| issuer.issuer == name)
    }

    /// The epoch of the keys of an identity's issuer.
    pub(crate) fn epoch(&self, identity: &Identity) -> u64 {
        identity.issuer.as_deref().and_then(|name| self.issuer(name)).map_or(0, |(_, keys)| keys.epoch())
    }

    /// Verifies a token. The method recognises tokens of its issuers; another method may know the rest.
    pub(crate) fn attempt(&self, name: &MethodName, token: &str, policy: &Policy, grants: &Grants, now: Timestamp) -> Attempt {
        let unverified = match Unverified::parse(token) {
            Ok(unverified) => unverified,
            Err(error) => return Attempt::NotMine(Denied::new(error.reason(), error.to_string(), Some(name))),
        };
        let claimed = unverified.claimed_issuer().unwrap_or_default().to_owned();
        let Some((issuer, keys)) = self.issuer(&claimed) else {
            let trusted: Vec<_> = self.plan.issuers.iter().map(|i| i.issuer.as_str()).collect();
            let detail = format!("the token's issuer is `{claimed}`; the policy trusts {}", trusted.join(", "));
            return Attempt::NotMine(Denied::new(Reason::UnknownIssuer, detail, Some(name)));
        };
        // Read before the keys: if they change in between, the verdict is filed under the older epoch and void.
        let epoch = keys.epoch();
        let Some(set) = keys.load() else {
            return Attempt::NeedsKeys(keys.clone(), Denied::new(Reason::KeysUnavailable, format!("no keys of `{claimed}` yet"), Some(name)));
        };
        let expected =
            Expectations { issuer: &issuer.issuer, audiences: &issuer.audiences, algorithms: &issuer.algorithms, types: &issuer.types, skew: self.plan.skew };
        match unverified.verify(&set, &expected, now) {
            Ok(verified) => match identity(name, verified, &issuer.issuer, policy, grants) {
                Ok(identity) => {
                    let until = identity.expires.map_or(0, |exp| exp.0.saturating_add(self.plan.skew.seconds() * 1000));
                    Attempt::Verified(Fresh { identity: Rc::new(identity), until, epoch })
                }
                Err(detail) => Attempt::Rejected(Denied::new(Reason::UnusableClaim, detail, Some(name))),
            },
            Err(error @ TokenError::UnknownKey { .. }) => Attempt::NeedsKeys(keys.clone(), Denied::new(error.reason(), error.to_string(), Some(name))),
            Err(error) => Attempt::Rejected(Denied::new(error.reason(), error.to_string(), Some(name))),
        }
    }
}

fn identity(name: &MethodName, verified: Verified, issuer: &str, policy: &Policy, grants: &Grants) -> Result<Identity, String> {
    let claims = verified.claims();
    let mapping = &policy.identity;
    let username = match &mapping.username {
        Some(expr) => mapping::name_at(claims, expr).ok_or_else(|| format!("the token has no usable `{expr}`, which the policy maps to the user name"))?,
        None => claims
            .text("sub")
            .filter(|sub| !sub.is_empty() && sub.len() <= 512 && !sub.chars().any(char::is_control))
            .ok_or("the token has no usable `sub`")?
            .to_owned(),
    };
    let groups = mapping::list_at(mapping.groups.as_ref().and_then(|expr| claims.at(&expr.path)));
    let mut roles = mapping::roles(mapping::list_at(mapping.roles.as_ref().and_then(|expr| claims.at(&expr.path))));
    roles.extend(grants.of_user(issuer, &username, &groups).cloned());
    roles.sort();
    roles.dedup();
    let attributes = mapping.attributes.iter().filter_map(|(name, expr)| Some((name.clone(), claims.at(&expr.path).and_then(mapping::attribute_text)?)));
    let mut identity = Identity {
        id: format!("{issuer}#{}", claims.text("sub").unwrap_or(&username)),
        issuer: Some(issuer.to_owned()),
        roles,
        groups,
        scopes: scopes(claims),
        attributes: attributes.collect(),
        kid: verified.kid().map(str::to_owned),
        expires: Some(verified.expires()),
        username,
        ..Identity::nobody(name, "jwt")
    };
    identity.headers = mapping::headers(&policy.upstream.headers, &identity, Some(claims))?;
    Ok(identity)
}

/// `scope` (RFC 8693 §4.2) or `scp`, which some issuers write instead.
fn scopes(claims: &Claims) -> Vec<String> {
    mapping::list_at(claims.members().get("scope").or_else(|| claims.members().get("scp")))
}
