//! The one refusal of every door: the permission that is missing, the place, who can give it, and the command that says
//! who has it. Each door renders it: as JSON, as a line of text, or in the words of the API server.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Kind, Permission, Role, Scope};

/// Between a refusal and the command that says who may; the guard writes it, too.
pub(crate) const WHO_MAY: &str = "; who may: ";
/// The beginning of that command.
pub(crate) const WHO_CAN: &str = "idm who-can ";
/// The most subjects that a line names.
const NAMED: usize = 10;

/// A permission that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Missing")]
pub struct Denial {
    /// The id under which the door that refused has it in its log. A question refuses nothing and has none; nor has the
    /// guard, whose refusals the API server's audit has under an id of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The permission, for example `update Credential`, or `grant Owner`.
    pub permission: String,
    /// The scope in which it is missing.
    pub scope: String,
    /// The subjects that can give it there, as far as the door knows them.
    pub granted_by: Vec<String>,
    /// Its verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace; unset where it is missing in the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The team, where the object belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The command that says who has it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who_can: Option<String>,
}

impl Denial {
    /// A permission on a kind of ours.
    pub fn of(permission: Permission, place: &Scope) -> Self {
        let Permission { verb, kind } = permission;
        let denial = Self::at(permission.to_string(), place);
        let who_can = Some(who_can(verb.name(), kind, place));
        Self { verb: Some(verb.name().to_owned()), kind: Some(kind.name().to_owned()), who_can, ..denial }
    }

    /// A role that includes the one which is given to others.
    pub fn of_grant(role: &Role, place: &Scope) -> Self {
        let kind = Kind::RoleBinding;
        let denial = Self::at(format!("grant {}", role.name()), place);
        let who_can = Some(who_can("create", kind, place));
        Self { verb: Some("grant".to_owned()), kind: Some(kind.name().to_owned()), who_can, ..denial }
    }

    /// Something that no person may do.
    pub fn of_nobody(why: &str, namespace: &str) -> Self {
        Self::at(why.to_owned(), &Scope::Project(namespace.to_owned()))
    }

    /// A right on a kind that is not ours, which roles of the cluster give.
    pub fn of_other_kind(verb: &str, kind: &str, namespace: Option<&str>) -> Self {
        let place = namespace.map_or(Scope::System, |namespace| Scope::Project(namespace.to_owned()));
        let denial = Self::at(format!("{verb} {kind}"), &place);
        Self { verb: Some(verb.to_owned()), kind: Some(kind.to_owned()), ..denial }
    }

    fn at(permission: String, place: &Scope) -> Self {
        Self {
            decision: None,
            permission,
            scope: place.to_string(),
            granted_by: Vec::new(),
            verb: None,
            kind: None,
            namespace: place.project().map(str::to_owned),
            team: place.team().map(str::to_owned),
            who_can: None,
        }
    }

    /// The same, with the subjects that can give it.
    #[must_use]
    pub fn by(self, granted_by: impl IntoIterator<Item = String>) -> Self {
        Self { granted_by: granted_by.into_iter().collect(), ..self }
    }

    /// The same, as the refusal of this id.
    #[must_use]
    pub fn under(self, decision: impl Into<String>) -> Self {
        Self { decision: Some(decision.into()), ..self }
    }

    /// The same with what the guard's message says more exactly: its verb, the team, or the system. A message of
    /// anybody else changes nothing.
    #[must_use]
    pub fn as_guard_says(self, message: &str) -> Self {
        let line = message.split(WHO_MAY).nth(1).and_then(|rest| rest.lines().next()).map(str::trim);
        let Some(line) = line.filter(|line| line.starts_with(WHO_CAN)) else { return self };
        let mut words = line.split_whitespace().skip(2);
        let verb = words.next().map(str::to_owned).or_else(|| self.verb.clone());
        let after = |option: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != option);
            words.nth(1).map(str::to_owned)
        };
        let namespace = after("-n").or_else(|| self.namespace.clone()).unwrap_or_default();
        let is_system = line.split_whitespace().any(|word| word == "--system");
        let place = if is_system { Scope::System } else { Scope::of(&namespace, after("--team").as_deref()) };
        let permission = match (&verb, &self.kind) {
            (Some(verb), Some(kind)) => format!("{verb} {kind}"),
            _ => self.permission.clone(),
        };
        let Self { decision, granted_by, kind, .. } = self;
        Self { decision, granted_by, kind, verb, who_can: Some(line.to_owned()), ..Self::at(permission, &place) }
    }
}

/// The command that says who holds a permission at a place. It has no form for all namespaces at once, where the matrix
/// answers.
fn who_can(verb: &str, kind: Kind, place: &Scope) -> String {
    let kind_name = kind.name().to_ascii_lowercase();
    match place {
        Scope::System if kind != Kind::RoleBinding => "idm access-matrix --all-namespaces".to_owned(),
        Scope::System => format!("{WHO_CAN}{verb} {kind_name} --system"),
        Scope::Project(project) => format!("{WHO_CAN}{verb} {kind_name} -n {project}"),
        Scope::Team { project, team } => format!("{WHO_CAN}{verb} {kind_name} -n {project} --team {team}"),
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is missing in {}", self.permission, self.scope)?;
        if !self.granted_by.is_empty() {
            let names: Vec<_> = self.granted_by.iter().take(NAMED).map(String::as_str).collect();
            write!(f, "; it can be given by {}", names.join(", "))?;
            let more = self.granted_by.len().saturating_sub(names.len());
            if more > 0 {
                write!(f, " and {more} more")?;
            }
        }
        if let Some(line) = &self.who_can {
            write!(f, "{WHO_MAY}{line}")?;
        }
        match &self.decision {
            Some(decision) => write!(f, "; decision {decision}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verb;

    fn permission(verb: Verb, kind: Kind) -> Permission {
        Permission::new(verb, kind).expect("it means something")
    }

    #[test]
    fn a_refusal_says_what_is_missing_who_gives_it_who_has_it_and_its_id() {
        let place = Scope::of("shop", Some("web"));
        let denial = Denial::of(permission(Verb::Rotate, Kind::Credential), &place);
        let denial = denial.by((0..12).map(|n| format!("user u{n}"))).under("01KF");
        let text = denial.to_string();
        assert!(text.starts_with("`rotate Credential` is missing in team `web` of project `shop`; it can be given"));
        assert!(text.contains("user u9 and 2 more; who may: idm who-can rotate credential -n shop --team web; "));
        assert!(text.ends_with("; decision 01KF"), "{text}");
        let json = serde_json::to_value(&denial).expect("JSON");
        assert_eq!(json["whoCan"], "idm who-can rotate credential -n shop --team web");
        assert_eq!((&json["verb"], &json["kind"]), (&"rotate".into(), &"Credential".into()));
        assert_eq!((&json["namespace"], &json["team"]), (&"shop".into(), &"web".into()));
        assert_eq!((&json["decision"], json["grantedBy"].as_array().map(Vec::len)), (&"01KF".into(), Some(12)));
    }

    #[test]
    fn every_command_is_one_that_idm_takes() {
        let system = Denial::of(permission(Verb::Create, Kind::RoleBinding), &Scope::System);
        assert_eq!(system.who_can.as_deref(), Some("idm who-can create rolebinding --system"));
        let all = Denial::of(permission(Verb::Read, Kind::Credential), &Scope::System);
        assert_eq!(all.who_can.as_deref(), Some("idm access-matrix --all-namespaces"));
        assert_eq!(Denial::of_nobody("nobody may", "shop").who_can, None);
        assert_eq!(Denial::of_other_kind("get", "HTTPRoute", None).namespace, None);
    }

    #[test]
    fn the_guards_own_words_are_taken_over_and_nobody_elses() {
        let known = Denial::of(permission(Verb::Update, Kind::Credential), &Scope::of("shop", None)).under("01KF");
        let told = "ValidatingAdmissionPolicy 'idm-guard' denied request: user ana may not revoke credentials of team \
                    web in namespace shop; who may: idm who-can revoke credentials -n shop --team web";
        let exact = known.clone().as_guard_says(told);
        assert_eq!((exact.permission.as_str(), exact.verb.as_deref()), ("revoke Credential", Some("revoke")));
        assert_eq!((exact.scope.as_str(), exact.team.as_deref()), ("team `web` of project `shop`", Some("web")));
        assert_eq!(exact.who_can.as_deref(), Some("idm who-can revoke credentials -n shop --team web"));
        assert_eq!(exact.decision.as_deref(), Some("01KF"));
        let system = "user ana may not create rolebindings of the system in namespace idm-system; who may: idm who-can \
                      create rolebindings -n idm-system --system";
        assert_eq!(known.clone().as_guard_says(system).scope, "the system");
        for other in ["credentials is forbidden", "; who may: rm -rf /", ""] {
            assert_eq!(known.clone().as_guard_says(other), known);
        }
    }
}
