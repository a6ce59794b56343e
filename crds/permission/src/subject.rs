//! Subjects: the people, groups and ServiceAccounts of bindings, under the names that the API server gives them.
//!
//! Every door asks the API server (or the token review of one) who somebody is, so there is one namespace of names:
//! that of Kubernetes. A subject with an issuer is translated into it by the prefixes of the API server.

use serde::{Deserialize, Serialize};

/// As an issuer: the name stands as the API server has it.
pub const KUBERNETES: &str = "kubernetes";

/// A subject as a binding has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user.
    User {
        /// The name, without the prefix of the issuer.
        name: String,
        /// The issuer that vouches for it.
        issuer: Option<String>,
    },
    /// Everybody in a group.
    Group {
        /// The name, without the prefix of the issuer.
        name: String,
        /// The issuer that vouches for it.
        issuer: Option<String>,
    },
    /// A ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// A subject under its name in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A user.
    User(String),
    /// Everybody in a group.
    Group(String),
    /// A ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Target {
    /// Whether a person is meant.
    pub fn is(&self, person: &Person) -> bool {
        match self {
            Target::User(name) => *name == person.username,
            Target::Group(name) => person.groups.contains(name),
            Target::ServiceAccount { namespace, name } => {
                person.username == format!("system:serviceaccount:{namespace}:{name}")
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::User(name) => write!(f, "user {name}"),
            Target::Group(name) => write!(f, "group {name}"),
            Target::ServiceAccount { namespace, name } => write!(f, "serviceaccount {namespace}/{name}"),
        }
    }
}

/// A person or program, as the API server names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The user name, with its prefix.
    pub username: String,
    /// The groups, with their prefixes.
    pub groups: Vec<String>,
}

/// How the API server names the users and groups of an issuer: its `--oidc-username-prefix` and `--oidc-groups-prefix`,
/// or those of its structured configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerNames {
    /// The issuer.
    pub issuer: String,
    /// In front of user names.
    #[serde(default)]
    pub username_prefix: String,
    /// In front of names of groups.
    #[serde(default)]
    pub groups_prefix: String,
}

/// The issuers that the API server trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Issuers(pub Vec<IssuerNames>);

/// A subject that has no name in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The name may be that of several people.
    #[error(
        "`issuer` must be set, because the API server trusts several: the same name is somebody else at each; \
         `kubernetes` takes the name as the API server has it"
    )]
    Ambiguous,
    /// The prefixes of the issuer are not known.
    #[error("the API server is not known to trust issuer `{0}`: add it to `permissions.issuers` of the chart")]
    UnknownIssuer(String),
    /// A name that Kubernetes keeps for itself.
    #[error("`{0}` is a name that Kubernetes keeps for itself; a ServiceAccount is given as `serviceAccount`")]
    Reserved(String),
}

impl Issuers {
    /// A subject's name in Kubernetes.
    ///
    /// # Errors
    /// It may be the name of several people, of none, or of Kubernetes itself.
    pub fn resolve(&self, subject: &Subject) -> Result<Target, SubjectError> {
        let (name, issuer, is_user) = match subject {
            Subject::ServiceAccount { namespace, name } => {
                return Ok(Target::ServiceAccount { namespace: namespace.clone(), name: name.clone() });
            }
            Subject::User { name, issuer } => (name, issuer, true),
            Subject::Group { name, issuer } => (name, issuer, false),
        };
        let prefix = match issuer.as_deref() {
            None if self.0.len() > 1 => return Err(SubjectError::Ambiguous),
            None | Some(KUBERNETES) => "",
            Some(issuer) => {
                let names = self.0.iter().find(|names| names.issuer == issuer);
                let names = names.ok_or_else(|| SubjectError::UnknownIssuer(issuer.to_owned()))?;
                if is_user { &names.username_prefix } else { &names.groups_prefix }
            }
        };
        let full = format!("{prefix}{name}");
        if full.starts_with("system:") {
            return Err(SubjectError::Reserved(full));
        }
        Ok(if is_user { Target::User(full) } else { Target::Group(full) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuers(n: usize) -> Issuers {
        let names = |i| IssuerNames {
            issuer: format!("https://idp{i}"),
            username_prefix: format!("idp{i}:"),
            groups_prefix: format!("idp{i}-group:"),
        };
        Issuers((0..n).map(names).collect())
    }

    fn user(name: &str, issuer: Option<&str>) -> Subject {
        Subject::User { name: name.into(), issuer: issuer.map(str::to_owned) }
    }

    #[test]
    fn r09_the_same_name_of_two_issuers_is_two_people() {
        let issuers = issuers(2);
        assert_eq!(issuers.resolve(&user("ana", Some("https://idp0"))), Ok(Target::User("idp0:ana".into())));
        assert_eq!(issuers.resolve(&user("ana", Some("https://idp1"))), Ok(Target::User("idp1:ana".into())));
        assert_eq!(issuers.resolve(&user("ana", None)), Err(SubjectError::Ambiguous));
        assert_eq!(issuers.resolve(&user("ana", Some(KUBERNETES))), Ok(Target::User("ana".into())));
        let person = Person { username: "idp1:ana".into(), groups: vec![] };
        assert!(!Target::User("idp0:ana".into()).is(&person) && Target::User("idp1:ana".into()).is(&person));
        let robot = Target::ServiceAccount { namespace: "a".into(), name: "robot".into() };
        assert!(robot.is(&Person { username: "system:serviceaccount:a:robot".into(), groups: vec![] }));
        assert!(!robot.is(&Person { username: "system:serviceaccount:b:robot".into(), groups: vec![] }));
    }

    #[test]
    fn r10_no_subject_becomes_a_name_of_kubernetes_itself() {
        let open = Issuers(vec![IssuerNames { issuer: "https://idp".into(), ..IssuerNames::default() }]);
        let masters = Subject::Group { name: "system:masters".into(), issuer: Some("https://idp".into()) };
        assert!(matches!(open.resolve(&masters), Err(SubjectError::Reserved(_))));
        let split = Issuers(vec![IssuerNames {
            issuer: "https://idp".into(),
            groups_prefix: "sys".into(),
            ..IssuerNames::default()
        }]);
        let masters = Subject::Group { name: "tem:masters".into(), issuer: Some("https://idp".into()) };
        assert!(matches!(split.resolve(&masters), Err(SubjectError::Reserved(_))));
        assert!(matches!(Issuers::default().resolve(&user("system:admin", None)), Err(SubjectError::Reserved(_))));
        let unknown = user("ana", Some("https://other"));
        assert!(matches!(open.resolve(&unknown), Err(SubjectError::UnknownIssuer(_))));
    }
}
