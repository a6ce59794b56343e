//! Promises that hold while the operator is away, or started anew with other settings. A file of its own: it stops the
//! operator that the other promises need, and cargo runs test files one after the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use idm_e2e::{OPEN, Space, eventually, kubectl, kubectl_with};

/// There is one operator.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn gateways_serve_start_and_end_without_an_operator() -> Result<()> {
    let _turn = TURN.lock().await;
    let space = Space::new("e2e-alone")?;
    space.apply(OPEN)?;
    space.wait_ready("identitypolicy", "open")?;
    kubectl(&["-n", "idm-system", "scale", "deployment/idm-operator", "--replicas=0"])?;
    kubectl(&[
        "-n",
        "idm-system",
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=idm-operator",
        "--timeout=60s",
    ])?;
    let outcome = alone(space).await;
    kubectl(&["-n", "idm-system", "scale", "deployment/idm-operator", "--replicas=2"])?;
    outcome
}

async fn alone(space: Space) -> Result<()> {
    eventually("it serves", async || Ok(ensure!(space.send("GET", "/", &[]).await?.status == 200))).await?;
    // A new pod starts from the mounted configuration.
    space.kubectl(&["delete", "pod", "-l", "app.kubernetes.io/name=idm-gateway", "--wait=true", "--timeout=60s"])?;
    eventually("new pods serve the last good configuration", async || {
        Ok(ensure!(space.send("GET", "/", &[]).await?.status == 200))
    })
    .await?;
    // Deleting the namespace does not hang on anybody.
    let name = space.name.clone();
    let start = std::time::Instant::now();
    space.delete()?;
    ensure!(start.elapsed() < Duration::from_secs(60), "{name} took {:?}", start.elapsed());
    Ok(())
}

const KEYS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: idm-seal-keys}
stringData: {primary: '2027-01', '2027-01': '0123456789abcdef0123456789abcdef'}
";

/// A policy with a secret of its own, beside the password of the store that every gateway has.
const WITH_SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: idp}
stringData: {clientSecret: planted-client-secret}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: open}
spec:
  targetRefs: [{group: '', kind: Service, name: echo}]
  authentication:
    methods:
    - name: opaque
      introspection:
        issuer: https://idp.example
        endpoint: https://idp.example/introspect
        clientId: shop
        clientSecretRef: {name: idp}
    - {name: everyone, anonymous: {}}
";

/// Starts the operator anew with a variable of its pods.
fn restart_with(variable: &str) -> Result<()> {
    kubectl(&["-n", "idm-system", "set", "env", "deployment/idm-operator", variable])?;
    kubectl(&["-n", "idm-system", "rollout", "status", "deployment/idm-operator", "--timeout=120s"]).map(drop)
}

#[tokio::test]
async fn with_sealing_no_secret_of_a_gateway_is_stored_in_the_clear_and_it_serves() -> Result<()> {
    let _turn = TURN.lock().await;
    let space = Space::new("e2e-sealed")?;
    // It is in the clear first, and has been served.
    space.apply(WITH_SECRET)?;
    space.wait_ready("identitypolicy", "open")?;
    kubectl_with(&["-n", "idm-system", "apply", "-f", "-"], KEYS)?;
    restart_with("IDM_SEAL_KEY_SECRET=idm-seal-keys")?;
    let outcome = sealed(&space).await;
    restart_with("IDM_SEAL_KEY_SECRET-")?;
    outcome?;
    eventually("without sealing it serves as before", async || {
        ensure!(space.send("GET", "/", &[]).await?.status == 200);
        let bundle = space.object("secret", "idm-gateway")?["data"]["bundle"].as_str().unwrap_or_default().to_owned();
        Ok(ensure!(bundle.starts_with("H4sI"), "it is sealed still"))
    })
    .await?;
    space.delete()
}

async fn sealed(space: &Space) -> Result<()> {
    // Base64 of what every sealed value begins with.
    const SEALED: &str = "AGlkbS1zZWFsZWQB";
    eventually("every value is sealed", async || {
        let secret = space.object("secret", "idm-gateway")?;
        let data = secret["data"].as_object().into_iter().flatten();
        let clear: Vec<_> =
            data.filter(|(_, value)| value.as_str().is_none_or(|value| !value.starts_with(SEALED))).collect();
        Ok(ensure!(clear.is_empty() && !secret["data"]["store-password"].is_null(), "in the clear: {clear:?}"))
    })
    .await?;
    eventually("all gateways have it in force", async || {
        let (status, reason, message) = space.condition("identitypolicy", "open", "Programmed")?;
        Ok(ensure!(status == "True" && message.contains("2/2"), "{status} {reason} {message}"))
    })
    .await?;
    ensure!(space.send("GET", "/", &[]).await?.status == 200);
    let stored = space.kubectl(&["get", "secret", "idm-gateway", "idm-gateway-seal", "-o", "json"])?;
    ensure!(!stored.contains("0123456789abcdef"), "the operator's key is not in the namespace: {stored}");
    // A change is in force too, and a new pod starts from what is mounted.
    space.apply(&WITH_SECRET.replace("name: everyone", "name: everybody"))?;
    eventually("a change is in force", async || {
        let (status, _, message) = space.condition("identitypolicy", "open", "Programmed")?;
        Ok(ensure!(status == "True" && message.contains("2/2"), "{status} {message}"))
    })
    .await?;
    space.kubectl(&["delete", "pod", "-l", "app.kubernetes.io/name=idm-gateway", "--wait=true", "--timeout=60s"])?;
    eventually("new pods serve it", async || Ok(ensure!(space.send("GET", "/", &[]).await?.status == 200))).await
}
