use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use idm_jose::{Jwk, generate_ec, generate_ed25519, generate_octets, generate_rsa, generate_x25519, pkcs8_of_jwk};
use pkcs8::der::pem::{LineEnding, PemLabel};

use crate::input;

/// Make, show and convert keys
#[derive(Subcommand)]
pub(crate) enum JwkCommand {
    /// Print a new private key
    New(New),
    /// Print the public part of a key
    Public(Public),
    /// Print the SHA-256 thumbprint of a key (RFC 7638)
    Thumbprint(OneKey),
    /// Print a key in another form
    Convert(Convert),
}

/// Print a new private key
#[derive(Args)]
pub(crate) struct New {
    /// The type of key
    #[arg(value_enum)]
    kind: Kind,
    /// Bits of an RSA key: 2048, 3072, 4096 or 8192
    #[arg(long, default_value_t = 2048)]
    bits: u32,
    /// Bytes of a symmetric key
    #[arg(long, default_value_t = 32)]
    bytes: usize,
    /// Name of the key [default: its thumbprint, or none for symmetric keys]
    #[arg(long)]
    kid: Option<String>,
    /// Its purpose: `sig` or `enc`
    #[arg(long = "use", value_parser = ["sig", "enc"])]
    purpose: Option<String>,
    /// The only algorithm it is for, for example ES256 or RSA-OAEP-256
    #[arg(long)]
    algorithm: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
    X25519,
    Oct,
}

/// Print the public part of a key
#[derive(Args)]
pub(crate) struct Public {
    /// The key: JWK or PEM; `-` reads it from standard input
    key: PathBuf,
    /// Print a JWKS that holds the key
    #[arg(long)]
    set: bool,
}

/// A key
#[derive(Args)]
pub(crate) struct OneKey {
    /// The key: JWK or PEM; `-` reads it from standard input
    key: PathBuf,
}

/// Print a key in another form
#[derive(Args)]
pub(crate) struct Convert {
    /// The key: JWK or PEM; `-` reads it from standard input
    key: PathBuf,
    /// The form to print
    #[arg(long, value_enum)]
    to: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// JSON Web Key
    Jwk,
    /// PEM with PKCS#8
    Pem,
}

impl JwkCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            JwkCommand::New(new) => say!("{}", new.key()?.reveal()),
            JwkCommand::Public(Public { key, set }) => {
                let public = input::key(&key)?.public().context("a symmetric key has no public part")?.reveal();
                say!("{}", if set { serde_json::json!({ "keys": [public] }) } else { public });
            }
            JwkCommand::Thumbprint(OneKey { key }) => {
                say!("{}", input::key(&key)?.thumbprint().context("the key lacks members that its thumbprint needs")?)
            }
            JwkCommand::Convert(Convert { key, to: Form::Jwk }) => say!("{}", input::key(&key)?.reveal()),
            JwkCommand::Convert(Convert { key, to: Form::Pem }) => {
                crate::print::lines(&private_pem(&input::key(&key)?)?);
            }
        }
        Ok(())
    }
}

/// A private key as PEM.
pub(crate) fn private_pem(key: &Jwk) -> anyhow::Result<String> {
    let der = pkcs8_of_jwk(key).context("only a private key can be written as PKCS#8")?;
    let pem = pkcs8::der::pem::encode_string(pkcs8::PrivateKeyInfo::PEM_LABEL, LineEnding::LF, der.reveal());
    pem.map_err(|error| anyhow::anyhow!("the key cannot be written as PEM: {error}"))
}

impl New {
    fn key(&self) -> anyhow::Result<Jwk> {
        let mut jwk = match self.kind {
            Kind::Rsa => generate_rsa(self.bits)?,
            Kind::P256 => generate_ec("P-256")?,
            Kind::P384 => generate_ec("P-384")?,
            Kind::P521 => generate_ec("P-521")?,
            Kind::Ed25519 => generate_ed25519()?,
            Kind::X25519 => generate_x25519()?,
            Kind::Oct => generate_octets(self.bytes)?,
        };
        // The thumbprint of a symmetric key would tell something about it.
        let thumbprint = jwk.public().and_then(|public| public.thumbprint());
        if let Some(kid) = self.kid.clone().or(thumbprint) {
            jwk = jwk.named(&kid);
        }
        for (name, value) in [("use", &self.purpose), ("alg", &self.algorithm)] {
            if let Some(value) = value {
                jwk = jwk.with(name, value);
            }
        }
        Ok(jwk)
    }
}
