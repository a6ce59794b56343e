//! Roles: the built-in ones, whose meaning is a golden file, and lists of permissions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Kind, Permission, PermissionSet, Verb};

/// A built-in role. `tests/roles.golden` holds what each of them may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BuiltInRole {
    /// Everything, in every namespace. Only with the scope `system: {}`.
    SystemAdmin,
    /// Everything in a project or a team, roles of others included.
    Owner,
    /// Policies and where they are in force; reads the rest.
    Developer,
    /// Credentials: makes, rotates, revokes and deletes them, and their UsagePlans; answers requests; reads the rest.
    CredentialManager,
    /// Reads everything, and the metadata of Secrets.
    Auditor,
    /// Keeps things running: rotates keys, revokes Credentials, moves policies to other targets; reads everything.
    Operator,
    /// Reads the policies of the APIs that it calls, and asks for Credentials.
    Consumer,
}

impl BuiltInRole {
    /// Every built-in role.
    pub const ALL: &[BuiltInRole] = &[
        BuiltInRole::SystemAdmin,
        BuiltInRole::Owner,
        BuiltInRole::Developer,
        BuiltInRole::CredentialManager,
        BuiltInRole::Auditor,
        BuiltInRole::Operator,
        BuiltInRole::Consumer,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            BuiltInRole::SystemAdmin => "SystemAdmin",
            BuiltInRole::Owner => "Owner",
            BuiltInRole::Developer => "Developer",
            BuiltInRole::CredentialManager => "CredentialManager",
            BuiltInRole::Auditor => "Auditor",
            BuiltInRole::Operator => "Operator",
            BuiltInRole::Consumer => "Consumer",
        }
    }

    /// Its permissions.
    pub fn permissions(self) -> PermissionSet {
        use Kind::{Credential, CredentialRequest, Federation, IdentityPolicy, UsagePlan};
        use Verb::{Approve, Create, Delete, Deploy, Read, ReadSecretMetadata, Revoke, Rotate, Update};
        let more: &[(Kind, &[Verb])] = match self {
            BuiltInRole::SystemAdmin | BuiltInRole::Owner => return PermissionSet::everything(),
            BuiltInRole::Developer => {
                &[(IdentityPolicy, &[Create, Update, Delete, Rotate, Deploy]), (CredentialRequest, &[Create])]
            }
            BuiltInRole::CredentialManager => &[
                (Credential, &[Create, Update, Delete, Rotate, Revoke, Approve, ReadSecretMetadata]),
                (UsagePlan, &[Create, Update, Delete]),
                (CredentialRequest, &[Create, Update, Delete]),
            ],
            BuiltInRole::Auditor => &[(Credential, &[ReadSecretMetadata]), (Federation, &[ReadSecretMetadata])],
            BuiltInRole::Operator => &[
                (IdentityPolicy, &[Rotate, Deploy]),
                (Credential, &[Rotate, Revoke, ReadSecretMetadata]),
                (Federation, &[ReadSecretMetadata]),
            ],
            BuiltInRole::Consumer => {
                let all = [(Read, IdentityPolicy), (Read, CredentialRequest), (Create, CredentialRequest)];
                return all.into_iter().filter_map(|(verb, kind)| Permission::new(verb, kind)).collect();
            }
        };
        let reads = Kind::ALL.iter().filter_map(|kind| Permission::new(Read, *kind));
        let more = more.iter().flat_map(|(kind, verbs)| verbs.iter().filter_map(|verb| Permission::new(*verb, *kind)));
        reads.chain(more).collect()
    }
}

/// The permissions that a binding gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A built-in role.
    BuiltIn(BuiltInRole),
    /// A list of permissions of the binding itself. No object holds it for others, so that nobody changes what many
    /// have by editing one role.
    Listed(PermissionSet),
}

impl Role {
    /// Its permissions.
    pub fn permissions(&self) -> PermissionSet {
        match self {
            Role::BuiltIn(role) => role.permissions(),
            Role::Listed(set) => *set,
        }
    }

    /// Its name in messages, and in the rule by which the API server checks who may grant it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::BuiltIn(role) => role.name(),
            Role::Listed(_) => "listed",
        }
    }

    /// Whether the holder may grant another role where this one holds: it includes the permission to make RoleBindings
    /// and all of the other role. A list of permissions is granted by those who have everything: the API server cannot
    /// compare lists.
    pub fn may_grant(&self, other: &Role) -> bool {
        let own = self.permissions();
        let binds = Permission::new(Verb::Create, Kind::RoleBinding).is_some_and(|binds| own.contains(binds));
        let enough = match other {
            Role::BuiltIn(role) => role.permissions(),
            Role::Listed(_) => PermissionSet::everything(),
        };
        binds && own.includes(enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A role that changes its meaning breaks or opens installations: the change is seen here.
    #[test]
    fn r18_the_built_in_roles_are_what_the_golden_file_says() {
        let mut text = String::new();
        for role in BuiltInRole::ALL {
            text += &format!("{}\n", role.name());
            for kind in Kind::ALL {
                let verbs: Vec<_> = role.permissions().verbs(*kind).map(Verb::name).collect();
                text +=
                    &format!("  {}: {}\n", kind.name(), if verbs.is_empty() { "-".into() } else { verbs.join(" ") });
            }
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/roles.golden");
        if std::env::var_os("IDM_UPDATE").is_some() {
            std::fs::write(&path, &text).expect("the golden file");
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text, "the meaning of a role changed");
    }

    #[test]
    fn a_role_grants_no_more_than_itself() {
        let owner = Role::BuiltIn(BuiltInRole::Owner);
        let manager = Role::BuiltIn(BuiltInRole::CredentialManager);
        assert!(owner.may_grant(&manager) && owner.may_grant(&Role::Listed(PermissionSet::everything())));
        assert!(!manager.may_grant(&manager), "it makes no RoleBindings");
        let binder: PermissionSet = Role::BuiltIn(BuiltInRole::Auditor)
            .permissions()
            .iter()
            .chain(Permission::new(Verb::Create, Kind::RoleBinding))
            .collect();
        let binder = Role::Listed(binder);
        assert!(binder.may_grant(&Role::BuiltIn(BuiltInRole::Auditor)));
        assert!(!binder.may_grant(&manager) && !binder.may_grant(&binder));
    }
}
