//! Files that the demo keeps between runs, in the user's state folder: readable by their owner only.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use idm_jose::{Jwk, SigningKey};
use idm_types::{Algorithm, ApiKey};

/// `IDM_STATE_DIR`, else `idm` in the user's state folder.
pub(crate) fn dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("IDM_STATE_DIR")
        .or_else(|| var("XDG_STATE_HOME").map(|dir| dir.join("idm")))
        .or_else(|| var("HOME").map(|home| home.join(".local/state/idm")))
        .unwrap_or_else(|| PathBuf::from(".idm"))
}

/// The folder to which `demo` and `run` write the audit unless told otherwise.
pub(crate) fn audit_dir() -> PathBuf {
    dir().join("audit")
}

/// The demo's signing key; made on first use.
pub(crate) fn demo_key() -> anyhow::Result<SigningKey> {
    let path = dir().join("demo-key.jwk");
    if let Ok(jwk) = std::fs::read(&path) {
        let read = Jwk::parse(&jwk)
            .map_err(anyhow::Error::from)
            .and_then(|jwk| Ok(SigningKey::from_jwk(&jwk, Algorithm::ES256)?));
        return read.with_context(|| format!("{}: remove it to get a new one", path.display()));
    }
    let key = SigningKey::generate(Algorithm::ES256, "demo")?;
    write_private(&path, key.reveal_jwk().as_bytes())?;
    Ok(key)
}

/// The demo's API key; made on first use.
pub(crate) fn demo_api_key() -> anyhow::Result<ApiKey> {
    let path = dir().join("demo-api-key");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return ApiKey::parse(text.trim_end())
            .with_context(|| format!("{} holds no API key: remove it to get a new one", path.display()));
    }
    let key = idm_manager::new_api_key()?;
    write_private(&path, key.reveal().as_bytes())?;
    Ok(key)
}

/// Writes a file that only its owner reads.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(context)?;
    }
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).with_context(context)?;
    file.write_all(bytes).with_context(context)
}
