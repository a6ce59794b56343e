//! How a policy treats the backends that its requests go to.

use serde::{Deserialize, Serialize};

/// The treatment of backends; without its parts they get everything, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Care {
    /// The most requests of a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Addresses that fail are left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// Requests that are safe to send again are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// The most requests of one backend, of one gateway pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Under way at once; above 0.
    pub requests: u32,
    /// Waiting for a place.
    pub waiting: u32,
}

/// The failures after which an address of a backend is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row; above 0.
    pub failures: u32,
    /// The first pause. Each further one is twice as long.
    pub first_ms: u64,
    /// The longest pause.
    pub longest_ms: u64,
    /// The most addresses of a backend that are left alone at once, in percent; 1 to 100.
    pub percent: u8,
}

/// The requests that are sent again, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Further attempts; above 0.
    pub attempts: u32,
    /// The time of one attempt until the head of its answer; above 0.
    pub per_try_ms: u64,
    /// The statuses of answers after which there is another attempt.
    pub statuses: Vec<u16>,
    /// The most further attempts, in percent of all requests that could have some; 1 to 100.
    pub budget_percent: u8,
}
