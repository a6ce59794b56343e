//! Calls to language models as real programs make them: what passes unchanged, and what is counted for it.

use std::io::{Read, Write};
use std::net::TcpStream;

use idm_tests::{Gateway, Reply, Upstream, eventually, open_to, raw, raw_on, secret};
use serde_json::{Value, json};

const METHODS: &str = "    - {name: everyone, anonymous: {}}\n";

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
}

fn bed(answer: &str, llm: &str) -> Bed {
    let upstream = Upstream::answering(answer);
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, {llm}}}\n{}",
        open_to(&upstream, METHODS),
        secret("provider", &[("apiKey", "sk-canary-key".to_owned())])
    );
    Bed { gateway: Gateway::start(&[("all.yaml", &yaml)]), upstream }
}

fn answer(kind: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Bed {
    fn ask(&self, line: &str, headers: &str, body: &str) -> Reply {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}{length}\r\n{body}");
        raw(self.gateway.address, request.as_bytes())
    }

    fn chat(&self, body: &str) -> Reply {
        self.ask("POST /v1/chat/completions", "Content-Type: application/json\r\n", body)
    }

    fn received_body(&self) -> String {
        self.upstream.received().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// The usage of the only permitted call so far.
    fn usage(&self) -> Value {
        eventually("the record", || {
            let records = self.gateway.records();
            let found: Vec<_> = records.iter().filter(|record| record["outcome"] == "Permitted").collect();
            if found.len() == 1 { Ok(found[0]["usage"].clone()) } else { Err(format!("{records:?}")) }
        })
    }
}

const TEXT: &str = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
const USAGE: &str =
    "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn f02_who_did_not_ask_for_the_usage_gets_no_event_with_it_and_all_else_is_as_it_was_written() {
    let stream = format!("{TEXT}{USAGE}{DONE}");
    let counted = json!({"model": "m", "prompt_tokens": 3, "completion_tokens": 4, "estimated": false});
    let option = "\"stream_options\":{\"include_usage\":true}";
    for (body, sent, gets_usage) in [
        (
            "{ \"seed\": 9007199254740993, \"temperature\": 1.0, \"stream\":true }",
            format!("{{{option}, \"seed\": 9007199254740993, \"temperature\": 1.0, \"stream\":true }}"),
            false,
        ),
        (
            "{\"z\":1,\"a\":2,\"stream_options\":{\"include_usage\":false},\"stream\":true}",
            format!("{{\"z\":1,\"a\":2,{option},\"stream\":true}}"),
            false,
        ),
        (&*format!("{{\"stream\":true, {option}}}"), format!("{{\"stream\":true, {option}}}"), true),
    ] {
        let bed = bed(&answer("text/event-stream", &stream), "provider: OpenAI");
        let reply = bed.chat(body);
        assert_eq!((reply.status, bed.received_body()), (200, sent), "{body}");
        assert_eq!(reply.body.contains("prompt_tokens"), gets_usage, "{body}: {}", reply.body);
        for event in [TEXT, DONE] {
            assert!(reply.body.contains(event.trim_end()), "{}", reply.body);
        }
        assert_eq!(bed.usage(), counted, "{body}");
    }
    // Nothing changes if nothing is streamed.
    let whole = "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4},\"model\":\"m\",\"choices\":[]}";
    let bed = bed(&answer("application/json", whole), "provider: OpenAI");
    let body = "{\"messages\" :[],\n \"x\":1.0e40, \"stream\":false}";
    let reply = bed.chat(body);
    assert_eq!((reply.status, reply.body.as_str(), bed.received_body().as_str()), (200, whole, body));
}

#[test]
fn f03_tokens_of_the_providers_cache_are_counted() {
    let usage = "\"input_tokens\":4,\"cache_creation_input_tokens\":1000,\"cache_read_input_tokens\":20000";
    let whole = format!("{{\"model\":\"c\",\"usage\":{{{usage},\"output_tokens\":7}}}}");
    let bed = bed(&answer("application/json", &whole), "provider: Anthropic");
    assert_eq!(bed.ask("POST /v1/messages", "Content-Type: application/json\r\n", "{}").status, 200);
    assert_eq!(bed.usage(), json!({"model": "c", "prompt_tokens": 21004, "completion_tokens": 7, "estimated": false}));
}

#[test]
fn f04_a_large_upload_that_nobody_has_to_read_passes() {
    let size = 20 << 20;
    let bed = bed(&answer("application/json", "{\"text\":\"hello\"}"), "provider: OpenAI");
    let mut caller = TcpStream::connect(bed.gateway.address).expect("it listens");
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n\
         Content-Length: {size}\r\n\r\n"
    );
    caller.write_all(head.as_bytes()).expect("sent");
    (0..20).for_each(|_| caller.write_all(&vec![b'a'; 1 << 20]).expect("sent"));
    assert_eq!(raw_on(&mut caller).status, 200);
    assert!(bed.upstream.received().len() > size);
    let usage = bed.usage();
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(0), &json!(0)), "{usage}");
}

#[test]
fn f04_what_must_be_read_has_a_limit_that_a_policy_sets() {
    let body = |size: usize| format!("{{\"messages\":\"{}\"}}", "a".repeat(size - 15));
    for (setting, fits, too_large) in [("", 1 << 20, (16 << 20) + 1), (", maxRequestBytes: 2048", 2048, 2049)] {
        let bed = bed(&answer("application/json", "{}"), &format!("provider: OpenAI{setting}"));
        assert_eq!(bed.chat(&body(fits)).status, 200, "{setting}");
        bed.upstream.forget();
        let refused = bed.chat(&body(too_large));
        assert_eq!((refused.status, bed.upstream.received().as_str()), (413, ""), "{setting}");
        assert_eq!(bed.gateway.record(refused.decision())["reason"], "PayloadTooLarge");
    }
}

#[test]
fn f05_azure_gets_its_key_where_it_reads_it_and_never_the_callers() {
    let whole = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}";
    let bed = bed(&answer("application/json", whole), "provider: AzureOpenAI");
    let line = "POST /openai/deployments/gpt/chat/completions?api-version=2024-10-21";
    let reply = bed.ask(line, "Content-Type: application/json\r\napi-key: callers-own\r\n", "{\"messages\":[]}");
    assert_eq!(reply.status, 200, "{reply:?}");
    let received = bed.upstream.received().to_ascii_lowercase();
    assert!(received.starts_with(&line.to_ascii_lowercase()), "{received}");
    assert_eq!(received.matches("api-key:").count(), 1, "{received}");
    assert!(received.contains("api-key: sk-canary-key\r\n") && !received.contains("authorization"), "{received}");
}

#[test]
fn calls_that_use_no_tokens_cost_none() {
    let models = format!("{{\"data\":[{}]}}", vec!["{\"id\":\"some-model\"}"; 500].join(","));
    for (provider, line, body) in [
        ("OpenAI", "GET /v1/models", ""),
        ("OpenAI", "DELETE /v1/files/f-1", ""),
        ("OpenAI", "POST /v1/moderations", "{\"input\":\"some text\"}"),
        ("Anthropic", "POST /v1/messages/count_tokens", "{\"messages\":[]}"),
    ] {
        let bed = bed(&answer("application/json", &models), &format!("provider: {provider}"));
        let reply = bed.ask(line, "Content-Type: application/json\r\n", body);
        assert_eq!((reply.status, reply.body.len()), (200, models.len()), "{line}");
        let usage = bed.usage();
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["estimated"]),
            (&json!(0), &json!(0), &json!(false)),
            "{line}"
        );
    }
}

#[test]
fn an_event_passes_as_soon_as_it_is_complete() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = listener.local_addr().expect("an address");
    let (next, wanted) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let _ = stream.read(&mut [0; 4096]);
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        for event in [TEXT, TEXT, USAGE, DONE] {
            stream.write_all(chunk(event).as_bytes()).expect("sent");
            // The next one comes only after the caller has got this one; the one with the usage it does not get.
            if event != USAGE && wanted.recv().is_err() {
                return;
            }
        }
        stream.write_all(b"0\r\n\r\n").expect("sent");
    });
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, provider: OpenAI}}\n{}",
        idm_tests::open_to_address(upstream, METHODS),
        secret("provider", &[("apiKey", "sk-1".to_owned())])
    );
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let mut caller = TcpStream::connect(gateway.address).expect("it listens");
    let body = "{\"stream\":true}";
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    caller.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    let mut seen = String::new();
    for (count, text) in [(1, "\"hi\""), (2, "\"hi\""), (1, "[DONE]")] {
        let mut part = [0; 1024];
        while seen.matches(text).count() < count {
            let read = caller.read(&mut part).expect("it arrives");
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        next.send(()).expect("the upstream waits");
    }
    assert!(!seen.contains("prompt_tokens"), "{seen}");
}

#[test]
fn a_body_that_cannot_be_read_says_what_is_wrong_with_it() {
    let bed = bed(&answer("application/json", "{}"), "provider: OpenAI");
    for (headers, body, said) in [
        ("Content-Encoding: gzip\r\n", "{}", "content coding"),
        ("", "\u{feff}{}", "byte order mark"),
        ("", "{\"a\":\"\\ud83d\"}", "hex escape"),
        ("", "[]", "not a JSON object"),
    ] {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let refused = bed.ask("POST /v1/chat/completions", &headers, body);
        let record = bed.gateway.record(refused.decision());
        assert_eq!((refused.status, &record["reason"]), (400, &json!("MalformedRequest")), "{body}");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {record}");
    }
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn r_prompts_that_a_rule_does_not_permit_reach_nobody_and_are_in_no_record() {
    let rules = "provider: OpenAI, rules: [{name: models, allow: \"llm.model == 'small'\"}, {name: short, allow: \
                 'llm.maxTokens <= 100'}, {name: tools, allow: \"llm.tools.all(tool, tool == 'search')\"}, {name: \
                 words, allow: \"!llm.text.contains('canary-word')\"}]";
    let whole = "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4},\"model\":\"small\",\"choices\":[]}";
    let bed = bed(&answer("application/json", whole), rules);
    let json = "Content-Type: application/json\r\n";
    let chat = "POST /v1/chat/completions";
    let said =
        |text: &str| format!("{{\"model\":\"small\",\"max_tokens\":100,\"messages\":[{{\"content\":\"{text}\"}}]}}");
    let coded = format!("{json}Content-Encoding: identity\r\n");
    for (line, headers, body, rule) in [
        (chat, json, said("hi").replace("small", "large"), Some("models")),
        (chat, json, said("hi").replace("100", "101"), Some("short")),
        (chat, json, said("hi").replace("\"max_tokens\":100,", ""), Some("short")),
        (chat, json, said("hi").replace("}]}", "}],\"tools\":[{\"function\":{\"name\":\"shell\"}}]}"), Some("tools")),
        (chat, json, said("the canary-word"), Some("words")),
        // Wherever it stands, and at every address of the provider.
        (
            "POST /v1/responses",
            json,
            "{\"model\":\"small\",\"max_tokens\":1,\"x\":[\"canary-word\"]}".into(),
            Some("words"),
        ),
        (chat, json, said("canary-word").replacen("\"model\"", "\"model\":\"large\",\"model\"", 1), None),
        (chat, &coded, said("hi"), None),
        ("POST /v1/files", "Content-Type: multipart/form-data; boundary=x\r\n", "--x\r\ncanary-word".into(), None),
        ("PUT /v1/files", "", "canary-word".into(), None),
    ] {
        let refused = bed.ask(line, headers, &body);
        assert_eq!(refused.status, 403, "{body}: {refused:?}");
        let record = bed.gateway.record(refused.decision());
        assert_eq!(record["reason"], "PromptRefused", "{record}");
        assert_eq!(record["policy"]["rule"].as_str(), rule, "{body}: {record}");
        assert!(!record.to_string().contains("canary-word") && !refused.body.contains("canary-word"), "{record}");
        assert_eq!(bed.upstream.received(), "", "{body}");
    }
    assert!(!bed.gateway.log().contains("canary-word"));
    assert_eq!(bed.gateway.records().len(), 10);
    // A prompt that they permit goes as it came, and so does a request without one.
    assert_eq!((bed.chat(&said("hi")).status, bed.received_body()), (200, said("hi")));
    assert_eq!(bed.ask("GET /v1/models", "", "").status, 200);
}
