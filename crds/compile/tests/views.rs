//! The views that people have of a compiled namespace: its topology, and the settings in force for a policy.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use idm_compile::{Compiled, Settings, State, Topology, World, compile, effective, topology, yaml::read_files};
use idm_plan::ObjectKey;

fn read(yaml: String) -> (World, Compiled) {
    let settings = Settings { remembers_together: true, ..Settings::default() };
    let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings).expect("it is read");
    let compiled = compile(&world, None);
    (world, compiled)
}

fn example() -> (World, Compiled) {
    read(std::fs::read_to_string(file("views.yaml")).expect("it is there"))
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Compares with a golden file; `IDM_UPDATE=1` writes it.
fn golden(name: &str, text: &str) {
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(file(name), text).expect("the golden file");
    }
    assert_eq!(std::fs::read_to_string(file(name)).unwrap_or_default(), text, "{name}");
}

#[test]
fn the_topology_shows_what_gateways_do() {
    let (world, compiled) = example();
    let Topology { nodes, edges } = topology(&world, &compiled);
    let mut text = String::new();
    for node in &nodes {
        let note = node.note.as_deref().map(|note| format!(" - {note}")).unwrap_or_default();
        let _ = writeln!(text, "{} {:?}{note}", node.id, node.state);
    }
    for edge in &edges {
        let _ = writeln!(text, "{} {:?} {}", edge.from, edge.kind, edge.to);
    }
    golden("topology.golden", &text);
    let shown = serde_json::to_value(&edges).expect("JSON");
    assert!(shown.as_array().expect("a list").iter().any(|edge| edge["kind"] == "inherits"), "{shown}");
}

#[test]
fn a_rule_that_nothing_covers_is_open_only_where_its_class_says_so() {
    let yaml = std::fs::read_to_string(file("views.yaml")).expect("it is there");
    let uncovered = yaml.replace("kind: Gateway, name: front}]", "kind: Gateway, name: none}]");
    assert_ne!(uncovered, yaml);
    let state = |yaml: String| {
        let (world, compiled) = read(yaml);
        let nodes = topology(&world, &compiled).nodes;
        let states: BTreeMap<_, _> = nodes.into_iter().map(|node| (node.id, node.state)).collect();
        states["HTTPRoute/default/invoices/rule/0"]
    };
    assert_eq!(state(uncovered.clone()), State::Broken);
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: idm, annotations: \
        {danger.identity-manager.io/open: \"true\"}}\nspec: {controllerName: identity-manager.io/gateway}\n---\n"
        .replace("identity-manager.io/gateway", idm_api::CONTROLLER_NAME)
        .replace("danger.identity-manager.io/open", idm_api::DANGER_OPEN_ANNOTATION);
    assert_eq!(state(class + &uncovered), State::Open);
}

#[test]
fn each_setting_in_force_has_its_source() {
    let (world, compiled) = example();
    let mut text = String::new();
    for name in ["orders", "health", "ledger", "platform"] {
        let policy = effective(&world, &compiled, &ObjectKey::new("default", name)).expect("it is there");
        let _ = writeln!(text, "{name}: generation {}, in force {:?}", policy.generation, policy.in_force);
        let lines = policy.notes.iter().map(|note| format!("note {note}"));
        let lines =
            lines.chain(policy.holds.iter().map(|of| format!("holds {}, inherited: {}", of.rule, of.inherited)));
        let lines = lines.chain(policy.overridden.iter().map(|of| format!("overridden {} by {}", of.rule, of.by)));
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
        for setting in &policy.settings {
            let _ = writeln!(text, "  {} = {} ({})", setting.field, setting.value, setting.source);
        }
    }
    golden("effective.golden", &text);
    assert!(effective(&world, &compiled, &ObjectKey::new("default", "nobody")).is_none());
}

#[test]
fn the_topology_of_a_thousand_policies_takes_a_moment() {
    let mut yaml = String::from(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: front}\n\
         spec: {gatewayClassName: idm, listeners: [{name: http, port: 80, protocol: HTTP}]}\n",
    );
    for n in 0..1000 {
        let _ = write!(
            yaml,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{n}}}\n\
             spec: {{parentRefs: [{{name: front}}], hostnames: [r{n}.example], \
             rules: [{{backendRefs: [{{name: s{n}, port: 80}}]}}]}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\nspec: {{ports: [{{port: 80}}]}}\n\
             ---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p{n}}}\n\
             spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r{n}}}], \
             authentication: {{methods: [{{name: m, apiKey: {{}}}}]}}}}\n"
        );
    }
    let (world, compiled) = read(yaml);
    let started = Instant::now();
    let Topology { nodes, edges } = topology(&world, &compiled);
    let took = started.elapsed();
    assert_eq!((nodes.len(), edges.len()), (1 + 4 * 1000, 4 * 1000));
    assert!(nodes.iter().all(|node| node.state == State::Enforced));
    // Several thousand times a quadratic way would take seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
