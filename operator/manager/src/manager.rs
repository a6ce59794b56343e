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
use crate::guard::{Names, Scheme};
use crate::place::Place;
use crate::place::cluster::{ClusterOptions, ClusterPlace};
use crate::place::folder::FolderPlace;
use crate::session::{Access, OneTimeCode, Person, Sessions};
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

/// The records of this process in a folder, and all of them on a server, where there are such.
#[derive(Default)]
pub(crate) struct AuditPlace {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) own: Option<Records>,
    pub(crate) server: Option<Records>,
}

impl AuditPlace {
    /// The place with all of them.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn all(&self) -> Result<&Records, Failure> {
        self.server.as_ref().or(self.own.as_ref()).ok_or_else(not_configured)
    }
}

pub(crate) fn not_configured() -> Failure {
    let message = "the audit is not configured here: the Manager of a cluster reads records from Elasticsearch \
                   (--elasticsearch)";
    Failure::new(Code::NotConfigured, message)
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
    /// The API server cannot be asked.
    #[error("the API server cannot be asked: {0}")]
    ApiServer(String),
}

/// The management API over one place of objects.
pub struct Manager {
    pub(crate) place: Box<dyn Place>,
    pub(crate) audit: AuditPlace,
    pub(crate) names: Names,
    pub(crate) endpoints: Arc<[Endpoint]>,
    sessions: Mutex<Sessions>,
    /// Of a folder.
    code: Option<Mutex<OneTimeCode>>,
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
        let audit = AuditPlace { own: Some(Records::Folder(dir.clone())), dir: Some(dir), server };
        let place = FolderPlace::new(options).ok_or(StartError::NoGateway)?;
        let names = Names::new(allowed_hosts, Scheme::Http);
        let manager = Self::new(Box::new(place), audit, names, clock);
        Ok((Arc::new(Self { code: Some(Mutex::new(code)), ..manager }), shown))
    }

    /// Over the cluster of an API server, where people sign in with tokens of theirs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn of_cluster(
        options: ClusterOptions,
        allowed_hosts: &[String],
        scheme: Scheme,
    ) -> Result<Arc<Self>, StartError> {
        let clock = Clock::of_process();
        let server = options.elasticsearch.clone().map(ServerReader::new).transpose()?.map(Records::Server);
        let place = ClusterPlace::new(options, clock.clone())?;
        let audit = AuditPlace { server, ..AuditPlace::default() };
        Ok(Arc::new(Self::new(Box::new(place), audit, Names::new(allowed_hosts, scheme), clock)))
    }

    pub(crate) fn new(place: Box<dyn Place>, audit: AuditPlace, names: Names, clock: Clock) -> Self {
        Self {
            place,
            audit,
            names,
            endpoints: endpoints(),
            sessions: Mutex::default(),
            code: None,
            clock,
            under_way: Arc::default(),
        }
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
    pub(crate) async fn open_session(&self, with: SignIn) -> Result<Redacted<String>, Failure> {
        let person = match self.person_of(with).await {
            Err(failure) if failure.code == Code::NoSession => {
                tokio::time::sleep(WRONG_COSTS).await;
                return Err(failure);
            }
            found => found?,
        };
        let random = random().map_err(|error| Failure::unavailable(error.to_string()))?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = sessions.open(person, random, self.clock.uptime());
        opened.ok_or_else(|| Failure::unavailable(StartError::NoRandom.to_string()))
    }

    async fn person_of(&self, SignIn { code, token, namespaces }: SignIn) -> Result<Person, Failure> {
        let token = token.map(Redacted::new);
        let Some(known) = &self.code else {
            let give = "give `token`: a bearer token of the API server, such as `kubectl create token` makes";
            let token = token.ok_or_else(|| Failure::invalid(give).at("token"))?;
            return self.place.sign_in(Some(Access::new(token, namespaces))).await;
        };
        let code = code.ok_or_else(|| Failure::invalid("give `code`: it was printed at the start").at("code"))?;
        let redeemed = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.redeem(&code, self.clock.uptime())
        };
        redeemed.map_err(|error| Failure::new(Code::NoSession, error.to_string()))?;
        self.place.sign_in(None).await
    }
}
