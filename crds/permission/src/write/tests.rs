use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Binding, Target};

const SYSTEM: &str = "idm-system";

fn person(name: &str) -> Person {
    Person { username: name.into(), groups: vec![] }
}

fn bindings(all: &[(&str, BuiltInRole, Scope)]) -> Bindings {
    let one = |(user, role, scope): &(&str, BuiltInRole, Scope)| Binding {
        namespace: scope.project().unwrap_or(SYSTEM).into(),
        name: "b".into(),
        role: Role::BuiltIn(*role),
        scope: scope.clone(),
        targets: vec![Target::User((*user).into())],
    };
    Bindings(all.iter().map(one).collect())
}

fn credential(team: &str) -> Value {
    let labels = if team.is_empty() { json!({}) } else { json!({TEAM_LABEL: team}) };
    json!({"metadata": {"labels": labels}, "spec": {"apiKey": {}}})
}

fn write<'a>(kind: Kind, old: Option<&'a Value>, new: Option<&'a Value>) -> Write<'a> {
    Write { kind, namespace: "shop", old, new }
}

#[test]
fn r03_an_object_moves_only_between_places_where_the_writer_may_update() {
    let all = bindings(&[
        ("ana", BuiltInRole::CredentialManager, Scope::of("shop", Some("own"))),
        ("pam", BuiltInRole::CredentialManager, Scope::of("shop", None)),
    ]);
    for from in ["", "own", "foreign"] {
        for to in ["", "own", "foreign"] {
            let (old, mut new) = (credential(from), credential(to));
            new["spec"]["roles"] = json!(["r"]);
            let update = write(Kind::Credential, Some(&old), Some(&new));
            let may = |name: &str, write: &Write<'_>| may_write(&all, &person(name), write, SYSTEM).is_ok();
            assert_eq!(may("ana", &update), from == "own" && to == "own", "{from} to {to}");
            assert!(may("pam", &update));
            assert_eq!(may("ana", &write(Kind::Credential, None, Some(&new))), to == "own");
            assert_eq!(may("ana", &write(Kind::Credential, Some(&old), None)), from == "own");
        }
    }
}

#[test]
fn an_action_is_needed_for_its_part_and_nothing_more() {
    let old = credential("");
    let mut rotated = old.clone();
    rotated["metadata"]["annotations"] = json!({ROTATE_ANNOTATION: "2"});
    let mut suspended = old.clone();
    suspended["spec"]["suspend"] = json!(true);
    let verbs = |old: &Value, new: &Value| {
        let needs = needs(&write(Kind::Credential, Some(old), Some(new)), SYSTEM);
        needs.into_iter().map(|need| format!("{need:?}")).collect::<Vec<_>>().join(" ")
    };
    assert!(verbs(&old, &rotated).contains("Rotate") && !verbs(&old, &rotated).contains("Update"));
    assert!(verbs(&old, &suspended).contains("Revoke") && !verbs(&old, &suspended).contains("Update"));
    let mut revoked = old.clone();
    revoked["metadata"]["annotations"] = json!({REVOKE_ANNOTATION: "k1"});
    assert!(verbs(&old, &revoked).contains("Revoke") && !verbs(&old, &revoked).contains("Update"));
    let mut freed_meanwhile = revoked.clone();
    freed_meanwhile["spec"]["suspend"] = json!(false);
    assert!(verbs(&suspended, &freed_meanwhile).contains("Update"), "a request to revoke hides no other change");
    assert!(verbs(&suspended, &old).contains("Update"), "to take it back is a change like any other");
    rotated["spec"]["roles"] = json!(["r"]);
    assert!(verbs(&old, &rotated).contains("Rotate") && verbs(&old, &rotated).contains("Update"));
    assert!(verbs(&old, &old).is_empty());
    let mut freed = old.clone();
    freed["metadata"]["ownerReferences"] = json!([{"uid": "u"}]);
    assert!(verbs(&freed, &old).contains("Update"), "r21: removed owners are a change like any other");
}

#[test]
fn r04_who_edits_a_federation_gives_no_role() {
    let all = bindings(&[("pam", BuiltInRole::Owner, Scope::of("shop", None))]);
    let listed: PermissionSet = Permission::new(Verb::Update, Kind::Federation).into_iter().collect();
    let mut all = all;
    all.0.push(Binding {
        namespace: "shop".into(),
        name: "c".into(),
        role: Role::Listed(listed),
        scope: Scope::of("shop", None),
        targets: vec![Target::User("fred".into())],
    });
    let plain = json!({"spec": {"oidc": {"issuer": "a"}}});
    for field in ["provisioning", "roleMappings"] {
        let mut giving = plain.clone();
        giving["spec"][field] = json!({"role": "admin"});
        let update = write(Kind::Federation, Some(&plain), Some(&giving));
        assert!(may_write(&all, &person("pam"), &update, SYSTEM).is_ok());
        let denial = may_write(&all, &person("fred"), &update, SYSTEM).expect_err(field);
        assert_eq!(denial.permission, "create RoleBinding");
        assert_eq!(denial.granted_by, ["user pam"]);
        let mut other = giving.clone();
        other["spec"]["oidc"]["issuer"] = json!("https://of-fred");
        let update = write(Kind::Federation, Some(&giving), Some(&other));
        assert!(may_write(&all, &person("fred"), &update, SYSTEM).is_err(), "another issuer would give the same roles");
        let update = write(Kind::Federation, Some(&giving), Some(&plain));
        assert!(may_write(&all, &person("fred"), &update, SYSTEM).is_ok(), "to give less takes nothing more");
    }
}

#[test]
fn roles_of_the_system_are_given_in_the_operators_namespace_only() {
    let all = bindings(&[("root", BuiltInRole::SystemAdmin, Scope::System)]);
    let new = json!({"spec": {"permissionRole": "Auditor", "scope": {"system": {}}}});
    let at = |namespace| Write { kind: Kind::RoleBinding, namespace, old: None, new: Some(&new) };
    assert!(may_write(&all, &person("root"), &at(SYSTEM), SYSTEM).is_ok());
    assert!(may_write(&all, &person("root"), &at("shop"), SYSTEM).is_err());
    let owner = bindings(&[("pam", BuiltInRole::Owner, Scope::of(SYSTEM, None))]);
    assert!(may_write(&owner, &person("pam"), &at(SYSTEM), SYSTEM).is_err(), "the project is not the system");
}

// A graph of roles, and writes of RoleBindings by its people.

const PEOPLE: [&str; 5] = ["a", "b", "c", "d", "e"];

fn scopes() -> Vec<Scope> {
    let mut all = vec![Scope::System];
    for project in ["p", "q", SYSTEM] {
        all.extend([None, Some("x"), Some("y")].map(|team| Scope::of(project, team)));
    }
    all
}

fn any_role() -> impl Strategy<Value = Role> {
    let built_in = prop::sample::select(BuiltInRole::ALL.to_vec()).prop_map(Role::BuiltIn);
    let listed = prop::collection::vec(prop::sample::select(Permission::all().collect::<Vec<_>>()), 1..6);
    prop_oneof![built_in, listed.prop_map(|all| Role::Listed(all.into_iter().collect()))]
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let targets = prop::collection::vec(prop::sample::select(PEOPLE.to_vec()), 1..3);
    (any_role(), prop::sample::select(scopes()), targets).prop_map(|(role, scope, targets)| Binding {
        namespace: scope.project().unwrap_or(SYSTEM).into(),
        name: "b".into(),
        role,
        scope,
        targets: targets.into_iter().map(|name| Target::User(name.into())).collect(),
    })
}

/// The object that a binding is in the API.
fn object(binding: &Binding) -> Value {
    let scope = match &binding.scope {
        Scope::System => json!({"system": {}}),
        Scope::Project(_) => json!({"project": {}}),
        Scope::Team { team, .. } => json!({"team": {"name": team}}),
    };
    let subjects: Vec<_> = binding.targets.iter().map(Target::to_string).collect();
    let mut spec = json!({"scope": scope, "subjects": subjects});
    match &binding.role {
        Role::BuiltIn(role) => spec["permissionRole"] = json!(role.name()),
        Role::Listed(set) => spec["permissions"] = json!(set.iter().map(|p| p.to_string()).collect::<Vec<_>>()),
    }
    json!({"metadata": {}, "spec": spec})
}

#[derive(Clone, Debug)]
enum Deed {
    Create(Binding),
    SetSubjects(usize, Vec<Target>),
    Delete(usize),
}

fn any_deed() -> impl Strategy<Value = (usize, Deed)> {
    let deed = prop_oneof![
        4 => any_binding().prop_map(Deed::Create),
        2 => (0usize..12, any_binding()).prop_map(|(at, other)| Deed::SetSubjects(at, other.targets)),
        1 => (0usize..12).prop_map(Deed::Delete),
    ];
    (0..PEOPLE.len(), deed)
}

/// Counted from the bindings themselves, which `can` is held to elsewhere: asked one by one it would take minutes.
fn held(all: &Bindings, by: impl Fn(&str) -> bool) -> std::collections::BTreeSet<(Scope, Permission)> {
    let mut held = std::collections::BTreeSet::new();
    for person in PEOPLE.into_iter().filter(|name| by(name)).map(person) {
        for binding in all.0.iter().filter(|binding| binding.targets.iter().any(|target| target.is(&person))) {
            for place in scopes().into_iter().filter(|place| binding.scope.covers(place)) {
                held.extend(binding.role.permissions().iter().map(|permission| (place.clone(), permission)));
            }
        }
    }
    held
}

proptest! {
    #[test]
    fn a_person_can_what_a_binding_gives_and_nothing_else(start in prop::collection::vec(any_binding(), 0..6)) {
        let all = Bindings(start);
        for name in PEOPLE {
            let given = held(&all, |other| other == name);
            for place in scopes() {
                for permission in Permission::all() {
                    let may = can(&all, &person(name), permission, &place).is_ok();
                    prop_assert_eq!(may, given.contains(&(place.clone(), permission)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// Whatever people who conspire write, together they hold afterwards what they held together before.
    #[test]
    fn r06_no_sequence_of_allowed_writes_gains_a_permission(
        start in prop::collection::vec(any_binding(), 1..6),
        deeds in prop::collection::vec(any_deed(), 1..10),
        conspirators in prop::collection::vec(any::<bool>(), PEOPLE.len()),
    ) {
        let is_one = |name: &str| PEOPLE.iter().position(|one| *one == name).is_some_and(|at| conspirators[at]);
        let mut all = Bindings(start);
        let before = held(&all, is_one);
        for (who, deed) in deeds {
            if !conspirators[who] {
                continue;
            }
            let actor = person(PEOPLE[who]);
            let at = |index: usize| index % all.0.len().max(1);
            match deed {
                Deed::Create(binding) => {
                    let new = object(&binding);
                    let namespace = &binding.namespace;
                    let write = Write { kind: Kind::RoleBinding, namespace, old: None, new: Some(&new) };
                    if may_write(&all, &actor, &write, SYSTEM).is_ok() {
                        all.0.push(binding);
                    }
                }
                Deed::SetSubjects(index, targets) if !all.0.is_empty() => {
                    let old = all.0[at(index)].clone();
                    let new = Binding { targets, ..old.clone() };
                    let (before, after) = (object(&old), object(&new));
                    let (namespace, old) = (&old.namespace, Some(&before));
                    let write = Write { kind: Kind::RoleBinding, namespace, old, new: Some(&after) };
                    if may_write(&all, &actor, &write, SYSTEM).is_ok() {
                        let index = at(index);
                        all.0[index] = new;
                    }
                }
                Deed::Delete(index) if !all.0.is_empty() => {
                    let old = object(&all.0[at(index)]);
                    let namespace = all.0[at(index)].namespace.clone();
                    let write = Write { kind: Kind::RoleBinding, namespace: &namespace, old: Some(&old), new: None };
                    if may_write(&all, &actor, &write, SYSTEM).is_ok() {
                        let index = at(index);
                        all.0.remove(index);
                    }
                }
                _ => {}
            }
        }
        let after = held(&all, is_one);
        prop_assert!(after.is_subset(&before), "gained {:?}", after.difference(&before).collect::<Vec<_>>());
    }
}

fn request(by: Option<(&str, &str, &str)>) -> Value {
    let mut request = json!({
        "metadata": {"labels": {TEAM_LABEL: "own"}}, "spec": {"requester": {"username": "ana"}, "purpose": "p"},
        "status": {"hash": "h", "encryptedKey": "e"},
    });
    if let Some((decision, by, hash)) = by {
        request["spec"]["approval"] = json!({"decision": decision, "by": {"username": by}, "hash": hash});
    }
    request
}

/// Bindings with an approver who makes no Credentials himself.
fn of_requests() -> Bindings {
    let mut all = bindings(&[
        ("ana", BuiltInRole::Consumer, Scope::of("shop", Some("own"))),
        ("omar", BuiltInRole::CredentialManager, Scope::of("shop", Some("own"))),
        ("ana", BuiltInRole::CredentialManager, Scope::of("shop", Some("other"))),
    ]);
    let approve = Permission::new(Verb::Approve, Kind::Credential);
    all.0.push(Binding {
        namespace: "shop".into(),
        name: "c".into(),
        role: Role::Listed(approve.into_iter().collect()),
        scope: Scope::of("shop", None),
        targets: vec![Target::User("rita".into())],
    });
    all
}

#[test]
fn r87_a_request_is_asked_for_and_answered_in_the_own_name_and_never_by_the_requester() {
    let all = of_requests();
    let may = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        may_write(&all, &person(name), &write(Kind::CredentialRequest, old, new), SYSTEM).is_ok()
    };
    let asked = request(None);
    assert!(may("ana", None, Some(&asked)));
    assert!(!may("omar", None, Some(&asked)), "in another name");
    assert!(!may("ana", None, Some(&request(Some(("Approved", "ana", "h"))))), "with an answer");
    let mut elsewhere = asked.clone();
    elsewhere["metadata"]["labels"] = json!({});
    assert!(!may("ana", None, Some(&elsewhere)), "where she may not ask");
    let answers = |name: &str, decision: &str, by: &str, hash: &str| {
        may(name, Some(&asked), Some(&request(Some((decision, by, hash)))))
    };
    assert!(answers("omar", "Approved", "omar", "h") && answers("omar", "Rejected", "omar", "h"));
    assert!(!answers("omar", "Approved", "olga", "h"), "in another name");
    assert!(!answers("omar", "Approved", "omar", "g"), "of another request");
    assert!(!answers("ana", "Approved", "ana", "h"), "her own");
    assert!(!answers("rita", "Approved", "rita", "h"), "she may not make a Credential");
    assert!(answers("rita", "Rejected", "rita", "h"));
    assert!(!answers("eve", "Approved", "eve", "h"), "a stranger");
    let approved = request(Some(("Approved", "omar", "h")));
    assert!(!may("rita", Some(&approved), Some(&request(Some(("Rejected", "rita", "h"))))), "twice");
    assert!(!may("omar", Some(&approved), Some(&asked)), "taken back");
    let mut unread = asked.clone();
    unread["status"] = json!({});
    assert!(!may("omar", Some(&unread), Some(&approved)), "nobody computed its hash yet");
    let mut own = asked.clone();
    own["spec"]["requester"]["username"] = json!("omar");
    let mut answered = approved.clone();
    answered["spec"]["requester"]["username"] = json!("omar");
    assert!(!may("omar", Some(&own), Some(&answered)), "who may approve does not approve their own");
}

#[test]
fn only_the_requester_receives_the_key_and_withdraws_without_the_permission_to_delete() {
    let all = of_requests();
    let asked = request(None);
    let may = |name: &str, old: &Value, new: Option<&Value>| {
        may_write(&all, &person(name), &write(Kind::CredentialRequest, Some(old), new), SYSTEM).is_ok()
    };
    let mut received = asked.clone();
    received["spec"]["received"] = json!(true);
    assert!(may("ana", &asked, Some(&received)) && !may("omar", &asked, Some(&received)));
    let mut none = asked.clone();
    none["status"] = json!({"hash": "h"});
    assert!(!may("ana", &none, Some(&received)), "there is no key yet");
    assert!(may("ana", &asked, None) && may("omar", &asked, None) && !may("rita", &asked, None));
    let mut others = asked.clone();
    others["spec"]["requester"]["username"] = json!("omar");
    assert!(!may("ana", &others, None));
    let mut labelled = asked.clone();
    labelled["metadata"]["annotations"] = json!({"a": "b"});
    assert!(!may("ana", &asked, Some(&labelled)) && may("omar", &asked, Some(&labelled)));
}
