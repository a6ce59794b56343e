//! The authors of changes: people with kubectl, with the operator there and away. A file of its own: it stops the
//! operator that the other promises need, and cargo runs test files one after the other.

use anyhow::{Context, Result, ensure};
use idm_e2e::{Bed, certificate, eventually, kubectl, kubectl_with, run};
use serde_json::{Value, json};

const SPACE: &str = "e2e-changes";
const OPERATOR: [&str; 2] = ["-n", "idm-system"];

/// Somebody with kubectl and a certificate.
struct Person([String; 2]);

impl Person {
    fn kubectl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let login = [self.0[0].as_str(), self.0[1].as_str(), "-n", SPACE];
        run("kubectl", &[&login[..], args].concat(), input)
    }
}

fn credential(name: &str) -> String {
    let spec = json!({"apiKey": {}, "secretRef": {"name": name}});
    json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential", "metadata": {"name": name}, "spec": spec,
    })
    .to_string()
}

/// Says that the webhook works: the operator that leads has got its own canary back.
async fn webhook_works() -> Result<()> {
    eventually("the webhook works", async || {
        let pods =
            ["get", "pods", "-l", "app.kubernetes.io/name=idm-operator", "-o", "jsonpath={.items[*].status.podIP}"];
        let addresses = kubectl(&[&OPERATOR[..], &pods].concat())?;
        let mut works = false;
        for address in addresses.split_whitespace() {
            let metrics = reqwest::get(format!("http://{address}:8081/metrics")).await?.text().await?;
            works |= metrics.contains("idm_operator_changes_webhook_up 1");
        }
        Ok(ensure!(works, "no operator has heard of its canary"))
    })
    .await
}

fn scale(replicas: u32) -> Result<()> {
    kubectl(&[&OPERATOR[..], &["scale", "deployment/idm-operator", &format!("--replicas={replicas}")]].concat())?;
    if replicas == 0 {
        let gone = ["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=idm-operator", "--timeout=60s"];
        kubectl(&[&OPERATOR[..], &gone].concat())?;
    }
    Ok(())
}

/// The records of the namespace's Credentials, as `action name actor evidence`.
async fn told(bed: &Bed) -> Result<Vec<String>> {
    let filter = [
        json!({"term": {"kind": "Change"}}),
        json!({"term": {"object.namespace": SPACE}}),
        json!({"term": {"object.kind": "Credential"}}),
    ];
    let mut found = bed.records(json!({"bool": {"filter": filter}})).await?;
    found.sort_by_key(|record| record["object"]["name"].as_str().map(str::to_owned));
    let text =
        |record: &Value, pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let line = |record: &Value| {
        ["/action", "/object/name", "/actor", "/by/evidence"].map(|pointer| text(record, pointer)).join(" ")
    };
    let mut lines: Vec<_> = found.iter().map(line).collect();
    lines.sort();
    Ok(lines)
}

async fn are_told(bed: &Bed, what: &str, wanted: &[&str]) -> Result<()> {
    eventually(what, async || {
        let told = told(bed).await?;
        Ok(ensure!(told == wanted, "{told:#?}"))
    })
    .await
}

#[tokio::test]
async fn r24_r26_the_audit_says_who_changed_what_also_while_the_operator_is_away() -> Result<()> {
    let bed = Bed::new()?;
    let _ = kubectl(&["delete", "namespace", SPACE, "--ignore-not-found", "--wait=true"]);
    kubectl(&["create", "namespace", SPACE])?;
    let dir = format!("{}/e2e-changes-{}", std::env::temp_dir().display(), std::process::id());
    std::fs::create_dir_all(&dir)?;
    let outcome = people(&bed, &dir).await;
    let _ = scale(2);
    std::fs::remove_dir_all(&dir)?;
    outcome?;
    // Nothing of ours holds a namespace up.
    kubectl(&["delete", "namespace", SPACE, "--wait=true", "--timeout=60s"]).map(drop)
}

async fn people(bed: &Bed, dir: &str) -> Result<()> {
    let (ana, eve) = (Person(certificate(dir, "changes-ana")?), Person(certificate(dir, "changes-eve")?));
    let grant = json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "RoleBinding",
        "metadata": {"name": "people", "namespace": SPACE},
        "spec": {"permissionRole": "CredentialManager", "subjects": [{"user": "changes-ana"}],
        "scope": {"project": {}}},
    });
    kubectl_with(&["apply", "-f", "-"], &grant.to_string())?;
    kubectl(&["-n", SPACE, "wait", "--for=condition=Ready", "idrb/people", "--timeout=60s"])?;
    webhook_works().await?;
    let create = ["create", "-f", "-"];
    ana.kubectl(&create, Some(&credential("a")))?;
    ana.kubectl(&create, Some(&credential("b")))?;
    // Attempts that change nothing: refused by RBAC, a dry run, a name that is taken, a schema that is broken.
    ensure!(eve.kubectl(&create, Some(&credential("c"))).is_err(), "eve may not");
    ana.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&credential("d")))?;
    ensure!(ana.kubectl(&create, Some(&credential("a"))).is_err(), "the name is taken");
    let broken = credential("e").replace("\"apiKey\":{}", "\"apiKey\":7");
    ensure!(ana.kubectl(&create, Some(&broken)).is_err(), "the schema is broken");
    // A name that a client gives itself never names the author.
    ana.kubectl(&["label", "credential", "a", "x=y", "--field-manager=argocd-controller"], None)?;
    ana.kubectl(&["delete", "credential", "a"], None)?;
    let watched = [
        "Created a changes-ana authenticated",
        "Created b changes-ana authenticated",
        "Deleted a changes-ana authenticated",
        "Updated a changes-ana authenticated",
    ];
    are_told(bed, "each change is told once, with its author", &watched).await?;
    let list = ["get", "events", "-o", "jsonpath={.items[*].message}"];
    eventually("events tell it too", async || {
        let events = kubectl(&[&["-n", SPACE][..], &list].concat())?;
        Ok(ensure!(events.contains("Deleted by changes-ana (authenticated)"), "{events}"))
    })
    .await?;

    scale(0)?;
    ana.kubectl(&["delete", "credential", "b"], None)?;
    ana.kubectl(&create, Some(&credential("late")))?;
    scale(2)?;
    let all = [
        "Created a changes-ana authenticated",
        "Created b changes-ana authenticated",
        "Created late unknown (kubectl-create) asserted",
        "Deleted a changes-ana authenticated",
        "Deleted b unknown unknown",
        "Updated a changes-ana authenticated",
    ];
    are_told(bed, "what happened meanwhile is told once", &all).await?;
    // A third operator finds nothing new, and its webhook works again.
    kubectl(&[&OPERATOR[..], &["rollout", "restart", "deployment/idm-operator"]].concat())?;
    kubectl(&[&OPERATOR[..], &["rollout", "status", "deployment/idm-operator", "--timeout=90s"]].concat())?;
    webhook_works().await?;
    ana.kubectl(&["delete", "credential", "late"], None)?;
    let mut last = all.to_vec();
    last.insert(5, "Deleted late changes-ana authenticated");
    are_told(bed, "the next operator tells the next change", &last).await?;
    let pod =
        kubectl(&[&OPERATOR[..], &["get", "lease", "idm-operator", "-o", "jsonpath={.spec.holderIdentity}"]].concat())?;
    ensure!(!pod.is_empty());
    // The same by the command, from Elasticsearch.
    let server = std::env::var("E2E_ELASTICSEARCH").context("use e2e/run")?;
    let idm = ["exec", &pod, "--", "/idm", "audit", "changes", "credential/a", "-n", SPACE, "--elasticsearch", &server];
    let printed = kubectl(&[&OPERATOR[..], &idm].concat())?;
    ensure!(printed.lines().count() == 3 && printed.contains("by changes-ana (authenticated)"), "{printed}");
    Ok(())
}
