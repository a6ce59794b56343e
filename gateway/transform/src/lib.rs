//! Changes the content of messages as a policy defines: opens and makes JOSE objects, and meters calls to language
//! models.
//!
//! In: an armed policy's steps, the facts of a request, headers and body. Out: changed headers and body and the results
//! of the steps, or a [`Refusal`] with its reason. Never does IO: bodies arrive complete, keys of issuers through
//! [`idm_trust::IssuerKeys`]. Keys are derived from passwords on threads beside the serving cores. The payload that is
//! passed on is the one that the signature covered. Start at [`Steps`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod consume;
mod content;
mod hidden_usage;
mod keys;
mod llm;
mod meter;
mod models;
mod price;
mod produce;
mod prompt;
mod quotas;
mod realtime;
mod reserve;
mod usage_option;
mod websocket;

pub use content::Content;
pub use hidden_usage::HiddenUsage;
pub use llm::{ArmedLlm, Body, LlmCall};
pub use meter::{Call, Meter, Usage};
pub use models::NamedModels;
pub use price::{Cost, Price};
pub use quotas::Quotas;
pub use realtime::{RealtimeMeter, Uncounted};
pub use reserve::Reservation;

use idm_plan::{Destination, JoseStep, JoseStepKind, Message, Place};
use idm_request::Facts;
use std::sync::Arc;

use idm_limit::WorkerPool;
use idm_trust::Trust;
use idm_types::{Reason, Refusal};
use serde_json::{Map, Value};

use consume::ArmedConsume;
use produce::ArmedProduce;

/// Starts, or finds, the threads for slow decryption; `None` where the system gives none.
pub type Workers<'a> = &'a dyn Fn() -> Option<Arc<WorkerPool>>;

/// The reason why a step refused a message.
fn refusal(step: &str, reason: Reason, detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(reason, format!("{step}: {detail}"))
}

/// The JOSE steps of one policy, with their keys.
#[derive(Default)]
pub struct Steps {
    consume: Vec<(String, ArmedConsume)>,
    produce: Vec<(String, Message, ArmedProduce)>,
    request_body: bool,
    headers: Vec<String>,
}

impl Steps {
    /// Arms the steps of a policy. The error names the step, and no secret.
    pub fn arm(steps: &[JoseStep], trust: &mut Trust<'_>, workers: Workers<'_>) -> Result<Self, String> {
        let mut armed = Self::default();
        for JoseStep { name, kind } in steps {
            let of_step = |problem: String| format!("jose step `{name}`: {problem}");
            let (body, to, is_request) = match kind {
                JoseStepKind::Consume(step) => {
                    armed.consume.push((name.to_string(), ArmedConsume::arm(step, trust, workers).map_err(of_step)?));
                    (
                        step.from == Place::Body
                            || step.verify.as_ref().is_some_and(|verify| verify.detached.is_some()),
                        &step.to,
                        true,
                    )
                }
                JoseStepKind::Produce(step) => {
                    armed.produce.push((
                        name.to_string(),
                        step.message,
                        ArmedProduce::arm(step, trust.secrets).map_err(of_step)?,
                    ));
                    let is_request = step.message == Message::Request;
                    (is_request && step.from == Some(Place::Body), &step.to, is_request)
                }
            };
            armed.request_body |= body || matches!(to, Destination::Body { .. });
            if let (Destination::Header(name), true) = (to, is_request) {
                armed.headers.push(name.clone());
            }
        }
        Ok(armed)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.consume.is_empty() && self.produce.is_empty()
    }

    /// Whether a step needs the complete body of the request.
    pub fn wants_request_body(&self) -> bool {
        self.request_body
    }

    /// Whether a step needs the complete body of the response.
    pub fn wants_response(&self) -> bool {
        self.produce.iter().any(|(_, message, _)| *message == Message::Response)
    }

    /// Headers of the request that these steps write, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(String::as_str)
    }

    /// Whether a step opens objects.
    pub fn opens(&self) -> bool {
        !self.consume.is_empty()
    }

    /// Opens the objects of the request. Returns the results for the variable `jose`.
    pub async fn open(&self, content: &mut Content<'_>, facts: &Facts<'_>) -> Result<Value, Refusal> {
        let mut found = Map::new();
        for (name, step) in &self.consume {
            let so_far = Value::Object(found.clone());
            let one = step.run(name, content, &Facts { jose: Some(&so_far), ..*facts }).await?;
            found.insert(name.clone(), one);
        }
        Ok(Value::Object(found))
    }

    /// Makes the objects for a message.
    pub fn make(&self, message: Message, content: &mut Content<'_>, facts: &Facts<'_>) -> Result<(), Refusal> {
        for (name, _, step) in self.produce.iter().filter(|(_, of, _)| *of == message) {
            step.run(name, content, facts)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
