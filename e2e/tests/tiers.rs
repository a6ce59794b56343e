//! Permissions are the same at kubectl as in the answers of `can`: for every built-in role on every tier, every
//! kind, every place and every verb. And the guard, without which a team's role would be a project's.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use idm_e2e::{certificate, eventually, kubectl, kubectl_with};
use idm_permission::{
    Binding, Bindings, BuiltInRole, Kind, Permission, PermissionSet, Person, REVOKE_ANNOTATION, ROTATE_ANNOTATION,
    Role, Scope, TEAM_LABEL, Target, Verb, Write, can, may_write, scope_of,
};
use serde_json::{Value, json};

const SYSTEM: &str = "idm-system";
const SHOP: &str = "e2e-tiers";
const BANK: &str = "e2e-tiers-bank";
/// RFC 7515 §A.3.
const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const PLACES: [&str; 3] = ["", "own", "foreign"];

/// An API server that is asked as anybody: the proxy of kubectl adds the administrator's credential.
struct Server {
    proxy: Child,
    url: String,
    http: reqwest::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

impl Server {
    fn start() -> Result<Self> {
        use std::io::BufRead;
        let mut proxy = Command::new("kubectl").args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        std::io::BufReader::new(proxy.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().context("no address")?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { proxy, url: format!("http://{address}"), http })
    }

    /// Status and message of a request as a user.
    async fn ask(&self, user: &str, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        let mut request = self.http.request(method.parse()?, format!("{}{path}", self.url));
        request = request.header("impersonate-user", user);
        if let Some(body) = body {
            let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            request = request.header("content-type", kind).body(body.to_string());
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

fn path(kind: Kind, namespace: &str, name: &str) -> String {
    format!("/apis/identity-manager.io/v1alpha1/namespaces/{namespace}/{}/{name}", kind.resource())
}

/// An object of a kind at a place.
fn object(kind: Kind, namespace: &str, name: &str, team: &str) -> Value {
    let target = json!([{"group": "", "kind": "Service", "name": "a"}]);
    let scope = if team.is_empty() { json!({"project": {}}) } else { json!({"team": {"name": team}}) };
    let spec = match kind {
        Kind::IdentityPolicy => {
            json!({"targetRefs": target, "authentication": {"methods": [{"name": "m", "anonymous": {}}]}})
        }
        Kind::Credential => json!({"apiKey": {}, "secretRef": {"name": "k"}}),
        Kind::Federation => json!({"oidc": {"issuer": "https://idp.example"}}),
        Kind::RoleBinding => {
            json!({"permissionRole": "Consumer", "subjects": [{"user": "of-a-sample"}], "scope": scope})
        }
        // It must be in the name of who makes it: the administrator, for samples.
        Kind::CredentialRequest => asked_by(administrator()),
        Kind::UsagePlan => {
            let rate = json!({"name": "pace", "rate": {"requests": 1, "perSeconds": 1}});
            json!({"selects": {"roles": ["of-a-sample"]}, "limits": [rate]})
        }
    };
    let labels = if team.is_empty() { json!({}) } else { json!({TEAM_LABEL: team}) };
    json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": kind.name(),
        "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec,
    })
}

fn asked_by(user: &str) -> Value {
    json!({
        "requester": {"username": user}, "purpose": "of a sample", "recipient": {"jwk": JWK},
        "credential": {"apiKey": {}, "access": {"policies": ["p"]}, "expireTime": "2100-01-01T00:00:00Z"},
    })
}

/// The name of the one who runs the tests.
fn administrator() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).expect("the API server knows it")
    })
}

fn name_at(team: &str) -> String {
    format!("of-{}", if team.is_empty() { "none" } else { team })
}

/// A RoleBinding with permissions for one user, as an object and as the decision has it.
fn binding(user: &str, role: Role, scope: Scope) -> (Value, Binding) {
    let namespace = scope.project().unwrap_or(SYSTEM).to_owned();
    let wire = match &scope {
        Scope::System => json!({"system": {}}),
        Scope::Project(_) => json!({"project": {}}),
        Scope::Team { team, .. } => json!({"team": {"name": team}}),
    };
    let mut spec = json!({"subjects": [{"user": user}], "scope": wire});
    match &role {
        Role::BuiltIn(role) => spec["permissionRole"] = json!(role),
        Role::Listed(set) => {
            spec["permissions"] = set.iter().map(|one| json!({"kinds": [one.kind], "verbs": [one.verb]})).collect();
        }
    }
    let object = json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "RoleBinding",
        "metadata": {"name": format!("e2e-{user}"), "namespace": namespace, "labels": {"e2e": "tiers"}}, "spec": spec,
    });
    let name = format!("e2e-{user}");
    (object, Binding { namespace, name, role, scope, targets: vec![Target::User(user.to_owned())] })
}

/// Everybody: each built-in role on each tier, a list of permissions, somebody of another project, and nobody.
fn everybody() -> (Vec<String>, Vec<Value>, Bindings) {
    let mut all = Vec::new();
    for role in BuiltInRole::ALL {
        let user = |tier: &str| format!("{}-{tier}", role.name().to_lowercase());
        let built_in = Role::BuiltIn(*role);
        if *role != BuiltInRole::Owner {
            all.push(binding(&user("system"), built_in.clone(), Scope::System));
        }
        if *role != BuiltInRole::SystemAdmin {
            all.push(binding(&user("project"), built_in.clone(), Scope::of(SHOP, None)));
            all.push(binding(&user("team"), built_in, Scope::of(SHOP, Some("own"))));
        }
    }
    let listed = [(Verb::Update, Kind::Federation), (Verb::Read, Kind::Federation), (Verb::Delete, Kind::Credential)];
    let listed: PermissionSet = listed.into_iter().filter_map(|(verb, kind)| Permission::new(verb, kind)).collect();
    all.push(binding("listed-project", Role::Listed(listed), Scope::of(SHOP, None)));
    all.push(binding("banker", Role::BuiltIn(BuiltInRole::Owner), Scope::of(BANK, None)));
    let mut users: Vec<_> = all
        .iter()
        .flat_map(|(_, binding)| &binding.targets)
        .map(|target| match target {
            Target::User(name) => name.clone(),
            _ => String::new(),
        })
        .collect();
    users.push("nobody".into());
    let (objects, bindings): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    (users, objects, Bindings(bindings))
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// RFC 7396, as the API server merges.
fn merged(old: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut new = old.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            new.remove(name);
        } else {
            let before = new.get(name).cloned().unwrap_or_default();
            new.insert(name.clone(), merged(&before, value));
        }
    }
    Value::Object(new)
}

/// The changes of an object that are tried, each with a word for it.
fn changes(kind: Kind, team: &str) -> Vec<(String, Value)> {
    let annotated = |name: &str| json!({"metadata": {"annotations": {name: "1"}}});
    let mut all = vec![
        ("annotate".into(), annotated("e2e")),
        ("finalizer".into(), json!({"metadata": {"finalizers": ["e2e.example/hold"]}})),
    ];
    if kind == Kind::RoleBinding {
        all.push(("subjects".into(), json!({"spec": {"subjects": [{"user": "other"}]}})));
        return all;
    }
    for to in PLACES.into_iter().filter(|to| *to != team) {
        let label = if to.is_empty() { Value::Null } else { json!(to) };
        all.push((format!("move to {to:?}"), json!({"metadata": {"labels": {TEAM_LABEL: label}}})));
    }
    match kind {
        Kind::IdentityPolicy => {
            all.push(("rotate".into(), annotated(ROTATE_ANNOTATION)));
            let targets = json!([{"group": "", "kind": "Service", "name": "b"}]);
            all.push(("deploy".into(), json!({"spec": {"targetRefs": targets}})));
        }
        Kind::Credential => {
            all.push(("rotate".into(), annotated(ROTATE_ANNOTATION)));
            all.push(("revoke".into(), json!({"spec": {"suspend": true}})));
            all.push(("revoke a key".into(), annotated(REVOKE_ANNOTATION)));
        }
        Kind::Federation => all.push(("provision".into(), json!({"spec": {"provisioning": {"role": "admin"}}}))),
        Kind::RoleBinding | Kind::UsagePlan | Kind::CredentialRequest => {}
    }
    all
}

/// The answers to a request that are tried: in the own name and in another one, to this request and to another one.
fn answers(kind: Kind, user: &str, old: &Value) -> Vec<(String, Value)> {
    if kind != Kind::CredentialRequest {
        return Vec::new();
    }
    let hash = old["status"]["hash"].as_str().unwrap_or_default();
    let stale = "0".repeat(64);
    let all = [
        ("approve", "Approved", user, hash),
        ("reject", "Rejected", user, hash),
        ("approve in another name", "Approved", "somebody", hash),
        ("approve another request", "Approved", user, stale.as_str()),
    ];
    let answer = |(deed, decision, by, hash): (&str, &str, &str, &str)| {
        let answer = json!({"decision": decision, "by": {"username": by}, "hash": hash, "reason": "r"});
        (deed.to_owned(), json!({"spec": {"approval": answer}}))
    };
    all.into_iter().map(answer).collect()
}

struct Count {
    cells: usize,
    project_wide_reads: usize,
    wrong: Vec<String>,
}

impl Count {
    fn compare(&mut self, cell: String, expected: bool, (status, message): (u16, String)) {
        self.cells += 1;
        let allowed = (200..300).contains(&status);
        if allowed != expected || !allowed && status != 403 {
            let message: String = message.chars().take(300).collect();
            self.wrong.push(format!("{cell}: {expected} by `can`, {status} at kubectl: {message}"));
        }
    }
}

async fn compare_all(server: &Server, users: &[String], bindings: &Bindings) -> Result<Count> {
    let mut count = Count { cells: 0, project_wide_reads: 0, wrong: Vec::new() };
    for (namespace, places) in [(SHOP, &PLACES[..]), (BANK, &PLACES[..2])] {
        for &kind in Kind::ALL {
            for &team in places {
                let name = name_at(team);
                let one = path(kind, namespace, &name);
                let old: Value = serde_json::from_str(&kubectl(&["get", "--raw", &one])?)?;
                for user in users {
                    compare_one(server, bindings, user, (kind, namespace, team), &old, &mut count).await?;
                }
            }
        }
    }
    Ok(count)
}

async fn compare_one(
    server: &Server,
    bindings: &Bindings,
    user: &str,
    (kind, namespace, team): (Kind, &str, &str),
    old: &Value,
    count: &mut Count,
) -> Result<()> {
    let person = Person { username: user.to_owned(), groups: vec![] };
    let cell = |deed: &str| format!("{user}: {deed} {} of {team:?} in {namespace}", kind.name());
    let one = path(kind, namespace, &name_at(team));
    let may = |old: Option<&Value>, new: Option<&Value>| {
        may_write(bindings, &person, &Write { kind, namespace, old, new }, SYSTEM).is_ok()
    };
    for (deed, patch) in changes(kind, team).into_iter().chain(answers(kind, user, old)) {
        let new = merged(old, &patch);
        let seen = server.ask(user, "PATCH", &format!("{one}?dryRun=All"), Some(&patch)).await?;
        count.compare(cell(&deed), may(Some(old), Some(&new)), seen);
    }
    let mut new = object(kind, namespace, "new", team);
    if kind == Kind::CredentialRequest {
        let seen = server.ask(user, "POST", &format!("{}?dryRun=All", path(kind, namespace, "")), Some(&new)).await?;
        count.compare(cell("create in another name"), may(None, Some(&new)), seen);
        new["spec"] = asked_by(user);
    }
    let seen = server.ask(user, "POST", &format!("{}?dryRun=All", path(kind, namespace, "")), Some(&new)).await?;
    count.compare(cell("create"), may(None, Some(&new)), seen);
    let seen = server.ask(user, "DELETE", &format!("{one}?dryRun=All"), None).await?;
    count.compare(cell("delete"), may(Some(old), None), seen);
    // Only the operator writes a status.
    let status = json!({"status": {"observedGeneration": 7}});
    let seen = server.ask(user, "PATCH", &format!("{one}/status?dryRun=All"), Some(&status)).await?;
    count.compare(cell("write the status of"), false, seen);
    // The documented exception: admission never sees a read, so a team's members read the project.
    let read = Permission::new(Verb::Read, kind).context("a permission")?;
    let place = scope_of(kind, namespace, old);
    let of_team = can(bindings, &person, read, &Scope::of(namespace, Some("own"))).is_ok();
    let by_can = can(bindings, &person, read, &place).is_ok();
    let seen = server.ask(user, "GET", &one, None).await?;
    count.project_wide_reads += usize::from(of_team && !by_can);
    count.compare(cell("read"), by_can || of_team, seen);
    Ok(())
}

/// {no team, own, foreign} to {no team, own, foreign}, with certificates: create, move, delete.
fn people_with_certificates(bindings: &Bindings) -> Result<usize> {
    let dir = format!("{}/e2e-tiers-{}", std::env::temp_dir().display(), std::process::id());
    std::fs::create_dir_all(&dir)?;
    let mut cells = 0;
    for user in ["credentialmanager-team", "credentialmanager-project"] {
        let person = Person { username: user.to_owned(), groups: vec![] };
        let login = certificate(&dir, user)?;
        let login = [login[0].as_str(), login[1].as_str(), "-n", SHOP];
        let mut check = |deed: String, expected: bool, outcome: Result<String>| {
            cells += 1;
            match outcome {
                Ok(_) => ensure!(expected, "{user}: {deed} was let through"),
                Err(error) => {
                    let text = format!("{error:#}");
                    ensure!(!expected, "{user}: {deed}: {text}");
                    let next = "; who may: idm who-can ";
                    let is_named = text.contains("Forbidden") && text.contains(next) && text.contains(SHOP);
                    ensure!(is_named, "a refusal that does not say what is missing: {text}");
                }
            }
            Ok(())
        };
        for from in PLACES {
            let old = object(Kind::Credential, SHOP, &name_at(from), from);
            let may = |old: Option<&Value>, new: Option<&Value>| {
                let write = Write { kind: Kind::Credential, namespace: SHOP, old, new };
                may_write(bindings, &person, &write, SYSTEM).is_ok()
            };
            for to in PLACES.into_iter().filter(|to| *to != from) {
                let label = if to.is_empty() { format!("{TEAM_LABEL}-") } else { format!("{TEAM_LABEL}={to}") };
                let name = name_at(from);
                let arguments = ["label", "--overwrite", "--dry-run=server", "credential", &name, &label];
                let new = object(Kind::Credential, SHOP, &name, to);
                let outcome = kubectl(&[&login[..], &arguments[..]].concat());
                check(format!("move {from:?} to {to:?}"), may(Some(&old), Some(&new)), outcome)?;
            }
            let new = object(Kind::Credential, SHOP, "new", from).to_string();
            let outcome = kubectl_with(&[&login[..], &["create", "--dry-run=server", "-f", "-"]].concat(), &new);
            check(format!("create {from:?}"), may(None, Some(&old)), outcome)?;
            let outcome =
                kubectl(&[&login[..], &["delete", "--dry-run=server", "credential", &name_at(from)]].concat());
            check(format!("delete {from:?}"), may(Some(&old), None), outcome)?;
        }
    }
    std::fs::remove_dir_all(dir)?;
    Ok(cells)
}

/// Waits for an answer of `kubectl auth can-i` of a team's member, and returns how long it took.
async fn until(may: &str) -> Result<Duration> {
    let start = Instant::now();
    let asked =
        ["auth", "can-i", "create", "credentials.identity-manager.io", "-n", SHOP, "--as", "credentialmanager-team"];
    eventually("the grants of the team", async || {
        // The exit code is that of the answer.
        let answer = kubectl(&asked).unwrap_or_else(|error| error.to_string());
        let is_yes = answer.trim() == "yes";
        ensure!(is_yes == (may == "yes"), "{answer}");
        Ok(())
    })
    .await?;
    Ok(start.elapsed())
}

/// Each way to weaken the guard takes the roles of teams away within five seconds, and leaves those of the project.
async fn without_the_guard() -> Result<()> {
    let kinds = ["validatingadmissionpolicy", "validatingadmissionpolicybinding"];
    let mut kept = Vec::new();
    for kind in kinds {
        let mut object: Value = serde_json::from_str(&kubectl(&["get", kind, "idm-guard", "-o", "json"])?)?;
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"] {
            object["metadata"].as_object_mut().context("metadata")?.remove(field);
        }
        kept.push(object);
    }
    let weak = |kind: &str, patch: &str| kubectl(&["patch", kind, "idm-guard", "--type=json", "-p", patch]);
    let open = r#"[{"op": "replace", "path": "/spec/validations/2/expression", "value": "true"}]"#;
    let audits = r#"[{"op": "replace", "path": "/spec/validationActions", "value": ["Audit"]}]"#;
    type Way<'a> = (&'a str, Box<dyn Fn() -> Result<String> + 'a>);
    let ways: [Way<'_>; 4] = [
        ("an expression is true", Box::new(|| weak(kinds[0], open))),
        ("it audits only", Box::new(|| weak(kinds[1], audits))),
        ("its binding is deleted", Box::new(|| kubectl(&["delete", kinds[1], "idm-guard"]))),
        ("it is deleted", Box::new(|| kubectl(&["delete", kinds[0], "idm-guard"]))),
    ];
    for (way, weaken) in ways {
        until("yes").await?;
        weaken()?;
        let took = until("no").await;
        let status = kubectl(&["-n", SHOP, "get", "idrb", "e2e-credentialmanager-team", "-o", "json"]);
        // The guard comes back whatever was found: other tests need it.
        for object in &kept {
            kubectl_with(&["replace", "--force", "-f", "-"], &object.to_string())
                .or_else(|_| kubectl_with(&["create", "-f", "-"], &object.to_string()))?;
        }
        let took = took?;
        println!("{way}: the roles of teams were gone after {took:?}");
        ensure!(took < Duration::from_secs(5), "{way}: {took:?}");
        if way.contains("expression") {
            eventually("a status that says so", async || {
                ensure!(
                    status.as_ref().is_ok_and(|status| status.contains("GuardNotInForce")) || reported(),
                    "not yet"
                );
                Ok(())
            })
            .await?;
        }
    }
    until("yes").await.map(drop)
}

/// The operator tells it in an event, too.
fn reported() -> bool {
    kubectl(&["-n", SHOP, "get", "events", "-o", "json"]).is_ok_and(|events| events.contains("GuardNotInForce"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what_is_the_same_at_kubectl_and_in_can() -> Result<()> {
    for namespace in [SHOP, BANK] {
        let _ = kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--wait=true"]);
        kubectl(&["create", "namespace", namespace])?;
    }
    let _ = kubectl(&["-n", SYSTEM, "delete", "idrb", "-l", "e2e=tiers"]);
    let (users, objects, bindings) = everybody();
    kubectl_with(&["create", "-f", "-"], &list(&objects))?;
    let mut samples = Vec::new();
    for (namespace, places) in [(SHOP, &PLACES[..]), (BANK, &PLACES[..2])] {
        let all = Kind::ALL.iter().flat_map(|kind| places.iter().map(move |team| (*kind, *team)));
        samples.extend(all.map(|(kind, team)| object(kind, namespace, &name_at(team), team)));
    }
    kubectl_with(&["create", "-f", "-"], &list(&samples))?;
    for namespace in [SYSTEM, SHOP, BANK] {
        let wait = ["-n", namespace, "wait", "--for=condition=Ready", "idrb", "--all", "--timeout=60s"];
        kubectl(&wait)?;
    }
    for namespace in [SHOP, BANK] {
        let wait = ["-n", namespace, "wait", "--for=jsonpath={.status.hash}", "idreq", "--all", "--timeout=60s"];
        kubectl(&wait)?;
    }
    // The system's RoleBindings must go whatever is found.
    let outcome = compare_and_weaken(&users, &bindings).await;
    kubectl(&["-n", SYSTEM, "delete", "idrb", "-l", "e2e=tiers"])?;
    kubectl(&["delete", "namespace", SHOP, BANK, "--wait=true", "--timeout=60s"])?;
    outcome
}

async fn compare_and_weaken(users: &[String], bindings: &Bindings) -> Result<()> {
    let server = Server::start()?;
    let count = compare_all(&server, users, bindings).await?;
    let cells = count.cells + people_with_certificates(bindings)?;
    println!("{cells} cells; {} reads of a project by a team's member", count.project_wide_reads);
    if !count.wrong.is_empty() {
        bail!(
            "{} of {cells} cells differ:\n{}",
            count.wrong.len(),
            count.wrong[..count.wrong.len().min(20)].join("\n")
        );
    }
    ensure!(cells >= 2_000, "{cells} cells");
    // `kubectl delete --all` of a member of a team removes what is of the team.
    let left = || kubectl(&["-n", SHOP, "get", "credentials", "-o", "name"]);
    let _ = kubectl(&["-n", SHOP, "delete", "credentials", "--all", "--as", "credentialmanager-team"]);
    let names = left()?;
    ensure!(!names.contains("of-own") && names.contains("of-none") && names.contains("of-foreign"), "{names}");
    without_the_guard().await?;
    // A right that was taken away is gone at once.
    kubectl(&["-n", SHOP, "delete", "idrb", "e2e-credentialmanager-team"])?;
    let took = until("no").await?;
    ensure!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}
