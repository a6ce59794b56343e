//! Limits of callers, and where, how and when they may use their credentials.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use idm_tests::{
    Gateway, InProcess, Redis, Reply, Serves, Upstream, eventually, open_to, open_to_address, raw, raw_on, secret,
};
use idm_types::ApiKey;
use serde_json::Value;

const KEYS: &str = "    - {name: keys, apiKey: {}}\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nRateLimit: \"upstreams\";r=1\r\nContent-Length: 10\r\n\r\n0123456789";

fn key(number: u8) -> String {
    ApiKey::from_random([number; 32]).reveal().to_owned()
}

/// A Credential with its key, with these labels and these lines of its spec.
fn credential(name: &str, number: u8, labels: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}, labels: \
            {{{labels}}}}}\n\
         spec:\n  apiKey: {{}}\n  secretRef: {{name: {name}}}\n{spec}{}",
        secret(name, &[("key", key(number))])
    )
}

fn plan(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: UsagePlan\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

/// A policy for API keys with these lines of its spec, and further objects.
fn bed<G: Serves>(policy: &str, more: &str) -> Bed<G> {
    bed_with(KEYS, policy, more, &[])
}

fn bed_with<G: Serves>(methods: &str, policy: &str, more: &str, arguments: &[&str]) -> Bed<G> {
    let upstream = Upstream::answering(ANSWER);
    let yaml = format!("{}{policy}", open_to(&upstream, methods));
    Bed { gateway: G::start_with(&[("all.yaml", &yaml), ("more.yaml", more)], arguments), upstream }
}

impl<G: Serves> Bed<G> {
    fn send(&self, line: &str, number: u8, more: &str) -> Reply {
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n{more}\r\n", key(number));
        raw(self.gateway.address(), request.as_bytes())
    }

    fn get(&self, number: u8) -> Reply {
        self.send("GET /orders", number, "")
    }

    /// The only record of a request that was refused for this reason, at this stage, without a byte at the upstream.
    fn refused(&self, what: impl Fn() -> Reply, status: u16, reason: &str, stage: &str) -> (Reply, Value) {
        self.upstream.forget();
        let reply = what();
        assert_eq!((reply.status, self.upstream.received().as_str()), (status, ""), "{reply:?}");
        let record = self.gateway.record(reply.decision());
        assert_eq!((&record["reason"], &record["stage"]), (&reason.into(), &stage.into()), "{record}");
        (reply, record)
    }
}

/// Numbers of fields such as `"name";r=5;t=30`.
fn parameter(field: &str, name: &str, parameter: &str) -> Option<u64> {
    let item = field.split(", ").find(|item| item.starts_with(&format!("\"{name}\";")))?;
    item.split(';').find_map(|part| part.strip_prefix(&format!("{parameter}=")))?.parse().ok()
}

fn left(reply: &Reply, name: &str) -> u64 {
    let field = reply.header("ratelimit").unwrap_or_else(|| panic!("{reply:?}"));
    parameter(field, name, "r").unwrap_or_else(|| panic!("{field}"))
}

fn decisions<G: Serves>() {
    let policy = "  limits:\n  - {name: steady, rate: {requests: 2, perSeconds: 7200, burst: 2}}\n  \
                  - {name: monthly, quota: {requests: 100, per: Month, timeZone: Europe/Istanbul}}\n";
    let bed = bed::<G>(policy, &(credential("ana", 1, "", "") + &credential("bob", 2, "", "")));
    let first = bed.get(1);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"steady\";q=2;w=7200, \"monthly\";q=100"));
    assert_eq!(first.headers.iter().filter(|(name, _)| name == "ratelimit").count(), 1, "not the upstream's");
    assert_eq!((left(&first, "steady"), left(&first, "monthly")), (1, 99));
    assert!(!bed.upstream.received().contains("ratelimit"));
    assert_eq!(bed.get(1).status, 200);
    let (reply, record) = bed.refused(|| bed.get(1), 429, "RateLimited", "limit");
    assert_eq!((&record["limit"], &record["identity"]["credential"]), (&"steady".into(), &"ana".into()), "{record}");
    let retry: u64 = reply.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((3590..=3600).contains(&retry), "{retry}");
    assert_eq!((left(&reply, "steady"), left(&reply, "monthly")), (0, 98), "what one limit refused costs no other");
    assert_eq!(bed.get(2).status, 200, "each caller has its own");
}

#[test]
fn r84_answers_tell_the_limits_and_a_refusal_the_time_to_wait() {
    decisions::<InProcess>();
}

#[test]
fn r84_the_same_on_a_running_gateway() {
    decisions::<Gateway>();
}

#[test]
fn r78_the_limits_of_policy_credential_and_tier_count_together() {
    let policy = "  limits: [{name: all, key: AllCallers, quota: {requests: 9, per: Month}}, \
                  {name: by-address, key: Address, quota: {requests: 8, per: Month}}]\n";
    let own = "  limits: [{name: own, quota: {requests: 2, per: Month}}]\n";
    let more = credential("ana", 1, "tier: gold", own)
        + &credential("bob", 2, "tier: free", "")
        + &credential("cyd", 3, "tier: gold", "  roles: [free]\n")
        + &plan(
            "gold",
            "selects: {credentials: {matchLabels: {tier: gold}}}, replaces: [free], limits: [{name: monthly, quota: \
                         {requests: 5, per: Month}}]",
        )
        + &plan(
            "free",
            "selects: {credentials: {matchLabels: {tier: free}}, roles: [free]}, limits: [{name: monthly, quota: \
                         {requests: 1, per: Month}}]",
        );
    let bed = bed::<InProcess>(policy, &more);
    let reply = bed.get(1);
    let field = reply.header("ratelimit").expect("a field");
    let names: BTreeSet<&str> = field.split(", ").filter_map(|item| item.split('"').nth(1)).collect();
    assert_eq!(names, BTreeSet::from(["all", "by-address", "credential/own", "gold/monthly"]));
    assert_eq!((left(&reply, "credential/own"), left(&reply, "gold/monthly")), (1, 4));
    assert_eq!(bed.get(1).status, 200);
    let (_, record) = bed.refused(|| bed.get(1), 429, "QuotaExceeded", "limit");
    assert_eq!(record["limit"], "credential/own");
    assert_eq!(bed.get(2).status, 200);
    let (_, record) = bed.refused(|| bed.get(2), 429, "QuotaExceeded", "limit");
    assert_eq!(record["limit"], "free/monthly");
    // The role selects `free`, which `gold` replaces.
    let statuses: Vec<u16> = (0..5).map(|_| bed.get(3).status).collect();
    assert_eq!(statuses, [200; 5]);
    let (reply, record) = bed.refused(|| bed.get(3), 429, "QuotaExceeded", "limit");
    assert!(matches!(record["limit"].as_str(), Some("by-address" | "gold/monthly")), "{record}");
    assert_eq!((left(&reply, "all"), left(&reply, "by-address")), (1, 0), "8 passed");
}

#[test]
fn r82_a_higher_limit_counts_at_once_and_keeps_what_was_used() {
    let own = |number| format!("  limits: [{{name: own, quota: {{requests: {number}, per: Month}}}}]\n");
    let bed = bed::<InProcess>("", &credential("ana", 1, "", &own(1)));
    assert_eq!(bed.get(1).status, 200);
    bed.refused(|| bed.get(1), 429, "QuotaExceeded", "limit");
    bed.gateway.write("more.yaml", &credential("ana", 1, "", &own(3)));
    assert_eq!(left(&bed.get(1), "credential/own"), 1);
}

#[test]
fn r83_no_count_is_shared_by_callers_who_cannot_be_told_apart() {
    let methods = "    - {name: everyone, anonymous: {}}\n";
    let policy = "  limits: [{name: by-address, key: Address, quota: {requests: 1, per: Month}}]\n";
    let bed = bed_with::<InProcess>(methods, policy, "", &[]);
    assert_eq!(bed.get(1).status, 200);
    bed.refused(|| bed.get(1), 429, "QuotaExceeded", "limit");
}

#[test]
fn sizes_of_bodies_are_limited() {
    let policy = "  limits: [{name: up, requestSize: {maxBytes: 4}}, {name: down, responseSize: {maxBytes: 9}}]\n";
    let bed = bed::<InProcess>(policy, &credential("ana", 1, "", ""));
    let post = |length: usize| {
        let body = format!("Content-Length: {length}\r\n\r\n{}", "a".repeat(length));
        let request = format!("POST /orders HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n{body}", key(1));
        raw(bed.gateway.address(), request.as_bytes())
    };
    let (_, record) = bed.refused(|| post(5), 413, "RequestTooLarge", "limit");
    assert_eq!(record["limit"], "up");
    bed.upstream.forget();
    let reply = post(4);
    assert_eq!(reply.status, 502);
    let record = bed.gateway.record(reply.decision());
    assert_eq!((&record["reason"], &record["limit"]), (&"ResponseTooLarge".into(), &"down".into()), "{record}");
    assert!(!bed.upstream.received().is_empty(), "the request was small enough");
}

#[test]
fn bodies_that_do_not_tell_their_length_are_cut() {
    let policy = "  limits: [{name: up, requestSize: {maxBytes: 4}}, {name: down, responseSize: {maxBytes: 10}}]\n";
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n8\r\n56789abc\r\n0\r\n\r\n",
    );
    let yaml = format!("{}{policy}", open_to(&upstream, KEYS));
    let gateway = Gateway::start(&[("all.yaml", &yaml), ("more.yaml", &credential("ana", 1, "", ""))]);
    let bed = Bed { gateway, upstream };
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n";
    let reply = bed.send("POST /orders", 1, chunked);
    assert_eq!(reply.status, 413, "{reply:?}");
    let record = bed.gateway.record(reply.decision());
    assert_eq!((&record["reason"], &record["limit"]), (&"RequestTooLarge".into(), &"up".into()), "{record}");
    let reply = bed.get(1);
    assert!(reply.status == 200 && !reply.body.contains("abc"), "{reply:?}");
    eventually("the record of the cut", || {
        let records = bed.gateway.records();
        let found = records.iter().any(|record| record["reason"] == "ResponseTooLarge" && record["limit"] == "down");
        if found { Ok(()) } else { Err(format!("{records:?}")) }
    });
}

/// An upstream that answers each request when it is told to.
fn slow_upstream() -> (std::net::SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, (sender, receiver)) = (listener.local_addr().expect("an address"), mpsc::channel());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn a_request_counts_until_its_answer_has_ended_or_its_caller_has_left() {
    let policy = "  limits: [{name: parallel, concurrency: {requests: 2}}]\n";
    let (address, asked) = slow_upstream();
    let yaml = format!("{}{policy}", open_to_address(address, KEYS));
    let gateway = Gateway::start(&[("all.yaml", &yaml), ("more.yaml", &credential("ana", 1, "", ""))]);
    let begin = || {
        let mut caller = TcpStream::connect(gateway.address).expect("it listens");
        let head = format!("GET /orders HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n\r\n", key(1));
        caller.write_all(head.as_bytes()).expect("sent");
        caller
    };
    let refused = |caller: &mut TcpStream| {
        let reply = raw_on(caller);
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")), "{reply:?}");
        let record = gateway.record(reply.decision());
        assert_eq!((&record["reason"], &record["limit"]), (&"TooManyConcurrentRequests".into(), &"parallel".into()));
        assert_eq!(reply.header("ratelimit-policy"), Some("\"parallel\";q=2;qu=\"concurrent-requests\""));
    };
    let mut first = begin();
    let mut answer = asked.recv().expect("it came");
    let second = begin();
    let other = asked.recv().expect("it came");
    refused(&mut begin());
    // The head of an answer does not end it.
    answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").expect("sent");
    let mut head = [0; 15];
    first.read_exact(&mut head).expect("the head");
    refused(&mut begin());
    answer.write_all(b"b").expect("sent");
    let mut third = eventually("the first one's place", || {
        let mut caller = begin();
        match asked.recv_timeout(std::time::Duration::from_millis(300)) {
            Ok(mut answer) => {
                answer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").expect("sent");
                Ok((caller, answer))
            }
            Err(_) => Err(format!("{:?}", raw_on(&mut caller))),
        }
    });
    refused(&mut begin());
    drop((second, other));
    eventually("the place of who left", || {
        let mut caller = begin();
        match asked.recv_timeout(std::time::Duration::from_millis(300)) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{:?}", raw_on(&mut caller))),
        }
    });
    third.1.write_all(b"b").expect("sent");
    assert_eq!(raw_on(&mut third.0).body, "ab");
}

#[test]
fn restrictions_are_asked_for_every_request_however_it_was_verified() {
    let access = "  access: {methods: [GET, POST], exceptPaths: [/orders/admin], \
                  hours: [{from: '00:00', to: '24:00', timeZone: Europe/Istanbul}]}\n";
    let more = credential("ana", 1, "network: office", access)
        + &plan(
            "office",
            "selects: {credentials: {matchLabels: {network: office}}}, access: {addresses: [127.0.0.0/8]}",
        );
    let bed = bed::<InProcess>("", &more);
    assert_eq!((bed.get(1).status, bed.get(1).status), (200, 200), "the verdict is kept from now on");
    for (line, reason) in [
        ("DELETE /orders", "OutsideMethods"),
        ("GET /orders/admin/users", "OutsidePaths"),
        ("POST /orders/admin", "OutsidePaths"),
    ] {
        let (_, record) = bed.refused(|| bed.send(line, 1, ""), 403, reason, "authenticate");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("Credential default/ana")), "{record}");
    }
    assert_eq!(bed.get(1).status, 200);
    // The address list is in the tier.
    let elsewhere = more.replace("127.0.0.0/8", "192.0.2.0/24");
    bed.gateway.write("more.yaml", &elsewhere);
    let (_, record) = bed.refused(|| bed.get(1), 403, "OutsideAddresses", "authenticate");
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("UsagePlan default/office")), "{record}");
    // Hours that are over in a moment at the latest, and begin again tomorrow.
    let minute = |of: u64| format!("{:02}:{:02}", of / 60 % 24, of % 60);
    let now = idm_tests::now() / 60 % 1440;
    let closed = format!("{{from: '{}', to: '{}', timeZone: Etc/UTC}}", minute(now + 120), minute(now + 180));
    bed.gateway.write("more.yaml", &more.replace("{from: '00:00', to: '24:00', timeZone: Europe/Istanbul}", &closed));
    let (reply, _) = bed.refused(|| bed.get(1), 403, "OutsideHours", "authenticate");
    let retry: u64 = reply.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((118 * 60..=120 * 60).contains(&retry), "{retry}");
    bed.gateway.write("more.yaml", &credential("ana", 1, "", "  access: {exceptPolicies: [p]}\n"));
    bed.refused(|| bed.get(1), 403, "CredentialNotAllowedHere", "authenticate");
}

#[test]
fn a_token_is_given_only_where_and_when_the_client_may_ask() {
    const SECRET: &str = "idm_00000000000000000000000000000000000000000003RBGQh";
    let upstream = Upstream::answering(ANSWER);
    let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
    let keys = idm_compile::new_signing_keys(
        idm_types::Algorithm::ES256,
        idm_types::Timestamp::from_seconds(idm_tests::now() - 10),
    );
    let service =
        "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders], grants: [ClientCredentials]}\n";
    let policy = format!(
        "{}{service}{}{}",
        open_to(&upstream, methods),
        secret("idm-signing-keys", &[("p.json", keys.unwrap())]),
        secret("s", &[("clientSecret", SECRET.to_owned())])
    );
    let client = |access: &str| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: reports}}\nspec:\n  \
             oauthClient: {{clientSecret: {{}}, grants: [ClientCredentials]}}\n  secretRef: {{name: s}}\n  \
             access: {{methods: [GET], {access}}}\n  limits: [{{name: own, quota: {{requests: 2, per: Month}}}}]\n"
        )
    };
    let gateway =
        InProcess::start_with(&[("all.yaml", &policy), ("more.yaml", &client("addresses: [127.0.0.1]"))], &[]);
    let ask = || {
        let body = format!("grant_type=client_credentials&client_id=reports&client_secret={SECRET}");
        let head = format!(
            "POST /oauth/token HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        raw(gateway.address(), format!("{head}{body}").as_bytes())
    };
    let call = |method: &str, token: &str| {
        let head = format!("{method} /orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
        let reply = raw(gateway.address(), head.as_bytes());
        let reason = (reply.status != 200).then(|| gateway.record(reply.decision())["reason"].clone());
        (reply.status, reason)
    };
    let got = ask();
    let parsed: Value = serde_json::from_str(&got.body).unwrap_or_default();
    let token = parsed["access_token"].as_str().unwrap_or_else(|| panic!("{got:?}")).to_owned();
    assert_eq!(call("GET", &token), (200, None));
    assert_eq!(call("DELETE", &token), (403, Some("OutsideMethods".into())), "the token is bound as its client is");
    assert_eq!(call("GET", &token), (200, None));
    assert_eq!(call("GET", &token), (429, Some("QuotaExceeded".into())), "and counts with it");
    gateway.write("more.yaml", &client("addresses: [192.0.2.1]"));
    assert_eq!(call("GET", &token), (403, Some("OutsideAddresses".into())));
    let refused = ask();
    assert_eq!(refused.status, 401, "{refused:?}");
    let record = gateway.record(refused.decision());
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("OutsideAddresses")), "{record}");
}

#[test]
fn a_tier_that_is_not_valid_refuses_its_callers_and_one_that_was_stays_in_force() {
    let tier = |zone: &str| {
        credential("ana", 1, "tier: gold", "")
            + &credential("bob", 2, "", "")
            + &plan(
                "gold",
                &format!(
                    "selects: {{credentials: {{matchLabels: {{tier: gold}}}}}}, limits: [{{name: monthly, quota: \
                     {{requests: 5, per: Month, timeZone: {zone}}}}}]"
                ),
            )
    };
    let compiled = |yaml: &str, before: Option<&idm_plan::Bundle>| {
        let yaml = format!("{}{yaml}", open_to(&Upstream::new(), KEYS));
        let world =
            idm_compile::yaml::read_files(&[("all.yaml".into(), yaml)], idm_compile::Settings::of_a_folder(false));
        idm_compile::compile(&world.unwrap().0, before)
    };
    let never = compiled(&tier("Europe/Istambul"), None);
    assert_eq!(never.credentials.usage_plans[0].refused.as_deref(), Some("it is not valid"));
    let good = compiled(&tier("Europe/Istanbul"), None).seal(1);
    let kept = compiled(&tier("Europe/Istambul"), Some(&good));
    assert_eq!(kept.credentials.usage_plans, good.credentials.usage_plans);
    let offline = idm_decide::Offline::arm(&never.seal(1), "g").unwrap();
    let ask = |number: u8| {
        let request = http::Request::get("http://a/").header("host", "a").header("x-api-key", key(number));
        let request = request.body(bytes::Bytes::new()).unwrap();
        let peer = idm_decide::Peer::plain("127.0.0.1".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let decision = runtime.block_on(offline.decide(&peer, request, idm_types::Timestamp::now()));
        decision.outcome.err().map(|refusal| refusal.reason.code())
    };
    assert_eq!((ask(1), ask(2)), (Some("UsagePlanInvalid"), None));
}

#[test]
fn r74_gateways_that_share_a_store_share_the_limits() {
    // A machine that is busy takes a store for lost that is only slow: then all begins anew.
    let done = (0..10).any(|_| {
        let redis = Redis::start();
        redis.cli(&["CONFIG", "SET", "requirepass", ""]);
        let policy = "  limits: [{name: monthly, quota: {requests: 5, per: Month}}]\n";
        let upstream = Upstream::answering(ANSWER);
        let yaml = format!("{}{policy}", open_to(&upstream, KEYS));
        let files = [("all.yaml", yaml.as_str()), ("more.yaml", &credential("ana", 1, "", ""))];
        let url = redis.url();
        let bed = || Bed { gateway: InProcess::start_with(&files, &["--store", &url]), upstream: Upstream::new() };
        let beds: [Bed; 2] = [bed(), bed()];
        let statuses: Vec<u16> = (0..14).map(|request| beds[request % 2].get(1).status).collect();
        if statuses.contains(&503) {
            return false;
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{statuses:?}");
        let keys = redis.cli(&["KEYS", "*"]);
        assert!(keys.lines().count() >= 2 && !keys.contains(&key(1)) && !keys.contains("ana"), "{keys}");
        true
    });
    assert!(done);
}

const MODEL: &str = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":40}}";

fn model_bed<G: Serves>(budget: u64) -> Bed<G> {
    let upstream = Upstream::answering(&format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{MODEL}",
        MODEL.len()
    ));
    let policy = format!(
        "  llm: {{provider: OpenAI, keyRef: {{name: provider}}}}\n  limits: [{{name: budget, tokens: {{tokens: \
            {budget}, \
         per: Month, defaultOutputTokens: 50}}}}]\n"
    );
    let yaml = format!("{}{policy}", open_to(&upstream, KEYS));
    let more = credential("ana", 1, "", "") + &secret("provider", &[("apiKey", "sk-1".into())]);
    Bed { gateway: G::start_with(&[("all.yaml", &yaml), ("more.yaml", &more)], &[]), upstream }
}

fn chat<G: Serves>(bed: &Bed<G>, body: &str) -> Reply {
    post(bed, 1, "/v1/chat/completions", "application/json", body)
}

fn post<G: Serves>(bed: &Bed<G>, number: u8, path: &str, kind: &str, body: &str) -> Reply {
    let more = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n{more}", key(number));
    raw(bed.gateway.address(), request.as_bytes())
}

/// The usage of each permitted call, once there are this many.
fn usages<G: Serves>(bed: &Bed<G>, calls: usize) -> Vec<Value> {
    eventually("the records", || {
        let records = bed.gateway.records();
        let used: Vec<Value> = records
            .iter()
            .filter(|record| record["outcome"] == "Permitted" && record["usage"].is_object())
            .map(|record| record["usage"].clone())
            .collect();
        if used.len() == calls { Ok(used) } else { Err(format!("{records:?}")) }
    })
}

#[test]
fn r81_a_call_reserves_what_it_may_use_and_gets_back_what_it_did_not() {
    let bed = model_bed::<InProcess>(1000);
    let call = r#"{"messages":[{"role":"user","content":"hello"}],"max_tokens":900}"#;
    let first = chat(&bed, call);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"budget\";q=1000;qu=\"tokens\""));
    assert!(left(&first, "budget") < 100, "what it may use is reserved: {first:?}");
    // It used 50 of them.
    assert_eq!(chat(&bed, call).status, 200);
    let (reply, record) = bed.refused(|| chat(&bed, call), 429, "TokenQuotaExceeded", "limit");
    assert_eq!((&record["limit"], left(&reply, "budget")), (&"budget".into(), 900), "{record}");
    assert_eq!(chat(&bed, r#"{"messages":[],"max_tokens":880}"#).status, 200, "a smaller one passes");
    // A call that never could pass does not wait.
    let (reply, _) =
        bed.refused(|| chat(&bed, r#"{"messages":[],"max_tokens":2000}"#), 429, "TokenQuotaExceeded", "limit");
    assert_eq!(reply.header("retry-after"), None);
    bed.refused(
        || chat(&bed, r#"{"messages":[],"max_tokens":1,"max_tokens":2000}"#),
        400,
        "MalformedRequest",
        "authorize",
    );
}

const PRICES: &str = "prices: {currency: USD, models: [{model: 'm*', prompt: '100', cachedPrompt: '10', completion: \
                      '1000'}]}";

/// A language model behind a policy with these parts of `llm`, and further lines of its spec.
fn priced_bed<G: Serves>(answer: &str, llm: &str, policy: &str, more: &str) -> Bed<G> {
    let upstream = Upstream::answering(&format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    ));
    let policy = format!("  llm: {{provider: OpenAI, keyRef: {{name: provider}}, {llm}}}\n{policy}");
    let yaml = format!("{}{policy}", open_to(&upstream, KEYS));
    let more = secret("provider", &[("apiKey", "sk-1".into())]) + more;
    Bed { gateway: G::start_with(&[("all.yaml", &yaml), ("more.yaml", &more)], &[]), upstream }
}

#[test]
fn money_is_reserved_by_the_prices_of_the_model_and_settled_by_its_use() {
    // 10 and 40 tokens cost 10 * 100 + 40 * 1000 millionths of a dollar.
    let budget =
        "  limits: [{name: month, cost: {amount: '1.00', currency: USD, per: Month, defaultOutputTokens: 50}}]\n";
    let euros = "  limits: [{name: euros, cost: {amount: '9', currency: EUR, per: Day}}]\n";
    let more = credential("ana", 1, "", "") + &credential("bob", 2, "", euros);
    let bed: Bed = priced_bed(MODEL, PRICES, budget, &more);
    let ask = |model: &str, more: &str| {
        chat(&bed, &format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]{more}}}"#))
    };
    let first = ask("M-1", r#","max_tokens":900"#);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"month\";q=1000000;qu=\"micro-USD\""));
    assert!(left(&first, "month") < 100_000, "what it may cost is reserved: {first:?}");
    let cost = serde_json::json!({"micros": 41_000, "currency": "USD"});
    assert_eq!(usages(&bed, 1)[0]["cost"], cost);
    assert_eq!(ask("m", r#","max_tokens":900"#).status, 200);
    assert_eq!(ask("m", r#","max_tokens":900"#).status, 200);
    let fourth = || ask("m", r#","max_tokens":900"#);
    let (reply, record) = bed.refused(fourth, 429, "CostBudgetExceeded", "limit");
    assert_eq!((&record["limit"], left(&reply, "month")), (&"month".into(), 1_000_000 - 3 * 41_000), "{record}");
    let never = || ask("m", r#","max_tokens":2000"#);
    let (reply, record) = bed.refused(never, 429, "CostBudgetExceeded", "limit");
    assert_eq!(reply.header("retry-after"), None);
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(" USD of 1.00")), "{record}");
    bed.refused(|| ask("other", ""), 403, "ModelPriceUnknown", "authorize");
    bed.refused(|| chat(&bed, r#"{"messages":[]}"#), 403, "ModelPriceUnknown", "authorize");
    assert_eq!(ask("m", "").status, 200, "a smaller one passes");
    // A budget in another currency counts nothing that this policy has prices for.
    let bob = || post(&bed, 2, "/v1/chat/completions", "application/json", r#"{"model":"m","messages":[]}"#);
    let (_, record) = bed.refused(bob, 403, "ModelPriceUnknown", "limit");
    assert_eq!(record["limit"], "credential/euros", "{record}");
    // A list of models costs nothing.
    assert_eq!(bed.send("GET /v1/models", 2, "").status, 200);
}

#[test]
fn a_call_costs_less_with_tokens_of_the_cache_and_nothing_where_a_model_is_free() {
    let cached = r#"{"model":"m","usage":{"prompt_tokens":10,"completion_tokens":0,
        "prompt_tokens_details":{"cached_tokens":8}}}"#;
    let free = PRICES.replace("currency: USD", "currency: USD, unknownModel: Free");
    let bed: Bed = priced_bed(cached, &free, "", &credential("ana", 1, "", ""));
    for (i, (model, micros)) in [("m", 2 * 100 + 8 * 10), ("other", 0)].into_iter().enumerate() {
        assert_eq!(chat(&bed, &format!(r#"{{"model":"{model}"}}"#)).status, 200);
        let usage = usages(&bed, i + 1).remove(i);
        assert_eq!((&usage["cached_prompt_tokens"], &usage["cost"]["micros"]), (&8.into(), &micros.into()), "{usage}");
    }
}

#[test]
fn many_calls_at_once_cost_no_more_than_the_budget() {
    let budget = "  limits: [{name: month, cost: {amount: '0.820', currency: USD, per: Month}}]\n";
    let bed: Bed<Gateway> = priced_bed(MODEL, PRICES, budget, &credential("ana", 1, "", ""));
    let call = r#"{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;
    let statuses: Vec<u16> = thread::scope(|scope| {
        let callers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..16).map(|_| chat(&bed, call).status).collect::<Vec<_>>())).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    // Twenty calls cost it exactly; the last ones may want more for their prompts than is left.
    assert!((18..=20).contains(&passed), "{passed} passed");
}

#[test]
fn models_are_listed_by_policies_credentials_and_tiers_and_a_refused_one_reaches_nobody() {
    let more = credential("ana", 1, "", "  access: {exceptModels: [gpt-5-pro]}\n  roles: [member]\n")
        + &credential("bob", 2, "tier: small", "")
        + &plan(
            "small",
            "selects: {credentials: {matchLabels: {tier: small}}}, access: {models: ['gpt-*-mini', gpt-4]}",
        )
        + &plan("members", "selects: {roles: [member]}, access: {exceptModels: ['gpt-4*']}");
    let more = more.replace("gpt-*-mini", "gpt-5-mini*");
    let bed: Bed = priced_bed(MODEL, "models: ['gpt-*']", "", &more);
    let (json, chats) = ("application/json", "/v1/chat/completions");
    let model = |name: &str| format!(r#"{{"model":"{name}","messages":[{{"content":"canary-word"}}]}}"#);
    for (number, name) in [(1, "gpt-5"), (1, "GPT-5"), (2, "gpt-5-mini-2026"), (2, "gpt-4")] {
        assert_eq!(post(&bed, number, chats, json, &model(name)).status, 200, "{number} {name}");
    }
    assert_eq!(bed.send("GET /v1/models", 2, "").status, 200, "no model answers it");
    let twice = r#"{"model":"gpt-5","model":"o9"}"#.to_owned();
    let tool = r#"{"model":"gpt-5","tools":[{"type":"image_generation","model":"o9"}]}"#.to_owned();
    for (number, path, kind, body, whose) in [
        (1, chats, json, model("o9"), "IdentityPolicy "),
        (1, "/v1/responses", json, model("o9"), "IdentityPolicy "),
        (1, "/v1/responses", json, tool, "IdentityPolicy "),
        (1, chats, json, model("gpt-5-pro"), "/ana: it does not permit the model `gpt-5-pro`"),
        (1, chats, json, model("Gpt-4o"), "UsagePlan "),
        (2, chats, json, model("gpt-5"), "UsagePlan "),
        (1, chats, json, twice, "names each member once"),
        (1, "/v1/conversations", json, "{}".into(), "the call names none"),
        (1, "/v1/audio/transcriptions", "multipart/form-data; boundary=x", "--x".into(), "the call names none"),
    ] {
        let (_, record) = bed.refused(|| post(&bed, number, path, kind, &body), 403, "ModelNotAllowed", "authorize");
        let detail = record["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(whose) && !record.to_string().contains("canary-word"), "{whose}: {record}");
    }
}

#[test]
fn r81_many_calls_at_once_use_no_more_than_the_budget() {
    let budget = 2_000;
    let bed = model_bed::<Gateway>(budget);
    let call = r#"{"messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;
    let statuses: Vec<u16> = thread::scope(|scope| {
        let callers: Vec<_> =
            (0..16).map(|_| scope.spawn(|| (0..32).map(|_| chat(&bed, call).status).collect::<Vec<_>>())).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    // Each used 50 tokens.
    assert!(passed * 50 <= budget + 50 && passed * 50 + 100 >= budget, "{passed} passed");
}

/// The findings about an object, as `field: message`.
fn findings(policy: &str, more: &str) -> Vec<String> {
    let yaml = format!("{}{policy}{more}", open_to(&Upstream::new(), KEYS));
    let world = idm_compile::yaml::read_files(&[("all.yaml".into(), yaml)], idm_compile::Settings::of_a_folder(false));
    let compiled = idm_compile::compile(&world.unwrap().0, None);
    compiled
        .report
        .findings()
        .iter()
        .map(|finding| format!("{} {}: {}", finding.object, finding.path, finding.message))
        .collect()
}

#[test]
fn contradictions_are_findings() {
    let anonymous = "    - {name: everyone, anonymous: {}}\n";
    let yaml =
        format!("{}  limits: [{{name: a, quota: {{requests: 1, per: Day}}}}]\n", open_to(&Upstream::new(), anonymous));
    let world = idm_compile::yaml::read_files(&[("all.yaml".into(), yaml)], idm_compile::Settings::of_a_folder(false));
    let report = idm_compile::compile(&world.unwrap().0, None).report;
    assert!(
        report
            .findings()
            .iter()
            .any(|finding| finding.path == "spec.limits[0].key" && finding.message.contains("cannot be told apart"))
    );
    let limit = |limits: &str| format!("  limits: [{limits}]\n");
    for (policy, more, expected) in [
        (limit("{name: a}"), String::new(), "spec.limits[0]: limit must have exactly one of"),
        (
            limit("{name: a, quota: {requests: 1, per: Day}}, {name: a, quota: {requests: 1, per: Hour}}"),
            String::new(),
            "'a' must be used once",
        ),
        (
            limit("{name: m, quota: {requests: 50, per: Month}}, {name: d, quota: {requests: 100, per: Day}}"),
            String::new(),
            "spec.limits[1].quota: limit 'd' is never reached",
        ),
        (
            limit("{name: a, quota: {requests: 1, per: Day, timeZone: Mars/Olympus}}"),
            String::new(),
            "must be a time zone",
        ),
        (limit("{name: a, tokens: {tokens: 100000, per: Day}}"), String::new(), "only with `llm`"),
        (
            limit("{name: a, cost: {amount: '1', currency: USD, per: Day}}"),
            String::new(),
            "spec.limits[0].cost: `cost` must be set only with `llm.prices`",
        ),
        (
            limit("{name: a, cost: {amount: '1', currency: EUR, per: Day}}")
                + &format!("  llm: {{provider: OpenAI, keyRef: {{name: ana}}, {PRICES}}}\n"),
            String::new(),
            "spec.limits[0].cost.currency: the currency must be that of `llm.prices`, 'USD'",
        ),
        (
            String::new(),
            credential("c", 1, "", "  limits: [{name: a, cost: {amount: '1.0000001', currency: USD, per: Day}}]\n"),
            "must be a decimal number",
        ),
        (
            String::new(),
            credential("c", 1, "", "  limits: [{name: a, cost: {amount: '0.0', currency: USD, per: Day}}]\n"),
            "greater than 0",
        ),
        (
            String::new(),
            credential("c", 1, "", "  access: {models: [gpt-5], exceptModels: ['gpt-*']}\n"),
            "every model of `models` is excepted",
        ),
        (String::new(), credential("c", 1, "", "  access: {models: ['gpt-*-mini']}\n"), "a `*` at its end"),
        (limit("{name: a, requestSize: {maxBytes: 1}, onStoreLoss: Local}"), String::new(), "nothing is counted"),
        (limit("{name: a, rate: {requests: 0, perSeconds: 1}}"), String::new(), "greater than 0"),
        (String::new(), credential("c", 1, "", "  access: {}\n"), "spec.access: access must restrict something"),
        (
            String::new(),
            credential("c", 1, "", "  access: {methods: [GET], exceptMethods: [GET]}\n"),
            "'GET' must not be in both",
        ),
        (String::new(), credential("c", 1, "", "  access: {paths: [/a/b], exceptPaths: [/a]}\n"), "nothing is left"),
        (String::new(), credential("c", 1, "", "  access: {paths: ['/a/*']}\n"), "must not have a `*`"),
        (String::new(), credential("c", 1, "", "  access: {paths: [/a/../b]}\n"), "must be a plain path"),
        (String::new(), credential("c", 1, "", "  access: {addresses: [10.0.0.1/8]}\n"), "zeros behind the prefix"),
        (
            String::new(),
            credential("c", 1, "", "  access: {addresses: ['::ffff:192.0.2.1']}\n"),
            "IPv4 in its own form",
        ),
        (
            String::new(),
            credential("c", 1, "", "  access: {addresses: [192.0.2.0/25], exceptAddresses: [192.0.2.0/24]}\n"),
            "nothing is left",
        ),
        (
            String::new(),
            credential("c", 1, "", "  access: {hours: [{from: '08:00', to: '08:00', timeZone: Etc/UTC}]}\n"),
            "must differ",
        ),
        (
            String::new(),
            credential("c", 1, "", "  access: {hours: [{from: '8:00', to: '18:00', timeZone: Etc/UTC}]}\n"),
            "must be a time such as",
        ),
        (String::new(), plan("a", "selects: {}, limits: [{name: a, quota: {requests: 1, per: Day}}]"), "spec.selects"),
        (String::new(), plan("a", "selects: {roles: [a]}"), "`limits`, `access` or both"),
        (
            String::new(),
            plan("a", "selects: {roles: [a]}, replaces: [nobody], access: {methods: [GET]}"),
            "UsagePlan 'nobody' must exist",
        ),
        (
            String::new(),
            plan("a", "selects: {roles: [a]}, replaces: [b], access: {methods: [GET]}")
                + &plan("b", "selects: {roles: [b]}, replaces: [a], access: {methods: [GET]}"),
            "replaces this one, too",
        ),
    ] {
        let found = findings(&policy, &more);
        assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:?}");
    }
}
