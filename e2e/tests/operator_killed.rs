//! Promises that hold when the operator dies in the middle of its work. A file of its own, like `operator_down.rs`.

use anyhow::{Result, ensure};
use idm_e2e::{OPEN, Space, eventually, kubectl};
use serde_json::Value;

/// The moment in the work of the operator when it is killed.
enum Moment {
    /// The policy is stored.
    Stored,
    /// The configuration is written.
    Written,
    /// The status of the policy is written.
    Reported,
}

/// Waits until the operator's work on the policy is that far. `before` is the configuration before the change.
async fn reached(space: &Space, moment: &Moment, before: &Value) -> Result<()> {
    eventually("the operator's work is that far", async || match moment {
        Moment::Stored => Ok(()),
        Moment::Written => Ok(ensure!(configuration(space)? != *before, "the configuration is the one before")),
        Moment::Reported => space.condition("identitypolicy", "open", "Programmed").map(drop),
    })
    .await
}

fn configuration(space: &Space) -> Result<Value> {
    Ok(space.object("secret", "idm-gateway")?["data"].clone())
}

#[tokio::test]
async fn a_killed_operator_is_replaced_and_what_it_began_is_finished() -> Result<()> {
    let space = Space::new("e2e-crash")?;
    for (round, moment) in [Moment::Stored, Moment::Written, Moment::Reported].iter().enumerate() {
        let before = configuration(&space).unwrap_or_default();
        space.apply(&OPEN.replace("name: everyone", &format!("name: everyone-{round}")))?;
        reached(&space, moment, &before).await?;
        kubectl(&[
            "-n",
            "idm-system",
            "delete",
            "pod",
            "-l",
            "app.kubernetes.io/name=idm-operator",
            "--force",
            "--grace-period=0",
        ])?;
        eventually("the next leader finishes it", async || {
            let (status, _, message) = space.condition("identitypolicy", "open", "Ready")?;
            Ok(ensure!(status == "True" && message.contains("2/2"), "{status} {message}"))
        })
        .await?;
    }
    eventually("it serves", async || Ok(ensure!(space.send("GET", "/", &[]).await?.status == 200))).await?;
    space.delete()
}
