//! People on a real cluster: Chromium, Keycloak as OpenID provider and as SAML identity provider, two pods and a Redis.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use idm_e2e::{Bed, Space, eventually, keycloak_service, run};
use serde_json::{Value, json};

const SPACE: &str = "people";
const KEYCLOAK: &str = "http://keycloak.idp.svc:8180/realms/shop";

const OBJECTS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: idm
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: shop-tls}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: web}]
  rules: [{backendRefs: [{name: echo, port: 80}]}]
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: people}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}]
  authentication:
    methods:
    - name: staff
      signIn: {federationRefs: [{name: kc}, {name: kc-saml}], pages: {title: Shop}}
    identity: {username: token.email}
  upstream: {headers: [{name: X-Authenticated-UserId, value: identity.username}]}
---
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {name: kc}
spec:
  displayName: Company login
  provisioning: {role: member}
  oidc:
    issuer: http://keycloak.idp.svc:8180/realms/shop
    client: {clientId: people, scopes: [who], authentication: {clientSecretBasic: {name: kc-client}}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {name: kc-saml}
spec:
  displayName: Company login by SAML
  saml:
    entityId: http://keycloak.idp.svc:8180/realms/shop
    metadata: {uri: 'http://keycloak.idp.svc:8180/realms/shop/protocol/saml/descriptor'}
    serviceProvider: {entityId: urn:shop, keyRef: {name: shop-sp}}
---
apiVersion: v1
kind: Secret
metadata: {name: kc-client}
stringData: {clientSecret: people-secret}
";

/// A script that ends with the test, however the test ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until no interface of this machine has come or gone for two seconds: a form that the browser sends while one
/// does is lost (`ERR_NETWORK_CHANGED`), and those of killed pods go a while after them.
async fn quiet_network() -> Result<()> {
    let interfaces = || -> Result<std::collections::BTreeSet<_>> {
        Ok(std::fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.file_name()).collect())
    };
    let mut seen = (interfaces()?, Instant::now());
    eventually("the network is quiet", async || {
        let now = interfaces()?;
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        ensure!(seen.1.elapsed() > Duration::from_secs(2), "the interfaces changed {:?} ago", seen.1.elapsed());
        Ok(())
    })
    .await
}

/// A certificate as a Secret; returns the certificate in base64 of DER.
fn certificate(space: &Space, name: &str) -> Result<String> {
    let dir = std::env::var("E2E_WORK")?;
    let (key, crt) = (format!("{dir}/{name}.key"), format!("{dir}/{name}.crt"));
    let subject = ["-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test"];
    run(
        "openssl",
        &[
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &crt, "-days", "30"],
            &subject[..],
        ]
        .concat(),
        None,
    )?;
    space.kubectl(&["create", "secret", "tls", name, "--cert", &crt, "--key", &key])?;
    Ok(std::fs::read_to_string(&crt)?.lines().filter(|line| !line.starts_with("-----")).collect())
}

/// The person and the two clients at Keycloak; returns the person's id there.
async fn prepare_keycloak(bed: &Bed, gateway: &str, certificate: &str) -> Result<String> {
    let person = json!({
        "username": "ana", "email": "ana@shop.example", "emailVerified": true, "enabled": true, "firstName": "Ana",
        "lastName": "Example",
        "credentials": [{"type": "password", "value": "ana-password", "temporary": false}],
    });
    bed.keycloak_admin("POST", "users", &person).await?;
    let back_channel = format!("http://{gateway}/_idm/back-channel-logout/kc");
    let claim = |name: &str, property: &str, kind: &str| {
        json!({"name": name, "protocol": "openid-connect", "protocolMapper": "oidc-usermodel-property-mapper",
            "config": {"user.attribute": property, "claim.name": name, "jsonType.label": kind,
            "id.token.claim": "true", "userinfo.token.claim": "true"}})
    };
    let oidc = json!({
        "clientId": "people", "secret": "people-secret", "standardFlowEnabled": true,
        "redirectUris": ["https://shop.test/_idm/callback/kc"],
        "defaultClientScopes": ["who"], "protocolMappers": [claim("email", "email", "String"),
        claim("email_verified", "emailVerified", "boolean")],
        "attributes": {
            "post.logout.redirect.uris": "https://shop.test/_idm/logged-out", "pkce.code.challenge.method": "S256",
            "backchannel.logout.url": back_channel, "backchannel.logout.session.required": "true",
        },
    });
    // A run before this one may have left its own.
    for client in ["people", "urn:shop"] {
        let found = bed.keycloak_admin("GET", &format!("clients?clientId={client}"), &Value::Null).await?;
        if let Some(id) = found[0]["id"].as_str() {
            bed.keycloak_admin("DELETE", &format!("clients/{id}"), &Value::Null).await?;
        }
    }
    bed.keycloak_admin("POST", "clients", &oidc).await?;
    let mapper = json!({"name": "email", "protocol": "saml", "protocolMapper": "saml-user-property-mapper",
        "config": {"user.attribute": "email", "attribute.name": "email", "attribute.nameformat": "Basic"}});
    let saml = json!({
        "clientId": "urn:shop", "protocol": "saml", "redirectUris": ["https://shop.test/*"], "frontchannelLogout": true,
        "adminUrl": "https://shop.test/_idm/saml/logout/kc-saml", "protocolMappers": [mapper],
        "attributes": {
            "saml.server.signature": "true", "saml.assertion.signature": "true",
            "saml.signature.algorithm": "RSA_SHA256", "saml.authnstatement": "true",
            "saml.client.signature": "true", "saml.signing.certificate": certificate, "saml.encrypt": "true",
            "saml.encryption.certificate": certificate,
            "saml.force.post.binding": "true", "saml_name_id_format": "persistent", "saml_force_name_id_format": "true",
            "saml_assertion_consumer_url_post": "https://shop.test/_idm/saml/consume/kc-saml",
            "saml_single_logout_service_url_redirect": "https://shop.test/_idm/saml/logout/kc-saml",
            "saml_single_logout_service_url_post": "https://shop.test/_idm/saml/logout/kc-saml",
        },
    });
    bed.keycloak_admin("POST", "clients", &saml).await?;
    let found = bed.keycloak_admin("GET", "users?username=ana&exact=true", &Value::Null).await?;
    Ok(found[0]["id"].as_str().context("the person is there")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_with_a_real_browser_and_nothing_that_happens_in_between_stops_them() -> Result<()> {
    keycloak_service()?;
    let (bed, space) = (Bed::new()?, Space::new(SPACE)?);
    certificate(&space, "shop-tls")?;
    let service_provider = certificate(&space, "shop-sp")?;
    space.apply(OBJECTS)?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    space.wait_ready("identitypolicy", "people")?;
    space.wait_ready("federation", "kc")?;
    space.wait_ready("federation", "kc-saml")?;
    let gateway = space.gateway()?.to_string();
    let person = prepare_keycloak(&bed, &gateway, &service_provider).await?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = run(root.join("../tests/interop/prepare").to_str().context("a path")?, &[], None)?;
    // Pods of the tests before this one may still be going.
    quiet_network().await?;
    let mut browser = Command::new("node")
        .arg(root.join("bed/people.mjs"))
        .args([libraries.trim(), &gateway, &std::env::var("E2E_HOST_IP")?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut answers, questions) =
        (browser.stdin.take().context("piped")?, BufReader::new(browser.stdout.take().context("piped")?));
    // The script's account of a failure, for the test's own error: elsewhere nobody would find it.
    let problems = browser.stderr.take().context("piped")?;
    let problems =
        std::thread::spawn(move || std::io::read_to_string(problems).unwrap_or_else(|error| error.to_string()));
    let mut browser = Ended(browser);
    let mut said = String::new();
    for line in questions.lines() {
        let line = line?;
        match line.strip_prefix("do: ") {
            Some("kill") => {
                space.kubectl(&[
                    "delete",
                    "pod",
                    "-l",
                    "app.kubernetes.io/name=idm-gateway-web",
                    "--grace-period=0",
                    "--force",
                ])?;
                space.kubectl(&["rollout", "status", "deployment/idm-gateway-web", "--timeout=90s"])?;
                eventually("the pods serve again", async || {
                    let answer = space.send("GET", "/orders", &[]).await?;
                    ensure!(answer.status == 401, "{answer:?}");
                    Ok(())
                })
                .await?;
                quiet_network().await?;
            }
            Some("rotate") => bed.rotate_keys(500).await?,
            Some("logout") => drop(bed.keycloak_admin("POST", &format!("users/{person}/logout"), &Value::Null).await?),
            Some("end") => {
                let soon = idm_types::Timestamp::from_seconds(idm_types::Timestamp::now().seconds() + 1).rfc3339();
                let patch = json!({"spec": {"endedSessions": [{"beforeTime": soon}]}}).to_string();
                space.kubectl(&["patch", "federation.identity-manager.io", "kc", "--type=merge", "-p", &patch])?;
            }
            Some(other) => anyhow::bail!("the browser asks for `{other}`"),
            None => {
                println!("{line}");
                said.push_str(&line);
                said.push('\n');
                continue;
            }
        }
        // A script that has ended asks for nothing more; its status and its words follow.
        if writeln!(answers, "done").is_err() {
            break;
        }
    }
    let status = browser.0.wait()?;
    let problems = problems.join().unwrap_or_default();
    ensure!(
        status.success() && said.contains("done: 9 steps"),
        "the browser's script ended with {status} and said:\n{said}\n{problems}"
    );
    // The first sign-in made a membership, and the Federation's name is on it.
    let members = eventually("the membership", async || {
        let all: Value = serde_json::from_str(&space.kubectl(&[
            "get",
            "rolebindings.identity-manager.io",
            "-l",
            "identity-manager.io/provisioned-by=kc",
            "-o",
            "json",
        ])?)?;
        ensure!(all["items"].as_array().is_some_and(|items| items.len() == 1), "{all}");
        Ok(all["items"][0].clone())
    })
    .await?;
    ensure!(
        members["spec"]
            == json!({
                "role": "member", "subjects": [{"user": "ana@shop.example", "issuer": KEYCLOAK}],
                "scope": {"project": {}},
            }),
        "{members}"
    );
    ensure!(members["metadata"]["ownerReferences"][0]["kind"] == "Federation", "{members}");
    // Sign-ins, sign-outs and refusals are all in Elasticsearch.
    let of_space = |field: &str, value: &str| {
        json!({"bool": {"must": [{"term": {"namespace": SPACE}},
        {"term": {field: value}}]}})
    };
    eventually("the records", async || {
        ensure!(!bed.records(of_space("reason", "SessionEnded")).await?.is_empty(), "no ended session yet");
        let permitted = bed.records(of_space("outcome", "Permitted")).await?;
        let of = |path: &str| {
            permitted
                .iter()
                .filter(|record| {
                    record["request"]["path"] == path && record["identity"]["username"] == "ana@shop.example"
                })
                .count()
        };
        ensure!(
            of("/_idm/callback/kc") >= 6 && of("/_idm/saml/consume/kc-saml") >= 2 && of("/_idm/logout") >= 2,
            "{} records",
            permitted.len()
        );
        Ok(())
    })
    .await?;
    space.delete()
}
