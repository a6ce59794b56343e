//! A store on a Redis or Valkey server.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use idm_bulkhead::Bounds;
use idm_traces::{Kind, Open, current};
use idm_types::{Clock, Timestamp};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, RedisError, TlsCertificates};
use tokio::runtime::Handle;

use crate::gate::{BOUNDS, Gate, Health, Outcome};
use crate::revoked::{MARGIN_MS, Revocations};
use crate::{Key, SharedOptions, StoreError};

/// The time limits and intervals for queries to a store.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// A query that takes longer is an error: requests wait for it.
    time_limit: Duration,
    /// The time within which every gateway knows of a revocation.
    poll: Duration,
    bounds: Bounds,
}

impl Manner {
    pub(crate) const USUAL: Self =
        Self { time_limit: Duration::from_secs(1), poll: Duration::from_millis(200), bounds: BOUNDS };
}

/// Replaces a value only if it is the expected one, and keeps its expiry.
const REPLACE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') \
    return 1 end return 0";
/// Reads a value or sets this one if there is none, and renews its expiry in both cases.
const SETTLE: &str = "local kept = redis.call('GET', KEYS[1]) if not kept then kept = ARGV[1] end redis.call('SET', \
    KEYS[1], kept, 'PX', ARGV[2]) return kept";
/// Adds to a counter, which expires with the current span of the server's clock.
const ADD: &str = "local sum = redis.call('INCRBY', KEYS[1], ARGV[1]) if redis.call('PTTL', KEYS[1]) < 0 then local \
    time = redis.call('TIME') local ms = time[1] * 1000 + math.floor(time[2] / 1000) redis.call('PEXPIRE', KEYS[1], \
    ARGV[2] - ms % ARGV[2]) end return sum";
/// A counter, and the time until it expires.
const COUNT: &str = "return {tonumber(redis.call('GET', KEYS[1]) or '0'), redis.call('PTTL', KEYS[1])}";
/// Adds to the list, removes entries that have expired by the server's clock and a margin, and announces the change. A
/// pod whose clock is wrong removes no entry from the list, and its own entries stay for at least as long as it
/// intended.
const REVOKE: &str = "local time = redis.call('TIME') local now = time[1] * 1000 redis.call('ZREMRANGEBYSCORE', \
    KEYS[1], '-inf', now - ARGV[4]) redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', math.max(ARGV[2], now + \
    ARGV[3])), ARGV[1]) return redis.call('INCR', KEYS[2])";

pub(crate) struct Shared {
    client: Client,
    connection: ArcSwap<ConnectionManager>,
    gate: Gate,
    manner: Manner,
    runtime: Handle,
    prefix: String,
    /// Slots of limits came back, and the server should be told.
    flush: tokio::sync::Notify,
}

/// The server's error without the command: values must not get into any message.
fn failed(error: &RedisError) -> StoreError {
    StoreError(match error.code() {
        Some(code) => format!("the store answered {code}"),
        None => format!("no answer from the store: {}", error.category()),
    })
}

/// The span of a query for a request that is recorded. Of the command it has the name alone.
fn traced(command: &redis::Cmd) -> Option<Open> {
    let name = match command.args_iter().next() {
        Some(redis::Arg::Simple(b"SET")) => "SET",
        Some(redis::Arg::Simple(b"GET")) => "GET",
        Some(redis::Arg::Simple(b"GETEX")) => "GETEX",
        Some(redis::Arg::Simple(b"DEL")) => "DEL",
        Some(redis::Arg::Simple(b"EVAL")) => "EVAL",
        _ => "query",
    };
    let open = current()?.begin(Kind::Client, name);
    Some(open.with("db.system.name", "redis").with("db.operation.name", name))
}

fn ended(span: &mut Option<Open>, answered: bool) {
    match span {
        Some(span) if answered => span.succeeded(),
        Some(span) => span.failed("no_answer"),
        None => {}
    }
}

/// Connects at the first query, and again when a connection was closed.
fn manager(client: &Client, manner: Manner) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(manner.time_limit))
        .set_response_timeout(Some(manner.time_limit))
        .set_number_of_retries(1)
        .set_max_delay(Duration::from_millis(100));
    client.get_connection_manager_lazy(config)
}

impl Shared {
    pub(crate) fn connect(options: SharedOptions, manner: Manner) -> Result<Self, StoreError> {
        let SharedOptions { url, username, password, ca_pem, namespace } = options;
        let wrong = |error: &RedisError| StoreError(format!("the store's URL cannot be used: {}", error.category()));
        let info = url.as_str().into_connection_info().map_err(|error| wrong(&error))?;
        let mut settings = info.redis_settings().clone();
        if let Some(username) = username {
            settings = settings.set_username(username);
        }
        if let Some(password) = password {
            settings = settings.set_password(password.reveal());
        }
        let info = info.set_redis_settings(settings);
        let client = match ca_pem {
            Some(root_cert) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None::<ClientTlsConfig>, root_cert: Some(root_cert) },
            ),
            None => Client::open(info),
        };
        let client = client.map_err(|error| wrong(&error))?;
        Ok(Self {
            connection: ArcSwap::from_pointee(manager(&client, manner).map_err(|error| wrong(&error))?),
            client,
            gate: Gate::new(manner.bounds, manner.time_limit),
            manner,
            runtime: Handle::current(),
            prefix: format!("idm:{namespace}:"),
            flush: tokio::sync::Notify::new(),
        })
    }

    pub(crate) fn health(&self) -> Health {
        self.gate.health()
    }

    /// One question, without an end.
    async fn query<T: redis::FromRedisValue>(&self, command: redis::Cmd) -> Outcome<T> {
        let mut connection = ConnectionManager::clone(&self.connection.load());
        match command.query_async(&mut connection).await {
            Ok(answer) => Outcome::Answered(Ok(answer)),
            Err(error) if error.is_io_error() => Outcome::Silent(failed(&error)),
            Err(error) => Outcome::Answered(Err(failed(&error))),
        }
    }

    /// Runs a query on the runtime that the connection belongs to; the serving cores only wait.
    pub(crate) async fn ask<T: redis::FromRedisValue + Send + 'static>(
        self: Arc<Self>,
        command: redis::Cmd,
    ) -> Result<T, StoreError> {
        let mut span = traced(&command);
        let admission = self.gate.admit().inspect_err(|_| ended(&mut span, false))?;
        let runtime = self.runtime.clone();
        let asked = runtime.spawn(async move {
            let answer = self.gate.ask(admission, self.query(command)).await;
            ended(&mut span, answer.is_ok());
            answer
        });
        asked.await.unwrap_or_else(|_| Err(StoreError("the question to the store was dropped".into())))
    }

    /// The runtime that the connection belongs to.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A query that takes longer is an error.
    pub(crate) fn time_limit(&self) -> Duration {
        self.manner.time_limit
    }

    pub(crate) fn name(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, key.hex())
    }

    pub(crate) async fn claim(self: Arc<Self>, key: Key, for_ms: u64) -> Result<bool, StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.name(&key)).arg(1).arg("NX").arg("PX").arg(for_ms.max(1));
        self.ask::<Option<String>>(command).await.map(|answer| answer.is_some())
    }

    pub(crate) async fn get(self: Arc<Self>, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.name(&key));
        self.ask(command).await
    }

    pub(crate) async fn renew(self: Arc<Self>, key: Key, for_ms: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("GETEX");
        command.arg(self.name(&key)).arg("PX").arg(for_ms.max(1));
        self.ask(command).await
    }

    pub(crate) async fn settle(self: Arc<Self>, key: Key, value: Vec<u8>, for_ms: u64) -> Result<Vec<u8>, StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(SETTLE).arg(1).arg(self.name(&key)).arg(value).arg(for_ms.max(1));
        self.ask(command).await
    }

    pub(crate) async fn put(self: Arc<Self>, key: Key, value: Vec<u8>, for_ms: u64) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.name(&key)).arg(value).arg("PX").arg(for_ms.max(1));
        self.ask(command).await
    }

    pub(crate) async fn replace(
        self: Arc<Self>,
        key: Key,
        expected: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(REPLACE).arg(1).arg(self.name(&key)).arg(expected).arg(value);
        self.ask(command).await
    }

    pub(crate) async fn remove(self: Arc<Self>, key: Key) -> Result<(), StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.name(&key));
        self.ask::<i64>(command).await.map(drop)
    }

    pub(crate) async fn count(self: Arc<Self>, key: Key) -> Result<(u64, u64), StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(COUNT).arg(1).arg(self.name(&key));
        let (sum, left) = self.ask::<(u64, i64)>(command).await?;
        Ok((sum, u64::try_from(left).unwrap_or_default()))
    }

    pub(crate) fn add_soon(self: Arc<Self>, key: Key, number: u64, span_ms: u64) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            // A failed write is repeated; while the store is unreachable, requests that need it are refused.
            for attempt in 0..5u32 {
                let mut command = redis::cmd("EVAL");
                command.arg(ADD).arg(1).arg(self.name(&key)).arg(number).arg(span_ms.max(1));
                match self.clone().ask::<i64>(command).await {
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(self.manner.time_limit * 2u32.pow(attempt)).await,
                }
            }
            tracing::error!("the store could not be told what a caller used");
        });
    }

    /// The key of the pods that asked for counters lately.
    pub(crate) fn pods(&self) -> String {
        format!("{}pods", self.prefix)
    }

    /// The name of something that is no entry.
    pub(crate) fn part(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn wake_flush(&self) {
        self.flush.notify_one();
    }

    pub(crate) async fn woken_flush(&self) {
        self.flush.notified().await;
    }

    fn list(&self) -> String {
        format!("{}revoked", self.prefix)
    }

    fn version(&self) -> String {
        format!("{}revoked:version", self.prefix)
    }

    pub(crate) async fn revoke(self: Arc<Self>, key: Key, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(REVOKE).arg(2).arg(self.list()).arg(self.version()).arg(key.hex());
        command.arg(until.0).arg(until.0.saturating_sub(now.0)).arg(MARGIN_MS);
        self.ask::<i64>(command).await.map(drop)
    }

    /// Keeps the copy of the list up to date while it is in use.
    pub(crate) async fn follow(self: Arc<Self>, copy: Weak<Revocations>, clock: Clock) {
        let mut seen: Option<Option<i64>> = None;
        let mut failing = false;
        loop {
            let Some(copy) = copy.upgrade() else { return };
            match self.look(&mut seen, &copy, &clock).await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("the store answers again");
                }
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the store cannot be asked; what depends on it is refused");
                    }
                    self.connect_anew();
                }
            }
            drop(copy);
            tokio::time::sleep(self.manner.poll).await;
        }
    }

    /// A dead connection may take many minutes to be closed, and the client does not retry a refused one.
    fn connect_anew(&self) {
        match manager(&self.client, self.manner) {
            Ok(manager) => self.connection.store(Arc::new(manager)),
            Err(error) => tracing::error!(error = error.category(), "the store cannot be connected to anew"),
        }
    }

    async fn look(&self, seen: &mut Option<Option<i64>>, copy: &Revocations, clock: &Clock) -> Result<(), StoreError> {
        // The time before the query: a revocation during the round trip comes with the next query.
        let asked = clock.at(Timestamp::now());
        let mut command = redis::cmd("GET");
        command.arg(self.version());
        let version: Option<i64> = self.gate.probe(self.query(command)).await?;
        if *seen == Some(version) {
            copy.confirm(asked);
            return Ok(());
        }
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.list()).arg(0).arg(-1).arg("WITHSCORES");
        let entries: Vec<(String, f64)> = self.gate.probe(self.query(command)).await?;
        let until = |until: f64| Timestamp(until as u64);
        let keys: Vec<(Key, Timestamp)> =
            entries.into_iter().filter_map(|(key, end)| Some((Key::from_hex(&key)?, until(end)))).collect();
        copy.merge(&keys, asked);
        *seen = Some(version);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
