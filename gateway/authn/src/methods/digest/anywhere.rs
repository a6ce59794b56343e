//! Digest with databases: their hashes are read when somebody presents a response, and never kept.

use std::sync::Arc;

use idm_limit::Guess;
use idm_trust::{HashAnswer, NameAsked, Person};
use idm_types::{Reason, Redacted, hex};

use super::{ArmedDigest, Given, stale};
use crate::directory::{ArmedDirectory, TypedName, unanswered};
use crate::guessed::GuessedUser;
use crate::guesses::Turn;
use crate::memory::Unchecked;
use crate::method::{Attempt, MethodContext, NewVerdict};
use crate::validators::wait_out;

/// A database that knows the name, with the turn of the guess.
struct Found<'d> {
    directory: &'d Arc<ArmedDirectory>,
    hash: Redacted<String>,
    person: Box<Person>,
    turn: Turn,
}

impl ArmedDigest {
    /// Credentials first; then the databases, the first of which that knows the name decides.
    pub(super) async fn attempt_anywhere(&self, context: MethodContext<'_>, credential: &str) -> Attempt {
        let given = match self.read(context, credential) {
            Ok(given) => given,
            Err(attempt) => return attempt,
        };
        if given.userhash || self.found(&given.username, false).is_some() {
            return self.attempt(context, credential);
        }
        // No database is asked for a nonce that is not ours: it would be answered in vain.
        if self.ends(&given.nonce, context.now).is_none() {
            return stale(context);
        }
        let began = tokio::time::Instant::now();
        let attempt = self.attempt_at_databases(context, given).await;
        if let Attempt::Rejected(refusal) = &attempt {
            wait_out(refusal, began).await;
        }
        attempt
    }

    async fn attempt_at_databases(&self, context: MethodContext<'_>, given: Given) -> Attempt {
        let MethodContext { memory, view, .. } = context;
        let wrong = || context.denied(Reason::WrongPassword, format!("user `{}`", given.username));
        let found = match self.find_at_databases(context, &given).await {
            Ok(found) => found,
            Err(attempt) => return attempt,
        };
        let Some(Found { directory, hash, person, turn }) = found else {
            // As much is computed as for somebody who exists.
            let _ = self.is_right(&given, &Redacted::new(hex(&[0; 32])), view);
            let typed = TypedName { username: given.username.clone(), bare: None };
            let user = GuessedUser::unknown(&context.policy.key.namespace, &typed);
            memory.note_wrong(&user, view.address);
            return Attempt::Rejected(wrong());
        };
        if !self.is_right(&given, &hash, view) {
            turn.wrong();
            return Attempt::Rejected(wrong());
        }
        if let Err(attempt) = self.use_up(context, &given).await {
            return attempt;
        }
        let identity = match directory.identity(context, &person) {
            Ok(identity) => identity,
            Err(refusal) => return Attempt::Rejected(refusal.by_method(context.name)),
        };
        turn.right();
        Attempt::Verified(NewVerdict { epoch: context.table.epoch_of(&identity), identity, until: context.now.0 })
    }

    async fn find_at_databases(&self, context: MethodContext<'_>, given: &Given) -> Result<Option<Found<'_>>, Attempt> {
        let MethodContext { memory, view, .. } = context;
        let rejected = |refusal: idm_types::Refusal| Attempt::Rejected(refusal.by_method(context.name));
        let typed = TypedName { username: given.username.clone(), bare: None };
        for directory in &self.directories {
            directory.check_suspended().map_err(rejected)?;
            let user = || GuessedUser::of_directory(directory, &typed);
            let whose = || format!("`{}`", given.username);
            if !memory.store.is_shared()
                && let Guess::Later { seconds } = memory.lockouts.turn(&user(), view.address, memory.uptime())
            {
                return Err(rejected(Unchecked::Later { seconds }.denied(&whose())));
            }
            let asked = NameAsked { username: given.username.clone(), caller: Some(view.address) };
            let answer = directory.hash(asked).await.map_err(|error| rejected(unanswered(error)))?;
            if matches!(answer, HashAnswer::Unknown) {
                continue;
            }
            // Only now: in one process nothing is awaited between this and the count of a wrong one, so that no number
            // of guesses at once gets by.
            let turn = memory.turn(user(), view.address).await;
            let turn = turn.map_err(|unchecked| rejected(unchecked.denied(&whose())))?;
            match answer {
                HashAnswer::Known(hash, person) => return Ok(Some(Found { directory, hash, person, turn })),
                HashAnswer::Refused(why) => {
                    turn.wrong();
                    return Err(rejected(directory.refused(&why, &given.username)));
                }
                HashAnswer::Unknown => {}
            }
        }
        Ok(None)
    }

    /// Uses up the count of the nonce: in this process, and on all gateways that share a store.
    async fn use_up(&self, context: MethodContext<'_>, given: &Given) -> Result<(), Attempt> {
        self.take(context, given)?;
        let MethodContext { memory, now, .. } = context;
        if !memory.store.is_shared() {
            return Ok(());
        }
        let claimed = self.claim(memory, (&given.nonce, &given.nc), now).await;
        claimed.map_err(|refusal| Attempt::Rejected(context.denied(refusal.reason, &refusal.detail)))
    }
}

#[cfg(test)]
mod tests;
