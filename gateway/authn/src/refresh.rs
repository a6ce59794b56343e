//! New tokens for a session, requested once, however many requests, cores and pods need them.
//!
//! In this process the first request that needs them begins, and the others wait for the same result. Among processes
//! the first one that claims the refresh token asks; the claim lives longer than any response may take. Once begun, the
//! refresh continues without the request: if a refresh token were used and its successor not kept, the session would
//! end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idm_plan::Federation;
use idm_request::OfDirectory;
use idm_session::{Found, Session, SessionId, Sessions};
use idm_store::{Key, Store};
use idm_trust::HttpClient;
use idm_types::{Reason, Timestamp};
use serde_json::Value;
use tokio::sync::watch;

use crate::directory::ArmedDirectory;
use crate::oidc::{Person, Provider, SignedIn};

/// A claim lives longer than every request to a provider, which ends within 20 seconds.
const CLAIM_MS: u64 = 60_000;
/// The time until the next try after a provider did not answer.
const RETRY_MS: u64 = 30_000;
/// The interval at which the result of another gateway's refresh is looked up.
const POLL: Duration = Duration::from_millis(100);
const POLLS: u32 = 240;

/// The refreshes under way in this process.
pub(crate) type Refreshing = Arc<Mutex<HashMap<Key, watch::Receiver<bool>>>>;

/// The source that says anew whether a person is admitted.
#[derive(Clone)]
pub(crate) enum Renewal {
    /// A provider, which gives new tokens for the refresh token.
    Provider(Arc<Provider>),
    /// A directory, where the person is looked up.
    Directory(Arc<ArmedDirectory>),
}

impl Renewal {
    fn http(&self) -> &Arc<dyn HttpClient> {
        match self {
            Self::Provider(provider) => provider.http(),
            Self::Directory(directory) => directory.http(),
        }
    }
}

/// Whether the tokens of a session are to be refreshed, or its person is to be looked up.
pub(crate) fn is_due(session: &Session, now: Timestamp) -> bool {
    now.0 >= session.refresh_at
}

/// Begins a refresh, or joins the one under way; the receiver changes when it has ended, with or without success.
pub(crate) fn begin(
    refreshing: &Refreshing,
    renewal: Renewal,
    store: &Store,
    id: &SessionId,
    found: &Found,
    now: Timestamp,
) -> watch::Receiver<bool> {
    let mut under_way = refreshing.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(receiver) = under_way.get(&id.key()) {
        let mut receiver = receiver.clone();
        receiver.mark_unchanged();
        return receiver;
    }
    let (sender, receiver) = watch::channel(false);
    under_way.insert(id.key(), receiver.clone());
    let (all, store, id, found) = (refreshing.clone(), store.clone(), id.clone(), found.clone());
    let http = renewal.http().clone();
    http.carry_on(Box::pin(async move {
        match &renewal {
            Renewal::Provider(provider) => refresh(provider, &store, &id, &found, now).await,
            Renewal::Directory(directory) => look_up(directory, &store, &id, &found, now).await,
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.key());
        sender.send_replace(true);
    }));
    receiver
}

async fn refresh(provider: &Provider, store: &Store, id: &SessionId, found: &Found, now: Timestamp) {
    let session = &found.session;
    let Some(token) = session.tokens.refresh.as_ref() else { return };
    let claim = Key::of(&["refreshing", &session.federation, token.reveal()]);
    match store.claim(&claim, CLAIM_MS, now).await {
        Ok(true) => {}
        Ok(false) => return wait_for_another(store, id, found, now).await,
        Err(error) => return tracing::warn!(%error, "tokens are not refreshed"),
    }
    let sessions = Sessions { store };
    let person = Person {
        subject: session.subject.clone(),
        sid: session.sid.clone(),
        proved: session.proved,
        claims: session.claims.clone(),
    };
    let new = match provider.refresh(&session.tokens, &person, now).await {
        Ok(SignedIn { person, tokens, refresh_at }) => {
            Session { sid: person.sid, claims: person.claims, tokens, refresh_at, ..session.clone() }
        }
        // The provider no longer admits the person: the session is over here, too.
        Err(error) if matches!(error.reason, Reason::SignInRefused | Reason::UntrustedSignIn) => {
            tracing::info!(
                federation = %provider.federation().key,
                reason = %error.reason,
                detail = error.detail,
                "a session ended with its refresh token"
            );
            if let Err(error) = sessions.end(id, session, idm_session::Ended::This, now).await {
                tracing::warn!(%error, "a session could not be ended");
            }
            return;
        }
        Err(error) => {
            tracing::warn!(federation = %provider.federation().key, detail = error.detail, "tokens are not refreshed \
                for now");
            let _ = store.remove(&claim).await;
            Session { refresh_at: now.0.saturating_add(RETRY_MS), ..session.clone() }
        }
    };
    match sessions.replace(id, found, &new, now).await {
        Ok(true) => {}
        Ok(false) => tracing::debug!("a session was replaced or ended while its tokens were refreshed"),
        Err(error) => tracing::warn!(%error, "refreshed tokens could not be kept"),
    }
}

/// Looks the person of a session up in their directory. Several gateways may do so at once: it changes nothing there.
async fn look_up(directory: &ArmedDirectory, store: &Store, id: &SessionId, found: &Found, now: Timestamp) {
    let session = &found.session;
    let name = session.claims.get("preferred_username").and_then(Value::as_str).unwrap_or_default();
    let Federation { key: federation, uid, .. } = directory.federation();
    let of = OfDirectory { federation: uid.clone(), id: session.subject.clone(), username: name.to_owned() };
    let sessions = Sessions { store };
    let new = match directory.look_up(&of).await {
        Ok(person) => {
            let refresh_at = directory.recheck_at(now);
            Session { claims: directory.claims(&person), refresh_at, ..session.clone() }
        }
        Err(refusal) if refusal.reason.status() < 500 => {
            let (reason, detail) = (refusal.reason, refusal.detail);
            tracing::info!(%federation, %reason, detail, "a session ended: its person is not admitted any more");
            if let Err(error) = sessions.end(id, session, idm_session::Ended::This, now).await {
                tracing::warn!(%error, "a session could not be ended");
            }
            return;
        }
        Err(refusal) => {
            tracing::warn!(%federation, detail = refusal.detail, "the person of a session is not looked up for now");
            if !directory.keeps_sessions() {
                return;
            }
            Session { refresh_at: now.0.saturating_add(RETRY_MS), ..session.clone() }
        }
    };
    match sessions.replace(id, found, &new, now).await {
        Ok(true) => {}
        Ok(false) => tracing::debug!("a session was replaced or ended while its person was looked up"),
        Err(error) => tracing::warn!(%error, "a session could not be kept"),
    }
}

/// Another gateway refreshes: returns when the session has changed, or after the longest time that it may take.
async fn wait_for_another(store: &Store, id: &SessionId, found: &Found, now: Timestamp) {
    for _ in 0..POLLS {
        tokio::time::sleep(POLL).await;
        match store.get(&id.key(), now).await {
            Ok(Some(written)) if found.is_written_as(&written) => {}
            _ => return,
        }
    }
}
