use std::io::Read;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use idm_types::Timestamp;
use serde_json::{Value, json};

use crate::{demo, state};

/// Decode tokens, and mint them with the demo's key
#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a token that the demo accepts
    Mint(Mint),
    /// Show header and claims of a token, without believing them
    Decode(Decode),
}

/// Make a token that the demo accepts
#[derive(Args)]
pub(crate) struct Mint {
    /// The user (claim `sub`)
    #[arg(long)]
    user: String,
    /// A role (claim `roles`); may be repeated
    #[arg(long = "role")]
    roles: Vec<String>,
    /// The audience (claim `aud`)
    #[arg(long, default_value = demo::AUDIENCE)]
    audience: String,
    /// Seconds until it expires; a negative number makes an expired token
    #[arg(long, default_value_t = 300, allow_hyphen_values = true)]
    expires_in_seconds: i64,
}

/// Show header and claims of a token, without believing them
#[derive(Args)]
pub(crate) struct Decode {
    /// The token; `-` reads it from standard input, which keeps it out of the shell's history
    token: String,
}

impl Token {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Token::Mint(Mint { user, roles, audience, expires_in_seconds }) => {
                println!("{}", mint(&user, &roles, &audience, expires_in_seconds, Timestamp::now())?);
                Ok(())
            }
            Token::Decode(Decode { token }) => decode(&token),
        }
    }
}

pub(crate) fn mint(user: &str, roles: &[String], audience: &str, expires_in: i64, now: Timestamp) -> anyhow::Result<String> {
    let now = now.seconds();
    let claims = json!({"iss": demo::ISSUER, "aud": audience, "sub": user, "roles": roles, "iat": now, "exp": now.saturating_add_signed(expires_in)});
    Ok(state::demo_key()?.sign(&claims)?)
}

fn decode(token: &str) -> anyhow::Result<()> {
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text)?;
    }
    let parts: Vec<&str> = text.trim().split('.').collect();
    let [header, claims, _] = parts.as_slice() else { anyhow::bail!("a signed token has three parts, this has {}", parts.len()) };
    for (name, part) in [("header", header), ("claims", claims)] {
        let bytes = URL_SAFE_NO_PAD.decode(part).with_context(|| format!("the {name} is not base64url"))?;
        let value: Value = serde_json::from_slice(&bytes).with_context(|| format!("the {name} is not JSON"))?;
        println!("{name}: {value:#}");
    }
    println!("not verified: anyone could have written this");
    Ok(())
}
