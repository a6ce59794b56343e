//! The Manager of the cluster, with real tokens of the API server for people of three roles.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use idm_e2e::{OPEN, Space, eventually, kubectl};
use serde_json::{Value, json};

const SPACE: &str = "e2e-manager";

/// The Manager, at a name that it answers to.
struct Manager(reqwest::Client);

/// Somebody with a session.
struct Person<'m> {
    manager: &'m Manager,
    cookie: String,
    token: String,
}

impl Manager {
    fn connect() -> Result<Self> {
        let address = ["-n", "idm-system", "get", "service", "idm-manager", "-o", "jsonpath={.spec.clusterIP}"];
        let address = SocketAddr::new(kubectl(&address)?.parse()?, 443);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90)).no_proxy().resolve("localhost", address);
        // Its certificate is of nobody whom this machine trusts.
        Ok(Self(http.tls_danger_accept_invalid_certs(true).build()?))
    }

    async fn send(&self, method: &str, path: &str, cookie: &str, body: &Value) -> Result<reqwest::Response> {
        let request = self.0.request(method.parse()?, format!("https://localhost/api/v1/{path}"));
        let request = request.header("x-idm-manager", "1").header("cookie", format!("idm_manager={cookie}"));
        // A body that nobody reads may cost the connection.
        let request = if method == "GET" { request } else { request.json(body) };
        Ok(request.send().await?)
    }

    /// A session of a ServiceAccount.
    async fn sign_in(&self, space: &Space, account: &str) -> Result<Person<'_>> {
        let token = space.kubectl(&["create", "token", account])?.trim().to_owned();
        let answer = self.send("POST", "session", "", &json!({"token": token, "namespaces": [SPACE]})).await?;
        ensure!(answer.status() == 204, "{}", answer.text().await?);
        let cookie = answer.headers().get("set-cookie").context("no cookie")?.to_str()?.to_owned();
        ensure!(cookie.contains("Secure") && cookie.contains("HttpOnly") && !cookie.contains(&token), "{cookie}");
        let cookie = cookie.split(['=', ';']).nth(1).context("no value")?.to_owned();
        Ok(Person { manager: self, cookie, token })
    }
}

impl Person<'_> {
    /// Status and content of an answer.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value)> {
        let answer = self.manager.send(method, path, &self.cookie, &body).await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        ensure!(!text.contains(&self.token), "the token is in the answer to {method} {path}");
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = self.ask("GET", path, json!({})).await?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(body)
    }
}

fn role(account: &str, role: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {{name: {account}}}\nspec:\n  \
         permissionRole: {role}\n  subjects: [{{serviceAccount: {{name: {account}, namespace: {SPACE}}}}}]\n  \
         scope: {{project: {{}}}}\n---\n"
    )
}

fn is_refused(answer: &(u16, Value), verb: &str, kind: &str) -> Result<()> {
    let missing = &answer.1["error"]["missing"];
    let words = [&missing["verb"], &missing["kind"], &missing["namespace"]];
    ensure!(answer.0 == 403 && words == [verb, kind, SPACE], "{answer:?}");
    let line = missing["whoCan"].as_str().unwrap_or_default();
    ensure!(line.starts_with(&format!("idm who-can {verb} ")) && line.contains(SPACE), "{answer:?}");
    ensure!(answer.1["error"]["id"].as_str().map(str::len) == Some(26), "{answer:?}");
    Ok(())
}

/// Credentials are made, rotated and revoked, by the person and by nobody else. Returns the keys that there were.
async fn keys(space: &Space, owner: &Person<'_>) -> Result<Vec<String>> {
    let made =
        owner.ask("POST", &format!("credentials/{SPACE}"), json!({"name": "nightly", "roles": ["reader"]})).await?;
    ensure!(made == (200, json!({"name": "nightly", "secret": "nightly-key"})), "{made:?}");
    let at = format!("objects/Credential/{SPACE}/nightly");
    let first = eventually("the operator makes a key", async || {
        let object = owner.get(&at).await?;
        let id = object["keys"][0]["id"].as_str().map(str::to_owned);
        ensure!(object["ready"]["status"] == "True", "{object}");
        id.context("no key yet")
    })
    .await?;
    let secret = || space.kubectl(&["get", "secret", "nightly-key", "-o", "jsonpath={.data.key}"]);
    let mut all = vec![secret()?];
    let rotate = format!("credentials/{SPACE}/nightly/rotate");
    let (status, rotated) = owner.ask("POST", &rotate, json!({"overlapSeconds": 3600})).await?;
    ensure!(status == 200 && rotated["old"]["id"] == first.as_str(), "{status} {rotated}");
    ensure!(rotated["id"].as_str().is_some_and(|id| id != first), "{rotated}");
    all.push(secret()?);
    let revoked = owner.ask("POST", &format!("credentials/{SPACE}/nightly/revoke"), json!({"key": first})).await?;
    ensure!(revoked == (200, json!({"revoked": [first]})), "{revoked:?}");
    Ok(all)
}

async fn changes(space: &Space, owner: &Person<'_>) -> Result<()> {
    let at = format!("objects/Credential/{SPACE}/nightly");
    let read = owner.get(&at).await?;
    let yaml = read["yaml"].as_str().context("no YAML")?;
    let suspended = yaml.replace("spec:\n", "spec:\n  suspend: true\n");
    // The operator writes statuses all the time: those are no conflict.
    let saved = owner.ask("PUT", &at, json!({"yaml": suspended, "version": read["version"]})).await?;
    ensure!(saved.0 == 200 && space.object("idcred", "nightly")?["spec"]["suspend"] == true, "{saved:?}");
    // A change that somebody else wrote meanwhile is one, with the field and the writer.
    space.kubectl(&["patch", "idcred", "nightly", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#])?;
    let stale = owner.ask("PUT", &at, json!({"yaml": suspended, "version": saved.1["version"]})).await?;
    let conflict = json!([{"field": "spec.suspend", "manager": "kubectl-patch"}]);
    ensure!(stale.0 == 409 && stale.1["error"]["conflicts"] == conflict, "{stale:?}");

    // A check asks the API server and the compiler, and writes nothing.
    let at = format!("objects/IdentityPolicy/{SPACE}/open");
    let policy = owner.get(&at).await?;
    let yaml = policy["yaml"].as_str().context("no YAML")?;
    let check = async |yaml: String| {
        let draft = json!({"kind": "IdentityPolicy", "namespace": SPACE, "name": "open", "yaml": yaml,
            "version": policy["version"]});
        let (status, checked) = owner.ask("POST", "check", draft).await?;
        ensure!(status == 200, "{status} {checked}");
        Ok(checked)
    };
    let unknown = check(yaml.replace("spec:\n", "spec:\n  unknown: 1\n")).await?;
    ensure!(unknown["findings"][0]["field"] == "spec.unknown", "{unknown}");
    let target = check(yaml.replace("name: echo", "name: none")).await?;
    ensure!(target["findings"].to_string().contains("targetRefs"), "{target}");
    let none = check(yaml.to_owned()).await?;
    ensure!(none["findings"] == json!([]) && none["unchanged"] == true, "{none}");
    ensure!(space.object("idpol", "open")?["spec"]["targetRefs"][0]["name"] == "echo");

    // An object that Flux writes is changed where Flux takes it from.
    let labels = ["kustomize.toolkit.fluxcd.io/name=apps", "kustomize.toolkit.fluxcd.io/namespace=flux-system"];
    space.kubectl(&["label", "idpol", "open", labels[0], labels[1]])?;
    let managed = owner.get(&at).await?;
    ensure!(managed["managedBy"]["owner"] == "Kustomization flux-system/apps", "{managed}");
    let yaml = managed["yaml"].as_str().context("no YAML")?.replace("everyone", "anyone");
    let refused = owner.ask("PUT", &at, json!({"yaml": yaml, "version": managed["version"]})).await?;
    ensure!(refused.0 == 409 && refused.1["error"]["code"] == "ManagedByGit", "{refused:?}");
    ensure!(refused.1["error"]["patch"].as_str().is_some_and(|patch| patch.contains("anyone")), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn people_do_in_the_manager_what_the_api_server_lets_them_do() -> Result<()> {
    let space = Space::new(SPACE)?;
    space.apply(&(role("owner", "Owner") + &role("auditor", "Auditor") + OPEN))?;
    space.kubectl(&["create", "serviceaccount", "consumer"])?;
    // The compiler looks for Services, which no role of idm gives.
    let account = format!("--serviceaccount={SPACE}:owner");
    space.kubectl(&["create", "rolebinding", "owner-view", "--clusterrole=view", &account])?;
    space.wait_ready("idrb", "owner")?;
    space.wait_ready("idrb", "auditor")?;
    space.wait_ready("idpol", "open")?;
    let manager = Manager::connect()?;
    let wrong = manager.send("POST", "session", "", &json!({"token": "eyJhbGciOiJub25lIn0.e30."})).await?;
    ensure!(wrong.status() == 401, "{}", wrong.text().await?);

    let owner = manager.sign_in(&space, "owner").await?;
    let me = owner.get(&format!("me?namespace={SPACE}")).await?;
    ensure!(me["name"] == format!("system:serviceaccount:{SPACE}:owner"), "{me}");
    ensure!(me["namespaces"] == json!([SPACE]) && me["namespacesNote"].is_string(), "{me}");
    ensure!(me["permissions"]["Credential"]["rotate"]["allowed"] == true, "{me}");
    let mut secrets = keys(&space, &owner).await?;
    changes(&space, &owner).await?;
    let gateways = owner.get(&format!("gateways?namespace={SPACE}")).await?;
    ensure!(gateways[0]["ready"] == gateways[0]["wanted"] && gateways[0]["wanted"] != 0, "{gateways}");
    // The record has the person, not the Manager.
    eventually("the change is on record", async || {
        let found = owner.get(&format!("audit?namespace={SPACE}&kind=Change&name=nightly")).await?;
        let who = format!("system:serviceaccount:{SPACE}:owner");
        let items = found["items"].as_array().context("no items")?;
        ensure!(items.iter().any(|item| item["who"] == who.as_str()), "{found}");
        Ok(())
    })
    .await?;

    let auditor = manager.sign_in(&space, "auditor").await?;
    let list = auditor.get(&format!("objects/Credential?namespace={SPACE}")).await?;
    ensure!(list["items"][0]["name"] == "nightly", "{list}");
    let new = auditor.ask("POST", &format!("credentials/{SPACE}"), json!({"name": "own"})).await?;
    is_refused(&new, "create", "Credential")?;
    let revoke = auditor.ask("POST", &format!("credentials/{SPACE}/nightly/revoke"), json!({})).await?;
    is_refused(&revoke, "revoke", "Credential")?;
    let topology = auditor.get(&format!("topology?namespace={SPACE}")).await?;
    ensure!(topology["missing"].to_string().contains("get Service"), "{topology}");

    let consumer = manager.sign_in(&space, "consumer").await?;
    ensure!(consumer.get("me").await?["namespaces"] == json!([]));
    let list = consumer.ask("GET", &format!("objects/Credential?namespace={SPACE}"), json!({})).await?;
    is_refused(&list, "get", "Credential")?;
    is_refused(&consumer.ask("GET", &format!("audit?namespace={SPACE}"), json!({})).await?, "get", "Credential")?;

    // No token, no cookie and no key is in the log.
    let log = kubectl(&["-n", "idm-system", "logs", "deployment/idm-manager", "--tail=-1"])?;
    ensure!(log.contains("was not done"), "the refusals are in the log: {log}");
    for person in [&owner, &auditor, &consumer] {
        secrets.extend([person.token.clone(), person.cookie.clone()]);
    }
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let keys: Vec<String> =
        secrets.iter().filter_map(|text| String::from_utf8(engine.decode(text).ok()?).ok()).collect();
    ensure!(keys.len() >= 2, "both keys are looked for");
    for secret in secrets.iter().chain(&keys) {
        ensure!(!log.contains(secret.as_str()), "a secret is in the log");
    }

    // A person whose token is over has no session any more.
    space.kubectl(&["delete", "serviceaccount", "owner"])?;
    eventually("the session ends with the token", async || {
        let (status, body) = owner.ask("GET", &format!("objects/Credential/{SPACE}/nightly"), json!({})).await?;
        ensure!(status == 401 && body["error"]["code"] == "NoSession", "{status} {body}");
        Ok(())
    })
    .await?;
    space.delete()
}
