//! Two Gateways of one namespace: each has pods, an address and a scale of its own, and neither serves the other's
//! hosts.

use anyhow::{Context, Result, ensure};
use idm_e2e::{Space, eventually, refused};
use serde_json::Value;

/// A Gateway with a route, and a policy that takes keys.
fn gateway(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  gatewayClassName: idm
  infrastructure: {{parametersRef: {{group: '', kind: ConfigMap, name: {name}}}}}
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: {name}}}]
  hostnames: [{name}.example]
  rules: [{{backendRefs: [{{name: echo, port: 80}}]}}]
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}]
  authentication: {{methods: [{{name: keys, apiKey: {{}}}}]}}
---
"
    )
}

fn parameters(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n---\n")
}

const ROBOT: &str = "apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: robot}
spec: {apiKey: {}, secretRef: {name: robot-key}}
";

fn key(space: &Space) -> Result<String> {
    use base64::Engine;
    let secret = space.object("secret", "robot-key")?;
    let key = secret["data"]["key"].as_str().context("no key")?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(key)?)?)
}

fn accepted(space: &Space, name: &str) -> Result<(String, String)> {
    let (status, reason, _) = space.condition("gateway", name, "Accepted")?;
    Ok((status, reason))
}

#[tokio::test]
async fn two_gateways_of_a_namespace_have_addresses_of_their_own_and_nothing_of_each_other() -> Result<()> {
    let space = Space::new("e2e-gateways")?;
    let one = parameters("blue", "{replicas: '1'}");
    let two = parameters("red", "{autoscaling: '{min: 2, max: 3, targetCPU: 500}', service: 'type: NodePort'}");
    space.apply(&format!("{one}{two}{}{}{ROBOT}", gateway("blue"), gateway("red")))?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    for name in ["blue", "red"] {
        space.kubectl(&["wait", "--for=condition=Programmed", &format!("gateway/{name}"), "--timeout=90s"])?;
        space.wait_ready("identitypolicy", name)?;
    }
    let (blue, red) = (space.address_of("blue")?, space.address_of("red")?);
    ensure!(blue != red, "both have {blue}");
    let key = key(&space)?;
    let ask =
        async |address, host: &str| space.send_to(address, "/asked", &[("host", host), ("x-api-key", &key)]).await;
    for (address, own, other) in [(blue, "blue.example", "red.example"), (red, "red.example", "blue.example")] {
        eventually("its own host is served", async || Ok(ensure!(ask(address, own).await?.status == 200))).await?;
        let seen = space.seen_upstream("/asked")?;
        refused(&ask(address, other).await?, 404)?;
        ensure!(space.seen_upstream("/asked")? == seen, "{other} was served at {address}");
    }

    // The policy speaks of its own pods alone, and the parameters are in force.
    let (_, _, message) = space.condition("identitypolicy", "blue", "Programmed")?;
    ensure!(message.starts_with("1/1 gateways"), "{message}");
    ensure!(space.object("service", "idm-gateway-red")?["spec"]["type"] == "NodePort");
    ensure!(space.object("deployment", "idm-gateway").is_err(), "no policy names a Service");
    let scaler = space.object("horizontalpodautoscaler", "idm-gateway-red")?;
    ensure!(scaler["spec"]["minReplicas"] == 2 && scaler["spec"]["maxReplicas"] == 3, "{scaler}");

    // No pod may read the bundle of the other one.
    let may = |gateway: &str, secret: &str| {
        let account = format!("--as=system:serviceaccount:{}:idm-gateway-{gateway}", space.name);
        space.kubectl(&["auth", "can-i", "get", &format!("secret/{secret}"), &account]).is_ok()
    };
    ensure!(may("blue", "idm-gateway-blue") && !may("blue", "idm-gateway-red") && !may("blue", "robot-key"));

    // A mistake in the parameters stops no traffic.
    let before = space.object("deployment", "idm-gateway-blue")?["metadata"]["generation"].clone();
    space.apply(&parameters("blue", "{replicas: '1', replica: '9'}"))?;
    eventually("the Gateway says that its parameters cannot be used", async || {
        Ok(ensure!(accepted(&space, "blue")? == ("False".into(), "InvalidParameters".into())))
    })
    .await?;
    ensure!(ask(blue, "blue.example").await?.status == 200);
    ensure!(space.object("deployment", "idm-gateway-blue")?["metadata"]["generation"] == before);
    space.apply(&one)?;
    eventually("it is accepted again", async || Ok(ensure!(accepted(&space, "blue")?.0 == "True"))).await?;

    // One goes with all of its objects, and the other stays.
    space.kubectl(&["delete", "gateway", "red"])?;
    eventually("the objects of the deleted Gateway are gone", async || {
        let kinds = "deployments,services,serviceaccounts,roles,rolebindings.rbac.authorization.k8s.io,secrets,\
                     poddisruptionbudgets,networkpolicies,horizontalpodautoscalers";
        let left: Value = serde_json::from_str(&space.kubectl(&["get", kinds, "-o", "json"])?)?;
        let names = left["items"].as_array().into_iter().flatten().filter_map(|of| of["metadata"]["name"].as_str());
        let left: Vec<_> = names.filter(|name| *name == "idm-gateway-red").collect();
        Ok(ensure!(left.is_empty(), "{} are left", left.len()))
    })
    .await?;
    ensure!(ask(blue, "blue.example").await?.status == 200);
    space.delete()
}
