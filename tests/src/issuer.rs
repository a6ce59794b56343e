use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use idm_jose::SigningKey;
use serde_json::{Value, json};

/// An issuer that serves discovery and keys, and that a test can make misbehave.
pub struct Issuer {
    /// The address that it listens on.
    pub address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    fetches: Arc<AtomicUsize>,
}

struct Answers {
    status: u16,
    jwks: String,
    issuer: String,
}

impl Issuer {
    /// Serves the keys of `key`.
    pub fn new(key: &SigningKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(Mutex::new(Answers {
            status: 200,
            jwks: key.jwks().to_string(),
            issuer: format!("http://{address}"),
        }));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (shared, counted) = (answers.clone(), fetches.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, counted) = (shared.clone(), counted.clone());
                std::thread::spawn(move || answer(stream, address, &shared, &counted));
            }
        });
        Self { address, answers, fetches }
    }

    /// The `iss` of its tokens.
    pub fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves this text instead of the keys.
    pub fn serve(&self, status: u16, jwks: &str) {
        let mut answers = self.answers.lock().expect("no panic inside");
        (answers.status, answers.jwks) = (status, jwks.to_owned());
    }

    /// Claims to be another issuer in its configuration.
    pub fn claim_to_be(&self, issuer: &str) {
        self.answers.lock().expect("no panic inside").issuer = issuer.to_owned();
    }

    /// The number of times that the keys were fetched.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Claims of a valid token for the audience `orders`.
    pub fn claims(&self, user: &str) -> Value {
        json!({"iss": self.name(), "aud": "orders", "sub": user, "exp": now() + 300})
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn answer(mut stream: TcpStream, address: SocketAddr, answers: &Mutex<Answers>, fetches: &AtomicUsize) {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&chunk[..n]),
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let answers = answers.lock().expect("no panic inside");
    let (status, body) = if text.starts_with("GET /.well-known/openid-configuration ") {
        (200, json!({"issuer": answers.issuer, "jwks_uri": format!("http://{address}/keys")}).to_string())
    } else {
        fetches.fetch_add(1, Ordering::Relaxed);
        (answers.status, answers.jwks.clone())
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n\
         {body}",
        body.len()
    );
}
