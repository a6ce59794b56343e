//! The Manager of a cluster over its API, with a substitute for the API server.

mod api_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use idm_types::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::identity::ApiServer as Connections;
use super::*;
use crate::guard::{Names, Scheme};
use crate::manager::AuditPlace;
use crate::{Manager, ManagerServer};
use api_server::ApiServer;

const OWNER: &str = "eyJhbGciOi.canary-owner-7c1d.sig";
const AUDITOR: &str = "eyJhbGciOi.canary-auditor-7c1d.sig";
const NOBODY: &str = "eyJhbGciOi.canary-nobody-7c1d.sig";
const OURS: &str = "/apis/identity-manager.io/v1alpha1";

/// A Manager over a substitute, with everybody's rights.
struct Bed {
    cluster: Arc<ApiServer>,
    server: ManagerServer,
    time: Arc<AtomicU64>,
}

/// A person with a session.
struct Session<'b> {
    bed: &'b Bed,
    cookie: String,
}

struct Reply {
    status: u16,
    head: String,
    body: Value,
}

impl Bed {
    async fn start() -> Self {
        let cluster = Arc::new(ApiServer::default());
        cluster.person(OWNER, "owner", &["* *", "@list namespaces"]);
        let reads =
            ["identitypolicies", "credentials", "federations", "rolebindings", "usageplans", "credentialrequests"];
        let reads: Vec<String> =
            reads.iter().flat_map(|kind| [format!("get {kind}"), format!("list {kind}")]).collect();
        let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
        cluster.person(AUDITOR, "auditor", &reads);
        cluster.person(NOBODY, "nobody", &[]);
        let namespace = json!({"metadata": {"name": "shop"}});
        cluster.store_of_cluster("/api/v1/namespaces/shop", namespace);
        let time = Arc::new(AtomicU64::new(0));
        let clock = Clock::set_by(time.clone());
        let place = ClusterPlace::over(Connections::over(cluster.client()), vec!["shop".into()], clock.clone());
        let names = Names::new(&[], Scheme::Http);
        let manager = Arc::new(Manager::new(Box::new(place), AuditPlace::default(), names, clock));
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = ManagerServer::start(listen, manager, None).await.expect("it listens");
        Self { cluster, server, time }
    }

    fn credential(&self, name: &str, more: Value) {
        let mut object = json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential", "metadata": {"name": name},
            "spec": {"apiKey": {}, "secretRef": {"name": format!("{name}-key")}},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            object[name] = value.clone();
        }
        object["metadata"]["name"] = name.into();
        self.cluster.store(OURS, "credentials", object);
    }

    async fn send(&self, method: &str, path: &str, cookie: &str, body: &Value) -> Reply {
        let mut stream = tokio::net::TcpStream::connect(self.server.address()).await.expect("it answers");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Idm-Manager: 1\r\n\
             Content-Type: application/json\r\nCookie: idm_manager={cookie}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        for token in [OWNER, AUDITOR, NOBODY] {
            assert!(!answer.contains(token), "a token is in an answer: {answer}");
        }
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Reply { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or_default() }
    }

    async fn session(&self, token: &str) -> Session<'_> {
        let reply = self.send("POST", "/api/v1/session", "", &json!({"token": token})).await;
        assert_eq!(reply.status, 204, "{}", reply.body);
        let cookie = reply.head.split("idm_manager=").nth(1).and_then(|rest| rest.split(';').next()).expect("one");
        Session { bed: self, cookie: cookie.to_owned() }
    }
}

impl Session<'_> {
    async fn ask(&self, method: &str, path: &str, body: Value) -> Reply {
        self.bed.send(method, &format!("/api/v1/{path}"), &self.cookie, &body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, Value::Null).await
    }
}

#[tokio::test]
async fn a_person_signs_in_with_their_token_and_sees_their_namespaces() {
    let bed = Bed::start().await;
    let way = bed.send("GET", "/api/v1/session", "", &Value::Null).await;
    assert_eq!((way.status, way.body), (200, json!({"mode": "cluster", "with": "token"})));
    let owner = bed.session(OWNER).await.get("me").await;
    assert_eq!((owner.status, &owner.body["name"], &owner.body["mode"]), (200, &json!("owner"), &json!("cluster")));
    assert_eq!(owner.body["namespaces"], json!(["shop"]));
    assert!(owner.body["namespacesNote"].is_null());
    let auditor = bed.session(AUDITOR).await.get("me").await;
    assert_eq!(auditor.body["namespaces"], json!(["shop"]), "those of the configuration, one by one");
    assert!(auditor.body["namespacesNote"].as_str().is_some_and(|note| note.contains("may not list the namespaces")));
    assert_eq!(bed.session(NOBODY).await.get("me").await.body["namespaces"], json!([]));
    for (body, status) in [
        (json!({"token": "eyJ.unknown.sig"}), 401),
        (json!({"token": "two words"}), 400),
        (json!({"code": "ABCD-EFGH"}), 400),
        (json!({"token": OWNER, "namespaces": ["../x"]}), 400),
    ] {
        let reply = bed.send("POST", "/api/v1/session", "", &body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
    }
}

#[tokio::test]
async fn permissions_are_what_the_api_server_says_of_each_and_are_asked_once_in_a_while() {
    let bed = Bed::start().await;
    let owner = bed.session(OWNER).await;
    let table = owner.get("me?namespace=shop").await.body["permissions"].clone();
    for (kind, verb) in [("Credential", "rotate"), ("IdentityPolicy", "deploy"), ("RoleBinding", "create")] {
        assert_eq!(table[kind][verb]["allowed"], true, "{verb} {kind}");
    }
    let asked = bed.cluster.reviews();
    owner.get("me?namespace=shop").await;
    assert_eq!(bed.cluster.reviews(), asked, "the answers are kept for a moment");
    bed.time.store(5_000, Ordering::Relaxed);
    owner.get("me?namespace=shop").await;
    assert!(bed.cluster.reviews() > asked, "and no longer");
    let auditor = bed.session(AUDITOR).await.get("me?namespace=shop").await.body["permissions"].clone();
    assert_eq!(auditor["Credential"]["get"]["allowed"], true);
    let refused = &auditor["Credential"]["rotate"];
    assert_eq!(refused["allowed"], false);
    assert_eq!(refused["missing"]["whoCan"], "idm who-can rotate credential -n shop");
}

#[tokio::test]
async fn a_role_of_a_team_allows_what_the_guard_gives_to_the_team() {
    let bed = Bed::start().await;
    let rights =
        ["list rolebindings", "patch credentials", "update credentials/team:web", "rotate credentials/team:other"];
    bed.cluster.person("t", "member", &rights);
    let binding = json!({"metadata": {"name": "b"}, "spec": {"scope": {"team": {"name": "web"}}}});
    bed.cluster.store(OURS, "rolebindings", binding);
    let table = bed.session("t").await.get("me?namespace=shop").await.body["permissions"].clone();
    let update = &table["Credential"]["update"];
    assert!(update["allowed"] == true && update["by"].as_str().is_some_and(|by| by.contains("team web")), "{update}");
    assert_eq!(table["Credential"]["rotate"]["allowed"], false, "{}", table["Credential"]);
}

#[tokio::test]
async fn who_may_not_is_told_what_is_missing_and_who_may() {
    let bed = Bed::start().await;
    bed.credential("nightly", json!({}));
    let nobody = bed.session(NOBODY).await;
    for (method, path, verb) in [
        ("GET", "objects/Credential?namespace=shop", "get"),
        ("GET", "objects/Credential/shop/nightly", "get"),
        ("DELETE", "objects/Credential/shop/nightly?version=1", "delete"),
        ("POST", "credentials/shop/nightly/revoke", "revoke"),
    ] {
        let reply = nobody.ask(method, path, json!({})).await;
        let error = &reply.body["error"];
        assert_eq!((reply.status, &error["code"]), (403, &json!("Forbidden")), "{method} {path}: {}", reply.body);
        let missing = &error["missing"];
        assert_eq!((&missing["verb"], &missing["kind"]), (&json!(verb), &json!("Credential")));
        assert_eq!((&missing["namespace"], &missing["scope"]), (&json!("shop"), &json!("project `shop`")));
        assert_eq!(missing["decision"], error["id"]);
        assert_eq!(missing["whoCan"], format!("idm who-can {verb} credential -n shop"));
        assert_eq!(error["id"].as_str().map(str::len), Some(26));
    }
    assert!(bed.cluster.ours("credentials", "nightly").is_some());
    assert!(bed.cluster.written().is_empty());
    // Of all namespaces everybody sees what is theirs.
    let all = nobody.get("objects/Credential").await;
    assert_eq!((all.status, &all.body["items"]), (200, &json!([])));
}

#[tokio::test]
async fn lists_go_on_where_they_ended_and_are_searched() {
    let bed = Bed::start().await;
    for number in 0..1203 {
        let owner = if number == 900 { "ana" } else { "bob" };
        let spec = json!({"apiKey": {}, "secretRef": {"name": "k"}, "owner": {"user": owner}});
        bed.credential(&format!("c{number:04}"), json!({"spec": spec}));
    }
    let owner = bed.session(OWNER).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("objects/Credential?namespace=shop&limit=400&after={after}");
        let page = owner.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let items = page.body["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
        match page.body["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let all: Vec<_> = (0..1203).map(|number| format!("c{number:04}")).collect();
    assert_eq!(seen, all);
    let found = owner.get("objects/Credential?namespace=shop&search=ANA").await;
    assert_eq!(found.body["items"][0]["name"], "c0900");
    assert_eq!(found.body["total"], 1);
    assert_eq!(owner.get("objects/Credential?after=x").await.status, 400);
}

#[tokio::test]
async fn a_save_writes_the_fields_that_changed_and_a_status_is_no_conflict() {
    let bed = Bed::start().await;
    bed.credential("nightly", json!({"metadata": {"labels": {"a": "b"}}}));
    let owner = bed.session(OWNER).await;
    let read = owner.get("objects/Credential/shop/nightly").await.body;
    let yaml = read["yaml"].as_str().expect("YAML").replace("spec:\n", "spec:\n  suspend: true\n");
    bed.cluster.be_restless(2);
    let saved = owner.ask("PUT", "objects/Credential/shop/nightly", json!({"yaml": yaml, "version": read["version"]}));
    let saved = saved.await;
    assert_eq!(saved.status, 200, "{}", saved.body);
    assert_ne!(saved.body["version"], read["version"]);
    assert_eq!(bed.cluster.ours("credentials", "nightly").expect("it is there")["spec"]["suspend"], true);
    let (method, address, patch) = bed.cluster.written().pop().expect("a write");
    assert_eq!((method.as_str(), &patch["spec"]), ("PATCH", &json!({"suspend": true})));
    assert!(patch["metadata"].get("labels").is_none(), "{patch}");
    assert!(address.contains("fieldManager=idm-manager") && address.contains("fieldValidation=Strict"), "{address}");
    // A new object, and one that is there.
    let new = yaml.replace("nightly", "daily");
    let made = owner.ask("PUT", "objects/Credential/shop/daily", json!({"yaml": new})).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(owner.ask("PUT", "objects/Credential/shop/daily", json!({"yaml": new})).await.status, 409);
    // Deleted is what was looked at.
    let stale = format!("objects/Credential/shop/nightly?version={}", read["version"].as_str().expect("a version"));
    assert_eq!(owner.ask("DELETE", &stale, json!({})).await.status, 409);
    let version = saved.body["version"].as_str().expect("a version");
    let gone = owner.ask("DELETE", &format!("objects/Credential/shop/nightly?version={version}"), json!({})).await;
    assert_eq!((gone.status, bed.cluster.ours("credentials", "nightly")), (204, None));
}

#[tokio::test]
async fn a_conflict_names_the_field_and_the_other_writer() {
    let bed = Bed::start().await;
    bed.credential("nightly", json!({}));
    let owner = bed.session(OWNER).await;
    let read = owner.get("objects/Credential/shop/nightly").await.body;
    let fields = json!([{"manager": "kubectl-edit", "operation": "Update", "time": "2027-01-01T00:00:00Z",
        "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
    let spec = json!({"apiKey": {}, "secretRef": {"name": "nightly-key"}, "suspend": true});
    bed.credential("nightly", json!({"metadata": {"managedFields": fields}, "spec": spec}));
    let draft = json!({"yaml": read["yaml"], "version": read["version"]});
    let refused = owner.ask("PUT", "objects/Credential/shop/nightly", draft).await;
    let error = &refused.body["error"];
    assert_eq!((refused.status, &error["code"]), (409, &json!("Conflict")));
    assert_eq!(error["conflicts"], json!([{"field": "spec.suspend", "manager": "kubectl-edit"}]));
    assert_eq!(error["field"], "spec.suspend");
    assert!(bed.cluster.written().is_empty());
}

#[tokio::test]
async fn an_object_of_a_repository_is_not_changed_and_the_patch_to_commit_is_told() {
    let bed = Bed::start().await;
    let annotations = json!({"argocd.argoproj.io/tracking-id": "web:identity-manager.io/Credential:shop/nightly",
        "config.kubernetes.io/path": "apps/nightly.yaml"});
    bed.credential("nightly", json!({"metadata": {"annotations": annotations}}));
    let owner = bed.session(OWNER).await;
    let read = owner.get("objects/Credential/shop/nightly").await.body;
    let managed = json!({"tool": "Argo CD", "owner": "Application argocd/web", "path": "apps/nightly.yaml"});
    assert_eq!(read["managedBy"], managed);
    let list = owner.get("objects/Credential?namespace=shop").await.body;
    assert_eq!(list["items"][0]["managedBy"], managed);
    assert_eq!(list["items"][0]["version"], read["version"]);
    let yaml = read["yaml"].as_str().expect("YAML").replace("spec:\n", "spec:\n  suspend: true\n");
    let object = json!({"yaml": yaml, "version": read["version"]});
    let refused = owner.ask("PUT", "objects/Credential/shop/nightly", object).await;
    let error = &refused.body["error"];
    assert_eq!((refused.status, &error["code"], &error["managedBy"]), (409, &json!("ManagedByGit"), &managed));
    let patch: Value = serde_yaml_ng::from_str(error["patch"].as_str().expect("a patch")).expect("YAML");
    assert_eq!((&patch["kind"], &patch["spec"]), (&json!("Credential"), &json!({"suspend": true})));
    // The effect of a draft is told: it is for the repository.
    let draft = json!({"kind": "Credential", "namespace": "shop", "name": "nightly", "yaml": yaml,
        "version": read["version"]});
    let checked = owner.ask("POST", "check", draft).await;
    assert_eq!((checked.status, checked.body["diff"].as_array().map(Vec::len)), (200, Some(1)), "{}", checked.body);
    bed.cluster.written();
    let version = read["version"].as_str().expect("a version");
    let path = format!("objects/Credential/shop/nightly?version={version}");
    assert_eq!(owner.ask("DELETE", &path, json!({})).await.status, 409);
    assert!(bed.cluster.written().is_empty());
}

#[tokio::test]
async fn a_check_is_tried_at_the_api_server_and_compiled_and_writes_nothing() {
    let bed = Bed::start().await;
    let policy = |target: &str| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: {target}}}]\n  \
             authentication: {{methods: [{{name: all, anonymous: {{}}}}]}}\n"
        )
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders"},
        "spec": {"ports": [{"port": 80}]}});
    bed.cluster.store("/api/v1", "services", service);
    let owner = bed.session(OWNER).await;
    let draft = |yaml: &str, version: Value| {
        let (kind, name) = ("IdentityPolicy", "p");
        json!({"kind": kind, "namespace": "shop", "name": name, "yaml": yaml, "version": version})
    };
    let check = async |yaml: &str, version: Value| owner.ask("POST", "check", draft(yaml, version)).await;
    // A person who may not read Services cannot know that there is none.
    bed.cluster.person("w", "writer", &["* identitypolicies"]);
    let half = bed.session("w").await.ask("POST", "check", draft(&policy("orders"), Value::Null)).await;
    let note = &half.body["findings"][0];
    assert!(
        note["isNote"] == true && note["message"].as_str().is_some_and(|text| text.contains("get Service")),
        "{note}"
    );
    assert!(half.body["warnings"].to_string().contains("get Service"), "{}", half.body);
    let good = check(&policy("orders"), Value::Null).await;
    assert_eq!((good.status, &good.body["findings"]), (200, &json!([])), "{}", good.body);
    assert_eq!(good.body["warnings"][0], "this is old");
    assert!(good.body["warnings"].to_string().contains("get GatewayClass"), "{}", good.body);
    let bad = check(&policy("none"), Value::Null).await;
    assert_eq!(bad.body["findings"][0]["isNote"], false, "Services are known");
    assert!(
        bad.body["findings"][0]["field"].as_str().is_some_and(|field| field.contains("targetRefs")),
        "{}",
        bad.body
    );
    assert!(bed.cluster.ours("identitypolicies", "p").is_none());
    assert!(bed.cluster.written().iter().all(|(_, address, _)| address.contains("dryRun=All")));
    // A refusal of the API server is a finding too.
    let made = owner.ask("PUT", "objects/IdentityPolicy/shop/p", json!({"yaml": policy("orders")})).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let refused = check(&(policy("orders") + "  bad: x\n"), made.body["version"].clone()).await;
    assert_eq!(refused.body["findings"][0]["field"], "spec.bad", "{}", refused.body);
}

#[tokio::test]
async fn what_a_person_may_not_read_is_said_and_is_no_error() {
    let bed = Bed::start().await;
    let auditor = bed.session(AUDITOR).await;
    let topology = auditor.get("topology?namespace=shop").await;
    assert_eq!(topology.status, 200, "{}", topology.body);
    let missing = topology.body["missing"].to_string();
    assert!(missing.contains("get Service") && missing.contains("get GatewayClass"), "{missing}");
    let asked = json!({"request": {"method": "GET", "url": "https://shop.example/"}, "namespace": "shop"});
    let explained = auditor.ask("POST", "explain", asked).await;
    assert_eq!(explained.status, 200, "{}", explained.body);
    assert!(explained.body["missing"].to_string().contains("get HTTPRoute"), "{}", explained.body);
    let home = auditor.get("home").await;
    assert_eq!(home.status, 200, "{}", home.body);
    assert!(home.body["auditNote"].as_str().is_some_and(|note| note.contains("not configured")), "{}", home.body);
    let audit = auditor.get("audit").await;
    assert_eq!((audit.status, &audit.body["error"]["code"]), (501, &json!("NotConfigured")));
    let nobody = bed.session(NOBODY).await;
    assert_eq!(nobody.get("audit").await.status, 403, "records are for those who may read Credentials");
    assert_eq!(nobody.get("audit?namespace=shop").await.body["error"]["missing"]["kind"], "Credential");
}

#[tokio::test]
async fn the_end_of_a_token_ends_the_session_and_says_why() {
    let bed = Bed::start().await;
    let owner = bed.session(OWNER).await;
    assert_eq!(owner.get("me").await.status, 200);
    bed.cluster.expire(OWNER);
    bed.time.store(10_000, Ordering::Relaxed);
    let over = owner.get("objects/Credential?namespace=shop").await;
    assert_eq!((over.status, &over.body["error"]["code"]), (401, &json!("NoSession")));
    let message = over.body["error"]["message"].as_str().expect("a message");
    assert!(message.contains("token"), "{message}");
    bed.cluster.person(OWNER, "owner", &["* *"]);
    let still = owner.get("me").await;
    assert_eq!(still.status, 401, "the session is over, whatever the API server says later");
}

#[tokio::test]
async fn a_credential_is_made_by_the_operator_who_is_asked_with_the_rights_of_the_person() {
    let bed = Bed::start().await;
    let owner = bed.session(OWNER).await;
    let new = json!({"name": "nightly", "owner": "user:ana", "roles": ["reader"]});
    let made = owner.ask("POST", "credentials/shop", new.clone()).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body, json!({"name": "nightly", "secret": "nightly-key"}));
    let object = bed.cluster.ours("credentials", "nightly").expect("it is there");
    assert_eq!((&object["spec"]["owner"], &object["spec"]["apiKey"]), (&json!({"user": "ana"}), &json!({})));
    assert_eq!(owner.ask("POST", "credentials/shop", new).await.status, 409);
    let keys = json!({"keys": [{"id": "0123456789ab", "state": "Revoked"}]});
    bed.credential("old", json!({"status": keys}));
    let revoked = owner.ask("POST", "credentials/shop/old/revoke", json!({"key": "0123456789ab"})).await;
    assert_eq!(revoked.body, json!({"revoked": ["0123456789ab"]}));
    let annotations = bed.cluster.ours("credentials", "old").expect("it is there")["metadata"]["annotations"].clone();
    assert_eq!(annotations[idm_api::REVOKE_ANNOTATION], "0123456789ab");
}

#[tokio::test]
async fn a_credential_is_asked_for_and_answered_in_the_names_of_the_sessions() {
    let bed = Bed::start().await;
    let asks = ["* credentialrequests", "get credentialrequests"];
    bed.cluster.person("a", "ana", &asks);
    bed.cluster.person("o", "omar", &[&asks[..], &["approve credentials/team", "create credentials/team"]].concat());
    bed.cluster.person("e", "eve", &asks);
    let (ana, omar, eve) = (bed.session("a").await, bed.session("o").await, bed.session("e").await);
    let wanted = json!({"name": "nightly", "purpose": "export", "access": {"policies": ["orders"]},
        "labels": [{"name": "plan", "value": "gold"}], "expireTime": "2100-01-01T00:00:00Z",
        "recipient": {"kty": "OKP", "crv": "X25519", "x": "AA"}});
    let asked = ana.ask("POST", "requests/shop", wanted.clone()).await;
    assert_eq!((asked.status, &asked.body["requester"], &asked.body["mine"]), (200, &json!("ana"), &json!(true)));
    let stored = || bed.cluster.ours("credentialrequests", "nightly").expect("it is there");
    assert_eq!(stored()["spec"]["requester"], json!({"username": "ana"}));
    assert_eq!(stored()["spec"]["recipient"]["jwk"], r#"{"crv":"X25519","kty":"OKP","x":"AA"}"#);
    assert_eq!(ana.ask("POST", "requests/shop", wanted).await.status, 409);

    // The operator reads it.
    bed.cluster.store(OURS, "credentialrequests", stored());
    let mut object = stored();
    let hash = idm_compile::request_hash(&object);
    object["status"] = json!({"hash": hash, "encryptedKey": "e.y.J",
        "conditions": [{"type": "Ready", "reason": "Pending", "message": "it waits"}]});
    bed.cluster.store(OURS, "credentialrequests", object);
    let (own, read, seen) =
        (ana.get("requests/shop/nightly").await, omar.get("requests/shop/nightly").await, eve.get("requests").await);
    assert_eq!((&own.body["encryptedKey"], &own.body["mayAnswer"]), (&json!("e.y.J"), &json!(false)));
    assert!(read.body["encryptedKey"].is_null() && read.body["mayAnswer"] == true, "{}", read.body);
    let of_eve = &seen.body["requests"][0];
    assert!(of_eve["mayAnswer"] == false && of_eve["whyNot"] == "you may not approve Credential there", "{of_eve}");
    assert_eq!(omar.get("requests?namespace=shop&whose=mine").await.body["requests"], json!([]));
    assert_eq!(ana.get("requests?namespace=shop&whose=mine").await.body["requests"][0]["name"], "nightly");
    assert_eq!(ana.get("requests?whose=nobody").await.status, 400);

    let answer = |hash: &str| json!({"hash": hash, "reason": "fine"});
    let stale = omar.ask("POST", "requests/shop/nightly/approve", answer(&"0".repeat(64))).await;
    assert!(stale.status == 422 && stale.body.to_string().contains("read it again"), "{}", stale.body);
    assert_eq!(
        omar.ask("POST", "requests/shop/nightly/reject", json!({"hash": hash, "reason": " "})).await.status,
        400
    );
    let approved = omar.ask("POST", "requests/shop/nightly/approve", answer(&hash)).await;
    assert_eq!((approved.status, &approved.body["answeredBy"]), (200, &json!("omar")), "{}", approved.body);
    let approval = json!({"decision": "Approved", "by": {"username": "omar"}, "hash": hash, "reason": "fine"});
    assert_eq!(stored()["spec"]["approval"], approval);

    // What is said of a request is said of that one, and of no later one of its name.
    let uid = |uid: &str| json!({"uid": uid});
    assert_eq!(ana.ask("POST", "requests/shop/nightly/received", uid("another")).await.status, 409);
    assert_eq!(ana.ask("POST", "requests/shop/nightly/received", uid("uid-nightly")).await.status, 200);
    assert_eq!(stored()["spec"]["received"], true);
    assert_eq!(ana.ask("POST", "requests/shop/nightly/withdraw", uid("another")).await.status, 409);
    assert_eq!(ana.ask("POST", "requests/shop/nightly/withdraw", uid("uid-nightly")).await.status, 200);
    assert!(bed.cluster.ours("credentialrequests", "nightly").is_none());
    let nobody = bed.session(NOBODY).await;
    assert_eq!(nobody.ask("POST", "requests/shop", json!({})).await.status, 403);
    assert_eq!(nobody.get("requests/shop/nightly").await.status, 403);
}
