//! Records that were shipped, read back from Elasticsearch or OpenSearch.

use std::time::Duration;

use idm_types::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::search::is_id;
use crate::ship::{Elasticsearch, INDEX};
use crate::{Cursor, NoCursor, Page, RecordFilter, StoredRecord};

/// Most records of one page: what a server gives at once unless it was told otherwise.
const MOST: usize = 10_000;

/// The reason why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The folder cannot be read.
    #[error("the records cannot be read")]
    Folder(#[from] std::io::Error),
    /// The server did not answer, or with something else.
    #[error("Elasticsearch cannot be reached")]
    Http(#[from] reqwest::Error),
    /// The server refused.
    #[error("Elasticsearch answered {status}: {body}")]
    Status {
        /// The status.
        status: u16,
        /// The begin of the answer.
        body: String,
    },
    /// A part of the indices did not answer, so that records would be missing.
    #[error("{0} shards of Elasticsearch did not answer: try again when its cluster is healthy")]
    Shards(u64),
    /// The cursor is that of another place.
    #[error(transparent)]
    Cursor(#[from] NoCursor),
}

/// Reads records from a server.
#[derive(Clone, Debug)]
pub struct ServerReader {
    client: reqwest::Client,
    server: Elasticsearch,
}

impl ServerReader {
    /// A reader of the records of this server.
    pub fn new(server: Elasticsearch) -> Result<Self, ReadError> {
        Ok(Self { client: server.client(Duration::from_secs(20))?, server })
    }

    /// The record with this id.
    pub async fn find(&self, id: &str) -> Result<Option<StoredRecord>, ReadError> {
        if !is_id(id) {
            return Ok(None);
        }
        let answer = self.search(&json!({"size": 1, "query": {"ids": {"values": [id]}}})).await?;
        Ok(hits(answer).into_iter().next().map(|hit| hit.record))
    }

    /// The newest records that were asked for before `before`, at most `limit` of them: the same as
    /// [`read`](crate::read) over a folder.
    pub async fn page(&self, filter: &RecordFilter, before: Option<&Cursor>, limit: usize) -> Result<Page, ReadError> {
        let limit = limit.clamp(1, MOST);
        Ok(page(self.search(&query(filter, before, limit)?).await?, limit))
    }

    async fn search(&self, query: &Value) -> Result<Value, ReadError> {
        let answer = self.request(Method::POST, "_search?ignore_unavailable=true").json(query).send().await?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.text().await.unwrap_or_default().chars().take(300).collect();
            return Err(ReadError::Status { status: status.as_u16(), body });
        }
        let answer: Value = answer.json().await?;
        match answer["_shards"]["failed"].as_u64().unwrap_or(0) {
            0 if answer["timed_out"] == true => Err(ReadError::Shards(1)),
            0 => Ok(answer),
            failed => Err(ReadError::Shards(failed)),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.request(&self.client, method, &format!("{INDEX}*/{path}"))
    }
}

/// The body of a search. Two records of one time are told apart by their ids.
fn query(filter: &RecordFilter, before: Option<&Cursor>, limit: usize) -> Result<Value, NoCursor> {
    let by = |field: &str, kind: &str| json!({field: {"order": "desc", "unmapped_type": kind}});
    let sort = [by("@timestamp", "date"), by("id", "keyword")];
    let mut body = json!({"size": limit, "track_total_hits": false, "sort": sort, "query": filter.query()});
    match before {
        None => {}
        Some(Cursor::Server { time, id }) => body["search_after"] = json!([time.0, id]),
        Some(Cursor::Folder { .. }) => return Err(NoCursor),
    }
    Ok(body)
}

struct Hit {
    record: StoredRecord,
    place: Option<Cursor>,
}

fn hits(mut answer: Value) -> Vec<Hit> {
    let hits = match answer["hits"]["hits"].take() {
        Value::Array(hits) => hits,
        _ => Vec::new(),
    };
    let place = |hit: &Value| {
        let (time, id) = (hit["sort"][0].as_u64()?, hit["sort"][1].as_str()?);
        Some(Cursor::Server { time: Timestamp(time), id: id.to_owned() })
    };
    let hit = |mut hit: Value| Hit { place: place(&hit), record: StoredRecord::of(hit["_source"].take()) };
    hits.into_iter().map(hit).collect()
}

fn page(answer: Value, limit: usize) -> Page {
    let hits = hits(answer);
    let next = hits.last().filter(|_| hits.len() >= limit).and_then(|hit| hit.place.clone());
    Page { items: hits.into_iter().map(|hit| hit.record).collect(), next, complete: true }
}

#[cfg(test)]
mod tests;
