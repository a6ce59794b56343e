//! Two namespaces behind one Gateway, on one host, with policies that are equal to the letter.

use std::path::Path;

use idm_compile::{Compiled, Settings, World, compile, yaml::read_files};
use idm_plan::{Handler, ObjectKey};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: infra}
spec:
  gatewayClassName: idm
  listeners: [{name: one, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
";

const ROUTE: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g, namespace: infra}]
  hostnames: [orders.example]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
";

fn world(yaml: String) -> World {
    let settings = Settings { remembers_together: true, ..Settings::default() };
    read_files(&[("all.yaml".into(), yaml)], settings).expect("it is read").0
}

/// A golden input as the objects of a namespace, whose policy is for a route under the Gateway.
fn tenant(golden: &str, namespace: &str) -> World {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    let text = std::fs::read_to_string(path).expect("it is there") + ROUTE;
    let text = text.replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "));
    let text = text.replace("uid: uid-", &format!("uid: {namespace}-"));
    let route = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";
    let placed = text.replace("{group: \"\", kind: Service, name: orders}", route);
    assert_ne!(placed, text);
    world(placed)
}

fn both(golden: &str) -> Compiled {
    let mut infra = world(GATEWAY.to_owned());
    for namespace in ["a", "b"] {
        infra.add_tenant(tenant(golden, namespace));
    }
    compile(&infra, None)
}

fn errors(compiled: &Compiled) -> Vec<String> {
    let shown = |of: &idm_compile::Finding| format!("{} {} {}", of.object, of.condition.name(), of.cause.name());
    compiled.report.errors().map(shown).collect()
}

#[test]
fn one_issuer_is_one_policy() {
    let compiled = both("token-service.yaml");
    assert_eq!(errors(&compiled), ["IdentityPolicy b/orders Accepted Conflicted"]);
    let keys: Vec<_> = compiled.plan.policies.iter().map(|policy| policy.key.clone()).collect();
    assert_eq!(keys, [ObjectKey::new("a", "orders")]);
    let refused: Vec<_> =
        compiled.plan.rules.iter().filter(|rule| matches!(rule.handler, Handler::Refuse { .. })).collect();
    assert!(refused.len() == 1 && refused[0].name == "HTTPRoute b/r rule 0", "{refused:?}");
}

#[test]
fn people_of_two_namespaces_do_not_sign_in_at_one_place() {
    let compiled = both("sign-in.yaml");
    assert_eq!(errors(&compiled), ["IdentityPolicy b/orders Programmed Conflicted"]);
    let keys: Vec<_> = compiled.plan.federations.iter().map(|federation| federation.key.clone()).collect();
    assert_eq!(keys, [ObjectKey::new("a", "corp"), ObjectKey::new("b", "corp")]);
    // Each has the secret of its own namespace.
    assert_eq!(compiled.secrets.len(), 2);
    for rule in &compiled.plan.rules {
        if let Handler::SignIn { policy, .. } = &rule.handler {
            assert_eq!(compiled.plan.policies[*policy].key.namespace, "a", "{}", rule.name);
        }
    }
}

#[test]
fn an_invalid_change_keeps_the_policy_of_its_own_namespace() {
    let mut infra = world(GATEWAY.to_owned());
    infra.add_tenant(tenant("token-service.yaml", "a"));
    let before = compile(&infra, None).seal(1);
    let mut infra = world(GATEWAY.to_owned());
    let mut broken = tenant("token-service.yaml", "a");
    broken.policies[0].spec.authentication.as_mut().unwrap().methods.clear();
    infra.add_tenant(broken);
    let kept = compile(&infra, Some(&before));
    assert!(errors(&kept).contains(&"IdentityPolicy a/orders Programmed InvalidKeptPrevious".to_owned()));
    assert_eq!((&kept.plan.policies, kept.secrets.len()), (&before.plan.policies, before.secrets.len()));
    // It ends with the permission to be there.
    let mut closed = world(GATEWAY.replace("from: All", "from: Same"));
    closed.add_tenant(tenant("token-service.yaml", "a"));
    let gone = compile(&closed, Some(&before));
    assert!(gone.plan.policies.is_empty() && gone.plan.hosts.is_empty() && gone.secrets.is_empty());
}
