//! `idm seal`, and the options by which processes find the keys of what is sealed.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use idm_envelope::{Envelope, KeyCommand, KeyFolder};

/// The keys of what is sealed
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SealArgs {
    /// Folder with the keys of what is sealed: a mounted Secret. With it everything must be sealed
    #[arg(long, env = "IDM_SEAL_KEYS", conflicts_with = "seal_command")]
    seal_keys: Option<PathBuf>,
    /// Program, with arguments behind it, that unwraps keys of what is sealed. With it everything must be sealed
    #[arg(long, env = "IDM_SEAL_COMMAND", value_delimiter = ' ')]
    seal_command: Vec<String>,
}

impl SealArgs {
    /// Opens what is sealed; `None` where nothing is.
    pub(crate) fn envelope(&self) -> anyhow::Result<Option<Arc<Envelope>>> {
        if let Some(folder) = &self.seal_keys {
            return Ok(Some(Arc::new(Envelope::new(KeyFolder(folder.clone())))));
        }
        if self.seal_command.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Envelope::new(KeyCommand::new(&self.seal_command, None)?))))
    }
}
