//! The meaning of policies: which policy covers which target, which are refused, and the findings about them.

use std::collections::BTreeMap;

use idm_compile::yaml::read_files;
use idm_compile::{Compiled, Settings, World, compile};
use idm_plan::{Handler, Host, Plan};
use idm_types::Reason;
use serde_json::Value;

const BASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: up}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: idm
  listeners: [{name: one, port: 80, protocol: HTTP}, {name: two, port: 80, protocol: HTTP, hostname: '*.two.example'}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  hostnames: [a.two.example]
  rules:
  - {name: first, matches: [{path: {type: PathPrefix, value: /first}}], backendRefs: [{name: up, port: 80}]}
  - {name: second, matches: [{path: {type: PathPrefix, value: /second}}], backendRefs: [{name: up, port: 80}]}
";

fn policy(name: &str, target: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
            targetRefs: [{target}]\n  authentication: {{methods: [{{name: everyone, anonymous: {{}}}}]}}\n"
    )
}

const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}";
const RULE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: first}";
const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: g}";

fn world(yaml: &str) -> World {
    read_files(&[("all.yaml".into(), yaml.into())], Settings::default()).unwrap().0
}

fn compiled(yaml: &str) -> Compiled {
    compile(&world(yaml), None)
}

fn sealed(compiled: &Compiled) -> idm_plan::Bundle {
    compiled.seal(1)
}

/// Which policy (or refusal) each rule of the route got.
fn holders(plan: &Plan) -> BTreeMap<String, String> {
    let holder = |handler: &Handler| match handler {
        Handler::Enforce { policy, .. } | Handler::Redirect { policy, .. } => plan.policies[*policy].key.name.clone(),
        Handler::Issue { endpoint, .. } => endpoint.name().to_owned(),
        Handler::SignIn { endpoint, .. } => endpoint.name().to_owned(),
        Handler::ResourceMetadata { .. } => "resource metadata".to_owned(),
        Handler::Refuse { reason, .. } => reason.to_string(),
    };
    plan.rules.iter().map(|rule| (rule.name.clone(), holder(&rule.handler))).collect()
}

fn said(compiled: &Compiled, object: &str) -> Vec<String> {
    compiled
        .report
        .findings()
        .iter()
        .filter(|f| f.object.name == object)
        .map(|f| format!("{} {}: {}", f.condition.name(), f.cause.name(), f.message))
        .collect()
}

#[test]
fn a_route_without_a_policy_is_refused() {
    let plan = compiled(BASE).plan;
    assert!(
        plan.rules.iter().all(|r| matches!(r.handler, Handler::Refuse { reason: Reason::NoPolicy, .. })),
        "{plan:?}"
    );
}

#[test]
fn the_more_specific_target_wins_and_the_loser_is_told() {
    let all =
        compiled(&format!("{BASE}{}{}{}", policy("wide", GATEWAY), policy("middle", ROUTE), policy("narrow", RULE)));
    let holders = holders(&all.plan);
    assert_eq!(holders["HTTPRoute default/r rule first"], "narrow");
    assert_eq!(holders["HTTPRoute default/r rule second"], "middle");
    assert!(
        said(&all, "wide")[0].starts_with("Programmed Overridden: IdentityPolicy 'default/"),
        "{:?}",
        said(&all, "wide")
    );
    assert!(
        said(&all, "middle")[0]
            .starts_with("Programmed PartiallyProgrammed: IdentityPolicy 'default/narrow' is more specific"),
        "{:?}",
        said(&all, "middle")
    );
    assert_eq!(said(&all, "narrow"), Vec::<String>::new());
}

#[test]
fn between_equals_the_older_wins_then_the_alphabet() {
    let both = compiled(&format!("{BASE}{}{}", policy("b", ROUTE), policy("a", ROUTE)));
    assert_eq!(holders(&both.plan)["HTTPRoute default/r rule first"], "a");
    assert!(
        said(&both, "b")[0]
            .contains("Accepted Conflicted: HTTPRoute 'r' is already held by IdentityPolicy 'default/a'"),
        "{:?}",
        said(&both, "b")
    );
    let older = policy("b", ROUTE).replace("{name: b}", "{name: b, creationTimestamp: '2020-01-01T00:00:00Z'}");
    let younger = policy("a", ROUTE).replace("{name: a}", "{name: a, creationTimestamp: '2021-01-01T00:00:00Z'}");
    assert_eq!(holders(&compiled(&format!("{BASE}{older}{younger}")).plan)["HTTPRoute default/r rule first"], "b");
}

#[test]
fn hosts_are_what_listener_and_route_have_in_common() {
    let hosts = |route: &str| {
        let plan = compiled(&BASE.replace("hostnames: [a.two.example]", route)).plan;
        let served = plan.hosts.into_iter().filter(|host| !host.entries.is_empty());
        served.map(|host| host.host).collect::<Vec<_>>()
    };
    assert_eq!(hosts("hostnames: [a.two.example]"), [Host::Exact("a.two.example".into())]);
    assert_eq!(hosts("hostnames: ['*.example']"), [Host::Below("two.example".into()), Host::Below("example".into())]);
    assert_eq!(hosts("hostnames: [other.example]"), [Host::Exact("other.example".into())]);
}

#[test]
fn a_policy_that_breaks_keeps_its_last_good_version_and_one_that_never_worked_closes_the_route() {
    let good = compiled(&format!("{BASE}{}", policy("p", ROUTE)));
    let broken = policy("p", ROUTE)
        .replace("anonymous: {}", "jwt: {issuers: [{federationRef: {name: missing}, audiences: [a]}]}");
    let world = world(&format!("{BASE}{broken}"));
    let kept = compile(&world, Some(&sealed(&good)));
    assert_eq!(kept.plan.policies, good.plan.policies);
    assert!(said(&kept, "p").iter().any(|s| s.starts_with("Programmed InvalidKeptPrevious")), "{:?}", said(&kept, "p"));
    assert!(
        said(&kept, "p").iter().any(|s| s.contains("RefNotFound: Federation 'missing' must exist")),
        "{:?}",
        said(&kept, "p")
    );
    let closed = compile(&world, None);
    assert_eq!(holders(&closed.plan)["HTTPRoute default/r rule first"], "PolicyInvalid");
}

#[test]
fn an_object_of_a_newer_version_closes_what_it_covers() {
    let mut world = world(BASE);
    let object: Value = serde_json::json!({"apiVersion": "identity-manager.io/v1alpha1", "kind": "IdentityPolicy",
        "metadata": {"name": "future", "namespace": "default"},
        "spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}],
        "fromTheFuture": true,
            "authentication": {"methods": [{"name": "everyone", "anonymous": {}}]}}});
    assert!(world.insert(object));
    let compiled = compile(&world, None);
    assert_eq!(holders(&compiled.plan)["HTTPRoute default/r rule first"], "PolicyInvalid");
    assert!(said(&compiled, "future")[0].contains("fromTheFuture"), "{:?}", said(&compiled, "future"));
}

#[test]
fn what_a_gateway_cannot_do_closes_its_rule_and_is_named() {
    for (from, to, message) in [
        (
            "type: PathPrefix, value: /first",
            "type: RegularExpression, value: /f.*",
            "regular expressions are not supported",
        ),
        ("value: /first", "value: /a/../first", "must not contain `.` or `..`"),
        (
            "value: /first}}]",
            "value: /first}, queryParams: [{name: a, value: b, type: RegularExpression}]}]",
            "regular expressions are not supported",
        ),
        (
            "value: /first}}]",
            "value: /first}}], filters: [{type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}]",
            "filter ExtensionRef is not supported: supported are CORS, RequestHeaderModifier, RequestMirror, \
             RequestRedirect, ResponseHeaderModifier and URLRewrite",
        ),
        (
            "value: /first}}]",
            "value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]",
            "must not have backendRefs",
        ),
        ("value: /first}}]", "value: /first}}], timeouts: {request: soon}", "must be a duration"),
        (
            "value: /first}}], backendRefs: [{name: up, port: 80}]",
            "value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]",
            "must be 301, 302, 303, 307 or 308",
        ),
        (
            "value: /first}}], backendRefs: [{name: up, port: 80}]",
            "value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: 'a b'}}]",
            "the hostname must be a DNS name",
        ),
        (
            "value: /first}}], backendRefs: [{name: up, port: 80}]",
            "value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {port: 70000}}]",
            "between 1 and 65535",
        ),
        (
            "type: PathPrefix, value: /first}}], backendRefs: [{name: up, port: 80}]",
            "type: Exact, value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: \
                ReplacePrefixMatch, replacePrefixMatch: /x}}}]",
            "exactly one match, a PathPrefix",
        ),
        (
            "value: /first}}], backendRefs: [{name: up, port: 80}]",
            "value: /first}}], filters: [{type: RequestRedirect, requestRedirect: {}}, {type: RequestHeaderModifier, \
                requestHeaderModifier: {remove: [x-a]}}]",
            "there is no request or answer that could be changed",
        ),
    ] {
        let yaml = format!("{BASE}{}", policy("p", ROUTE)).replace(from, to);
        let compiled = compiled(&yaml);
        assert!(said(&compiled, "r").iter().any(|s| s.contains(message)), "{message}: {:?}", said(&compiled, "r"));
        let holders = holders(&compiled.plan);
        assert_eq!(
            (holders["HTTPRoute default/r rule first"].as_str(), holders["HTTPRoute default/r rule second"].as_str()),
            ("RouteInvalid", "p"),
            "{message}"
        );
    }
}

#[test]
fn a_backend_of_another_namespace_or_of_none_gets_no_request() {
    for (backend, message) in [
        ("{name: nowhere, port: 80}", "Service 'nowhere' must exist"),
        ("{name: up, namespace: other, port: 80}", "a ReferenceGrant in namespace 'other' must permit"),
    ] {
        let yaml = BASE.replace("backendRefs: [{name: up, port: 80}]", &format!("backendRefs: [{backend}]"));
        let compiled = compiled(&format!("{yaml}{}", policy("p", ROUTE)));
        assert!(said(&compiled, "r").iter().any(|s| s.contains(message)), "{:?}", said(&compiled, "r"));
        assert!(compiled.plan.rules.iter().all(|rule| {
            matches!(&rule.handler, Handler::Enforce { backends, unresolved_weight: 1, .. } if backends.is_empty())
        }));
    }
}

#[test]
fn a_headless_service_is_reached_at_the_ports_of_its_pods() {
    let with = |spec: &str| BASE.replace("spec: {ports: [{name: http, port: 80}]}", &format!("spec: {{{spec}}}"));
    for (spec, port) in [
        ("clusterIP: None, ports: [{port: 80, targetPort: 3000}]", 3000),
        ("clusterIP: None, ports: [{port: 80}]", 80),
        ("clusterIP: 10.0.0.1, ports: [{port: 80, targetPort: 3000}]", 80),
        ("ports: [{port: 80, targetPort: web}]", 80),
    ] {
        let compiled = compiled(&format!("{}{}", with(spec), policy("p", ROUTE)));
        let Handler::Enforce { backends, unresolved_weight: 0, .. } = &compiled.plan.rules[0].handler else {
            panic!("{spec}: {:?}", compiled.plan.rules)
        };
        assert_eq!((backends[0].host.as_str(), backends[0].port), ("up.default.svc", port), "{spec}");
    }
    let named = with("clusterIP: None, ports: [{port: 80, targetPort: web}]");
    let compiled = compiled(&format!("{named}{}", policy("p", ROUTE)));
    assert!(said(&compiled, "r")[0].starts_with("ResolvedRefs InvalidRef: targetPort 'web' of Service 'up'"));
    for rule in &compiled.plan.rules {
        let Handler::Enforce { backends, unresolved_weight: 1, .. } = &rule.handler else { panic!("{rule:?}") };
        assert!(backends.is_empty(), "{rule:?}");
    }
}

#[test]
fn urls_that_a_tenant_may_not_name_are_refused() {
    let with = |keys: &str| {
        let jwt =
            format!("jwt: {{issuers: [{{issuer: 'https://i.example', audiences: [a], keys: {{jwksUri: '{keys}'}}}}]}}");
        said(&compiled(&format!("{BASE}{}", policy("p", ROUTE).replace("anonymous: {}", &jwt))), "p")
    };
    for url in [
        "https://127.0.0.1/k",
        "https://[::1]/k",
        "https://localhost/k",
        "https://169.254.169.254/latest",
        "https://0.0.0.0/",
        "https://[::ffff:127.0.0.1]/",
        "http://idp.example/k",
        "http://10.0.0.1/k",
        "file:///etc/passwd",
        "https://user:pass@idp.example/k",
        "https://2130706433/",
    ] {
        assert!(!with(url).is_empty(), "{url}");
    }
    for url in ["https://idp.example/k", "http://keycloak.idp.svc:8080/k", "https://10.0.0.1/k"] {
        assert!(with(url).is_empty(), "{url}: {:?}", with(url));
    }
}

#[test]
fn shared_secrets_are_not_verified_with_published_keys() {
    let with = |algorithms: &str, keys: &str| {
        let jwt = format!(
            "jwt: {{issuers: [{{issuer: 'https://i.example', audiences: [a], algorithms: [{algorithms}], keys: \
                {keys}}}]}}"
        );
        said(&compiled(&format!("{BASE}{}", policy("p", ROUTE).replace("anonymous: {}", &jwt))), "p")
    };
    for keys in ["{jwksUri: 'https://i.example/k'}", "{discovery: {}}"] {
        let told = format!("{:?}", with("HS256", keys));
        assert!(told.contains("published keys are public"), "{told}");
        assert!(with("RS256", keys).is_empty(), "{:?}", with("RS256", keys));
    }
}

#[test]
fn f09_an_issuer_names_audiences_or_clients() {
    let with = |recipients: &str| {
        let jwt = format!("jwt: {{issuers: [{{issuer: 'https://i.example', {recipients}keys: {{discovery: {{}}}}}}]}}");
        said(&compiled(&format!("{BASE}{}", policy("p", ROUTE).replace("anonymous: {}", &jwt))), "p")
    };
    for good in ["audiences: [a], ", "clientIds: [c], ", "audiences: [a], clientIds: [c], "] {
        assert!(with(good).is_empty(), "{good}: {:?}", with(good));
    }
    for bad in ["", "audiences: [], ", "clientIds: [], ", "audiences: [a], clientIds: [], "] {
        let told = format!("{:?}", with(bad));
        assert!(told.contains("every token of the issuer would do"), "{bad}: {told}");
    }
}

#[test]
fn f12_f25_a_federation_s_response_mode_and_clock_have_bounds() {
    let with = |client: &str, more: &str| {
        let yaml = format!(
            "{BASE}---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: f}}\nspec: \
                {{oidc: {{issuer: 'https://i.example', client: {{clientId: c, parameters: [{client}]}}}}{more}}}\n"
        );
        format!("{:?}", compiled(&yaml).report.errors().map(|finding| finding.message.clone()).collect::<Vec<_>>())
    };
    assert_eq!(with("{name: response_mode, value: form_post}", ", clockSkewSeconds: 300"), "[]");
    assert_eq!(with("{name: response_mode, value: query}", ", clockSkewSeconds: 0"), "[]");
    for mode in ["fragment", "web_message", "jwt", "FORM_POST"] {
        let told = with(&format!("{{name: response_mode, value: {mode}}}"), "");
        assert!(told.contains("is not supported: use one of query, form_post"), "{told}");
    }
    for skew in ["301", "-1"] {
        let told = with("", &format!(", clockSkewSeconds: {skew}"));
        assert!(told.contains("between 0 and 300"), "{told}");
    }
}

#[test]
fn a_byte_order_mark_in_front_of_a_password_is_a_finding() {
    let with = |password: &str| {
        let yaml = format!(
            "{BASE}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: \
                \"{password}\"}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: \
                ana}}\nspec: {{password: {{}}, secretRef: {{name: s}}}}\n"
        );
        let mut world = world(&yaml);
        world.hash_passwords();
        compile(&world, None).report.errors().map(|finding| finding.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(with("correct horse"), [""; 0]);
    let told = with("\\uFEFFcorrect horse");
    assert!(told.len() == 1 && told[0].contains("byte order mark") && !told[0].contains("horse"), "{told:?}");
}

#[test]
fn keys_in_a_secret_are_read_and_bad_ones_are_named_without_being_shown() {
    let jwt = "jwt: {issuers: [{issuer: 'https://i.example', audiences: [a], algorithms: [ES256], keys: {secretRef: \
        {name: keys}}}]}";
    let yaml = format!("{BASE}{}", policy("p", ROUTE).replace("anonymous: {}", jwt));
    let secret = |value: &str| {
        format!("{yaml}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{{value}}}\n")
    };
    let good = idm_jose::SigningKey::generate(idm_types::Algorithm::ES256, "k").unwrap().jwks().to_string();
    assert!(said(&compiled(&secret(&format!("jwks.json: '{good}'"))), "p").is_empty());
    let private = good.replacen("\"kty\"", "\"d\":\"canary\",\"kty\"", 1);
    for (value, message) in [
        ("other: x".to_owned(), "must have the key 'jwks.json'"),
        ("jwks.json: '<html>canary</html>'".to_owned(), "the key set is not JSON"),
        (format!("jwks.json: '{private}'"), "holds a private or symmetric key"),
    ] {
        let findings = said(&compiled(&secret(&value)), "p").join("; ");
        assert!(findings.contains(message) && !findings.contains("canary"), "{message}: {findings}");
    }
    assert!(said(&compiled(&yaml), "p").join("").contains("RefNotFound: Secret 'keys' must exist"));
}

#[test]
fn a_route_on_a_second_port_is_not_exposed_on_the_first() {
    let yaml = format!("{BASE}{}", policy("p", ROUTE)).replace("{name: two, port: 80", "{name: two, port: 8443");
    let compiled = compiled(&yaml);
    assert!(said(&compiled, "g")[0].contains("must share one port"), "{:?}", said(&compiled, "g"));
    let private = yaml.replace("parentRefs: [{name: g}]", "parentRefs: [{name: g, sectionName: two}]");
    assert_eq!(compile(&world(&private), None).plan.hosts, []);
}

const OPEN_CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other, annotations: {identity-manager.io/danger-open-default: 'true'}}
spec: {controllerName: identity-manager.io/gateway-controller}
";

#[test]
fn only_a_class_that_asks_for_it_forwards_what_no_policy_covers() {
    let base = BASE.replace("gatewayClassName: idm", "gatewayClassName: other");
    let open = compiled(&format!("{base}{OPEN_CLASS}"));
    assert_eq!(holders(&open.plan)["HTTPRoute default/r rule first"], "(open by default)");
    let notes: Vec<_> = open.report.findings().iter().map(|f| (f.object.name.as_str(), f.cause.name())).collect();
    assert_eq!(notes, [("g", "DangerousOption")]);
    // A policy covers its rule as under every other class, also one that cannot be enforced.
    let covered = compiled(&format!("{base}{OPEN_CLASS}{}", policy("p", RULE)));
    assert_eq!(holders(&covered.plan)["HTTPRoute default/r rule first"], "p");
    let broken = policy("p", RULE).replace("[{name: everyone, anonymous: {}}]", "[]");
    let broken = compiled(&format!("{base}{OPEN_CLASS}{broken}"));
    assert_eq!(holders(&broken.plan)["HTTPRoute default/r rule first"], "PolicyInvalid");
    // Neither the annotation's other values nor another controller's class opens anything.
    let no = compiled(&format!("{base}{}", OPEN_CLASS.replace("'true'", "'1'")));
    assert_eq!(holders(&no.plan)["HTTPRoute default/r rule first"], "NoPolicy");
    let foreign = compiled(&format!("{base}{}", OPEN_CLASS.replace("identity-manager.io/gateway-controller", "x.y/z")));
    assert!(foreign.plan.rules.is_empty() && foreign.plan.hosts.is_empty(), "{:?}", foreign.plan);
}

#[test]
fn a_listener_that_cannot_be_used_takes_no_port_from_others() {
    let tcp = "listeners: [{name: tcp, port: 9000, protocol: TCP}, {name: one,";
    let compiled = compiled(&BASE.replace("listeners: [{name: one,", tcp));
    assert_eq!(compiled.ports, idm_compile::ListenerPorts { http: Some(80), https: None });
    assert!(said(&compiled, "g")[0].starts_with("Accepted UnsupportedProtocol"));
    let listeners = compiled.routes[0].listeners.as_deref();
    assert_eq!(listeners, Ok(["one".to_owned(), "two".to_owned()].as_slice()));
}

#[test]
fn a_gateway_that_asks_for_addresses_of_an_unknown_type_takes_no_route() {
    for (kind, taken) in [("IPAddress", true), ("Hostname", true), ("example.com/other", false)] {
        let addresses = format!("gatewayClassName: idm\n  addresses: [{{type: {kind}, value: a.example}}]");
        let compiled = compiled(&BASE.replace("gatewayClassName: idm", &addresses));
        assert_eq!(compiled.routes[0].listeners.is_ok(), taken, "{kind}");
        let refused = said(&compiled, "g").iter().any(|said| said.starts_with("Accepted UnsupportedAddress"));
        assert_eq!(refused, !taken, "{:?}", said(&compiled, "g"));
    }
}

#[test]
fn a_route_that_no_listener_takes_says_which_part_did_not_fit() {
    use idm_compile::NotTaken::{NoMatchingListenerHostname, NoMatchingParent, NotAllowedByListeners};
    let one = BASE.replace("{name: one, port: 80, protocol: HTTP}, ", "");
    let kinds = "hostname: '*.two.example', allowedRoutes: {kinds: [{kind: GRPCRoute}]}";
    for (yaml, expected) in [
        (BASE.replace("parentRefs: [{name: g}]", "parentRefs: [{name: g, sectionName: three}]"), NoMatchingParent),
        (BASE.replace("parentRefs: [{name: g}]", "parentRefs: [{name: g, port: 81}]"), NoMatchingParent),
        (one.replace("[a.two.example]", "[a.example]"), NoMatchingListenerHostname),
        (one.replace("hostname: '*.two.example'", kinds), NotAllowedByListeners),
    ] {
        let compiled = compiled(&yaml);
        assert_eq!(compiled.routes[0].listeners, Err(expected), "{yaml}");
        assert_eq!(said(&compiled, "r")[0].split(':').next(), Some(&*format!("Accepted {}", expected.cause().name())));
        assert!(compiled.plan.hosts.iter().all(|host| host.entries.is_empty()));
    }
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_share_and_the_others_theirs() {
    let both =
        "backendRefs: [{name: up, port: 80, weight: 2}, {name: gone, port: 80, weight: 3}, {kind: Other, name: x}]";
    let yaml = BASE.replace("backendRefs: [{name: up, port: 80}]", both);
    let compiled = compiled(&format!("{yaml}{}", policy("p", ROUTE)));
    let Handler::Enforce { backends, unresolved_weight, .. } = &compiled.plan.rules[0].handler else {
        panic!("{:?}", compiled.plan.rules)
    };
    assert_eq!((backends.len(), backends[0].weight, *unresolved_weight), (1, 2, 4));
    let said = said(&compiled, "r");
    assert!(said.iter().all(|finding| finding.starts_with("ResolvedRefs ")), "{said:?}");
    assert!(
        said.iter().any(|f| f.contains("RefNotFound")) && said.iter().any(|f| f.contains("InvalidKind")),
        "{said:?}"
    );
}
