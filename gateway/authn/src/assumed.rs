//! Callers whose authentication is assumed, for decisions about requests that nobody sends.
//!
//! Only a [`Memory`](crate::Memory) that was made by `Memory::assuming` assumes anything. No gateway has one, and a
//! policy has one memory for all of its life: so a policy that serves requests cannot assume.

use std::rc::Rc;

use idm_jose::Claims;
use idm_plan::{MethodKind, ObjectKey, Selector, Validator};
use idm_request::{Identity, RequestView};
use idm_session::{Session, Tokens};
use idm_types::{MethodName, Reason, Refusal, Timestamp};
use serde_json::{Map, Value};

use crate::credential::admit;
use crate::directory::issuer_of;
use crate::method::MethodContext;
use crate::methods::jwt::{Vouched, identity_of};
use crate::{ArmedPolicy, ArmedSignIn, Authenticated, CredentialTable};

/// A caller who is taken for authenticated.
#[derive(Clone, Debug, Default)]
pub struct Assumption {
    /// The user name, or the name of a Credential.
    pub username: String,
    /// Claims of the token or session, beside `iss` and `sub`.
    pub claims: Map<String, Value>,
    /// The method by which; `None`: the first of the policy that could.
    pub method: Option<MethodName>,
}

impl ArmedPolicy {
    /// The caller, as the method would have made them. What the method checks of a credential is assumed; whether the
    /// caller's Credential may be used here and now is asked as for every request.
    pub(crate) fn assume(
        &self,
        assumption: &Assumption,
        view: RequestView<'_>,
        table: &CredentialTable,
        now: Timestamp,
    ) -> Result<Authenticated, Refusal> {
        let (name, kind) = self.fitting(assumption, table)?;
        if matches!(kind, MethodKind::Anonymous) {
            return Ok(Authenticated::new(Rc::new(Identity::nobody(name, kind.label())), false));
        }
        let context = self.context(name, kind.label(), table, view, now);
        let identity = match credential_of(kind, &assumption.username, table) {
            Some(credential) => admit(context, credential).accepted()?.identity,
            None => match (kind, self.sign_in()) {
                (MethodKind::SignIn(_), Some(method)) => Rc::new(of_session(method, assumption, context)?),
                _ => Rc::new(of_claims(kind, assumption, context)?),
            },
        };
        self.admits(context, &identity, None)?;
        Ok(Authenticated::new(identity, false))
    }

    /// The method that would authenticate the caller: the one that is named, one that knows the Credential of this
    /// name, or the first that knows people by other means.
    fn fitting(&self, assumption: &Assumption, table: &CredentialTable) -> Result<(&MethodName, &MethodKind), Refusal> {
        let Assumption { username, method, .. } = assumption;
        let mut methods = self.plan().methods.iter();
        if let Some(wanted) = method {
            let found = methods.find(|method| method.name == *wanted);
            let unknown = || Refusal::new(Reason::NoCredentials, format!("the policy has no method `{wanted}`"));
            return found.map(|method| (&method.name, &method.kind)).ok_or_else(unknown);
        }
        let knows = |method: &&idm_plan::Method| credential_of(&method.kind, username, table).is_some();
        let others = |method: &&idm_plan::Method| knows_others(&method.kind);
        let anonymous = |method: &&idm_plan::Method| matches!(method.kind, MethodKind::Anonymous);
        let all = || self.plan().methods.iter();
        let found = all().find(knows).or_else(|| all().find(others)).or_else(|| all().find(anonymous));
        found.map(|method| (&method.name, &method.kind)).ok_or_else(|| {
            let detail = format!("no Credential that the policy's methods accept is called `{username}`");
            Refusal::new(Reason::NoCredentials, detail)
        })
    }
}

/// The Credential of this name or user name, where the method finds its callers among them.
fn credential_of<'t>(
    kind: &MethodKind,
    username: &str,
    table: &'t CredentialTable,
) -> Option<&'t idm_plan::Credential> {
    let among = |validators: &[Validator]| {
        let known = validators.iter().filter_map(|validator| match validator {
            Validator::Credentials(only) => Some(only),
            Validator::Directory(_) => None,
        });
        known.into_iter().find_map(|only| table.named(username, only))
    };
    match kind {
        MethodKind::ApiKey(method) => table.named(username, &method.only),
        MethodKind::Signature(method) => table.named(username, &method.only),
        MethodKind::HmacJwt(method) => table.named(username, &method.only),
        MethodKind::Basic(method) => among(&method.validators),
        MethodKind::Base64(method) => among(&method.validators),
        MethodKind::Digest(method) => {
            let user = method.users.iter().find(|user| user.username == username || user.credential == username)?;
            table.named(&user.credential, &Selector::ANY)
        }
        MethodKind::Jwt(_)
        | MethodKind::Introspection(_)
        | MethodKind::Mtls(_)
        | MethodKind::SignIn(_)
        | MethodKind::Anonymous => None,
    }
}

/// Whether the method knows callers who have no Credential.
fn knows_others(kind: &MethodKind) -> bool {
    match kind {
        MethodKind::Jwt(_) | MethodKind::Introspection(_) | MethodKind::Mtls(_) | MethodKind::SignIn(_) => true,
        MethodKind::Basic(method) => directory_of(&method.validators).is_some(),
        MethodKind::Base64(method) => directory_of(&method.validators).is_some(),
        MethodKind::Digest(method) => !method.directories.is_empty(),
        MethodKind::ApiKey(_) | MethodKind::HmacJwt(_) | MethodKind::Signature(_) | MethodKind::Anonymous => false,
    }
}

fn directory_of(validators: &[Validator]) -> Option<&str> {
    validators.iter().find_map(|validator| match validator {
        Validator::Directory(name) => Some(name.as_str()),
        Validator::Credentials(_) => None,
    })
}

/// The claims of the caller, with their subject and issuer.
fn claims_of(assumption: &Assumption, issuer: &str) -> Map<String, Value> {
    let Assumption { username, claims, .. } = assumption;
    let usual = [("iss", issuer), ("sub", username), ("preferred_username", username)];
    let mut all: Map<_, _> = usual.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    all.extend(claims.clone());
    all
}

/// The caller whom a token, a directory or a certificate would name.
fn of_claims(kind: &MethodKind, assumption: &Assumption, context: MethodContext<'_>) -> Result<Identity, Refusal> {
    let of_directory =
        |name: Option<&str>| name.map(|name| issuer_of(&ObjectKey::new(&context.policy.key.namespace, name)));
    let claimed = assumption.claims.get("iss").and_then(Value::as_str);
    let issuer = match kind {
        MethodKind::Jwt(method) => {
            let known = method.issuers.iter().map(|issuer| &issuer.issuer);
            let claimed = known.clone().find(|issuer| Some(issuer.as_str()) == claimed);
            claimed.or_else(|| known.clone().next()).cloned()
        }
        MethodKind::Introspection(method) => Some(method.issuer.clone()),
        MethodKind::Basic(method) => of_directory(directory_of(&method.validators)),
        MethodKind::Base64(method) => of_directory(directory_of(&method.validators)),
        MethodKind::Digest(method) => of_directory(method.directories.first().map(String::as_str)),
        MethodKind::Mtls(_) => Some(format!("x509:{}", claimed.unwrap_or_default())),
        MethodKind::ApiKey(_)
        | MethodKind::Signature(_)
        | MethodKind::HmacJwt(_)
        | MethodKind::SignIn(_)
        | MethodKind::Anonymous => None,
    };
    let issuer = issuer.unwrap_or_default();
    let mut claims = claims_of(assumption, &issuer);
    claims.insert("iss".into(), issuer.as_str().into());
    let vouched = Vouched { issuer: &issuer, username: Some(assumption.username.clone()), ..Vouched::default() };
    identity_of(context, Claims::new(claims), vouched).map_err(|problem| context.denied(problem.reason, problem.detail))
}

/// The person whom a session of the method's first provider, or of the one that is claimed, would name.
fn of_session(method: &ArmedSignIn, assumption: &Assumption, context: MethodContext<'_>) -> Result<Identity, Refusal> {
    let claimed = assumption.claims.get("iss").and_then(Value::as_str);
    let Some(provider) = method.provider_named(claimed) else {
        return Err(context.denied(Reason::NoCredentials, "the sign-in method has no provider"));
    };
    let now = context.now;
    let session = Session {
        federation: provider.federation().uid.clone(),
        issuer: provider.issuer().to_owned(),
        subject: assumption.username.clone(),
        sid: None,
        claims: claims_of(assumption, provider.issuer()),
        began: now.0,
        until: u64::MAX,
        proved: now.seconds(),
        generation: String::new(),
        tokens: Tokens::default(),
        refresh_at: u64::MAX,
    };
    method.identity(context, &session)
}
