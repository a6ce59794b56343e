//! Words for end-to-end tests: a namespace of one's own, kubectl, Keycloak, Elasticsearch, traffic.
//!
//! In: the environment that `e2e/run` prepares. Out: [`Bed`] and [`Space`], on which tests say what they
//! want and wait for states, never for time. Everything a test makes lives in its namespace and goes
//! with it.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The longest time that anything in the bed takes to reach a state.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that opens the echo upstream to everyone, for tests about something else.
pub const OPEN: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: open}
spec:
  targetRefs: [{group: '', kind: Service, name: echo}]
  authentication: {methods: [{name: everyone, anonymous: {}}]}
";

/// Runs kubectl; the error holds what it said.
pub fn kubectl(args: &[&str]) -> Result<String> {
    run("kubectl", args, None)
}

/// Runs kubectl with a manifest on standard input.
pub fn kubectl_with(args: &[&str], input: &str) -> Result<String> {
    run("kubectl", args, Some(input))
}

/// Runs a program and returns what it printed.
pub fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be run: use e2e/run"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{program} {}: {}{}", args.join(" "), text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// A user with a client certificate that the cluster signed: what a person with kubectl is.
pub fn certificate(dir: &str, user: &str) -> Result<[String; 2]> {
    let (key, request) = (format!("{dir}/{user}.key"), format!("{dir}/{user}.csr"));
    let subject = format!("/CN={user}");
    let ec = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run("openssl", &[&ec[..], &["-keyout", &key, "-out", &request, "-subj", &subject]].concat(), None)?;
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let encoded = engine.encode(std::fs::read(&request)?);
    let name = format!("e2e-{user}");
    let csr = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": encoded, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "expirationSeconds": 3600},
    });
    let _ = kubectl(&["delete", "csr", &name, "--ignore-not-found"]);
    kubectl_with(&["create", "-f", "-"], &csr.to_string())?;
    kubectl(&["certificate", "approve", &name])?;
    let start = Instant::now();
    loop {
        let signed = kubectl(&["get", "csr", &name, "-o", "jsonpath={.status.certificate}"])?;
        if !signed.is_empty() {
            let file = format!("{dir}/{user}.crt");
            std::fs::write(&file, engine.decode(signed)?)?;
            let _ = kubectl(&["delete", "csr", &name]);
            return Ok([format!("--client-certificate={file}"), format!("--client-key={key}")]);
        }
        ensure!(start.elapsed() < Duration::from_secs(30), "the certificate of {user} is not signed");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Tries until it gives a value; the last error is the answer after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > PATIENCE => return Err(error.context(format!("gave up waiting: {what}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run e2e/run, which prepares everything"))
}

/// Keycloak as a Service of the cluster: issuers may only be reached over plain http by such a name.
pub fn keycloak_service() -> Result<()> {
    // Two tests that make it at once would each find it made by the other.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = std::env::var("E2E_HOST_IP")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: idp}}\n---\napiVersion: v1\nkind: Service\nmetadata: \
            {{name: keycloak, namespace: idp}}\nspec: {{ports: [{{port: 8180}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: keycloak, namespace: idp, labels: \
         {{kubernetes.io/service-name: keycloak}}}}\naddressType: IPv4\n\
         ports: [{{name: \"\", port: 8180}}]\nendpoints: [{{addresses: [\"{host}\"]}}]\n"
    );
    kubectl_with(&["apply", "-f", "-"], &yaml).map(drop)
}

/// A caller of Keycloak's and Elasticsearch's interfaces.
pub struct Bed {
    /// The HTTP client of the test.
    pub http: reqwest::Client,
    keycloak: String,
    elasticsearch: String,
}

impl Bed {
    /// The bed that `e2e/run` made.
    pub fn new() -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(15)).no_proxy().build()?;
        Ok(Self { http, keycloak: variable("E2E_KEYCLOAK")?, elasticsearch: variable("E2E_ELASTICSEARCH")? })
    }

    /// A token of one of the realm's clients.
    pub async fn token(&self, client: &str) -> Result<String> {
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={client}-secret");
        self.token_from("shop", &form).await
    }

    /// The endpoint for tokens, as Keycloak sees it when we ask.
    pub fn token_endpoint(&self) -> String {
        format!("{}/realms/shop/protocol/openid-connect/token", self.keycloak)
    }

    /// A token that is bound to the key of a DPoP proof, which the caller made for the token endpoint.
    pub async fn bound_token(&self, client: &str, proof: &str) -> Result<String> {
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={client}-secret");
        let request = self.http.post(self.token_endpoint()).header("dpop", proof);
        let answer = request.header("content-type", "application/x-www-form-urlencoded").body(form).send().await?;
        let text = answer.text().await?;
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["access_token"].as_str().with_context(|| format!("no token: {text}"))?.to_owned())
    }

    /// Revokes a token at its issuer (RFC 7009).
    pub async fn revoke(&self, client: &str, token: &str) -> Result<()> {
        let form = format!("client_id={client}&client_secret={client}-secret&token={token}");
        let request = self.http.post(format!("{}/realms/shop/protocol/openid-connect/revoke", self.keycloak));
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    async fn token_from(&self, realm: &str, form: &str) -> Result<String> {
        let request = self.http.post(format!("{}/realms/{realm}/protocol/openid-connect/token", self.keycloak));
        let answer =
            request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned()).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        Ok(answer["access_token"].as_str().context("no token")?.to_owned())
    }

    /// Asks Keycloak's administration of the realm; what is posted is made unless it is there.
    pub async fn keycloak_admin(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let admin =
            self.token_from("master", "grant_type=password&client_id=admin-cli&username=admin&password=admin").await?;
        let mut request = self
            .http
            .request(method.parse()?, format!("{}/admin/realms/shop/{path}", self.keycloak))
            .bearer_auth(&admin);
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success() || status.as_u16() == 409, "{method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Makes Keycloak sign with a new key from now on, and withdraws the keys before it.
    pub async fn rotate_keys(&self, priority: u32) -> Result<()> {
        let admin =
            self.token_from("master", "grant_type=password&client_id=admin-cli&username=admin&password=admin").await?;
        let url = format!("{}/admin/realms/shop/components", self.keycloak);
        let list = format!("{url}?type=org.keycloak.keys.KeyProvider");
        let before: Value = self.http.get(&list).bearer_auth(&admin).send().await?.error_for_status()?.json().await?;
        let key = json!({"name": format!("rotated-{priority}"), "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [priority.to_string()], "enabled": ["true"], "active": ["true"],
            "algorithm": ["RS256"], "keySize": ["2048"]}});
        self.http.post(&url).bearer_auth(&admin).json(&key).send().await?.error_for_status()?;
        for old in before.as_array().into_iter().flatten().filter(|key| key["providerId"] == "rsa-generated") {
            // Passive: still published for tokens that are under way, no longer used for new ones.
            let mut old = old.clone();
            old["config"]["active"] = json!(["false"]);
            let id = old["id"].as_str().unwrap_or_default().to_owned();
            self.http.put(format!("{url}/{id}")).bearer_auth(&admin).json(&old).send().await?.error_for_status()?;
        }
        Ok(())
    }

    /// Audit records that match a query, straight from Elasticsearch.
    pub async fn records(&self, query: Value) -> Result<Vec<Value>> {
        Ok(self.hits(query).await?.iter().map(|hit| hit["_source"].clone()).collect())
    }

    /// The same with the index of each.
    pub async fn hits(&self, query: Value) -> Result<Vec<Value>> {
        self.http.post(format!("{}/analytic-auth-record*/_refresh", self.elasticsearch)).send().await?;
        let request = self.http.post(format!("{}/analytic-auth-record*/_search?size=10000", self.elasticsearch));
        let answer: Value = request.json(&json!({"query": query})).send().await?.error_for_status()?.json().await?;
        Ok(answer.pointer("/hits/hits").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The record of one decision, once it arrived.
    pub async fn record(&self, id: &str) -> Result<Value> {
        eventually("the record arrives in Elasticsearch", async || {
            let mut found = self.records(json!({"term": {"id": id}})).await?;
            ensure!(found.len() == 1, "{} records of {id}", found.len());
            Ok(found.remove(0))
        })
        .await
    }
}

/// The gateway's answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The decision id of a refusal.
    pub decision: Option<String>,
    /// The body, as JSON where it is that.
    pub body: Value,
}

/// A namespace of one test, with an echo upstream, under the restricted Pod Security standard.
pub struct Space {
    /// Its name.
    pub name: String,
    http: reqwest::Client,
    address: std::sync::Mutex<Option<IpAddr>>,
}

impl Space {
    /// Makes the namespace and its upstream.
    pub fn new(name: &str) -> Result<Self> {
        let _ = kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait=true"]);
        kubectl(&["create", "namespace", name])?;
        kubectl(&["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"])?;
        // No pooled connections: a test that kills pods must not meet a connection to a dead one.
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().pool_max_idle_per_host(0).build()?;
        let space = Self { name: name.to_owned(), http, address: std::sync::Mutex::default() };
        space.apply(include_str!("echo.yaml"))?;
        Ok(space)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&[&["-n", &self.name], args].concat())
    }

    /// kubectl apply.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        kubectl_with(&["-n", &self.name, "apply", "-f", "-"], yaml)
    }

    /// An object as JSON.
    pub fn object(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])?)?)
    }

    /// A condition of an object: status, reason and message.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Result<(String, String, String)> {
        let object = self.object(kind, name)?;
        let generation = &object["metadata"]["generation"];
        let all = object.pointer("/status/conditions").and_then(Value::as_array).context("no conditions yet")?;
        let found = all
            .iter()
            .find(|c| c["type"] == condition && c["observedGeneration"] == *generation)
            .context("no such condition for this generation yet")?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((text("status"), text("reason"), text("message")))
    }

    /// Waits until kubectl itself says that the object is Ready.
    pub fn wait_ready(&self, kind: &str, name: &str) -> Result<()> {
        let object = format!("{kind}/{name}");
        self.kubectl(&["wait", "--for=condition=Ready", &object, "--timeout=90s"]).map(drop)
    }

    /// The address of the namespace's gateway: that for Services, or that of its only Gateway.
    pub fn gateway(&self) -> Result<IpAddr> {
        let mut known = self.address.lock().expect("no test panics while holding it");
        if let Some(address) = *known {
            return Ok(address);
        }
        let found = self.kubectl(&["get", "services", "-l", "app.kubernetes.io/component=gateway", "-o", "json"])?;
        let found: Value = serde_json::from_str(&found)?;
        let services = found["items"].as_array().context("no list")?;
        let own = services.iter().find(|service| service["metadata"]["name"] == "idm-gateway");
        let service = match (own, services.as_slice()) {
            (Some(own), _) => own,
            (None, [only]) => only,
            (None, all) => bail!("{} gateways, and none is for Services", all.len()),
        };
        let address = service["spec"]["clusterIP"].as_str().context("no address")?.parse()?;
        Ok(*known.insert(address))
    }

    /// The same for the gateway of one Gateway, as its status says.
    pub fn address_of(&self, gateway: &str) -> Result<IpAddr> {
        let gateway = self.object("gateway", gateway)?;
        Ok(gateway.pointer("/status/addresses/0/value").and_then(Value::as_str).context("no address")?.parse()?)
    }

    /// Sends a request to an address.
    pub async fn send_to(&self, address: IpAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut request = self.http.get(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer_of(request.send().await?).await
    }

    /// Looks the gateway's address up anew: a Service that was made again has another one, and the old
    /// one may be somebody else's by now.
    pub fn forget_address(&self) {
        *self.address.lock().expect("no test panics while holding it") = None;
    }

    /// Sends a request through the gateway.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send_body(method, path, headers, String::new()).await
    }

    /// Sends a form through the gateway, as an OAuth client with this id and secret.
    pub async fn send_form(&self, path: &str, client: (&str, &str), form: &str) -> Result<Answer> {
        let credential =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:{}", client.0, client.1));
        let headers = [
            ("authorization", format!("Basic {credential}")),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.send_body("POST", path, &headers, form.to_owned()).await
    }

    async fn send_body(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Result<Answer> {
        let url = format!("http://{}{path}", self.gateway()?);
        let mut request = self.http.request(method.parse()?, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                self.forget_address();
                return Err(error.into());
            }
        };
        answer_of(answer).await
    }

    /// The number of requests that the upstream has seen under a path.
    pub fn seen_upstream(&self, path: &str) -> Result<usize> {
        let log = self.kubectl(&["logs", "-l", "app=echo", "--tail=-1"])?;
        Ok(log.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|seen| seen.starts_with(path))).count())
    }

    /// Removes the namespace and waits until it is gone.
    pub fn delete(self) -> Result<()> {
        kubectl(&["delete", "namespace", &self.name, "--wait=true", "--timeout=60s"]).map(drop)
    }
}

async fn answer_of(answer: reqwest::Response) -> Result<Answer> {
    let decision = answer.headers().get("x-decision-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok(Answer { status, decision, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

/// Fails unless the answer is a refusal with this status.
pub fn refused(answer: &Answer, status: u16) -> Result<String> {
    ensure!(answer.status == status, "expected {status}, got {} {}", answer.status, answer.body);
    match &answer.decision {
        Some(id) => Ok(id.clone()),
        None => bail!("a refusal without a decision id: {answer:?}"),
    }
}
