//! The permissions of people on the objects of our group: one model for every door.
//!
//! In: RoleBindings as [`Binding`]s, a person as the API server names them, and a question or a write. Out: a
//! [`Grant`], or a [`Denial`] that says which permission is missing, where, and who can give it. The same rules are
//! rendered for kubectl: as RBAC ([`rbac`]) and as a ValidatingAdmissionPolicy ([`guard`]).
//! Never: IO, a clock, a Kubernetes client. A role is never a pattern: it lists its permissions, so that a verb that
//! comes later is in no role of today.
//! Start at [`can`]; `write.rs` says which permissions a write needs.

pub mod guard;
pub mod rbac;

mod can;
mod denial;
mod matrix;
mod role;
mod scope;
mod subject;
mod vocabulary;
mod write;

pub use can::{Binding, Bindings, Grant, can, holders, may_grant};
pub use denial::Denial;
pub use matrix::{BindingRow, Cells, Matrix, RoleRow, Tier, matrix};
pub use role::{BuiltInRole, Role};
pub use scope::Scope;
pub use subject::{IssuerNames, Issuers, KUBERNETES, Person, Subject, SubjectError, Target};
pub use vocabulary::{Kind, Permission, PermissionSet, Verb};
pub use write::{Need, Write, may_write, needs, scope_of};

/// The API group of our kinds.
pub const GROUP: &str = "identity-manager.io";
/// The label with the name of the team that an object belongs to.
pub const TEAM_LABEL: &str = "identity-manager.io/team";
/// The annotation that asks for a new key.
pub const ROTATE_ANNOTATION: &str = "identity-manager.io/rotate";
/// The annotation that asks for keys to be revoked.
pub const REVOKE_ANNOTATION: &str = "identity-manager.io/revoke-keys";
