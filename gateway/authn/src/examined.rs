//! A token examined by a policy, check by check, for people who ask why it is refused.
//!
//! The verdict is the method's own: [`Method::examine`](crate::method::Method::examine) verifies as for a request, and
//! says how far the token came. The texts beside it are made of what was compared, and never hold the token.

use idm_jose::{Claims, Decoded, TokenCheck, Unverified};
use idm_plan::{Confirmation, Issuer, JwtMethod, MethodKind};
use idm_request::{Binding, Identity, RequestView};
use idm_types::{MethodName, Reason, Refusal, Skew, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::method::Attempt;
use crate::{ArmedPolicy, CredentialTable};

/// One check of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether the token passed; `None` where the gateway did not come so far, or it is not known here.
    pub ok: Option<bool>,
    /// The facts that were compared, or why they are not known; empty where the gateway did not come so far.
    pub text: String,
}

/// A token as a policy sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenChecks {
    /// The header, as its author wrote it; `null` where it cannot be read.
    pub header: Value,
    /// The claims, as their author wrote them; `null` where they cannot be read.
    pub claims: Value,
    /// The method of the policy that knows the issuer.
    pub method: Option<MethodName>,
    /// The reason with which it would be refused.
    #[serde(serialize_with = "code")]
    pub reason: Option<Reason>,
    /// The checks, in the order in which the gateway makes them.
    pub checks: Vec<Check>,
}

fn code<S: serde::Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(Reason::code).serialize(serializer)
}

/// A method's findings about a token.
pub(crate) struct Examined {
    /// The last check that was made.
    pub(crate) reached: TokenCheck,
    pub(crate) attempt: Attempt,
}

impl ArmedPolicy {
    /// Examines a token. Nothing is remembered of it.
    pub fn examine(&self, token: &str, view: RequestView<'_>, table: &CredentialTable, now: Timestamp) -> TokenChecks {
        let (header, claims) = match Decoded::read(token) {
            Ok(Decoded { header, claims }) => (header, claims.unwrap_or_default()),
            Err(_) => (Value::Null, Value::Null),
        };
        let nothing = TokenChecks { header, claims, method: None, reason: None, checks: Vec::new() };
        let mut known = None;
        for (name, method) in self.methods() {
            let context = self.context(name, method.kind(), table, view, now);
            let Some(examined) = method.examine(context, token) else { continue };
            let mine = !matches!(examined.attempt, Attempt::NotMine(_));
            // The first refusal counts where no method knows the token.
            if mine || known.is_none() {
                known = Some((name, context, examined));
            }
            if mine {
                break;
            }
        }
        let Some((name, context, Examined { reached, attempt })) = known else {
            let text = "the policy has no method that verifies signed tokens".to_owned();
            return TokenChecks { checks: list(&[(TokenCheck::Form, None, text)]), ..nothing };
        };
        let facts = Facts::of(self.jwt(name), token, now);
        let (refusal, verified) = match attempt {
            Attempt::NotMine(refusal) | Attempt::Rejected(refusal) | Attempt::NeedsKeys(_, _, refusal) => {
                (Some(refusal), None)
            }
            Attempt::Verified(verdict) => (None, Some(verdict.identity)),
        };
        let mut made: Vec<_> = TokenCheck::ALL
            .iter()
            .take_while(|check| **check < reached || verified.is_some() && **check <= TokenCheck::Claims)
            .map(|check| (*check, Some(true), facts.passed(*check, verified.as_deref())))
            .collect();
        let mut reason = refusal.as_ref().map(|refusal| refusal.reason);
        if let Some(Refusal { reason, detail, .. }) = refusal {
            // Keys that nobody has fetched here decide nothing.
            let ok = (reason != Reason::KeysUnavailable).then_some(false);
            made.push((reached, ok, detail));
        }
        if let Some(who) = verified.as_deref() {
            let ended = crate::methods::bearer::stands(context, who);
            reason = ended.as_ref().err().map(|refusal| refusal.reason);
            let failed = ended.is_err();
            made.push(revocation(who, ended));
            if !failed {
                let (check, refused) = binding(who, facts.confirmation());
                reason = refused.then_some(Reason::TokenNotBound);
                made.push(check);
            }
        }
        TokenChecks { method: Some(name.clone()), reason, checks: list(&made), ..nothing }
    }

    fn jwt(&self, name: &MethodName) -> Option<&JwtMethod> {
        let method = self.plan().methods.iter().find(|method| method.name == *name)?;
        if let MethodKind::Jwt(jwt) = &method.kind { Some(jwt) } else { None }
    }
}

type Made = (TokenCheck, Option<bool>, String);

/// All checks, those that were not made included.
fn list(made: &[Made]) -> Vec<Check> {
    let of = |check: &TokenCheck| {
        let found = made.iter().find(|(made, _, _)| made == check);
        let (ok, text) = found.map_or((None, String::new()), |(_, ok, text)| (*ok, text.clone()));
        Check { name: check.name(), ok, text }
    };
    TokenCheck::ALL.iter().map(of).collect()
}

/// The facts of which the texts of passed checks are made.
struct Facts<'p> {
    method: Option<&'p JwtMethod>,
    issuer: Option<&'p Issuer>,
    claims: Claims,
    typ: Option<String>,
    now: Timestamp,
}

impl<'p> Facts<'p> {
    fn of(method: Option<&'p JwtMethod>, token: &str, now: Timestamp) -> Self {
        let unverified = Unverified::parse(token).ok();
        let typ = unverified.as_ref().and_then(|token| token.jws().typ().map(str::to_owned));
        let claims = unverified.map_or_else(|| Claims::new(serde_json::Map::new()), Unverified::into_claims);
        let issuer = method
            .and_then(|method| method.issuers.iter().find(|issuer| claims.text("iss") == Some(issuer.issuer.as_str())));
        Self { method, issuer, claims, typ, now }
    }

    fn confirmation(&self) -> Confirmation {
        self.method.map(|method| method.confirmation).unwrap_or_default()
    }

    /// The text of a check that was passed.
    fn passed(&self, check: TokenCheck, who: Option<&Identity>) -> String {
        let name = self.issuer.map_or("", |issuer| &issuer.issuer);
        let value = |claim: &str| self.claims.members().get(claim).map(|value| short(&value.to_string()));
        let kid = who.and_then(|who| who.kid.as_deref()).map(|kid| format!("`{kid}`"));
        let kid = kid.unwrap_or_else(|| "the one that fits".into());
        match check {
            TokenCheck::Form => "three parts, with a header and claims that are JSON".into(),
            TokenCheck::Issuer => format!("`iss` is `{name}`, which the policy trusts"),
            TokenCheck::Keys => format!("the keys of `{name}` are known"),
            TokenCheck::Type => match &self.typ {
                Some(typ) => format!("`typ` is `{typ}`"),
                None => "there is no `typ`".into(),
            },
            TokenCheck::Algorithm => {
                let allowed = self.issuer.iter().flat_map(|issuer| &issuer.algorithms);
                let allowed: Vec<_> = allowed.map(|algorithm| algorithm.name()).collect();
                format!("`alg` is one of {}", allowed.join(", "))
            }
            TokenCheck::Key => format!("the issuer has the key: {kid}"),
            TokenCheck::Signature => format!("it verifies under the key: {kid}"),
            TokenCheck::Audience => match value("aud") {
                Some(aud) => format!("`aud` is {aud}"),
                None => "there is no `aud`, and the policy goes by clients".into(),
            },
            TokenCheck::Client => match self.issuer.is_some_and(|issuer| !issuer.client_ids.is_empty()) {
                true => format!("the client is {}", value("client_id").or_else(|| value("azp")).unwrap_or_default()),
                false => "any client".into(),
            },
            TokenCheck::Expiry => self.expiry(),
            TokenCheck::NotBefore => "it is valid already".into(),
            TokenCheck::Claims => match who {
                Some(who) if who.roles.is_empty() => format!("it is {}, without a role", who.username),
                Some(who) => format!("it is {}, with the roles {}", who.username, who.roles.join(", ")),
                None => String::new(),
            },
            TokenCheck::Revocation | TokenCheck::Binding => String::new(),
        }
    }

    fn expiry(&self) -> String {
        let Ok(Some(exp)) = self.claims.date("exp") else { return String::new() };
        let until = Timestamp::from_seconds(exp).rfc3339();
        match exp.checked_sub(self.now.seconds()) {
            Some(left) => format!("it ends at {until}, in {left} s"),
            None => {
                let skew = self.method.map_or(0, |method| Skew::seconds(method.skew));
                format!("it ended at {until}, within the clock skew of {skew} s")
            }
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The token and its Credential, as far as they are known without the store that gateways share.
fn revocation(who: &Identity, ended: Result<(), Refusal>) -> Made {
    let (ok, text) = match ended {
        Err(refusal) => (Some(false), refusal.detail),
        Ok(()) if who.token_id.is_some() => {
            (None, "not known here: the gateways know which tokens were revoked".into())
        }
        Ok(()) => (Some(true), "tokens of this issuer are valid until they end".into()),
    };
    (TokenCheck::Revocation, ok, text)
}

/// The check, and whether the token is refused with every request.
fn binding(who: &Identity, wanted: Confirmation) -> (Made, bool) {
    let Binding { jkt, x5t, other } = &who.binding;
    let (ok, text) = match (jkt, x5t) {
        _ if *other => (Some(false), "it is bound in a way that is not known here".to_owned()),
        (None, _) if wanted.dpop => (Some(false), "the policy wants tokens that are bound to a DPoP key".into()),
        (_, None) if wanted.certificate => {
            (Some(false), "the policy wants tokens that are bound to the client's certificate".into())
        }
        (Some(jkt), _) => (None, format!("it counts only with a proof by the DPoP key `{jkt}`")),
        (None, Some(x5t)) => (None, format!("it counts only on a connection with the certificate `{x5t}`")),
        (None, None) => (Some(true), "it is bound to no key, and the policy asks for none".into()),
    };
    ((TokenCheck::Binding, ok, text), ok == Some(false))
}
