//! The audit: searched, read, followed and exported. All of them take the same filters.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_DISPOSITION;
use idm_audit::export::{CSV_HEAD, csv_line, json_line};
use idm_audit::{Cursor, Mark, Page, ReadError, RecordFilter, StoredRecord, Tail, TailError, Tailed};
use idm_types::{Reason, Timestamp};
use tokio::sync::mpsc;

use crate::Manager;
use crate::call::{Body, Call, Reply, blocking};
use crate::failure::{Code, Failure};
use crate::manager::AuditPlace;
use crate::place::AuditScope;
use crate::wire::audit::{AuditEntry, AuditItem, AuditPage};

/// The filters of a query.
pub(crate) const FILTERS: &[&str] =
    &["kind", "outcome", "shadow", "reason", "namespace", "objectKind", "name", "who", "text", "since", "until"];
const USUAL: usize = 100;
const MOST: usize = 1000;
/// Records of a page of an export.
const EXPORTED: usize = 1000;
/// Pieces that wait for a slow reader; beyond them the writer waits.
const WAITING: usize = 64;
/// A stream is looked after so often.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A reader hears something at least so often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream whose reader takes nothing for so long is cut; the reader comes back with the id that it saw last.
const SLOW: Duration = Duration::from_secs(30);
/// Bytes of the folder that are read at a time.
const READ: u64 = 256 << 10;

fn filter(call: &Call) -> Result<RecordFilter, Failure> {
    let text = |name: &str| call.parameter(name).map(str::to_owned);
    let wrong = |name: &'static str, why: String| Failure::invalid(format!("`{name}`: {why}")).at(name);
    let time = |name: &'static str| match call.parameter(name) {
        None => Ok(None),
        Some(given) => match Timestamp::parse_rfc3339(given) {
            None => Err(wrong(name, "give a time in UTC such as 2027-01-01T00:00:00Z".into())),
            time => Ok(time),
        },
    };
    let kind = call.parameter("kind").map(|word| word.parse().map_err(|no| wrong("kind", format!("{no}"))));
    let outcome = call.parameter("outcome").map(|word| word.parse().map_err(|no| wrong("outcome", format!("{no}"))));
    let shadow = call.parameter("shadow").map(|word| word.parse().map_err(|no| wrong("shadow", format!("{no}"))));
    let reason = call.parameter("reason").map(|word| {
        let found = Reason::ALL.iter().copied().find(|reason| reason.code() == word);
        found.ok_or_else(|| wrong("reason", "there is no such reason: see docs/reasons.md".into()))
    });
    Ok(RecordFilter {
        kind: kind.transpose()?,
        outcome: outcome.transpose()?,
        shadow: shadow.transpose()?,
        reason: reason.transpose()?,
        namespace: text("namespace"),
        namespaces: None,
        object_kind: text("objectKind"),
        name: text("name"),
        who: text("who"),
        text: text("text"),
        language_models: false,
        since: time("since")?,
        until: time("until")?,
    })
}

/// The same, of the records that the person may read.
pub(crate) async fn permitted(call: &Call, filter: RecordFilter) -> Result<RecordFilter, Failure> {
    let scope = call.manager.place.audited(&call.person, filter.namespace.as_deref()).await?;
    Ok(match scope {
        AuditScope::All => filter,
        AuditScope::Of(namespaces) => RecordFilter { namespaces: Some(namespaces), ..filter },
    })
}

fn unread(error: &ReadError) -> Failure {
    Failure::unavailable(error.to_string())
}

/// The newest records before a place, from where they are kept.
pub(crate) async fn page(
    manager: &Manager,
    filter: &RecordFilter,
    before: Option<&Cursor>,
    limit: usize,
) -> Result<Page, Failure> {
    let page = manager.audit.all()?.page(filter, before, limit).await;
    page.map_err(|error| match error {
        ReadError::Cursor(_) => Failure::invalid(error.to_string()).at("before"),
        other => unread(&other),
    })
}

pub(crate) async fn search(call: Call) -> Result<AuditPage, Failure> {
    let before = call.parameter("before").map(str::parse).transpose();
    let before = before.map_err(|error: idm_audit::NoCursor| Failure::invalid(error.to_string()).at("before"))?;
    let limit = call.number("limit", USUAL, MOST)?;
    let filter = permitted(&call, filter(&call)?).await?;
    let page = page(&call.manager, &filter, before.as_ref(), limit).await?;
    Ok(AuditPage {
        items: page.items.iter().map(AuditItem::of).collect(),
        next: page.next.map(|next| next.to_string()),
        complete: page.complete,
    })
}

pub(crate) async fn entry(call: Call) -> Result<AuditEntry, Failure> {
    let id = call.part("id");
    let missing = || Failure::new(Code::NotFound, "there is no record of this id, or none any more");
    let scope = call.manager.place.audited(&call.person, None).await?;
    let AuditPlace { own, server, .. } = &call.manager.audit;
    call.manager.audit.all()?;
    // The newest records of this process may not be on the server yet.
    let mut found = match own {
        Some(own) => own.find(id).await.ok().flatten(),
        None => None,
    };
    if let (None, Some(server)) = (&found, server) {
        found = server.find(id).await.map_err(|error| unread(&error))?;
    }
    let is_shown = |record: &StoredRecord| match &scope {
        AuditScope::All => true,
        AuditScope::Of(namespaces) => namespaces.iter().any(|namespace| namespace == record.namespace()),
    };
    let record = found.filter(is_shown).ok_or_else(missing)?;
    Ok(AuditEntry { item: AuditItem::of(&record), explanation: record.explain(), record: record.value().clone() })
}

pub(crate) async fn export(call: Call) -> Result<Reply, Failure> {
    let (line, head, media_type): (fn(&StoredRecord) -> String, _, _) = match call.parameter("format") {
        None | Some("jsonl") => (|record| json_line(record).to_owned(), None, "application/jsonl"),
        Some("csv") => (csv_line, Some(CSV_HEAD), "text/csv; charset=utf-8"),
        Some(_) => return Err(Failure::invalid("`format` must be `jsonl` or `csv`").at("format")),
    };
    let name = if head.is_some() { "audit.csv" } else { "audit.jsonl" };
    let (filter, manager) = (permitted(&call, filter(&call)?).await?, call.manager.clone());
    let (pieces, body) = mpsc::channel(WAITING);
    let first = page(&manager, &filter, None, EXPORTED).await?;
    tokio::spawn(async move {
        if let Some(head) = head {
            let _ = pieces.send(format!("{head}\r\n").into()).await;
        }
        let mut now = Ok(first);
        while let Ok(Page { items, next, complete: _ }) = now {
            let end = if head.is_some() { "\r\n" } else { "\n" };
            let text: String = items.iter().map(|record| line(record) + end).collect();
            let sent = tokio::time::timeout(SLOW, pieces.send(text.into())).await;
            let Some(next) = next.filter(|_| matches!(sent, Ok(Ok(())))) else { return };
            now = page(&manager, &filter, Some(&next), EXPORTED).await;
        }
    });
    let reply = Reply::bytes(200, media_type, Bytes::new());
    let reply = Reply { body: Body::Pieces(body), ..reply };
    Ok(reply.with(CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\"")))
}

/// Follows the records of this process from now on, or from behind the one that the reader saw last.
pub(crate) async fn stream(call: Call) -> Result<Reply, Failure> {
    let filter = permitted(&call, filter(&call)?).await?;
    let no_stream = "records are followed where they are written: search them here instead";
    let dir = call.manager.audit.dir.clone().ok_or_else(|| Failure::new(Code::NotConfigured, no_stream))?;
    let last = call.last_event.clone();
    let begun = blocking(move || begin(&dir, last.as_deref())).await?;
    let (tail, is_gap) = begun.map_err(|_| Failure::unavailable("the records cannot be read"))?;
    let (pieces, body) = mpsc::channel(WAITING);
    tokio::spawn(follow(tail, is_gap, filter, pieces, call.manager.clone(), call.cookie.clone()));
    let reply = Reply::bytes(200, "text/event-stream", Bytes::new());
    Ok(Reply { body: Body::Pieces(body), ..reply })
}

/// A place to follow from, and whether records may be missing before it.
fn begin(dir: &Path, last: Option<&str>) -> std::io::Result<(Tail, bool)> {
    let Some(last) = last else { return Ok((Tail::from_now(dir)?, false)) };
    let Ok(mark) = last.parse::<Mark>() else { return Ok((Tail::from_now(dir)?, true)) };
    match Tail::after(dir, &mark) {
        Ok(tail) => Ok((tail, false)),
        Err(TailError::Unknown) => Ok((Tail::from_now(dir)?, true)),
        Err(TailError::Io(error)) => Err(error),
    }
}

const RESYNC: &str = "event: resync\ndata: {}\n\n";

async fn follow(
    mut tail: Tail,
    is_gap: bool,
    filter: RecordFilter,
    pieces: mpsc::Sender<Bytes>,
    manager: Arc<Manager>,
    cookie: Option<String>,
) {
    let send = async |text: String| matches!(tokio::time::timeout(SLOW, pieces.send(text.into())).await, Ok(Ok(())));
    if !send(if is_gap { RESYNC.to_owned() } else { ":\n\n".to_owned() }).await {
        return;
    }
    let mut heard = tokio::time::Instant::now();
    // A stream ends with its session, and does not keep it awake.
    while manager.is_open(cookie.as_deref()) {
        let next = blocking(move || {
            let read = tail.next(READ);
            (tail, read)
        });
        let Ok((back, Ok(read))) = next.await else { return };
        tail = back;
        let is_quiet = read.is_empty();
        let mut text = String::new();
        for found in read {
            match found {
                Tailed::Missed => text += RESYNC,
                Tailed::Record { record, mark } if filter.matches(&record) => {
                    let item = serde_json::to_string(&AuditItem::of(&record)).unwrap_or_default();
                    text += &format!("id: {mark}\nevent: record\ndata: {item}\n\n");
                }
                Tailed::Record { .. } => {}
            }
        }
        if text.is_empty() && heard.elapsed() >= HEARTBEAT {
            text += ":\n\n";
        }
        if !text.is_empty() {
            heard = tokio::time::Instant::now();
            if !send(text).await {
                return;
            }
        }
        if is_quiet {
            tokio::select! {
                () = pieces.closed() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}
