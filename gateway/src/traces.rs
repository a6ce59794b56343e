//! Sends spans to a collector: OTLP over HTTP, in JSON. It runs beside the requests, none of which waits for it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use idm_traces::{Callers, Ratio, Resource, Span, Waiting, encode, rejected};
use idm_types::Redacted;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::sync::watch;
use url::Url;

/// The longest time that a span waits for others to be sent with it.
const LINGER: Duration = Duration::from_secs(1);
/// The attempts after the first one.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A longer pause that a collector asks for is cut.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// As much of an answer is read.
const MAX_ANSWER: usize = 64 << 10;

/// A collector, and what is sent to it.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The URL to which spans are posted.
    pub endpoint: Url,
    /// The value of the `Authorization` header.
    pub authorization: Option<Redacted<String>>,
    /// A PEM bundle to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The share of the traces that begin here.
    pub ratio: Ratio,
    /// How far callers decide.
    pub callers: Callers,
    /// The pod's namespace.
    pub namespace: Option<String>,
}

impl TraceOptions {
    /// Reads the address of a collector. Without a path it is that of OTLP, `/v1/traces`. The error says what to do.
    pub fn endpoint(text: &str) -> Result<Url, String> {
        let wrong = || "give a URL such as http://collector:4318".to_owned();
        let mut url = Url::parse(text).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.fragment().is_some() {
            return Err(wrong());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("give user and password in the authorization file: a URL is shown in logs".into());
        }
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        Ok(url)
    }
}

/// Why spans were not taken, or cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("the authorization for the collector of traces must be one line of text")]
    Authorization,
    #[error("the authorities of the collector of traces cannot be used")]
    Client(#[source] reqwest::Error),
    #[error("no answer from the collector")]
    NoAnswer(#[source] reqwest::Error),
    #[error("the collector answered {status}")]
    Status { status: u16, pause: Option<Duration> },
}

impl ExportError {
    /// Whether another attempt may succeed (OTLP specification, "Failures" and "OTLP/HTTP Throttling").
    fn is_passing(&self) -> bool {
        match self {
            ExportError::Authorization | ExportError::Client(_) => false,
            ExportError::NoAnswer(_) => true,
            ExportError::Status { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        }
    }
}

/// Resolves when the process stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn client(options: &TraceOptions) -> Result<reqwest::Client, ExportError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(authorization) = &options.authorization {
        let mut value = HeaderValue::from_str(authorization.reveal()).map_err(|_| ExportError::Authorization)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("idm-gateway")
        .default_headers(headers);
    if let Some(pem) = &options.ca_pem {
        for certificate in reqwest::Certificate::from_pem_bundle(pem).map_err(ExportError::Client)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(ExportError::Client)
}

/// Sends spans to one collector.
pub(crate) struct Exporter {
    client: reqwest::Client,
    endpoint: Url,
    resource: Resource,
    /// The last batch was not taken.
    fails: bool,
}

impl Exporter {
    /// Nothing is sent yet. `instance` is the process' name in its resource.
    pub(crate) fn new(options: &TraceOptions, instance: &str) -> Result<Self, ExportError> {
        let resource = Resource { instance: instance.to_owned(), namespace: options.namespace.clone() };
        Ok(Self { client: client(options)?, endpoint: options.endpoint.clone(), resource, fails: false })
    }

    /// Sends spans until `stop` turns true and none is left.
    pub(crate) async fn run(mut self, mut waiting: Waiting, mut stop: watch::Receiver<bool>) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = waiting.first(&mut batch) => {}
                () = stopped(&mut stop) => {
                    waiting.close();
                    waiting.first(&mut batch).await;
                }
            }
            if batch.is_empty() {
                return;
            }
            let enough = async {
                let _ = tokio::time::timeout(LINGER, stopped(&mut stop)).await;
            };
            waiting.fill(&mut batch, enough).await;
            let (all, refused) = (batch.len() as u64, self.send(&batch, &mut stop).await);
            waiting.counts.exported.fetch_add(all.saturating_sub(refused), Relaxed);
            waiting.counts.failed.fetch_add(refused.min(all), Relaxed);
        }
    }

    /// Sends a batch, several times where that may help. Returns the number of spans that were not taken.
    async fn send(&mut self, batch: &[Span], stop: &mut watch::Receiver<bool>) -> u64 {
        let body = Bytes::from(encode(&self.resource, batch));
        let mut attempt = 0;
        loop {
            let error = match self.post(body.clone()).await {
                Ok(refused) => {
                    if std::mem::take(&mut self.fails) {
                        tracing::info!("the collector takes traces again");
                    }
                    return refused;
                }
                Err(error) => error,
            };
            if attempt == RETRIES || !error.is_passing() || *stop.borrow() {
                // Once for each time that it fails: the metrics tell the rest.
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "traces are lost");
                }
                return batch.len() as u64;
            }
            let _ = tokio::time::timeout(pause(&error, attempt), stopped(stop)).await;
            attempt += 1;
        }
    }

    async fn post(&self, body: Bytes) -> Result<u64, ExportError> {
        let no_answer = |error: reqwest::Error| ExportError::NoAnswer(error.without_url());
        let mut answer = self.client.post(self.endpoint.clone()).body(body).send().await.map_err(no_answer)?;
        let status = answer.status();
        if !status.is_success() {
            let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(ExportError::Status { status: status.as_u16(), pause: seconds.map(Duration::from_secs) });
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_ANSWER {
                break;
            }
        }
        Ok(rejected(&text))
    }
}

/// The pause before the next attempt: what the collector asks for, or twice the one before; and up to a half more, so
/// that not all gateways come back at once.
fn pause(error: &ExportError, attempt: u32) -> Duration {
    let asked = match error {
        ExportError::Status { pause, .. } => *pause,
        ExportError::Authorization | ExportError::Client(_) | ExportError::NoAnswer(_) => None,
    };
    let pause = asked.unwrap_or(FIRST_PAUSE * 2u32.pow(attempt)).min(LONGEST_PAUSE);
    let jitter = (RandomState::new().hash_one(attempt) % 501) as f64 / 1000.0;
    pause.mul_f64(1.0 + jitter)
}

#[cfg(test)]
mod tests;
