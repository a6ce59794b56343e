//! The request as the upstream gets it: only after a permit.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use idm_authz::Permit;
use idm_plan::{CredentialForwarding, PathChange, Policy, Redirect, Source, Timeouts};
use idm_request::{Identity, remove_cookie, remove_query};
use idm_transform::Steps;
use idm_types::{Reason, Refusal};
use serde_json::Value;

use crate::canonical::Canonical;
use crate::engine::{AnswerEdits, ArmedEdit, ArmedHandler, ArmedMirror, ArmedRule, Enforced, PolicyInForce, Share};
use crate::scrub::{accepts_trailers, remove_connections_own};
use crate::{Context, Limited, Metering, Peer, redirect};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request that was permitted and made ready. Only [`decide()`](crate::decide()) makes one, of a [`Permit`].
pub struct Forward {
    permit: Permit,
    /// Path and query for the upstream.
    pub target: PathAndQuery,
    /// The position of the backend, chosen by weight. `None`: the chosen share has no backend.
    pub backend: Option<usize>,
    /// The positions of the backends that get a copy.
    pub mirrors: Vec<usize>,
    /// The time limits of the upstream.
    pub timeouts: Timeouts,
    /// The caller asks for a WebSocket.
    pub websocket: bool,
    /// `Host` is the backend's own name, and not the one that the caller asked for.
    pub own_host: bool,
    /// The caller takes trailers: gRPC servers answer no request that does not say so.
    pub trailers: bool,
    /// The results of the JOSE steps on the request, for the steps on the response.
    pub jose: Option<Value>,
    /// The counting of a language model's call.
    pub metering: Option<Box<Metering>>,
    /// The share that the limits gave: it comes back when this is dropped, so it is kept until the answer has ended.
    pub limited: Limited,
    /// Edits of the upstream's answer.
    pub answer: Option<AnswerEdits>,
}

impl Forward {
    /// The evidence that this request was permitted.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

/// Chooses a share by weight.
fn chosen(shares: &[Share], random: u64) -> Option<&Share> {
    let point = random % shares.last()?.sum.max(1);
    shares.iter().find(|share| point < share.sum)
}

/// The mirrors that get a copy of this request: each has its share of all.
fn copied(mirrors: &[ArmedMirror], random: u64) -> Vec<usize> {
    let is_chosen = |(i, mirror): &(usize, &ArmedMirror)| {
        // Several mirrors choose independently of each other, and of the backend (splitmix64).
        let mut z = random.wrapping_add((*i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % mirror.denominator.max(1) < mirror.numerator
    };
    mirrors.iter().enumerate().filter(is_chosen).map(|(_, mirror)| mirror.backend).collect()
}

/// The values that [`forward`] needs, collected by the decision.
pub(crate) struct Allowed {
    pub(crate) permit: Permit,
    pub(crate) canonical: Canonical,
    pub(crate) rule: usize,
    pub(crate) source: Option<Source>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) exchanged: Option<HeaderValue>,
    pub(crate) jose: Option<Value>,
    pub(crate) websocket: bool,
    pub(crate) metering: Option<Box<Metering>>,
    pub(crate) limited: Limited,
}

/// Sends the caller elsewhere, without its credentials: the place need not be one of this gateway.
pub(crate) fn redirect(
    policy: &PolicyInForce,
    redirect: &Redirect,
    peer: &Peer,
    canonical: &Canonical,
    headers: &mut HeaderMap,
) -> Result<Response<Bytes>, Refusal> {
    let target = take_credentials(policy.armed.sources(), &policy.steps, None, canonical, headers);
    let query = target.as_ref().map_or(canonical.query(), PathAndQuery::query);
    redirect::answer(redirect, peer, &canonical.host, canonical.path(), query)
}

/// Turns the caller's request into the upstream's: first removes everything that a caller could have influenced, then
/// writes the gateway's own headers.
pub(crate) fn forward(
    context: Context<'_>,
    policy: &PolicyInForce,
    allowed: Allowed,
    headers: &mut HeaderMap,
) -> Result<Forward, Refusal> {
    let Allowed { permit, canonical, rule, source, headers: more, exchanged, jose, websocket, metering, limited } =
        allowed;
    let Context { engine, peer, random, .. } = context;
    let Some(ArmedRule { handler: ArmedHandler::Enforce(rule), .. }) = engine.rules.get(rule) else {
        return Err(Refusal::new(Reason::InternalError, "no rule at the position that was matched"));
    };
    let Enforced { policy: _, shares, mirrors, timeouts, edits, reserved: _, rewrite, answer } = rule;
    let PolicyInForce { armed, steps, llm, .. } = policy;
    let forwards = armed.plan().upstream.credential == CredentialForwarding::Forward;
    let verified_in = source.as_ref().filter(|_| forwards);
    let target = take_credentials(armed.sources(), steps, verified_in, &canonical, headers);
    // A browser sends its session cookie to every route of the host: no upstream may see it.
    if engine.signs_in && headers.contains_key(header::COOKIE) {
        idm_authn::COOKIES.iter().for_each(|name| remove_cookie(headers, name));
    }
    let trailers = accepts_trailers(headers);
    remove_connections_own(headers);
    if let Some(llm) = llm {
        llm.keep_only_what_it_needs(headers, |name| steps.headers().any(|made| made == name));
    }
    apply_edits(headers, edits);
    let share = chosen(shares, random);
    apply_edits(headers, share.map_or(&[], |share| &share.edits));
    let identity = permit.who().identity();
    tell_upstream(headers, armed.plan(), identity, &more);
    // A provider is a third party: it must not learn the caller's address or the host that the caller asked for.
    if llm.is_none() {
        // A policy with sign-in may know better than the connection how browsers reach the host.
        let written = armed.sign_in().and_then(|sign_in| sign_in.is_https(canonical.authority.to_str().ok()?));
        let https = written.unwrap_or(peer.https);
        tell_way(headers, &canonical.authority, https, peer);
    }
    let of_session = identity.session_token().filter(|_| forwards);
    if let Some(token) = exchanged.or_else(|| of_session.and_then(|token| bearer(token.reveal()))) {
        headers.insert(header::AUTHORIZATION, token);
    }
    if let Some(llm) = llm {
        llm.sign(headers);
    }
    let host = rewrite.as_ref().and_then(|rewrite| rewrite.host.clone());
    let own_host = llm.is_some() && host.is_none();
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    // A copy of a request to a language model's provider would carry the provider's key.
    let mirrors = if websocket || llm.is_some() { vec![] } else { copied(mirrors, random) };
    let (backend, timeouts, answer) = (share.and_then(|share| share.backend), *timeouts, answer.clone());
    let target = target.unwrap_or(canonical.target);
    let target = match rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) {
        Some(change) => changed(change, &target)?,
        None => target,
    };
    Ok(Forward {
        permit,
        target,
        backend,
        mirrors,
        timeouts,
        websocket,
        own_host,
        trailers,
        jose,
        metering,
        answer,
        limited,
    })
}

/// The target with another path. Whatever else decides, decided on the path before.
fn changed(change: &PathChange, target: &PathAndQuery) -> Result<PathAndQuery, Refusal> {
    let mut text = change.of(target.path());
    if let Some(query) = target.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Refusal::new(Reason::InternalError, "a rewritten path cannot travel"))
}

/// Removes every credential that a method of the policy looks for, in each place, except the one at `kept`. A value
/// that a step of the policy wrote has already replaced the caller's. Returns a new target when the query changed.
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
            // With a scheme, another scheme's credential in the same header is kept: the policy does not use it.
            Source::Header { name, scheme } if !steps.headers().any(|made| made == name) => {
                let ours =
                    |value: &HeaderValue| scheme.as_deref().is_none_or(|scheme| has_scheme(value.as_bytes(), scheme));
                if headers.get(name.as_str()).is_some_and(ours) {
                    headers.remove(name.as_str());
                }
                // What was signed is of no use without the signatures.
                if name == "signature-input" {
                    headers.remove("signature");
                }
                // The proof is forwarded only together with its token.
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
    let path = canonical.target.path();
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse().ok()
}

fn has_scheme(value: &[u8], scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|given| given.eq_ignore_ascii_case(scheme.as_bytes()))
}

pub(crate) fn apply_edits(headers: &mut HeaderMap, edits: &[ArmedEdit]) {
    for edit in edits {
        match edit {
            ArmedEdit::Set(name, value) => drop(headers.insert(name.clone(), value.clone())),
            ArmedEdit::Add(name, value) => drop(headers.append(name.clone(), value.clone())),
            ArmedEdit::Remove(name) => drop(headers.remove(name)),
        }
    }
}

/// Writes the identity headers, last of all: a header with one of these names is now either the gateway's or absent.
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

/// Writes the host that the caller asked for, the scheme, and the address that it asked from.
fn tell_way(headers: &mut HeaderMap, authority: &HeaderValue, https: bool, peer: &Peer) {
    // The canonical host that was checked: HTTP/2 has it in `:authority`, HTTP/1.1 upstreams need the header.
    headers.insert(header::HOST, authority.clone());
    // The whole set is written anew: the caller's headers of these names were removed before.
    headers.insert(FORWARDED_HOST, authority.clone());
    let scheme = if https { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(value) = &peer.forwarded_for {
        headers.insert(FORWARDED_FOR, value.clone());
    }
}

/// The header for a token that is forwarded.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
