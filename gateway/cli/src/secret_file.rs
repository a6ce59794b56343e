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

    /// The secret, without the space around it.
    pub(crate) fn text(&self) -> anyhow::Result<Redacted<String>> {
        let bytes = match &self.opened {
            Some(opened) => opened.clone(),
            None => Redacted::new(self.bytes()?),
        };
        let text = std::str::from_utf8(bytes.reveal());
        let text = text.map_err(|_| anyhow::anyhow!("{} must hold text", self.path.display()))?;
        Ok(Redacted::new(text.trim().to_owned()))
    }
}
