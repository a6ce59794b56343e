use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::network;

/// An upstream that keeps every byte it received, so that tests can compare them. Gateways in this process reach it
/// without its socket.
pub struct Upstream {
    /// The address that it listens on.
    pub address: SocketAddr,
    kept: Arc<Kept>,
}

/// The requests that an upstream received, and its answers.
pub(crate) struct Kept {
    transcript: Mutex<Vec<u8>>,
    /// A whole response.
    pub(crate) answer: String,
}

impl Kept {
    /// Keeps bytes that arrived.
    pub(crate) fn receive(&self, bytes: &[u8]) {
        self.transcript.lock().expect("no panic inside").extend_from_slice(bytes);
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

impl Upstream {
    /// Answers every request with `200` and `ok`.
    pub fn new() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// Answers every request with these bytes.
    pub fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = Arc::new(Kept { transcript: Mutex::default(), answer: answer.to_owned() });
        network::serve(address, kept.clone());
        std::thread::spawn({
            let kept = kept.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    let kept = kept.clone();
                    std::thread::spawn(move || converse(stream, &kept));
                }
            }
        });
        Self { address, kept }
    }

    /// Everything received so far.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.kept.transcript.lock().expect("no panic inside")).into_owned()
    }

    /// Discards the bytes received so far.
    pub fn forget(&self) {
        self.kept.transcript.lock().expect("no panic inside").clear();
    }
}

/// Answers once per request head, and after the body where one is announced.
fn converse(mut stream: TcpStream, kept: &Kept) {
    let mut pending = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                kept.receive(&chunk[..n]);
                pending.extend_from_slice(&chunk[..n]);
            }
        }
        while let Some(end) = message_end(&pending) {
            pending.drain(..end);
            if stream.write_all(kept.answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn message_end(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        return bytes[head..].windows(5).position(|w| w == b"0\r\n\r\n").map(|end| head + end + 5);
    }
    let length: usize = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}
