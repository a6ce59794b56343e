//! The Manager of the cluster, with real tokens of the API server for people of three roles.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use idm_e2e::{Bed, OPEN, Space, eventually, kubectl, kubectl_with, run};
use idm_jose::{DecryptionKeys, Jwe, JweExpectations, Jwk, generate_ec};
use idm_types::{ContentEncryption, KeyManagement};
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
        let answer = self.send("POST", "session", "", &json!({"token": token, "namespaces": [space.name]})).await?;
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
    role_in(SPACE, account, role)
}

fn role_in(namespace: &str, account: &str, role: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {{name: {account}}}\nspec:\n  \
         permissionRole: {role}\n  subjects: [{{serviceAccount: {{name: {account}, namespace: {namespace}}}}}]\n  \
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

const REQUESTS: &str = "e2e-requests";
const GOLD: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: orders}
spec:
  targetRefs: [{group: '', kind: Service, name: echo}]
  authentication: {methods: [{name: machines, apiKey: {credentialSelector: {matchLabels: {plan: gold}}}}]}
";

fn account(name: &str) -> String {
    format!("system:serviceaccount:{REQUESTS}:{name}")
}

/// Answers that kubectl would send: forged, stale, a stranger's. Each is refused with what is wrong.
fn forged_answers(space: &Space, hash: &str) -> Result<()> {
    let (stale, omar) = ("0".repeat(64), account("omar"));
    let own_name = "in the own name";
    for (who, by, hash, why) in [
        ("omar", "olga", hash, own_name),
        ("ana", omar.as_str(), hash, own_name),
        ("omar", omar.as_str(), stale.as_str(), "status.hash"),
        ("eve", account("eve").as_str(), hash, "forbidden"),
    ] {
        let answer = json!({"decision": "Approved", "by": {"username": by}, "hash": hash});
        let patch = json!({"spec": {"approval": answer}}).to_string();
        let who_asks = account(who);
        let patched = ["--as", &who_asks, "patch", "idreq", "nightly", "--type=merge", "-p", &patch];
        let outcome = space.kubectl(&patched);
        let said = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("Forbidden") && said.contains(why), "{who} as {by}: {said}");
    }
    let forged = json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "CredentialRequest", "metadata": {"name": "forged"},
        "spec": {"requester": {"username": account("ana")}, "purpose": "p", "recipient": {"jwk": "{}"},
            "credential": {"apiKey": {}, "access": {"policies": ["orders"]}, "expireTime": "2100-01-01T00:00:00Z"}},
    });
    let outcome = kubectl_with(&["-n", REQUESTS, "--as", &omar, "create", "-f", "-"], &forged.to_string());
    let said = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains(own_name), "a forged requester: {said}");
    Ok(())
}

fn opened(private: &Jwk, ciphertext: &str) -> Result<String> {
    let set = json!({"keys": [private.reveal()]}).to_string();
    let keys = DecryptionKeys::parse(set.as_bytes(), &[KeyManagement::EcdhEs])?;
    let expected = JweExpectations {
        key_management: &[KeyManagement::EcdhEs],
        content_encryption: &[ContentEncryption::A256Gcm],
        compressed: false,
    };
    Ok(String::from_utf8(Jwe::parse(ciphertext)?.decrypt(&keys, &expected)?.payload)?)
}

#[tokio::test]
async fn a_credential_is_asked_for_by_one_person_and_approved_by_another() -> Result<()> {
    let space = Space::new(REQUESTS)?;
    let people = role_in(REQUESTS, "ana", "Consumer") + &role_in(REQUESTS, "omar", "CredentialManager");
    space.apply(&(people + "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: eve}\n---" + GOLD))?;
    for (kind, name) in [("idrb", "ana"), ("idrb", "omar"), ("idpol", "orders")] {
        space.wait_ready(kind, name)?;
    }
    let manager = Manager::connect()?;
    let (ana, omar) = (manager.sign_in(&space, "ana").await?, manager.sign_in(&space, "omar").await?);
    let private = generate_ec("P-256")?;
    let wanted = json!({
        "name": "nightly", "purpose": "a nightly export", "labels": [{"name": "plan", "value": "gold"}],
        "access": {"policies": ["orders"]}, "expireTime": "2100-01-01T00:00:00Z",
        "recipient": private.public().context("a public part")?.reveal(),
    });
    let asked = ana.ask("POST", &format!("requests/{REQUESTS}"), wanted).await?;
    ensure!(asked.0 == 200 && asked.1["requester"] == account("ana"), "{asked:?}");
    let at = format!("requests/{REQUESTS}/nightly");
    let pending = eventually("it can be answered", async || {
        let view = omar.get(&at).await?;
        ensure!(view["state"] == "Pending" && view["mayAnswer"] == true, "{view}");
        Ok(view)
    })
    .await?;
    let hash = pending["hash"].as_str().context("no hash")?;
    forged_answers(&space, hash)?;
    let own = ana.ask("POST", &format!("{at}/approve"), json!({"hash": hash})).await?;
    ensure!(matches!(own.0, 403 | 422), "her own: {own:?}");
    let approved = omar.ask("POST", &format!("{at}/approve"), json!({"hash": hash, "reason": "fine"})).await?;
    ensure!(approved.0 == 200 && approved.1["answeredBy"] == account("omar"), "{approved:?}");
    let again = omar.ask("POST", &format!("{at}/reject"), json!({"hash": hash, "reason": "no"})).await?;
    ensure!(matches!(again.0, 403 | 422), "a second answer: {again:?}");

    let ciphertext = eventually("the key is there", async || {
        let view = ana.get(&at).await?;
        ensure!(view["state"] == "Issued", "{view}");
        view["encryptedKey"].as_str().map(str::to_owned).context("no ciphertext")
    })
    .await?;
    ensure!(omar.get(&at).await?["encryptedKey"].is_null(), "it is shown to the requester");
    let key = opened(&private, &ciphertext)?;
    let secret = || Ok::<_, anyhow::Error>(space.object("secret", "nightly-key-hash")?["data"].clone());
    ensure!(secret()?.as_object().is_some_and(|data| data.len() == 2), "hash and ciphertext");
    let status = async || Ok::<_, anyhow::Error>(space.send("GET", "/", &[("x-api-key", &key)]).await?.status);
    eventually("the key is accepted", async || Ok(ensure!(status().await? == 200, "not yet"))).await?;
    let received = ana.ask("POST", &format!("{at}/received"), json!({"uid": pending["uid"]})).await?;
    ensure!(received.0 == 200, "{received:?}");
    eventually("the ciphertext is gone", async || {
        let view = ana.get(&at).await?;
        ensure!(view["state"] == "Received" && view["encryptedKey"].is_null(), "{view}");
        Ok(ensure!(secret()?.as_object().is_some_and(|data| data.len() == 1 && data.contains_key("sha256"))))
    })
    .await?;
    eventually("asked and issued are on record, with who and the hash", async || {
        let found = Bed::new()?.records(json!({"term": {"object.namespace": REQUESTS}})).await?;
        let told = |who: &str, state: &str| {
            let mut all = found.iter().filter(|record| record["actor"] == account(who).as_str());
            all.any(|record| {
                let diff = record["diff"].to_string();
                diff.contains(&format!("→ {state}")) && diff.contains(hash)
            })
        };
        Ok(ensure!(told("ana", "Pending") && told("omar", "Issued") && told("ana", "Received"), "{found:?}"))
    })
    .await?;
    let withdrawn = ana.ask("POST", &format!("{at}/withdraw"), json!({"uid": pending["uid"]})).await?;
    ensure!(withdrawn == (200, json!({"withdrawn": true})), "{withdrawn:?}");
    eventually("the key ends with the request", async || {
        ensure!(space.object("idcred", "nightly").is_err(), "the Credential is there");
        Ok(ensure!(status().await? == 401, "not yet"))
    })
    .await?;
    space.delete()
}

/// A block of a page, with the words behind its language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<(&'p str, &'p str)> {
    let fence = format!("```{language} ");
    let all = page.split(fence.as_str()).skip(1).filter_map(|rest| rest.split_once('\n'));
    all.filter_map(|(words, rest)| Some((words, rest.split("```").next()?))).collect()
}

/// The page tells the truth: its blocks are run as the people whom they name, with the built `idm`.
#[tokio::test]
async fn the_page_about_self_service_is_true() -> Result<()> {
    const PLACE: &str = "e2e-self-service";
    let space = Space::new(PLACE)?;
    let page = include_str!("../../docs/self-service.md").replace("-n shop", &format!("-n {PLACE}"));
    let samples = blocks(&page, "yaml");
    let [(_, before), (_, monthly)] = samples[..] else { anyhow::bail!("{} samples", samples.len()) };
    space.apply(before)?;
    for name in ["consumers", "approvers"] {
        space.wait_ready("idrb", name)?;
    }
    let dir = std::env::temp_dir().join(format!("{PLACE}-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut config: Value = serde_json::from_str(&kubectl(&["config", "view", "--raw", "-o", "json"])?)?;
    for (person, groups) in
        [("ana", json!(["partners", "system:authenticated"])), ("omar", json!(["system:authenticated"]))]
    {
        let user = &mut config["users"][0]["user"];
        (user["as"], user["as-groups"]) = (person.into(), groups);
        std::fs::write(dir.join(person), config.to_string())?;
    }
    let image = std::env::var("IDM_IMAGE").context("e2e/run says where the binaries are")?;
    let folder = std::path::Path::new(&image).parent().context("a folder")?.display().to_string();
    let shell = |person: &str, script: &str| {
        let dir = dir.display();
        let path = format!("PATH={folder}:$PATH KUBECONFIG={dir}/{person} IDM_STATE_DIR={dir}/state-{person}");
        run("bash", &["-c", &format!("export {path}; set -euo pipefail; {script}")], None)
    };
    let monthly = format!("kubectl -n {PLACE} create -f - <<'Y'\n{monthly}Y\n");
    shell("ana", &monthly)?;
    let wait = |request: &str, field: &str| {
        let wanted = format!("--for=jsonpath={{.status.{field}}}");
        space.kubectl(&["wait", &wanted, &format!("idreq/{request}"), "--timeout=60s"])
    };
    let steps = blocks(&page, "sh");
    ensure!(steps.len() == 4, "{} steps", steps.len());
    let mut printed = String::new();
    for (number, (words, script)) in steps.iter().enumerate() {
        match number {
            1 => drop(wait("nightly", "hash")?),
            2 => drop(wait("monthly", "hash")?),
            3 => drop(wait("nightly", "encryptedKey")?),
            _ => {}
        }
        let person = words.trim_start_matches("as=").split(' ').next().unwrap_or_default();
        printed = shell(person, script)?;
    }
    ensure!(printed.trim().starts_with("idm_") && printed.trim().len() == 53, "a key and nothing else: {printed}");
    wait("monthly", "encryptedKey")?;
    ensure!(shell("ana", &format!("idm credential receive nightly -n {PLACE}")).is_err(), "it is shown once");
    std::fs::remove_dir_all(&dir)?;
    space.delete()
}
