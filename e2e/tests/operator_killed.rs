//! Promises that hold when the operator dies in the middle of its work. A file of its own, like `operator_down.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use idm_e2e::{OPEN, Space, eventually, kubectl};

#[tokio::test]
async fn a_killed_operator_is_replaced_and_what_it_began_is_finished() -> Result<()> {
    let space = Space::new("e2e-crash")?;
    for round in 0..3 {
        space.apply(&OPEN.replace("name: everyone", &format!("name: everyone-{round}")))?;
        // Somewhere in the middle of the work, without a word of warning.
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
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
