//! Writes what the benchmark's callers present: keys and many distinct tokens of each algorithm. Run by
//! `tests/bench/peers.py`.
//!
//!   tokens DIR COUNT EXP     jwks.json, RS256.jwk and ES256.jwk (private keys), RS256.txt and ES256.txt in DIR; the
//!                            tokens end at EXP, in seconds of Unix time

use std::io::Write;
use std::path::Path;

use idm_jose::SigningKey;
use idm_types::Algorithm;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &str| arguments.next().ok_or(format!("{name} must be given"));
    let (dir, count, exp) = (next("DIR")?, next("COUNT")?.parse::<u32>()?, next("EXP")?.parse::<u64>()?);
    let dir = Path::new(&dir);
    let mut keys: Vec<Value> = Vec::new();
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let key = SigningKey::generate(algorithm, &algorithm.to_string())?;
        keys.extend(key.jwks()["keys"].as_array().into_iter().flatten().cloned());
        std::fs::write(dir.join(format!("{algorithm}.jwk")), key.reveal_jwk())?;
        let mut file = std::io::BufWriter::new(std::fs::File::create(dir.join(format!("{algorithm}.txt")))?);
        for number in 0..count {
            let claims = json!({
                "iss": "https://bench", "aud": "bench", "sub": format!("user-{number}"), "jti": number.to_string(),
                "iat": exp.saturating_sub(86_400), "exp": exp, "roles": ["reader", "writer"],
            });
            writeln!(file, "{}", key.sign_payload(&key.header(), claims.to_string().as_bytes())?.compact())?;
        }
    }
    std::fs::write(dir.join("jwks.json"), json!({"keys": keys}).to_string())?;
    Ok(())
}
