//! `idm seal`, and the options by which processes find the keys of what is sealed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use idm_envelope::{Envelope, KeyCommand, KeyFolder, KeySet};
use idm_operator::sealing::{Census, Sealing, SealingOptions};
use kube::Client;
use serde_json::json;

use crate::credential::not_connected;

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

/// Work with what is sealed in a cluster
#[derive(Subcommand)]
pub(crate) enum Seal {
    /// Print a Secret with a new key, under which everything can be sealed
    Keys(Keys),
    /// Count the stored values of each key, and say which keys may be removed
    Status(Place),
    /// Seal everything under the key for new values; begin again when it was ended
    Rekey(Place),
}

/// Print a Secret with a new key, under which everything can be sealed
#[derive(Args)]
pub(crate) struct Keys {
    /// The id of the key: every sealed value names it
    #[arg(long, value_parser = key_id)]
    id: String,
    /// The name of the Secret
    #[arg(long, default_value = "idm-seal-keys")]
    name: String,
}

fn key_id(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // It becomes a key in YAML, where a date is none that stays as it is.
    let is_id = text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.len() <= 200;
    match is_id && text.bytes().all(fits) && !["primary", "namespace"].contains(&text) {
        true => Ok(text.to_owned()),
        false => Err("give a letter, and letters, digits, dashes, dots and underscores, for example key-1".to_owned()),
    }
}

/// The cluster, and its keys
#[derive(Args)]
pub(crate) struct Place {
    /// The operator's namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "idm-system")]
    namespace: String,
    #[command(flatten)]
    sealing: SealingOptions,
}

impl Seal {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Seal::Keys(keys) => keys.run().map(|()| ExitCode::SUCCESS),
            Seal::Status(place) => {
                let census = place.sealing().await?.census().await?;
                Ok(print(&census))
            }
            Seal::Rekey(place) => {
                let sealing = place.sealing().await?;
                let done = sealing.rekey(|name| complain!("Secret {name}")).await?;
                say!("{} Secrets written, {} needed nothing", done.written, done.unchanged);
                Ok(print(&sealing.census().await?))
            }
        }
    }
}

impl Keys {
    fn run(&self) -> anyhow::Result<()> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok().context("the system gives no random bits")?;
        let key = STANDARD.encode(bytes);
        // The printed Secret is what the operator reads.
        let fields = [("primary", self.id.as_str()), (self.id.as_str(), key.as_str())];
        KeySet::parse(fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())))?;
        let data: serde_json::Map<_, _> =
            fields.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}, "stringData": data});
        Ok(crate::print::lines(&serde_yaml_ng::to_string(&secret)?))
    }
}

impl Place {
    async fn sealing(&self) -> anyhow::Result<Sealing> {
        let client = Client::try_default().await.map_err(not_connected)?;
        let sealing = self.sealing.sealing(&client, &self.namespace).await?;
        sealing.context("say where the keys are: --seal-key-secret, or --seal-command with --seal-key-id")
    }
}

/// Prints a count. The exit code is 1 where something does not open, or is in the clear.
fn print(census: &Census) -> ExitCode {
    let others = census.known.iter().filter(|id| !census.by_key.contains_key(*id)).map(|id| (id, &0));
    for (id, count) in census.by_key.iter().chain(others) {
        let note = match () {
            () if *id == census.primary => "for new values",
            () if census.missing().any(|missing| missing == id) => "MISSING: put this key back",
            () if census.removable().any(|free| free == id) => "may be removed",
            () => "in use: `idm seal rekey` ends that",
        };
        say!("{id}  {count}  {note}");
    }
    for (secrets, what) in [(&census.clear, "is in the clear"), (&census.unreadable, "is damaged, or newer")] {
        secrets.iter().for_each(|secret| say!("Secret {secret} {what}"));
    }
    let is_well = census.clear.is_empty() && census.unreadable.is_empty() && census.missing().next().is_none();
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
