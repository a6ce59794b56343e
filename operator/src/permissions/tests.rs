use idm_permission::{BuiltInRole, Role, Scope, Target};

use super::*;

fn bindings() -> Bindings {
    let one = |name: &str, scope| Binding {
        namespace: "shop".into(),
        name: name.into(),
        role: Role::BuiltIn(BuiltInRole::Developer),
        scope,
        targets: vec![Target::User(name.into())],
    };
    Bindings(vec![one("ana", Scope::of("shop", Some("checkout"))), one("pam", Scope::of("shop", None))])
}

#[test]
fn r01_what_the_guard_narrows_goes_with_it() {
    let uid = || "u".to_owned();
    let strong = wanted(&bindings(), &Guard::InForce { uid: uid(), since: Timestamp(0) });
    assert!(strong.iter().any(|native| native.guarded));
    assert!(strong.iter().all(|native| native.body["metadata"]["ownerReferences"][0]["uid"] == "u"));
    let weak = wanted(&bindings(), &Guard::Weak { uid: Some(uid()), why: "changed".into() });
    assert!(!weak.is_empty() && weak.iter().all(|native| !native.guarded));
    let text = format!(
        "{:?}",
        weak.iter().filter(|native| native.body["roleRef"]["kind"] == "ClusterRole").collect::<Vec<_>>()
    );
    assert!(
        text.contains("pam") && text.contains("get:identitypolicies"),
        "the project's developer keeps what is all of it"
    );
    assert!(!weak.iter().any(|n| n.name == "idm:guarded:update:identitypolicies"));
    assert!(wanted(&bindings(), &Guard::Weak { uid: None, why: "missing".into() }).is_empty());
    assert!(wanted(&bindings(), &Guard::Unknown).is_empty());
}

#[test]
fn a_binding_says_why_it_is_not_granted() {
    let [ana, pam] = [&bindings().0[0], &bindings().0[1]].map(Clone::clone);
    let weak = Guard::Weak { uid: None, why: "it was changed".into() };
    let (cause, message) = not_granted(&ana, &weak, true).expect("a finding");
    assert_eq!((cause, message.as_str()), (Cause::GuardNotInForce, "it was changed; what it narrows is taken back"));
    assert!(not_granted(&pam, &weak, true).is_some());
    let strong = Guard::InForce { uid: "u".into(), since: Timestamp(0) };
    assert_eq!(not_granted(&ana, &strong, true), None);
    assert_eq!(not_granted(&ana, &strong, false).map(|(cause, _)| cause), Some(Cause::NotGranted));
}

#[test]
fn one_lost_connection_takes_nothing_away_and_two_do() {
    let strong = Guard::InForce { uid: "u".into(), since: Timestamp(0) };
    assert_eq!(strong.after_doubt(1, "no answer".into()), strong);
    let weak = Guard::Weak { uid: Some("u".into()), why: "no answer".into() };
    assert_eq!(strong.after_doubt(2, "no answer".into()), weak);
    assert_eq!(weak.after_doubt(3, "no answer".into()), weak);
    // A new operator has seen nothing, so it grants nothing.
    assert_eq!(Guard::Unknown.after_doubt(1, "no answer".into()), Guard::Unknown);
    assert!(wanted(&bindings(), &Guard::Unknown.after_doubt(2, "no answer".into())).is_empty());
}
