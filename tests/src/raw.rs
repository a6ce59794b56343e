use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::network;

/// One HTTP/1.1 response, read from a raw socket.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status; 0 when the connection was closed without one.
    pub status: u16,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The decision id of a refusal.
    pub fn decision(&self) -> &str {
        self.header("x-decision-id").unwrap_or_else(|| panic!("no decision id: {self:?}"))
    }
}

/// Sends exactly these bytes on a new connection, or to a gateway in this process, and reads one response.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    if let Some(gateway) = network::gateway(address) {
        return gateway(bytes);
    }
    let mut stream = TcpStream::connect(address).expect("it listens");
    let _ = stream.write_all(bytes);
    let mut reply = raw_on(&mut stream);
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = chunks(&mut stream);
    }
    reply
}

/// The text of all chunks until the last one.
fn chunks(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && stream.read_exact(&mut byte).is_ok() {
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        if size == 0 || stream.read_exact(&mut chunk).is_err() {
            return String::from_utf8_lossy(&text).into_owned();
        }
        text.extend_from_slice(&chunk[..size]);
    }
}

/// Reads one response with a Content-Length or without a body.
pub fn raw_on(stream: &mut TcpStream) -> Reply {
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return Reply::default(),
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body);
    Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}
