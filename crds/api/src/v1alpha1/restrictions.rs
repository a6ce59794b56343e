use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RequestMethod;

/// Where, how and when a caller may use its credential. Every member that is set must allow a request, and every
/// request is checked, whether its credential was verified just now or before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.policies) || has(self.exceptPolicies) || has(self.methods) || has(self.exceptMethods) || \
        has(self.paths) || has(self.exceptPaths) || has(self.addresses) || has(self.exceptAddresses) || \
        has(self.models) || has(self.exceptModels) || has(self.hours)",
     "message": "access must restrict something: set a member or leave `access` out"},
    {"rule": "!has(self.policies) || !has(self.exceptPolicies) || !self.policies.exists(p, p in self.exceptPolicies)",
     "message": "no policy must be in both `policies` and `exceptPolicies`"},
    {"rule": "!has(self.methods) || !has(self.exceptMethods) || !self.methods.exists(m, m in self.exceptMethods)",
     "message": "no method must be in both `methods` and `exceptMethods`"}]))]
pub struct Access {
    /// Names of the IdentityPolicies it may be used with. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub policies: Option<Vec<String>>,
    /// Names of IdentityPolicies it may not be used with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub except_policies: Option<Vec<String>>,
    /// Request methods it may be used for. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Option<Vec<RequestMethod>>,
    /// Request methods it may not be used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub except_methods: Option<Vec<RequestMethod>>,
    /// Paths it may be used for, each with everything beneath it: `/orders` covers `/orders/7` and not `/orders2`.
    /// Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024), regex(pattern = "^/")),
        extend("x-kubernetes-list-type" = "set"))]
    pub paths: Option<Vec<String>>,
    /// Paths it may not be used for, each with everything beneath it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024), regex(pattern = "^/")),
        extend("x-kubernetes-list-type" = "set"))]
    pub except_paths: Option<Vec<String>>,
    /// Client addresses it may be used from, as `192.0.2.0/24` or `2001:db8::1`. Behind trusted proxies the client is
    /// the first address from the right that is none of theirs. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 2, max = 43)), extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Option<Vec<String>>,
    /// Client addresses it may not be used from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 2, max = 43)), extend("x-kubernetes-list-type" = "set"))]
    pub except_addresses: Option<Vec<String>>,
    /// Language models it may be used for, with policies that have `llm`: names, or with a `*` at the end all whose
    /// names begin so, whatever the case of the letters. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        inner(length(min = 1, max = 256), regex(pattern = "^[!-)+-~]*[*]?$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub models: Option<Vec<String>>,
    /// Language models it may not be used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        inner(length(min = 1, max = 256), regex(pattern = "^[!-)+-~]*[*]?$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub except_models: Option<Vec<String>>,
    /// Hours in which it may be used: one of them must contain the time of the request. Unset means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub hours: Option<Vec<Hours>>,
}

/// Hours of days of the week by the clocks of a time zone. Half-open: a request at `from` passes, and one at `to` does
/// not. Where clocks are changed, an hour that is skipped is over with the first instant after it, and an hour that
/// comes twice is the same hour both times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.from != self.to",
     "message": "`from` and `to` must differ; a whole day is from '00:00' to '24:00'"}]))]
pub struct Hours {
    /// The days on which they begin: where `to` is not after `from`, they end on the next day, and all of them belong
    /// to the day on which they began. `22:00` to `06:00` on `Friday` contains Saturday at 01:00. Unset means every
    /// day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Option<Vec<Day>>,
    /// The beginning, as `08:00`.
    #[schemars(length(min = 5, max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// The end, as `18:00` or `24:00`.
    #[schemars(length(min = 5, max = 5), regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
    /// The time zone, from the IANA database, for example `Europe/Istanbul`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names say it
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}
