//! Random clients and random upstreams on either side of a gateway, and an account of every byte the upstream received.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that clients send only inside bodies, never as a request.
const SMUGGLED: &str = "GET /smuggled/admin HTTP/1.1\r\nHost: a\r\nX-Authenticated-UserId: admin\r\n\r\n";
/// A response without a request, sent after the response to another request.
const UNASKED: &str = "HTTP/1.1 200 OK\r\nX-Echo: unasked\r\nContent-Length: 4\r\n\r\nevil";

/// An upstream that reads requests strictly by RFC 9112, answers as their path says, and records what it received.
pub struct StrictUpstream {
    /// The address that it listens on.
    pub address: SocketAddr,
    account: Arc<Mutex<Account>>,
}

/// Everything that an upstream received.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The requests by their path.
    pub requests: BTreeMap<String, Vec<Received>>,
    /// A description of the bytes that belong to no request.
    pub strays: Vec<String>,
}

/// A request that an upstream received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its body, or the part that arrived.
    pub body: Vec<u8>,
    /// Whether the body arrived as a whole.
    pub whole: bool,
}

impl Received {
    /// Whether it may be sent again when its connection was closed without an answer (RFC 9110 §9.2.2).
    fn is_repeatable(&self) -> bool {
        ["GET", "HEAD", "OPTIONS"].contains(&&*self.method) && self.body.is_empty()
    }
}

impl StrictUpstream {
    /// Listens on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let account = Arc::new(Mutex::new(Account::default()));
        let kept = account.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || Conversation { stream, read: Vec::new(), account: kept }.serve());
            }
        });
        Self { address, account }
    }

    /// Everything received so far.
    pub fn account(&self) -> Account {
        self.account.lock().expect("no panic inside").clone()
    }

    /// Everything received since the last call. A request that is still arriving is returned by the next call.
    pub fn take(&self) -> Account {
        std::mem::take(&mut *self.account.lock().expect("no panic inside"))
    }
}

struct Conversation {
    stream: TcpStream,
    read: Vec<u8>,
    account: Arc<Mutex<Account>>,
}

/// The end of a body.
enum End {
    Whole,
    Cut,
}

impl Conversation {
    fn serve(mut self) {
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(20)));
        while self.exchange().is_some() {}
    }

    fn stray(&self, problem: String) -> Option<()> {
        self.account.lock().expect("no panic inside").strays.push(problem);
        None
    }

    /// One request and its answer; `None` at the connection's end.
    fn exchange(&mut self) -> Option<()> {
        let Some(end) = self.until(|read| read.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)) else {
            let rest = String::from_utf8_lossy(&self.read).into_owned();
            return if rest.is_empty() { None } else { self.stray(format!("not a head: {rest:?}")) };
        };
        let head = String::from_utf8_lossy(&self.read.drain(..end).collect::<Vec<_>>()).into_owned();
        let mut lines = head.lines();
        let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, "HTTP/1.1"] = first[..] else { return self.stray(format!("no request line: {head:?}")) };
        let headers: Vec<(String, &str)> =
            lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim())).collect();
        let all = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect::<Vec<_>>();
        if target.starts_with("/smuggled") || all("host").len() != 1 {
            return self.stray(format!("no caller sent this: {head:?}"));
        }
        let upgrades = !all("upgrade").is_empty();
        let (length, coding) = (all("content-length"), all("transfer-encoding"));
        let framed = (length.len(), coding.len());
        if framed != (0, 0) && upgrades {
            return self.stray(format!("an upgrade with a length: {head:?}"));
        }
        let early = target.starts_with("/early");
        if early {
            self.answer(target, method)?;
        }
        if all("expect").iter().any(|e| e.eq_ignore_ascii_case("100-continue")) || target.starts_with("/continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let (body, end) = match framed {
            (0, 0) => (Vec::new(), End::Whole),
            (1, 0) => match length[0].parse() {
                Ok(length) => self.sized(length),
                Err(_) => return self.stray(format!("a length that is none: {head:?}")),
            },
            (0, 1) if coding[0] == "chunked" => self.chunked(),
            _ => return self.stray(format!("two framings or a coding: {head:?}")),
        };
        let whole = matches!(end, End::Whole);
        let path = target.to_owned();
        self.account.lock().expect("no panic inside").requests.entry(path).or_default().push(Received {
            method: method.to_owned(),
            body,
            whole,
        });
        if !whole {
            return None;
        }
        if early { Some(()) } else { self.answer(target, method) }
    }

    /// Answers as the path says; `None` where the connection is closed afterwards.
    fn answer(&mut self, target: &str, method: &str) -> Option<()> {
        let echo = format!("X-Echo: {target}\r\n");
        let ok = format!("HTTP/1.1 200 OK\r\n{echo}");
        let body = if method == "HEAD" { "" } else { "hello" };
        let plain = format!("{ok}Content-Length: 5\r\n\r\n{body}");
        let (text, goes_on) = match target.split('/').nth(1).unwrap_or_default() {
            "chunked" if method != "HEAD" => {
                (format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), true)
            }
            "close" => (format!("{ok}Connection: close\r\n\r\n{body}"), false),
            "empty" => (format!("HTTP/1.1 204 No Content\r\n{echo}\r\n"), true),
            "unchanged" => (format!("HTTP/1.1 304 Not Modified\r\n{echo}Content-Length: 5\r\n\r\n"), true),
            "switch" => (
                format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{echo}\r\n"),
                false,
            ),
            "more" => (format!("{plain}{UNASKED}"), true),
            "cut" => (format!("{ok}Content-Length: 50\r\n\r\n{body}"), false),
            "slow" => {
                std::thread::sleep(Duration::from_millis(5));
                (plain, true)
            }
            "hangup" => return None,
            _ => (plain, true),
        };
        self.stream.write_all(text.as_bytes()).ok()?;
        if !goes_on {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
        goes_on.then_some(())
    }

    /// Reads until `found` returns a result; `None` at the connection's end.
    fn until<T>(&mut self, mut found: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        let mut chunk = [0; 16384];
        loop {
            if let Some(found) = found(&self.read) {
                return Some(found);
            }
            match self.stream.read(&mut chunk) {
                Ok(n) if n > 0 => self.read.extend_from_slice(&chunk[..n]),
                _ => return None,
            }
        }
    }

    fn sized(&mut self, length: usize) -> (Vec<u8>, End) {
        match self.until(|read| (read.len() >= length).then_some(())) {
            Some(()) => (self.read.drain(..length).collect(), End::Whole),
            None => (std::mem::take(&mut self.read), End::Cut),
        }
    }

    fn chunked(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            let Some(end) = self.until(|read| read.windows(2).position(|w| w == b"\r\n")) else {
                return (body, End::Cut);
            };
            let size = String::from_utf8_lossy(&self.read[..end]).into_owned();
            let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16) else {
                self.stray(format!("no chunk size: {size:?}"));
                return (body, End::Cut);
            };
            self.read.drain(..end + 2);
            // Trailers are never forwarded, so an empty line follows the last chunk.
            let (part, end) = self.sized(size + 2);
            let End::Whole = end else { return (body, End::Cut) };
            if !part.ends_with(b"\r\n") {
                self.stray(format!("a chunk that does not end: {part:?}"));
                return (body, End::Cut);
            }
            if size == 0 {
                return (body, End::Whole);
            }
            body.extend_from_slice(&part[..size]);
        }
    }
}

/// The number of uses of a path, so that each request has one of its own.
static SENT: AtomicU64 = AtomicU64::new(0);

/// Plays one client whose choices are the bytes of `script`, on up to a few connections. Returns the bodies it sent, by
/// path, and the faults of the answers that it got.
pub fn client(gateway: SocketAddr, script: &[u8]) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (mut sent, mut problems) = (BTreeMap::new(), Vec::new());
    let mut stream: Option<TcpStream> = None;
    for step in script.chunks_exact(2) {
        let (behaviour, framing) = (step[0], step[1]);
        let kind = [
            "plain",
            "chunked",
            "close",
            "empty",
            "unchanged",
            "early",
            "switch",
            "more",
            "cut",
            "slow",
            "hangup",
            "continue",
        ];
        let path = format!("/{}/{}", kind[usize::from(behaviour) % kind.len()], SENT.fetch_add(1, Ordering::Relaxed));
        let body = match behaviour / 64 {
            0 => String::new(),
            1 => SMUGGLED.to_owned(),
            2 => format!("{}{SMUGGLED}", "x".repeat(40_000)),
            _ => format!("0\r\n\r\n{SMUGGLED}"),
        };
        let (bytes, keeps, whole) = written(&path, &body, framing);
        sent.insert(path.clone(), if whole == Whole::Nothing { Vec::new() } else { body.into_bytes() });
        let mut connection = match stream.take().map_or_else(|| TcpStream::connect(gateway), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                problems.push(format!("{path}: no connection: {error}"));
                continue;
            }
        };
        let _ = connection.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = connection.write_all(&bytes);
        if whole == Whole::Cut {
            continue;
        }
        let Some((head, complete)) = answer(&mut connection, bytes.starts_with(b"HEAD")) else { continue };
        let echo = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("x-echo: ").map(str::to_owned));
        if echo.as_ref().is_some_and(|echo| *echo != path) {
            problems.push(format!("{path}: got the answer to {echo:?}"));
        }
        if keeps && complete && !head.to_ascii_lowercase().contains("connection: close") {
            stream = Some(connection);
        }
    }
    (sent, problems)
}

/// The part of the announced body that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    All,
    Nothing,
    Cut,
}

/// The bytes of a request; whether the connection may be used again; the number of the body's bytes in them.
fn written(path: &str, body: &str, framing: u8) -> (Vec<u8>, bool, Whole) {
    let length = body.len();
    let chunks = if length == 0 { "0\r\n\r\n".to_owned() } else { format!("{length:x}\r\n{body}\r\n0\r\n\r\n") };
    let head = |method: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{more}");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (text, keeps, whole) = match framing % 14 {
        0 => (head("GET", "\r\n"), true, Whole::Nothing),
        1 => (format!("{}{body}", head("POST", &format!("Content-Length: {length}\r\n\r\n"))), true, Whole::All),
        2 => (format!("{}{chunks}", head("POST", "Transfer-Encoding: chunked\r\n\r\n")), true, Whole::All),
        3 => (format!("{}{body}", head("GET", &format!("Content-Length: {length}\r\n\r\n"))), true, Whole::All),
        4 => (format!("{}{chunks}", head("GET", "Transfer-Encoding: chunked\r\n\r\n")), true, Whole::All),
        5 => (head("HEAD", "\r\n"), true, Whole::Nothing),
        6 => {
            (format!("{}{body}", head("GET", &format!("{upgrade}Content-Length: {length}\r\n\r\n"))), false, Whole::All)
        }
        7 => (
            format!("{}{chunks}", head("GET", &format!("{upgrade}Transfer-Encoding: chunked\r\n\r\n"))),
            false,
            Whole::All,
        ),
        // Bytes after a handshake would be a request of their own to an upstream that declines, and are one here.
        8 => (head("GET", &format!("{upgrade}\r\n")), false, Whole::Nothing),
        9 => (format!("{}{chunks}", head("POST", "Transfer-Encoding: gzip, chunked\r\n\r\n")), false, Whole::All),
        10 => {
            (format!("{}{body}", head("POST", &format!("Content-Length: {}\r\n\r\n", length + 100))), false, Whole::Cut)
        }
        11 => {
            (format!("{}{length:x}\r\n{body}", head("POST", "Transfer-Encoding: chunked\r\n\r\n")), false, Whole::Cut)
        }
        12 => {
            let both = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n");
            (format!("{}{chunks}", head("POST", &both)), false, Whole::All)
        }
        _ => {
            let trailer = "Trailer: x-authenticated-userid\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunks =
                format!("{}X-Authenticated-UserId: admin\r\n\r\n", chunks.trim_end_matches("\r\n").to_owned() + "\r\n");
            (format!("{}{chunks}", head("POST", trailer)), false, Whole::All)
        }
    };
    (text.into_bytes(), keeps, whole)
}

/// The head of a final answer, and whether its body arrived completely.
fn answer(stream: &mut TcpStream, is_head: bool) -> Option<(String, bool)> {
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let lower = head.to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        if status == 100 {
            continue;
        }
        if is_head || matches!(status, 101 | 204 | 304) {
            return Some((head, status != 101));
        }
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let whole = match length {
            Some(length) => stream.read_exact(&mut vec![0; length]).is_ok(),
            None if lower.contains("transfer-encoding: chunked") => {
                let mut read = Vec::new();
                while !read.ends_with(b"0\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => read.push(byte[0]),
                        _ => break,
                    }
                }
                read.ends_with(b"0\r\n\r\n")
            }
            None => {
                let _ = stream.read_to_end(&mut Vec::new());
                false
            }
        };
        return Some((head, whole));
    }
}

/// Compares the requests of clients with those that an upstream received; describes the differences.
pub fn differences(sent: &BTreeMap<String, Vec<u8>>, account: &Account) -> Vec<String> {
    let mut found = account.strays.clone();
    for (path, received) in &account.requests {
        match (sent.get(path), received.as_slice()) {
            (None, _) => found.push(format!("no client sent {path}")),
            (Some(body), [Received { body: got, whole: true, .. }]) if got != body => {
                found.push(format!("{path}: another body: {} bytes", got.len()))
            }
            (Some(body), [Received { body: got, whole: false, .. }]) if !body.starts_with(got) => {
                found.push(format!("{path}: another beginning"))
            }
            (Some(_), [_]) => {}
            // Paths that begin so are left without an answer, so a reader's request is sent once more.
            (Some(_), [one, other]) if path.starts_with("/hangup") && one.is_repeatable() && other.is_repeatable() => {}
            (Some(_), many) => found.push(format!("{path} arrived {} times", many.len())),
        }
    }
    found
}
