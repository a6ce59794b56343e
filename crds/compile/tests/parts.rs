//! Parts of a namespace: each Gateway has its own traffic, and the parts together have all of it.

use std::collections::BTreeSet;

use idm_compile::{Compiled, CompiledPart, Layout, Part, Settings, compile, in_force, yaml::read_files};
use idm_plan::{Bundle, Plan, VirtualHost};

fn gateway(name: &str, port: u16, annotation: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}{annotation}}}
spec: {{gatewayClassName: idm, listeners: [{{name: http, port: {port}, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{name}.example, both.example]
  rules: [{{backendRefs: [{{name: orders, port: 80}}]}}]
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  authentication:
    methods:
    - name: opaque
      introspection: {{issuer: 'https://{name}.idp', endpoint: 'https://{name}.idp/ask', clientId: c, \
        clientSecretRef: {{name: client-{name}}}}}
    - {{name: people, basic: {{realm: a, validators: [{{federationRef: {{name: {name}}}}}]}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: client-{name}}}
stringData: {{clientSecret: s}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {{name: {name}}}
spec: {{ldap: {{servers: ['ldaps://{name}.corp'], bind: {{anonymous: {{}}}}, \
         users: {{base: 'dc=a', loginAttributes: [uid]}}}}}}
---
"
    )
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {ports: [{name: http, port: 80}]}
---
";
const POLICY: &str = "apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: orders}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  authentication: {methods: [{name: keys, apiKey: {}}]}
";

fn compiled(yaml: &str, layout: Layout) -> Compiled {
    let settings = Settings { remembers_together: true, layout, ..Settings::default() };
    compile(&read_files(&[("all.yaml".into(), yaml.into())], settings).expect("the YAML is read").0, None)
}

fn names(parts: &[std::sync::Arc<CompiledPart>]) -> Vec<Part> {
    parts.iter().map(|part| part.part.clone()).collect()
}

fn own(name: &str) -> Part {
    Part::Gateway(name.into())
}

/// The rule and policy of each entry of the hosts, in words that do not depend on positions.
fn entries(plan: &Plan, hosts: &[VirtualHost]) -> BTreeSet<String> {
    let of = |host: &VirtualHost| -> Vec<String> {
        let told = host.entries.iter().map(|entry| {
            let rule = &plan.rules[entry.rule];
            let policy = rule.handler.route_policy().map(|policy| &plan.policies[policy].key.name);
            format!("{:?} {:?} {} {policy:?}", host.host, entry.path, rule.name)
        });
        told.collect()
    };
    hosts.iter().flat_map(of).collect()
}

#[test]
fn each_gateway_has_its_own_traffic_and_the_parts_have_all_of_it() {
    let yaml = format!("{}{}{SERVICE}{POLICY}", gateway("blue", 80, ""), gateway("gold", 8080, ""));
    let Compiled { plan, parts, report, .. } = compiled(&yaml, Layout::Own);
    assert_eq!(report.errors().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(names(&parts), [Part::Shared, own("blue"), own("gold")]);
    let mut all = BTreeSet::new();
    for (part, name, other) in [(&parts[1], "blue", "gold"), (&parts[2], "gold", "blue")] {
        let text = format!("{:?} {:?}", part.plan, part.secrets);
        assert!(!text.contains(other) && !text.contains("Service shop/orders"), "{text}");
        assert_eq!(format!("{:?}", part.secrets), format!("{{\"secret/client-{name}/clientSecret\"}}"));
        let federations: Vec<_> = part.plan.federations.iter().map(|of| of.key.name.as_str()).collect();
        assert_eq!((federations, part.plan.policies.len()), (vec![name], 1));
        assert_eq!(part.ports.http, Some(if name == "blue" { 80 } else { 8080 }));
    }
    for part in &parts {
        all.extend(entries(&part.plan, &part.plan.hosts));
    }
    assert_eq!(all, entries(&plan, &plan.hosts));
    assert!(parts[0].plan.policies.iter().all(|policy| policy.key.name == "orders"));

    // Shared, they have one port, that of the older; the other one's listener says so.
    let Compiled { parts, report, .. } = compiled(&yaml, Layout::Shared);
    assert_eq!(names(&parts), [Part::Shared]);
    assert!(report.errors().any(|finding| finding.cause.name() == "PortUnavailable"));
    assert!(compiled(&yaml, Layout::OneProcess).parts.is_empty(), "a folder has one process");
}

#[test]
fn the_annotation_decides_where_a_gateway_is_and_an_unknown_value_is_refused() {
    let annotated = |value: &str| format!(", annotations: {{{}: {value}}}", idm_api::LAYOUT_ANNOTATION);
    let of = |value: &str, layout| {
        let compiled = compiled(&format!("{}{SERVICE}", gateway("blue", 80, &annotated(value))), layout);
        (names(&compiled.parts), compiled.report.errors().map(|finding| finding.cause.name()).collect::<Vec<_>>())
    };
    assert_eq!(of("shared", Layout::Own), (vec![Part::Shared], vec![]));
    assert_eq!(of("own", Layout::Shared), (vec![own("blue")], vec![]));
    assert_eq!(of("mine", Layout::Own), (vec![own("blue")], vec!["InvalidParameters"]));
}

#[test]
fn a_policy_that_becomes_invalid_keeps_its_version_in_the_part_that_has_it() {
    let yaml = format!("{}{}{SERVICE}{POLICY}", gateway("blue", 80, ""), gateway("gold", 80, ""));
    let before = compiled(&yaml, Layout::Own);
    let seal = |part: &std::sync::Arc<CompiledPart>| {
        Bundle::seal(part.plan.clone(), part.secrets.clone(), before.credentials.clone(), 1)
    };
    let bundles: Vec<Bundle> = before.parts.iter().map(seal).collect();
    let broken = yaml.replace("clientSecretRef: {name: client-gold}", "clientSecretRef: {name: gone}");
    let settings = Settings { remembers_together: true, layout: Layout::Own, ..Settings::default() };
    let world = read_files(&[("all.yaml".into(), broken)], settings).expect("the YAML is read").0;
    let after = compile(&world, in_force(bundles.iter()).as_ref());
    assert!(after.report.errors().any(|finding| finding.cause.name() == "InvalidKeptPrevious"));
    for (before, after) in before.parts.iter().zip(&after.parts) {
        assert_eq!((&before.plan, &before.secrets), (&after.plan, &after.secrets), "{:?}", after.part);
    }
    assert_eq!(in_force(std::iter::empty()), None);
}

#[test]
fn a_policy_in_shadow_judges_in_the_part_of_its_route() {
    let shadow = "---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: tried}
spec:
  enforcement: Shadow
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: gold}]
  authentication: {methods: [{name: keys, apiKey: {}}]}
";
    let yaml = format!("{}{}{SERVICE}{POLICY}{shadow}", gateway("blue", 80, ""), gateway("gold", 8080, ""));
    let Compiled { parts, report, .. } = compiled(&yaml, Layout::Own);
    assert_eq!(report.errors().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let judging = |part: &CompiledPart| -> BTreeSet<String> {
        let shadows = part.plan.rules.iter().flat_map(|rule| &rule.shadows);
        shadows.map(|shadow| part.plan.policies[shadow.policy].key.name.clone()).collect()
    };
    let found: Vec<_> = parts.iter().map(|part| judging(part)).collect();
    assert_eq!(found, [BTreeSet::new(), BTreeSet::new(), BTreeSet::from(["tried".to_owned()])]);
}
