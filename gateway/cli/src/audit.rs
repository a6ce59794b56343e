use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use idm_audit::{Follower, InOrder, StoredRecord};
use idm_types::DecisionId;
use serde_json::Value;

use crate::options::ElasticsearchArgs;
use crate::{print, state};

/// Say in plain words why a request was decided as it was
#[derive(Args)]
pub(crate) struct Explain {
    /// The decision id: in the answer's body and in its X-Decision-Id header
    id: String,
    /// Folder with audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

impl Explain {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let id: DecisionId = self.id.parse()?;
        let record = match self.elasticsearch.options()? {
            Some(server) => ask(&server, &id.to_string()).await?,
            None => {
                let dir = self.audit_dir.unwrap_or_else(state::audit_dir);
                idm_audit::find(&dir, &id.to_string()).with_context(|| {
                    format!(
                        "no audit records in {}: name their folder with --audit-dir, or --elasticsearch",
                        dir.display()
                    )
                })?
            }
        };
        match record {
            Some(record) => {
                print::lines(&record.explain());
                Ok(ExitCode::SUCCESS)
            }
            None => {
                complain!(
                    "error: no decision {id} in these records: it may be somewhere else (--audit-dir, --elasticsearch) \
                     or older than what is kept"
                );
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

async fn ask(server: &idm_audit::ship::Elasticsearch, id: &str) -> anyhow::Result<Option<StoredRecord>> {
    let mut builder = reqwest::Client::builder().timeout(Duration::from_secs(10));
    if let Some(pem) = &server.ca_pem {
        builder = reqwest::Certificate::from_pem_bundle(pem)?
            .into_iter()
            .fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    let mut request =
        builder.build()?.get(format!("{}/{}/_doc/{id}", server.url.trim_end_matches('/'), idm_audit::ship::INDEX));
    if let Some(authorization) = &server.authorization {
        request = request.header("authorization", authorization.reveal());
    }
    let answer = request.send().await.context("Elasticsearch cannot be reached")?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let document: Value = answer.error_for_status()?.json().await?;
    Ok(document.get("_source").cloned().map(StoredRecord::of))
}

/// Read the audit
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Print records as they are written
    Tail(Tail),
}

/// Print records as they are written
#[derive(Args)]
pub(crate) struct Tail {
    /// Folder with audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    /// Start with what is already there
    #[arg(long)]
    from_start: bool,
    /// Stop at the end instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Only refusals and failures
    #[arg(long)]
    denied: bool,
    /// The form of the output: one short line each, or the whole record
    #[arg(short, long, default_value = "short", value_parser = ["short", "json"])]
    output: String,
}

impl Audit {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Audit::Tail(tail) = self;
        let dir = tail.audit_dir.clone().unwrap_or_else(state::audit_dir);
        let context = || format!("no audit records in {}: name their folder with --audit-dir", dir.display());
        let mut follower = if tail.from_start || tail.no_follow {
            Follower::at(&dir, 0, 0)
        } else {
            Follower::at_end(&dir).with_context(context)?
        };
        let mut order = InOrder::default();
        loop {
            let lines = follower.next_lines(1 << 20).with_context(context)?;
            let now = Instant::now();
            let records = lines.iter().filter_map(|line| StoredRecord::parse(line));
            records.filter(|record| tail.wants(record)).for_each(|record| order.add(record, now));
            let is_last = lines.is_empty() && tail.no_follow;
            let due = if is_last { order.rest() } else { order.due(now) };
            // A write fails when the reader of the pipe has closed it: that is a normal end.
            if due.iter().try_for_each(|record| tail.print(record)).is_err() || is_last {
                return Ok(ExitCode::SUCCESS);
            }
            if lines.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Tail {
    fn wants(&self, record: &StoredRecord) -> bool {
        !(self.denied && record.is_permitted())
    }

    fn print(&self, record: &StoredRecord) -> std::io::Result<()> {
        if self.output == "json" { print::line(record.json()) } else { print::line(record.short()) }
    }
}
