//! The words of permissions: kinds, verbs, and sets of both.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of our group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// How callers authenticate and what they may do.
    IdentityPolicy,
    /// The keys of one caller.
    Credential,
    /// An outside source of identities.
    Federation,
    /// A role, given to subjects.
    RoleBinding,
    /// Limits that many Credentials share.
    UsagePlan,
    /// The wish of a person for a Credential, and its answer.
    CredentialRequest,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Kind] = &[
        Kind::IdentityPolicy,
        Kind::Credential,
        Kind::Federation,
        Kind::RoleBinding,
        Kind::UsagePlan,
        Kind::CredentialRequest,
    ];

    /// The name of its resource in the API.
    pub const fn resource(self) -> &'static str {
        match self {
            Kind::IdentityPolicy => "identitypolicies",
            Kind::Credential => "credentials",
            Kind::Federation => "federations",
            Kind::RoleBinding => "rolebindings",
            Kind::UsagePlan => "usageplans",
            Kind::CredentialRequest => "credentialrequests",
        }
    }

    /// Its short name in the API.
    pub const fn short_name(self) -> &'static str {
        match self {
            Kind::IdentityPolicy => "idpol",
            Kind::Credential => "idcred",
            Kind::Federation => "idfed",
            Kind::RoleBinding => "idrb",
            Kind::UsagePlan => "idplan",
            Kind::CredentialRequest => "idreq",
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::IdentityPolicy => "IdentityPolicy",
            Kind::Credential => "Credential",
            Kind::Federation => "Federation",
            Kind::RoleBinding => "RoleBinding",
            Kind::UsagePlan => "UsagePlan",
            Kind::CredentialRequest => "CredentialRequest",
        }
    }
}

/// A kind by its name, that of its resource or its short name, in any case, with or without the group.
impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix(".identity-manager.io").unwrap_or(&lower);
        let known = |kind: &&Kind| {
            lower == kind.resource() || lower == kind.name().to_ascii_lowercase() || lower == kind.short_name()
        };
        Kind::ALL.iter().find(known).copied().ok_or_else(|| {
            format!(
                "`{text}` is no kind of idm: use identitypolicy, credential, federation, rolebinding, usageplan or \
                 credentialrequest"
            )
        })
    }
}

/// A deed that a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Verb {
    /// Get, list and watch.
    Read,
    /// Create an object. Of a CredentialRequest: ask, in the own name only, and withdraw what one asked for.
    Create,
    /// Change an object, except for the parts that an action has for itself.
    Update,
    /// Delete an object.
    Delete,
    /// Ask for a new key of a Credential or of a policy's token service: the annotation `identity-manager.io/rotate`.
    Rotate,
    /// Suspend a Credential (`spec.suspend` becomes true), or revoke keys of it by the annotation
    /// `identity-manager.io/revoke-keys`.
    Revoke,
    /// Answer CredentialRequests of others. To approve one makes a Credential, so that takes `Create` of Credentials
    /// beside it.
    Approve,
    /// Decide where a policy is in force: its `spec.targetRefs`, also of a new one.
    Deploy,
    /// See the names, fingerprints and times of the Secrets that an object refers to; never their values.
    ReadSecretMetadata,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Verb] = &[
        Verb::Read,
        Verb::Create,
        Verb::Update,
        Verb::Delete,
        Verb::Rotate,
        Verb::Revoke,
        Verb::Approve,
        Verb::Deploy,
        Verb::ReadSecretMetadata,
    ];

    /// Its spelling in RBAC and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Read => "get",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Rotate => "rotate",
            Verb::Revoke => "revoke",
            Verb::Approve => "approve",
            Verb::Deploy => "deploy",
            Verb::ReadSecretMetadata => "readSecretMetadata",
        }
    }

    /// Whether the verb means anything for a kind.
    pub const fn is_of(self, kind: Kind) -> bool {
        match self {
            Verb::Read | Verb::Create | Verb::Update | Verb::Delete => true,
            Verb::Rotate => matches!(kind, Kind::Credential | Kind::IdentityPolicy),
            Verb::Revoke | Verb::Approve => matches!(kind, Kind::Credential),
            Verb::Deploy => matches!(kind, Kind::IdentityPolicy),
            Verb::ReadSecretMetadata => matches!(kind, Kind::Credential | Kind::Federation),
        }
    }
}

/// A verb by its name or by those of the Kubernetes verbs that it stands for.
impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "read" | "list" | "watch" => return Ok(Verb::Read),
            "patch" => return Ok(Verb::Update),
            "deletecollection" => return Ok(Verb::Delete),
            _ => {}
        }
        Verb::ALL.iter().find(|verb| verb.name().eq_ignore_ascii_case(&lower)).copied().ok_or_else(|| {
            let names: Vec<_> = Verb::ALL.iter().map(|verb| verb.name()).collect();
            format!("`{text}` is no verb of idm: use one of {}", names.join(", "))
        })
    }
}

/// One verb on one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Permission {
    /// The kind.
    pub kind: Kind,
    /// The verb.
    pub verb: Verb,
}

impl Permission {
    /// A permission, unless the verb means nothing for the kind.
    pub fn new(verb: Verb, kind: Kind) -> Option<Self> {
        verb.is_of(kind).then_some(Self { kind, verb })
    }

    /// Every permission.
    pub fn all() -> impl Iterator<Item = Permission> {
        let verbs = |kind: &'static Kind| Verb::ALL.iter().filter_map(move |verb| Permission::new(*verb, *kind));
        Kind::ALL.iter().flat_map(verbs)
    }

    const fn bit(self) -> u64 {
        1 << (self.kind as u64 * 10 + self.verb as u64)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.name(), self.kind.name())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermissionSet(u64);

impl PermissionSet {
    /// Every permission.
    pub fn everything() -> Self {
        Permission::all().collect()
    }

    /// Whether a permission is in it.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether all of another set is in it.
    pub const fn includes(self, other: PermissionSet) -> bool {
        self.0 & other.0 == other.0
    }

    /// Its permissions, by kind and verb.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::all().filter(move |permission| self.contains(*permission))
    }

    /// Its verbs on a kind.
    pub fn verbs(self, kind: Kind) -> impl Iterator<Item = Verb> {
        self.iter().filter(move |permission| permission.kind == kind).map(|permission| permission.verb)
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, permission| bits | permission.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_kubectl_are_understood_and_others_are_refused() {
        assert_eq!("patch".parse(), Ok(Verb::Update));
        assert_eq!("watch".parse(), Ok(Verb::Read));
        assert_eq!("readsecretmetadata".parse(), Ok(Verb::ReadSecretMetadata));
        assert_eq!("Credentials.identity-manager.io".parse(), Ok(Kind::Credential));
        assert!("*".parse::<Verb>().is_err() && "*".parse::<Kind>().is_err(), "there are no patterns");
    }

    #[test]
    fn every_permission_has_a_bit_of_its_own() {
        let all: Vec<_> = Permission::all().collect();
        assert_eq!(all.len(), 31);
        assert_eq!(PermissionSet::everything().0.count_ones(), 31);
        assert!(Permission::new(Verb::Rotate, Kind::Federation).is_none());
    }
}
