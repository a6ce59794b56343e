use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that keeps documents by index and id, and forgets an answer when it is told to.
#[derive(Default)]
struct Server {
    documents: Mutex<BTreeMap<(String, String), Value>>,
    template: Mutex<Value>,
    silent: AtomicBool,
}

impl Server {
    fn answer(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut documents = self.documents.lock().unwrap();
        match (method, path) {
            ("GET", "/analytic-auth-record") if documents.keys().any(|(index, _)| index == INDEX) => {
                (200, json!({INDEX: {}}))
            }
            ("PUT", "/_index_template/analytic-auth-record-dated") => {
                *self.template.lock().unwrap() = serde_json::from_str(body).unwrap();
                (200, json!({}))
            }
            ("POST", "/_bulk") => {
                let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let item = |pair: &[Value]| {
                    let text = |name: &str| pair[0]["create"][name].as_str().unwrap().to_owned();
                    let new = documents.insert((text("_index"), text("_id")), pair[1].clone()).is_none();
                    json!({"create": {"status": if new { 201 } else { 409 }}})
                };
                (200, json!({"items": lines.chunks(2).map(item).collect::<Vec<_>>()}))
            }
            _ => (404, json!({})),
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            while read.len() < end + length {
                stream.read_buf(&mut read).await.unwrap();
            }
            let body: Vec<u8> = read.drain(..end + length).skip(end).collect();
            let mut words = head.split_whitespace();
            let (method, path) = (words.next().unwrap().to_ascii_uppercase(), words.next().unwrap());
            let (status, answer) = self.answer(&method, path, std::str::from_utf8(&body).unwrap());
            if path == "/_bulk" && self.silent.swap(false, Ordering::Relaxed) {
                return;
            }
            let (answer, what) = (answer.to_string(), "content-type: application/json\r\ncontent-length");
            let answer = format!("HTTP/1.1 {status} x\r\n{what}: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// A shipper of this folder to a server that a task serves until the runtime ends.
async fn shipper(dir: &Path, server: &Arc<Server>) -> Shipper {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move { server.serve(stream).await });
        }
    });
    let server = Elasticsearch { url, authorization: None, ca_pem: None, kept: Retention::default() };
    Shipper {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        follower: from_checkpoint(dir),
        server,
        dir: dir.to_owned(),
        health: Arc::default(),
        has_earlier: None,
    }
}

fn line(id: &str, time: &str, chain: bool) -> String {
    let mut record = json!({"kind": "Decision", "@timestamp": time, "id": id, "outcome": "Denied"});
    if chain {
        record["chain"] = json!({"n": 1});
    }
    record.to_string() + "\n"
}

fn indices(server: &Server) -> Vec<(String, String)> {
    let short = |index: &String| index.trim_start_matches(INDEX).trim_start_matches("-decisions-").to_owned();
    server.documents.lock().unwrap().keys().map(|(index, id)| (short(index), id.clone())).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(index, id)| ((*index).to_owned(), (*id).to_owned())).collect()
}

#[tokio::test]
async fn what_is_sent_again_after_midnight_meets_itself() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Arc::new(Server::default()));
    let text = line("a", "2027-01-31T23:59:59.999Z", true) + &line("b", "2027-02-01T00:00:00.000Z", true);
    std::fs::write(segment_path(dir.path(), 1), text).unwrap();
    let mut shipper = shipper(dir.path(), &server).await;
    server.silent.store(true, Ordering::Relaxed);
    assert!(shipper.step().await.is_err(), "the answer was lost, and not the records");
    assert!(shipper.step().await.unwrap());
    assert!(!shipper.step().await.unwrap(), "there is nothing left");
    assert_eq!(indices(&server), pairs(&[("2027.01.31", "a"), ("2027.02.01", "b")]));
    assert_eq!(server.template.lock().unwrap()["template"]["aliases"], json!({INDEX: {}}));
    let documents = server.documents.lock().unwrap();
    assert!(documents.values().all(|document| document["event"]["outcome"] == "failure"), "with the fields of others");
}

#[tokio::test]
async fn what_an_earlier_version_sent_and_did_not_note_is_not_doubled() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Arc::new(Server::default()));
    let day = "2027-01-31T08:00:00.000Z";
    server.documents.lock().unwrap().insert((INDEX.to_owned(), "old".to_owned()), json!({}));
    let text = line("old", day, false) + &line("unsent", day, false) + &line("new", day, true);
    std::fs::write(segment_path(dir.path(), 1), text).unwrap();
    let mut shipper = shipper(dir.path(), &server).await;
    assert!(shipper.step().await.unwrap());
    assert_eq!(indices(&server), pairs(&[("", "old"), ("", "unsent"), ("2027.01.31", "new")]));
    assert_eq!(server.template.lock().unwrap()["template"]["aliases"], json!({}), "the name is taken");
}
