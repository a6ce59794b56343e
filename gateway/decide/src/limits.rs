//! The limits that count for a request: asked after the rules, all at once, and a refused request costs nothing.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use idm_authn::{ArmedLimit, ArmedLimitKind, Reserves};
use idm_limit::{Counter, Need, Standing};
use idm_request::Identity;
use idm_store::{OnLoss, Taken, Taking, Unit, Used};
use idm_transform::Price;
use idm_types::{Micros, Reason, Refusal, Stage, Timestamp};

use crate::engine::{ArmedRule, PolicyInForce};
use crate::model_call::Reserved;
use crate::{Context, Payload, Trace};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits of one request, with the name under which it counts at each.
pub(crate) struct RequestLimits<'a> {
    limits: Vec<(&'a ArmedLimit, &'a str)>,
}

/// A size that a body must not exceed, and the limit that says so.
#[derive(Clone, Debug)]
pub struct SizeLimit {
    /// The largest number of bytes.
    pub max_bytes: u64,
    /// The limit.
    pub name: Box<str>,
}

impl SizeLimit {
    /// The refusal of a body that is larger.
    pub fn refusal(&self, reason: Reason) -> Refusal {
        Refusal::new(reason, format!("more than {} bytes", self.max_bytes))
    }
}

/// The share of a request: counters come back with it.
#[derive(Default)]
pub struct Limited {
    /// The counts that were taken, until the answer has ended.
    pub taken: Option<Taken>,
    /// For a body whose length is not known.
    pub request_size: Option<SizeLimit>,
    /// For the answer's body.
    pub response_size: Option<SizeLimit>,
    /// The names of the limits from which counts were taken, where a language model's use is reserved.
    names: Vec<Arc<str>>,
}

/// The outcome of a reservation for a further answer on the same connection.
pub enum Renewal {
    /// There was enough.
    Reserved,
    /// There was not.
    Refused {
        /// The limit; `None`: the store is away.
        limit: Option<Box<str>>,
        /// The refusal.
        refusal: Refusal,
    },
}

impl Limited {
    /// Counts the use of an answer, and reserves the share of the next one.
    pub async fn renew(&mut self, used: Used, now: Timestamp) -> Renewal {
        let Some(taken) = &mut self.taken else { return Renewal::Reserved };
        let (position, unit) = match taken.renew(used, now).await {
            Ok(None) => return Renewal::Reserved,
            Ok(Some(refusing)) => refusing,
            Err(error) => {
                let refusal = Refusal::new(Reason::StoreUnavailable, error.to_string());
                return Renewal::Refused { limit: None, refusal };
            }
        };
        let reason = match unit {
            Unit::Tokens => Reason::TokenQuotaExceeded,
            Unit::Micros => Reason::CostBudgetExceeded,
        };
        let name = self.names.get(position).map(|name| &**name).unwrap_or_default();
        Renewal::Refused { limit: Some(name.into()), refusal: Refusal::new(reason, format!("limit {name}")) }
    }

    /// Counts the use of an answer after which no further one comes.
    pub fn settle(&mut self, used: Used) {
        if let Some(taken) = self.taken.take() {
            taken.settle(used);
        }
    }
}

impl<'a> RequestLimits<'a> {
    /// The limits of the policy, of the baselines of its Gateway, of the caller's Credentials and of its tiers.
    pub(crate) fn of(
        context: Context<'a>,
        rule: &'a ArmedRule,
        policy: &'a PolicyInForce,
        identity: &'a Identity,
    ) -> Self {
        let of_baselines = context.engine.baselines(rule).flat_map(|(_, limits)| limits);
        let of_baselines = of_baselines.map(|limit| (limit, identity.id.as_str()));
        let of_policy = policy.limits.iter().map(|limit| (limit, identity.id.as_str()));
        let of_caller = context.table(policy).limits_of(identity);
        Self { limits: of_policy.chain(of_baselines).chain(of_caller).collect() }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether calls to language models reserve something.
    pub(crate) fn reserve(&self) -> bool {
        self.limits.iter().any(|(limit, _)| limit.kind.unit().is_some())
    }

    /// A budget in money counts a call by its price, in its currency and no other.
    fn check_currencies(&self, price: Option<Price>, trace: &mut Trace) -> Result<(), Refusal> {
        for (limit, _) in &self.limits {
            let ArmedLimitKind::Cost { currency, .. } = &limit.kind else { continue };
            let why = match price {
                Some(price) if price.currency == *currency => continue,
                Some(price) => {
                    format!("its currency is {currency}, and that of the policy's prices {}", price.currency)
                }
                None => "the policy has no prices".to_owned(),
            };
            trace.limit = Some((&*limit.name).into());
            return Err(Refusal::new(Reason::ModelPriceUnknown, format!("limit {}: {why}", limit.name)));
        }
        Ok(())
    }

    /// The smallest size that a request's body may have, where one is limited.
    pub(crate) fn request_size(&self) -> Option<SizeLimit> {
        self.size(|kind| if let ArmedLimitKind::RequestSize(bytes) = kind { Some(*bytes) } else { None })
    }

    fn response_size(&self) -> Option<SizeLimit> {
        self.size(|kind| if let ArmedLimitKind::ResponseSize(bytes) = kind { Some(*bytes) } else { None })
    }

    fn size(&self, of: impl Fn(&ArmedLimitKind) -> Option<u64>) -> Option<SizeLimit> {
        let sizes = self.limits.iter().filter_map(|(limit, _)| Some((of(&limit.kind)?, &limit.name)));
        sizes.min_by_key(|(bytes, _)| *bytes).map(|(max_bytes, name)| SizeLimit { max_bytes, name: (&**name).into() })
    }

    /// Takes one request, and what it reserves, from all counters, or nothing from any.
    pub(crate) async fn take(
        self,
        context: Context<'_>,
        policy: &PolicyInForce,
        reserved: Option<&Reserved>,
        trace: &mut Trace,
    ) -> Result<Limited, Refusal> {
        if let Some(reserved) = reserved {
            self.check_currencies(reserved.price(), trace)?;
        }
        let reserves = reserved.map(|reserved| |unit: Unit, default: u64| reserved.number(unit, default));
        let reserves = reserves.as_ref().map(|reserves| reserves as Reserves<'_>);
        let (mut counted, mut needs): (Vec<&ArmedLimit>, Vec<Need>) = (Vec::new(), Vec::new());
        for (limit, caller) in &self.limits {
            if let Some(need) = limit.need(caller, context.peer.address, reserves) {
                counted.push(limit);
                needs.push(need);
            }
        }
        let (request_size, response_size) = (self.request_size(), self.response_size());
        if needs.is_empty() {
            return Ok(Limited { request_size, response_size, ..Limited::default() });
        }
        never(&counted, &needs, trace)?;
        let denies = counted.iter().any(|limit| limit.on_loss == OnLoss::Deny);
        let on_loss = if denies { OnLoss::Deny } else { OnLoss::Local };
        let taking = policy.armed.counters().take(needs, on_loss, context.now).await;
        let Taking { taken, standings } =
            taking.map_err(|error| Refusal::new(Reason::StoreUnavailable, error.to_string()))?;
        trace.limits = Some(LimitFields::of(&counted, &standings));
        let Some(mut taken) = taken else { return Err(refusal(&counted, &standings, trace)) };
        for (position, limit) in counted.iter().enumerate() {
            if let Some(unit) = limit.kind.unit() {
                taken.reserve(position, unit);
            }
        }
        let names = if reserved.is_some() { counted.iter().map(|limit| limit.name.clone()).collect() } else { vec![] };
        Ok(Limited { taken: Some(taken), request_size, response_size, names })
    }
}

/// Refuses a body that is known to be larger than a limit allows. Returns the most bytes that are held of another one,
/// `most` without a limit.
pub(crate) fn checked_size<B: Body<Data = Bytes> + Unpin>(
    limits: &RequestLimits<'_>,
    body: &Payload<B>,
    most: usize,
    trace: &mut Trace,
) -> Result<usize, Refusal> {
    let Some(size) = limits.request_size() else { return Ok(most) };
    let least = match body {
        Payload::Streaming(incoming) => incoming.size_hint().lower(),
        Payload::Held(held) => held.bytes().len() as u64,
    };
    if least > size.max_bytes {
        trace.stage = Stage::Limit;
        trace.limit = Some(size.name.clone());
        return Err(size.refusal(Reason::RequestTooLarge));
    }
    Ok(usize::try_from(size.max_bytes).unwrap_or(usize::MAX).min(most))
}

/// The refusal of a body that turned out to be larger than `largest`, the most that was held: by the limit, where it is
/// the limit's.
pub(crate) fn too_large(limits: &RequestLimits<'_>, largest: usize, refusal: Refusal, trace: &mut Trace) -> Refusal {
    let size = limits.request_size().filter(|size| size.max_bytes == largest as u64);
    match size.filter(|_| refusal.reason == Reason::PayloadTooLarge) {
        Some(size) => {
            trace.stage = Stage::Limit;
            trace.limit = Some(size.name.clone());
            size.refusal(Reason::RequestTooLarge)
        }
        None => refusal,
    }
}

/// A call that reserves more than a budget has would never pass, whatever its caller waits for.
fn never(counted: &[&ArmedLimit], needs: &[Need], trace: &mut Trace) -> Result<(), Refusal> {
    let too_many = counted.iter().zip(needs).find(|(_, need)| need.number > need.counter.most());
    let Some((limit, need)) = too_many else { return Ok(()) };
    trace.limit = Some((&*limit.name).into());
    let (needs, most) = (need.number, need.counter.most());
    Err(match &limit.kind {
        ArmedLimitKind::Cost { currency, .. } => {
            let detail = format!("{}: the call may cost {} {currency} of {}", limit.name, Micros(needs), Micros(most));
            Refusal::new(Reason::CostBudgetExceeded, detail)
        }
        _ => Refusal::new(
            Reason::TokenQuotaExceeded,
            format!("{}: the call may use {needs} tokens of {most}", limit.name),
        ),
    })
}

/// The refusal by the limit for which the caller has to wait longest.
fn refusal(counted: &[&ArmedLimit], standings: &[Standing], trace: &mut Trace) -> Refusal {
    let refusing = counted.iter().zip(standings).filter(|(_, standing)| !standing.sufficed);
    let Some((limit, standing)) = refusing.max_by_key(|(_, standing)| standing.wait_us) else {
        return Refusal::new(Reason::RateLimited, "a limit").retry_after(1);
    };
    trace.limit = Some((&*limit.name).into());
    let reason = match &limit.kind {
        ArmedLimitKind::Requests(Counter::Rate { .. }) => Reason::RateLimited,
        ArmedLimitKind::Requests(Counter::Slots { .. }) => Reason::TooManyConcurrentRequests,
        ArmedLimitKind::Tokens { .. } => Reason::TokenQuotaExceeded,
        ArmedLimitKind::Cost { .. } => Reason::CostBudgetExceeded,
        _ => Reason::QuotaExceeded,
    };
    Refusal::new(reason, format!("limit {}", limit.name)).retry_after(standing.wait_us.div_ceil(1_000_000).max(1))
}

/// The fields `RateLimit-Policy` and `RateLimit` of an answer (draft-ietf-httpapi-ratelimit-headers). They name limits
/// and never the caller.
#[derive(Clone, Debug)]
pub(crate) struct LimitFields {
    policy: Option<HeaderValue>,
    limit: Option<HeaderValue>,
}

impl LimitFields {
    fn of(counted: &[&ArmedLimit], standings: &[Standing]) -> Self {
        let (mut policy, mut limit) = (String::new(), String::new());
        for (of, standing) in counted.iter().zip(standings) {
            let separator = if policy.is_empty() { "" } else { ", " };
            let _ = write!(policy, "{separator}{}", of.policy_item);
            let left = standing.remaining;
            let _ = write!(limit, "{separator}\"{}\";r={left}", of.name);
            if !matches!(of.kind, ArmedLimitKind::Requests(Counter::Slots { .. })) {
                let _ = write!(limit, ";t={}", standing.reset_us.max(standing.wait_us).div_ceil(1_000_000));
            }
        }
        Self { policy: HeaderValue::from_str(&policy).ok(), limit: HeaderValue::from_str(&limit).ok() }
    }

    /// Writes them, in place of any that an upstream wrote.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in [(POLICY, &self.policy), (LIMIT, &self.limit)] {
            headers.remove(&name);
            headers.extend(value.clone().map(|value| (name, value)));
        }
    }
}
