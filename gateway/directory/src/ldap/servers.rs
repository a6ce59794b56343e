//! The servers of a directory: which of them is asked, and the connections on which the gateway itself is bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use idm_plan::DirectoryServer;
use idm_trust::{DirectoryError, DirectoryErrorKind, Password, Steps};
use rustls::ClientConfig;
use tokio::task::AbortHandle;

use super::account;
use super::connection::{Connection, FaultKind};
use super::message::{Outcome, PasswordPolicy};
use super::root::Root;
use crate::Reach;

/// The time that a server has to connect and to bind while there is another one to ask.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time for which an idle connection is kept: firewalls and servers end it later.
const IDLE: Duration = Duration::from_secs(60);
/// The time after which a connection is replaced, so that logins come back to the preferred server.
const AGE: Duration = Duration::from_secs(300);
/// The idle connections that are kept.
const KEPT: usize = 8;
/// The time for which a bind of the gateway that was refused is not repeated: repetitions would lock its account.
const REFUSED: Duration = Duration::from_secs(30);
/// The first and the longest pause after which a server that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// The time for which is known what a server says of itself.
const ROOT_KNOWN: Duration = Duration::from_secs(300);

/// How the gateway itself binds.
pub(super) enum OwnBind {
    Simple { name: String, password: Password },
    Anonymous,
}

/// The servers of a directory.
pub(super) struct Servers {
    list: Arc<[DirectoryServer]>,
    tls: Arc<ClientConfig>,
    reach: Reach,
    /// `None`: only people bind.
    bind: Option<Arc<OwnBind>>,
    state: Arc<Mutex<State>>,
    /// One connection is opened at a time: so one wrong password of the gateway is one bind, and one login alone waits
    /// for a server that is dead.
    opening: tokio::sync::Mutex<()>,
}

/// The state of all servers.
struct State {
    servers: Vec<Health>,
    idle: Vec<(Connection, Instant)>,
    refused: Option<(Instant, DirectoryError)>,
}

/// The state of one server.
#[derive(Default)]
struct Health {
    /// It failed, and is tried again then.
    down: Option<Instant>,
    /// Failures since it answered last.
    failures: u32,
    probe: Option<AbortHandle>,
    root: Option<(Instant, Root)>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.servers.iter().filter_map(|server| server.probe.as_ref()).for_each(AbortHandle::abort);
    }
}

impl State {
    fn failed(&mut self, server: usize) {
        self.idle.retain(|(connection, _)| connection.server != server);
        if let Some(health) = self.servers.get_mut(server) {
            let pause = PAUSES.0.saturating_mul(1 << health.failures.min(6)).min(PAUSES.1);
            health.failures += 1;
            health.down = Some(Instant::now() + pause);
        }
    }

    fn answered(&mut self, server: usize) {
        if let Some(health) = self.servers.get_mut(server) {
            (health.down, health.failures) = (None, 0);
        }
    }
}

impl Servers {
    pub(super) fn new(
        list: &[DirectoryServer],
        tls: Arc<ClientConfig>,
        reach: Reach,
        bind: Option<Arc<OwnBind>>,
    ) -> Result<Self, String> {
        if list.is_empty() {
            return Err("an LDAP directory has no server".into());
        }
        let servers = list.iter().map(|_| Health::default()).collect();
        Ok(Self {
            list: list.into(),
            tls,
            reach,
            bind,
            state: Arc::new(Mutex::new(State { servers, idle: Vec::new(), refused: None })),
            opening: tokio::sync::Mutex::new(()),
        })
    }

    /// The servers, as they are written.
    pub(super) fn list(&self) -> &[DirectoryServer] {
        &self.list
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection on which the gateway is bound, and whether it was kept from another login.
    pub(super) async fn lease(&self, steps: &Steps, deadline: Instant) -> Result<(Connection, bool), DirectoryError> {
        if let Some(kept) = self.kept() {
            return Ok((kept, true));
        }
        let Ok(_turn) = tokio::time::timeout_at(deadline.into(), self.opening.lock()).await else {
            let detail = "other logins wait for a connection to the directory, too";
            return Err(DirectoryError::new(DirectoryErrorKind::Unavailable, detail));
        };
        // Another login may have left one in the meantime.
        if let Some(kept) = self.kept() {
            return Ok((kept, true));
        }
        self.fresh(steps, deadline).await.map(|connection| (connection, false))
    }

    /// An idle connection that stands.
    fn kept(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.retain(|(connection, since)| now < *since + IDLE && now < connection.opened + AGE);
        while let Some((mut connection, _)) = state.idle.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next login.
    pub(super) fn give_back(&self, connection: Connection) {
        let mut state = self.state();
        state.answered(connection.server);
        if state.idle.len() < KEPT {
            state.idle.push((connection, Instant::now()));
        }
    }

    /// Forgets every idle connection to a server: what cut one of them off has cut off the others.
    pub(super) fn forget_idle(&self, server: usize) {
        self.state().idle.retain(|(connection, _)| connection.server != server);
    }

    /// A server did not do what it should; others are asked before it for a while.
    pub(super) fn failed(&self, server: usize) {
        self.state().failed(server);
    }

    /// Opens a connection and binds as the gateway.
    async fn fresh(&self, steps: &Steps, deadline: Instant) -> Result<Connection, DirectoryError> {
        if let Some((_, error)) = self.state().refused.as_ref().filter(|(until, _)| Instant::now() < *until) {
            return Err(error.clone());
        }
        let mut worst = None;
        let order = self.order();
        for (place, position) in order.iter().enumerate() {
            let until = patience(deadline, place + 1 < order.len());
            let mut connection = match self.open(*position, steps, until).await {
                Ok(connection) => connection,
                Err(error) => {
                    worst = worse(worst, error);
                    continue;
                }
            };
            match self.bind_own(&mut connection, steps, until).await {
                Ok(()) => {
                    let mut state = self.state();
                    state.answered(*position);
                    state.refused = None;
                    return Ok(connection);
                }
                Err(error) if error.kind == DirectoryErrorKind::RefusesUs => {
                    self.state().refused = Some((Instant::now() + REFUSED, error.clone()));
                    return Err(error);
                }
                Err(error) => {
                    self.state().failed(*position);
                    worst = worse(worst, error);
                }
            }
        }
        Err(worst.unwrap_or_else(|| DirectoryError::new(DirectoryErrorKind::Unavailable, "there is no server")))
    }

    async fn bind_own(&self, connection: &mut Connection, steps: &Steps, until: Instant) -> Result<(), DirectoryError> {
        let (name, password) = match self.bind.as_deref() {
            Some(OwnBind::Simple { name, password }) => (name.as_str(), Some(password)),
            Some(OwnBind::Anonymous) => ("", None),
            None => return Ok(()),
        };
        let began = Instant::now();
        let bound = connection.bind(name, password, until).await;
        let (outcome, _) = bound.map_err(|fault| connection.error(&fault))?;
        note_bind(steps, connection, "the gateway", name, &outcome, began);
        account::own_bind(&connection.label, name, &outcome)
    }

    /// Connects to the servers in order until one stands.
    pub(super) async fn open_any(&self, steps: &Steps, deadline: Instant) -> Result<Connection, DirectoryError> {
        let mut worst = None;
        let order = self.order();
        for (place, position) in order.iter().enumerate() {
            match self.open(*position, steps, patience(deadline, place + 1 < order.len())).await {
                Ok(connection) => return Ok(connection),
                Err(error) => worst = worse(worst, error),
            }
        }
        Err(worst.unwrap_or_else(|| DirectoryError::new(DirectoryErrorKind::Unavailable, "there is no server")))
    }

    /// Checks a person's password, once: as soon as the bind is on its way, no server is asked again.
    pub(super) async fn bind_as(
        &self,
        name: &str,
        password: &Password,
        steps: &Steps,
        deadline: Instant,
    ) -> Result<(Connection, Outcome, PasswordPolicy), DirectoryError> {
        let mut connection = self.open_any(steps, deadline).await?;
        let began = Instant::now();
        match connection.bind(name, Some(password), deadline).await {
            Ok((outcome, policy)) => {
                note_bind(steps, &connection, "the person", name, &outcome, began);
                Ok((connection, outcome, policy))
            }
            Err(fault) => {
                if fault.kind != FaultKind::Broken {
                    self.failed(connection.server);
                }
                let error = connection.error(&fault);
                steps.note(|| format!("{}: bind of the person `{name}`: {}", connection.label, fault.detail));
                Err(error)
            }
        }
    }

    async fn open(&self, position: usize, steps: &Steps, until: Instant) -> Result<Connection, DirectoryError> {
        let Some(server) = self.list.get(position) else {
            return Err(DirectoryError::new(DirectoryErrorKind::Unavailable, "there is no such server"));
        };
        let began = Instant::now();
        let opened = Connection::open(position, server, &self.tls, &self.reach, until).await;
        match &opened {
            Ok(Connection { label, .. }) => {
                let protection = server.protection;
                steps.note(|| format!("{label}: connected ({protection:?}), {} ms", began.elapsed().as_millis()));
            }
            Err(error) => {
                self.state().failed(position);
                steps.note(|| format!("not connected, {} ms: {error}", began.elapsed().as_millis()));
            }
        }
        opened
    }

    /// The servers that are asked, in this order. Those that failed come last, and are looked after in the background:
    /// no login waits for them while another one answers.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut state = self.state();
        for (position, health) in state.servers.iter_mut().enumerate() {
            let due = health.down.is_some_and(|until| until <= now);
            if due && health.probe.as_ref().is_none_or(AbortHandle::is_finished) {
                health.probe = Some(self.probe(position));
            }
        }
        let (up, down): (Vec<_>, Vec<_>) =
            (0..self.list.len()).partition(|position| state.servers.get(*position).is_some_and(|it| it.down.is_none()));
        [up, down].concat()
    }

    /// Finds out whether a server can be connected to again.
    fn probe(&self, position: usize) -> AbortHandle {
        let (list, tls, reach) = (self.list.clone(), self.tls.clone(), self.reach.clone());
        // The task must not keep alive what its end is bound to.
        let state = Arc::downgrade(&self.state);
        let task = tokio::spawn(async move {
            let Some(server) = list.get(position) else { return };
            let opened = Connection::open(position, server, &tls, &reach, Instant::now() + 2 * PATIENCE).await;
            let Some(state) = state.upgrade() else { return };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match opened {
                Ok(_) => {
                    if let Some(health) = state.servers.get_mut(position) {
                        health.down = None;
                    }
                }
                Err(_) => state.failed(position),
            }
        });
        task.abort_handle()
    }

    /// The root DSE of a server, if it is known.
    pub(super) fn root(&self, server: usize) -> Option<Root> {
        let state = self.state();
        let (since, root) = state.servers.get(server)?.root.as_ref()?;
        (since.elapsed() < ROOT_KNOWN).then(|| root.clone())
    }

    pub(super) fn know_root(&self, server: usize, root: Root) {
        if let Some(health) = self.state().servers.get_mut(server) {
            health.root = Some((Instant::now(), root));
        }
    }
}

/// The end of the time for one server.
fn patience(deadline: Instant, others: bool) -> Instant {
    if others { deadline.min(Instant::now() + PATIENCE) } else { deadline }
}

/// Of errors of several servers, the one that people must act on.
fn worse(known: Option<DirectoryError>, other: DirectoryError) -> Option<DirectoryError> {
    match known {
        Some(known) if known.kind != DirectoryErrorKind::Unavailable => Some(known),
        _ => Some(other),
    }
}

fn note_bind(steps: &Steps, connection: &Connection, who: &str, name: &str, outcome: &Outcome, began: Instant) {
    let Outcome { code, diagnostic, referral: _ } = outcome;
    steps.note(|| {
        let (label, ms) = (&connection.label, began.elapsed().as_millis());
        format!("{label}: bind of {who} `{name}`: code {} ({code:?}) {diagnostic}, {ms} ms", code.clone() as i64)
    });
}
