//! Sessions and their storage.

use idm_store::{Key, Store, StoreError};
use idm_types::{Redacted, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::seal::{Secret, random_text};

const PURPOSE: &str = "session";
/// Larger sessions are refused: a provider that adds too many claims must not fill the store.
const MAX_BYTES: usize = 128 * 1024;
/// No gateway keeps a verdict on a session longer than this, by far.
const VERDICT_MS: u64 = 120_000;
/// The list of a person's sessions is kept longer than any of these sessions lasts.
const PERSON_MS: u64 = 31 * 86_400_000;

/// The value of a browser's cookie: 256 random bits.
#[derive(Clone, Debug)]
pub struct SessionId(Secret);

impl SessionId {
    /// Reads the value of a cookie.
    pub fn parse(text: &str) -> Option<Self> {
        Secret::parse(text).map(Self)
    }

    /// The value of the cookie.
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// The key under which the session is stored and revoked.
    pub fn key(&self) -> Key {
        Key::of(&["session", self.text()])
    }
}

/// The tokens that the provider issued for the person. Never printed.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The id token, which identifies the session for logout at the provider.
    pub id_token: Option<Redacted<String>>,
    /// The access token.
    pub access: Option<Redacted<String>>,
    /// The end of the access token, in milliseconds.
    pub access_until: Option<u64>,
    /// The refresh token.
    pub refresh: Option<Redacted<String>>,
}

/// A person who signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The uid of the federation that vouches for them.
    pub federation: String,
    /// The provider.
    pub issuer: String,
    /// The person there.
    pub subject: String,
    /// The provider's own name of its session.
    pub sid: Option<String>,
    /// The claims of the provider.
    pub claims: Map<String, Value>,
    /// The time of sign-in, in milliseconds.
    pub began: u64,
    /// The latest end of the session, in milliseconds.
    pub until: u64,
    /// The time of authentication at the provider, in seconds.
    pub proved: u64,
    /// The generation: all sessions of the person since they were last ended together have the same.
    pub generation: String,
    /// Tokens.
    pub tokens: Tokens,
    /// The time at which tokens must be requested again, in milliseconds.
    pub refresh_at: u64,
}

/// A session as it is written, in ciphertext only.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    federation: String,
    issuer: String,
    subject: String,
    sid: Option<String>,
    claims: Map<String, Value>,
    began: u64,
    until: u64,
    proved: u64,
    generation: String,
    id_token: Option<String>,
    access: Option<String>,
    access_until: Option<u64>,
    refresh: Option<String>,
    refresh_at: u64,
}

impl Session {
    fn write(&self) -> Option<Vec<u8>> {
        let Self { federation, issuer, subject, sid, claims, began, until, proved, generation, tokens, refresh_at } =
            self;
        let Tokens { id_token, access, access_until, refresh } = tokens;
        let reveal = |token: &Option<Redacted<String>>| token.as_ref().map(|token| token.reveal().clone());
        let written = Written {
            federation: federation.clone(),
            issuer: issuer.clone(),
            subject: subject.clone(),
            sid: sid.clone(),
            claims: claims.clone(),
            began: *began,
            until: *until,
            proved: *proved,
            generation: generation.clone(),
            id_token: reveal(id_token),
            access: reveal(access),
            access_until: *access_until,
            refresh: reveal(refresh),
            refresh_at: *refresh_at,
        };
        serde_json::to_vec(&written).ok().filter(|bytes| bytes.len() <= MAX_BYTES)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let Written {
            federation,
            issuer,
            subject,
            sid,
            claims,
            began,
            until,
            proved,
            generation,
            id_token,
            access,
            access_until,
            refresh,
            refresh_at,
        } = serde_json::from_slice(bytes).ok()?;
        let [id_token, access, refresh] = [id_token, access, refresh].map(|token| token.map(Redacted::new));
        let tokens = Tokens { id_token, access, access_until, refresh };
        Some(Self { federation, issuer, subject, sid, claims, began, until, proved, generation, tokens, refresh_at })
    }
}

/// A session that was found, with the stored value that a replacement must match.
#[derive(Clone, Debug)]
pub struct Found {
    /// The session.
    pub session: Session,
    written: Vec<u8>,
}

impl Found {
    /// Whether the store has the session in exactly these bytes.
    pub fn is_written_as(&self, written: &[u8]) -> bool {
        self.written == written
    }
}

/// The reason why a session could not be stored or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider's claims are larger than a session may be.
    #[error("the session is larger than 128 KiB: ask the provider for fewer claims")]
    TooLarge,
    /// The system gives no random bits.
    #[error("there are no random bits")]
    NoEntropy,
}

/// The sessions that are to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// This one.
    This,
    /// All of the person's, on every device.
    Everywhere,
}

/// The sessions in a store.
#[derive(Clone, Copy)]
pub struct Sessions<'s> {
    /// The store that they are in.
    pub store: &'s Store,
}

/// The key under which all sessions of one session of the provider are revoked.
pub fn sid_key(federation: &str, sid: &str) -> Key {
    Key::of(&["sid", federation, sid])
}

/// The key under which the generation of a person's sessions is stored.
pub fn person_key(federation: &str, subject: &str) -> Key {
    Key::of(&["generation of", federation, subject])
}

fn era_key(generation: &str) -> Key {
    Key::of(&["generation", generation])
}

/// The keys that end a session when one of them is revoked.
pub fn ending_keys(id: &SessionId, session: &Session) -> Vec<Key> {
    let sid = session.sid.as_deref().map(|sid| sid_key(&session.federation, sid));
    [id.key(), era_key(&session.generation)].into_iter().chain(sid).collect()
}

impl Sessions<'_> {
    /// The generation of a person's sessions: the present one, or a new one.
    pub async fn generation(&self, federation: &str, subject: &str, now: Timestamp) -> Result<String, SessionError> {
        let new = random_text::<16>().ok_or(SessionError::NoEntropy)?;
        let kept = self.store.settle(&person_key(federation, subject), new.into_bytes(), PERSON_MS, now).await?;
        String::from_utf8(kept)
            .map_err(|_| StoreError::new("the store has something else under a person's name").into())
    }

    /// Stores a new session; it expires when it was not used for `idle_ms`.
    pub async fn begin(&self, session: &Session, idle_ms: u64, now: Timestamp) -> Result<SessionId, SessionError> {
        let id = SessionId(Secret::new().ok_or(SessionError::NoEntropy)?);
        let sealed = self.seal(&id, session)?;
        if let Some(sid) = &session.sid {
            let for_ms = session.until.saturating_sub(now.0);
            self.store
                .put(&known_sid(&session.federation, sid), session.until.to_string().into_bytes(), for_ms, now)
                .await?;
        }
        self.store.put(&id.key(), sealed, idle_ms, now).await?;
        Ok(id)
    }

    fn seal(&self, id: &SessionId, session: &Session) -> Result<Vec<u8>, SessionError> {
        let written = session.write().ok_or(SessionError::TooLarge)?;
        id.0.seal(PURPOSE, "", written).ok_or(SessionError::NoEntropy)
    }

    /// The session that a cookie opens; this renews its idle time.
    pub async fn find(&self, id: &SessionId, idle_ms: u64, now: Timestamp) -> Result<Option<Found>, StoreError> {
        let Some(written) = self.store.renew(&id.key(), idle_ms, now).await? else { return Ok(None) };
        let session = id.0.open(PURPOSE, "", &written).and_then(|bytes| Session::read(&bytes));
        Ok(session.map(|session| Found { session, written }))
    }

    /// Replaces a session, unless another request did so in the meantime (false).
    pub async fn replace(
        &self,
        id: &SessionId,
        found: &Found,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, SessionError> {
        let sealed = self.seal(id, session)?;
        Ok(self.store.replace(&id.key(), &found.written, sealed, now).await?)
    }

    /// Ends a session, or all of the person's, on every gateway.
    pub async fn end(&self, id: &SessionId, session: &Session, what: Ended, now: Timestamp) -> Result<(), StoreError> {
        // A session that was deleted must be on the list only while some gateway may cache a verdict on it: all
        // gateways copy the list, so it should stay short.
        self.store.revoke(&id.key(), Timestamp(now.0.saturating_add(VERDICT_MS)), now).await?;
        let gone = match what {
            Ended::This => Ok(()),
            Ended::Everywhere => self.end_person(&session.federation, &session.subject, now).await,
        };
        let gone = gone.and(self.store.remove(&id.key()).await);
        if gone.is_err() {
            // The session may still exist: then it stays on the list until its end.
            self.store.revoke(&id.key(), Timestamp(session.until), now).await?;
        }
        gone
    }

    /// Ends all sessions of a person.
    pub async fn end_person(&self, federation: &str, subject: &str, now: Timestamp) -> Result<(), StoreError> {
        let key = person_key(federation, subject);
        let Some(generation) = self.store.get(&key, now).await? else { return Ok(()) };
        let generation = String::from_utf8(generation).unwrap_or_default();
        self.store.revoke(&era_key(&generation), Timestamp(now.0.saturating_add(PERSON_MS)), now).await?;
        self.store.remove(&key).await
    }

    /// Ends all sessions that belong to one session of the provider; false when there is none.
    pub async fn end_sid(&self, federation: &str, sid: &str, now: Timestamp) -> Result<bool, StoreError> {
        // Only known sessions: otherwise a stranger could fill the list of revocations by guessing.
        let Some(until) = self.store.get(&known_sid(federation, sid), now).await? else { return Ok(false) };
        let until = String::from_utf8(until)
            .ok()
            .and_then(|until| until.parse().ok())
            .unwrap_or(now.0.saturating_add(PERSON_MS));
        self.store.revoke(&sid_key(federation, sid), Timestamp(until), now).await?;
        Ok(true)
    }
}

/// The answer of a provider about a person, parked until the browser that asked for it comes for it.
#[derive(Debug)]
pub struct Parked {
    /// The session that is to begin.
    pub session: Session,
    /// The request that it answers.
    pub request: Option<String>,
    /// The `state` of the sign-in that the request was made for.
    pub state: Option<String>,
    /// The address where the provider wants the browser to go, for an answer without a request.
    pub to: Option<String>,
}

/// The time that a browser may take for one redirect.
const PARKED_MS: u64 = 60_000;
const PARKED: &str = "parked";

impl Sessions<'_> {
    /// Parks a provider's answer for a short time; the returned text opens it once.
    pub async fn park(&self, parked: &Parked, now: Timestamp) -> Result<String, SessionError> {
        let Parked { session, request, state, to } = parked;
        let session = session.write().ok_or(SessionError::TooLarge)?;
        let session = String::from_utf8(session).map_err(|_| SessionError::TooLarge)?;
        let bytes = serde_json::to_vec(&(session, request, state, to)).map_err(|_| SessionError::TooLarge)?;
        let secret = Secret::new().ok_or(SessionError::NoEntropy)?;
        let sealed = secret.seal(PARKED, "", bytes).ok_or(SessionError::NoEntropy)?;
        self.store.put(&Key::of(&[PARKED, secret.text()]), sealed, PARKED_MS, now).await?;
        Ok(secret.text().to_owned())
    }

    /// Takes the parked answer out of the store, once.
    pub async fn unpark(&self, ticket: &str, now: Timestamp) -> Result<Option<Parked>, StoreError> {
        let Some(secret) = Secret::parse(ticket) else { return Ok(None) };
        let key = Key::of(&[PARKED, secret.text()]);
        let Some(sealed) = self.store.get(&key, now).await? else { return Ok(None) };
        if !self.store.claim(&Key::of(&["unparked", secret.text()]), 2 * PARKED_MS, now).await? {
            return Ok(None);
        }
        self.store.remove(&key).await?;
        let read = |bytes: Vec<u8>| {
            let (session, request, state, to): (String, Option<String>, Option<String>, Option<String>) =
                serde_json::from_slice(&bytes).ok()?;
            Some(Parked { session: Session::read(session.as_bytes())?, request, state, to })
        };
        Ok(secret.open(PARKED, "", &sealed).and_then(read))
    }
}

fn known_sid(federation: &str, sid: &str) -> Key {
    Key::of(&["known sid", federation, sid])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::executor::block_on;
    use idm_types::Clock;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn session(generation: &str) -> Session {
        let claims = Map::from_iter([("sub".to_owned(), Value::from("ana"))]);
        let tokens = Tokens { refresh: Some(Redacted::new("planted-refresh-token".into())), ..Tokens::default() };
        Session {
            federation: "f".into(),
            issuer: "https://idp".into(),
            subject: "ana".into(),
            sid: Some("s1".into()),
            claims,
            began: NOW.0,
            until: NOW.0 + 100_000,
            proved: NOW.seconds(),
            generation: generation.into(),
            tokens,
            refresh_at: 0,
        }
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_was_idle_too_long() {
        let uptime = Arc::new(AtomicU64::new(5_000));
        let store = Store::here_by(Clock::set_by(uptime.clone()));
        let sessions = Sessions { store: &store };
        let id = block_on(sessions.begin(&session("e"), 1000, NOW)).unwrap();
        let find = |ms: u64| {
            uptime.store(5_000 + ms, Ordering::Relaxed);
            block_on(sessions.find(&SessionId::parse(id.text()).unwrap(), 1000, Timestamp(NOW.0 + ms))).unwrap()
        };
        let found = find(900).unwrap();
        assert_eq!(found.session.tokens.refresh.as_ref().unwrap().reveal(), "planted-refresh-token");
        assert!(find(1800).is_some(), "each look begins the idle time anew");
        assert!(find(2800).is_none());
    }

    #[test]
    fn what_the_store_has_says_nothing() {
        let store = Store::in_process();
        let id = block_on(Sessions { store: &store }.begin(&session("e"), 1000, NOW)).unwrap();
        let kept = block_on(store.get(&id.key(), NOW)).unwrap().unwrap();
        let text = String::from_utf8_lossy(&kept);
        assert!(!text.contains("planted") && !text.contains("ana"), "{text}");
        assert!(!format!("{:?} {:?}", id, session("e")).contains("planted"));
    }

    #[test]
    fn of_two_who_replace_one_wins() {
        let store = Store::in_process();
        let sessions = Sessions { store: &store };
        let id = block_on(sessions.begin(&session("e"), 1000, NOW)).unwrap();
        let find = || block_on(sessions.find(&id, 1000, NOW)).unwrap().unwrap();
        let (a, b) = (find(), find());
        assert_eq!(block_on(sessions.replace(&id, &a, &Session { proved: 1, ..session("e") }, NOW)), Ok(true));
        assert_eq!(block_on(sessions.replace(&id, &b, &Session { proved: 2, ..session("e") }, NOW)), Ok(false));
        assert_eq!(find().session.proved, 1);
    }

    #[test]
    fn every_way_to_end_a_session_is_seen_by_its_keys() {
        let store = Store::in_process();
        let sessions = Sessions { store: &store };
        let begin = || {
            let generation = block_on(sessions.generation("f", "ana", NOW)).unwrap();
            let session = session(&generation);
            let id = block_on(sessions.begin(&session, 1000, NOW)).unwrap();
            (id, session)
        };
        let is_over = |(id, session): &(SessionId, Session)| {
            ending_keys(id, session).iter().any(|key| store.is_revoked(key, NOW).unwrap())
        };
        let (one, two) = (begin(), begin());
        assert_eq!(one.1.generation, two.1.generation);
        block_on(sessions.end(&one.0, &one.1, Ended::This, NOW)).unwrap();
        assert_eq!((is_over(&one), is_over(&two)), (true, false));
        assert!(
            block_on(sessions.find(&one.0, 1000, NOW)).unwrap().is_none(),
            "and it is gone, so that the list need not know it for long"
        );
        block_on(sessions.end_person("f", "ana", NOW)).unwrap();
        assert!(is_over(&two));
        let three = begin();
        assert!(!is_over(&three), "who signs in anew is not ended by what came before");
        assert_eq!(block_on(sessions.end_sid("f", "unknown", NOW)), Ok(false));
        assert_eq!(block_on(sessions.end_sid("f", "s1", NOW)), Ok(true));
        assert!(is_over(&three));
    }

    #[test]
    fn what_is_parked_is_had_once() {
        let store = Store::in_process();
        let sessions = Sessions { store: &store };
        let parked = Parked { session: session("e"), request: Some("_r".into()), state: Some("s".into()), to: None };
        let ticket = block_on(sessions.park(&parked, NOW)).unwrap();
        assert!(block_on(sessions.unpark(&"A".repeat(43), NOW)).unwrap().is_none());
        let found = block_on(sessions.unpark(&ticket, NOW)).unwrap().unwrap();
        assert_eq!(
            (found.session.subject.as_str(), found.request.as_deref(), found.state.as_deref()),
            ("ana", Some("_r"), Some("s"))
        );
        assert!(block_on(sessions.unpark(&ticket, NOW)).unwrap().is_none());
    }

    #[test]
    fn too_much_is_refused() {
        let store = Store::in_process();
        let mut large = session("e");
        large.claims.insert("x".into(), "y".repeat(MAX_BYTES).into());
        assert_eq!(
            block_on(Sessions { store: &store }.begin(&large, 1000, NOW)).map(drop),
            Err(SessionError::TooLarge)
        );
    }
}
