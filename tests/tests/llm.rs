//! Calls to language models through the gateway: whose key travels, what is counted, and when it is enough.

use std::process::Command;

use idm_tests::{Gateway, InProcess, Redis, Reply, Serves, Upstream, eventually, open_to, raw};
use serde_json::{Value, json};

const CALLERS: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana}
spec: {password: {}, secretRef: {name: ana}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: bob}
spec: {password: {}, secretRef: {name: ana}}
---
apiVersion: v1
kind: Secret
metadata: {name: ana}
stringData: {password: secret}
---
apiVersion: v1
kind: Secret
metadata: {name: provider}
stringData: {apiKey: sk-canary-key}
";

fn answer(kind: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

fn bed<G: Serves>(answer: &str, llm: &str) -> Bed<G> {
    bed_with(answer, llm, &[])
}

fn bed_with<G: Serves>(answer: &str, llm: &str, arguments: &[&str]) -> Bed<G> {
    let upstream = Upstream::answering(answer);
    let methods = "    - {name: people, basic: {realm: models}}\n    \
                   - {name: sdk, base64: {sources: [{header: {name: X-Api-Key}}], layout: '{username}:{password}'}}\n";
    let yaml = format!("{}  llm: {{keyRef: {{name: provider}}, {llm}}}\n{CALLERS}", open_to(&upstream, methods));
    Bed { gateway: G::start_with(&[("all.yaml", &yaml)], arguments), upstream }
}

impl<G: Serves> Bed<G> {
    fn call(&self, user: &str, path: &str, body: &str) -> Reply {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:secret"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {pair}\r\nAccept-Encoding: \
                gzip\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw(self.gateway.address(), format!("{head}{body}").as_bytes())
    }

    /// The usage of the only permitted call so far.
    fn usage(&self) -> Value {
        eventually("the record", || {
            let found: Vec<Value> =
                self.gateway.records().into_iter().filter(|record| record["outcome"] == "Permitted").collect();
            if found.len() == 1 { Ok(found[0]["usage"].clone()) } else { Err(format!("{} records", found.len())) }
        })
    }

    fn seen_body(&self) -> Value {
        let seen = self.upstream.received();
        serde_json::from_str(seen.split_once("\r\n\r\n").map_or("", |(_, body)| body)).unwrap_or_default()
    }
}

const CHAT: &str =
    "{\"model\":\"m-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":12,\"total_tokens\":42}}";

#[test]
fn the_providers_key_travels_and_the_callers_does_not() {
    let bed: Bed<Gateway> = bed(&answer("application/json", CHAT), "provider: OpenAI");
    let reply = bed.call("ana", "/v1/chat/completions", "{\"model\":\"m-1\",\"messages\":[]}");
    assert_eq!((reply.status, reply.body.as_str()), (200, CHAT));
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("authorization: bearer sk-canary-key\r\n")
            && !seen.contains("basic ")
            && !seen.contains("accept-encoding"),
        "{seen}"
    );
    assert_eq!(bed.usage(), json!({"model": "m-1", "prompt_tokens": 30, "completion_tokens": 12, "estimated": false}));
    let everything = format!("{}{:?}{}", bed.gateway.log(), bed.gateway.records(), reply.body);
    assert!(!everything.contains("canary"), "the provider's key is told to nobody");
    // A caller who is not let in costs nothing.
    bed.upstream.forget();
    assert_eq!(bed.call("mallory", "/v1/chat/completions", "{}").status, 401);
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn anthropic_gets_its_key_where_it_reads_it() {
    let body = "{\"model\":\"c\",\"usage\":{\"input_tokens\":7,\"output_tokens\":5}}";
    let bed: Bed = bed(&answer("application/json", body), "provider: Anthropic");
    assert_eq!(bed.call("ana", "/v1/messages", "{}").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(seen.contains("x-api-key: sk-canary-key\r\n") && !seen.contains("authorization"), "{seen}");
    assert_eq!(bed.usage()["completion_tokens"], 5);
}

#[test]
fn a_streamed_answer_is_counted_because_the_gateway_asks_for_the_count() {
    let stream = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n\
        data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n\
        data: [DONE]\n\n";
    let bed: Bed<Gateway> = bed(&answer("text/event-stream", stream), "provider: OpenAI");
    let reply = bed.call(
        "ana",
        "/v1/chat/completions",
        "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hé\"}]}",
    );
    // The caller did not ask for the usage, and gets what it would get without a gateway.
    let without =
        "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\ndata: [DONE]\n\n";
    assert_eq!((reply.status, reply.body), (200, without.to_owned()));
    assert_eq!(
        bed.seen_body(),
        json!({
            "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hé"}],
        })
    );
    assert_eq!(bed.usage(), json!({"model": "m", "prompt_tokens": 3, "completion_tokens": 4, "estimated": false}));
    // Two members of one name: gateway and provider could read different ones.
    bed.upstream.forget();
    let twice = bed.call("ana", "/v1/chat/completions", "{\"stream\":false,\"stream\":true}");
    assert_eq!((twice.status, bed.upstream.received().as_str()), (400, ""));
}

#[test]
fn a_caller_who_used_its_tokens_waits_and_others_do_not() {
    let bed: Bed =
        bed(&answer("application/json", CHAT), "provider: OpenAI, quotas: [{tokens: 80, perSeconds: 86400}]");
    let call = |user: &str| bed.call(user, "/v1/chat/completions", "{}");
    let counted = |calls: usize| {
        eventually("the answers are counted", || {
            let found = bed.gateway.records().iter().filter(|record| record["outcome"] == "Permitted").count();
            if found == calls { Ok(()) } else { Err(format!("{found} of {calls}")) }
        });
    };
    assert_eq!(call("ana").status, 200);
    counted(1);
    assert_eq!(call("ana").status, 200);
    counted(2);
    bed.upstream.forget();
    let late = call("ana");
    let record = bed.gateway.record(late.decision());
    assert_eq!((late.status, record["reason"].as_str()), (429, Some("TokenQuotaExceeded")));
    assert!(late.header("retry-after").unwrap().parse::<u64>().unwrap() <= 86400);
    assert_eq!(bed.upstream.received(), "");
    assert_eq!(call("bob").status, 200, "another caller has tokens of its own");
}

#[test]
fn gateways_that_share_a_store_count_a_callers_tokens_together() {
    let mut redis = Redis::start();
    let (password, url) = (redis.password_file(), redis.url());
    let arguments = ["--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let start = || {
        bed_with::<Gateway>(
            &answer("application/json", CHAT),
            "provider: OpenAI, quotas: [{tokens: 80, perSeconds: 86400}]",
            &arguments,
        )
    };
    let (one, two) = (start(), start());
    for bed in [&one, &two] {
        assert_eq!(bed.call("ana", "/v1/chat/completions", "{}").status, 200);
        bed.usage();
    }
    for bed in [&one, &two] {
        eventually("the sum is known", || {
            let reply = bed.call("ana", "/v1/chat/completions", "{}");
            if reply.status == 429 { Ok(()) } else { Err(reply.status.to_string()) }
        });
        bed.upstream.forget();
        let reply = bed.call("ana", "/v1/chat/completions", "{}");
        assert_eq!(
            (bed.gateway.record(reply.decision())["reason"].as_str(), bed.upstream.received().as_str()),
            (Some("TokenQuotaExceeded"), "")
        );
    }
    assert_eq!(one.call("bob", "/v1/chat/completions", "{}").status, 200);
    // Without an answer nobody knows what is left, so nobody gets more.
    redis.kill();
    one.upstream.forget();
    let reply = one.call("bob", "/v1/chat/completions", "{}");
    assert_eq!(
        (reply.status, one.gateway.record(reply.decision())["reason"].as_str()),
        (503, Some("StoreUnavailable"))
    );
    assert_eq!(one.upstream.received(), "");
}

#[test]
fn a_provider_that_tells_nothing_is_estimated() {
    let bed: Bed = bed(&answer("application/json", "{\"choices\": []}"), "provider: OpenAI");
    assert_eq!(bed.call("ana", "/v1/completions", "{\"prompt\": \"12345678\"}").status, 200);
    assert_eq!(bed.usage(), json!({"prompt_tokens": 6, "completion_tokens": 4, "estimated": true}));
}

/// The providers' own clients, which nobody here wrote, against the gateway.
#[test]
fn the_official_clients_work_with_the_callers_own_credential() {
    let prepare = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let output = Command::new(prepare.join("prepare")).output().unwrap();
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stream = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\
        \"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n\
        data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\
        \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n";
    let message = "{\"id\":\"1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\
        \"content\":[{\"type\":\"text\",\"text\":\"hello\"}],\"stop_reason\":\"end_turn\",\"usage\":\
        {\"input_tokens\":7,\"output_tokens\":5}}";
    for (provider, answer, tokens) in
        [("OpenAI", answer("text/event-stream", stream), 4), ("Anthropic", answer("application/json", message), 5)]
    {
        let bed: Bed<Gateway> = bed(&answer, &format!("provider: {provider}"));
        let script = prepare.join("llm.mjs");
        let output = Command::new("node")
            .arg(script)
            .args([&libraries, provider, &format!("http://{}", bed.gateway.address)])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "hello",
            "{provider}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(bed.usage()["completion_tokens"], tokens, "{provider}");
    }
}
