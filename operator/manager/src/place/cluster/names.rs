//! The namespaces of a person: those of the cluster that they may list, else those that are configured and those that
//! they named at the sign-in, each asked about.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use http::Method;
use idm_permission::Kind;
use idm_types::{Clock, Uptime};
use serde_json::Value;

use super::Caller;
use super::reach::{Reach, Right};
use super::request::{Asked, query, send, together};
use super::text;
use crate::failure::{Code, Failure};
use crate::place::Namespaces;
use crate::session::{Person, TokenId};
use crate::table::Later;

/// The answer is kept for so long.
const KEPT_MS: u64 = 5_000;
/// Answers that are kept.
const MOST_KEPT: usize = 1_000;
/// Namespaces of a page of the API server.
const PAGE: &str = "500";
/// Namespaces that are asked about one by one; more are shown to those who may list the kinds in all of them.
const MOST_ASKED: usize = 1_000;

/// Finds the namespaces of people.
pub(super) struct Named {
    configured: Vec<String>,
    clock: Clock,
    known: Mutex<HashMap<TokenId, (Uptime, Namespaces)>>,
}

impl Named {
    pub(super) fn new(configured: Vec<String>, clock: Clock) -> Self {
        Self { configured, clock, known: Mutex::default() }
    }

    /// The namespaces where the person may list a kind of ours.
    pub(super) async fn of(&self, caller: &Caller, reach: &Reach, person: &Person) -> Result<Namespaces, Failure> {
        let now = self.clock.uptime();
        if let Some((_, known)) = self.lock().get(&caller.token).filter(|(at, _)| now.since(*at) < KEPT_MS) {
            return Ok(known.clone());
        }
        let found = self.find(caller, reach, person).await?;
        let mut known = self.lock();
        if known.len() >= MOST_KEPT {
            known.clear();
        }
        known.insert(caller.token, (now, found.clone()));
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenId, (Uptime, Namespaces)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, caller: &Caller, reach: &Reach, person: &Person) -> Result<Namespaces, Failure> {
        let (mut names, mut note) = match listed(caller).await? {
            Some(names) => (names, None),
            None => {
                let named = person.access.iter().flat_map(|access| &access.namespaces);
                let all: BTreeSet<String> = self.configured.iter().chain(named).cloned().collect();
                let note = "you may not list the namespaces of this cluster: here are those of the configuration and \
                            those that you named when you signed in, as far as you may read them";
                (all.into_iter().collect(), Some(note.to_owned()))
            }
        };
        if sees_a_kind(caller, reach, "").await? {
            return Ok(Namespaces { names, note });
        }
        if names.len() > MOST_ASKED {
            names.truncate(MOST_ASKED);
            note = Some(format!("there are more namespaces: the first {MOST_ASKED} were looked at"));
        }
        let mut work: Vec<Later<'_, bool>> = Vec::new();
        for name in &names {
            work.push(Box::pin(sees_a_kind(caller, reach, name)));
        }
        let checked = together(work).await?;
        let names = names.into_iter().zip(checked).filter(|(_, sees)| *sees).map(|(name, _)| name).collect();
        Ok(Namespaces { names, note })
    }
}

/// Whether the person may list one of our kinds.
async fn sees_a_kind(caller: &Caller, reach: &Reach, namespace: &str) -> Result<bool, Failure> {
    for kind in Kind::ALL {
        if reach.allows(caller, &Right::on_kind("list", *kind, namespace)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// All namespaces; none where the person may not list them.
async fn listed(caller: &Caller) -> Result<Option<Vec<String>>, Failure> {
    let (mut names, mut next) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/namespaces{}", query(&[("limit", PAGE), ("continue", &next)]));
        let answer = send(&caller.client, Method::GET, &path, None).await?.done(&Asked::plain("namespaces"));
        let answer = match answer {
            Err(failure) if failure.code == Code::Forbidden => return Ok(None),
            answer => answer?.body,
        };
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        names.extend(items.iter().map(|item: &Value| text(item, "/metadata/name").to_owned()));
        next = text(&answer, "/metadata/continue").to_owned();
        if next.is_empty() {
            return Ok(Some(names));
        }
    }
}
