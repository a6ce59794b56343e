use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use idm_jose::{Decoded, Expectations, SigningKey, Unverified};
use idm_types::{Algorithm, Skew, Timestamp};
use serde_json::{Value, json};

use crate::{demo, input, jose, state};

/// Decode, verify and mint tokens
#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a token: one that the demo accepts, or one signed with a key of yours
    Mint(Mint),
    /// Print a Secret with a new signing key for a token service
    Keys(Keys),
    /// Show header and claims of a token, without believing them
    Decode(Decode),
    /// Check a token as a gateway would, and show its claims
    Verify(Verify),
}

/// Make a token: one that the demo accepts, or one signed with a key of yours
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
    /// The issuer (claim `iss`)
    #[arg(long, default_value = demo::ISSUER)]
    issuer: String,
    /// Sign with this key (JWK or PEM) instead of the demo's
    #[arg(long, requires = "algorithm")]
    key: Option<PathBuf>,
    /// The algorithm of `--key`, for example RS256
    #[arg(long, value_parser = jose::algorithm, requires = "key")]
    algorithm: Option<Algorithm>,
    /// A further claim as NAME=VALUE (JSON or plain text); may be repeated
    #[arg(long = "claim", value_parser = jose::member)]
    claims: Vec<(String, Value)>,
}

/// Print a Secret with a new signing key for a token service
#[derive(Args)]
#[group(required = true, multiple = false, id = "place")]
pub(crate) struct Keys {
    /// For this policy, where the gateway looks for it when the policy names no Secret
    #[arg(long, group = "place")]
    policy: Option<String>,
    /// A Secret of this name, for a policy that names it
    #[arg(long, group = "place")]
    secret: Option<String>,
    /// The algorithm that the key signs with
    #[arg(long, value_parser = jose::algorithm, default_value = "ES256")]
    algorithm: Algorithm,
}

impl Keys {
    fn run(&self) -> anyhow::Result<()> {
        let keys = idm_compile::new_signing_keys(self.algorithm, Timestamp::now())
            .context("the algorithm must be an asymmetric one")?;
        let (name, field) = match (&self.policy, &self.secret) {
            (Some(policy), _) => (idm_compile::SIGNING_SECRET, format!("{policy}.json")),
            (None, secret) => (secret.as_deref().unwrap_or_default(), "keys.json".into()),
        };
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {field: keys}});
        Ok(crate::print::lines(&serde_yaml_ng::to_string(&secret)?))
    }
}

/// Show header and claims of a token, without believing them
#[derive(Args)]
pub(crate) struct Decode {
    /// The token; `-` reads it from standard input, which keeps it out of the shell's history
    token: String,
}

/// Check a token as a gateway would, and show its claims
#[derive(Args)]
pub(crate) struct Verify {
    /// The token; `-` reads it from standard input, which keeps it out of the shell's history
    token: String,
    /// The issuer's keys: a JWKS, a JWK or PEM
    #[arg(long)]
    key: PathBuf,
    /// The exact issuer
    #[arg(long)]
    issuer: String,
    /// An accepted audience; may be repeated
    #[arg(long = "audience", required = true)]
    audiences: Vec<String>,
    /// An accepted algorithm; may be repeated
    #[arg(long = "algorithm", value_parser = jose::algorithm, default_values = ["RS256", "ES256"])]
    algorithms: Vec<Algorithm>,
    /// The allowed clock skew
    #[arg(long, default_value_t = 30)]
    clock_skew_seconds: u64,
}

impl Token {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Token::Mint(mint) => {
                say!("{}", mint.run(Timestamp::now())?);
                Ok(())
            }
            Token::Keys(keys) => keys.run(),
            Token::Decode(Decode { token }) => decode(&token),
            Token::Verify(verify) => verify.run(Timestamp::now()),
        }
    }
}

impl Mint {
    fn run(self, now: Timestamp) -> anyhow::Result<String> {
        let now = now.seconds();
        let mut claims = json!({"iss": self.issuer, "aud": self.audience, "sub": self.user, "roles": self.roles,
            "iat": now, "exp": now.saturating_add_signed(self.expires_in_seconds)});
        if let Some(members) = claims.as_object_mut() {
            members.extend(self.claims);
        }
        let key = match self.key.as_deref().zip(self.algorithm) {
            Some((path, algorithm)) => SigningKey::from_jwk(&input::key(path)?, algorithm)?,
            None => state::demo_key()?,
        };
        Ok(key.sign(&claims)?)
    }
}

impl Verify {
    fn run(self, now: Timestamp) -> anyhow::Result<()> {
        let keys = jose::verification_keys(&self.key, &self.algorithms)?;
        let skew = Skew::from_seconds(self.clock_skew_seconds);
        let expected = Expectations {
            client_ids: &[],
            issuer: &self.issuer,
            audiences: &self.audiences,
            algorithms: &self.algorithms,
            types: &[],
            skew,
        };
        let token = input::value(&self.token)?;
        let verified = Unverified::parse(&token).and_then(|token| token.verify(&keys, &expected, now));
        let verified =
            verified.map_err(|error| anyhow::anyhow!("{}: {error}\n{}", error.reason(), error.reason().fix()))?;
        crate::print::json("", &Value::Object(verified.claims().members().clone()));
        Ok(())
    }
}

pub(crate) fn mint(
    user: &str,
    roles: &[String],
    audience: &str,
    expires_in: i64,
    now: Timestamp,
) -> anyhow::Result<String> {
    let now = now.seconds();
    let claims = json!({"iss": demo::ISSUER, "aud": audience, "sub": user, "roles": roles, "iat": now,
        "exp": now.saturating_add_signed(expires_in)});
    Ok(state::demo_key()?.sign(&claims)?)
}

fn decode(token: &str) -> anyhow::Result<()> {
    let text = input::value(token)?;
    let Decoded { header, claims } = Decoded::read(&text)?;
    let name = if claims.is_some() { "header" } else { "header of an encrypted token" };
    crate::print::json(&format!("{name}: "), &header);
    if let Some(claims) = claims {
        crate::print::json("claims: ", &claims);
    }
    say!("not verified: anyone could have written this");
    Ok(())
}
