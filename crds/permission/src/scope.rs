//! The three tiers: the system, a project (a namespace), a team (a label in a namespace).

use std::fmt;

use serde::Serialize;

/// The place where a role holds, or where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Every namespace. Of objects only RoleBindings are here, those with the scope `system: {}`.
    System,
    /// A namespace: all of it as the scope of a role; as the place of an object, the part that is of no team.
    Project(String),
    /// The objects of a namespace with the label `identity-manager.io/team`.
    Team {
        /// The namespace.
        project: String,
        /// The label's value.
        team: String,
    },
}

impl Scope {
    /// The place of an object by its namespace and its team; an empty team is none.
    pub fn of(namespace: &str, team: Option<&str>) -> Self {
        match team.filter(|team| !team.is_empty()) {
            Some(team) => Scope::Team { project: namespace.to_owned(), team: team.to_owned() },
            None => Scope::Project(namespace.to_owned()),
        }
    }

    /// Whether a role that holds here holds there.
    pub fn covers(&self, place: &Scope) -> bool {
        match (self, place) {
            (Scope::System, _) => true,
            (Scope::Project(own), Scope::Project(other) | Scope::Team { project: other, .. }) => own == other,
            (Scope::Team { .. }, Scope::Team { .. }) => self == place,
            (Scope::Project(_) | Scope::Team { .. }, _) => false,
        }
    }

    /// The namespace, unless it is the system.
    pub fn project(&self) -> Option<&str> {
        match self {
            Scope::System => None,
            Scope::Project(project) | Scope::Team { project, .. } => Some(project),
        }
    }

    /// The team, where there is one.
    pub fn team(&self) -> Option<&str> {
        match self {
            Scope::Team { team, .. } => Some(team),
            Scope::System | Scope::Project(_) => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::System => f.write_str("the system"),
            Scope::Project(project) => write!(f, "project `{project}`"),
            Scope::Team { project, team } => write!(f, "team `{team}` of project `{project}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_covers_itself_and_those_below() {
        let (shop, bank) = (Scope::of("shop", None), Scope::of("bank", Some("")));
        let (checkout, other) = (Scope::of("shop", Some("checkout")), Scope::of("bank", Some("checkout")));
        assert!(Scope::System.covers(&checkout) && shop.covers(&checkout) && checkout.covers(&checkout));
        assert!(!shop.covers(&bank) && !shop.covers(&other) && !shop.covers(&Scope::System));
        assert!(!checkout.covers(&shop) && !checkout.covers(&other) && !checkout.covers(&Scope::System));
    }
}
