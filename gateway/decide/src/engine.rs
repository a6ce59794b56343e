//! A plan with all the live state that it needs, swapped as one pointer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use idm_authn::{ArmedLimit, ArmedPolicy, Grants, Memory, PolicyError, Resources};
use idm_authz::{ArmedBaseline, Rules};
use idm_issue::TokenIssuer;
use idm_plan::{
    Backend, Bundle, Care, Endpoint, Handler, HeaderEdit, MethodKind, Mirror, PathChange, PathForms, Plan, Policy,
    Redirect, Rewrite, RouteRule, Secrets, SignInEndpoint, Timeouts,
};
use idm_request::PolicyHeaders;
use idm_transform::{ArmedLlm, Steps};
use idm_trust::{KeyRing, Keys, Outside, Trust};
use idm_types::Reason;

use crate::cors::ArmedCors;
use crate::prepare::apply_edits;
use crate::reserved::UsedHeaders;
use crate::router::Router;
use crate::scrub::Reserved;
use crate::shadow::ArmedShadow;

/// The reason why a plan could not be armed. The previous engine keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A value in the plan that compile would not have written.
    #[error("the plan is not usable: {0}")]
    Plan(String),
    /// The same, in the Credentials.
    #[error("the Credentials are not usable: {0}")]
    Credentials(String),
}

/// An armed plan. Immutable; shared by all cores.
pub struct Engine {
    pub(crate) namespace: String,
    /// Of the plan that it was armed with.
    digest: [u8; 32],
    /// The keys of issuers that it uses.
    keys: KeyRing,
    pub(crate) router: Router,
    pub(crate) secure_router: Router,
    pub(crate) rules: Vec<ArmedRule>,
    pub(crate) policies: Vec<PolicyInForce>,
    pub(crate) backends: Vec<Backend>,
    /// The treatment of each of them.
    cares: Vec<Care>,
    api_server: Arc<[IpAddr]>,
    /// Headers that no caller may send, on any route.
    pub(crate) reserved: Reserved,
    /// Headers that stay in the request even if `Connection` lists them.
    pub(crate) used: Reserved,
    /// Whether some policy has a sign-in method: then callers may send session cookies of the gateway.
    pub(crate) signs_in: bool,
}

/// A policy with all the live state that decides by it.
pub(crate) struct PolicyInForce {
    pub(crate) armed: ArmedPolicy,
    pub(crate) rules: Rules,
    pub(crate) limits: Vec<ArmedLimit>,
    /// Its demands on every request of its Gateways, and their limits.
    pub(crate) baseline: Option<(ArmedBaseline, Vec<ArmedLimit>)>,
    pub(crate) steps: Steps,
    pub(crate) llm: Option<ArmedLlm>,
    pub(crate) issuer: Option<TokenIssuer>,
}

pub(crate) struct ArmedRule {
    pub(crate) name: String,
    pub(crate) handler: ArmedHandler,
    /// The pages of other origins whose scripts may call.
    pub(crate) cors: Option<Arc<ArmedCors>>,
    /// The forms of paths that it takes though not every server reads them alike.
    pub(crate) paths: PathForms,
    /// The policies whose baselines hold for it: positions and names.
    baselines: Box<[usize]>,
    pub(crate) baseline_names: Box<[String]>,
    /// The policies that judge its requests and refuse none.
    pub(crate) shadows: Box<[ArmedShadow]>,
}

pub(crate) enum ArmedHandler {
    Enforce(Enforced),
    Redirect { policy: usize, redirect: Redirect, reserved: Arc<Reserved> },
    Issue { policy: usize, endpoint: Endpoint },
    SignIn { policy: usize, endpoint: SignInEndpoint, federation: Option<String> },
    ResourceMetadata { policy: usize },
    Refuse { reason: Reason, detail: String },
}

impl ArmedHandler {
    /// The position of the policy that it names.
    pub(crate) fn policy(&self) -> Option<usize> {
        match self {
            ArmedHandler::Enforce(Enforced { policy, .. })
            | ArmedHandler::Redirect { policy, .. }
            | ArmedHandler::Issue { policy, .. }
            | ArmedHandler::SignIn { policy, .. }
            | ArmedHandler::ResourceMetadata { policy } => Some(*policy),
            ArmedHandler::Refuse { .. } => None,
        }
    }
}

/// The handling of requests that are forwarded.
pub(crate) struct Enforced {
    pub(crate) policy: usize,
    pub(crate) shares: Vec<Share>,
    pub(crate) mirrors: Vec<ArmedMirror>,
    pub(crate) timeouts: Timeouts,
    pub(crate) edits: Vec<ArmedEdit>,
    /// Headers that callers of this rule may not send.
    pub(crate) reserved: Arc<Reserved>,
    pub(crate) rewrite: Option<ArmedRewrite>,
    /// Edits of the backend's answer.
    pub(crate) answer: Option<AnswerEdits>,
}

/// A share of the requests of a rule.
pub(crate) struct Share {
    /// Position in [`Engine::backends`]; `None`: the backend cannot be used, and the requests are refused.
    pub(crate) backend: Option<usize>,
    /// The sum of the weights up to and including this one.
    pub(crate) sum: u64,
    /// Edits for this backend, after those of the rule.
    pub(crate) edits: Vec<ArmedEdit>,
}

/// A backend that gets copies of `numerator` of `denominator` requests.
pub(crate) struct ArmedMirror {
    /// Position in [`Engine::backends`].
    pub(crate) backend: usize,
    pub(crate) numerator: u64,
    pub(crate) denominator: u64,
}

/// The change of a request's address on its way to the backend.
pub(crate) struct ArmedRewrite {
    pub(crate) host: Option<HeaderValue>,
    pub(crate) path: Option<PathChange>,
}

/// Edits of the headers of a backend's answer, which the route asks for.
#[derive(Clone)]
pub struct AnswerEdits(Arc<[ArmedEdit]>);

impl AnswerEdits {
    /// Edits the headers of an answer.
    pub fn apply(&self, headers: &mut HeaderMap) {
        apply_edits(headers, &self.0);
    }
}

pub(crate) enum ArmedEdit {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Engine {
    /// Arms a bundle's plan. `known` are the keys of `before`, the engine in force until now; `memory` keeps what
    /// authentication remembers across engines.
    pub(crate) fn arm(
        bundle: &Bundle,
        before: Option<&Self>,
        known: &KeyRing,
        memory: &Arc<Memory>,
        outside: &Outside,
    ) -> Result<Self, EngineError> {
        let Plan {
            namespace,
            policies,
            hosts,
            secure_hosts,
            certificates: _,
            rules,
            grants,
            federations: _,
            api_server,
        } = &bundle.plan;
        let mut resources = Resources {
            trust: Trust {
                keys: Keys::new(known),
                secrets: &bundle.secrets,
                http: outside.http.clone(),
                directories: outside.directories.clone(),
            },
            plan: &bundle.plan,
            grants: Grants::by_namespace(grants),
            memory: memory.clone(),
            before: before.into_iter().flat_map(|engine| &engine.policies).map(|of| of.armed.basis().clone()).collect(),
            providers: HashMap::new(),
        };
        let mut armed = Vec::with_capacity(policies.len());
        for policy in policies {
            armed.push(arm_policy(policy, &bundle.secrets, &mut resources)?);
        }
        // A policy in shadow reserves no header: what callers may send to an upstream does not depend on it.
        let read = policies.iter().map(|policy| {
            let headers = if policy.shadow { Ok(PolicyHeaders::default()) } else { PolicyHeaders::of(policy) };
            headers.map_err(|problem| EngineError::Plan(format!("policy {}: {problem}", policy.key)))
        });
        let matches = hosts.iter().chain(secure_hosts).flat_map(|host| &host.entries).flat_map(|entry| &entry.headers);
        let mut headers =
            RuleHeaders { used: UsedHeaders::new(read.collect::<Result<_, _>>()?, matches), known: HashMap::new() };
        let mut backends = Reached::default();
        let rules: Vec<ArmedRule> = rules
            .iter()
            .map(|rule| {
                let handler = arm_handler(&rule.handler, policies, &mut backends, &mut headers)?;
                // The gateway's own endpoints have plain paths.
                let policy = rule.handler.route_policy().and_then(|policy| policies.get(policy));
                let paths = policy.map(|policy| policy.paths.iter().copied().collect()).unwrap_or_default();
                let cors = arm_cors(rule, policies)?;
                let baselines = baselines_of(rule, policies)?;
                let names = baselines.iter().filter_map(|of| policies.get(*of)).map(|of| of.key.to_string());
                let baseline_names = names.collect();
                let shadows = ArmedShadow::arm(rule, policies)?;
                Ok(ArmedRule { name: rule.name.clone(), handler, cors, paths, baselines, baseline_names, shadows })
            })
            .collect::<Result<_, EngineError>>()?;
        if hosts.iter().chain(secure_hosts).flat_map(|host| &host.entries).any(|entry| entry.rule >= rules.len()) {
            return Err(EngineError::Plan("an entry points at a rule that does not exist".into()));
        }
        let router = Router::new(hosts);
        let secure_router = Router::new(secure_hosts);
        let (reserved, used) = (headers.used.everywhere(), headers.used.used());
        let signs_in = armed.iter().any(|of| !of.armed.plan().shadow && of.armed.sign_in().is_some());
        Ok(Self {
            namespace: namespace.clone(),
            digest: bundle.plan_digest(),
            keys: resources.trust.keys.used(),
            router,
            secure_router,
            rules,
            policies: armed,
            backends: backends.backends,
            cares: backends.cares,
            api_server: api_server.as_slice().into(),
            reserved,
            used,
            signs_in,
        })
    }

    /// Whether arming a bundle's plan would give this engine.
    pub(crate) fn is_of(&self, bundle: &Bundle) -> bool {
        self.digest == bundle.plan_digest()
    }

    /// The keys of issuers that it uses.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The namespace that it serves.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The backends that requests are forwarded to; [`Forward`](crate::Forward) names them by position.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The treatment of each of these, in the same order.
    pub fn cares(&self) -> &[Care] {
        &self.cares
    }

    /// The addresses of the API server, which no backend may have.
    pub fn api_server(&self) -> &Arc<[IpAddr]> {
        &self.api_server
    }

    /// The plan of the policy at a position of [`Trace::policy`](crate::Trace::policy).
    pub fn policy(&self, position: usize) -> Option<&Policy> {
        self.policies.get(position).map(|policy| policy.armed.plan())
    }

    /// All policies with what authenticates for them.
    pub(crate) fn armed_policies(&self) -> impl Iterator<Item = &ArmedPolicy> {
        self.policies.iter().map(|policy| &policy.armed)
    }

    /// The plans of all policies, in the order of their positions.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|policy| policy.armed.plan())
    }

    /// The names of all rules, each with the position of its policy, in the order of their positions.
    pub fn rules(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        self.rules.iter().map(|rule| (rule.name.as_str(), rule.handler.policy()))
    }

    /// The policies whose baselines hold for the rule at a position.
    pub(crate) fn baseline_names(&self, position: usize) -> &[String] {
        self.rules.get(position).map_or(&[], |rule| &rule.baseline_names)
    }

    /// The baselines that hold for a rule, with their limits. What was not armed would be a demand that nobody checks:
    /// arming has refused that.
    pub(crate) fn baselines<'e>(
        &'e self,
        rule: &'e ArmedRule,
    ) -> impl Iterator<Item = (&'e ArmedBaseline, &'e [ArmedLimit])> {
        let found = rule.baselines.iter().filter_map(|position| self.policies.get(*position)?.baseline.as_ref());
        found.map(|(baseline, limits)| (baseline, limits.as_slice()))
    }

    /// The name of the rule at a position of [`Trace::rule`](crate::Trace::rule).
    pub fn rule_name(&self, position: usize) -> Option<&str> {
        self.rules.get(position).map(|rule| rule.name.as_str())
    }
}

/// A policy with all the live state that it needs.
fn arm_policy(policy: &Policy, secrets: &Secrets, resources: &mut Resources<'_>) -> Result<PolicyInForce, EngineError> {
    let broken = |problem: String| EngineError::Plan(format!("policy {}: {problem}", policy.key));
    let rules = Rules::arm(policy).map_err(broken)?;
    let limits = ArmedLimit::arm(&policy.limits, &format!("policy {}", policy.key), "").map_err(broken)?;
    let baseline = arm_baseline(policy)?;
    let memory = resources.memory.clone();
    let steps = Steps::arm(&policy.jose, &mut resources.trust, &|| memory.workers());
    let steps = steps.map_err(|problem| broken(problem.to_string()))?;
    let llm = policy.llm.as_ref().map(|llm| ArmedLlm::arm(llm, secrets)).transpose();
    let llm = llm.map_err(|problem| broken(problem.to_string()))?;
    let service = policy.token_service.as_ref();
    let issuer = service.map(|service| TokenIssuer::arm(service, &policy.key.namespace, resources)).transpose();
    let issuer = issuer.map_err(|problem| broken(problem.to_string()))?;
    let armed = ArmedPolicy::arm(policy, resources)?;
    Ok(PolicyInForce { armed, rules, limits, baseline, steps, llm, issuer })
}

/// The demands of a policy on its Gateways.
fn arm_baseline(policy: &Policy) -> Result<Option<(ArmedBaseline, Vec<ArmedLimit>)>, EngineError> {
    let Some(baseline) = &policy.baseline else { return Ok(None) };
    let broken = |problem| EngineError::Plan(format!("the baseline of policy {}: {problem}", policy.key));
    let armed = ArmedBaseline::arm(&policy.key, baseline).map_err(broken)?;
    let limits = ArmedLimit::arm(&baseline.limits, &format!("baseline {}", policy.key), "baseline/").map_err(broken)?;
    Ok(Some((armed, limits)))
}

fn baselines_of(rule: &RouteRule, policies: &[Policy]) -> Result<Box<[usize]>, EngineError> {
    let demands = |position: &usize| policies.get(*position).is_some_and(|policy| policy.baseline.is_some());
    if !rule.baselines.iter().all(demands) {
        return Err(EngineError::Plan(format!("{} points at a baseline that does not exist", rule.name)));
    }
    Ok(rule.baselines.as_slice().into())
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

/// A rule's own settings win over its policy's. No script has business at the addresses where people sign in.
fn arm_cors(rule: &RouteRule, policies: &[Policy]) -> Result<Option<Arc<ArmedCors>>, EngineError> {
    let policy = match &rule.handler {
        Handler::Enforce { policy, .. } | Handler::Redirect { policy, .. } | Handler::Issue { policy, .. } => {
            policies.get(*policy)
        }
        Handler::SignIn { .. } | Handler::ResourceMetadata { .. } | Handler::Refuse { .. } => None,
    };
    let cors = rule.cors.as_ref().or_else(|| policy?.cors.as_ref());
    cors.map(ArmedCors::arm).transpose()
}

fn arm_handler(
    handler: &Handler,
    policies: &[Policy],
    known: &mut Reached,
    used: &mut RuleHeaders<'_>,
) -> Result<ArmedHandler, EngineError> {
    match handler {
        Handler::Refuse { reason, detail } => Ok(ArmedHandler::Refuse { reason: *reason, detail: detail.clone() }),
        Handler::Redirect { policy, redirect } => {
            if *policy >= policies.len() {
                return Err(EngineError::Plan("a redirect points at a policy that does not exist".into()));
            }
            let reserved = used.of(*policy, &[]);
            Ok(ArmedHandler::Redirect { policy: *policy, redirect: redirect.clone(), reserved })
        }
        Handler::Issue { policy, endpoint } => match policies.get(*policy).map(|policy| policy.token_service.is_some())
        {
            Some(true) => Ok(ArmedHandler::Issue { policy: *policy, endpoint: *endpoint }),
            _ => Err(EngineError::Plan("an endpoint points at a policy without a token service".into())),
        },
        Handler::ResourceMetadata { policy } => match policies.get(*policy).map(|policy| policy.resource.is_some()) {
            Some(true) => Ok(ArmedHandler::ResourceMetadata { policy: *policy }),
            _ => Err(EngineError::Plan("metadata are asked of a policy without a protected resource".into())),
        },
        Handler::SignIn { policy, endpoint, federation } => {
            let signs_in =
                |policy: &Policy| policy.methods.iter().any(|method| matches!(method.kind, MethodKind::SignIn(_)));
            match policies.get(*policy).map(signs_in) {
                Some(true) => {
                    Ok(ArmedHandler::SignIn { policy: *policy, endpoint: *endpoint, federation: federation.clone() })
                }
                _ => Err(EngineError::Plan("an endpoint points at a policy where nobody signs in".into())),
            }
        }
        Handler::Enforce { .. } => arm_enforced(handler, policies, known, used).map(ArmedHandler::Enforce),
    }
}

fn arm_enforced(
    handler: &Handler,
    policies: &[Policy],
    known: &mut Reached,
    used: &mut RuleHeaders<'_>,
) -> Result<Enforced, EngineError> {
    let Handler::Enforce { policy, backends, unresolved_weight, timeouts, headers, rewrite, answer_headers, mirrors } =
        handler
    else {
        return Err(EngineError::Plan("a rule forwards nothing".into()));
    };
    if *policy >= policies.len() {
        return Err(EngineError::Plan("a rule points at a policy that does not exist".into()));
    }
    let all: Vec<HeaderEdit> = headers.iter().chain(backends.iter().flat_map(|of| &of.headers)).cloned().collect();
    let reserved = used.of(*policy, &all);
    // A header that the policy writes keeps the policy's value: edits of it by the route's filters are ignored.
    let arm_edits = |edits: &[HeaderEdit]| -> Result<Vec<_>, EngineError> {
        edits.iter().filter(|edit| !used.used.is_written_by(*policy, edit)).map(arm_edit).collect()
    };
    let care = policies.get(*policy).and_then(|policy| policy.upstream.care.clone()).unwrap_or_default();
    let mut shares = Vec::new();
    let mut sum = 0;
    for backend in backends.iter().filter(|backend| backend.weight > 0) {
        sum += u64::from(backend.weight);
        shares.push(Share { backend: Some(known.position(backend, &care)), sum, edits: arm_edits(&backend.headers)? });
    }
    if *unresolved_weight > 0 {
        shares.push(Share { backend: None, sum: sum + unresolved_weight, edits: vec![] });
    }
    let mut arm_mirror = |Mirror { backend, numerator, denominator }: &Mirror| ArmedMirror {
        // Nothing waits for a copy, and it is sent once.
        backend: known.position(backend, &Care::default()),
        numerator: (*numerator).into(),
        denominator: (*denominator).into(),
    };
    let mirrors = mirrors.iter().map(&mut arm_mirror).collect();
    let edits = arm_edits(headers)?;
    let rewrite = rewrite.as_ref().map(arm_rewrite).transpose()?;
    let answer = answer_headers.iter().map(arm_edit).collect::<Result<Arc<[_]>, _>>()?;
    let answer = (!answer.is_empty()).then_some(AnswerEdits(answer));
    Ok(Enforced { policy: *policy, shares, mirrors, timeouts: *timeouts, edits, reserved, rewrite, answer })
}

/// The backends of all rules, each once for each treatment.
#[derive(Default)]
struct Reached {
    backends: Vec<Backend>,
    cares: Vec<Care>,
}

impl Reached {
    fn position(&mut self, backend: &Backend, care: &Care) -> usize {
        let mut known = self.backends.iter().zip(&self.cares);
        known.position(|(known, of)| of == care && same_pool(known, backend)).unwrap_or_else(|| {
            self.backends.push(backend.clone());
            self.cares.push(care.clone());
            self.backends.len() - 1
        })
    }
}

/// Whether two backends share one pool of connections.
pub fn same_pool(a: &Backend, b: &Backend) -> bool {
    (&a.host, a.port, a.protocol, &a.tls, a.local) == (&b.host, b.port, b.protocol, &b.tls, b.local)
}

fn arm_rewrite(Rewrite { host, path }: &Rewrite) -> Result<ArmedRewrite, EngineError> {
    let host = host.as_ref().map(|host| HeaderValue::from_str(host)).transpose();
    let host = host.map_err(|_| EngineError::Plan("a host of a rewrite cannot travel".into()))?;
    Ok(ArmedRewrite { host, path: path.clone() })
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
