//! Requests that nobody sends: decided as the gateway would decide them, and explained.
//!
//! Each decision has a memory of its own, which ends with it. So nothing is counted, no proof or nonce is used up, no
//! session begins and no guess is remembered; no record is kept; no outside server is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use idm_audit::{Explanation, StoredRecord};
use idm_authn::{Assumption, Memory, PasswordChecker};
use idm_plan::{Bundle, Grant, KeySource, MethodKind, ObjectKey, Plan, Subject};
use idm_store::Store;
use idm_trust::thumbprint;
use idm_types::{DecisionId, Reason, Refusal, RoleName, Stage, Timestamp};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::{Decided, Decision, Offline};
use crate::{Conclusion, EngineError, Peer, Secured, Trace, record, refusal};

/// The name of the gateway that would decide, as expressions see it.
const GATEWAY: &str = "explain";

/// A request that nobody sends.
#[derive(Clone, Debug)]
pub struct Hypothetical {
    /// Its method.
    pub method: Method,
    /// `http` or `https`, the host, and the path with its query.
    pub url: Uri,
    /// Its headers, in order; `Host` is that of the URL unless it is among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
    /// The address of the caller; unset: the loopback address.
    pub address: Option<IpAddr>,
    /// The client certificate of its connection with those that came with it; empty: none.
    pub certificate: Vec<CertificateDer<'static>>,
    /// The caller, whose authentication is assumed; `None`: the request's own credential is verified.
    pub caller: Option<Assumed>,
}

impl Hypothetical {
    /// A request without headers, body, certificate and assumptions.
    pub fn new(method: Method, url: Uri) -> Self {
        let (headers, body, certificate) = (Vec::new(), Bytes::new(), Vec::new());
        Self { method, url, headers, body, address: None, certificate, caller: None }
    }
}

/// A caller whose authentication is assumed.
#[derive(Clone, Debug, Default)]
pub struct Assumed {
    /// The caller, and the method by which they are known.
    pub caller: Assumption,
    /// Roles beside those that the caller has.
    pub roles: Vec<RoleName>,
}

/// The result of a request that nobody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HypotheticalOutcome {
    /// It would be let through, or the gateway would answer it itself.
    Permitted,
    /// It would be refused.
    Denied,
    /// It would be let through, and then fail.
    Failed,
    /// It depends on the answer of an outside server, which was not asked, or on what gateways keep.
    Unknown,
}

/// A decision about a request that nobody sent.
#[derive(Clone, Debug)]
pub struct Hypothesis {
    /// The result.
    pub outcome: HypotheticalOutcome,
    /// The status that the caller would get; `None` where it would be the upstream's.
    pub status: Option<u16>,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// The record that would have been kept.
    pub record: StoredRecord,
    /// Why, check by check.
    pub explanation: Explanation,
    /// The facts that were assumed or could not be known: lines.
    pub notes: Vec<String>,
}

/// A decision about a request that nobody sent, with what would be sent on.
#[derive(Debug)]
pub struct Rehearsal {
    /// The decision.
    pub told: Hypothesis,
    /// The request for the upstream; `None` where nothing would go there.
    pub forwarded: Option<Forwarded>,
}

/// A request as an upstream would get it. It may hold credentials: show of it only what is meant to be shown.
pub struct Forwarded {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl std::fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forwarded({} headers, {} bytes)", self.headers.len(), self.body.len())
    }
}

impl std::fmt::Display for Hypothesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.notes.iter().try_for_each(|note| writeln!(f, "{}", idm_types::Visible(note)))?;
        write!(f, "{}", self.explanation)
    }
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum HypotheticalError {
    /// The URL cannot be sent.
    #[error("`{0}` must be a URL with `http` or `https`, a host and a path, for example https://shop.example/orders")]
    Url(String),
    /// The request cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A bundle by which requests are decided that nobody sends. Shared freely; a decision runs on one thread.
pub struct Hypotheses {
    bundle: Bundle,
    unread: Vec<String>,
    passwords: Arc<PasswordChecker>,
}

impl Hypotheses {
    /// Decides by this bundle. `None` where the system gives no threads.
    pub fn new(bundle: Bundle) -> Option<Self> {
        PasswordChecker::start(1).map(|passwords| Self { bundle, unread: Vec::new(), passwords })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.bundle.plan
    }

    /// Gives the keys of an issuer, which a gateway would fetch. Returns the number of places where it is trusted.
    pub fn supply_keys(&mut self, issuer: &str, jwks: &str) -> usize {
        let mut plan = self.bundle.plan.clone();
        let methods = plan.policies.iter_mut().flat_map(|policy| &mut policy.methods);
        let issuers = methods.filter_map(|method| match &mut method.kind {
            MethodKind::Jwt(jwt) => Some(&mut jwt.issuers),
            _ => None,
        });
        let named = issuers.flatten().filter(|known| known.issuer == issuer);
        let supplied = named.map(|known| known.keys = KeySource::Inline { jwks: jwks.to_owned() }).count();
        self.replace_plan(plan);
        supplied
    }

    /// Names Secrets whose values are not known here: refusals that may rest on one are not certain.
    pub fn note_unread(&mut self, secrets: Vec<String>) {
        self.unread = secrets;
    }

    fn replace_plan(&mut self, plan: Plan) {
        self.bundle = with_plan(&self.bundle, plan);
    }

    /// Arms the bundle with a memory that is used once.
    pub(super) fn arm(&self, caller: Option<&Assumed>) -> Result<Offline, EngineError> {
        let memory = match caller {
            Some(assumed) => Memory::assuming(self.passwords.clone(), assumed.caller.clone()),
            None => Memory::new(self.passwords.clone(), Store::in_process()),
        };
        let memory = memory.ok_or_else(|| EngineError::Plan("the system gives no random bits".into()))?;
        match caller {
            Some(assumed) => {
                Offline::with_memory(&with_plan(&self.bundle, played(self.plan(), assumed)), GATEWAY, memory)
            }
            None => Offline::with_memory(&self.bundle, GATEWAY, memory),
        }
    }

    /// Decides about a request at this time.
    ///
    /// # Errors
    /// It is no request, or the bundle cannot be armed.
    pub async fn decide(&self, asked: &Hypothetical, now: Timestamp) -> Result<Hypothesis, HypotheticalError> {
        Ok(self.rehearse(asked, now).await?.told)
    }

    /// The same, with the request as the upstream would get it.
    ///
    /// # Errors
    /// Those of [`Self::decide`].
    pub async fn rehearse(&self, asked: &Hypothetical, now: Timestamp) -> Result<Rehearsal, HypotheticalError> {
        let offline = self.arm(asked.caller.as_ref())?;
        let mut notes: Vec<String> = asked.caller.iter().map(assumes).collect();
        let peer = self.peer(asked, &mut notes)?;
        let decision = offline.decide(&peer, sent(asked)?, now).await;
        let forwarded = match &decision.outcome {
            Ok(Decided::Forward { head, body, .. }) => {
                Some(Forwarded { headers: head.headers.clone(), body: body.clone() })
            }
            _ => None,
        };
        Ok(Rehearsal { told: self.hypothesis(&offline, asked, &peer, decision, now, notes), forwarded })
    }

    /// The connection that the request would come on.
    fn peer(&self, asked: &Hypothetical, notes: &mut Vec<String>) -> Result<Peer, HypotheticalError> {
        let wrong = || HypotheticalError::Url(asked.url.to_string());
        let host = asked.url.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let address = asked.address.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into());
        let https = match asked.url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        if https && !self.plan().certificates.is_empty() {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
            let chain = asked.certificate.clone();
            let thumbprint = chain.first().map(thumbprint).unwrap_or_default();
            let secured = Secured { server_name: (!is_address).then_some(name), chain, thumbprint };
            return Ok(Peer::new(address, Some(secured)));
        }
        if !asked.certificate.is_empty() {
            notes.push("the client certificate is left out: only a listener with TLS takes one".into());
        }
        if https {
            notes.push("no listener has TLS: https is taken to end at a trusted proxy in front of the gateway".into());
        }
        Ok(Peer { https, ..Peer::plain(address) })
    }

    fn hypothesis(
        &self,
        offline: &Offline,
        asked: &Hypothetical,
        peer: &Peer,
        decision: Decision,
        now: Timestamp,
        mut notes: Vec<String>,
    ) -> Hypothesis {
        let Decision { mut trace, outcome } = decision;
        let id = DecisionId::from_parts(now.0, 0);
        let (mut status, mut upstream, mut refused) = (None, None, None);
        match outcome {
            Ok(Decided::Answer(answer)) => status = Some(answer.status().as_u16()),
            Ok(Decided::Forward { forward, .. }) => {
                trace.stage = Stage::Upstream;
                let backend = forward.backend.and_then(|position| offline.engine().backends().get(position));
                match backend {
                    Some(backend) => upstream = Some(format!("{}:{}", backend.host, backend.port)),
                    None => refused = Some(Refusal::new(Reason::NoBackend, "")),
                }
            }
            Err(refusal) => refused = Some(refusal),
        }
        if let Some(refused) = &refused {
            status = Some(refusal(Some(offline.engine()), &trace, refused, id, now).status().as_u16());
        }
        let reason = refused.as_ref().map(|refusal| refusal.reason);
        let unread = !self.unread.is_empty() && reason.is_some_and(rests_on_secrets);
        let unknown = unread || reason.is_some_and(|reason| rests_on_others(reason) || offline.was_asked());
        if unread {
            let which = self.unread.join(", ");
            notes.push(format!("not known: the reason may be a Secret that is not known here, one of {which}"));
        } else if unknown {
            notes.push(format!("not known: {}", missing(refused.as_ref(), offline)));
        }
        notes.extend(left_out(offline, asked, &trace));
        let conclusion = Conclusion {
            id,
            time: now,
            took: Duration::ZERO,
            method: &asked.method,
            source: peer.address,
            reason,
            status: status.unwrap_or_default(),
            detail: refused.as_ref().map_or("", |refusal| &refusal.detail),
            upstream: upstream.as_deref(),
            mirrors: &[],
            usage: None,
        };
        let kept = record(Some(offline.armed()), &offline.process, &trace, conclusion);
        let record = StoredRecord::of(serde_json::to_value(&kept).unwrap_or_default());
        let outcome = match reason {
            _ if unknown => HypotheticalOutcome::Unknown,
            None => HypotheticalOutcome::Permitted,
            Some(reason) if reason.is_denial() => HypotheticalOutcome::Denied,
            Some(_) => HypotheticalOutcome::Failed,
        };
        Hypothesis { outcome, status, reason, explanation: record.hypothetical(), record, notes }
    }
}

/// The request as a gateway gets it.
fn sent(asked: &Hypothetical) -> Result<Request<Bytes>, HypotheticalError> {
    let Hypothetical { method, url, headers, body, .. } = asked;
    let wrong = || HypotheticalError::Url(url.to_string());
    let authority = url.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(wrong());
    }
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(method.clone()).uri(target).body(body.clone())?;
    let mut all = HeaderMap::new();
    if !headers.iter().any(|(name, _)| name == header::HOST) {
        all.insert(header::HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?);
    }
    if !body.is_empty() {
        all.insert(header::CONTENT_LENGTH, body.len().into());
    }
    for (name, value) in headers {
        all.append(name.clone(), value.clone());
    }
    *request.headers_mut() = all;
    Ok(request)
}

fn with_plan(bundle: &Bundle, plan: Plan) -> Bundle {
    Bundle::seal(plan, bundle.secrets.clone(), bundle.credentials.clone(), bundle.generation)
}

/// The plan in which the caller has the name and the roles that are assumed.
fn played(plan: &Plan, assumed: &Assumed) -> Plan {
    let mut plan = plan.clone();
    let Assumed { caller, roles } = assumed;
    let name = caller.username.clone();
    for policy in &mut plan.policies {
        // The name is what is assumed, so no claim has to give it.
        policy.identity.username = None;
    }
    let namespaces: std::collections::BTreeSet<_> =
        plan.policies.iter().map(|policy| policy.key.namespace.clone()).collect();
    for (namespace, role) in namespaces.iter().flat_map(|namespace| roles.iter().map(move |role| (namespace, role))) {
        let subjects =
            vec![Subject::User { name: name.clone(), issuer: None }, Subject::Credential { name: name.clone() }];
        plan.grants.push(Grant { key: ObjectKey::new(namespace, "assumed"), role: role.clone(), subjects });
    }
    plan
}

/// The line that says what is assumed.
fn assumes(assumed: &Assumed) -> String {
    let Assumed { caller: Assumption { username, claims, method }, roles } = assumed;
    let method = method.as_ref().map(|method| format!(" by method {method}")).unwrap_or_default();
    let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
    let roles = if roles.is_empty() { String::new() } else { format!(", with the roles {}", roles.join(", ")) };
    let names: Vec<_> = claims.keys().map(String::as_str).collect();
    let claims = if names.is_empty() { String::new() } else { format!(", with the claims {}", names.join(", ")) };
    format!("assumed: {username} is authenticated{method}{roles}{claims}; no credential was checked")
}

/// Whether the reason says that something was not known that a gateway would know.
fn rests_on_others(reason: Reason) -> bool {
    use Reason::{DirectoryUnavailable, KeysUnavailable, ProviderUnavailable, SessionEnded};
    matches!(reason, KeysUnavailable | DirectoryUnavailable | ProviderUnavailable | SessionEnded)
}

/// Whether the reason could be another one if a Secret that was made up or left out were known.
fn rests_on_secrets(reason: Reason) -> bool {
    use Reason::{NoRoute, PolicyInvalid, RouteInvalid, UnknownApiKey, WrongPassword};
    matches!(reason, UnknownApiKey | WrongPassword | PolicyInvalid | RouteInvalid | NoRoute)
}

fn missing(refused: Option<&Refusal>, offline: &Offline) -> String {
    let asked = offline.asked();
    match refused.map(|refusal| refusal.reason) {
        _ if !asked.is_empty() => format!("it depends on the answer of {}, which is not asked", asked.join(", ")),
        Some(Reason::SessionEnded) => "it depends on the sessions that the gateways keep".into(),
        Some(Reason::KeysUnavailable) => {
            let detail = refused.map(|refusal| refusal.detail.as_str()).unwrap_or_default();
            format!("{detail}: a gateway fetches them; give them as a JWKS")
        }
        _ => "it depends on a directory, which is not asked".into(),
    }
}

/// The parts that the decision leaves out because nobody sends the request.
fn left_out(offline: &Offline, asked: &Hypothetical, trace: &Trace) -> Vec<String> {
    let mut notes = Vec::new();
    let policy = trace.policy.and_then(|position| offline.engine().policy(position));
    if asked.caller.is_some() && policy.is_some_and(|policy| policy.upstream.exchange.is_some()) {
        notes.push("the token exchange of the policy is left out: there is no token, and no server is asked".into());
    }
    let has_id = trace.identity.as_ref().is_some_and(|(identity, _)| identity.token_id.is_some());
    if asked.caller.is_none() && has_id {
        notes.push("whether the token was revoked is not known here: it is taken to be valid until it ends".into());
    }
    if trace.limits.is_some() {
        notes.push("limits are taken to be unused: the gateways count".into());
    }
    notes
}
