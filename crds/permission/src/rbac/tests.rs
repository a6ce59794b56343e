use super::*;
use crate::Binding;

fn binding(namespace: &str, role: Role, scope: Scope, users: impl IntoIterator<Item = String>) -> Binding {
    let targets = users.into_iter().map(Target::User).collect();
    Binding { namespace: namespace.into(), name: "b".into(), role, scope, targets }
}

fn named<'a>(all: &'a [Native], name: &str) -> &'a Native {
    all.iter().find(|native| native.name == name).unwrap_or_else(|| panic!("{name} of {all:#?}"))
}

#[test]
fn r16_a_thousand_teams_become_one_binding_for_each_role_of_each() {
    let roles = BuiltInRole::ALL.iter().copied().filter(|role| *role != BuiltInRole::SystemAdmin);
    let roles: Vec<_> = roles.collect();
    let mut all = Bindings::default();
    for team in 0..1000 {
        for role in &roles {
            // Each of the five comes with an object of its own.
            for n in 0..5 {
                let scope = Scope::of("shop", Some(&format!("t{team}")));
                let user = format!("{}-{team}-{n}", role.name());
                all.0.push(binding("shop", Role::BuiltIn(*role), scope, [user]));
            }
        }
    }
    let started = std::time::Instant::now();
    let native = compile(&all);
    let took = started.elapsed();
    let of_roles = native.iter().filter(|native| native.kind == "RoleBinding" && native.name.starts_with("idm:team:"));
    assert_eq!(of_roles.count(), 1000 * roles.len());
    let blocks: Vec<_> = native.iter().filter(|native| native.body["roleRef"]["kind"] == "ClusterRole").collect();
    assert!(blocks.len() <= 20 * 15, "{} bindings of blocks", blocks.len());
    let largest = blocks.iter().map(|native| native.body.to_string().len()).max().unwrap_or_default();
    assert!(largest < 400_000, "an object of {largest} bytes");
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}

#[test]
fn r01_a_role_of_a_team_or_of_parts_reaches_the_guard_and_not_beyond() {
    let team = Scope::of("shop", Some("checkout"));
    let project = Scope::of("shop", None);
    let developer = Role::BuiltIn(BuiltInRole::Developer);
    let all = compile(&Bindings(vec![
        binding("shop", developer.clone(), team, ["ana".into()]),
        binding("shop", developer, project.clone(), ["pam".into()]),
        binding("shop", Role::BuiltIn(BuiltInRole::Operator), project, ["oleg".into()]),
    ]));
    let users = |name: &str| named(&all, name).body["subjects"].to_string();
    let guarded = users("idm:guarded:update:identitypolicies");
    assert!(guarded.contains("ana") && guarded.contains("oleg") && !guarded.contains("pam"), "{guarded}");
    assert!(users("idm:all:update:identitypolicies").contains("pam"));
    assert!(users("idm:guarded:update:credentials").contains("oleg"), "it rotates, and edits nothing");
    assert!(all.iter().all(|native| native.guarded == native.name.starts_with("idm:guarded:")));
    let virtual_ones = &named(&all, "idm:team:checkout:Developer").body["rules"];
    assert!(
        virtual_ones
            .as_array()
            .is_some_and(|rules| rules.iter().all(|rule| rule["resourceNames"] == json!(["checkout"])))
    );
}

#[test]
fn who_gives_roles_gives_those_of_the_own_team_by_their_names() {
    let team = Scope::of("shop", Some("checkout"));
    let owner = Role::BuiltIn(BuiltInRole::Owner);
    let all = compile(&Bindings(vec![
        binding("shop", owner.clone(), team, ["ana".into()]),
        binding("shop", owner, Scope::of("shop", None), ["pam".into()]),
    ]));
    let names = |name: &str| {
        let rules = named(&all, name).body["rules"].clone();
        let grant =
            rules.as_array().and_then(|rules| rules.iter().find(|rule| rule["verbs"] == json!(["bind"]))).cloned();
        grant.expect("it may give roles")["resourceNames"].to_string()
    };
    let (team, project) = (names("idm:team:checkout:Owner"), names("idm:project:Owner"));
    assert!(team.contains("\"checkout:Owner\"") && team.contains("\"checkout:listed\"") && !team.contains("\"Owner\""));
    assert!(project.contains("\"Owner\"") && !project.contains("SystemAdmin"), "{project}");
}

#[test]
fn the_system_becomes_objects_of_the_cluster() {
    let admin = Role::BuiltIn(BuiltInRole::SystemAdmin);
    let all = compile(&Bindings(vec![binding("idm-system", admin, Scope::System, ["root".into()])]));
    assert!(all.iter().all(|native| native.namespace.is_none() && native.kind.starts_with("Cluster")));
    named(&all, "idm:system:SystemAdmin");
    assert!(named(&all, "idm:guarded:create:rolebindings").guarded, "who gives roles is asked by the guard");
}

#[test]
fn r22_a_wildcard_is_nowhere() {
    let text = format!("{:?}{:?}", blocks(), virtual_rules());
    assert!(!text.contains('*'), "{text}");
    assert_eq!(blocks().len(), 24);
}
