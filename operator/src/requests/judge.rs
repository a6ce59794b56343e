//! The state of a request, from the object and the time: pure.
//!
//! The names in a request are believed where the guard of permissions was in force for each of its writes. So a request
//! counts that is younger than the guard, and whose every generation was seen while the guard refused the canary; any
//! other must be made again.

use idm_api::v1alpha1::{CredentialRequest, CredentialRequestStatus, RequestDecision};
use idm_compile::{check_request, request_hash};
use idm_types::{Timestamp, Visible};
use serde_json::Value;

use crate::permissions::Trust;

const DAY_MS: u64 = 24 * 3_600_000;
/// A request without an answer ends after this time.
const ANSWER_MS: u64 = 14 * DAY_MS;
/// A key that was not received is removed after this time.
pub(super) const KEY_MS: u64 = 7 * DAY_MS;
/// The API server may let a write pass by a guard that is younger than this.
const SETTLING_MS: u64 = 5_000;

/// A request, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// What an answer must name; `None` where it cannot be answered.
    pub(super) hash: Option<String>,
    /// From this time on it cannot be answered.
    pub(super) answer_until: Timestamp,
    pub(super) state: State,
}

/// The state of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It counts for nothing: the reason and the message.
    Void(&'static str, String),
    /// It waits for an answer.
    Pending,
    /// Nobody answered in time.
    Expired,
    Rejected {
        by: String,
        reason: String,
    },
    /// The answer is to another request.
    Stale {
        by: String,
    },
    /// The Credential is to be made.
    Approved {
        by: String,
    },
    /// The Credential was not made: the reason and the message.
    Blocked {
        by: String,
        reason: &'static str,
        message: String,
    },
    /// It was made.
    Issued(Delivery),
}

/// What became of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Its ciphertext waits for the requester until this time.
    Waiting(Timestamp),
    /// The requester has it.
    Received,
    /// The ciphertext was removed, and nobody said that the key was received.
    Lapsed,
}

impl State {
    /// The reason of the condition `Ready`.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            State::Void(reason, _) | State::Blocked { reason, .. } => reason,
            State::Pending => "Pending",
            State::Expired => "Expired",
            State::Rejected { .. } => "Rejected",
            State::Stale { .. } => "StaleAnswer",
            State::Approved { .. } => "Issuing",
            State::Issued(Delivery::Waiting(_)) => "Issued",
            State::Issued(Delivery::Received) => "Received",
            State::Issued(Delivery::Lapsed) => "NotReceived",
        }
    }

    fn is_of_use(&self) -> bool {
        matches!(self, State::Issued(_))
    }
}

/// Judges a request. `None`: nothing new can be said of it now.
pub(super) fn judge(object: &Value, trust: &Trust, now: Timestamp) -> Option<Judged> {
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(Timestamp::parse_rfc3339);
    let created = created.unwrap_or(Timestamp(0));
    let answer_until = Timestamp(created.0.saturating_add(ANSWER_MS));
    let judged = |state, hash| Some(Judged { hash, answer_until, state });
    let void = |reason, message: String| judged(State::Void(reason, message), None);
    let request: CredentialRequest = match serde_json::from_value(object.clone()) {
        Ok(request) => request,
        Err(error) => return void("Invalid", error.to_string()),
    };
    let status = request.status.clone().unwrap_or_default();
    let hash = request_hash(object);
    if status.credential.is_some() {
        let received = request.spec.received.unwrap_or(false);
        return judged(State::Issued(delivery(&status, received, now)), status.hash);
    }
    if is_told(&status, "Accepted", "GuardNotInForce") || is_told(&status, "Approved", "Expired") {
        return None;
    }
    let is_seen = status.observed_generation.is_some_and(|seen| Some(seen) == request.metadata.generation);
    match trust {
        Trust::Since(since) if created.0 < since.0.saturating_add(SETTLING_MS) => {
            return void(
                "GuardNotInForce",
                "it was made before the guard of permissions was in force, so nothing vouches for its names: make it \
                 again"
                    .into(),
            );
        }
        Trust::Since(_) => {}
        Trust::Weak(why) if !is_seen => {
            let message =
                format!("it was written while the guard of permissions was not in force ({why}): make it again");
            return void("GuardNotInForce", message);
        }
        Trust::Weak(_) | Trust::Unknown => return None,
    }
    let name = request.metadata.name.as_deref().unwrap_or_default();
    if let Err(fault) = check_request(name, &request.spec, Some(now)) {
        return void("Invalid", format!("{}: {}", fault.path, fault.message));
    }
    let Some(answer) = &request.spec.approval else {
        return if now < answer_until { judged(State::Pending, Some(hash)) } else { judged(State::Expired, None) };
    };
    let by = answer.by.username.clone();
    let state = if answer.hash != hash || by == request.spec.requester.username {
        State::Stale { by }
    } else if answer.decision == RequestDecision::Rejected {
        State::Rejected { by, reason: answer.reason.clone().unwrap_or_default() }
    } else {
        State::Approved { by }
    };
    judged(state, Some(hash))
}

fn is_told(status: &CredentialRequestStatus, kind: &str, reason: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind && condition.reason == reason)
}

fn delivery(status: &CredentialRequestStatus, received: bool, now: Timestamp) -> Delivery {
    let until = status.key_until_time.as_deref().and_then(Timestamp::parse_rfc3339).unwrap_or(now);
    match &status.encrypted_key {
        _ if received => Delivery::Received,
        Some(_) if now < until => Delivery::Waiting(until),
        _ => Delivery::Lapsed,
    }
}

type Condition = (&'static str, &'static str, &'static str, String);

impl Judged {
    /// The conditions, as status has them.
    pub(super) fn conditions(&self, namespace: &str, name: &str) -> Vec<Condition> {
        let ready = if self.state.is_of_use() { "True" } else { "False" };
        let message = self.message(namespace, name);
        let accepted: Condition = match &self.state {
            State::Void(reason, message) => ("Accepted", "False", reason, message.clone()),
            _ => ("Accepted", "True", "Accepted", "it can be answered and fulfilled".into()),
        };
        let approved = |status, reason, by: String| ("Approved", status, reason, by);
        let approved = match &self.state {
            State::Void(..) | State::Pending => approved("Unknown", "Pending", "nobody answered".into()),
            State::Expired => approved("False", "Expired", message.clone()),
            State::Rejected { .. } => approved("False", "Rejected", message.clone()),
            State::Stale { .. } => approved("False", "StaleAnswer", message.clone()),
            State::Approved { by } | State::Blocked { by, .. } => approved("True", "Approved", format!("by {by}")),
            State::Issued(_) => approved("True", "Approved", "by the one whom `spec.approval` names".into()),
        };
        let issued = match &self.state {
            State::Issued(_) => ("Issued", "True", "Issued", "the Credential was made".into()),
            State::Blocked { reason, message, .. } => ("Issued", "False", *reason, message.clone()),
            _ => ("Issued", "False", self.state.name(), "no Credential was made".into()),
        };
        vec![accepted, approved, issued, ("Ready", ready, self.state.name(), message)]
    }

    fn message(&self, namespace: &str, name: &str) -> String {
        match &self.state {
            State::Void(_, message) | State::Blocked { message, .. } => message.clone(),
            State::Pending => format!(
                "it waits for an answer until {}: idm credential approve {name} -n {namespace}",
                self.answer_until.rfc3339()
            ),
            State::Expired => format!("nobody answered it until {}: make it again", self.answer_until.rfc3339()),
            State::Rejected { by, reason } => format!("{} rejected it: {}", Visible(by), Visible(reason)),
            State::Stale { by } => {
                format!("the answer of {} is to another request than this one: make it again", Visible(by))
            }
            State::Approved { by } => format!("{} approved it, and its key is being made", Visible(by)),
            State::Issued(Delivery::Waiting(until)) => format!(
                "the key waits for the requester until {}: idm credential receive {name} -n {namespace}",
                until.rfc3339()
            ),
            State::Issued(Delivery::Received) => "the requester has the key".into(),
            State::Issued(Delivery::Lapsed) => {
                "the key was not received in time, and its ciphertext is removed: delete \
                                                the request and make it again, unless somebody has the key"
                    .into()
            }
        }
    }
}
