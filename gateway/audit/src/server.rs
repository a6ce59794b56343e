//! Records that were shipped, read back from Elasticsearch or OpenSearch.

use std::time::Duration;

use idm_types::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::search::is_id;
use crate::ship::{Elasticsearch, INDEX};
use crate::verify_index::{IndexWalk, kept_from};
use crate::{
    ChainHead, ChainKey, Cursor, IndexTampering, IndexVerified, Indexed, NoCursor, Page, RecordFilter, StoredRecord,
    raw,
};

/// Records that are verified at a time.
const PAGE: usize = 2_000;

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
    /// The answer is no answer, or a part of the indices is missing in it.
    #[error("the answer of Elasticsearch cannot be read, or lacks some shards: try again when its cluster is healthy")]
    Unreadable,
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

    /// Verifies the chains of all records on the server. `wanted` are heads that are known from elsewhere. Reads
    /// everything, a page at a time.
    pub async fn verify(&self, key: &ChainKey, wanted: &[ChainHead]) -> Result<IndexVerified, ReadError> {
        let first = self.verify_once(key, wanted).await?;
        if first.tampered == 0 {
            return Ok(first);
        }
        // While records are being shipped, those of one index may be seen before those of another: what is missing
        // twice is missing.
        let removed = |found: &IndexTampering| matches!(found, IndexTampering::Removed { .. });
        let mut second = self.verify_once(key, wanted).await?;
        let before = second.tampering.len();
        second.tampering.retain(|found| !removed(found) || first.tampering.contains(found));
        second.tampered -= (before - second.tampering.len()) as u64;
        Ok(second)
    }

    async fn verify_once(&self, key: &ChainKey, wanted: &[ChainHead]) -> Result<IndexVerified, ReadError> {
        // Where this is not allowed, the server does it within a second.
        let _ = self.request(Method::POST, "_refresh?ignore_unavailable=true").send().await?;
        let answer = self.request(Method::GET, "_alias?ignore_unavailable=true").send().await?;
        let indices: Value = answered(answer).await?.json().await?;
        let indices = indices.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let mut walk = IndexWalk::new(key, wanted, kept_from(indices.filter(|name| *name != INDEX)));
        let chained = json!({"exists": {"field": "chain.id"}});
        self.walk(&json!({"bool": {"must_not": chained}}), |document| walk.unchained(document)).await?;
        self.walk(&chained, |document| walk.document(document)).await?;
        Ok(walk.end())
    }

    /// All documents of a query, in the order of their chains.
    async fn walk(&self, query: &Value, mut each: impl FnMut(Indexed)) -> Result<(), ReadError> {
        let by = |field: &str, kind: &str| json!({field: {"order": "asc", "unmapped_type": kind, "missing": "_first"}});
        let sort = json!([by("chain.id", "keyword"), by("chain.n", "long"), by("id", "keyword"), {"_index": "asc"}]);
        let mut body = json!({"size": PAGE, "track_total_hits": false, "sort": sort, "query": query});
        loop {
            let answer = self.request(Method::POST, "_search?ignore_unavailable=true").json(&body).send().await?;
            let text = answered(answer).await?.text().await?;
            let (documents, last) = documents(&text).ok_or(ReadError::Unreadable)?;
            let is_last = documents.len() < PAGE;
            documents.into_iter().for_each(&mut each);
            match last {
                Some(last) if !is_last => body["search_after"] = last,
                _ => return Ok(()),
            }
        }
    }

    async fn search(&self, query: &Value) -> Result<Value, ReadError> {
        let answer = self.request(Method::POST, "_search?ignore_unavailable=true").json(query).send().await?;
        let answer: Value = answered(answer).await?.json().await?;
        match failed_shards(&answer) {
            0 => Ok(answer),
            failed => Err(ReadError::Shards(failed)),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.request(&self.client, method, &format!("{INDEX}*/{path}"))
    }
}

/// The answer, if it is a success.
async fn answered(answer: reqwest::Response) -> Result<reqwest::Response, ReadError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default().chars().take(300).collect();
    Err(ReadError::Status { status: status.as_u16(), body })
}

/// The shards without which an answer came.
fn failed_shards(answer: &Value) -> u64 {
    match answer["_shards"]["failed"].as_u64().unwrap_or(0) {
        0 => u64::from(answer["timed_out"] == true),
        failed => failed,
    }
}

/// The documents of a page as the bytes that they are, and the place behind the last one. `None` for an answer that is
/// none, or that lacks a part of the indices.
fn documents(answer: &str) -> Option<(Vec<Indexed>, Option<Value>)> {
    let members = raw::members(answer)?;
    let shards = serde_json::from_str::<Value>(raw::member_of(&members, "_shards")?).ok()?;
    let timed_out = raw::member_of(&members, "timed_out") == Some("true");
    if failed_shards(&json!({"_shards": shards, "timed_out": timed_out})) > 0 {
        return None;
    }
    let outer = raw::members(raw::member_of(&members, "hits")?)?;
    let (mut found, mut last) = (Vec::new(), None);
    for hit in raw::items(raw::member_of(&outer, "hits")?)? {
        let hit = raw::members(hit)?;
        let text = |name: &str| serde_json::from_str::<String>(raw::member_of(&hit, name)?).ok();
        let source = raw::member_of(&hit, "_source")?.to_owned();
        found.push(Indexed { index: text("_index")?, id: text("_id")?, source });
        last = serde_json::from_str(raw::member_of(&hit, "sort")?).ok();
    }
    Some((found, last))
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
