//! `idm audit verify`, over a folder or the indices of a server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use idm_audit::{ChainHead, ServerReader};

use crate::options::{ChainArgs, ElasticsearchArgs};
use crate::state;

/// Say whether the records of a folder, or those on a server, are those that were written
///
/// Ends with 1 when a record was changed, removed, added or moved. What a crash leaves, or retention removes, is told
/// apart.
#[derive(Args)]
pub(crate) struct Verify {
    /// Folder with audit records [default: audit in the idm state folder]
    #[arg(env = "IDM_AUDIT_DIR")]
    dir: Option<PathBuf>,
    /// The head of the chain as the log of its process had it, so that an end that was cut off is found; may be given
    /// several times
    #[arg(long, value_name = "CHAIN:NUMBER:HASH")]
    head: Vec<ChainHead>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

impl Verify {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(server) = self.elasticsearch.options()? {
            anyhow::ensure!(self.dir.is_none(), "name a folder or --elasticsearch, not both");
            return self.server(ServerReader::new(server)?).await;
        }
        let dir = self.dir.unwrap_or_else(state::audit_dir);
        let found = idm_audit::verify(&dir, &self.chain.key()?, &self.head)
            .with_context(|| format!("no audit records in {}: name their folder", dir.display()))?;
        for tampering in &found.tampering {
            say!("{tampering}");
        }
        if found.tampered > found.tampering.len() as u64 {
            say!("and {} more", found.tampered - found.tampering.len() as u64);
        }
        for trace in &found.traces {
            say!("note: {trace}");
        }
        match &found.head {
            Some(head) => say!("{} lines are as they were written; the chain ends at {head}", found.good),
            None => say!("there is no chain in {}", dir.display()),
        }
        Ok(if found.tampered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn server(&self, reader: ServerReader) -> anyhow::Result<ExitCode> {
        let found = reader.verify(&self.chain.key()?, &self.head).await?;
        for tampering in &found.tampering {
            say!("{}", idm_types::visible(&tampering.to_string()));
        }
        if found.tampered > found.tampering.len() as u64 {
            say!("and {} more", found.tampered - found.tampering.len() as u64);
        }
        if found.expired > 0 {
            say!("note: {} gaps are older than the oldest index: retention explains them", found.expired);
        }
        if found.unfounded > 0 {
            say!(
                "note: {} records follow one that is not there any more: nothing says whether they are as they were \
                  written",
                found.unfounded
            );
        }
        say!("{} records of {} chains are as they were written", found.good, found.heads.len());
        Ok(if found.tampered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
