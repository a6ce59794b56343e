//! A plan with everything alive that it needs, swapped as one pointer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use idm_authn::{ArmedPolicy, Armory, CredentialTable, Grants, KeyRing, Memory, Outside, PolicyError, PolicyHeaders};
use idm_authz::Rules;
use idm_issue::TokenIssuer;
use idm_plan::{Backend, Bundle, Door, Endpoint, Handler, HeaderEdit, MethodKind, Plan, Policy, Timeouts};
use idm_transform::{ArmedLlm, Quotas, Steps};
use idm_types::Reason;
use tokio::sync::watch;

use crate::Metrics;
use crate::held::{BodyLimits, Holding};
use crate::metrics::PolicyCounters;
use crate::reserved::UsedHeaders;
use crate::router::Router;
use crate::scrub::Reserved;

/// Why a plan could not be armed. The engine before it keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Something in the plan that compile would not have written.
    #[error("the plan is not usable: {0}")]
    Plan(String),
}

/// An armed plan. Immutable; shared by all cores.
pub struct Engine {
    pub(crate) namespace: String,
    pub(crate) generation: u64,
    pub(crate) digest: String,
    pub(crate) router: Router,
    pub(crate) secure_router: Router,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) rules: Vec<ArmedRule>,
    pub(crate) policies: Vec<PolicyInForce>,
    pub(crate) backends: Vec<Backend>,
    /// Headers that no caller may send, on any route.
    pub(crate) reserved: Reserved,
    /// Headers that stay in the request even if `Connection` lists them.
    pub(crate) used: Reserved,
    /// Whether some policy has a sign-in method: then callers may send session cookies of the gateway.
    pub(crate) signs_in: bool,
}

/// A policy with everything that decides by it.
pub(crate) struct PolicyInForce {
    pub(crate) armed: ArmedPolicy,
    pub(crate) rules: Rules,
    pub(crate) steps: Steps,
    pub(crate) llm: Option<ArmedLlm>,
    pub(crate) issuer: Option<TokenIssuer>,
    pub(crate) counters: Arc<PolicyCounters>,
}

pub(crate) struct ArmedRule {
    pub(crate) name: String,
    pub(crate) handler: ArmedHandler,
}

pub(crate) enum ArmedHandler {
    Enforce {
        policy: usize,
        /// Position in [`Engine::backends`] and the sum of weights up to and including it.
        backends: Vec<(usize, u64)>,
        timeouts: Timeouts,
        edits: Vec<ArmedEdit>,
        /// Headers that callers of this rule may not send.
        reserved: Arc<Reserved>,
    },
    Issue {
        policy: usize,
        endpoint: Endpoint,
    },
    SignIn {
        policy: usize,
        door: Door,
        federation: Option<String>,
    },
    Refuse {
        reason: Reason,
        detail: String,
    },
}

pub(crate) enum ArmedEdit {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Engine {
    /// Arms a bundle and returns the keys it uses. `known` and `memory` keep fetched keys and what
    /// authentication remembers across engines; `metrics` keeps the counters.
    pub fn arm(
        bundle: &Bundle,
        known: &KeyRing,
        memory: &Arc<Memory>,
        outside: &Arc<dyn Outside>,
        metrics: &Metrics,
    ) -> Result<(Self, KeyRing), EngineError> {
        let Plan { namespace, policies, hosts, secure_hosts, certificates: _, rules, credentials, grants, federations } =
            &bundle.plan;
        let mut armory = Armory {
            known,
            ring: KeyRing::new(),
            grants: Arc::new(Grants::new(grants)),
            credentials: Arc::new(CredentialTable::new(credentials).map_err(EngineError::Plan)?),
            secrets: &bundle.secrets,
            memory: memory.clone(),
            outside: outside.clone(),
            federations,
            providers: HashMap::new(),
        };
        let mut armed = Vec::with_capacity(policies.len());
        for (position, policy) in policies.iter().enumerate() {
            let counters = metrics.policy(&policy.key.to_string());
            let rules =
                Rules::arm(policy).map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))?;
            let steps = Steps::arm(&policy.jose, &mut armory)
                .map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))?;
            let llm = policy.llm.as_ref().map(|llm| ArmedLlm::arm(llm, &bundle.secrets)).transpose();
            let llm = llm.map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))?;
            let issuer = policy
                .token_service
                .as_ref()
                .map(|service| TokenIssuer::arm(service, credentials, &mut armory))
                .transpose();
            let issuer = issuer.map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))?;
            armed.push(PolicyInForce {
                armed: ArmedPolicy::arm(policy, position, &mut armory)?,
                rules,
                steps,
                llm,
                issuer,
                counters,
            });
        }
        let read = policies.iter().map(|policy| {
            PolicyHeaders::of(policy).map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))
        });
        let matches = hosts.iter().chain(secure_hosts).flat_map(|host| &host.entries).flat_map(|entry| &entry.headers);
        let mut headers =
            RuleHeaders { used: UsedHeaders::new(read.collect::<Result<_, _>>()?, matches), known: HashMap::new() };
        let mut backends = Vec::new();
        let rules: Vec<ArmedRule> = rules
            .iter()
            .map(|rule| {
                let handler = arm_handler(&rule.handler, policies, &mut backends, &mut headers)?;
                Ok(ArmedRule { name: rule.name.clone(), handler })
            })
            .collect::<Result<_, EngineError>>()?;
        if hosts.iter().chain(secure_hosts).flat_map(|host| &host.entries).any(|entry| entry.rule >= rules.len()) {
            return Err(EngineError::Plan("an entry points at a rule that does not exist".into()));
        }
        let router = Router::new(hosts);
        let secure_router = Router::new(secure_hosts);
        let tls = crate::tls::arm(&bundle.plan, &bundle.secrets).map_err(EngineError::Plan)?;
        let (reserved, used) = (headers.used.everywhere(), headers.used.used());
        let signs_in = armed.iter().any(|policy| policy.armed.sign_in().is_some());
        let Bundle { generation, digest, .. } = bundle;
        let engine = Self {
            namespace: namespace.clone(),
            generation: *generation,
            digest: digest.clone(),
            router,
            secure_router,
            tls,
            rules,
            policies: armed,
            backends,
            reserved,
            used,
            signs_in,
        };
        Ok((engine, armory.ring))
    }

    /// Generation and digest of the plan, for the acknowledgement.
    pub fn version(&self) -> (u64, &str) {
        (self.generation, &self.digest)
    }

    /// Whether every issuer's keys have been fetched at least once.
    pub fn keys_loaded(&self) -> bool {
        self.policies
            .iter()
            .all(|policy| policy.armed.keys_loaded() && policy.issuer.as_ref().is_none_or(TokenIssuer::keys_loaded))
    }
}

/// The reserved headers of each rule; many rules share one set.
struct RuleHeaders<'p> {
    used: UsedHeaders<'p>,
    known: HashMap<(usize, Vec<HeaderEdit>), Arc<Reserved>>,
}

impl RuleHeaders<'_> {
    fn of(&mut self, policy: usize, edits: &[HeaderEdit]) -> Arc<Reserved> {
        let Self { used, known } = self;
        known.entry((policy, edits.to_vec())).or_insert_with(|| Arc::new(used.of_rule(policy, edits))).clone()
    }
}

fn arm_handler(
    handler: &Handler,
    policies: &[Policy],
    known: &mut Vec<Backend>,
    used: &mut RuleHeaders<'_>,
) -> Result<ArmedHandler, EngineError> {
    match handler {
        Handler::Refuse { reason, detail } => Ok(ArmedHandler::Refuse { reason: *reason, detail: detail.clone() }),
        Handler::Issue { policy, endpoint } => match policies.get(*policy).map(|policy| policy.token_service.is_some())
        {
            Some(true) => Ok(ArmedHandler::Issue { policy: *policy, endpoint: *endpoint }),
            _ => Err(EngineError::Plan("an endpoint points at a policy without a token service".into())),
        },
        Handler::SignIn { policy, door, federation } => {
            let signs_in =
                |policy: &Policy| policy.methods.iter().any(|method| matches!(method.kind, MethodKind::SignIn(_)));
            match policies.get(*policy).map(signs_in) {
                Some(true) => Ok(ArmedHandler::SignIn { policy: *policy, door: *door, federation: federation.clone() }),
                _ => Err(EngineError::Plan("a door points at a policy where nobody signs in".into())),
            }
        }
        Handler::Enforce { policy, backends, timeouts, headers } => {
            if *policy >= policies.len() {
                return Err(EngineError::Plan("a rule points at a policy that does not exist".into()));
            }
            let mut sum = 0;
            let mut positions = Vec::new();
            for backend in backends.iter().filter(|backend| backend.weight > 0) {
                sum += u64::from(backend.weight);
                let position = known.iter().position(|k| same_pool(k, backend)).unwrap_or_else(|| {
                    known.push(backend.clone());
                    known.len() - 1
                });
                positions.push((position, sum));
            }
            if positions.is_empty() {
                return Ok(ArmedHandler::Refuse {
                    reason: Reason::NoBackend,
                    detail: "no backend has a weight above 0".into(),
                });
            }
            let reserved = used.of(*policy, headers);
            // A header that the policy writes keeps the policy's value: edits of it by the route's filters are ignored.
            let edits = headers.iter().filter(|edit| !used.used.is_written_by(*policy, edit));
            let edits = edits.map(arm_edit).collect::<Result<_, _>>()?;
            Ok(ArmedHandler::Enforce { policy: *policy, backends: positions, timeouts: *timeouts, edits, reserved })
        }
    }
}

pub(crate) fn same_pool(a: &Backend, b: &Backend) -> bool {
    (&a.host, a.port, a.protocol, a.local) == (&b.host, b.port, b.protocol, b.local)
}

fn arm_edit(edit: &HeaderEdit) -> Result<ArmedEdit, EngineError> {
    let name = |text: &String| {
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| EngineError::Plan(format!("`{text}` is not a header name")))
    };
    let value = |text: &String| {
        HeaderValue::from_str(text).map_err(|_| EngineError::Plan("a header value cannot travel".into()))
    };
    Ok(match edit {
        HeaderEdit::Set(n, v) => ArmedEdit::Set(name(n)?, value(v)?),
        HeaderEdit::Add(n, v) => ArmedEdit::Add(name(n)?, value(v)?),
        HeaderEdit::Remove(n) => ArmedEdit::Remove(name(n)?),
    })
}

/// What all cores share: the current engine and the counters.
pub struct Shared {
    engine: ArcSwapOption<Engine>,
    version: AtomicU64,
    swapped: watch::Sender<()>,
    pub(crate) metrics: Metrics,
    pub(crate) quotas: Quotas,
    pub(crate) holding: Arc<Holding>,
    pub(crate) gateway: String,
}

impl Shared {
    /// No engine yet: every request is refused as `NotConfigured`.
    pub fn new(gateway: impl Into<String>, bodies: BodyLimits) -> Arc<Self> {
        Arc::new(Self {
            engine: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            swapped: watch::Sender::new(()),
            metrics: Metrics::default(),
            quotas: Quotas::default(),
            holding: Holding::new(bodies),
            gateway: gateway.into(),
        })
    }

    /// Puts a new engine in force on every core; requests under way finish under the old one.
    pub fn swap(&self, engine: Engine) {
        self.engine.store(Some(Arc::new(engine)));
        self.version.fetch_add(1, Ordering::Release);
        self.swapped.send_replace(());
    }

    /// Tells of each engine that is put in force.
    pub(crate) fn swapped(&self) -> watch::Receiver<()> {
        self.swapped.subscribe()
    }

    /// The engine in force.
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.engine.load_full()
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Bytes of bodies that are held for callers who are known, and for all others.
    pub fn bodies_held(&self) -> (usize, usize) {
        self.holding.held()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}
