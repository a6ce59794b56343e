//! Calls to language models as real programs make them: what passes unchanged, and what is counted for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use idm_tests::{Gateway, Reply, Upstream, eventually, open_to, open_to_address, raw, raw_on, secret};
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

/// Heads that a provider received, each with the bytes that followed.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A provider that answers an upgrade with these bytes, and each message of its caller with the next of these.
struct Provider {
    address: SocketAddr,
    /// The head of each connection, and all bytes that came behind it.
    received: Received,
}

impl Provider {
    fn start(first: Vec<u8>, answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Received::default();
        let all = received.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, first, mut answers) = (stream.expect("a connection"), first.clone(), answers.clone());
                let all = all.clone();
                thread::spawn(move || {
                    let number = {
                        let mut all = all.lock().expect("no panic");
                        all.push((read_head(&mut stream), Vec::new()));
                        all.len() - 1
                    };
                    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                Sec-WebSocket-Protocol: realtime\r\n\r\n";
                    let _ = stream.write_all(&[head.as_bytes(), &first].concat());
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        all.lock().expect("no panic")[number].1.extend(&buffer[..read]);
                        if !answers.is_empty() {
                            let _ = stream.write_all(&answers.remove(0));
                        }
                    }
                });
            }
        });
        Self { address, received }
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A frame of a text message, as a server sends it.
fn text(message: &str) -> Vec<u8> {
    let length = message.len() as u16;
    [&[0x81, 126][..], &length.to_be_bytes(), message.as_bytes()].concat()
}

fn done(input: u64, output: u64) -> Vec<u8> {
    text(&format!(
        "{{\"type\":\"response.done\",\"response\":{{\"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output},\
         \"input_token_details\":{{\"cached_tokens\":2}}}}}}}}"
    ))
}

const SESSION: &str = "{\"type\":\"session.created\",\"session\":{\"model\":\"rt-1\"}}";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn realtime_bed(provider: &Provider, llm: &str, more: &str) -> Gateway {
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, {llm}}}\n{more}{}",
        open_to_address(provider.address, METHODS),
        secret("provider", &[("apiKey", "sk-canary-key".to_owned())])
    );
    Gateway::start(&[("all.yaml", &yaml)])
}

/// Opens a connection, and reads the head of the answer.
fn open(gateway: &Gateway, path: &str, more: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{UPGRADE}{more}\r\n").as_bytes()).expect("written");
    let head = read_head(&mut stream);
    (stream, head)
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("as many bytes");
    bytes
}

fn one_record(gateway: &Gateway, outcome: &str) -> Value {
    eventually("the record", || {
        let records = gateway.records();
        let found: Vec<_> = records.iter().filter(|record| record["outcome"] == outcome).collect();
        if found.len() == 1 { Ok(found[0].clone()) } else { Err(format!("{records:?}")) }
    })
}

#[test]
fn a_realtime_connection_passes_byte_for_byte_and_is_counted() {
    let first = [text(SESSION), vec![0x89, 1, b'p']].concat();
    let answers = vec![done(10, 40), [&done(5, 5)[..], &[0x82, 2, 0xff, 0]].concat()];
    let provider = Provider::start(first.clone(), answers.clone());
    let llm = "provider: OpenAI, models: ['rt-*'], prices: {currency: USD, models: [{model: 'rt-*', prompt: '100', \
               cachedPrompt: '10', completion: '1000'}]}";
    let gateway = realtime_bed(&provider, llm, "");
    let offered = "Sec-WebSocket-Extensions: permessage-deflate\r\n\
                   Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-of-the-caller\r\nX-Secret: s\r\n";
    let (mut stream, head) = open(&gateway, "/v1/realtime?model=rt-1", offered);
    assert!(head.starts_with("HTTP/1.1 101") && head.to_lowercase().contains("protocol: realtime\r\n"), "{head}");
    assert_eq!(read(&mut stream, first.len()), first);
    let asked: [&[u8]; 2] = [&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2], &[0x8a, 0x80, 9, 9, 9, 9]];
    for (asked, answer) in asked.iter().zip(&answers) {
        stream.write_all(asked).expect("written");
        assert_eq!(&read(&mut stream, answer.len()), answer);
    }
    drop(stream);
    let record = one_record(&gateway, "Permitted");
    let usage = json!({"model": "rt-1", "prompt_tokens": 15, "cached_prompt_tokens": 4, "completion_tokens": 45,
        "estimated": false, "cost": {"micros": 11 * 100 + 4 * 10 + 45 * 1000, "currency": "USD"}});
    assert_eq!((&record["usage"], &record["status"]), (&usage, &json!(101)), "{record}");
    let (head, sent) = provider.received.lock().unwrap()[0].clone();
    assert_eq!(sent, asked.concat());
    let head = head.to_lowercase();
    assert!(head.starts_with("get /v1/realtime?model=rt-1 ") && head.contains("authorization: bearer sk-canary-key"));
    assert!(head.contains("sec-websocket-protocol: realtime\r\n"), "{head}");
    for nothing in ["extensions", "sk-of-the-caller", "x-secret"] {
        assert!(!head.contains(nothing), "{head}");
    }
    // A model that the list does not permit, and a WebSocket that could not be counted, reach nobody.
    for (path, reason) in [
        ("/v1/realtime?model=o9", "ModelNotAllowed"),
        ("/v1/realtime?model=rt-1&model=o9", "ModelNotAllowed"),
        ("/v1/realtime?call_id=c", "ModelNotAllowed"),
        ("/v1/responses?model=rt-1", "UpgradeNotAllowed"),
        ("/v1/realtime?model=rt-1&api-key=k", "UpgradeNotAllowed"),
    ] {
        let (_, head) = open(&gateway, path, "");
        assert!(head.starts_with("HTTP/1.1 403"), "{path}: {head}");
        assert!(gateway.records().iter().any(|record| record["reason"] == reason), "{path}");
    }
    assert_eq!(provider.received.lock().unwrap().len(), 1);
}

#[test]
fn a_realtime_connection_is_closed_where_its_budget_is_used_up() {
    let after = text("{\"type\":\"more\"}");
    let answers = vec![done(10, 40), [done(10, 40), after].concat()];
    let provider = Provider::start(text(SESSION), answers.clone());
    let limits =
        "  limits: [{name: month, key: AllCallers, tokens: {tokens: 140, per: Month, defaultOutputTokens: 45}}]\n";
    let gateway = realtime_bed(&provider, "provider: AzureOpenAI", limits);
    let path = "/openai/realtime?api-version=1&deployment=rt-1";
    let (mut stream, _) = open(&gateway, path, "");
    read(&mut stream, text(SESSION).len());
    stream.write_all(&[0x81, 0x80, 1, 2, 3, 4]).expect("written");
    assert_eq!(read(&mut stream, answers[0].len()), answers[0], "90 are left, of which it may take 45");
    stream.write_all(&[0x81, 0x80, 1, 2, 3, 4]).expect("written");
    let last = done(10, 40);
    assert_eq!(read(&mut stream, last.len()), last, "what is used up is told to the caller, and nothing after it");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it ends");
    assert_eq!((&rest[..1], &rest[2..4], rest.len()), (&[0x88][..], &1008_u16.to_be_bytes()[..], rest[1] as usize + 2));
    let record = one_record(&gateway, "Denied");
    assert_eq!((&record["reason"], &record["limit"]), (&json!("TokenQuotaExceeded"), &json!("month")), "{record}");
    assert_eq!(record["usage"]["completion_tokens"], 80, "{record}");
    assert_eq!(record["stage"], "limit", "{record}");
    // The next one is refused before it is open: 40 are left.
    let (_, head) = open(&gateway, path, "");
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
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
    assert_eq!(
        bed.usage(),
        json!({"model": "c", "prompt_tokens": 21004, "cached_prompt_tokens": 20000,
        "completion_tokens": 7, "estimated": false})
    );
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
