//! Promises to users, on a real cluster with real peers. Run by `e2e/run`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_e2e::{Bed, Space, eventually, keycloak_service, kubectl, refused, run};
use serde_json::{Value, json};

const FEDERATION: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {name: keycloak}
spec: {oidc: {issuer: 'http://keycloak.idp.svc:8180/realms/shop'}}
---
";

fn policy(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
            targetRefs: [{{group: '', kind: Service, name: echo}}]\n  authentication:\n    methods:\n    \
         - name: people\n      jwt: {{issuers: [{{federationRef: {{name: keycloak}}, audiences: [orders]}}], \
         clockSkewSeconds: 0}}\n    - {{name: machines, apiKey: {{}}}}\n    identity:\n      \
         username: token.preferred_username\n      roles: token.realm_access.roles\n{extra}"
    )
}

async fn shop(name: &str) -> Result<Space> {
    keycloak_service()?;
    let space = Space::new(name)?;
    space.apply(&format!("{FEDERATION}{}", policy("orders", "")))?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    space.wait_ready("identitypolicy", "orders")?;
    // Ready speaks of the pods; the Service's address leads to them when kube-proxy has heard of them.
    eventually("both pods are behind the Service", async || {
        ensure!(space.object("deployment", "idm-gateway")?["status"]["readyReplicas"] == 2, "not both are ready");
        for _ in 0..10 {
            space.send("GET", "/", &[]).await?;
        }
        Ok(())
    })
    .await?;
    Ok(space)
}

#[tokio::test]
async fn tokens_of_keycloak_are_accepted_and_bad_ones_refused_with_a_record() -> Result<()> {
    let (bed, space) = (Bed::new()?, shop("e2e-tokens").await?);
    let token = bed.token("writer").await?;
    let bearer = |token: &str| format!("Bearer {token}");
    let good = eventually("the issuer's keys arrive", async || {
        let answer = space
            .send("GET", "/good", &[("authorization", &bearer(&token)), ("X-Authenticated_UserId", "root")])
            .await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    })
    .await?;
    let headers = &good.body["headers"];
    ensure!(headers["x-authenticated-userid"] == "service-account-writer", "{headers}");
    ensure!(
        headers["x-authenticated-userroles"]
            .as_str()
            .is_some_and(|roles| roles.split(',').any(|r| r == "order-writer")),
        "{headers}"
    );
    ensure!(headers["x-authenticated_userid"].is_null() && headers["authorization"].is_null(), "{headers}");

    let stranger = bed.token("stranger").await?;
    let short = bed.token("short").await?;
    let (signed, signature) = token.rsplit_once('.').context("three parts")?;
    let forged = format!("{signed}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    let header = signed.split_once('.').context("three parts")?.0;
    let none = format!("eyJhbGciOiJub25lIn0.{}.", signed.split_once('.').context("three parts")?.1);
    let swapped = format!("{header}.{}.{signature}", stranger.split('.').nth(1).context("three parts")?);
    eventually("the short token expires", async || {
        let answer = space.send("GET", "/bad", &[("authorization", &bearer(&short))]).await?;
        ensure!(answer.status == 401, "{answer:?}");
        Ok(())
    })
    .await?;
    let before = space.seen_upstream("/bad")?;
    for (name, token, reason) in [
        ("forged", &forged, "BadSignature"),
        ("swapped payload", &swapped, "BadSignature"),
        ("none", &none, "AlgorithmNotAllowed"),
        ("wrong audience", &stranger, "WrongAudience"),
        ("expired", &short, "TokenExpired"),
        ("nonsense", &"a.b.c".to_owned(), "MalformedToken"),
    ] {
        let answer = space.send("GET", "/bad", &[("authorization", &bearer(token))]).await?;
        let id = refused(&answer, 401)?;
        let record = bed.record(&id).await?;
        ensure!(
            record["reason"] == reason && record["outcome"] == "Denied" && record["policy"]["name"] == "orders",
            "{name}: {record}"
        );
    }
    ensure!(space.seen_upstream("/bad")? == before, "a refused request reached the upstream");
    space.delete()
}

/// The id of the key that signed a token.
fn key_of(token: &str) -> Result<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().context("a header")?)?;
    let header: Value = serde_json::from_slice(&header)?;
    Ok(header["kid"].as_str().context("a key id")?.to_owned())
}

#[tokio::test]
async fn keys_rotated_mid_traffic_cause_no_false_refusal() -> Result<()> {
    let (bed, space) = (Arc::new(Bed::new()?), Arc::new(shop("e2e-rotation").await?));
    let stop = Arc::new(AtomicBool::new(false));
    // The requests that were permitted, by the key that signed their token.
    let permitted: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let wrong = Arc::new(AtomicUsize::new(0));
    let traffic = {
        let (bed, space, stop) = (bed.clone(), space.clone(), stop.clone());
        let (permitted, wrong) = (permitted.clone(), wrong.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // A fresh token each time: the first one under the new key meets gateways that never saw it.
                let token = bed.token("writer").await?;
                let answer = space.send("GET", "/", &[("authorization", &format!("Bearer {token}"))]).await?;
                if answer.status == 200 {
                    *permitted.lock().expect("no test panics while holding it").entry(key_of(&token)?).or_default() +=
                        1;
                } else {
                    wrong.fetch_add(1, Ordering::Relaxed);
                    eprintln!("false refusal: {answer:?}");
                }
            }
            anyhow::Ok(())
        })
    };
    // So many requests reach both pods, as the Service spreads connections at random. Each pod has three early fetches
    // of keys in reserve, one more than there are rotations: the second one need not wait until keys are old.
    let reached_both = async |key: String| {
        eventually("both pods take tokens under the key", async || {
            ensure!(!traffic.is_finished(), "the traffic ended");
            let count = permitted.lock().expect("no test panics while holding it").get(&key).copied().unwrap_or(0);
            Ok(ensure!(count >= 25, "{count} requests permitted under {key}"))
        })
        .await
    };
    let mut keys = BTreeSet::new();
    for priority in [None, Some(200), Some(300)] {
        if let Some(priority) = priority {
            bed.rotate_keys(priority).await?;
        }
        let key = key_of(&bed.token("writer").await?)?;
        ensure!(keys.insert(key.clone()), "the issuer still signs with {key}");
        reached_both(key).await?;
    }
    stop.store(true, Ordering::Relaxed);
    traffic.await??;
    ensure!(wrong.load(Ordering::Relaxed) == 0, "{} refused", wrong.load(Ordering::Relaxed));
    kubectl(&["delete", "namespace", &space.name, "--wait=false"]).map(drop)
}

#[tokio::test]
async fn a_changed_policy_is_enforced_and_a_broken_one_is_denied_and_named() -> Result<()> {
    let (bed, space) = (Bed::new()?, shop("e2e-change").await?);
    let token = format!("Bearer {}", bed.token("writer").await?);
    let send = async || space.send("GET", "/", &[("authorization", &token)]).await;
    eventually("the token is accepted", async || Ok(ensure!(send().await?.status == 200))).await?;

    // Tightened and loosened in turn: one slow moment of a busy machine is not the gateway's time.
    let closed =
        policy("orders", "  authorization: {rules: [{name: nobody, require: {roles: {any: [no-such-role]}}}]}\n");
    let mut took = Vec::new();
    for (text, status) in
        [(&closed, 403), (&policy("orders", ""), 200), (&closed, 403), (&policy("orders", ""), 200), (&closed, 403)]
    {
        space.apply(text)?;
        let applied = Instant::now();
        eventually("the change is enforced", async || Ok(ensure!(send().await?.status == status))).await?;
        took.push(applied.elapsed());
        space.wait_ready("identitypolicy", "orders")?;
    }
    took.sort();
    eprintln!("a change is enforced this long after kubectl apply returned: {took:?}");
    ensure!(took[2] < Duration::from_secs(1), "enforced only after {took:?}");
    space.wait_ready("identitypolicy", "orders")?;
    for _ in 0..20 {
        ensure!(
            send().await.context("while the policy is in force")?.status == 403,
            "a pod still enforces the old policy although status says Programmed"
        );
    }

    // Broken while in force: the last good version stays, and status says so.
    let broken = policy("orders", "").replace("federationRef: {name: keycloak}", "federationRef: {name: missing}");
    space.apply(&broken)?;
    eventually("status names the field", async || {
        let (status, reason, message) = space.condition("identitypolicy", "orders", "ResolvedRefs")?;
        ensure!(
            status == "False"
                && reason == "RefNotFound"
                && message.contains("methods[0]")
                && message.contains("'missing'"),
            "{status} {reason} {message}"
        );
        let (status, reason, _) = space.condition("identitypolicy", "orders", "Programmed")?;
        Ok(ensure!(status == "False" && reason == "InvalidKeptPrevious", "{status} {reason}"))
    })
    .await?;
    ensure!(send().await?.status == 403, "the last good version stays in force");

    // Broken from the start: closed, never open.
    space.kubectl(&["delete", "identitypolicy", "orders"])?;
    eventually("the gateway goes with the last policy", async || {
        Ok(ensure!(
            space.object("deployment", "idm-gateway").is_err() && space.object("service", "idm-gateway").is_err()
        ))
    })
    .await?;
    space.forget_address();
    space.apply(&broken)?;
    eventually("a gateway refuses", async || {
        let answer = send().await?;
        ensure!(answer.status == 503, "{answer:?}");
        let record = bed.record(&refused(&answer, 503)?).await?;
        Ok(ensure!(record["reason"] == "PolicyInvalid", "{record}"))
    })
    .await?;

    // The API server refuses mistakes that it can know before it stores them, with advice.
    let both = policy("both", "").replace("apiKey: {}", "apiKey: {}, anonymous: {}");
    let error = space.apply(&both).unwrap_err().to_string();
    ensure!(error.contains("method must have exactly one of `jwt`, "), "{error}");
    let unknown = space.apply(&policy("unknown", "  surprise: true\n")).unwrap_err().to_string();
    ensure!(unknown.contains("surprise"), "{unknown}");
    space.delete()
}

#[tokio::test]
async fn an_api_key_is_made_used_and_suspended() -> Result<()> {
    let (bed, space) = (Bed::new()?, shop("e2e-keys").await?);
    let credential = |suspend: bool| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: batch}}\nspec: {{apiKey: \
                {{}}, secretRef: {{name: batch-key}}, roles: [order-reader], suspend: {suspend}}}\n"
        )
    };
    space.apply(&credential(false))?;
    space.wait_ready("credential", "batch")?;
    let secret = space.object("secret", "batch-key")?;
    let encoded = secret["data"]["key"].as_str().context("a key")?;
    let key = run("base64", &["-d"], Some(encoded))?;
    let good = eventually("the key is accepted", async || {
        let answer = space.send("GET", "/", &[("x-api-key", &key)]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    })
    .await?;
    ensure!(
        good.body["headers"]["x-authenticated-userid"] == "batch" && good.body["headers"]["x-api-key"].is_null(),
        "{}",
        good.body
    );
    // The key is nowhere but in its Secret.
    let bundle = space.object("secret", "idm-gateway")?.to_string();
    let status = space.object("credential", "batch")?.to_string();
    let logs = kubectl(&["-n", "idm-system", "logs", "-l", "app.kubernetes.io/name=idm-operator", "--tail=-1"])?
        + &space.kubectl(&["logs", "-l", "app.kubernetes.io/name=idm-gateway", "--tail=-1"])?;
    let events = space.kubectl(&["get", "events", "-o", "json"])?;
    let body = &key[8..40];
    ensure!(
        !bundle.contains(body) && !status.contains(body) && !logs.contains(body) && !events.contains(body),
        "the key leaked"
    );
    space.apply(&credential(true))?;
    let id = eventually("the suspension is enforced", async || {
        refused(&space.send("GET", "/", &[("x-api-key", &key)]).await?, 401)
    })
    .await?;
    ensure!(bed.record(&id).await?["reason"] == "CredentialSuspended");
    space.delete()
}

#[tokio::test]
async fn pods_killed_under_load_lose_only_the_connections_cut() -> Result<()> {
    let (bed, space) = (Bed::new()?, Arc::new(shop("e2e-kill").await?));
    let token = format!("Bearer {}", bed.token("writer").await?);
    eventually("two pods are ready", async || {
        Ok(ensure!(space.object("deployment", "idm-gateway")?["status"]["readyReplicas"] == 2))
    })
    .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let good = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (space, stop, token, good) = (space.clone(), stop.clone(), token.clone(), good.clone());
        callers.push(tokio::spawn(async move {
            let (mut cut, mut wrong) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                match space.send("GET", "/", &[("authorization", &token)]).await {
                    Ok(answer) if answer.status == 200 => {
                        good.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(answer) => {
                        wrong += 1;
                        eprintln!("wrong answer: {answer:?}");
                    }
                    Err(_) => cut += 1,
                }
            }
            (cut, wrong)
        }));
    }
    let hundred_more = async || {
        let before = good.load(Ordering::Relaxed);
        eventually("the callers get a hundred more answers", async || {
            Ok(ensure!(good.load(Ordering::Relaxed) >= before + 100, "{before} answers, and few more"))
        })
        .await
    };
    hundred_more().await?;
    // One pod asked to go: it drains, and nothing at all may fail. Then a rolling restart: likewise.
    let pods = || -> Result<Vec<Value>> {
        let selector = "app.kubernetes.io/name=idm-gateway";
        let list: Value = serde_json::from_str(&space.kubectl(&["get", "pods", "-l", selector, "-o", "json"])?)?;
        Ok(list["items"].as_array().context("a list")?.clone())
    };
    let pod = pods()?.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("a pod")?.to_owned();
    space.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    eventually("its successor is ready", async || {
        let deployment = space.object("deployment", "idm-gateway")?;
        let gone = space.object("pod", &pod).is_err();
        Ok(ensure!(gone && deployment["status"]["readyReplicas"] == 2 && deployment["status"]["replicas"] == 2))
    })
    .await?;
    space.kubectl(&["rollout", "restart", "deployment/idm-gateway"])?;
    space.kubectl(&["rollout", "status", "deployment/idm-gateway", "--timeout=120s"])?;
    eventually("the last of the old pods has drained and is gone", async || {
        let names: Vec<_> = pods()?.iter().map(|pod| pod["metadata"]["name"].to_string()).collect();
        Ok(ensure!(names.len() == 2, "{names:?}"))
    })
    .await?;
    hundred_more().await?;
    stop.store(true, Ordering::Relaxed);
    let (mut cut, mut wrong) = (0, 0);
    for caller in callers {
        let (c, w) = caller.await?;
        (cut, wrong) = (cut + c, wrong + w);
    }
    let good = good.load(Ordering::Relaxed);
    eprintln!("{good} answered, {cut} connections cut, {wrong} wrong");
    ensure!(cut == 0 && wrong == 0, "{good} answered, {cut} cut, {wrong} wrong");
    kubectl(&["delete", "namespace", &space.name, "--wait=false"]).map(drop)
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_a_namespace_without_policies_has_no_gateway() -> Result<()> {
    let space = shop("e2e-twice").await?;
    let fingerprint = || -> Result<Vec<Value>> {
        let kinds = [
            "deployment",
            "service",
            "serviceaccount",
            "role",
            "rolebinding.rbac.authorization.k8s.io",
            "poddisruptionbudget",
            "networkpolicy",
            "secret",
        ];
        let version = |kind: &str| -> Result<Value> {
            let object = space.object(kind, "idm-gateway")?;
            // A Deployment's status moves by itself; what we write is its generation.
            Ok(if kind == "deployment" {
                object["metadata"]["generation"].clone()
            } else {
                object["metadata"]["resourceVersion"].clone()
            })
        };
        kinds.iter().map(|kind| version(kind)).collect()
    };
    let before = fingerprint()?;
    let policy_before = space.object("identitypolicy", "orders")?["metadata"]["resourceVersion"].clone();
    space.apply(&format!("{FEDERATION}{}", policy("orders", "")))?;
    // A Federation that no policy names is no part of the configuration. Its status is written at the end of a
    // reconciliation of the whole namespace, after the gateway's objects: three of them have passed by then.
    for round in 0..3 {
        space.apply(&format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: unused}}\nspec: \
             {{displayName: round {round}, oidc: {{issuer: 'http://keycloak.idp.svc:8180/realms/shop'}}}}\n"
        ))?;
        eventually("the namespace is reconciled", async || space.condition("federation", "unused", "Ready")).await?;
    }
    ensure!(fingerprint()? == before, "{before:?} became {:?}", fingerprint()?);
    ensure!(
        space.object("identitypolicy", "orders")?["metadata"]["resourceVersion"] == policy_before,
        "the policy was touched"
    );
    for kind in ["deployments", "services", "secrets", "serviceaccounts", "networkpolicies"] {
        let found = kubectl(&["-n", "idp", "get", kind, "-o", "name"])?;
        ensure!(!found.contains("idm-gateway"), "{found}");
    }
    let listed = kubectl(&["get", "idm", "-A"])?;
    ensure!(listed.contains("e2e-twice") && listed.contains("orders"), "{listed}");
    let table = space.kubectl(&["get", "idpol"])?;
    ensure!(
        table
            .lines()
            .next()
            .is_some_and(|head| head.contains("READY") && head.contains("PROGRAMMED") && head.len() <= 80),
        "{table}"
    );
    let (_, _, message) = space.condition("identitypolicy", "orders", "Ready")?;
    ensure!(message.contains("2/2 gateways at generation"), "{message}");
    // An event tells the story to those who look there.
    let events =
        space.kubectl(&["get", "events", "--field-selector=involvedObject.kind=IdentityPolicy", "-o", "json"])?;
    ensure!(events.contains("Programmed"), "{events}");
    space.delete()
}

#[tokio::test]
async fn routes_of_the_gateway_api_are_served_and_conflicts_name_the_winner() -> Result<()> {
    let space = Space::new("e2e-routes")?;
    space.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: shop}\nspec: \
            {gatewayClassName: idm, listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop}\nspec:\n  parentRefs: \
         [{name: shop}]\n  hostnames: [shop.example]\n  rules:\n  \
         - {name: open, matches: [{path: {type: PathPrefix, value: /open}}], backendRefs: [{name: echo, port: 80}]}\n  \
         - {name: closed, matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: echo, port: 80}]}\n",
    )?;
    let open = |name: &str, rule: &str| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
                targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop, sectionName: \
                {rule}}}]\n  authentication: {{methods: [{{name: everyone, anonymous: {{}}}}]}}\n"
        )
    };
    space.apply(&open("first", "open"))?;
    space.wait_ready("identitypolicy", "first")?;
    // The older policy wins, and creation times have a resolution of one second: an object that is created after this
    // is younger. Times of this form are in the order of their text.
    let first = space.object("identitypolicy", "first")?["metadata"]["creationTimestamp"].clone();
    eventually("the API server's clock is in a later second", async || {
        let tried = space.kubectl(&["create", "configmap", "clock", "--dry-run=server", "-o", "json"])?;
        let now = serde_json::from_str::<Value>(&tried)?["metadata"]["creationTimestamp"].clone();
        Ok(ensure!(now.as_str() > first.as_str(), "{now} is not after {first}"))
    })
    .await?;
    space.apply(&open("second", "open"))?;
    eventually("the loser's status names the winner", async || {
        let (status, reason, message) = space.condition("identitypolicy", "second", "Accepted")?;
        Ok(ensure!(
            status == "False" && reason == "Conflicted" && message.contains("first"),
            "{status} {reason} {message}"
        ))
    })
    .await?;
    let send = async |host: &str, path: &str| space.send("GET", path, &[("host", host)]).await;
    eventually("the open rule answers", async || Ok(ensure!(send("shop.example", "/open/1").await?.status == 200)))
        .await?;
    refused(&send("shop.example", "/other").await?, 403)?;
    refused(&send("other.example", "/open").await?, 404)?;
    let route = space.object("httproute", "shop")?;
    let parents = route.pointer("/status/parents").and_then(Value::as_array).context("parents")?;
    ensure!(
        parents.len() == 1
            && parents[0]["conditions"][0]["type"] == "Accepted"
            && parents[0]["conditions"][0]["status"] == "True",
        "{parents:?}"
    );
    space.kubectl(&["wait", "--for=condition=Programmed", "gateway/shop", "--timeout=30s"])?;
    space.delete()
}

#[tokio::test]
async fn no_record_is_lost_or_doubled_when_elasticsearch_is_killed() -> Result<()> {
    let (bed, space) = (Bed::new()?, shop("e2e-audit").await?);
    let work = std::env::var("E2E_WORK")?;
    let mut sent = Vec::new();
    // An Elasticsearch that was there before this run may hold records of an earlier one.
    let run_id = std::time::UNIX_EPOCH.elapsed()?.as_nanos();
    for round in 0..3 {
        for number in 0..100 {
            let answer = space.send("GET", &format!("/audit/{run_id}/{round}/{number}"), &[]).await?;
            sent.push(refused(&answer, 401)?);
        }
        if round == 0 {
            let session = std::fs::read_to_string(format!("{work}/elasticsearch.pid"))?;
            run("pkill", &["-9", "-s", session.trim()], None)?;
        }
    }
    run(&format!("{work}/start-elasticsearch"), &[], None)?;
    sent.sort();
    let path = format!("/audit/{run_id}/");
    let query = json!({"bool": {"filter": [{"term": {"namespace": space.name}}, {"prefix": {"request.path": path}}]}});
    eventually("every record is there, once", async || {
        let mut found: Vec<String> =
            bed.records(query.clone()).await?.iter().filter_map(|r| r["id"].as_str().map(str::to_owned)).collect();
        found.sort();
        Ok(ensure!(found == sent, "{} of {} records", found.len(), sent.len()))
    })
    .await?;
    // Each is in the index of its own day, under the fields of the Elastic Common Schema too.
    let query = json!({"bool": {"filter": [
        {"prefix": {"url.path": path}}, {"term": {"event.outcome": "failure"}}, {"term": {"event.category": "web"}},
    ]}});
    let hits = bed.hits(query).await?;
    ensure!(hits.len() == sent.len(), "{} of {} by other names", hits.len(), sent.len());
    for hit in &hits {
        let day = hit["_source"]["@timestamp"].as_str().and_then(|time| time.get(..10)).context("a time")?;
        let index = format!("analytic-auth-record-decisions-{}", day.replace('-', "."));
        ensure!(hit["_index"] == index.as_str(), "{hit}");
    }
    // Changes of our objects are in the same audit.
    let uid = space.object("identitypolicy", "orders")?["metadata"]["uid"].clone();
    eventually("the policy's creation is on record", async || {
        let query = json!({"bool": {"filter": [{"term": {"kind": "Change"}}, {"term": {"object.uid": uid}}]}});
        let found = bed.records(query).await?;
        Ok(ensure!(
            found.len() == 1
                && found[0]["action"] == "Created"
                && found[0]["by"]["manager"].as_str().is_some_and(|manager| manager.contains("kubectl")),
            "{found:?}"
        ))
    })
    .await?;
    space.delete()
}

/// The operator makes the next key of a Credential, both work, and the old one is refused by both pods when it is
/// revoked.
#[tokio::test]
async fn a_key_is_rotated_with_an_overlap_and_revoked_for_good() -> Result<()> {
    let (bed, space) = (Bed::new()?, shop("e2e-rotation").await?);
    space.apply(
        "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: nightly}\n\
         spec: {owner: {application: nightly}, apiKey: {}, secretRef: {name: nightly-key}}\n",
    )?;
    let key = || -> Result<String> {
        let secret = space.object("secret", "nightly-key")?;
        let text = secret["data"]["key"].as_str().context("no key")?.to_owned();
        Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?)
    };
    let old = eventually("the operator makes the key", async || key()).await?;
    let status = async |key: &str| Ok::<_, anyhow::Error>(space.send("GET", "/", &[("x-api-key", key)]).await?.status);
    let works = async |key: &str| {
        eventually("the key works", async || {
            for _ in 0..6 {
                let status = status(key).await?;
                ensure!(status == 200, "{status}");
            }
            Ok(())
        })
        .await
    };
    works(&old).await?;
    for _ in 0..2 {
        // The same request asks once.
        space.kubectl(&["annotate", "--overwrite", "credential", "nightly", "identity-manager.io/rotate=r1"])?;
    }
    let new = eventually("the operator makes the next key", async || {
        let new = key()?;
        ensure!(new != old, "it is the old one");
        Ok(new)
    })
    .await?;
    works(&new).await?;
    works(&old).await?;
    let ids = eventually("the status tells both keys, and that both pods know the new one", async || {
        let object = space.object("credential", "nightly")?;
        let keys = object["status"]["keys"].as_array().cloned().unwrap_or_default();
        let states: Vec<_> = keys.iter().filter_map(|key| key["state"].as_str()).collect();
        ensure!(states == ["Active", "Overlapping"] && keys[0]["gateways"] == "2/2", "{keys:?}");
        ensure!(keys[1]["lastUseTime"].is_string(), "{keys:?}");
        ensure!(object["status"]["rotation"]["request"] == "r1", "{object}");
        Ok(keys.iter().filter_map(|key| Some(key["id"].as_str()?.to_owned())).collect::<Vec<_>>())
    })
    .await?;
    ensure!(key()? == new, "one request, one key");
    space.kubectl(&["annotate", "credential", "nightly", &format!("identity-manager.io/revoke-keys={}", ids[1])])?;
    let refused = eventually("both pods refuse the old key", async || {
        let mut last = None;
        for _ in 0..6 {
            let answer = space.send("GET", "/", &[("x-api-key", &old)]).await?;
            ensure!(answer.status == 401, "{answer:?}");
            last = answer.decision;
        }
        last.context("no decision id")
    })
    .await?;
    ensure!(bed.record(&refused).await?["reason"] == "KeyRevoked");
    // Without the annotation, and with the old key in the Secret again, it stays so.
    space.kubectl(&["annotate", "credential", "nightly", "identity-manager.io/revoke-keys-"])?;
    let patch = json!({"stringData": {"key": old}}).to_string();
    space.kubectl(&["patch", "secret", "nightly-key", "--type", "merge", "-p", &patch])?;
    eventually("the status tells that no key works", async || {
        let object = space.object("credential", "nightly")?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
        ensure!(ready["status"] == "False" && ready["reason"] == "KeysEnded", "{ready}");
        Ok(())
    })
    .await?;
    ensure!(status(&old).await? == 401);
    space.delete()
}
