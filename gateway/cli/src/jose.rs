use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use idm_jose::{DecryptionKeys, EncryptionKey, Jwe, JweExpectations, Jws, JwsForm, KeySet, SigningKey, system_entropy};
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::{Map, Value};

use crate::input;

const MAX_BYTES: usize = 16 << 20;

/// Sign, verify, encrypt and decrypt (RFC 7515, RFC 7516)
#[derive(Subcommand)]
pub(crate) enum Jose {
    /// Sign a payload
    Sign(Sign),
    /// Verify a signature and print the payload
    Verify(Verify),
    /// Encrypt a payload
    Encrypt(Encrypt),
    /// Decrypt and print the payload
    Decrypt(Decrypt),
}

/// Sign a payload
#[derive(Args)]
pub(crate) struct Sign {
    /// The private or symmetric key: JWK or PEM
    #[arg(long)]
    key: PathBuf,
    /// The algorithm, for example ES256
    #[arg(long, value_parser = algorithm)]
    algorithm: Algorithm,
    /// The payload: a file, or `-` for standard input
    #[arg(default_value = "-")]
    payload: PathBuf,
    /// A further protected header member, as NAME=VALUE (JSON or plain text); may be repeated
    #[arg(long = "header", value_parser = member)]
    headers: Vec<(String, Value)>,
    /// Leave the payload out of the result
    #[arg(long, conflicts_with = "json")]
    detached: bool,
    /// Print the flattened JSON serialization
    #[arg(long)]
    json: bool,
}

/// Verify a signature and print the payload
#[derive(Args)]
pub(crate) struct Verify {
    /// The keys: a JWKS, a JWK or PEM
    #[arg(long)]
    key: PathBuf,
    /// An algorithm that is accepted; may be repeated
    #[arg(long = "algorithm", value_parser = algorithm, required = true)]
    algorithms: Vec<Algorithm>,
    /// The signed object in compact or JSON form: a file, or `-` for standard input
    #[arg(default_value = "-")]
    object: PathBuf,
    /// The payload, where it travels apart
    #[arg(long, value_name = "FILE")]
    detached: Option<PathBuf>,
}

/// Encrypt a payload
#[derive(Args)]
pub(crate) struct Encrypt {
    /// The recipient's public key, or the shared symmetric key: JWK or PEM
    #[arg(long)]
    key: PathBuf,
    /// The key management algorithm, for example RSA-OAEP-256 or ECDH-ES+A256KW
    #[arg(long, value_parser = key_management)]
    algorithm: KeyManagement,
    /// The content encryption algorithm
    #[arg(long, value_parser = content_encryption, default_value = "A256GCM")]
    encryption: ContentEncryption,
    /// The plaintext: a file, or `-` for standard input
    #[arg(default_value = "-")]
    payload: PathBuf,
    /// A further protected header member, as NAME=VALUE (JSON or plain text); may be repeated
    #[arg(long = "header", value_parser = member)]
    headers: Vec<(String, Value)>,
    /// Print the flattened JSON serialization
    #[arg(long)]
    json: bool,
}

/// Decrypt and print the payload
#[derive(Args)]
pub(crate) struct Decrypt {
    /// The private or symmetric key: JWKS, JWK or PEM
    #[arg(long)]
    key: PathBuf,
    /// A key management algorithm that is accepted; may be repeated [default: all but the password-based ones]
    #[arg(long = "algorithm", value_parser = key_management)]
    algorithms: Vec<KeyManagement>,
    /// The encrypted object in compact or JSON form: a file, or `-` for standard input
    #[arg(default_value = "-")]
    object: PathBuf,
}

pub(crate) fn algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(name).ok_or_else(|| format!("it must be one of {}", names(Algorithm::ALL)))
}

fn key_management(name: &str) -> Result<KeyManagement, String> {
    KeyManagement::from_name(name).ok_or_else(|| format!("it must be one of {}", names(KeyManagement::ALL)))
}

fn content_encryption(name: &str) -> Result<ContentEncryption, String> {
    ContentEncryption::from_name(name).ok_or_else(|| format!("it must be one of {}", names(ContentEncryption::ALL)))
}

fn names(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(crate) fn member(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

impl Jose {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Jose::Sign(sign) => say!("{}", sign.run()?),
            Jose::Encrypt(encrypt) => say!("{}", encrypt.run()?),
            Jose::Verify(verify) => crate::print::content(&verify.run()?)?,
            Jose::Decrypt(decrypt) => crate::print::content(&decrypt.run()?)?,
        }
        Ok(())
    }
}

impl Sign {
    fn run(self) -> anyhow::Result<String> {
        let key = SigningKey::from_jwk(&input::key(&self.key)?, self.algorithm)?;
        let mut header = key.header();
        header.extend(self.headers);
        let signed = key.sign_payload(&header, &input::bytes(&self.payload)?)?;
        Ok(match (self.detached, self.json) {
            (true, _) => signed.detached(),
            (_, true) => signed.flattened().to_string(),
            _ => signed.compact(),
        })
    }
}

/// Keys to verify with: a set, or one key in any form.
pub(crate) fn verification_keys(path: &std::path::Path, algorithms: &[Algorithm]) -> anyhow::Result<KeySet> {
    let all = input::bytes(path)?;
    let keys = if serde_json::from_slice::<Value>(&all).is_ok_and(|value| value.get("keys").is_some()) {
        KeySet::parse_secret(&all, algorithms)
    } else {
        KeySet::parse_secret(input::key(path)?.reveal().to_string().as_bytes(), algorithms)
    };
    keys.with_context(|| format!("{} holds no key for {}", path.display(), names(algorithms)))
}

impl Verify {
    fn run(self) -> anyhow::Result<Vec<u8>> {
        let keys = verification_keys(&self.key, &self.algorithms)?;
        let payload = self.detached.as_deref().map(input::bytes).transpose()?;
        let form = JwsForm { detached: payload.as_deref(), max_bytes: MAX_BYTES };
        let text = input::text(&self.object)?;
        let text = text.trim();
        let all =
            if text.starts_with('{') { Jws::parse_json(text, form)? } else { vec![Jws::parse_compact(text, form)?] };
        let mut last = None;
        for jws in all {
            match jws.verify(&keys, &self.algorithms) {
                Ok(verified) => return Ok(verified.payload),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.into()),
            None => bail!("there is no signature"),
        }
    }
}

impl Encrypt {
    fn run(self) -> anyhow::Result<String> {
        let key = EncryptionKey::from_jwk(&input::key(&self.key)?, self.algorithm)?;
        let header: Map<String, Value> = self.headers.into_iter().collect();
        let made = key.encrypt(self.encryption, header, &input::bytes(&self.payload)?, &mut system_entropy)?;
        Ok(if self.json { made.flattened().to_string() } else { made.compact() })
    }
}

impl Decrypt {
    fn run(self) -> anyhow::Result<Vec<u8>> {
        let usual: Vec<KeyManagement> =
            KeyManagement::ALL.iter().copied().filter(|algorithm| !algorithm.is_password_based()).collect();
        let algorithms = if self.algorithms.is_empty() { usual } else { self.algorithms };
        let all = input::bytes(&self.key)?;
        let jwk = if all.trim_ascii_start().starts_with(b"{") {
            all
        } else {
            input::key(&self.key)?.reveal().to_string().into_bytes()
        };
        let keys = DecryptionKeys::parse(&jwk, &algorithms)
            .with_context(|| format!("{} holds no key for these algorithms", self.key.display()))?;
        let text = input::text(&self.object)?;
        let text = text.trim();
        let jwe = if text.starts_with('{') { Jwe::parse_json(text)? } else { Jwe::parse(text)? };
        let expected = JweExpectations {
            key_management: &algorithms,
            content_encryption: ContentEncryption::ALL,
            compressed: true,
        };
        Ok(jwe.decrypt(&keys, &expected)?.payload)
    }
}
