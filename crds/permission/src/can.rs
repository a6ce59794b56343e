//! The one decision: may a person do this here, by which binding, and if not, who can give it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{BuiltInRole, Denial, Permission, Person, Role, Scope, Target};

/// One RoleBinding that gives permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The role that it gives.
    pub role: Role,
    /// The scope in which that holds.
    pub scope: Scope,
    /// To whom.
    pub targets: Vec<Target>,
}

/// All RoleBindings that give permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings(pub Vec<Binding>);

/// Evidence that a permission is held: the binding that gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The RoleBinding, as `namespace/name`.
    pub binding: String,
    /// Its role.
    pub role: &'static str,
    /// The scope in which that role holds.
    pub scope: Scope,
}

impl Bindings {
    /// The bindings of a person whose scope covers a place.
    fn of<'a>(&'a self, person: &'a Person, place: &'a Scope) -> impl Iterator<Item = &'a Binding> {
        let here = self.0.iter().filter(|binding| binding.scope.covers(place));
        here.filter(|binding| binding.targets.iter().any(|target| target.is(person)))
    }
}

impl Binding {
    fn grant(&self) -> Grant {
        let binding = format!("{}/{}", self.namespace, self.name);
        Grant { binding, role: self.role.name(), scope: self.scope.clone() }
    }
}

/// Whether a person holds a permission at a place.
///
/// # Errors
/// No binding gives it.
pub fn can(bindings: &Bindings, person: &Person, permission: Permission, place: &Scope) -> Result<Grant, Box<Denial>> {
    let gives = |binding: &&Binding| binding.role.permissions().contains(permission);
    bindings.of(person, place).find(gives).map(Binding::grant).ok_or_else(|| {
        let roles = BuiltInRole::ALL.iter().copied().filter(|role| role.permissions().contains(permission));
        let roles: Vec<_> = roles.map(Role::BuiltIn).collect();
        let granted_by = grantors(bindings, place, |binding| roles.iter().any(|role| binding.may_grant(role)));
        Box::new(Denial::of(permission, place).by(granted_by))
    })
}

/// Whether a person may give a role to others at a place, beside the permission to write the RoleBinding: it takes one
/// role that holds there and includes all of it.
///
/// # Errors
/// No binding of the person has such a role.
pub fn may_grant(bindings: &Bindings, person: &Person, role: &Role, place: &Scope) -> Result<Grant, Box<Denial>> {
    let found = bindings.of(person, place).find(|binding| binding.may_grant(role)).map(Binding::grant);
    let granted_by = || grantors(bindings, place, |binding| binding.may_grant(role));
    found.ok_or_else(|| Box::new(Denial::of_grant(role, place).by(granted_by())))
}

impl Binding {
    /// `SystemAdmin` is for the system alone; everywhere else `Owner` is the same.
    fn may_grant(&self, role: &Role) -> bool {
        (*role != Role::BuiltIn(BuiltInRole::SystemAdmin) || self.scope == Scope::System) && self.role.may_grant(role)
    }
}

fn grantors(bindings: &Bindings, place: &Scope, may: impl Fn(&Binding) -> bool) -> Vec<String> {
    let here = bindings.0.iter().filter(|binding| binding.scope.covers(place) && may(binding));
    here.flat_map(|binding| &binding.targets).collect::<BTreeSet<_>>().into_iter().map(Target::to_string).collect()
}

/// The subjects that hold a permission at a place, each with the bindings that give it.
pub fn holders(bindings: &Bindings, permission: Permission, place: &Scope) -> Vec<(Target, Grant)> {
    let here = bindings.0.iter().filter(|binding| binding.scope.covers(place));
    let giving = here.filter(|binding| binding.role.permissions().contains(permission));
    let mut all: Vec<_> =
        giving.flat_map(|binding| binding.targets.iter().map(|target| (target.clone(), binding.grant()))).collect();
    all.sort_by(|(a, x), (b, y)| (a, &x.binding).cmp(&(b, &y.binding)));
    all
}
