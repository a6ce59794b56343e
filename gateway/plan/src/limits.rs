//! Limits and restrictions of callers.

use serde::{Deserialize, Serialize};

use idm_types::{CalendarSpan, Currency, Micros, RoleName};

use crate::{ModelList, Network, ObjectKey, Selector};

/// A limit under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The name in the answer's fields, in audit records and in `explain`.
    pub name: String,
    /// The requests that count together.
    pub key: LimitKey,
    /// The quantity that is limited.
    pub kind: LimitKind,
    /// Whether each gateway counts by itself while the shared store is away, instead of refusing.
    pub local_on_loss: bool,
}

/// The requests that count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitKey {
    /// Those of one caller.
    Caller,
    /// Those of one address.
    Address,
    /// All.
    AllCallers,
}

/// The quantity that is limited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LimitKind {
    /// A steady rate with a burst.
    Rate {
        /// The number in each span.
        requests: u64,
        /// The length of the span.
        per_seconds: u64,
        /// The number at once.
        burst: u64,
    },
    /// A number of requests in each span of the calendar.
    Quota {
        /// The number.
        requests: u64,
        /// The calendar.
        calendar: Calendar,
    },
    /// A number of requests at the same time.
    Concurrency {
        /// The number.
        requests: u64,
    },
    /// The bytes of a request's body.
    RequestSize {
        /// The largest number.
        max_bytes: u64,
    },
    /// The bytes of an answer's body.
    ResponseSize {
        /// The largest number.
        max_bytes: u64,
    },
    /// A number of a language model's tokens in each span of the calendar.
    Tokens {
        /// The number.
        tokens: u64,
        /// The calendar.
        calendar: Calendar,
        /// The completion tokens of a call that does not say how many it takes at most.
        default_output: u64,
    },
    /// An amount of money for language models in each span of the calendar.
    Cost {
        /// The amount.
        amount: Micros,
        /// Its currency; a call whose price is in another one is refused.
        currency: Currency,
        /// The calendar.
        calendar: Calendar,
        /// The completion tokens of a call that does not say how many it takes at most.
        default_output: u64,
    },
}

/// The spans of a calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Their length.
    pub per: CalendarSpan,
    /// The time zone, in the spelling of the IANA database.
    pub zone: String,
}

/// Where, how and when a caller may use its credential. Everything must allow a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// The policies; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Not these policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_policies: Vec<String>,
    /// The request methods; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Not these methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_methods: Vec<String>,
    /// The paths, with what is beneath them; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Not these paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_paths: Vec<String>,
    /// The client addresses; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Network>,
    /// Not these addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except_addresses: Vec<Network>,
    /// The language models.
    #[serde(skip_serializing_if = "ModelList::is_open")]
    pub models: ModelList,
    /// One of these hours; empty: always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hours>,
}

impl Access {
    /// Whether it restricts nothing.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// Hours of days of the week, half-open. Where they end before they begin, they end on the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The days on which they begin, Monday first.
    pub days: [bool; 7],
    /// The beginning, in minutes of the day.
    pub from: u16,
    /// The end, in minutes of the day, up to 1440.
    pub to: u16,
    /// The time zone, in the spelling of the IANA database.
    pub zone: String,
}

/// A tier: limits and restrictions of the callers that it selects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsagePlan {
    /// The object.
    pub key: ObjectKey,
    /// The Credentials that it selects; `None`: none by their labels.
    pub credentials: Option<Selector>,
    /// It also selects callers with one of these roles.
    pub roles: Vec<RoleName>,
    /// Plans of its namespace that do not count for its callers.
    pub replaces: Vec<String>,
    /// Its limits.
    pub limits: Vec<Limit>,
    /// Its restrictions.
    pub access: Access,
    /// Why its callers are refused: it is not valid, and never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
