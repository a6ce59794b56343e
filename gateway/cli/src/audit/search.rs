//! `idm audit search`, over a folder or a server.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use idm_audit::{
    Cursor, Page, ReadError, RecordFilter, RecordKind, RecordOutcome, Records, ServerReader, ShadowedAs, StoredRecord,
    export,
};
use idm_types::{Reason, Timestamp};

use super::{ago, object};
use crate::options::ElasticsearchArgs;
use crate::{print, state};

/// The records of a folder or of a server.
pub(crate) fn records(server: &ElasticsearchArgs, dir: Option<PathBuf>) -> anyhow::Result<Records> {
    Ok(match server.options()? {
        Some(server) => Records::Server(ServerReader::new(server)?),
        None => Records::Folder(dir.unwrap_or_else(state::audit_dir)),
    })
}

/// The record with this id.
pub(crate) async fn find(records: &Records, id: &str) -> anyhow::Result<Option<StoredRecord>> {
    records.find(id).await.map_err(|error| told(records, error))
}

/// So many of the newest, however long it takes; the newest first, each once.
pub(crate) async fn newest(
    records: &Records,
    filter: &RecordFilter,
    before: Option<Cursor>,
    most: usize,
) -> anyhow::Result<Page> {
    let (mut ids, mut items, mut next) = (HashSet::new(), Vec::new(), before);
    loop {
        let page = records.page(filter, next.as_ref(), most - items.len()).await;
        let page = page.map_err(|error| told(records, error))?;
        items.extend(page.items.into_iter().filter(|record| ids.insert(record.id().to_owned())));
        next = page.next;
        if next.is_none() || items.len() >= most {
            return Ok(Page { items, next, complete: true });
        }
    }
}

/// The error with the remedy of a folder without records.
fn told(records: &Records, error: ReadError) -> anyhow::Error {
    match (records, error) {
        (Records::Folder(dir), ReadError::Folder(error)) => anyhow::Error::new(error).context(format!(
            "no audit records in {}: name their folder with --audit-dir, or --elasticsearch",
            dir.display()
        )),
        (_, error) => error.into(),
    }
}

/// Find records, the newest of those that fit
#[derive(Args)]
pub(crate) struct Search {
    /// Only records of an object: KIND or KIND/NAME. Decisions have their policy and Credential
    #[arg(value_name = "KIND[/NAME]")]
    object: Option<String>,
    /// Only decisions, or only changes
    #[arg(long)]
    kind: Option<RecordKind>,
    /// Only those that came out like this: permitted, denied, failed, created, updated, deleted or found
    #[arg(long)]
    outcome: Option<RecordOutcome>,
    /// Only refusals and failures for this reason, for example NoCredentials
    #[arg(long, value_parser = reason)]
    reason: Option<Reason>,
    /// Only decisions that some policy in shadow would have made like this: permitted, denied or notjudged
    #[arg(long, value_name = "OUTCOME")]
    shadow: Option<ShadowedAs>,
    /// Only records of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only this caller (name, id, Credential or owner), or who made a change or may have
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only records with this text in a name, an address or a message
    #[arg(long)]
    text: Option<String>,
    /// Only records since then: a time in RFC 3339 UTC, or how long ago, for example 24h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only records before then: a time in RFC 3339 UTC, or how long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Most records
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    most: u32,
    /// Go on before the records of an earlier search: the place that it told at its end
    #[arg(long, value_name = "PLACE")]
    before: Option<Cursor>,
    /// The form of the output: a line each, whole records, or a table for spreadsheets
    #[arg(short, long, default_value = "short", value_parser = ["short", "json", "csv"])]
    output: String,
    /// Folder with audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_code(text).ok_or_else(|| "no such reason: docs/reasons.md has them all".to_owned())
}

impl Search {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let filter = self.filter(Timestamp::now())?;
        let records = records(&self.elasticsearch, self.audit_dir)?;
        let most = self.most.try_into().unwrap_or(usize::MAX);
        let page = newest(&records, &filter, self.before, most).await?;
        let head = if self.output == "csv" { print::line(export::CSV_HEAD) } else { Ok(()) };
        let mut oldest_first = page.items.iter().rev();
        let printed = head.and_then(|()| {
            oldest_first.try_for_each(|record| match &*self.output {
                "json" => print::line(export::json_line(record)),
                "csv" => print::line(export::csv_line(record)),
                _ => print::line(record.short()),
            })
        });
        // A write fails when the reader of the pipe has closed it: that is a normal end.
        if let (Ok(()), Some(next)) = (printed, page.next) {
            complain!("there may be older ones: --before {next}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn filter(&self, now: Timestamp) -> anyhow::Result<RecordFilter> {
        let (object_kind, name) = object(self.object.as_deref())?;
        let time = |text: &Option<String>| text.as_deref().map(|text| ago(text, now)).transpose();
        Ok(RecordFilter {
            kind: self.kind,
            outcome: self.outcome,
            reason: self.reason,
            shadow: self.shadow,
            namespace: self.namespace.clone(),
            namespaces: None,
            object_kind,
            name,
            who: self.who.clone(),
            text: self.text.clone(),
            language_models: false,
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        search: Search,
    }

    fn filter(arguments: &[&str]) -> anyhow::Result<RecordFilter> {
        let command = Command::try_parse_from([&["idm"], arguments].concat())?;
        command.search.filter(Timestamp(100 * 86_400_000))
    }

    #[test]
    fn every_option_is_part_of_what_is_asked_for() {
        let arguments = [
            "credentials/nightly",
            "--kind=decision",
            "--outcome=denied",
            "--reason=NoCredentials",
            "--shadow=notjudged",
            "--namespace=shop",
            "--who=ana",
            "--text=/orders",
            "--since=2d",
            "--until=1d",
        ];
        let found = filter(&arguments).unwrap();
        assert_eq!(found.kind, Some(RecordKind::Decision));
        assert_eq!(found.outcome.map(RecordOutcome::name), Some("Denied"));
        assert_eq!(found.reason.map(Reason::code), Some("NoCredentials"));
        assert_eq!(found.shadow, Some(ShadowedAs::NotJudged));
        let texts = [found.namespace, found.object_kind, found.name, found.who, found.text].map(Option::unwrap);
        assert_eq!(texts, ["shop", "Credential", "nightly", "ana", "/orders"]);
        let days = |days: u64| Some(Timestamp(days * 86_400_000));
        assert_eq!((found.since, found.until), (days(98), days(99)));
        for wrong in ["--kind=x", "--outcome=x", "--reason=x", "--since=x", "--before=x", "pods"] {
            assert!(filter(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn as_many_as_are_wanted_are_found_however_many_calls_that_takes() {
        let dir = tempfile::tempdir().unwrap();
        let line = |id: usize, kind: &str| format!("{{\"kind\":\"{kind}\",\"id\":\"R{id}\"}}\n");
        let many: String = (0..400_000).map(|id| line(id, "Decision")).collect();
        let text = [line(1_000_000, "Change"), many, line(1_000_001, "Change")].concat();
        std::fs::write(dir.path().join("audit-000000000001.ndjson"), text).unwrap();
        let records = Records::Folder(dir.path().to_owned());
        let filter = RecordFilter { kind: Some(RecordKind::Change), ..RecordFilter::default() };
        let page = newest(&records, &filter, None, 5).await.unwrap();
        assert_eq!(page.items.iter().map(|record| record.id()).collect::<Vec<_>>(), ["R1000001", "R1000000"]);
        assert!(page.next.is_none());
        let page = newest(&records, &filter, None, 1).await.unwrap();
        let page = newest(&records, &filter, page.next, 1).await.unwrap();
        assert_eq!(page.items[0].id(), "R1000000", "the place goes on where the search ended");
    }
}
