//! Which Credentials a selector accepts is asked of the table of Credentials: the plan knows only the labels.

use idm_compile::{Compiled, Settings, compile, yaml::read_files};
use idm_plan::{Base64Method, BasicMethod, MethodKind, Selector, Validator};
use idm_types::ApiKey;

const METHODS: &str = "
apiVersion: v1
kind: Service
metadata: {name: up, annotations: {identity-manager.io/hostnames: '*'}}
spec: {type: ExternalName, externalName: 127.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: '', kind: Service, name: up}]
  authentication:
    methods:
    - {name: keys, apiKey: {credentialSelector: {matchLabels: {tier: gold}}}}
    - {name: names, basic: {realm: r, credentialSelector: {matchLabels: {tier: gold}}}}
    - name: pairs
      base64:
        sources: [{header: {name: X-Pair}}]
        layout: '{username}:{password}'
        credentialSelector: {matchLabels: {tier: gold}}
";

fn with(credentials: &[(&str, u8, &str)]) -> Compiled {
    let of = |(name, key, labels): &(&str, u8, &str)| {
        let key = ApiKey::from_random([*key; 32]);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: {}}}\n---\n\
             apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}, labels: {labels}}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: {name}}}}}\n",
            key.reveal()
        )
    };
    let text = format!("{METHODS}{}", credentials.iter().map(of).collect::<String>());
    let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).unwrap();
    let compiled = compile(&world, None);
    assert_eq!(compiled.report.errors().map(|finding| &finding.message).collect::<Vec<_>>(), [""; 0]);
    compiled
}

#[test]
fn who_is_selected_is_no_part_of_the_plan() {
    let first = with(&[("a", 1, "{tier: gold}"), ("b", 2, "{tier: iron}")]);
    let selectors = first.plan.policies[0].methods.iter().map(|method| match &method.kind {
        MethodKind::ApiKey(method) => &method.only,
        MethodKind::Basic(BasicMethod { validators, .. }) | MethodKind::Base64(Base64Method { validators, .. }) => {
            match validators.as_slice() {
                [Validator::Credentials(only)] => only,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    });
    let selectors: Vec<&Selector> = selectors.collect();
    assert_eq!(selectors.len(), 3);
    for only in &selectors {
        let accepted: Vec<bool> = first.credentials.all.iter().map(|one| only.accepts(&one.labels)).collect();
        assert_eq!(accepted, [true, false]);
    }

    let changed = [
        with(&[("a", 1, "{tier: gold}"), ("b", 2, "{tier: iron}"), ("c", 3, "{tier: gold}")]),
        with(&[("b", 2, "{tier: iron}")]),
        with(&[("a", 1, "{tier: iron}"), ("b", 2, "{tier: gold}")]),
        with(&[]),
    ];
    let sealed = first.seal(1);
    for next in changed {
        assert_eq!(next.plan, first.plan);
        let next = next.seal(1);
        assert_eq!(next.plan_digest(), sealed.plan_digest());
        assert_ne!(next.digest, sealed.digest, "a gateway hears of it");
    }
}
