//! A login at a directory that is tried out: every step is told, and nobody is let in.

use idm_authn::ArmedDirectory;
use idm_plan::{Federation, FederationKind, Secrets};
use idm_trust::{LoginAnswer, Password, Steps};
use idm_types::{Reason, Redacted};
use serde_json::{Map, Value};

use crate::Environment;

/// What came of it.
#[derive(Debug)]
pub struct TriedLogin {
    /// The steps, in which nothing secret is written.
    pub steps: Vec<String>,
    /// The person, or the reason of the refusal with its detail.
    pub outcome: Result<TriedPerson, (Reason, String)>,
}

/// A person whose password is right.
#[derive(Debug)]
pub struct TriedPerson {
    /// The claims, as `token` in expressions.
    pub claims: Map<String, Value>,
    /// The roles of the Federation's role mappings.
    pub roles: Vec<String>,
}

impl Environment {
    /// Tries a user name with a password at a directory. The error shows no secret.
    pub async fn try_login(
        &self,
        federation: &Federation,
        secrets: &Secrets,
        username: &str,
        password: Redacted<String>,
    ) -> Result<TriedLogin, String> {
        let FederationKind::Directory(plan) = &federation.kind else {
            return Err(format!("Federation `{}` must be of type `ldap`, `database` or `rest`", federation.key.name));
        };
        let password = Password::new(password).ok_or("the password must not be empty")?;
        let directory = ArmedDirectory::open(federation, plan, &self.outside, secrets)?;
        let steps = Steps::kept();
        let refused = |reason: Reason, detail: String| Err((reason, detail));
        let outcome = match directory.try_out(username, password, &steps).await {
            Ok(LoginAnswer::Verified(person)) => {
                let claims = directory.claims(&person);
                let roles = directory.roles(&claims);
                Ok(TriedPerson { claims, roles })
            }
            Ok(LoginAnswer::Unknown) => refused(Reason::WrongPassword, format!("there is no user `{username}`")),
            Ok(LoginAnswer::Refused(why)) => refused(why.reason(), why.reason().plain().to_owned()),
            Err(error) => refused(error.reason(), error.detail),
        };
        Ok(TriedLogin { steps: steps.read(), outcome })
    }
}
