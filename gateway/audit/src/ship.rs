//! From the spool to Elasticsearch (7.10 and later, OpenSearch too): at least once, and never doubled.
//!
//! A record's id is its `_id`, its index follows from its time (`indices.rs`), and it is written with `create`, so a
//! repeated record answers 409 and is counted as stored. The checkpoint moves only after every record before it was
//! confirmed; what the server will never take (a mapping conflict) goes to `dead-letter.ndjson`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idm_types::Redacted;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ecs::with_ecs;
use crate::indices::{TEMPLATE, index_of, mapping, template};
use crate::read::checkpoint;
use crate::seal::is_seal;
use crate::spool::{segment_path, segments};
use crate::{Follower, Retention, SpoolHealth, retention};

pub use crate::indices::INDEX;

const BULK_BYTES: u64 = 4 << 20;
const IDLE: Duration = Duration::from_millis(250);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The address of Elasticsearch.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    /// Base URL.
    pub url: String,
    /// The value of the `Authorization` header.
    pub authorization: Option<Redacted<String>>,
    /// A PEM bundle to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long records are kept there.
    pub kept: Retention,
}

impl Elasticsearch {
    /// A client that trusts this server and follows it nowhere else.
    pub(crate) fn client(&self, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &self.ca_pem {
            for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        builder.build()
    }

    /// A request for a path of this server.
    pub(crate) fn request(&self, client: &reqwest::Client, method: Method, path: &str) -> RequestBuilder {
        let request = client.request(method, format!("{}/{path}", self.url.trim_end_matches('/')));
        match &self.authorization {
            Some(value) => request.header("authorization", value.reveal()),
            None => request,
        }
    }
}

/// The reason why a bulk request failed. It is always repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    #[error("no answer from Elasticsearch")]
    Http(#[from] reqwest::Error),
    #[error("Elasticsearch answered {status}: {body}")]
    Status { status: u16, body: String },
    #[error("{0} records were not taken for now")]
    Busy(usize),
    #[error("the spool cannot be read or the checkpoint not be written")]
    Spool(#[from] io::Error),
}

/// Ships records of the spool in `dir` until `stop` turns true and everything there was confirmed, or
/// three seconds passed after that.
pub async fn run(dir: PathBuf, server: Elasticsearch, health: Arc<SpoolHealth>, mut stop: watch::Receiver<bool>) {
    let client = match server.client(Duration::from_secs(30)) {
        Ok(client) => client,
        Err(error) => {
            return tracing::error!(%error, "the Elasticsearch client cannot be made; records stay in the spool");
        }
    };
    let mut shipper = Shipper { client, server, follower: from_checkpoint(&dir), dir, health, has_earlier: None };
    let mut pause = FIRST_RETRY;
    let mut deadline = None;
    loop {
        match shipper.step().await {
            Ok(true) => pause = FIRST_RETRY,
            Ok(false) if *stop.borrow() => return,
            Ok(false) => wait(IDLE, &mut stop).await,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "audit records wait in the spool");
                wait(pause, &mut stop).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
        if *stop.borrow()
            && *deadline.get_or_insert_with(|| tokio::time::Instant::now() + Duration::from_secs(3))
                < tokio::time::Instant::now()
        {
            return;
        }
    }
}

async fn wait(time: Duration, stop: &mut watch::Receiver<bool>) {
    if *stop.borrow() {
        tokio::time::sleep(time.min(Duration::from_millis(100))).await;
    } else {
        let _ = tokio::time::timeout(time, stop.changed()).await;
    }
}

struct Shipper {
    client: reqwest::Client,
    server: Elasticsearch,
    follower: Follower,
    dir: PathBuf,
    health: Arc<SpoolHealth>,
    /// Whether the index of an earlier version is there; unknown before the server was prepared.
    has_earlier: Option<bool>,
}

impl Shipper {
    /// Ships one bulk; false when there is nothing to ship.
    async fn step(&mut self) -> Result<bool, ShipError> {
        let has_earlier = match self.has_earlier {
            Some(known) => known,
            None => *self.has_earlier.insert(self.prepare().await?),
        };
        let mut ahead = self.follower.clone();
        let lines = ahead.next_lines(BULK_BYTES)?;
        if lines.is_empty() {
            return Ok(false);
        }
        let count = lines.iter().filter(|line| !is_seal(line)).count() as u64;
        self.bulk(lines, has_earlier).await?;
        self.health.shipped.fetch_add(count, Ordering::Relaxed);
        self.follower = ahead;
        write_checkpoint(&self.dir, self.follower.position())?;
        self.remove_shipped()?;
        Ok(true)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.server.request(&self.client, method, path)
    }

    /// Makes the template; says whether the index of an earlier version is there.
    async fn prepare(&self) -> Result<bool, ShipError> {
        let answer = self.request(Method::GET, INDEX).send().await?;
        let has_earlier = match answer.status() {
            reqwest::StatusCode::NOT_FOUND => false,
            // The answer has the names of the indices where the name is an alias.
            _ => checked(answer).await?.json::<Value>().await?.get(INDEX).is_some(),
        };
        let request = self.request(Method::PUT, &format!("_index_template/{TEMPLATE}")).json(&template(has_earlier));
        checked(request.send().await?).await.map(drop)?;
        // Indices that an earlier version made learn of newer fields, and of the alias, where we may tell them.
        let request = self.request(Method::PUT, &format!("{INDEX}*/_mapping")).json(&mapping());
        let status = request.send().await?.status().as_u16();
        tracing::debug!(status, "mapping");
        if !has_earlier {
            let add = json!({"actions": [{"add": {"index": format!("{INDEX}-*"), "alias": INDEX}}]});
            let request = self.request(Method::POST, "_aliases").json(&add);
            let status = request.send().await?.status().as_u16();
            tracing::debug!(status, "alias");
        }
        // Whether records may be deleted later is no reason to ship none now.
        if let Err(error) = retention::apply(&self.server, &self.client, has_earlier).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the server was not told how long records are kept; it is with the next start");
        }
        Ok(has_earlier)
    }

    /// Sends the lines until each was confirmed, found present, or written to the dead letters.
    async fn bulk(&self, lines: Vec<String>, has_earlier: bool) -> Result<(), ShipError> {
        let mut body = String::with_capacity(lines.iter().map(|line| line.len() + 1024).sum());
        for line in &lines {
            let record = serde_json::from_str::<Value>(line).unwrap_or_default();
            let id = record["id"].as_str().unwrap_or_default();
            let place = json!({"create": {"_index": index_of(&record, has_earlier), "_id": id}});
            body.push_str(&format!("{place}\n{}\n", with_ecs(line, &record)));
        }
        let request = self.request(Method::POST, "_bulk").header("content-type", "application/x-ndjson").body(body);
        let answer: Value = checked(request.send().await?).await?.json().await?;
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        if items.len() != lines.len() {
            return Err(ShipError::Busy(lines.len()));
        }
        let mut busy = 0;
        for (line, item) in lines.iter().zip(&items) {
            match item["create"]["status"].as_u64().unwrap_or(0) {
                200..=299 | 409 => {}
                // Permanently refused. Every other error (429, read-only, 5xx) may be temporary.
                400 => self.bury(line, &item["create"]["error"])?,
                _ => busy += 1,
            }
        }
        if busy > 0 { Err(ShipError::Busy(busy)) } else { Ok(()) }
    }

    fn bury(&self, line: &str, error: &Value) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.dir.join("dead-letter.ndjson"))?;
        writeln!(
            file,
            "{}",
            json!({"error": error, "record": serde_json::from_str::<Value>(line).unwrap_or_default()})
        )?;
        file.sync_data()?;
        self.health.dead.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn remove_shipped(&self) -> io::Result<()> {
        let (current, _) = self.follower.position();
        for (sequence, _) in segments(&self.dir)?.into_iter().filter(|(sequence, _)| *sequence < current) {
            std::fs::remove_file(segment_path(&self.dir, sequence))?;
        }
        Ok(())
    }
}

pub(crate) async fn checked(answer: reqwest::Response) -> Result<reqwest::Response, ShipError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default().chars().take(300).collect();
    Err(ShipError::Status { status: status.as_u16(), body })
}

/// Without a checkpoint everything is sent again; the ids prevent duplicates.
fn from_checkpoint(dir: &Path) -> Follower {
    let (segment, offset) = checkpoint(dir).unwrap_or_default();
    Follower::at(dir, segment, offset)
}

fn write_checkpoint(dir: &Path, (sequence, offset): (u64, u64)) -> io::Result<()> {
    let (new, path) = (dir.join("checkpoint.new"), dir.join("checkpoint"));
    let mut file = File::create(&new)?;
    write!(file, "{sequence} {offset}")?;
    file.sync_data()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests;
