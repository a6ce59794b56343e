//! A server that follows a script, whatever it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The reaction to a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These octets.
    Send(String),
    /// These octets, then the end of the connection.
    SendAndClose(String),
    /// The end of the connection.
    Close,
    /// This head, then an octet every 50 ms for ever.
    Drip(String),
    /// Nothing, for ever.
    Hang,
}

/// An answer with this status and this JSON.
pub(crate) fn json(status: u16, body: &str) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    Reply::Send(head + body)
}

/// A server that ends with the test.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// A script for each connection, and in it a reply to each request. What is beyond the script is closed.
    pub(crate) async fn start(script: Vec<Vec<Reply>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (count, seen) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            let mut script = script.into_iter();
            let mut under_way = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                under_way.spawn(follow(stream, script.next().unwrap_or_default(), seen.clone()));
            }
        });
        Self { port, connections, requests, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn follow(mut stream: TcpStream, script: Vec<Reply>, seen: Arc<Mutex<Vec<String>>>) {
    for reply in script {
        let Some(request) = read(&mut stream).await else { return };
        seen.lock().unwrap().push(request);
        let sent = match reply {
            Reply::Send(octets) => stream.write_all(octets.as_bytes()).await,
            Reply::SendAndClose(octets) => {
                let _ = stream.write_all(octets.as_bytes()).await;
                return;
            }
            Reply::Close => return,
            Reply::Drip(head) => {
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    sent = stream.write_all(b" ").await;
                }
                return;
            }
            Reply::Hang => std::future::pending().await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A request with its body; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut octets = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&octets);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        octets.extend_from_slice(&part[..count]);
    }
}
