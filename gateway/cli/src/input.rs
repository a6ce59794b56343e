//! Files and standard input, as every offline tool reads them.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use idm_jose::{Jwk, PrivateKeyForm, jwk_of_spki};

/// A file; `-` is standard input, which keeps secrets out of the shell's history.
pub(crate) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut all = Vec::new();
        std::io::stdin().read_to_end(&mut all)?;
        return Ok(all);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file as text without its final line ends.
pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(bytes(path)?).with_context(|| format!("{} is not text", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// An argument that is the value itself, or `-` for standard input.
pub(crate) fn value(argument: &str) -> anyhow::Result<String> {
    if argument == "-" { Ok(text(Path::new("-"))?.trim().to_owned()) } else { Ok(argument.to_owned()) }
}

/// One key: a JWK, or PEM with a private key (PKCS#8, PKCS#1, SEC1) or a public key.
pub(crate) fn key(path: &Path) -> anyhow::Result<Jwk> {
    let all = bytes(path)?;
    let context = || format!("{} holds no usable key", path.display());
    if all.trim_ascii_start().starts_with(b"{") {
        return Jwk::parse(&all).with_context(context);
    }
    let text = std::str::from_utf8(&all).with_context(context)?;
    let (label, der) =
        pkcs8::Document::from_pem(text).map_err(|_| anyhow::anyhow!("neither a JWK nor PEM")).with_context(context)?;
    if label == "PUBLIC KEY" {
        return jwk_of_spki(der.as_bytes()).with_context(context);
    }
    match PrivateKeyForm::ALL.iter().find(|form| form.label() == label) {
        Some(form) => form.jwk(der.as_bytes()).with_context(context),
        None => bail!("{} is a {label}; a private key or a PUBLIC KEY is read", path.display()),
    }
}
