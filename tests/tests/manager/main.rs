//! The management API over a folder, as a black box: `idm run --manager`. And the start of that of a cluster.

mod bed;
mod forms;
mod llm;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, idm, open_to};
use serde_json::{Value, json};

use bed::{CANARY, Managed, POLICY, error};

#[test]
fn the_code_opens_one_session_and_wrong_ones_use_it_up() {
    let managed = Managed::signed_in();
    let again = managed.ask("POST", "/api/v1/session", &json!({"code": managed.code}));
    assert_eq!((again.status, error(&again)["code"].as_str()), (401, Some("NoSession")));
    assert_eq!(managed.get("/api/v1/me")["mode"], "folder");
    assert_eq!(managed.ask("DELETE", "/api/v1/session", &Value::Null).status, 204);
    assert_eq!(managed.ask("GET", "/api/v1/me", &Value::Null).status, 401);

    let guessed = Managed::start();
    for _ in 0..5 {
        assert_eq!(guessed.ask("POST", "/api/v1/session", &json!({"code": "AAAA-AAAA"})).status, 401);
    }
    assert_eq!(guessed.ask("POST", "/api/v1/session", &json!({"code": guessed.code})).status, 401);
    assert!(!guessed.gateway.log().contains(&guessed.code), "the code is in the log");
}

/// The table of endpoints is what the server says of itself; all of it refuses strangers.
#[test]
fn every_endpoint_refuses_without_a_session() {
    let mut managed = Managed::signed_in();
    let description = managed.get("/api/v1/openapi.json");
    let cookie = managed.cookie.take();
    let mut asked = 0;
    for (path, operations) in description["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("methods") {
            if matches!(operation["operationId"].as_str(), Some("openSession" | "signInWay")) {
                continue;
            }
            let path = path
                .replace("{kind}", "Credential")
                .replace("{namespace}", "default")
                .replace("{name}", "person")
                .replace("{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
            let reply = managed.ask(&method.to_uppercase(), &path, &json!({}));
            assert_eq!((reply.status, error(&reply)["code"].as_str()), (401, Some("NoSession")), "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
    // How to sign in is no secret, and all that a stranger learns.
    assert_eq!(managed.get("/api/v1/session"), json!({"mode": "folder", "with": "code"}));
    assert_eq!(managed.ask("POST", "/api/v1/session", &json!({"token": "eyJ"})).status, 400);
    managed.cookie = Some("idm_manager=00".to_owned());
    assert_eq!(managed.ask("GET", "/api/v1/me", &Value::Null).status, 401);
    managed.cookie = cookie;
    managed.get("/api/v1/me");
}

#[test]
fn other_names_other_origins_and_plain_forms_get_nothing() {
    let managed = Managed::signed_in();
    let own = [("Content-Type", "application/json"), ("X-Idm-Manager", "1")];
    for host in ["evil.example", "evil.example:8003", "127.0.0.1.nip.io"] {
        for path in ["/", "/api/v1/me"] {
            assert_eq!(managed.send("GET", path, &[("Host", host)], "").status, 421, "{host} {path}");
        }
    }
    let check = json!({"kind": "IdentityPolicy", "namespace": "default", "name": "x", "yaml": "a"}).to_string();
    let post = |more: &[(&str, &str)]| managed.send("POST", "/api/v1/check", more, &check).status;
    assert_eq!(post(&[own[0], own[1], ("Origin", "http://evil.example")]), 403);
    assert_eq!(post(&[own[0], own[1], ("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(post(&[own[0]]), 403);
    assert_eq!(post(&[("Content-Type", "text/plain"), own[1]]), 415);
    assert_eq!(managed.send("GET", "/api/v1/me", &[("Sec-Fetch-Site", "cross-site")], "").status, 403);
    let large = format!("{{\"yaml\": \"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(managed.send("POST", "/api/v1/check", &own, &large).status, 413);
    assert_eq!(managed.ask("PATCH", "/api/v1/me", &json!({})).status, 405);
    assert_eq!(managed.ask("GET", "/api/v1/nothing", &Value::Null).status, 404);
    assert_eq!(managed.ask("GET", "/api/v1/me?nothing=1", &Value::Null).status, 400);
}

#[test]
fn every_answer_carries_what_protects_it() {
    let managed = Managed::signed_in();
    for path in ["/", "/api/v1/me", "/api/v1/nothing"] {
        let reply = managed.ask("GET", path, &Value::Null);
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(
            reply.header("content-security-policy"),
            Some(
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri \
                 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types \
                 'none'"
            )
        );
    }
    let page = managed.ask("GET", "/credentials", &Value::Null);
    assert!(page.status == 200 && page.header("content-type") == Some("text/html; charset=utf-8"));
}

fn policy(managed: &Managed) -> Value {
    managed.get(POLICY)
}

#[test]
fn a_saved_policy_is_in_force_and_every_other_byte_of_the_file_stays() {
    let managed = Managed::signed_in();
    let (before, object) = (managed.gateway.read("all.yaml"), policy(&managed));
    let yaml = object["yaml"].as_str().expect("YAML");
    assert!(before.contains(yaml));
    let changed = yaml.replace("{name: machines, apiKey: {}}", "{name: machines, anonymous: {}} # everybody");
    assert_ne!(changed, yaml);
    assert_eq!(managed.call("none"), 401);
    let draft = json!({"kind": "IdentityPolicy", "namespace": "default", "name": "p", "yaml": changed,
        "version": object["version"]});
    let checked = managed.post("/api/v1/check", &draft);
    assert!(checked["diff"].to_string().contains("spec.authentication.methods[machines].anonymous"), "{checked:#}");
    assert_eq!((managed.gateway.read("all.yaml"), checked["unchanged"].as_bool()), (before.clone(), Some(false)));
    let body = json!({"yaml": changed, "version": object["version"]});
    let reply = managed.ask("PUT", POLICY, &body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(managed.gateway.read("all.yaml"), before.replace(yaml, &changed));
    eventually("the gateway serves it", || match managed.get("/api/v1/gateways")[0]["ready"].as_u64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(managed.call("none"), 200);
    // The same version again: somebody else has changed it meanwhile.
    let stale = managed.ask("PUT", POLICY, &body);
    assert_eq!((stale.status, error(&stale)["code"].as_str()), (409, Some("Conflict")));
    let change = eventually("the record", || {
        managed.gateway.records().into_iter().find(|record| record["kind"] == "Change").ok_or("no change".to_owned())
    });
    assert_eq!(
        (change["action"].as_str(), change["by"]["evidence"].as_str()),
        (Some("Updated"), Some("authenticated"))
    );
    assert_eq!(change["actor"], managed.get("/api/v1/me")["name"]);
    assert_eq!(change["diff"], checked["diff"]);
}

#[test]
fn what_the_compiler_refuses_is_told_at_its_field_and_not_written() {
    let managed = Managed::signed_in();
    let (before, object) = (managed.gateway.read("all.yaml"), policy(&managed));
    let yaml = object["yaml"].as_str().expect("YAML");
    for (change, field) in [
        (yaml.replace("  authentication:", "  nothing: 1\n  authentication:"), "spec.nothing"),
        (yaml.replace("name: machines, apiKey: {}", "name: machines"), "spec.authentication.methods[0]"),
    ] {
        assert_ne!(change, yaml);
        let reply = managed.ask("PUT", POLICY, &json!({"yaml": change, "version": object["version"]}));
        let told = error(&reply);
        assert_eq!((reply.status, told["code"].as_str()), (422, Some("Refused")), "{told:#}");
        assert!(told["field"].as_str().is_some_and(|found| found.starts_with(field)), "{told:#}");
    }
    for (change, field) in [
        (yaml.replace("{name: p}", "{name: other}"), "metadata.name"),
        (format!("{yaml}---\n{yaml}"), "yaml"),
        ("a: [".to_owned(), "yaml"),
    ] {
        let reply = managed.ask("PUT", POLICY, &json!({"yaml": change, "version": object["version"]}));
        assert_eq!((reply.status, error(&reply)["field"].as_str()), (400, Some(field)), "{}", reply.body);
    }
    assert_eq!(managed.gateway.read("all.yaml"), before);
    assert!(managed.gateway.records().iter().all(|record| record["kind"] != "Change"));
}

#[test]
fn an_object_is_made_and_deleted_in_a_file_of_its_own() {
    let managed = Managed::signed_in();
    let path = "/api/v1/objects/RoleBinding/default/readers";
    let yaml = "# For ana.\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: readers}\n\
                spec:\n  role: reader\n  subjects: [{user: ana}]\n  scope: {project: {}}\n";
    let reply = managed.ask("PUT", path, &json!({"yaml": yaml}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(managed.gateway.read("rolebinding-readers.yaml"), yaml);
    assert_eq!(managed.ask("PUT", path, &json!({"yaml": yaml})).status, 409);
    let object = managed.get(path);
    assert_eq!((object["yaml"].as_str(), object["summary"]["role"].as_str()), (Some(yaml), Some("reader")));
    assert_eq!(managed.ask("DELETE", path, &Value::Null).status, 400);
    assert_eq!(managed.ask("DELETE", &format!("{path}?version=1"), &Value::Null).status, 409);
    let version = object["version"].as_str().expect("a version");
    assert_eq!(managed.ask("DELETE", &format!("{path}?version={version}"), &Value::Null).status, 204);
    assert!(!managed.gateway.dir.path().join("rolebinding-readers.yaml").exists());
    assert_eq!(managed.ask("GET", path, &Value::Null).status, 404);
}

#[test]
fn a_key_is_shown_once_rotated_and_revoked() {
    let managed = Managed::signed_in();
    let body = json!({"name": "robot", "owner": "user:ana", "roles": ["reader"]});
    let made = managed.post("/api/v1/credentials/default", &body);
    let (first, id) = (made["key"].as_str().expect("a key").to_owned(), made["id"].clone());
    assert_eq!(managed.ask("POST", "/api/v1/credentials/default", &body).status, 409);
    let works = |key: &str, wanted: u16| {
        eventually("the gateway has taken it", || match managed.call(key) {
            status if status == wanted => Ok(()),
            status => Err(status.to_string()),
        });
    };
    works(&first, 200);
    let of = "/api/v1/credentials/default/robot";
    let next = managed.post(&format!("{of}/rotate"), &json!({"overlapSeconds": 3600}));
    let second = next["key"].as_str().expect("a key").to_owned();
    assert_eq!(next["old"]["id"], id);
    works(&second, 200);
    assert_eq!(managed.call(&first), 200);
    let revoked = managed.post(&format!("{of}/revoke"), &json!({"key": id}));
    assert_eq!(revoked["revoked"], json!([id]));
    works(&first, 401);
    assert_eq!(managed.call(&second), 200);
    let object = managed.get("/api/v1/objects/Credential/default/robot");
    let states: Vec<_> = object["keys"].as_array().expect("keys").iter().map(|key| key["state"].clone()).collect();
    assert_eq!(states, [json!("Active"), json!("Revoked")]);
    let found = managed.get(&format!("/api/v1/objects/Credential?search={}", id.as_str().expect("an id")));
    assert_eq!((found["total"].as_u64(), found["items"][0]["name"].as_str()), (Some(1), Some("robot")));
    let changes = managed.get("/api/v1/audit?kind=Change&name=robot");
    assert_eq!(changes["items"].as_array().map(Vec::len), Some(3), "{changes:#}");
    for key in [&first, &second] {
        let held = [object.to_string(), changes.to_string(), managed.gateway.log()];
        assert!(held.iter().all(|text| !text.contains(key.as_str())), "a key came out");
        assert!(managed.gateway.records().iter().all(|record| !record.to_string().contains(key.as_str())));
    }
}

/// Whatever is asked, no planted secret is in an answer.
#[test]
fn no_answer_has_a_secret() {
    let managed = Managed::signed_in();
    let description = managed.get("/api/v1/openapi.json");
    let mut asked = 0;
    for (path, operations) in description["paths"].as_object().expect("paths") {
        if operations.get("get").is_none() || path.ends_with("/stream") {
            continue;
        }
        for (kind, name) in [("Credential", "person"), ("IdentityPolicy", "p"), ("Service", "up")] {
            let path = path.replace("{kind}", kind).replace("{namespace}", "default").replace("{name}", name);
            let reply = managed.ask("GET", &path.replace("{id}", "none"), &Value::Null);
            // A folder has no requests for Credentials, and says so.
            let is_absent = path.starts_with("/api/v1/requests") && error(&reply)["code"] == "NotConfigured";
            assert!(reply.status < 500 || is_absent, "{path}: {}", reply.body);
            assert!(!reply.body.contains(CANARY), "{path}");
            asked += 1;
        }
    }
    assert!(asked >= 30, "{asked}");
    for kind in ["Secret", "ConfigMap", "secret"] {
        assert_eq!(managed.ask("GET", &format!("/api/v1/objects/{kind}"), &Value::Null).status, 404);
    }
    let yaml = "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: person}\nspec: {}\n";
    let draft = json!({"kind": "Credential", "namespace": "default", "name": "person", "yaml": yaml, "version": "x"});
    assert!(!managed.ask("POST", "/api/v1/check", &draft).body.contains(CANARY));
    assert!(!managed.gateway.log().contains(CANARY));
}

#[test]
fn decisions_are_found_explained_and_counted() {
    let managed = Managed::signed_in();
    managed.upstream.forget();
    assert_eq!(managed.call("none"), 401);
    let page = managed.get("/api/v1/audit?kind=Decision&outcome=Denied&limit=1");
    let item = &page["items"][0];
    assert_eq!((item["title"].as_str(), item["status"].as_u64()), (Some("GET a/"), Some(401)));
    let entry = managed.get(&format!("/api/v1/audit/{}", item["id"].as_str().expect("an id")));
    assert_eq!((&entry["item"], &entry["record"]["outcome"]), (item, &json!("Denied")));
    assert!(entry["explanation"].as_str().is_some_and(|text| text.contains("authenticate")), "{entry:#}");
    let home = managed.get("/api/v1/home");
    assert_eq!((home["decisions"]["denied"].as_u64(), home["perMinute"].as_array().map(Vec::len)), (Some(1), Some(60)));
    assert_eq!(home["reasons"][0]["reason"], item["reason"]);
    let csv = managed.ask("GET", "/api/v1/audit/export?format=csv", &Value::Null);
    assert!(csv.body.starts_with("time,id,kind,") && csv.body.contains("GET a/"), "{csv:?}");
    assert_eq!(managed.ask("GET", "/api/v1/audit?outcome=Nothing", &Value::Null).status, 400);
    let asked = json!({"request": {"method": "GET", "url": "http://a/", "headers": []}});
    let told = managed.post("/api/v1/explain", &asked);
    assert_eq!((told["outcome"].as_str(), told["status"].as_u64()), (Some("Denied"), Some(401)), "{told:#}");
    assert_eq!(managed.upstream.received(), "");
    let topology = managed.get("/api/v1/topology");
    assert!(topology["nodes"].to_string().contains("IdentityPolicy/default/p"), "{topology:#}");
    assert!(managed.get("/api/v1/matrix")["roles"].as_array().is_some_and(|roles| roles.len() > 10));
    assert!(managed.get("/api/v1/schemas/Credential")["properties"]["spec"].is_object());
}

#[test]
fn a_token_is_read_and_kept_nowhere() {
    let managed = Managed::signed_in();
    // {"alg":"none"} and {"sub":"ana"}, by RFC 7519.
    let token = format!("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbmEifQ.{}", "c2lnbmF0dXJl");
    let told = managed.post("/api/v1/decode", &json!({"token": token}));
    assert_eq!((&told["header"]["alg"], &told["claims"]["sub"]), (&json!("none"), &json!("ana")));
    assert!(!managed.gateway.log().contains(&token));
    assert_eq!(managed.ask("POST", "/api/v1/decode", &json!({"token": "x"})).status, 400);
}

/// Reads a stream of events until it has so many records; returns their marks and titles.
fn follow(managed: &Managed, last: Option<&str>, wanted: usize, begun: impl FnOnce()) -> Vec<(String, String)> {
    let mut stream = TcpStream::connect(managed.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let cookie = managed.cookie.as_deref().expect("a session");
    let head = format!(
        "GET /api/v1/audit/stream?kind=Decision HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n{last}\r\n",
        managed.address
    );
    stream.write_all(head.as_bytes()).expect("written");
    let (mut text, mut byte) = (String::new(), [0; 4096]);
    let mut begun = Some(begun);
    while text.matches("event: record\n").count() < wanted || !text.ends_with("\r\n") {
        let read = stream.read(&mut byte).expect("something comes");
        assert!(read > 0, "{text}");
        text += &String::from_utf8_lossy(&byte[..read]);
        // The first comment says that the place is taken.
        if text.contains(":\n\n") {
            begun.take().into_iter().for_each(|begun| begun());
        }
    }
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let events = text.split("\n\n").filter(|event| event.contains("event: record"));
    events.map(|event| (field(event, "id: "), field(event, "data: "))).collect()
}

#[test]
fn a_stream_goes_on_where_it_was_cut() {
    let managed = Managed::signed_in();
    let seen = follow(&managed, None, 2, || (0..2).for_each(|_| assert_ne!(managed.call("none"), 200)));
    assert_eq!(seen.len(), 2);
    (0..3).for_each(|_| assert_ne!(managed.call("none"), 200));
    let rest = follow(&managed, Some(&seen[0].0), 4, || {});
    let ids: Vec<String> = rest.iter().map(|(mark, _)| mark.clone()).collect();
    assert_eq!((rest.len(), &ids[0]), (4, &seen[1].0), "the second comes again, and no other");
    assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1));
}

#[test]
fn the_manager_is_nowhere_unless_asked_for_and_not_on_other_machines() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    assert!(!gateway.output().contains("Manager"));
    let output = std::process::Command::new(idm_tests::idm())
        .args(["run", "--listen", "127.0.0.1:0", "--manager", "0.0.0.0:0", "--dir"])
        .arg(gateway.dir.path())
        .arg("--audit-dir")
        .arg(tempfile::tempdir().expect("a folder").path())
        .output()
        .expect("idm runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("plain http"), "{said}");
}

/// Tokens of people would go over the network in the clear, or to a server that proves nothing.
#[test]
fn the_manager_of_a_cluster_does_not_start_where_tokens_would_be_read() {
    let start = |args: &[&str]| {
        let mut command = std::process::Command::new(idm());
        command.arg("manager").args(args).env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().expect("idm runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let server = "--api-server=https://127.0.0.1:1";
    let cases: [(&[&str], &str); 6] = [
        (&["--listen=0.0.0.0:0", server], "--tls-cert-file"),
        (&["--listen=127.0.0.1:0", "--api-server=http://127.0.0.1:1"], "must begin with https://"),
        (&["--listen=127.0.0.1:0"], "give --api-server"),
        (&["--listen=127.0.0.1:0", server, "--api-server-ca-file=/nowhere"], "/nowhere"),
        (&["--listen=127.0.0.1:0", server, "--tls-cert-file=/nowhere"], "--tls-key-file"),
        (&["--listen=127.0.0.1:0", server, "--behind-proxy", "--danger-plain-http"], "cannot be used with"),
    ];
    for (args, told) in cases {
        let (code, error) = start(args);
        assert!(matches!(code, Some(1 | 2)) && error.contains(told), "{args:?}: {code:?} {error}");
    }
}
