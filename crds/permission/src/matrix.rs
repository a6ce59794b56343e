//! All permissions as one table: those of each built-in role in each tier, and the RoleBindings with their subjects.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Bindings, BuiltInRole, Kind, PermissionSet, Role, Scope, Verb};

/// A kind of scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Tier {
    /// Every namespace.
    System,
    /// A namespace.
    Project,
    /// The objects of a namespace with the label of a team.
    Team,
}

impl Tier {
    /// Every tier, the widest first.
    pub const ALL: &[Tier] = &[Tier::System, Tier::Project, Tier::Team];
}

/// The verbs on each kind, by the names of both; a kind without a verb is left out.
pub type Cells = BTreeMap<&'static str, Vec<&'static str>>;

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// The built-in roles, one row for each tier in which a RoleBinding can give it.
    pub roles: Vec<RoleRow>,
    /// The RoleBindings that give permissions.
    pub bindings: Vec<BindingRow>,
    /// Every verb.
    pub verbs: Vec<&'static str>,
    /// Every kind.
    pub kinds: Vec<&'static str>,
}

/// A built-in role in one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleRow {
    /// The role.
    pub role: &'static str,
    /// The tier.
    pub scope: Tier,
    /// Its permissions.
    pub cells: Cells,
}

/// One RoleBinding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BindingRow {
    /// The object, as `namespace/name`.
    pub binding: String,
    /// Its role; `listed` where it lists permissions itself.
    pub role: &'static str,
    /// The scope in which the role holds, in words.
    pub scope: String,
    /// The tier of that scope.
    pub tier: Tier,
    /// To whom it gives the role.
    pub subjects: Vec<String>,
    /// Its permissions.
    pub cells: Cells,
}

/// The table of all roles and of these RoleBindings.
pub fn matrix(bindings: &Bindings) -> Matrix {
    let of_role = |role: &BuiltInRole| {
        let cells = cells(role.permissions());
        let role = *role;
        role.tiers().iter().map(move |tier| RoleRow { role: role.name(), scope: *tier, cells: cells.clone() })
    };
    let mut rows: Vec<_> = bindings
        .0
        .iter()
        .map(|binding| BindingRow {
            binding: format!("{}/{}", binding.namespace, binding.name),
            role: binding.role.name(),
            scope: binding.scope.to_string(),
            tier: binding.scope.tier(),
            subjects: binding.targets.iter().map(ToString::to_string).collect(),
            cells: cells(Role::permissions(&binding.role)),
        })
        .collect();
    rows.sort_by(|a, b| a.binding.cmp(&b.binding));
    Matrix {
        roles: BuiltInRole::ALL.iter().flat_map(of_role).collect(),
        bindings: rows,
        verbs: Verb::ALL.iter().map(|verb| verb.name()).collect(),
        kinds: Kind::ALL.iter().map(|kind| kind.name()).collect(),
    }
}

fn cells(permissions: PermissionSet) -> Cells {
    let mut cells = Cells::new();
    for permission in permissions.iter() {
        cells.entry(permission.kind.name()).or_default().push(permission.verb.name());
    }
    cells
}

impl BuiltInRole {
    /// The tiers in which a RoleBinding can give it: everything of the system is `SystemAdmin`, and everything of a
    /// project or a team is `Owner`.
    pub const fn tiers(self) -> &'static [Tier] {
        match self {
            BuiltInRole::SystemAdmin => &[Tier::System],
            BuiltInRole::Owner => &[Tier::Project, Tier::Team],
            BuiltInRole::Developer
            | BuiltInRole::CredentialManager
            | BuiltInRole::Auditor
            | BuiltInRole::Operator
            | BuiltInRole::Consumer => Tier::ALL,
        }
    }
}

impl Scope {
    /// The kind of scope that it is.
    pub const fn tier(&self) -> Tier {
        match self {
            Scope::System => Tier::System,
            Scope::Project(_) => Tier::Project,
            Scope::Team { .. } => Tier::Team,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Binding, Target};

    /// The golden file of the roles is the one description of what they mean.
    #[test]
    fn the_rows_of_roles_say_what_the_golden_file_says() {
        let matrix = matrix(&Bindings::default());
        let golden = include_str!("../tests/roles.golden");
        for role in BuiltInRole::ALL {
            let row = matrix.roles.iter().find(|row| row.role == role.name()).expect("a row for each role");
            let mut text = format!("{}\n", role.name());
            for kind in &matrix.kinds {
                let verbs = row.cells.get(kind).map_or_else(|| "-".to_owned(), |verbs| verbs.join(" "));
                text += &format!("  {kind}: {verbs}\n");
            }
            assert!(golden.contains(&text), "{text}");
        }
        let tiers: usize = BuiltInRole::ALL.iter().map(|role| role.tiers().len()).sum();
        assert_eq!(matrix.roles.len(), tiers);
        assert!(matrix.bindings.is_empty());
    }

    #[test]
    fn bindings_have_their_subjects_and_those_that_list_permissions_their_own_cells() {
        let rotate = crate::Permission::new(Verb::Rotate, Kind::Credential).expect("a permission");
        let bindings = Bindings(vec![
            Binding {
                namespace: "shop".into(),
                name: "rotators".into(),
                role: Role::Listed([rotate].into_iter().collect()),
                scope: Scope::of("shop", Some("checkout")),
                targets: vec![Target::User("ana".into()), Target::Group("ops".into())],
            },
            Binding {
                namespace: "idm-system".into(),
                name: "admins".into(),
                role: Role::BuiltIn(BuiltInRole::SystemAdmin),
                scope: Scope::System,
                targets: vec![Target::Group("admins".into())],
            },
        ]);
        let rows = matrix(&bindings).bindings;
        assert_eq!(rows.iter().map(|row| &*row.binding).collect::<Vec<_>>(), ["idm-system/admins", "shop/rotators"]);
        assert_eq!(rows[1].subjects.len(), 2);
        assert!(rows[1].subjects[0].contains("ana"), "{:?}", rows[1].subjects);
        assert_eq!((rows[1].role, rows[1].tier), ("listed", Tier::Team));
        assert_eq!(rows[1].cells, Cells::from([("Credential", vec!["rotate"])]));
        assert_eq!(rows[0].cells.len(), Kind::ALL.len());
        assert_eq!(serde_json::to_value(&rows[0]).expect("JSON")["tier"], "System");
    }
}
