use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use idm_audit::Follower;
use idm_types::DecisionId;
use serde_json::Value;

use crate::options::ElasticsearchArgs;
use crate::state;

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
                print!("{}", idm_audit::explain(&record));
                Ok(ExitCode::SUCCESS)
            }
            None => {
                eprintln!(
                    "error: no decision {id} in these records: it may be somewhere else (--audit-dir, --elasticsearch) or older than what is kept"
                );
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

async fn ask(server: &idm_audit::ship::Elasticsearch, id: &str) -> anyhow::Result<Option<Value>> {
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
    Ok(document.get("_source").cloned())
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
    /// How to print: one short line each, or the whole record
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
        loop {
            let lines = follower.next_lines(1 << 20).with_context(context)?;
            for line in &lines {
                // Whoever reads us may have seen enough.
                if tail.print(line).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if lines.is_empty() {
                if tail.no_follow {
                    return Ok(ExitCode::SUCCESS);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

impl Tail {
    fn print(&self, line: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let Ok(record) = serde_json::from_str::<Value>(line) else { return Ok(()) };
        if self.denied && record["outcome"] == "Permitted" {
            return Ok(());
        }
        if self.output == "json" {
            return writeln!(out, "{line}");
        }
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        if record["kind"] == "Change" {
            writeln!(
                out,
                "{} {:<9} {} {}/{} by {}",
                text("/@timestamp"),
                text("/action"),
                text("/object/kind"),
                text("/object/namespace"),
                text("/object/name"),
                text("/actor")
            )
        } else {
            let reason = record["reason"].as_str().map(|reason| format!(" {reason}")).unwrap_or_default();
            let who = record.pointer("/identity/username").and_then(Value::as_str).unwrap_or("-");
            writeln!(
                out,
                "{} {:<9} {}{reason} {} {}{} {who} {}",
                text("/@timestamp"),
                text("/outcome"),
                record["status"],
                text("/request/method"),
                text("/request/host"),
                text("/request/path"),
                text("/id")
            )
        }
    }
}
