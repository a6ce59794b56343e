//! One Gateway for several namespaces: each keeps its own policies and Credentials.

use anyhow::{Context, Result, ensure};
use idm_e2e::{Space, eventually, kubectl, refused};
use serde_json::Value;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shared}
spec:
  gatewayClassName: idm
  listeners:
  - name: http
    port: 80
    protocol: HTTP
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {e2e-uses: shared}}}}
";

/// A route under the shared Gateway, its policy, and a Credential for which the operator makes the key.
fn tenant(name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: shop}}\nspec:\n  parentRefs: \
         [{{name: shared, namespace: e2e-shared}}]\n  hostnames: [{name}.example]\n  rules: [{{backendRefs: [{{name: \
         echo, port: 80}}]}}]\n---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: \
         shop}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}}]\n  \
         authentication: {{methods: [{{name: machines, apiKey: {{}}}}]}}\n---\napiVersion: \
         identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot}}\nspec: {{apiKey: {{}}, secretRef: \
         {{name: robot-key}}}}\n"
    )
}

fn key(space: &Space) -> Result<String> {
    use base64::Engine;
    let secret = space.object("secret", "robot-key")?;
    let key = secret["data"]["key"].as_str().context("no key")?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(key)?)?)
}

/// Status and reason of `Accepted` under the shared Gateway.
fn accepted(space: &Space) -> Result<(String, String)> {
    let route = space.object("httproute", "shop")?;
    let conditions = route.pointer("/status/parents/0/conditions").and_then(Value::as_array).context("no status")?;
    let accepted = conditions.iter().find(|condition| condition["type"] == "Accepted").context("not decided")?;
    let text = |field: &str| accepted[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason")))
}

#[tokio::test]
async fn namespaces_that_share_a_gateway_share_no_callers() -> Result<()> {
    let (shared, blue, red) = (Space::new("e2e-shared")?, Space::new("e2e-blue")?, Space::new("e2e-red")?);
    kubectl(&["label", "namespace", "e2e-blue", "e2e-uses=shared"])?;
    shared.apply(GATEWAY)?;
    for space in [&blue, &red] {
        space.apply(&tenant(space.name.trim_start_matches("e2e-")))?;
        space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    }
    // Its status speaks of the pods in the other namespace, and it has none of its own.
    blue.wait_ready("identitypolicy", "shop")?;
    ensure!(!blue.kubectl(&["get", "deployments", "-o", "name"])?.contains("idm-gateway"));
    let ask = async |host: &str, key: &str| shared.send("GET", "/asked", &[("host", host), ("x-api-key", key)]).await;
    let mine = key(&blue)?;
    eventually("the key of blue opens its route", async || {
        Ok(ensure!(ask("blue.example", &mine).await?.status == 200))
    })
    .await?;

    // The listener does not allow red.
    ensure!(accepted(&red)? == ("False".into(), "NotAllowedByListeners".into()), "{:?}", accepted(&red)?);
    refused(&ask("red.example", &mine).await?, 404)?;
    kubectl(&["label", "namespace", "e2e-red", "e2e-uses=shared"])?;
    red.wait_ready("identitypolicy", "shop")?;
    ensure!(accepted(&red)? == ("True".into(), "Accepted".into()), "{:?}", accepted(&red)?);
    let theirs = key(&red)?;
    eventually("the key of red opens its route", async || {
        Ok(ensure!(ask("red.example", &theirs).await?.status == 200))
    })
    .await?;
    let seen = (blue.seen_upstream("/asked")?, red.seen_upstream("/asked")?);
    refused(&ask("red.example", &mine).await?, 401)?;
    refused(&ask("blue.example", &theirs).await?, 401)?;
    ensure!(seen == (blue.seen_upstream("/asked")?, red.seen_upstream("/asked")?));

    // Without the label the route is gone.
    kubectl(&["label", "namespace", "e2e-red", "e2e-uses-"])?;
    eventually("red is gone", async || refused(&ask("red.example", &theirs).await?, 404)).await?;
    ensure!(ask("blue.example", &mine).await?.status == 200);
    for space in [blue, red, shared] {
        space.delete()?;
    }
    Ok(())
}
