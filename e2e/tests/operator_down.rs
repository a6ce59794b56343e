//! Promises that hold while the operator is away. A file of its own: it stops the operator that the other
//! promises need, and cargo runs test files one after the other.

use std::time::Duration;

use anyhow::{Result, ensure};
use idm_e2e::{OPEN, Space, eventually, kubectl};

#[tokio::test]
async fn gateways_serve_start_and_end_without_an_operator() -> Result<()> {
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
