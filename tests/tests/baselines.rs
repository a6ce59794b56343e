//! The demands of a Gateway's policy, which hold beside those of each route's policy: both must allow.

use idm_compile::yaml::read_files;
use idm_compile::{Cause, Compiled, Settings, World, compile};
use idm_jose::SigningKey;
use idm_plan::{Bundle, Handler};
use idm_tests::{InProcess, Reply, Serves, Upstream, now, raw, secret};
use idm_types::{Algorithm, ApiKey, Reason};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";

/// A Gateway with three routes: one open, one for keys, one for tokens, each under a host of its name.
fn objects(port: u16, jwks: &Value) -> String {
    let route = |name: &str, methods: &str, more: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
             spec: {{parentRefs: [{{name: g}}], hostnames: [{name}.example], rules: [{{backendRefs: \
             [{{name: up, port: {port}}}]}}]}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\n\
             metadata: {{name: {name}, uid: uid of {name}}}\nspec:\n  targetRefs: \
             [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]\n  \
             authentication: {{methods: [{methods}]}}\n{more}"
        )
    };
    let tokens = format!(
        "{{name: people, jwt: {{issuers: [{{issuer: '{ISSUER}', audiences: [a], algorithms: [ES256], keys: \
         {{inline: '{jwks}'}}}}]}}}}"
    );
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{name: http, port: {port}}}]}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: g}}\nspec: {{gatewayClassName: idm, listeners: [{{name: one, port: 80, protocol: HTTP}}]}}\n\
         {}{}{}---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot}}\n\
         spec: {{apiKey: {{}}, secretRef: {{name: robot}}}}\n{}",
        route("open", "{name: everyone, anonymous: {}}", ""),
        route("keys", "{name: machines, apiKey: {}}", ""),
        route("people", &tokens, "  resource: {}\n"),
        secret("robot", &[("key", key())])
    )
}

fn key() -> String {
    ApiKey::from_random([7; 32]).reveal().to_owned()
}

/// A policy on the Gateway with this baseline.
fn platform(baseline: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: platform, uid: uid of \
         platform}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: g}}]\n  \
         authentication: {{methods: [{{name: machines, apiKey: {{}}}}]}}\n  baseline: {{{baseline}}}\n"
    )
}

struct Bed {
    gateway: InProcess,
    upstream: Upstream,
    signer: SigningKey,
}

fn bed(baseline: &str) -> Bed {
    let signer = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let upstream = Upstream::new();
    let yaml = objects(upstream.address.port(), &signer.jwks()) + &platform(baseline);
    Bed { gateway: InProcess::start_with(&[("all.yaml", &yaml)], &[]), upstream, signer }
}

impl Bed {
    fn get(&self, host: &str, path: &str, headers: &str) -> Reply {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}.example\r\n{headers}\r\n");
        raw(self.gateway.address(), head.as_bytes())
    }

    fn with_key(&self, host: &str) -> Reply {
        self.get(host, "/", &format!("X-Api-Key: {}\r\n", key()))
    }

    fn with_token(&self, claims: &Value) -> Reply {
        let mut all = json!({"iss": ISSUER, "aud": "a", "sub": "ana", "exp": now() + 60});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let token = self.signer.sign(&all).unwrap();
        self.get("people", "/", &format!("Authorization: Bearer {token}\r\n"))
    }

    /// The only record of a request that was refused for this reason, without a byte at the upstream.
    fn refused(&self, what: impl Fn() -> Reply, status: u16, reason: &str) -> Value {
        self.upstream.forget();
        let reply = what();
        assert_eq!((reply.status, self.upstream.received().as_str()), (status, ""), "{reply:?}");
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        record
    }
}

#[test]
fn a_route_cannot_be_open_where_the_baseline_names_the_kinds_of_methods() {
    let bed = bed("methods: [apiKey, jwt]");
    let record = bed.refused(|| bed.get("open", "/", ""), 403, "BaselineNotMet");
    assert_eq!((&record["stage"], &record["policy"]["name"]), (&"authorize".into(), &"open".into()), "{record}");
    assert_eq!(record["policy"]["baselines"], json!(["default/platform"]));
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains("default/platform") && detail.contains("`anonymous`"), "{detail}");
    assert_eq!(bed.with_key("keys").status, 200);
    bed.refused(|| bed.get("keys", "/", ""), 401, "NoCredentials");
    assert_eq!(bed.with_token(&json!({})).status, 200);
}

#[test]
fn issuers_and_conditions_are_asked_for_every_request_whether_the_token_is_known_or_not() {
    let bed = bed("issuers: ['https://idp.example'], conditions: [{name: mfa, holds: \"identity.issuer == '' || \
                   'otp' in token.amr\"}, {name: reads, holds: \"request.method == 'GET'\"}]");
    for _ in 0..2 {
        assert_eq!(bed.with_token(&json!({"amr": ["pwd", "otp"]})).status, 200);
        let weak = bed.refused(|| bed.with_token(&json!({"amr": ["pwd"], "jti": "weak"})), 403, "BaselineNotMet");
        assert!(weak["detail"].as_str().unwrap().contains("`mfa`"), "{weak}");
        // A claim that is missing leaves the condition undecided, and then nothing passes.
        bed.refused(|| bed.with_token(&json!({"jti": "none"})), 403, "RuleUndecided");
    }
    let elsewhere = self::bed("issuers: ['https://other.example']");
    elsewhere.refused(|| elsewhere.with_token(&json!({})), 403, "BaselineNotMet");
    assert_eq!(elsewhere.with_key("keys").status, 200, "no issuer vouches for a key");
}

#[test]
fn requests_that_the_baseline_does_not_allow_are_refused_before_anyone_authenticates() {
    let bed = bed("access: {exceptPaths: [/admin], methods: [GET]}");
    for headers in ["", "X-Api-Key: wrong\r\n"] {
        let record = bed.refused(|| bed.get("keys", "/admin/users", headers), 403, "OutsidePaths");
        assert_eq!((&record["stage"], record["identity"].is_null()), (&"route".into(), true), "{record}");
        assert!(record["detail"].as_str().unwrap().contains("baseline of IdentityPolicy default/platform"), "{record}");
    }
    assert_eq!(bed.with_key("keys").status, 200);
    // The gateway's own endpoints are requests of the Gateway, too.
    let closed = self::bed("access: {addresses: [192.0.2.0/24]}");
    closed.refused(|| closed.with_key("keys"), 403, "OutsideAddresses");
    closed.refused(|| closed.get("people", "/.well-known/oauth-protected-resource", ""), 403, "OutsideAddresses");
    assert_eq!(bed.get("people", "/.well-known/oauth-protected-resource", "").status, 200);
}

#[test]
fn limits_of_the_baseline_count_over_all_routes() {
    let bed = bed("limits: [{name: all, key: AllCallers, rate: {requests: 2, perSeconds: 7200, burst: 2}}]");
    let first = bed.with_key("keys");
    assert_eq!((first.status, first.header("ratelimit-policy")), (200, Some("\"baseline/all\";q=2;w=7200")));
    assert_eq!(bed.get("open", "/", "").status, 200);
    let record = bed.refused(|| bed.with_token(&json!({})), 429, "RateLimited");
    assert_eq!(record["limit"], "baseline/all", "{record}");
    bed.refused(|| bed.get("open", "/", ""), 429, "RateLimited");
}

#[test]
fn a_service_of_the_same_namespace_is_no_way_around() {
    let signer = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let upstream = Upstream::new();
    let around = "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {name: around}\n\
                  spec:\n  targetRefs: [{group: '', kind: Service, name: up}]\n  \
                  authentication: {methods: [{name: everyone, anonymous: {}}]}\n";
    let yaml = objects(upstream.address.port(), &signer.jwks()).replace(
        "metadata: {name: up}",
        "metadata: {name: up, annotations: {identity-manager.io/hostnames: around.example}}",
    );
    let start = |more: &str| {
        let gateway = InProcess::start_with(&[("all.yaml", &format!("{yaml}{around}{more}"))], &[]);
        Bed { gateway, upstream: Upstream::new(), signer: SigningKey::generate(Algorithm::ES256, "k1").unwrap() }
    };
    assert_eq!(start("").get("around", "/", "").status, 200);
    let bed = start(&platform("methods: [apiKey]"));
    let record = bed.refused(|| bed.get("around", "/", ""), 403, "BaselineNotMet");
    assert_eq!(record["policy"]["name"], "around", "{record}");
    assert_eq!(upstream.received().matches("GET /").count(), 1, "that of the first gateway");
}

fn world(yaml: &str) -> World {
    read_files(&[("all.yaml".into(), yaml.into())], Settings::default()).unwrap().0
}

fn compiled(more: &str, previous: Option<&Bundle>) -> Compiled {
    compile(&world(&(objects(8080, &json!({"keys": []})).replace("people", "others") + more)), previous)
}

/// The refusal of the rule of a route, or the names of the baselines over it.
fn over(compiled: &Compiled, route: &str) -> Result<Vec<String>, Reason> {
    let rule = compiled.plan.rules.iter().find(|rule| rule.name.contains(&format!("/{route} "))).expect("a rule");
    match &rule.handler {
        Handler::Refuse { reason, .. } => Err(*reason),
        _ => Ok(rule.baselines.iter().map(|of| compiled.plan.policies[*of].key.name.clone()).collect()),
    }
}

#[test]
fn every_baseline_of_a_gateway_or_listener_holds_whichever_policy_covers_the_route() {
    let older = platform("methods: [apiKey]")
        .replace("name: platform", "name: older, creationTimestamp: '2020-01-01T00:00:00Z'");
    let listener = platform("issuers: [a]")
        .replace("name: platform", "name: listener")
        .replace("kind: Gateway, name: g}", "kind: Gateway, name: g, sectionName: one}");
    let all = compiled(&(older + &platform("methods: [jwt]") + &listener), None);
    let mut names = over(&all, "keys").unwrap();
    names.sort();
    assert_eq!(names, ["listener", "older", "platform"]);
    let note = all.report.findings().iter().find(|of| of.object.name == "keys" && of.cause == Cause::UnderBaseline);
    assert!(note.is_some_and(|note| note.is_note() && note.message.contains("'default/older'")), "{note:?}");
}

#[test]
fn a_baseline_that_cannot_be_used_closes_its_gateway_or_stays_as_it_was() {
    let good = compiled(&platform("methods: [apiKey]"), None);
    assert_eq!(over(&good, "keys"), Ok(vec!["platform".to_owned()]));
    let broken = platform("methods: [magic]");
    assert_eq!(over(&compiled(&broken, None), "keys"), Err(Reason::PolicyInvalid));
    let kept = compiled(&broken, Some(&good.seal(1)));
    assert_eq!(over(&kept, "keys"), Ok(vec!["platform".to_owned()]), "the last good one holds");
    assert_eq!(over(&compiled("", None), "keys"), Ok(Vec::new()));
}

#[test]
fn what_a_baseline_cannot_say_is_a_finding_at_its_field() {
    let at = |policy: &str| {
        let findings = compiled(policy, None).report;
        let of = findings.errors().find(|of| of.object.name == "platform").map(|of| (of.path.clone(), of.cause));
        of.unwrap_or_else(|| panic!("{policy}: {findings:?}"))
    };
    let limit = "limits: [{name: a, rate: {requests: 1, perSeconds: 1}}]";
    let tokens = "limits: [{name: a, key: AllCallers, tokens: {tokens: 100000, per: Day}}]";
    let cost = "limits: [{name: a, key: AllCallers, cost: {amount: '5', currency: EUR, per: Day}}]";
    for (baseline, path) in [
        ("", "spec.baseline"),
        ("methods: [magic]", "spec.baseline.methods[0]"),
        ("methods: []", "spec.baseline.methods"),
        ("issuers: []", "spec.baseline.issuers"),
        ("access: {policies: [a]}", "spec.baseline.access"),
        ("conditions: [{name: a, holds: '1 +'}]", "spec.baseline.conditions[0].holds"),
        ("conditions: [{name: a, holds: \"request.headers['x'] == 'y'\"}]", "spec.baseline.conditions[0].holds"),
        ("conditions: [{name: a, holds: 'true'}, {name: a, holds: 'true'}]", "spec.baseline.conditions[1].name"),
        (limit, "spec.baseline.limits[0].key"),
        (&format!("methods: [anonymous], {limit}"), "spec.baseline.limits[0].key"),
        (tokens, "spec.baseline.limits[0].tokens"),
        (cost, "spec.baseline.limits[0].cost"),
    ] {
        assert_eq!(at(&platform(baseline)), (path.to_owned(), Cause::Invalid), "{baseline}");
    }
    let route = platform("methods: [apiKey]").replace("kind: Gateway, name: g", "kind: HTTPRoute, name: keys");
    let report = compiled(&route, None).report;
    assert!(
        report.errors().any(|of| of.object.name == "platform" && of.path == "spec.targetRefs[0].kind"),
        "{report:?}"
    );
}

/// A baseline of the cluster: on the class `idm`.
fn cluster(baseline: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: cluster, uid: uid of \
         cluster}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: GatewayClass, name: idm}}]\n  \
         baseline: {{{baseline}}}\n"
    )
}

#[test]
fn a_baseline_of_the_class_holds_at_every_gateway_of_a_folder_beside_that_of_the_gateway() {
    let signer = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let upstream = Upstream::new();
    let yaml = objects(upstream.address.port(), &signer.jwks()) + &cluster("methods: [apiKey, jwt]");
    let both = yaml + &platform("methods: [apiKey, anonymous]");
    let bed = Bed { gateway: InProcess::start_with(&[("all.yaml", &both)], &[]), upstream, signer };
    let record = bed.refused(|| bed.get("open", "/", ""), 403, "BaselineNotMet");
    assert!(record["detail"].as_str().unwrap().contains("default/cluster"), "{record}");
    assert_eq!(record["policy"]["baselines"], json!(["default/cluster", "default/platform"]));
    bed.refused(|| bed.with_token(&json!({})), 403, "BaselineNotMet");
    assert_eq!(bed.with_key("keys").status, 200, "both allow");
}

/// The namespace `default` of a cluster whose operator is in `idm-system`, where these objects are.
fn in_cluster(here: &str, system: &str, previous: Option<&Bundle>) -> Compiled {
    let of = |namespace: &str, yaml: &str| {
        let mut of = world(yaml);
        of.namespace = namespace.into();
        of.permissions.system_namespace = Some("idm-system".into());
        of
    };
    let mut own = of("default", &(objects(8080, &json!({"keys": []})).replace("people", "others") + here));
    own.set_platform(of("idm-system", system));
    compile(&own, previous)
}

#[test]
fn the_operators_namespace_alone_can_demand_something_of_the_whole_cluster() {
    let demanding = in_cluster("", &cluster("methods: [apiKey]"), None);
    assert_eq!(over(&demanding, "keys"), Ok(vec!["cluster".to_owned()]));
    let key = &demanding.plan.policies.iter().find(|policy| policy.baseline.is_some()).unwrap().key;
    assert_eq!(key.to_string(), "idm-system/cluster");
    let mut findings = demanding.report.findings().iter();
    let note = findings.find(|of| of.object.name == "keys" && of.cause == Cause::UnderBaseline);
    assert!(note.is_some_and(|note| note.message.contains("'idm-system/cluster'")), "{note:?}");
    let findings: Vec<_> = demanding.report.findings().iter().filter(|of| of.object.name == "cluster").collect();
    assert!(findings.is_empty(), "its faults are said in its own namespace: {findings:?}");

    let elsewhere = in_cluster(&cluster("methods: [apiKey]"), "", None);
    assert_eq!(over(&elsewhere, "keys"), Ok(Vec::new()), "another namespace demands nothing");
    let found = elsewhere.report.errors().find(|of| of.object.name == "cluster").map(|of| (of.path.as_str(), of.cause));
    assert_eq!(found, Some(("spec.targetRefs[0]", Cause::RefNotPermitted)));

    // One that is not for a class stays where it is; one of another class is not for these Gateways.
    let other = cluster("methods: [apiKey]").replace("name: idm}", "name: other}");
    assert_eq!(over(&in_cluster("", &other, None), "keys"), Ok(Vec::new()));
    assert_eq!(over(&in_cluster("", &platform("methods: [apiKey]"), None), "keys"), Ok(Vec::new()));
}

#[test]
fn a_baseline_of_the_cluster_that_cannot_be_used_closes_or_stays_as_it_was_and_a_shadow_does_neither() {
    let good = in_cluster("", &cluster("methods: [apiKey]"), None);
    let broken = cluster("methods: [magic]");
    assert_eq!(over(&in_cluster("", &broken, None), "keys"), Err(Reason::PolicyInvalid));
    let kept = in_cluster("", &broken, Some(&good.seal(1)));
    assert_eq!(over(&kept, "keys"), Ok(vec!["cluster".to_owned()]));
    assert_eq!(over(&in_cluster("", "", Some(&good.seal(1))), "keys"), Ok(Vec::new()), "it goes with its object");
    let shadow = cluster("methods: [apiKey]").replace("  baseline:", "  enforcement: Shadow\n  baseline:");
    let judged = in_cluster("", &shadow, None);
    assert_eq!(over(&judged, "keys"), Ok(Vec::new()));
    assert!(judged.plan.rules.iter().any(|rule| rule.name.contains("/keys ") && rule.shadows.len() == 1));
}

#[test]
fn a_policy_on_a_class_has_a_baseline_and_nothing_else() {
    let at = |policy: &str| {
        let mut own = world(policy);
        own.permissions.system_namespace = Some(own.namespace.clone());
        let report = compile(&own, None).report;
        report.errors().map(|of| of.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(at(&cluster("methods: [apiKey]")), Vec::<String>::new());
    let more = cluster("methods: [apiKey]") + "  disclosure: Detailed\n";
    assert_eq!(at(&more), ["spec.disclosure"]);
    let two = cluster("methods: [apiKey]")
        .replace("targetRefs: [", "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: keys}, ");
    assert!(at(&two).contains(&"spec.targetRefs".to_owned()));
    let nothing = cluster("").replace("  baseline: {}\n", "");
    assert_eq!(at(&nothing), ["spec.baseline"]);
}
