//! Logins at directories that are under way. Equal ones share one question, and different guesses at one user's
//! password are few at a time: a directory may lock the account, and a lockout here counts what has been answered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::Shared;
use idm_trust::{Asked, LoginAnswer};

/// Different passwords of one user that are checked at the same time.
const GUESSES_OF_ONE: usize = 3;
/// Users with logins under way; more are answered as busy.
const MAX_USERS: usize = 65_536;

/// A question that several may wait for.
pub(crate) type Question = Shared<Asked<LoginAnswer>>;

/// The questions of one user, each under the fingerprint of its login.
type OfUser = Vec<([u8; 32], Question)>;

/// See the module. One for each gateway.
#[derive(Default)]
pub(crate) struct Logins(Mutex<HashMap<String, OfUser>>);

impl Logins {
    /// The question of a login: an equal one that is under way, or a new one. `None`: too many different ones are under
    /// way for this user. [`Self::ended`] must follow its answer.
    pub(crate) fn question(
        &self,
        user: &str,
        login: [u8; 32],
        ask: impl FnOnce() -> Asked<LoginAnswer>,
    ) -> Option<Question> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A question that this table alone holds has nobody who waits: its answer would be about an earlier time.
        let is_awaited = |question: &Question| question.strong_count().is_some_and(|holders| holders > 1);
        if all.len() >= MAX_USERS {
            all.retain(|_, of_user| of_user.iter().any(|(_, question)| is_awaited(question)));
        }
        if all.len() >= MAX_USERS && !all.contains_key(user) {
            return None;
        }
        let of_user = all.entry(user.to_owned()).or_default();
        of_user.retain(|(_, question)| is_awaited(question));
        if let Some((_, question)) = of_user.iter().find(|(known, _)| *known == login) {
            return Some(question.clone());
        }
        if of_user.len() >= GUESSES_OF_ONE {
            return None;
        }
        let question = ask().shared();
        of_user.push((login, question.clone()));
        Some(question)
    }

    /// Forgets a question that was answered.
    pub(crate) fn ended(&self, user: &str, question: &Question) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = all.get_mut(user) {
            of_user.retain(|(_, known)| !known.ptr_eq(question));
            if of_user.is_empty() {
                all.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use idm_trust::DirectoryError;
    use tokio::sync::Notify;

    use super::*;

    /// A question that ends when it is told to, and counts how often it is asked.
    fn question(asked: &Arc<AtomicUsize>, end: &Arc<Notify>) -> impl FnOnce() -> Asked<LoginAnswer> {
        let (asked, end) = (asked.clone(), end.clone());
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                end.notified().await;
                Ok(LoginAnswer::Unknown)
            })
        }
    }

    impl Logins {
        async fn ask(
            &self,
            user: &str,
            login: [u8; 32],
            ask: impl FnOnce() -> Asked<LoginAnswer>,
        ) -> Option<Result<LoginAnswer, DirectoryError>> {
            let question = self.question(user, login, ask)?;
            let answer = question.clone().await;
            self.ended(user, &question);
            Some(answer)
        }
    }

    #[tokio::test]
    async fn equal_logins_share_one_question_and_later_ones_ask_again() {
        let (logins, asked, end) = (Logins::default(), Arc::default(), Arc::new(Notify::new()));
        let ask = |login| logins.ask("ana", [login; 32], question(&asked, &end));
        let (one, other, ()) = tokio::join!(ask(1), ask(1), async {
            tokio::task::yield_now().await;
            end.notify_one();
        });
        assert_eq!((one, other), (Some(Ok(LoginAnswer::Unknown)), Some(Ok(LoginAnswer::Unknown))));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        end.notify_one();
        assert!(ask(1).await.is_some());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(logins.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn r06_only_a_few_guesses_at_one_password_are_under_way() {
        let (logins, asked, end) = (Logins::default(), Arc::default(), Arc::new(Notify::new()));
        let ask = |user: &'static str, login| logins.ask(user, [login; 32], question(&asked, &end));
        let (a, b, c, d, e, ()) =
            tokio::join!(ask("ana", 1), ask("ana", 2), ask("ana", 3), ask("ana", 4), ask("bob", 4), async {
                tokio::task::yield_now().await;
                for _ in 0..4 {
                    end.notify_one();
                    tokio::task::yield_now().await;
                }
            });
        assert!(a.is_some() && b.is_some() && c.is_some() && e.is_some());
        assert_eq!(d, None);
    }

    #[tokio::test]
    async fn a_question_that_nobody_awaits_is_not_answered_later() {
        let (logins, asked, end) = (Logins::default(), Arc::default(), Arc::new(Notify::new()));
        drop(futures::poll!(Box::pin(logins.ask("ana", [1; 32], question(&asked, &end)))));
        end.notify_one();
        assert!(logins.ask("ana", [1; 32], question(&asked, &end)).await.is_some());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
