use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a server of either kind keeps, by path, and the writes that reached it.
#[derive(Default)]
struct Stored {
    distribution: Option<&'static str>,
    flavor: Option<&'static str>,
    policies: BTreeMap<String, Value>,
    templates: BTreeMap<String, Value>,
    /// Indices with the lifecycle that they have.
    indices: BTreeMap<String, Option<String>>,
    writes: Vec<String>,
}

impl Stored {
    fn answer(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let path = target.split('?').next().unwrap().trim_start_matches('/');
        if method != "GET" {
            self.writes.push(format!("{method} {target}"));
        }
        let name = path.rsplit('/').next().unwrap().to_owned();
        match method {
            "GET" if path.is_empty() => {
                let version =
                    json!({"number": "9.9.9", "distribution": self.distribution, "build_flavor": self.flavor});
                (200, json!({"version": version}))
            }
            "GET" if path.starts_with("_ilm/") || path.starts_with("_plugins/") => match self.policies.get(&name) {
                Some(policy) if self.distribution.is_some() => {
                    (200, json!({"_seq_no": 7, "_primary_term": 2, "policy": policy["policy"]}))
                }
                Some(policy) => (200, json!({ name: policy })),
                None => (404, json!({})),
            },
            "GET" => {
                let of = |(name, lifecycle): (&String, &Option<String>)| {
                    (name.clone(), json!({"settings": {"index.lifecycle.name": lifecycle}}))
                };
                (200, Value::Object(self.indices.iter().map(of).collect()))
            }
            "PUT" if path.starts_with("_ilm/") || path.starts_with("_plugins/") => {
                if self.policies.contains_key(&name) && self.distribution.is_some() && !target.contains("if_seq_no=7") {
                    return (409, json!({"error": "version conflict"}));
                }
                self.policies.insert(name, body.clone());
                (200, json!({}))
            }
            "PUT" if path.starts_with("_index_template/") => {
                self.templates.insert(name, body.clone());
                (200, json!({}))
            }
            "PUT" => {
                let lifecycle = body["index"]["lifecycle"]["name"].as_str().map(str::to_owned);
                for index in path.split('/').next().unwrap().split(',') {
                    self.indices.insert(index.to_owned(), lifecycle.clone());
                }
                (200, json!({}))
            }
            _ => (200, json!({"updated_indices": 0})),
        }
    }
}

async fn serve(mut stream: TcpStream, stored: Arc<Mutex<Stored>>) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            match read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if stream.read_buf(&mut read).await.unwrap_or(0) == 0 => return,
                None => {}
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while read.len() < end + length {
            stream.read_buf(&mut read).await.unwrap();
        }
        let body: Vec<u8> = read.drain(..end + length).skip(end).collect();
        let mut words = head.split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) = stored.lock().unwrap().answer(method, target, &body);
        let (answer, what) = (answer.to_string(), "content-type: application/json\r\ncontent-length");
        let answer = format!("HTTP/1.1 {status} x\r\n{what}: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// A server with this state, and how records are kept there.
async fn server(stored: Stored, kept: Retention) -> (Arc<Mutex<Stored>>, Elasticsearch) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stored = Arc::new(Mutex::new(stored));
    let serving = stored.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, serving.clone()));
        }
    });
    (stored, Elasticsearch { url, authorization: None, ca_pem: None, kept })
}

const KEPT: Retention = Retention { decisions_days: Some(30), changes_days: Some(400) };

async fn applied(server: &Elasticsearch) {
    apply(server, &Client::new(), false).await.unwrap();
}

#[tokio::test]
async fn elasticsearch_gets_a_policy_for_each_kind_and_indices_of_others_keep_theirs() {
    let decisions = |day: &str| format!("{INDEX}-decisions-2027.01.{day}");
    let mut state = Stored::default();
    state.indices.insert(decisions("01"), None);
    state.indices.insert(decisions("02"), Some("their-own".into()));
    let (stored, server) = server(state, KEPT).await;
    applied(&server).await;
    let writes = {
        let stored = stored.lock().unwrap();
        let policy = &stored.policies[&format!("{INDEX}-decisions")]["policy"];
        assert_eq!(policy["phases"]["delete"]["min_age"], "30d");
        assert_eq!(stored.policies[&format!("{INDEX}-changes")]["policy"]["phases"]["delete"]["min_age"], "400d");
        let template = &stored.templates[&format!("{TEMPLATE}-decisions")];
        assert_eq!(template["index_patterns"], json!([format!("{INDEX}-decisions-*")]));
        assert_eq!(template["template"]["settings"]["index"]["lifecycle"]["name"], format!("{INDEX}-decisions"));
        assert!(template["template"]["mappings"].is_object(), "it replaces the wider template as a whole");
        assert_eq!(stored.indices[&decisions("01")].as_deref(), Some(&*format!("{INDEX}-decisions")));
        assert_eq!(stored.indices[&decisions("02")].as_deref(), Some("their-own"));
        stored.writes.len()
    };
    // Again: no policy is written, and no index touched.
    applied(&server).await;
    let again = stored.lock().unwrap().writes.split_off(writes);
    assert!(again.iter().all(|write| write.starts_with("PUT /_index_template/")), "{again:?}");
    let shorter = Elasticsearch { kept: Retention { decisions_days: Some(7), ..KEPT }, ..server };
    applied(&shorter).await;
    let stored = stored.lock().unwrap();
    assert_eq!(stored.policies[&format!("{INDEX}-decisions")]["policy"]["phases"]["delete"]["min_age"], "7d");
}

#[tokio::test]
async fn opensearch_gets_policies_that_say_which_indices_they_are_for() {
    let (stored, server) = server(Stored { distribution: Some("opensearch"), ..Stored::default() }, KEPT).await;
    applied(&server).await;
    applied(&server).await;
    {
        let stored = stored.lock().unwrap();
        let policy = &stored.policies[&format!("{INDEX}-decisions")]["policy"];
        assert_eq!(policy["states"][0]["transitions"][0]["conditions"]["min_index_age"], "30d");
        assert_eq!(policy["states"][1]["actions"], json!([{"delete": {}}]));
        assert_eq!(policy["ism_template"][0]["index_patterns"], json!([format!("{INDEX}-decisions-*")]));
        assert!(stored.templates.is_empty(), "it has no such setting of indices");
        let puts = stored.writes.iter().filter(|write| write.starts_with("PUT ")).count();
        assert_eq!(puts, 2, "{:?}", stored.writes);
    }
    let longer = Elasticsearch { kept: Retention { changes_days: Some(800), ..KEPT }, ..server };
    applied(&longer).await;
    let stored = stored.lock().unwrap();
    let age = &stored.policies[&format!("{INDEX}-changes")]["policy"]["states"][0]["transitions"][0]["conditions"];
    assert_eq!(age["min_index_age"], "800d", "the version that was read is replaced");
}

#[tokio::test]
async fn what_somebody_else_made_stays_and_nothing_is_written_unasked() {
    let theirs = json!({"policy": {"phases": {"delete": {"min_age": "1d", "actions": {"delete": {}}}}}});
    let mut state = Stored::default();
    state.policies.insert(format!("{INDEX}-decisions"), theirs.clone());
    let (stored, server_of) = server(state, Retention { decisions_days: Some(30), changes_days: None }).await;
    applied(&server_of).await;
    assert_eq!(stored.lock().unwrap().policies[&format!("{INDEX}-decisions")], theirs);
    assert!(stored.lock().unwrap().writes.is_empty());
    let (stored, unasked) = server(Stored::default(), Retention::default()).await;
    applied(&unasked).await;
    assert!(stored.lock().unwrap().writes.is_empty());
    let (stored, serverless) = server(Stored { flavor: Some("serverless"), ..Stored::default() }, KEPT).await;
    applied(&serverless).await;
    assert!(stored.lock().unwrap().writes.is_empty());
}
