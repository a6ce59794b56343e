use idm_plan::{Expr, Variable};
use idm_types::Decider;

use super::*;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn any(list: &[&str]) -> NameSet {
    NameSet { any: names(list), all: Vec::new() }
}

fn all(list: &[&str]) -> NameSet {
    NameSet { any: Vec::new(), all: names(list) }
}

/// A rule that covers every request and demands nothing.
fn rule(name: &str) -> Rule {
    Rule { name: name.parse().unwrap(), methods: Vec::new(), when: None, require: Require::default() }
}

fn of_roles(name: &str, roles: NameSet) -> Rule {
    Rule { require: Require { roles, scopes: NameSet::default() }, ..rule(name) }
}

fn of_scopes(name: &str, scopes: NameSet) -> Rule {
    Rule { require: Require { roles: NameSet::default(), scopes }, ..rule(name) }
}

fn when(name: &str, condition: &str) -> Rule {
    Rule { when: Some(Expr::Cel(condition.into())), ..rule(name) }
}

fn rules(list: &[Rule]) -> Rules {
    let arm = |rule: &Rule| (rule.clone(), rule.when.as_ref().map(|when| Expression::arm(when).unwrap()));
    Rules { policy: "orders".into(), rules: list.iter().map(arm).collect() }
}

fn caller(roles: &[&str], scopes: &[&str]) -> Identity {
    let nobody = Identity::nobody(&"tokens".parse().unwrap(), "jwt");
    Identity { username: "ana".into(), roles: names(roles), scopes: names(scopes), ..nobody }
}

/// The rule that granted, or the reason with the rule that refused.
fn asked<'r>(rules: &'r Rules, method: &str, who: &Identity) -> Result<Option<&'r str>, (Reason, Option<String>)> {
    let granted = rules.granting(method, &Facts::default(), who);
    let refusing = |by: Option<Decider>| match by {
        Some(Decider::Rule(name)) => Some(name.to_string()),
        _ => None,
    };
    granted.map(|rule| rule.map(RuleName::as_str)).map_err(|refusal| (refusal.reason, refusing(refusal.by)))
}

fn refused<'r>(reason: Reason, rule: &str) -> Result<Option<&'r str>, (Reason, Option<String>)> {
    Err((reason, Some(rule.to_owned())))
}

#[test]
fn without_rules_it_is_enough_to_be_known() {
    assert_eq!(asked(&rules(&[]), "GET", &caller(&[], &[])), Ok(None));
}

#[test]
fn one_of_the_roles_or_each_of_them() {
    let one = rules(&[of_roles("write", any(&["writer", "admin"]))]);
    assert_eq!(asked(&one, "PUT", &caller(&["admin"], &[])), Ok(Some("write")));
    assert_eq!(asked(&one, "PUT", &caller(&["reader"], &[])), refused(Reason::MissingRole, "write"));
    assert_eq!(
        asked(&one, "PUT", &caller(&[], &["admin"])),
        refused(Reason::MissingRole, "write"),
        "a scope is no role"
    );
    let each = rules(&[of_roles("close", all(&["writer", "auditor"]))]);
    assert_eq!(asked(&each, "PUT", &caller(&["auditor", "writer"], &[])), Ok(Some("close")));
    assert_eq!(asked(&each, "PUT", &caller(&["writer"], &[])), refused(Reason::MissingRole, "close"));
    let both = rules(&[of_roles("both", NameSet { any: names(&["a", "b"]), all: names(&["c"]) })]);
    assert_eq!(asked(&both, "GET", &caller(&["b", "c"], &[])), Ok(Some("both")));
    for roles in [&["c"][..], &["a", "b"], &["C", "A"]] {
        assert_eq!(asked(&both, "GET", &caller(roles, &[])), refused(Reason::MissingRole, "both"), "{roles:?}");
    }
}

#[test]
fn missing_scopes_are_told_for_the_challenge() {
    let each = rules(&[of_scopes("read", all(&["orders.read", "billing.read"]))]);
    assert_eq!(asked(&each, "GET", &caller(&[], &["billing.read", "orders.read"])), Ok(Some("read")));
    let refusal = each.granting("GET", &Facts::default(), &caller(&[], &["orders.read"])).unwrap_err();
    assert_eq!((refusal.reason, &*refusal.missing_scopes), (Reason::InsufficientScope, &names(&["billing.read"])[..]));
    assert_eq!(refusal.detail, "needs scope `billing.read`; the caller has `orders.read`");
    let one = rules(&[of_scopes("read", any(&["a", "b"]))]);
    let refusal = one.granting("GET", &Facts::default(), &caller(&["a"], &[])).unwrap_err();
    assert_eq!((refusal.reason, &*refusal.missing_scopes), (Reason::InsufficientScope, &names(&["a", "b"])[..]));
    assert_eq!(refusal.detail, "needs scope `a` or `b`; the caller has none");
}

#[test]
fn a_rule_covers_the_methods_it_names() {
    let reading = rules(&[Rule { methods: names(&["GET", "HEAD"]), ..rule("read") }]);
    assert_eq!(asked(&reading, "HEAD", &caller(&[], &[])), Ok(Some("read")));
    for method in ["POST", "get", "GETS"] {
        assert_eq!(asked(&reading, method, &caller(&[], &[])), Err((Reason::NoRuleMatched, None)), "{method}");
    }
}

#[test]
fn a_rule_covers_what_its_condition_holds_for() {
    let own = rules(&[when("own", "identity.username == 'ana'")]);
    assert_eq!(asked(&own, "GET", &caller(&[], &[])), Ok(Some("own")));
    let other = Identity { username: "bob".into(), ..caller(&[], &[]) };
    assert_eq!(asked(&own, "GET", &other), Err((Reason::NoRuleMatched, None)));
}

#[test]
fn a_condition_that_cannot_be_decided_refuses() {
    let absent = rules(&[rule("open"), when("unknown", "token.level > 1")]);
    assert_eq!(asked(&absent, "GET", &caller(&[], &[])), refused(Reason::RuleUndecided, "unknown"));
    let member = Expr::Member { variable: Variable::Identity, path: names(&["username"]) };
    let text = rules(&[Rule { when: Some(member), ..rule("text") }]);
    assert_eq!(asked(&text, "GET", &caller(&[], &[])), refused(Reason::RuleUndecided, "text"), "a text is no answer");
    // Only for requests that the rule could cover.
    let elsewhere = rules(&[rule("open"), Rule { methods: names(&["PUT"]), ..when("unknown", "token.level > 1") }]);
    assert_eq!(asked(&elsewhere, "GET", &caller(&[], &[])), Ok(Some("open")));
}

#[test]
fn every_rule_that_covers_a_request_must_allow_it_and_the_first_is_named() {
    let two = rules(&[rule("open"), of_roles("write", any(&["writer"]))]);
    assert_eq!(asked(&two, "GET", &caller(&["writer"], &[])), Ok(Some("open")));
    assert_eq!(asked(&two, "GET", &caller(&["reader"], &[])), refused(Reason::MissingRole, "write"));
}

#[test]
fn a_credential_is_good_for_the_policies_it_names() {
    let here = Identity { only_policies: Some(names(&["billing", "orders"])), ..caller(&[], &[]) };
    let elsewhere = Identity { only_policies: Some(names(&["billing"])), ..caller(&["admin"], &[]) };
    for all in [rules(&[]), rules(&[rule("open")])] {
        assert!(asked(&all, "GET", &here).is_ok());
        assert_eq!(asked(&all, "GET", &elsewhere), Err((Reason::CredentialNotAllowedHere, None)));
    }
}
