//! Measures the memory of 100,000 live sessions: `cargo run --release -p idm-session --example memory`.
//!
//! Each holds what a provider gives for a person: an id token of 1 KiB, an access token of 1.2 KiB, a refresh token of
//! 0.8 KiB, and a dozen claims.

use futures::executor::block_on;
use idm_session::{Session, Sessions, Tokens};
use idm_store::Store;
use idm_types::{Redacted, Timestamp};
use serde_json::{Map, json};

const SESSIONS: u64 = 100_000;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, now) = (Store::in_process(), Timestamp(1_800_000_000_000));
    let sessions = Sessions { store: &store };
    let token = |size: usize, seed: u64| Some(Redacted::new(format!("{seed:08}").repeat(size / 8)));
    let claims: Map<String, serde_json::Value> = json!({
        "iss": "https://idp.example/realms/shop", "sub": "7a4a9f0e-6a3e-4a0e-9b1a-0d9e2f5b7c11",
        "email": "ana@shop.example", "email_verified": true,
        "name": "Ana Example", "preferred_username": "ana", "groups": ["order-reader", "order-writer", "staff"],
        "auth_time": 1_800_000_000u64, "acr": "1",
        "azp": "shop", "aud": "shop", "iat": 1_800_000_000u64,
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    let before = resident_kib();
    let start = std::time::Instant::now();
    for seed in 0..SESSIONS {
        let tokens = Tokens {
            id_token: token(1024, seed),
            access: token(1200, seed),
            access_until: Some(now.0 + 300_000),
            refresh: token(800, seed),
        };
        let session = Session {
            federation: "uid".into(),
            issuer: "https://idp.example/realms/shop".into(),
            subject: format!("person-{seed}"),
            sid: Some(format!("sid-{seed}")),
            claims: claims.clone(),
            began: now.0,
            until: now.0 + 36_000_000,
            proved: now.seconds(),
            generation: block_on(sessions.generation("uid", &format!("person-{seed}"), now))?,
            tokens,
            refresh_at: now.0 + 270_000,
        };
        block_on(sessions.begin(&session, 1_800_000, now))?;
    }
    let (took, used) = (start.elapsed(), resident_kib().saturating_sub(before));
    println!(
        "{SESSIONS} sessions: {} MiB, {:.1} KiB each, begun in {:.1} µs each",
        used / 1024,
        used as f64 / SESSIONS as f64,
        took.as_micros() as f64 / SESSIONS as f64
    );
    Ok(())
}
