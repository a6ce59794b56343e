//! The request as the upstream gets it: only after a permit.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use idm_authz::Permit;
use idm_plan::{CredentialForwarding, Policy, Source, Timeouts};
use idm_request::{Identity, remove_cookie, remove_query};
use idm_transform::Steps;
use idm_types::{Reason, Refusal};
use serde_json::Value;

use crate::canonical::Canonical;
use crate::engine::{ArmedEdit, ArmedHandler, ArmedRule, PolicyInForce};
use crate::scrub::remove_connections_own;
use crate::{Context, Peer};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request that was permitted and made ready. Only [`decide()`](crate::decide()) makes one, of a [`Permit`].
pub struct Forward {
    permit: Permit,
    /// Path and query for the upstream.
    pub target: PathAndQuery,
    /// Positions of backends, each with the sum of the weights up to and including its own. A share without a position,
    /// and a request without any share, has no backend.
    pub backends: Vec<(Option<usize>, u64)>,
    /// How long the upstream may take.
    pub timeouts: Timeouts,
    /// The caller asks for a WebSocket.
    pub websocket: bool,
    /// `Host` is the backend's own name, and not the one that the caller asked for.
    pub own_host: bool,
    /// What JOSE steps found in the request, for those of the response.
    pub jose: Option<Value>,
}

impl Forward {
    /// The evidence that this request was permitted.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

/// What [`forward`] needs, collected by the decision.
pub(crate) struct Allowed {
    pub(crate) permit: Permit,
    pub(crate) canonical: Canonical,
    pub(crate) rule: usize,
    pub(crate) source: Option<Source>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) exchanged: Option<HeaderValue>,
    pub(crate) jose: Option<Value>,
    pub(crate) websocket: bool,
}

/// Makes the upstream's request of the caller's: everything that callers had a hand in goes first, then what the
/// gateway says is written.
pub(crate) fn forward(
    context: Context<'_>,
    policy: &PolicyInForce,
    allowed: Allowed,
    headers: &mut HeaderMap,
) -> Result<Forward, Refusal> {
    let Allowed { permit, canonical, rule, source, headers: more, exchanged, jose, websocket } = allowed;
    let Context { engine, peer, .. } = context;
    let Some(ArmedRule { handler: ArmedHandler::Enforce { backends, timeouts, edits, .. }, .. }) =
        engine.rules.get(rule)
    else {
        return Err(Refusal::new(Reason::InternalError, "no rule at the position that was matched"));
    };
    let PolicyInForce { armed, steps, llm, .. } = policy;
    let forwards = armed.plan().upstream.credential == CredentialForwarding::Forward;
    let verified_in = source.as_ref().filter(|_| forwards);
    let target = take_credentials(armed.sources(), steps, verified_in, &canonical, headers);
    // A browser sends its session to every route of the host: no upstream is to see one.
    if engine.signs_in && headers.contains_key(header::COOKIE) {
        idm_authn::COOKIES.iter().for_each(|name| remove_cookie(headers, name));
    }
    remove_connections_own(headers);
    if let Some(llm) = llm {
        llm.keep_only_what_it_needs(headers, |name| steps.headers().any(|made| made == name));
    }
    apply_edits(headers, edits);
    let identity = permit.who().identity();
    tell_upstream(headers, armed.plan(), identity, &more);
    // A provider is a stranger: for which of our hosts and from where it was asked is not its business.
    if llm.is_none() {
        tell_way(headers, &canonical.authority, peer);
    }
    let of_session = identity.session_token().filter(|_| forwards);
    if let Some(token) = exchanged.or_else(|| of_session.and_then(|token| bearer(token.reveal()))) {
        headers.insert(header::AUTHORIZATION, token);
    }
    if let Some(llm) = llm {
        llm.sign(headers);
    }
    let (backends, timeouts, own_host) = (backends.clone(), *timeouts, llm.is_some());
    let target = target.unwrap_or(canonical.target);
    Ok(Forward { permit, target, backends, timeouts, websocket, own_host, jose })
}

/// Removes every credential that a method of the policy looks for, wherever it was put, except the one at `kept`. What
/// a step of the policy wrote replaced the caller's value already. Returns a new target when the query changed.
fn take_credentials<'p>(
    sources: impl Iterator<Item = &'p Source>,
    steps: &Steps,
    kept: Option<&Source>,
    canonical: &Canonical,
    headers: &mut HeaderMap,
) -> Option<PathAndQuery> {
    let mut query: Option<Option<String>> = None;
    for source in sources.filter(|source| Some(*source) != kept) {
        match source {
            // With a scheme, another scheme's credential in the same header is not ours to remove.
            Source::Header { name, scheme } if !steps.headers().any(|made| made == name) => {
                let ours =
                    |value: &HeaderValue| scheme.as_deref().is_none_or(|scheme| has_scheme(value.as_bytes(), scheme));
                if headers.get(name.as_str()).is_some_and(ours) {
                    headers.remove(name.as_str());
                }
                // The proof goes where its token goes, and that is no further.
                if scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("dpop")) {
                    headers.remove("dpop");
                }
            }
            Source::Header { .. } => {}
            Source::Cookie { name } => remove_cookie(headers, name),
            Source::Query { name, .. } => {
                let current = query.take().unwrap_or_else(|| canonical.query().map(str::to_owned));
                query = Some(current.and_then(|current| remove_query(&current, name)));
            }
        }
    }
    let query = query?;
    let text = query.map_or_else(|| canonical.path().to_owned(), |query| format!("{}?{query}", canonical.path()));
    text.parse().ok()
}

fn has_scheme(value: &[u8], scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|given| given.eq_ignore_ascii_case(scheme.as_bytes()))
}

fn apply_edits(headers: &mut HeaderMap, edits: &[ArmedEdit]) {
    for edit in edits {
        match edit {
            ArmedEdit::Set(name, value) => drop(headers.insert(name.clone(), value.clone())),
            ArmedEdit::Add(name, value) => drop(headers.append(name.clone(), value.clone())),
            ArmedEdit::Remove(name) => drop(headers.remove(name)),
        }
    }
}

/// Writes who is calling, last of all: whatever is under these names now is ours or absent.
fn tell_upstream(headers: &mut HeaderMap, policy: &Policy, identity: &Identity, more: &[(HeaderName, HeaderValue)]) {
    for mapping in &policy.upstream.headers {
        headers.remove(mapping.name.as_str());
    }
    for (name, value) in identity.headers.iter().chain(more) {
        headers.insert(name.clone(), value.clone());
    }
    headers.remove(header::EXPECT);
    headers.remove(header::PROXY_AUTHORIZATION);
}

/// Writes for which host and from where the caller asked.
fn tell_way(headers: &mut HeaderMap, authority: &HeaderValue, peer: &Peer) {
    // The host that was judged, in its one spelling: HTTP/2 has it in `:authority`, HTTP/1.1 upstreams want the header.
    headers.insert(header::HOST, authority.clone());
    // The whole set is rebuilt: what stood there before was scrubbed.
    headers.insert(FORWARDED_HOST, authority.clone());
    let scheme = if peer.secured.is_some() { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(value) = &peer.forwarded_for {
        headers.insert(FORWARDED_FOR, value.clone());
    }
}

/// The header for a token that goes on.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
