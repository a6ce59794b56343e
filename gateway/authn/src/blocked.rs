//! Refused credentials that count towards blocks, and the credentials that are blocked at an address.
//!
//! A guess at a password counts for its user, whichever door it came to; any other credential counts for itself. What
//! an honest caller's program does by itself, such as sending a token that has expired, counts nowhere.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use idm_limit::{Block, Blocks, Subject};
use idm_request::Identity;
use idm_store::Key;
use idm_types::{MethodName, Moment, Reason, Refusal, Timestamp};

use crate::Memory;
use crate::guessed::GuessedUser;
use crate::memory::Unchecked;

impl Memory {
    /// The blocks of addresses, and of credentials at addresses.
    pub fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    fn moment(&self) -> Moment {
        self.clock.at(Timestamp::now())
    }

    /// Whether guesses at a user's password from this address are taken.
    pub(crate) fn check_user(&self, user: &GuessedUser, address: IpAddr) -> Result<(), Unchecked> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let now = self.uptime();
        match self.blocks.of_credential(address, || subject_of_user(user), now).filter(|block| block.refuses()) {
            Some(block) => Err(Unchecked::Blocked { told: block.to_string(), seconds: block.seconds_left(now) }),
            None => Ok(()),
        }
    }

    /// Notes a wrong guess where guesses are counted in this process.
    pub(crate) fn note_wrong(&self, user: &GuessedUser, address: IpAddr) {
        self.lockouts.wrong(user, address, self.uptime());
        self.note_guess(user, address);
    }

    /// Notes a wrong guess that delays nobody.
    pub(crate) fn note_guess(&self, user: &GuessedUser, address: IpAddr) {
        note_guess(&self.blocks, user, address, self.moment());
    }

    /// Whether a credential that was presented to this method at this address is looked at.
    pub(crate) fn check_presented(&self, name: &MethodName, credential: &str, address: IpAddr) -> Result<(), Refusal> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let now = self.uptime();
        match self.blocks.of_credential(address, || subject_of(credential), now).filter(|block| block.refuses()) {
            Some(block) => Err(refusal(&block.to_string(), block.seconds_left(now)).by_method(name)),
            None => Ok(()),
        }
    }

    /// Counts a refused credential, unless it is a password: guesses at those count where they are checked.
    pub(crate) fn note_refused(&self, name: &MethodName, credential: &str, address: IpAddr, refusal: &Refusal) {
        if self.blocks.rules().is_some() && counts(refusal.reason) {
            let about = format!("a credential for the method `{}`", name.as_str());
            self.blocks.failed(address, subject_of(credential), &about, self.moment());
        }
    }

    /// Notes the caller behind a new verdict: an address of several callers is not blocked as a whole.
    pub(crate) fn note_let_in(&self, address: IpAddr, identity: &Identity) {
        if self.blocks.rules().is_some() && !identity.id.is_empty() {
            let mut hasher = DefaultHasher::new();
            identity.id.hash(&mut hasher);
            self.blocks.succeeded(address, hasher.finish(), self.uptime());
        }
    }
}

/// Counts a wrong guess at a user's password.
pub(crate) fn note_guess(blocks: &Blocks, user: &GuessedUser, address: IpAddr, now: Moment) {
    if blocks.rules().is_some() {
        blocks.failed(address, subject_of_user(user), &format!("user `{}`", user.name()), now);
    }
}

/// The refusal of a credential that is blocked at an address.
pub(crate) fn refusal(told: &str, seconds: u64) -> Refusal {
    Refusal::new(Reason::CredentialBlocked, told).retry_after(seconds)
}

/// The refusal of everything from a blocked address.
pub fn address_blocked(block: &Block, seconds: u64) -> Refusal {
    Refusal::new(Reason::AddressBlocked, block.to_string()).retry_after(seconds)
}

/// Gateways agree on it, so that they can share a block.
fn subject_of_user(user: &GuessedUser) -> Subject {
    subject(&["block", "user", user.name()])
}

fn subject_of(credential: &str) -> Subject {
    subject(&["block", "credential", credential])
}

fn subject(parts: &[&str]) -> Subject {
    let hash = Key::of(parts).bytes();
    Subject(hash.first_chunk().copied().unwrap_or_default())
}

/// Whether a refusal is a sign of guessing, of a stolen or of an ended credential. Passwords are not among them, see
/// [`Memory::note_refused`]; nor is what merely expired or is for somebody else.
const fn counts(reason: Reason) -> bool {
    use Reason::*;
    matches!(
        reason,
        AlgorithmNotAllowed
            | BadSignature
            | CannotDecrypt
            | CredentialSuspended
            | InvalidProof
            | KeyRevoked
            | KeyRotatedOut
            | MalformedApiKey
            | TokenInactive
            | TokenNotBound
            | UnknownApiKey
            | UntrustedCertificate
    )
}
