use idm_types::CalendarSpan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A limit of one caller: a name and exactly one of `rate`, `quota`, `concurrency`, `requestSize`, `responseSize`,
/// `tokens`, `cost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.rate), has(self.quota), has(self.concurrency), has(self.requestSize), \
        has(self.responseSize), has(self.tokens), has(self.cost)].filter(is, is).size() == 1",
     "message": "limit must have exactly one of `rate`, `quota`, `concurrency`, `requestSize`, `responseSize`, \
         `tokens`, `cost`"},
    {"rule": "!has(self.onStoreLoss) || !(has(self.requestSize) || has(self.responseSize))",
     "message": "`onStoreLoss` must not be set for a size: nothing is counted"}]))]
pub struct Limit {
    /// The name, which callers see in `RateLimit-Policy` and the audit in its records.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A steady rate of requests with a burst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// A number of requests in each span of the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<RequestQuota>,
    /// A number of requests at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyLimit>,
    /// The largest body of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_size: Option<SizeLimit>,
    /// The largest body of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_size: Option<SizeLimit>,
    /// A number of a language model's tokens in each span of the calendar. It counts with policies that have `llm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenBudget>,
    /// An amount of money for a language model in each span of the calendar. It counts with policies that have `llm`,
    /// which need `llm.prices` in its currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostBudget>,
    /// While the store that gateways share does not answer: `Deny` refuses, and `Local` lets each gateway pod count by
    /// itself, so that together they may let as many times the limit pass as there are pods. Unset means `Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_store_loss: Option<OnStoreLoss>,
}

/// A limit of the callers of a policy's targets: the same as a caller's own, and the callers that share one count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.rate), has(self.quota), has(self.concurrency), has(self.requestSize), \
        has(self.responseSize), has(self.tokens), has(self.cost)].filter(is, is).size() == 1",
     "message": "limit must have exactly one of `rate`, `quota`, `concurrency`, `requestSize`, `responseSize`, \
         `tokens`, `cost`"},
    {"rule": "!(has(self.key) || has(self.onStoreLoss)) || !(has(self.requestSize) || has(self.responseSize))",
     "message": "`key` and `onStoreLoss` must not be set for a size: nothing is counted"}]))]
pub struct PolicyLimit {
    /// The name, which callers see in `RateLimit-Policy` and the audit in its records.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The requests that count together: those of one `Caller` (by `identity.id`, with every method and address), of
    /// one `Address` (IPv6 by its /64), or `AllCallers`. Unset means `Caller`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<LimitKey>,
    /// A steady rate of requests with a burst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// A number of requests in each span of the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<RequestQuota>,
    /// A number of requests at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyLimit>,
    /// The largest body of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_size: Option<SizeLimit>,
    /// The largest body of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_size: Option<SizeLimit>,
    /// A number of a language model's tokens in each span of the calendar; only with `llm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenBudget>,
    /// An amount of money for a language model in each span of the calendar; only with
    /// `llm.prices` in its currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostBudget>,
    /// While the store that gateways share does not answer: `Deny` refuses, and `Local` lets each gateway pod count by
    /// itself, so that together they may let as many times the limit pass as there are pods. Unset means `Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_store_loss: Option<OnStoreLoss>,
}

impl PolicyLimit {
    /// The limit without its key.
    pub fn limit(&self) -> Limit {
        let Self { name, key: _, rate, quota, concurrency, request_size, response_size, tokens, cost, on_store_loss } =
            self.clone();
        Limit { name, rate, quota, concurrency, request_size, response_size, tokens, cost, on_store_loss }
    }
}

/// The requests that count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitKey {
    /// Those of one caller.
    Caller,
    /// Those of one client address.
    Address,
    /// All.
    AllCallers,
}

/// The treatment of requests while the shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnStoreLoss {
    /// They are refused with 503.
    Deny,
    /// Each gateway pod counts by itself.
    Local,
}

/// A steady rate with a burst (the generic cell rate algorithm): in each span of time, wherever it begins, at most
/// `burst` requests and `requests` for each `perSeconds` pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// The number of requests in each `perSeconds`.
    #[schemars(range(min = 1, max = 1000000))]
    pub requests: i64,
    /// The length of the span, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub per_seconds: i64,
    /// The number of requests that may come at once. Unset means a tenth of `requests`, and 1 at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub burst: Option<i64>,
}

/// A number of requests in each span of the calendar, counted from 0 when the span begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestQuota {
    /// The number of requests.
    #[schemars(range(min = 1, max = 1000000000000_i64))]
    pub requests: i64,
    /// The span: `Second`, `Minute`, `Hour`, `Day`, `Week` (from Monday) or `Month`.
    pub per: CalendarSpan,
    /// The time zone of the calendar, from the IANA database, for example `Europe/Istanbul`. Unset means `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// A number of requests at the same time. A request counts until its answer has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConcurrencyLimit {
    /// The number.
    #[schemars(range(min = 1, max = 1000000))]
    pub requests: i64,
}

/// The largest size of a body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SizeLimit {
    /// The number of bytes. A body that does not tell its length is cut when it becomes longer.
    #[schemars(range(min = 0, max = 1099511627776_i64))]
    pub max_bytes: i64,
}

/// A number of a language model's tokens in each span of the calendar. A call reserves what it may use before it
/// begins: the tokens of its prompt, and the most that it lets the model answer. What it did not use comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenBudget {
    /// Prompt and completion tokens together.
    #[schemars(range(min = 1, max = 1000000000000_i64))]
    pub tokens: i64,
    /// The span: `Second`, `Minute`, `Hour`, `Day`, `Week` (from Monday) or `Month`.
    pub per: CalendarSpan,
    /// The time zone of the calendar, from the IANA database, for example `Europe/Istanbul`. Unset means `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// The completion tokens that are reserved for a call that does not say how many it takes at most. Unset means
    /// 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub default_output_tokens: Option<i64>,
}

/// An amount of money for a language model in each span of the calendar. A call reserves what it may cost before it
/// begins, by the prices of its policy (`llm.prices`). What it did not cost comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostBudget {
    /// The amount: a decimal number with at most six digits behind the point, for example `'100.00'`.
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9]{1,9}([.][0-9]{1,6})?$"))]
    pub amount: String,
    /// The currency: three capital letters, such as `USD`. A call whose prices are in another one is refused (403
    /// `ModelPriceUnknown`).
    #[schemars(length(min = 3, max = 3), regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The span: `Second`, `Minute`, `Hour`, `Day`, `Week` (from Monday) or `Month`.
    pub per: CalendarSpan,
    /// The time zone of the calendar, from the IANA database, for example `Europe/Istanbul`. Unset means `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// The completion tokens that are reserved for a call that does not say how many it takes at most. Unset means
    /// 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub default_output_tokens: Option<i64>,
}
