//! Guesses at passwords of directories' users, which are counted before the directory is asked: in the store that
//! gateways share, so that many pods let no more guesses through than one, or in this process where there is none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use idm_limit::{Blocks, Guess, Lockouts, User, lockout};
use idm_store::{GuessEnd, GuessKeys, GuessRules, GuessTurn, Key, Store};
use idm_trust::{DirectoryError, HttpClient, LoginAnswer, LoginRefused};
use idm_types::{Timestamp, network};

use crate::Memory;
use crate::blocked::note_guess;
use crate::guessed::GuessedUser;
use crate::logins::Question;
use crate::memory::Unchecked;

const RULES: GuessRules = GuessRules {
    free: lockout::FREE,
    first_delay_ms: lockout::FIRST_DELAY_MS,
    last_delay_ms: lockout::LAST_DELAY_MS,
    forget_ms: lockout::FORGET_MS,
    known_ms: lockout::KNOWN_MS,
    // As many as one address has of the places of a directory with the usual number of them.
    at_once: 24,
    // Longer than any login: the longest deadline of a directory is 30 s.
    patience_ms: 45_000,
};
/// Pauses between questions whether guesses of others have ended. People who sign in at many pods at once wait so long.
const PAUSES_MS: [u64; 5] = [25, 50, 100, 200, 400];

/// A guess that may be checked. Nothing is counted where nobody says how it ended.
#[must_use]
pub(crate) struct Turn {
    lockouts: Arc<Lockouts>,
    blocks: Arc<Blocks>,
    store: Store,
    user: GuessedUser,
    address: IpAddr,
    known: bool,
    shared: Option<GuessKeys>,
    end: GuessEnd,
}

impl Memory {
    /// The turn of a guess at the password of a user.
    pub(crate) async fn turn(&self, user: GuessedUser, address: IpAddr) -> Result<Turn, Unchecked> {
        self.check_user(&user, address)?;
        let (lockouts, blocks, store) = (self.lockouts.clone(), self.blocks.clone(), self.store.clone());
        let end = GuessEnd::Unanswered;
        let of = |user, known, shared| Turn { lockouts, blocks, store, user, address, known, shared, end };
        if !self.store.is_shared() {
            return match self.lockouts.turn(&user, address, self.uptime()) {
                Guess::Now { known } => Ok(of(user, known, None)),
                Guess::Later { seconds } => Err(Unchecked::Later { seconds }),
            };
        }
        let keys = keys_of(&user, address);
        for pause in PAUSES_MS.into_iter().map(Some).chain([None]) {
            match (self.store.begin_guess(&keys, &RULES).await, pause) {
                (Ok(Some(GuessTurn::Now { known })), _) => return Ok(of(user, known, Some(keys))),
                (Ok(Some(GuessTurn::Later { ms })), _) => return Err(Unchecked::Later { seconds: ms.div_ceil(1000) }),
                (Ok(Some(GuessTurn::Busy)), Some(pause)) => tokio::time::sleep(Duration::from_millis(pause)).await,
                (Ok(Some(GuessTurn::Busy) | None), _) => break,
                (Err(error), _) => return Err(Unchecked::StoreAway(error)),
            }
        }
        Err(Unchecked::Later { seconds: 1 })
    }
}

/// The entries of a guess in the store.
fn keys_of(user: &GuessedUser, address: IpAddr) -> GuessKeys {
    let (User { name, account }, from) = (User::from(user), network(address).to_string());
    GuessKeys {
        user: Key::of(&["guess", "user", name]),
        account: Key::of(&["guess", "account", account]),
        address: Key::of(&["guess", "address", &from]),
        known: Key::of(&["guess", "known", account, &from]),
    }
}

impl Turn {
    /// The caller among whose different guesses only a few are under way: the user, or this user at a known address.
    pub(crate) fn asker(&self) -> String {
        let name = self.user.name();
        if self.known { format!("{name} {}", self.address) } else { name.to_owned() }
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// The password was right, and its user is let in.
    pub(crate) fn right(mut self) {
        self.end = GuessEnd::Right;
    }

    /// The password was wrong, or there is no such user.
    pub(crate) fn wrong(mut self) {
        self.end = GuessEnd::Wrong;
    }

    /// No source of people knows the user: the failure is nobody's to take back.
    pub(crate) fn unknown(mut self, user: GuessedUser) {
        self.shared = self.shared.map(|keys| GuessKeys { account: keys_of(&user, self.address).account, ..keys });
        self.user = user;
        self.end = GuessEnd::Wrong;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Self { lockouts, blocks, store, user, address, known, shared, end } = self;
        if *end == GuessEnd::Wrong {
            note_guess(blocks, user, *address, store.moment(Timestamp::now()));
        }
        let uptime = || store.clock().uptime();
        match (shared, end) {
            (Some(keys), end) => store.end_guess_soon(keys, &RULES, *known, *end),
            (None, GuessEnd::Right) => lockouts.admitted(&*user, *address, uptime()),
            (None, GuessEnd::Wrong) => lockouts.wrong(&*user, *address, uptime()),
            (None, GuessEnd::Unanswered) => {}
        }
    }
}

/// A guess that waits for a directory's answer. When its caller leaves, the answer is awaited all the same: the
/// directory counts the guess, and so must the gateway.
pub(crate) struct Waiting {
    left: Option<(Turn, Question)>,
    http: Arc<dyn HttpClient>,
}

impl Waiting {
    pub(crate) fn new(turn: Turn, question: Question, http: Arc<dyn HttpClient>) -> Self {
        Self { left: Some((turn, question)), http }
    }

    /// The answer, with the turn whose end is to be told. `None`: it was taken before.
    pub(crate) async fn answer(mut self) -> Option<(Result<LoginAnswer, DirectoryError>, Turn)> {
        let question = self.left.as_ref().map(|(_, question)| question.clone())?;
        let answer = question.await;
        self.left.take().map(|(turn, _)| (answer, turn))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((turn, question)) = self.left.take() else { return };
        self.http.carry_on(Box::pin(async move {
            match question.await {
                // The password was right, and no caller is let in.
                Ok(
                    LoginAnswer::Verified(_)
                    | LoginAnswer::Changed
                    | LoginAnswer::Refused(LoginRefused::NewPassword(_)),
                )
                | Err(_) => {}
                Ok(LoginAnswer::Unknown | LoginAnswer::Refused(_)) => turn.wrong(),
            }
        }));
    }
}
