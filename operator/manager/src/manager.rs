//! The state behind all requests: where the objects are, the sessions, the code.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_audit::ship::Elasticsearch;
use idm_audit::{ReadError, Records, ServerReader};
use idm_compile::Settings;
use idm_gateway::Gateway;
use idm_types::{Clock, DecisionId, Redacted, Timestamp};
use tokio::sync::RwLock;

use crate::failure::{Code, Failure};
use crate::guard::Names;
use crate::place::Place;
use crate::place::folder::FolderPlace;
use crate::session::{OneTimeCode, Person, Sessions};
use crate::table::{Endpoint, endpoints};
use crate::wire::SignIn;

/// A wrong code costs this much time.
const WRONG_COSTS: Duration = Duration::from_secs(1);

/// A folder whose objects are managed.
pub struct FolderOptions {
    /// The folder.
    pub dir: PathBuf,
    /// As the gateway reads it.
    pub settings: Settings,
    /// The gateway that serves it; its spool takes the records of changes.
    pub gateway: Arc<Gateway>,
    /// The folder with the audit.
    pub audit_dir: PathBuf,
    /// The server that records are shipped to.
    pub elasticsearch: Option<Elasticsearch>,
}

/// The records of this process in a folder, and all of them on a server, if there is one.
pub(crate) struct AuditPlace {
    pub(crate) dir: PathBuf,
    pub(crate) own: Records,
    pub(crate) server: Option<Records>,
}

impl AuditPlace {
    /// The place with all of them.
    pub(crate) fn all(&self) -> &Records {
        self.server.as_ref().unwrap_or(&self.own)
    }
}

/// Why a manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no random bits.
    #[error("the system gave no random bits")]
    NoRandom,
    /// The server with the records cannot be asked.
    #[error("{0}")]
    Records(#[from] ReadError),
    /// The gateway was stopped.
    #[error("the gateway does not run")]
    NoGateway,
}

/// The management API over one place of objects.
pub struct Manager {
    pub(crate) place: Box<dyn Place>,
    pub(crate) audit: AuditPlace,
    pub(crate) names: Names,
    pub(crate) endpoints: Arc<[Endpoint]>,
    sessions: Mutex<Sessions>,
    code: Mutex<OneTimeCode>,
    clock: Clock,
    /// Held shared by every request under way.
    under_way: Arc<RwLock<()>>,
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], StartError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoRandom)?;
    Ok(bytes)
}

/// An id of a failure or of a record.
pub(crate) fn new_id(time: Timestamp) -> String {
    let random = random::<16>().map(u128::from_be_bytes).unwrap_or_default();
    DecisionId::from_parts(time.0, random).to_string()
}

impl Manager {
    /// Over a folder. Returns the code that opens the one session, to be printed once.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn of_folder(options: FolderOptions, allowed_hosts: &[String]) -> Result<(Arc<Self>, String), StartError> {
        let clock = Clock::of_process();
        let code = OneTimeCode::new(random()?, clock.uptime());
        let shown = code.shown();
        let server = options.elasticsearch.clone().map(ServerReader::new).transpose()?.map(Records::Server);
        let dir = options.audit_dir.clone();
        let audit = AuditPlace { own: Records::Folder(dir.clone()), dir, server };
        let place = FolderPlace::new(options).ok_or(StartError::NoGateway)?;
        let manager = Self {
            place: Box::new(place),
            audit,
            names: Names::new(allowed_hosts),
            endpoints: endpoints(),
            sessions: Mutex::default(),
            code: Mutex::new(code),
            clock,
            under_way: Arc::default(),
        };
        Ok((Arc::new(manager), shown))
    }

    /// Work that a stop waits for.
    pub(crate) fn counted<F: Future + Send + 'static>(
        &self,
        work: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let under_way = self.under_way.clone();
        async move {
            let _held = under_way.read_owned().await;
            work.await
        }
    }

    /// Resolves when no request is under way.
    pub(crate) async fn changes_are_done(&self) {
        drop(self.under_way.write().await);
    }

    /// The person of a session.
    pub(crate) fn person(&self, cookie: Option<&str>) -> Option<Person> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.person(cookie?, self.clock.uptime())
    }

    /// Whether a session is open; asking does not keep it awake.
    pub(crate) fn is_open(&self, cookie: Option<&str>) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        cookie.is_some_and(|cookie| sessions.is_open(cookie, self.clock.uptime()))
    }

    pub(crate) fn end_session(&self, cookie: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).end(cookie);
    }

    /// Opens a session; returns its cookie.
    pub(crate) async fn open_session(&self, SignIn { code }: SignIn) -> Result<Redacted<String>, Failure> {
        let checked = {
            let mut known = self.code.lock().unwrap_or_else(PoisonError::into_inner);
            known.redeem(&code, self.clock.uptime())
        };
        if let Err(error) = checked {
            tokio::time::sleep(WRONG_COSTS).await;
            return Err(Failure::new(Code::NoSession, error.to_string()));
        }
        let person = self.place.sign_in().await?;
        let random = random().map_err(|error| Failure::unavailable(error.to_string()))?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sessions.open(person, random, self.clock.uptime()))
    }
}
