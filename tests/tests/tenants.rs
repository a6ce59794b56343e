//! A Gateway that takes routes of other namespaces: what it takes, who is known there, and references that need grants.

use std::collections::BTreeMap;
use std::net::TcpStream;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_compile::yaml::read_files;
use idm_compile::{Compiled, NotTaken, Settings, World, attached_elsewhere, compile};
use idm_plan::{Backend, Handler, Host, Plan};
use idm_tests::{Authority, Pod, Reply, Upstream, eventually, raw, secret};
use idm_types::{ApiKey, Reason};
use serde_json::{Value, json};

/// A Gateway; `FROM` is what its listener says about namespaces.
const INFRA: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: infra}
spec: {gatewayClassName: idm, listeners: [{name: one, port: 80, protocol: HTTP, allowedRoutes: {FROM}}]}
";

/// A route of the namespace NS under the Gateway, for the host NS.example.
const ROUTE: &str = "
apiVersion: v1
kind: Service
metadata: {name: up, namespace: NS}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: NS}
spec:
  parentRefs: [{name: g, namespace: infra}]
  hostnames: [NS.example]
  rules: [{name: only, backendRefs: [{name: up, port: 80}]}]
";

/// A policy of the namespace NS for its route, a Credential with this key and a person with this password.
const POLICY: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: p, namespace: NS, uid: policy of NS}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}]
  authentication: {methods: [{name: machines, apiKey: {}}, {name: people, basic: {realm: NS}}]}
  authorization:
    rules:
    - {name: read, methods: [GET]}
    - {name: write, methods: [POST], require: {roles: {any: [writer]}}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: robot, namespace: NS, uid: robot of NS}
spec: {apiKey: {}, secretRef: {name: robot}}
---
apiVersion: v1
kind: Secret
metadata: {name: robot, namespace: NS}
stringData: {key: KEY}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana, namespace: NS, uid: ana of NS}
spec: {password: {}, secretRef: {name: ana}}
---
apiVersion: v1
kind: Secret
metadata: {name: ana, namespace: NS}
stringData: {password: password of NS}
";

const GATEWAY_POLICY: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: all, namespace: infra, uid: policy of infra}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]
  authentication: {methods: [{name: machines, apiKey: {}}]}
";

fn world(yaml: &str) -> World {
    read_files(&[("all.yaml".into(), yaml.into())], Settings::default()).unwrap().0
}

fn infra(from: &str) -> World {
    world(&INFRA.replace("FROM", from))
}

const ALL: &str = "namespaces: {from: All}";

fn of(namespace: &str, yaml: &str) -> World {
    world(&yaml.replace("NS", namespace).replace("KEY", key(namespace).reveal()))
}

fn key(namespace: &str) -> ApiKey {
    ApiKey::from_random([namespace.len() as u8; 32])
}

/// Which policy (or refusal) each rule got.
fn holders(plan: &Plan) -> BTreeMap<String, String> {
    let holder = |handler: &Handler| match handler {
        Handler::Enforce { policy, .. } => plan.policies[*policy].key.to_string(),
        Handler::Refuse { reason, .. } => reason.to_string(),
        other => panic!("{other:?}"),
    };
    plan.rules.iter().map(|rule| (rule.name.clone(), holder(&rule.handler))).collect()
}

fn compiled(mut infra: World, tenants: impl IntoIterator<Item = World>) -> Compiled {
    tenants.into_iter().for_each(|tenant| infra.add_tenant(tenant));
    compile(&infra, None)
}

#[test]
fn a_listener_takes_routes_of_the_namespaces_it_allows() {
    let selector = |text: &str| format!("namespaces: {{from: Selector, selector: {{{text}}}}}");
    let expression = |text: &str| selector(&format!("matchExpressions: [{{key: team, {text}}}]"));
    for (from, taken) in [
        ("kinds: [{kind: HTTPRoute}]".to_owned(), false),
        ("namespaces: {from: Same}".into(), false),
        (ALL.into(), true),
        (selector("matchLabels: {team: blue}"), true),
        (selector("matchLabels: {team: red}"), false),
        (selector("matchLabels: {team: blue, more: x}"), false),
        ("namespaces: {from: Selector}".into(), false),
        (expression("operator: In, values: [red, blue]"), true),
        (expression("operator: In, values: [red]"), false),
        (expression("operator: NotIn, values: [red]"), true),
        (expression("operator: NotIn, values: [blue]"), false),
        (expression("operator: Exists"), true),
        (expression("operator: DoesNotExist"), false),
        (expression("operator: Unknown"), false),
    ] {
        let mut infra = infra(&from);
        infra.namespaces.insert("blue".into(), [("team".to_owned(), "blue".to_owned())].into());
        let tenant = of("blue", &format!("{ROUTE}{POLICY}"));
        let (statuses, _) = attached_elsewhere(&tenant, &infra);
        let expected = if taken { Ok(vec!["one".to_owned()]) } else { Err(NotTaken::NotAllowedByListeners) };
        assert_eq!(statuses[0].listeners, expected, "{from}");
        let compiled = compiled(infra, [tenant]);
        assert_eq!(compiled.plan.hosts.len(), usize::from(taken), "{from}");
        // Nothing of a namespace that is not allowed gets there: no policy, no Credential.
        assert_eq!(compiled.plan.policies.len(), usize::from(taken), "{from}");
        assert_eq!(compiled.credentials.all.len(), 2 * usize::from(taken), "{from}");
    }
    // A namespace whose labels are not known is not selected, whatever the selector says.
    let compiled = compiled(infra(&selector("")), [of("blue", ROUTE)]);
    assert!(compiled.plan.hosts.is_empty() && compiled.routes.is_empty());
}

#[test]
fn a_policy_covers_routes_of_its_own_namespace_only() {
    // Both routes have the name that the policy of `a` names.
    let both = || [of("a", &format!("{ROUTE}{POLICY}")), of("bb", ROUTE)];
    let apart = compiled(infra(ALL), both());
    let holders_apart = holders(&apart.plan);
    assert_eq!(holders_apart["HTTPRoute a/r rule only"], "a/p");
    assert_eq!(holders_apart["HTTPRoute bb/r rule only"], "NoPolicy");
    assert!(apart.credentials.all.iter().all(|credential| credential.key.namespace == "a"));

    // The Gateway's policy is for the routes that have none of their own.
    let mut covered = infra(ALL);
    for policy in world(&format!("{}{GATEWAY_POLICY}", INFRA.replace("FROM", ALL))).policies {
        covered.policies.push(policy);
    }
    let compiled_all = compiled(covered.clone(), both());
    let with_default = holders(&compiled_all.plan);
    assert_eq!(with_default["HTTPRoute a/r rule only"], "a/p");
    assert_eq!(with_default["HTTPRoute bb/r rule only"], "infra/all");

    // A policy that is broken closes its routes; the Gateway's does not step in.
    let broken =
        POLICY.replace("methods: [{name: machines, apiKey: {}}, {name: people, basic: {realm: NS}}]", "methods: []");
    assert_ne!(broken, POLICY);
    let closed = compiled(covered.clone(), [of("a", &format!("{ROUTE}{broken}"))]);
    assert_eq!(holders(&closed.plan)["HTTPRoute a/r rule only"], "PolicyInvalid");
    let unreadable = POLICY.replace("{name: machines, apiKey: {}}", "{name: machines, newer: {}}");
    let mut newer = of("a", ROUTE);
    let policy: Value = serde_yaml_ng::from_str(unreadable.replace("NS", "a").split("---").nth(1).unwrap()).unwrap();
    newer.insert(policy);
    assert_eq!(newer.broken.len(), 1);
    assert_eq!(holders(&compiled(covered, [newer]).plan)["HTTPRoute a/r rule only"], "PolicyInvalid");
}

#[test]
fn the_names_of_the_gateway_s_own_services_stay_theirs() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: bank, namespace: infra, annotations: \
                   {identity-manager.io/hostnames: 'bank.example'}}\nspec: {ports: [{port: 80}]}\n";
    let policy = GATEWAY_POLICY.replace(
        "{group: gateway.networking.k8s.io, kind: Gateway, name: g}",
        "{group: '', kind: Service, name: bank}",
    );
    let infra = world(&format!("{}{service}{policy}", INFRA.replace("FROM", ALL)));
    let hosts = "[bank.infra.svc, bank.example, NS.example]";
    let greedy =
        ROUTE.replace("[NS.example]", hosts).replace("only, back", "only, matches: [{path: {value: /x}}], back");
    let compiled = compiled(infra, [of("a", &format!("{greedy}{POLICY}"))]);
    assert_eq!(compiled.routes[0].listeners, Ok(vec!["one".to_owned()]));
    for of in &compiled.plan.hosts {
        let own = of.host == Host::Exact("a.example".into());
        assert_eq!(of.entries.len(), 1, "{of:?}");
        assert_eq!(compiled.plan.rules[of.entries[0].rule].name.starts_with("HTTPRoute a/r"), own, "{of:?}");
    }
    assert_eq!(compiled.plan.hosts.len(), 6);
}

#[test]
fn secrets_of_two_namespaces_do_not_meet() {
    let introspection = "{name: ask, introspection: {issuer: 'https://idp.example', endpoint: 'https://idp.example/i', \
                         clientId: c, clientSecretRef: {name: idp}}}";
    let policy = POLICY.replace("{name: machines, apiKey: {}}", introspection);
    let with = |namespace: &str| {
        let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: idp, namespace: NS}\nstringData: \
                      {clientSecret: secret of NS}\n";
        of(namespace, &format!("{ROUTE}{policy}{secret}"))
    };
    let Compiled { plan, secrets, report, .. } = compiled(infra(ALL), [with("a"), with("bb")]);
    assert!(report.errors().next().is_none(), "{report:?}");
    for policy in &plan.policies {
        let named = secrets.named_by(&serde_json::to_value(policy).unwrap());
        assert_eq!(named.len(), 1);
        let shown = serde_json::to_string(&named).unwrap();
        let expected = STANDARD.encode(format!("secret of {}", policy.key.namespace));
        assert!(shown.contains(&expected), "{}", policy.key);
    }
}

fn grant(namespace: &str, from: Value, to: Value) -> Value {
    json!({"metadata": {"name": "grant", "namespace": namespace}, "spec": {"from": [from], "to": [to]}})
}

fn from(kind: &str, namespace: &str) -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": namespace})
}

fn to(kind: &str, name: Option<&str>) -> Value {
    match name {
        Some(name) => json!({"group": "", "kind": kind, "name": name}),
        None => json!({"group": "", "kind": kind}),
    }
}

#[test]
fn a_backend_of_another_namespace_needs_a_grant_and_the_others_go_on() {
    let route =
        ROUTE.replace("[{name: up, port: 80}]", "[{name: up, port: 80}, {name: shared, namespace: stock, port: 80}]");
    let shared = "apiVersion: v1\nkind: Service\nmetadata: {name: shared, namespace: stock}\nspec: {SPEC}\n";
    let ports = shared.replace("SPEC", "ports: [{port: 80}]");
    let alias = shared.replace("SPEC", "type: ExternalName, externalName: db.bank.svc, ports: [{port: 80}]");
    let right = grant("stock", from("HTTPRoute", "a"), to("Service", None));
    for (grants, service, reason) in [
        (vec![right.clone()], &ports, None),
        (vec![grant("stock", from("HTTPRoute", "a"), to("Service", Some("shared")))], &ports, None),
        (vec![], &ports, Some("RefNotPermitted")),
        (vec![grant("bank", from("HTTPRoute", "a"), to("Service", None))], &ports, Some("RefNotPermitted")),
        (vec![grant("stock", from("HTTPRoute", "b"), to("Service", None))], &ports, Some("RefNotPermitted")),
        (vec![grant("stock", from("Gateway", "a"), to("Service", None))], &ports, Some("RefNotPermitted")),
        (vec![grant("stock", from("HTTPRoute", "a"), to("Secret", None))], &ports, Some("RefNotPermitted")),
        (vec![grant("stock", from("HTTPRoute", "a"), to("Service", Some("other")))], &ports, Some("RefNotPermitted")),
        // An alias could lead to a third namespace, which permitted nothing.
        (vec![right.clone()], &alias, Some("RefNotPermitted")),
    ] {
        let mut tenant = of("a", &format!("{route}{POLICY}"));
        tenant.grants = grants.iter().map(|grant| serde_json::from_value(grant.clone()).unwrap()).collect();
        let permitted = !tenant.granted_services().is_empty();
        tenant.granted = world(service).services;
        let (_, report) = attached_elsewhere(&tenant, &infra(ALL));
        let told = report.findings().first().map(|finding| finding.cause.name());
        assert_eq!(told, reason, "{grants:?}");
        assert_eq!(permitted, reason.is_none() || service == &alias);
        let compiled = compiled(infra(ALL), [tenant]);
        let Handler::Enforce { backends, unresolved_weight, .. } = &compiled.plan.rules[0].handler else { panic!() };
        let hosts: Vec<_> = backends.iter().map(|backend| backend.host.as_str()).collect();
        let expected = (["up.a.svc", "shared.stock.svc"], u64::from(reason.is_some()));
        assert_eq!((hosts.as_slice(), *unresolved_weight), (&expected.0[..2 - expected.1 as usize], expected.1));
    }
    // A grant for a Service that does not exist.
    let mut tenant = of("a", &format!("{route}{POLICY}"));
    tenant.grants = vec![serde_json::from_value(right).unwrap()];
    let (_, report) = attached_elsewhere(&tenant, &infra(ALL));
    assert_eq!(report.findings()[0].cause.name(), "RefNotFound");
}

/// A grant is for one kind of routes, and for mirrors as for other backends; so is a BackendTLSPolicy.
#[test]
fn grants_and_backend_tls_policies_count_for_calls_and_for_mirrors() {
    let shared = "{name: shared, namespace: stock, port: 80}";
    let grpc = format!("rules: [{{backendRefs: [{shared}]}}]");
    let mirror = format!(
        "rules: [{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {shared}}}}}], backendRefs: [{{name: \
         up, port: 80}}]}}]"
    );
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: shared, namespace: stock}\nspec: {ports: [{port: 80}]}\n";
    let secured = serde_json::json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
        "metadata": {"name": "b", "namespace": "stock"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "shared"}],
            "validation": {"hostname": "shared.stock", "wellKnownCACertificates": "System"}}});
    for (kind, rules) in [("GRPCRoute", &grpc), ("HTTPRoute", &mirror)] {
        for granted in ["GRPCRoute", "HTTPRoute"] {
            let route = format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: a}}\nspec: \
                 {{parentRefs: [{{name: g, namespace: infra}}], {rules}}}\n---\napiVersion: v1\nkind: \
                 Service\nmetadata: {{name: up, namespace: a}}\nspec: {{ports: [{{port: 80}}]}}\n"
            );
            let mut tenant = of("a", &format!("{route}{}", POLICY.replace("HTTPRoute", kind)));
            let grant = grant("stock", from(granted, "a"), to("Service", None));
            tenant.grants = vec![serde_json::from_value(grant).unwrap()];
            assert_eq!(!tenant.granted_services().is_empty(), kind == granted);
            tenant.granted = world(service).services;
            tenant.granted_backend_tls = vec![serde_json::from_value(secured.clone()).unwrap()];
            let (statuses, report) = attached_elsewhere(&tenant, &infra(ALL));
            assert!(statuses[0].listeners.is_ok(), "{statuses:?}");
            let refused = report.findings().iter().any(|finding| finding.cause.name() == "RefNotPermitted");
            assert_eq!(refused, kind != granted, "{kind} {granted}: {report:?}");
            let compiled = compiled(infra(ALL), [tenant]);
            let Handler::Enforce { backends, mirrors, .. } = &compiled.plan.rules[0].handler else {
                panic!("{:?}", compiled.report)
            };
            let copies = mirrors.iter().map(|mirror| &mirror.backend);
            let all = backends.iter().chain(copies).filter(|backend| backend.host == "shared.stock.svc");
            let names: Vec<_> = all.map(|of| of.tls.as_ref().map_or("", |tls| &tls.server_name)).collect();
            let expected = if kind == granted { vec!["shared.stock"] } else { vec![] };
            assert_eq!(names, expected, "{kind} {granted}");
        }
    }
}

/// The policy of a Service in another namespace counts there too: nothing is sent to it in the clear.
#[test]
fn a_backend_tls_policy_beside_a_granted_service_counts() {
    let route = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: a}
spec:
  parentRefs: [{name: g, namespace: infra}]
  rules: [{backendRefs: [{name: shared, namespace: stock, port: 80}]}]
";
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: shared, namespace: stock}\nspec: {ports: [{port: 80}]}\n";
    let grant = grant("stock", from("HTTPRoute", "a"), to("Service", None));
    let system = serde_json::json!({"hostname": "shared.stock", "wellKnownCACertificates": "System"});
    let roots = serde_json::json!([{"group": "", "kind": "ConfigMap", "name": "roots"}]);
    let elsewhere = serde_json::json!({"hostname": "shared.stock", "caCertificateRefs": roots});
    for (namespace, validation, name) in
        [("stock", &system, Some("shared.stock")), ("stock", &elsewhere, None), ("a", &elsewhere, Some(""))]
    {
        let mut tenant = of("a", &format!("{route}{POLICY}"));
        tenant.grants = vec![serde_json::from_value(grant.clone()).unwrap()];
        tenant.granted = world(service).services;
        let policy = serde_json::json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
            "metadata": {"name": "b", "namespace": namespace},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "shared"}], "validation": validation}});
        tenant.granted_backend_tls = vec![serde_json::from_value(policy).unwrap()];
        let compiled = compiled(infra(ALL), [tenant]);
        let Handler::Enforce { backends, .. } = &compiled.plan.rules[0].handler else { panic!() };
        let names: Vec<_> =
            backends.iter().map(|backend| backend.tls.as_ref().map_or("", |tls| &tls.server_name)).collect();
        assert_eq!(names, name.into_iter().collect::<Vec<_>>(), "{namespace} {validation}");
    }
}

#[test]
fn a_certificate_of_another_namespace_is_served_as_long_as_it_is_granted() {
    let servers = Authority::new("servers");
    servers.issue("api.example", "DNS:api.example", "serverAuth", "20400101000000Z");
    let tls = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: infra}
spec:
  gatewayClassName: idm
  listeners:
  - name: one
    port: 443
    protocol: HTTPS
    hostname: api.example
    tls: {certificateRefs: [{name: server, namespace: certificates}]}
";
    let values = [("tls.crt", servers.read("api.example.crt")), ("tls.key", servers.read("api.example.key"))];
    let values = world(&secret("server", &values)).secrets.remove("server").unwrap();
    let mut infra = world(tls);
    // The Secret is there as if it had been read: what counts is the grant.
    infra.granted_secrets.insert(("certificates".into(), "server".into()), values);
    let found = |world: &World| {
        let compiled = compile(world, None);
        let told = compiled.report.findings().first().map(|finding| finding.cause.name());
        (compiled.plan.certificates.len(), compiled.secrets.len(), told)
    };
    for (grants, wanted, expected) in [
        (vec![], 0, (0, 0, Some("RefNotPermitted"))),
        (vec![grant("certificates", from("Gateway", "infra"), to("Secret", None))], 1, (1, 1, None)),
        (vec![grant("certificates", from("Gateway", "infra"), to("Secret", Some("server")))], 1, (1, 1, None)),
        (
            vec![grant("certificates", from("Gateway", "infra"), to("Secret", Some("x")))],
            0,
            (0, 0, Some("RefNotPermitted")),
        ),
        (
            vec![grant("certificates", from("HTTPRoute", "infra"), to("Secret", None))],
            0,
            (0, 0, Some("RefNotPermitted")),
        ),
        (vec![grant("certificates", from("Gateway", "a"), to("Secret", None))], 0, (0, 0, Some("RefNotPermitted"))),
    ] {
        infra.grants = grants.iter().map(|grant| serde_json::from_value(grant.clone()).unwrap()).collect();
        assert_eq!(found(&infra), expected, "{grants:?}");
        // Only what is granted is read at all; a name of another namespace is never looked for in this one.
        assert_eq!((infra.granted_secret_names().len(), infra.secret_names().len()), (wanted, 0), "{grants:?}");
    }
}

/// A pod whose backends all are the upstream: the names of Services mean nothing here.
fn pod(mut compiled: Compiled, upstream: &Upstream) -> Pod {
    for rule in &mut compiled.plan.rules {
        if let Handler::Enforce { backends, .. } = &mut rule.handler {
            for backend in backends {
                let (host, port) = (upstream.address.ip().to_string(), upstream.address.port());
                *backend = Backend { host, port, local: true, ..backend.clone() };
            }
        }
    }
    let pod = Pod::start("infra", &compiled.seal(1).pack().unwrap());
    eventually("it listens", || TcpStream::connect(pod.address).map(drop).map_err(|error| error.to_string()));
    pod
}

fn ask(pod: &Pod, method: &str, host: &str, authorization: &str) -> Reply {
    let request = format!("{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{authorization}\r\n\r\n");
    raw(pod.address, request.as_bytes())
}

#[test]
fn who_is_known_in_one_namespace_is_nobody_in_the_next() {
    let upstream = Upstream::new();
    // The Credential of the same name has the role in `a` alone.
    let binding = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\n\
                   metadata: {name: w, namespace: a}\nspec: \
                   {role: writer, subjects: [{credential: robot}], scope: {project: {}}}\n";
    let a = of("a", &format!("{ROUTE}{POLICY}{binding}"));
    let compiled = compiled(infra(ALL), [a, of("bb", &format!("{ROUTE}{POLICY}"))]);
    let errors: Vec<_> = compiled.report.errors().collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(compiled.plan.hosts.iter().any(|of| of.host == Host::Exact("bb.example".into())));
    let pod = pod(compiled, &upstream);

    let api_key = |of: &str| format!("X-Api-Key: {}", key(of).reveal());
    let password = |of: &str| format!("Authorization: Basic {}", STANDARD.encode(format!("ana:password of {of}")));
    let allowed = |method: &str, namespace: &str, authorization: &str| {
        let reply = ask(&pod, method, &format!("{namespace}.example"), authorization);
        assert_eq!(reply.status, 200, "{namespace} {authorization}");
        let record = eventually("its record", || {
            let found = pod.records().pop();
            found.filter(|of| of["request"]["host"] == format!("{namespace}.example")).ok_or("not yet".to_owned())
        });
        assert_eq!((record["namespace"].as_str(), record["policy"]["name"].as_str()), (Some(namespace), Some("p")));
        upstream.forget();
    };
    let refused = |method: &str, namespace: &str, authorization: &str, reason: Reason| {
        let reply = ask(&pod, method, &format!("{namespace}.example"), authorization);
        assert_eq!(reply.status, reason.status(), "{namespace} {authorization}");
        assert_eq!(upstream.received(), "");
        let record = pod.record(reply.decision());
        assert_eq!(record["reason"], reason.to_string());
        assert_eq!((record["namespace"].as_str(), record["policy"]["name"].as_str()), (Some(namespace), Some("p")));
    };
    for (own, other) in [("a", "bb"), ("bb", "a")] {
        allowed("GET", own, &api_key(own));
        allowed("GET", own, &password(own));
        // The verdicts on both are kept now, and count for neither.
        refused("GET", other, &api_key(own), Reason::UnknownApiKey);
        refused("GET", other, &password(own), Reason::WrongPassword);
    }
    allowed("POST", "a", &api_key("a"));
    refused("POST", "bb", &api_key("bb"), Reason::MissingRole);
}
