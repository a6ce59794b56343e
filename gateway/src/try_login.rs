//! A login at a directory that is tried out: every step is told, and nobody is let in.

use idm_authn::ArmedDirectory;
use idm_plan::{Federation, FederationKind, Secrets};
use idm_trust::{Group, LoginAnswer, Password, Person, Steps};
use idm_types::{Reason, Redacted};
use serde_json::{Map, Value};

use crate::{Environment, Gateway};

/// The outcome of a try.
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
    /// The groups that count.
    pub groups: Vec<TriedGroup>,
    /// Groups that role mappings name, and that the person is not in.
    pub unmatched: Vec<String>,
}

/// A group of a person.
#[derive(Debug)]
pub struct TriedGroup {
    /// Its short name.
    pub name: String,
    /// Its distinguished name, where it has one.
    pub dn: Option<String>,
    /// The names by which role mappings mean it.
    pub mapped_by: Vec<String>,
}

fn tried(directory: &ArmedDirectory, person: &Person) -> TriedPerson {
    let claims = directory.claims(person);
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let of = |group: &Group| TriedGroup {
        name: group.name.clone(),
        dn: group.dn.as_ref().map(|dn| dn.text().to_owned()),
        mapped_by: owned(directory.names_of(group)),
    };
    let groups: Vec<TriedGroup> = person.groups.iter().map(of).collect();
    let is_matched = |name: &&str| groups.iter().any(|group| group.mapped_by.iter().any(|by| by == name));
    let unmatched = owned(directory.mapped_groups().filter(|name| !is_matched(name)).collect());
    TriedPerson { roles: directory.roles(&claims), claims, groups, unmatched }
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
            Ok(LoginAnswer::Verified(person)) => Ok(tried(&directory, &person)),
            Ok(LoginAnswer::Unknown | LoginAnswer::Changed) => {
                refused(Reason::WrongPassword, format!("there is no user `{username}`"))
            }
            Ok(LoginAnswer::Refused(why)) => {
                refused(why.reason(), why.detail().unwrap_or(why.reason().plain()).to_owned())
            }
            Err(error) => refused(error.reason(), error.detail),
        };
        Ok(TriedLogin { steps: steps.read(), outcome })
    }
}

impl Gateway {
    /// Tries a login as [`Environment::try_login`] does, by the ways to outside servers that this gateway has.
    pub async fn try_login(
        &self,
        federation: &Federation,
        secrets: &Secrets,
        username: &str,
        password: Redacted<String>,
    ) -> Result<TriedLogin, String> {
        self.environment.try_login(federation, secrets, username, password).await
    }
}
