//! Files that hold one secret: in the clear, or sealed where they are fields of a mounted Secret.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use idm_gateway::source::Opener;
use idm_types::Redacted;

/// A file with a secret.
#[derive(Clone, Debug)]
pub(crate) struct SecretFile {
    path: PathBuf,
    opened: Option<Redacted<Vec<u8>>>,
}

impl FromStr for SecretFile {
    type Err = Infallible;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Ok(Self { path: path.into(), opened: None })
    }
}

impl std::fmt::Display for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)
    }
}

impl SecretFile {
    /// Opens it as the field of a Secret that has the file's name.
    pub(crate) async fn open(&mut self, opener: &Opener, secret: &str) -> anyhow::Result<()> {
        let field = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let opened = opener.open(secret, field, &self.bytes()?).await;
        self.opened = Some(opened.with_context(|| self.path.display().to_string())?);
        Ok(())
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }

    fn content(&self) -> anyhow::Result<Redacted<Vec<u8>>> {
        match &self.opened {
            Some(opened) => Ok(opened.clone()),
            None => Ok(Redacted::new(self.bytes()?)),
        }
    }

    /// The secret, which need not be text, without the space behind it.
    pub(crate) fn trimmed_end(&self) -> anyhow::Result<Redacted<Vec<u8>>> {
        Ok(Redacted::new(self.content()?.reveal().trim_ascii_end().to_vec()))
    }

    /// The secret, without the space around it.
    pub(crate) fn text(&self) -> anyhow::Result<Redacted<String>> {
        let bytes = self.content()?;
        let text = std::str::from_utf8(bytes.reveal());
        let text = text.map_err(|_| anyhow::anyhow!("{} must hold text", self.path.display()))?;
        Ok(Redacted::new(text.trim().to_owned()))
    }
}
