//! People of an OpenLDAP outside the cluster: TLS with an authority of the tenant's own, groups, and guesses that two
//! pods count together.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_e2e::{Answer, Bed, Space, eventually, kubectl_with, refused, run};

const OBJECTS: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {name: corp}
spec:
  ldap:
    servers: ['ldaps://ldap.corp.svc:6360']
    tls: {trustBundleRef: {name: corp-ca}}
    bind: {simple: {dn: 'cn=gateway,dc=corp,dc=test', passwordRef: {name: corp-bind}}}
    users: {base: 'ou=people,dc=corp,dc=test', loginAttributes: [uid, mail]}
    groups: {base: 'ou=groups,dc=corp,dc=test', search: {filter: (objectClass=groupOfNames)}}
  roleMappings: [{group: 'CN=Orders,OU=Groups,DC=Corp,DC=Test', roles: [order-reader]}]
---
apiVersion: v1
kind: Secret
metadata: {name: corp-bind}
stringData: {password: gateway-secret}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: orders}
spec:
  targetRefs: [{group: '', kind: Service, name: echo}]
  authentication: {methods: [{name: people, basic: {realm: orders, validators: [{federationRef: {name: corp}}]}}]}
  authorization: {rules: [{name: readers, require: {roles: {any: [order-reader]}}}]}
";

/// OpenLDAP as a Service of the cluster, under the name in its certificate.
fn openldap_service() -> Result<()> {
    let host = std::env::var("E2E_HOST_IP")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: corp}}\n---\napiVersion: v1\nkind: Service\n\
            metadata: {{name: ldap, namespace: corp}}\nspec: {{ports: [{{port: 6360}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: ldap, namespace: corp, labels: \
         {{kubernetes.io/service-name: ldap}}}}\naddressType: IPv4\n\
         ports: [{{name: \"\", port: 6360}}]\nendpoints: [{{addresses: [\"{host}\"]}}]\n"
    );
    kubectl_with(&["apply", "-f", "-"], &yaml).map(drop)
}

/// Changes the directory as its administrator.
fn change(ldif: &str) -> Result<()> {
    let uri = format!("ldap://{}:3890", std::env::var("E2E_HOST_IP")?);
    run("ldapmodify", &["-x", "-H", &uri, "-D", "cn=admin,dc=corp,dc=test", "-w", "admin"], Some(ldif)).map(drop)
}

async fn login(space: &Space, path: &str, username: &str, password: &str) -> Result<Answer> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
    space.send("GET", path, &[("authorization", &basic)]).await
}

#[tokio::test]
async fn people_of_openldap_come_in_by_their_groups_and_guesses_count_on_all_pods() -> Result<()> {
    let bed = Bed::new()?;
    openldap_service()?;
    let space = Space::new("e2e-directories")?;
    let authority = format!("{}/ldap/ca.crt", std::env::var("E2E_WORK")?);
    space.kubectl(&["create", "secret", "generic", "corp-ca", &format!("--from-file=ca.crt={authority}")])?;
    space.apply(OBJECTS)?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    space.wait_ready("federation", "corp")?;
    space.wait_ready("identitypolicy", "orders")?;
    let answer = eventually("both pods let her in", async || {
        ensure!(space.object("deployment", "idm-gateway")?["status"]["readyReplicas"] == 2, "not both are ready");
        let mut answer = login(&space, "/orders", "ana", "correct horse").await?;
        for name in ["ANA", "ana@corp.test", "ana", "ana", "ana", "ana", "ana"] {
            ensure!(answer.status == 200, "{answer:?}");
            answer = login(&space, "/orders", name, "correct horse").await?;
        }
        Ok(answer)
    })
    .await?;
    ensure!(answer.body["headers"]["x-authenticated-userid"] == "ana", "{answer:?}");
    ensure!(answer.body["headers"]["x-authenticated-userroles"] == "order-reader", "{answer:?}");
    // In no group of the mapping: who he is does not matter.
    let record = bed.record(&refused(&login(&space, "/orders", "bob", "battery staple").await?, 403)?).await?;
    ensure!(record["identity"]["username"] == "bob", "{record}");

    // Whichever pod a guess comes to: five are asked about, and then one after a delay that doubles.
    let before = space.seen_upstream("/guessed")?;
    let (began, mut answers) = (Instant::now(), Vec::new());
    for _ in 0..10 {
        answers.push(login(&space, "/guessed", "eve", "wrong").await?);
    }
    let asked = answers.iter().filter(|answer| answer.status == 401).count();
    // A sixth one is after a second, a seventh after two more.
    let allowed = 5 + match began.elapsed().as_millis() {
        0..1_000 => 0,
        1_000..3_000 => 1,
        _ => 3,
    };
    ensure!((5..=allowed).contains(&asked), "{asked} guesses in {:?}", began.elapsed());
    let late = answers.iter().find(|answer| answer.status == 429).context("nothing was delayed")?;
    ensure!(bed.record(&refused(late, 429)?).await?["reason"] == "TooManyAttempts", "{late:?}");
    ensure!(space.seen_upstream("/guessed")? == before, "a refused request reached the upstream");
    // She is known at this address, and does not wait for what others guess.
    ensure!(login(&space, "/orders", "ana", "correct horse").await?.status == 200, "ana has to wait");

    // Removed there: refused here with the next request, on every pod.
    change("dn: uid=ana,ou=people,dc=corp,dc=test\nchangetype: delete\n")?;
    let answer = login(&space, "/orders", "ana", "correct horse").await?;
    ensure!(bed.record(&refused(&answer, 401)?).await?["reason"] == "WrongPassword", "{answer:?}");
    space.delete()
}
