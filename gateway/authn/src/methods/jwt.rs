//! Bearer tokens: signed JWTs of the policy's issuers.

use idm_request::{Binding, Facts, Identity, IssuedTo, Presented, RequestView, SharedFacts, Unusable, mapping};
use idm_trust::{IssuerKeys, Trust};
use std::rc::Rc;
use std::sync::Arc;

use idm_expr::{EvaluationError, Expression};
use idm_jose::{Claims, Expectations, TokenCheck, TokenError, Unverified, Verified};
use idm_plan::{Issuer, JwtMethod, Policy, Source};
use idm_types::{Reason, Refusal, Timestamp};
use serde_json::Value;

use super::bearer;
use crate::examined::Examined;
use crate::judged::Unjudged;
use crate::method::{
    Attempt, Caching, Challenged, Method, MethodContext, NewVerdict, Proven, Recheck, Verifying, at_once,
};
use crate::{CredentialTable, PolicyError};

/// The method, with the live keys of its issuers.
pub(super) struct ArmedJwt {
    plan: JwtMethod,
    keys: Vec<Arc<IssuerKeys>>,
}

impl Method for ArmedJwt {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    fn sources(&self) -> &[Source] {
        &self.plan.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, self.sources())
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        at_once(self.examined(context, credential).attempt)
    }

    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged> {
        Ok(self.examined(context, credential).attempt)
    }

    fn judge_again(&self, context: MethodContext<'_>, proven: Proven<'_>) -> Result<(), Refusal> {
        bearer::judge_again(self.plan.confirmation, context, proven)
    }

    fn examine(&self, context: MethodContext<'_>, token: &str) -> Option<Examined> {
        Some(self.examined(context, token))
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    fn epoch(&self, identity: &Identity, _: &CredentialTable) -> u64 {
        identity.issuer.as_deref().and_then(|name| self.issuer(name)).map_or(0, |(_, keys)| keys.epoch())
    }

    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
        bearer::recheck(self.plan.confirmation, context, proven)
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        bearer::challenge(self.sources(), self.plan.confirmation, asked)
    }
}

impl ArmedJwt {
    pub(super) fn arm(policy: &Policy, plan: &JwtMethod, trust: &mut Trust<'_>) -> Result<Self, PolicyError> {
        let keys_of = |issuer: &Issuer| {
            let broken =
                |source| PolicyError::Keys { policy: policy.key.to_string(), issuer: issuer.issuer.clone(), source };
            trust.keys.of(&issuer.keys, &issuer.algorithms).map_err(broken)
        };
        let keys = plan.issuers.iter().map(keys_of).collect::<Result<_, _>>()?;
        Ok(Self { plan: plan.clone(), keys })
    }

    fn issuer(&self, name: &str) -> Option<(&Issuer, &Arc<IssuerKeys>)> {
        self.plan.issuers.iter().zip(&self.keys).find(|(issuer, _)| issuer.issuer == name)
    }

    /// Verifies a token. The method recognises tokens of its issuers; another method may know the rest.
    fn examined(&self, context: MethodContext<'_>, token: &str) -> Examined {
        let MethodContext { name, now, .. } = context;
        let at = |reached, attempt| Examined { reached, attempt };
        let refused = |error: &TokenError| Refusal::new(error.reason(), error.to_string()).by_method(name);
        let unverified = match Unverified::parse(token) {
            Ok(unverified) => unverified,
            Err(error) => return at(error.check(), Attempt::NotMine(refused(&error))),
        };
        let claimed = unverified.claimed_issuer().unwrap_or_default().to_owned();
        let Some((issuer, keys)) = self.issuer(&claimed) else {
            let trusted: Vec<_> = self.plan.issuers.iter().map(|i| i.issuer.as_str()).collect();
            let detail = format!("the token's issuer is `{claimed}`; the policy trusts {}", trusted.join(", "));
            let refusal = Refusal::new(Reason::UnknownIssuer, detail).by_method(name);
            return at(TokenCheck::Issuer, Attempt::NotMine(refusal));
        };
        // Read before the keys: if they change in between, the verdict is filed under the older epoch and void.
        let epoch = keys.epoch();
        let Some(set) = keys.load() else {
            let refusal = Refusal::new(Reason::KeysUnavailable, format!("no keys of `{claimed}` yet"));
            let refusal = refusal.by_method(name).retry_after(5);
            return at(TokenCheck::Keys, Attempt::NeedsKeys(keys.clone(), epoch, refusal));
        };
        let expected = Expectations {
            issuer: &issuer.issuer,
            audiences: &issuer.audiences,
            client_ids: &issuer.client_ids,
            algorithms: &issuer.algorithms,
            types: &issuer.types,
            skew: self.plan.skew,
        };
        let verified = match unverified.verify(&set, &expected, now) {
            Ok(verified) => verified,
            Err(error @ TokenError::UnknownKey { .. }) => {
                return at(error.check(), Attempt::NeedsKeys(keys.clone(), epoch, refused(&error)));
            }
            Err(error) => return at(error.check(), Attempt::Rejected(refused(&error))),
        };
        let attempt = match of_verified(context, verified, issuer) {
            Ok(identity) => {
                let until = identity.expires.map_or(0, |exp| exp.0.saturating_add(self.plan.skew.seconds() * 1000));
                Attempt::Verified(NewVerdict { identity: Rc::new(identity), until, epoch })
            }
            Err(problem) => Attempt::Rejected(Refusal::new(problem.reason, problem.detail).by_method(name)),
        };
        at(TokenCheck::Claims, attempt)
    }
}

fn of_verified(context: MethodContext<'_>, verified: Verified, issuer: &Issuer) -> Result<Identity, Unusable> {
    let (expires, kid) = (verified.expires(), verified.kid().map(str::to_owned));
    // RFC 9068 §2.2.
    if issuer.rfc9068 {
        let missing = ["sub", "client_id", "jti"]
            .into_iter()
            .find(|claim| verified.claims().text(claim).is_none_or(str::is_empty));
        let missing = missing.or_else(|| (!verified.claims().members().contains_key("iat")).then_some("iat"));
        if let Some(claim) = missing {
            return Err(format!("the token has no usable `{claim}`, which RFC 9068 wants").into());
        }
    }
    // A token without an id cannot be revoked.
    let token_id = issuer
        .issued_here
        .then(|| verified.claims().text("jti").map(str::to_owned).ok_or("the token has no `jti`"))
        .transpose()?;
    let issued_to = issuer.issued_here.then(|| {
        let text = |claim| verified.claims().text(claim).unwrap_or_default().to_owned();
        let directory = verified.claims().text("idp").map(str::to_owned);
        IssuedTo { client: text("client_id"), subject: text("sub"), directory }
    });
    Ok(Identity {
        token_id,
        issued_to,
        ..identity_of(
            context,
            verified.into_claims(),
            Vouched { issuer: &issuer.issuer, expires: Some(expires), kid, ..Vouched::default() },
        )?
    })
}

/// The facts about verified claims besides them.
#[derive(Default)]
pub(crate) struct Vouched<'a> {
    /// The issuer that vouches for them.
    pub(crate) issuer: &'a str,
    /// The end of the credential.
    pub(crate) expires: Option<Timestamp>,
    /// The key that verified them.
    pub(crate) kid: Option<String>,
    /// Roles that the Federation grants.
    pub(crate) roles: Vec<String>,
    /// The user name where the policy maps none; `None`: the subject.
    pub(crate) username: Option<String>,
    /// Groups where the policy maps none.
    pub(crate) groups: Vec<String>,
}

/// The identity that verified claims speak of.
pub(crate) fn identity_of(
    context: MethodContext<'_>,
    claims: Claims,
    vouched: Vouched<'_>,
) -> Result<Identity, Unusable> {
    let Vouched { issuer, expires, kid, roles: granted, username: usual, groups: usual_groups } = vouched;
    let MethodContext { mapping, grants, policy, .. } = context;
    let shared = SharedFacts::default();
    let facts = Facts { claims: Some(&claims), policy: Some(&policy.key), shared: Some(&shared), ..Facts::default() };
    // A missing role or group is one that the caller does not have; an expression that exceeds its budget refuses.
    let value = |expression: &Option<Expression>| match expression {
        Some(expression) => EvaluationError::absent(expression.value(&facts)),
        None => Ok(None),
    };
    let username = match &mapping.username {
        Some(expr) => {
            let unusable = || {
                format!(
                    "the token has no usable `{}`, which the policy maps to the user name{}",
                    expr.plan(),
                    unverified(context, &claims, expr)
                )
            };
            mapping::name(value(&mapping.username)?).ok_or_else(unusable)?
        }
        None => match usual {
            Some(usual) => usual,
            None => claims.subject().ok_or_else(|| unusable_subject(&claims))?.into_owned(),
        },
    };
    let groups = match &mapping.groups {
        Some(_) => mapping::list(value(&mapping.groups)?.as_ref()),
        None => usual_groups,
    };
    let (mut roles, roles_dropped) = mapping::roles(mapping::list(value(&mapping.roles)?.as_ref()));
    roles.extend(granted);
    roles.extend(grants.of_user(issuer, &username, &groups).cloned());
    roles.sort();
    roles.dedup();
    let mut attributes = Vec::with_capacity(mapping.attributes.len());
    for (name, expression) in &mapping.attributes {
        let value = EvaluationError::absent(expression.value(&facts))?;
        attributes.extend(value.and_then(|value| Some((name.clone(), mapping::attribute_text(&value)?))));
    }
    let mut identity = Identity {
        id: format!("{issuer}#{}", claims.subject().as_deref().unwrap_or(&username)),
        issuer: Some(issuer.to_owned()),
        roles,
        roles_dropped,
        groups,
        scopes: scopes(&claims),
        attributes,
        kid,
        expires,
        binding: Binding::of(&claims),
        username,
        ..Identity::nobody(context.name, context.kind)
    };
    identity.headers = mapping.headers(true, &Facts { identity: Some(&identity), ..facts })?;
    identity.claims = mapping.keeps_claims.then_some(claims);
    Ok(identity)
}

/// A clause for an address of a sign-in that is not there: it may have been taken away.
fn unverified(context: MethodContext<'_>, claims: &Claims, expression: &Expression) -> &'static str {
    let is_about_email = context.kind == "signIn" && expression.plan().to_string().contains("token.email");
    if is_about_email && !claims.members().contains_key("email") {
        ": an `email` counts only where the provider says `email_verified`, unless the Federation's \
         `oidc.client.emails` says otherwise"
    } else {
        ""
    }
}

fn unusable_subject(claims: &Claims) -> String {
    let problem = match claims.members().get("sub") {
        None => "has no `sub`",
        Some(Value::Number(_)) => "has a `sub` that is a number with a fraction, or too large to be read exactly",
        Some(Value::String(_)) => "has a `sub` that is empty, longer than 512 bytes, or has control characters",
        Some(_) => "has a `sub` that is neither a text nor a number",
    };
    format!("the token {problem}")
}

/// `scope` (RFC 8693 §4.2) or `scp`, which some issuers write instead.
fn scopes(claims: &Claims) -> Vec<String> {
    mapping::list(claims.members().get("scope").or_else(|| claims.members().get("scp")))
}
