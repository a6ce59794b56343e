//! Limits that are ready to be asked, and those that count for a caller.

use std::net::IpAddr;
use std::sync::Arc;

use idm_limit::{Counter, Need, Span, Zone};
use idm_plan::{Calendar, Limit, LimitKey, LimitKind};
use idm_store::{Key, OnLoss, Unit};
use idm_types::{CalendarSpan, Currency, network};

/// A limit with its counter.
pub struct ArmedLimit {
    /// The name that callers and records see: with the tier in front of it where it is one's, and with `credential/` in
    /// front where it is a Credential's own.
    pub name: Arc<str>,
    /// The quantity that is limited.
    pub kind: ArmedLimitKind,
    /// Its item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers). Those of sizes, which count nothing, are
    /// not written.
    pub policy_item: Box<str>,
    /// The behaviour while the shared store is away.
    pub on_loss: OnLoss,
    key: LimitKey,
    /// The object that has it, and its kind of counting: another kind has another counter.
    owner: [String; 3],
}

/// The quantity that is limited.
pub enum ArmedLimitKind {
    /// A number of requests, in time or at once.
    Requests(Counter),
    /// A language model's tokens.
    Tokens {
        /// The counter.
        counter: Counter,
        /// The completion tokens of a call that does not say how many it takes at most.
        default_output: u64,
    },
    /// An amount of money for language models, in millionths.
    Cost {
        /// The counter.
        counter: Counter,
        /// The currency.
        currency: Currency,
        /// The completion tokens of a call that does not say how many it takes at most.
        default_output: u64,
    },
    /// The bytes of a request's body.
    RequestSize(u64),
    /// The bytes of an answer's body.
    ResponseSize(u64),
}

/// The most that a call to a language model may use: of tokens or millionths, by the completion tokens of a call that
/// does not say how many it takes.
pub type Reserves<'r> = &'r dyn Fn(Unit, u64) -> u64;

impl ArmedLimitKind {
    /// The unit in which calls to language models reserve; `None` where they reserve nothing.
    pub fn unit(&self) -> Option<Unit> {
        match self {
            ArmedLimitKind::Tokens { .. } => Some(Unit::Tokens),
            ArmedLimitKind::Cost { .. } => Some(Unit::Micros),
            ArmedLimitKind::Requests(_) | ArmedLimitKind::RequestSize(_) | ArmedLimitKind::ResponseSize(_) => None,
        }
    }
}

impl ArmedLimit {
    /// Arms the limits of an object. `of` is the object, unique among all; `prefix` is put in front of their names. The
    /// error names a time zone that this version does not know.
    pub fn arm(limits: &[Limit], of: &str, prefix: &str) -> Result<Vec<Self>, String> {
        limits.iter().map(|limit| Self::arm_one(limit, of, prefix)).collect()
    }

    fn arm_one(limit: &Limit, of: &str, prefix: &str) -> Result<Self, String> {
        let Limit { name, key, kind, local_on_loss } = limit;
        let (counts, kind) = match kind {
            LimitKind::Rate { requests, per_seconds, burst } => {
                let per_us = per_seconds.saturating_mul(1_000_000);
                let counter = Counter::Rate { requests: *requests, per_us, burst: *burst };
                ("rate".to_owned(), ArmedLimitKind::Requests(counter))
            }
            LimitKind::Quota { requests, calendar } => {
                let counter = Counter::Quota { limit: *requests, span: span(calendar)? };
                (format!("quota {:?} {}", calendar.per, calendar.zone), ArmedLimitKind::Requests(counter))
            }
            LimitKind::Concurrency { requests } => {
                ("slots".to_owned(), ArmedLimitKind::Requests(Counter::Slots { limit: *requests }))
            }
            LimitKind::Tokens { tokens, calendar, default_output } => {
                let counter = Counter::Quota { limit: *tokens, span: span(calendar)? };
                let kind = ArmedLimitKind::Tokens { counter, default_output: *default_output };
                (format!("tokens {:?} {}", calendar.per, calendar.zone), kind)
            }
            LimitKind::Cost { amount, currency, calendar, default_output } => {
                let counter = Counter::Quota { limit: amount.0, span: span(calendar)? };
                let kind = ArmedLimitKind::Cost { counter, currency: *currency, default_output: *default_output };
                (format!("cost {currency} {:?} {}", calendar.per, calendar.zone), kind)
            }
            LimitKind::RequestSize { max_bytes } => (String::new(), ArmedLimitKind::RequestSize(*max_bytes)),
            LimitKind::ResponseSize { max_bytes } => (String::new(), ArmedLimitKind::ResponseSize(*max_bytes)),
        };
        let on_loss = if *local_on_loss { OnLoss::Local } else { OnLoss::Deny };
        let owner = [of.to_owned(), name.clone(), counts];
        let name: Arc<str> = format!("{prefix}{name}").into();
        // Names are letters, digits, dashes and a slash: they need no escapes in a string.
        let policy_item = format!("\"{name}\"{}", parameters(&kind)).into();
        Ok(Self { name, kind, policy_item, on_loss, key: *key, owner })
    }

    /// The need of a request for it, of which `reserves` says what a call to a language model reserves. `None`: it
    /// counts nothing.
    pub fn need(&self, caller: &str, address: IpAddr, reserves: Option<Reserves<'_>>) -> Option<Need> {
        let (counter, number) = match &self.kind {
            ArmedLimitKind::Requests(counter) => (counter, 1),
            ArmedLimitKind::Tokens { counter, default_output } => (counter, reserves?(Unit::Tokens, *default_output)),
            ArmedLimitKind::Cost { counter, currency: _, default_output } => {
                (counter, reserves?(Unit::Micros, *default_output))
            }
            ArmedLimitKind::RequestSize(_) | ArmedLimitKind::ResponseSize(_) => return None,
        };
        let [of, name, counts] = &self.owner;
        let name = match self.key {
            LimitKey::Caller => Key::of(&["limit", of, name, counts, "caller", caller]),
            LimitKey::Address => Key::of(&["limit", of, name, counts, "address", &network(address).to_string()]),
            LimitKey::AllCallers => Key::of(&["limit", of, name, counts]),
        };
        Some(Need { name: name.bytes(), counter: counter.clone(), number })
    }
}

fn span(calendar: &Calendar) -> Result<Span, String> {
    let Calendar { per, zone } = calendar;
    let known = Zone::named(zone).ok_or_else(|| format!("the time zone `{zone}` is not known"))?;
    Ok(Span::new(*per, known))
}

/// The parameters of a limit: its number, its unit where that is not requests, and the seconds of its span. A month has
/// no number of seconds.
fn parameters(kind: &ArmedLimitKind) -> String {
    let (counter, unit) = match kind {
        ArmedLimitKind::Requests(counter @ Counter::Slots { .. }) => {
            (counter, ";qu=\"concurrent-requests\"".to_owned())
        }
        ArmedLimitKind::Requests(counter) => (counter, String::new()),
        ArmedLimitKind::Tokens { counter, .. } => (counter, ";qu=\"tokens\"".to_owned()),
        ArmedLimitKind::Cost { counter, currency, .. } => (counter, format!(";qu=\"micro-{currency}\"")),
        ArmedLimitKind::RequestSize(_) | ArmedLimitKind::ResponseSize(_) => return String::new(),
    };
    match counter {
        Counter::Rate { requests, per_us, .. } => format!(";q={requests};w={}", per_us / 1_000_000),
        Counter::Slots { limit } => format!(";q={limit}{unit}"),
        Counter::Quota { limit, span } => match seconds(span.per()) {
            Some(seconds) => format!(";q={limit}{unit};w={seconds}"),
            None => format!(";q={limit}{unit}"),
        },
    }
}

const fn seconds(per: CalendarSpan) -> Option<u32> {
    match per {
        CalendarSpan::Second => Some(1),
        CalendarSpan::Minute => Some(60),
        CalendarSpan::Hour => Some(3600),
        CalendarSpan::Day => Some(86_400),
        CalendarSpan::Week => Some(604_800),
        CalendarSpan::Month => None,
    }
}
