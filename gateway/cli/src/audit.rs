pub(crate) mod search;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, Subcommand};
use idm_audit::{InOrder, RecordFilter, RecordKind, StoredRecord, Tailed};
use idm_permission::Kind;
use idm_types::Timestamp;

use self::search::Search;
use self::verify::Verify;
use crate::options::ElasticsearchArgs;
use crate::{print, state};

/// Read the audit
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Print records as they are written
    Tail(Tail),
    /// Say who changed what, when, and how sure that is
    Changes(Changes),
    /// Find records, the newest of those that fit
    Search(Search),
    /// Say whether records are those that were written
    Verify(Verify),
}

/// Say who changed what, when, and how sure that is
#[derive(Args)]
pub(crate) struct Changes {
    /// Only changes of this kind, or of one object: KIND or KIND/NAME
    #[arg(value_name = "KIND[/NAME]")]
    object: Option<String>,
    /// Only objects of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only changes that were made by this person or workload, or may have been
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Only changes since then: a time in RFC 3339 UTC, or how long ago, for example 24h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Most changes, the newest
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    most: u16,
    /// The form of the output: a line each, with the fields that changed, or the whole records
    #[arg(short, long, default_value = "short", value_parser = ["short", "wide", "json"])]
    output: String,
    /// Folder with audit records of the operator [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

impl Changes {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let filter = self.filter(Timestamp::now())?;
        let records = search::records(&self.elasticsearch, self.audit_dir)?;
        let mut found = search::newest(&records, &filter, None, usize::from(self.most)).await?.items;
        // Of one that is there twice (an operator was killed) one is shown, in the order of their times.
        found.sort_by(|a, b| a.time().cmp(b.time()));
        for record in &found {
            let printed = match &*self.output {
                "json" => print::line(record.json()),
                "wide" => print::line(record.explain().trim_end()),
                _ => print::line(record.short()),
            };
            if printed.is_err() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn filter(&self, now: Timestamp) -> anyhow::Result<RecordFilter> {
        let (object_kind, name) = object(self.object.as_deref())?;
        let since = self.since.as_deref().map(|since| ago(since, now)).transpose()?;
        let (namespace, who) = (self.namespace.clone(), self.by.clone());
        let kind = Some(RecordKind::Change);
        Ok(RecordFilter { kind, object_kind, name, namespace, who, since, ..RecordFilter::default() })
    }
}

/// KIND or KIND/NAME.
fn object(text: Option<&str>) -> anyhow::Result<(Option<String>, Option<String>)> {
    let Some(text) = text else { return Ok((None, None)) };
    let (kind, name) = text.split_once('/').unwrap_or((text, ""));
    Ok((Some(named(kind)?), Some(name.to_owned()).filter(|name| !name.is_empty())))
}

fn named(kind: &str) -> anyhow::Result<String> {
    // A gateway's own: no object of the API server.
    if kind.eq_ignore_ascii_case("block") {
        return Ok("Block".to_owned());
    }
    let kind: Kind = kind.parse().map_err(anyhow::Error::msg)?;
    Ok(kind.name().to_owned())
}

fn ago(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Ok(time);
    }
    let wrong = || format!("'{text}' must be a time such as 2027-01-31T08:00:00Z, or how long ago, such as 24h or 7d");
    let span = idm_compile::parse_long_span(text).with_context(wrong)?;
    Ok(Timestamp(now.0.saturating_sub(span)))
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
        let tail = match self {
            Audit::Tail(tail) => tail,
            Audit::Changes(changes) => return changes.run().await,
            Audit::Search(search) => return search.run().await,
            Audit::Verify(verify) => return verify.run().await,
        };
        let dir = tail.audit_dir.clone().unwrap_or_else(state::audit_dir);
        let context = || format!("no audit records in {}: name their folder with --audit-dir", dir.display());
        let from_start = tail.from_start || tail.no_follow;
        let mut follower = if from_start { idm_audit::Tail::from_start(&dir) } else { idm_audit::Tail::from_now(&dir) }
            .with_context(context)?;
        let mut order = InOrder::default();
        loop {
            let found = follower.next(1 << 20).with_context(context)?;
            let (now, is_empty) = (Instant::now(), found.is_empty());
            for tailed in found {
                match tailed {
                    Tailed::Record { record, .. } if tail.wants(&record) => order.add(record, now),
                    Tailed::Record { .. } => {}
                    Tailed::Missed => complain!("records were removed before they were shown: the folder was full"),
                }
            }
            let is_last = is_empty && tail.no_follow;
            let due = if is_last { order.rest() } else { order.due(now) };
            // A write fails when the reader of the pipe has closed it: that is a normal end.
            if due.iter().try_for_each(|record| tail.print(record)).is_err() || is_last {
                return Ok(ExitCode::SUCCESS);
            }
            if is_empty {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_times_are_read_as_people_write_them() {
        for given in ["credential", "Credentials", "CREDENTIAL"] {
            assert_eq!(named(given).unwrap(), "Credential");
        }
        assert_eq!(named("identitypolicies").unwrap(), "IdentityPolicy");
        assert!(named("pods").is_err());
        let now = Timestamp(100 * 86_400_000);
        assert_eq!(ago("7d", now).unwrap(), Timestamp(93 * 86_400_000));
        assert_eq!(ago("1970-01-02T00:00:00Z", now).unwrap(), Timestamp(86_400_000));
        for wrong in ["", "7", "d", "-1h", "7 d", "h7", "7ä"] {
            assert!(ago(wrong, now).is_err(), "{wrong}");
        }
    }
}
