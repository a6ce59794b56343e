//! Lowers HTTPRoute rules to matches and timeouts; `backend.rs` and `filters.rs` lower the rest of them.

use gateway_api::apis::standard::httproutes as hr;
use idm_plan::{
    Backend, Cors, HeaderEdit, HeaderMatch, Mirror, PathMatch, QueryMatch, Redirect, Rewrite, Timeouts, canonical_path,
};

use super::Notes;
use super::backend::lower_backends;
use super::call::lower_calls;
use super::filters::{Filters, lower_filters};
use crate::routes::Rule;
use crate::{Cause, RouteKind, World};

/// A rule with its references resolved.
#[derive(Clone)]
pub(crate) struct LoweredRule {
    pub(crate) backends: Vec<Backend>,
    /// The share of backends that do not exist or may not be used: its requests are refused.
    pub(crate) unresolved_weight: u64,
    pub(crate) timeouts: Timeouts,
    pub(crate) headers: Vec<HeaderEdit>,
    /// The requests are answered with it instead of forwarded.
    pub(crate) redirect: Option<Redirect>,
    pub(crate) rewrite: Option<Rewrite>,
    /// Edits of the backend's answer.
    pub(crate) answer: Vec<HeaderEdit>,
    /// The pages of other origins whose scripts may call.
    pub(crate) cors: Option<Cors>,
    /// The backends that get copies of the requests.
    pub(crate) mirrors: Vec<Mirror>,
}

impl LoweredRule {
    /// A rule that forwards to backends, and changes nothing.
    pub(crate) fn to(backends: Vec<Backend>) -> Self {
        Self {
            backends,
            unresolved_weight: 0,
            timeouts: Timeouts::DEFAULT,
            headers: vec![],
            redirect: None,
            rewrite: None,
            answer: vec![],
            cors: None,
            mirrors: vec![],
        }
    }
}

pub(crate) struct LoweredMatch {
    pub(crate) path: PathMatch,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) query: Vec<QueryMatch>,
    /// It is a call of gRPC.
    pub(crate) grpc: bool,
}

impl LoweredMatch {
    /// A match that asks for a path only.
    pub(crate) fn of_path(path: PathMatch) -> Self {
        Self { path, method: None, headers: vec![], query: vec![], grpc: false }
    }
}

/// The matches are lowered even if the rest fails, so that a broken rule still refuses the requests that it matches.
pub(crate) fn lower_rule(
    world: &World,
    path: &str,
    rule: Rule<'_>,
    notes: &mut Notes<'_>,
) -> (Vec<LoweredMatch>, Option<LoweredRule>) {
    let Rule { kind, rule, calls } = rule;
    let hr::HttpRouteRules { backend_refs, filters, matches, name: _, timeouts } = rule;
    let before = std::mem::take(&mut notes.failed);
    let lowered = match kind {
        RouteKind::Http => lower_matches(path, matches.as_deref().unwrap_or_default(), notes),
        RouteKind::Grpc => lower_calls(path, calls, notes),
    };
    let backends = lower_backends(world, path, backend_refs.as_deref().unwrap_or_default(), kind, notes);
    let Filters { headers, redirect, rewrite, answer, cors, mirrors } =
        lower_filters(world, path, filters.as_deref().unwrap_or_default(), &lowered, kind, notes);
    if redirect.is_some() && backend_refs.as_ref().is_some_and(|refs| !refs.is_empty()) {
        let why = "a rule that redirects forwards nothing: it must not have backendRefs";
        notes.fail::<()>(format!("{path}.backendRefs"), Cause::Invalid, why);
    }
    let changes = !headers.is_empty() || !answer.is_empty() || rewrite.is_some() || !mirrors.is_empty();
    if redirect.is_some() && changes {
        let why =
            "a rule that redirects forwards nothing: there is no request or answer that could be changed or copied";
        notes.fail::<()>(format!("{path}.filters"), Cause::Invalid, why);
    }
    let timeouts = lower_timeouts(path, timeouts.as_ref(), notes);
    let failed = std::mem::replace(&mut notes.failed, before);
    notes.failed |= failed;
    let (backends, unresolved_weight) = backends;
    let rule = LoweredRule { backends, unresolved_weight, timeouts, headers, redirect, rewrite, answer, cors, mirrors };
    (lowered, (!failed).then_some(rule))
}

fn lower_matches(path: &str, matches: &[hr::HttpRouteRulesMatches], notes: &mut Notes<'_>) -> Vec<LoweredMatch> {
    if matches.is_empty() {
        return vec![LoweredMatch::of_path(PathMatch::Prefix(String::new()))];
    }
    let lowered = matches.iter().enumerate().map(|(i, m)| {
        let path = format!("{path}.matches[{i}]");
        let hr::HttpRouteRulesMatches { headers, method, path: path_match, query_params } = m;
        LoweredMatch {
            path: lower_path(&path, path_match.as_ref(), notes),
            method: method.as_ref().map(|m| format!("{m:?}").to_ascii_uppercase()),
            headers: lower_header_matches(&path, headers.as_deref().unwrap_or_default(), notes),
            query: lower_query_matches(&path, query_params.as_deref().unwrap_or_default(), notes),
            grpc: false,
        }
    });
    lowered.collect()
}

fn lower_path(path: &str, given: Option<&hr::HttpRouteRulesMatchesPath>, notes: &mut Notes<'_>) -> PathMatch {
    use hr::HttpRouteRulesMatchesPathType::*;
    let everything = PathMatch::Prefix(String::new());
    let Some(hr::HttpRouteRulesMatchesPath { r#type, value }) = given else { return everything };
    let value = value.as_deref().unwrap_or("/");
    let canonical = match canonical_path(value) {
        Ok(canonical) => canonical.into_owned(),
        Err(error) => {
            // The whole host is refused if the path cannot be determined.
            notes.fail::<()>(format!("{path}.path.value"), Cause::Invalid, format!("'{value}': {error}"));
            return everything;
        }
    };
    match r#type.as_ref().unwrap_or(&PathPrefix) {
        Exact => PathMatch::Exact(canonical),
        PathPrefix => PathMatch::Prefix(canonical.trim_end_matches('/').to_owned()),
        RegularExpression => {
            notes.fail::<()>(
                format!("{path}.path.type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact or PathPrefix",
            );
            everything
        }
    }
}

fn lower_header_matches(
    path: &str,
    headers: &[hr::HttpRouteRulesMatchesHeaders],
    notes: &mut Notes<'_>,
) -> Vec<HeaderMatch> {
    let headers = headers.iter().map(|hr::HttpRouteRulesMatchesHeaders { name, r#type, value }| {
        let is_pattern = matches!(r#type, Some(hr::HttpRouteRulesMatchesHeadersType::RegularExpression));
        (name.as_str(), is_pattern, value.as_str())
    });
    header_matches(path, headers, notes)
}

/// The matches of headers, each with its name, whether it is a pattern, and its value.
pub(super) fn header_matches<'m>(
    path: &str,
    headers: impl Iterator<Item = (&'m str, bool, &'m str)>,
    notes: &mut Notes<'_>,
) -> Vec<HeaderMatch> {
    let mut lowered: Vec<HeaderMatch> = Vec::new();
    for (i, (name, is_pattern, value)) in headers.enumerate() {
        if is_pattern {
            notes.fail::<()>(
                format!("{path}.headers[{i}].type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact",
            );
        }
        let name = name.to_ascii_lowercase();
        // Gateway API: of several entries with one name only the first is used.
        if !lowered.iter().any(|h| h.name == name) {
            lowered.push(HeaderMatch { name, value: value.to_owned() });
        }
    }
    lowered
}

fn lower_query_matches(
    path: &str,
    parameters: &[hr::HttpRouteRulesMatchesQueryParams],
    notes: &mut Notes<'_>,
) -> Vec<QueryMatch> {
    let mut lowered: Vec<QueryMatch> = Vec::new();
    for (i, hr::HttpRouteRulesMatchesQueryParams { name, r#type, value }) in parameters.iter().enumerate() {
        let path = format!("{path}.queryParams[{i}]");
        if matches!(r#type, Some(hr::HttpRouteRulesMatchesQueryParamsType::RegularExpression)) {
            notes.fail::<()>(
                format!("{path}.type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact",
            );
        }
        if name.is_empty() || value.is_empty() {
            notes.fail::<()>(path, Cause::Invalid, "name and value must not be empty");
        }
        // Gateway API: of several entries with one name only the first is used. Names are not alike in another case.
        if !lowered.iter().any(|q| q.name == *name) {
            lowered.push(QueryMatch { name: name.clone(), value: value.clone() });
        }
    }
    lowered
}

fn lower_timeouts(path: &str, timeouts: Option<&hr::HttpRouteRulesTimeouts>, notes: &mut Notes<'_>) -> Timeouts {
    let Some(hr::HttpRouteRulesTimeouts { backend_request, request }) = timeouts else { return Timeouts::DEFAULT };
    let mut given = Vec::new();
    for (field, text) in [("request", request), ("backendRequest", backend_request)] {
        let Some(text) = text else { continue };
        match duration_ms(text) {
            Some(ms) => given.push(ms),
            None => {
                notes.fail::<()>(
                    format!("{path}.timeouts.{field}"),
                    Cause::Invalid,
                    format!("'{text}' must be a duration such as 500ms, 10s or 1m30s"),
                );
            }
        }
    }
    match given.iter().copied().filter(|ms| *ms > 0).min() {
        Some(ms) => Timeouts { response_head_ms: ms },
        None if given.is_empty() => Timeouts::DEFAULT,
        // "0s" disables the limit (GEP-1742).
        None => Timeouts { response_head_ms: 0 },
    }
}

/// A Gateway API duration (GEP-2257): up to four numbers with `h`, `m`, `s` or `ms`.
fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| (1..=5).contains(n))?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (factor, after) = if let Some(after) = after.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = after.strip_prefix('s') {
            (1000, after)
        } else if let Some(after) = after.strip_prefix('m') {
            (60_000, after)
        } else {
            (3_600_000, after.strip_prefix('h')?)
        };
        total += number * factor;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn durations_are_read_as_the_gateway_api_writes_them() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("10", None),
            ("-1s", None),
            ("1.5s", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
