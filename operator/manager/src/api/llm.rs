//! Tokens of language models: who used how many, whom the prompt rules refused, and what is left of quotas. All of it
//! is counted from the records of the audit, in one pass over a span of time.

mod count;

use idm_audit::{RecordFilter, RecordKind};
use idm_plan::Policy;
use idm_types::Timestamp;

use super::audit::{page, permitted};
use crate::call::Call;
use crate::failure::Failure;
use crate::wire::llm::{LlmQuota, LlmView};
use count::Counts;

const DAY_MS: u64 = 24 * 3_600_000;
/// The longest span: what is longer is a question for the store of the records.
const LONGEST_MS: u64 = 92 * DAY_MS;
/// Records that are counted at most; a busier span is counted from a later time on, which the answer says.
const MOST: usize = 50_000;
/// Pages that are read at most: a rare record may be far behind others.
const MOST_PAGES: usize = 200;
const PAGE: usize = 1000;
const USUAL: usize = 50;
const MOST_CALLERS: usize = 500;
const MOST_REFUSED: usize = 50;
const MOST_QUOTAS: usize = 200;

/// The span that is asked for: the last day, unless the query says another one.
fn span(call: &Call, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
    let time = |name: &'static str| {
        let Some(given) = call.parameter(name) else { return Ok(None) };
        let wrong = || Failure::invalid(format!("`{name}`: give a time in UTC such as 2027-01-01T00:00:00Z")).at(name);
        Timestamp::parse_rfc3339(given).map(Some).ok_or_else(wrong)
    };
    let until = time("until")?.unwrap_or(now);
    let since = time("since")?.unwrap_or(Timestamp(until.0.saturating_sub(DAY_MS)));
    if since >= until {
        return Err(Failure::invalid("`since` must be before `until`").at("since"));
    }
    if until.0 - since.0 > LONGEST_MS {
        return Err(Failure::invalid("the span must be no longer than 92 days").at("since"));
    }
    Ok((since, until))
}

pub(crate) async fn usage(call: Call) -> Result<LlmView, Failure> {
    let now = Timestamp::now();
    let (since, until) = span(&call, now)?;
    let limit = call.number("limit", USUAL, MOST_CALLERS)?;
    let after = call.parameter("after").map_or(Ok(0), str::parse::<usize>);
    let after = after.map_err(|_| Failure::invalid("`after` must be the `next` of the page before").at("after"))?;
    let namespace = call.parameter("namespace").map(str::to_owned);
    let mut counts = Counts::new(since, until);
    let counted_from = counted(&call, namespace.clone(), &mut counts).await?;
    let quotas = match call.namespace(namespace.as_deref()).await {
        Ok(namespace) => quotas(&call, &namespace, &counts, counted_from.unwrap_or(since), (until, now)).await,
        Err(_) => None,
    };
    let Counts { step_seconds, steps, total, callers, refused, .. } = counts;
    let mut callers: Vec<_> = callers.into_values().collect();
    let sum = |tokens: &crate::wire::llm::LlmTokens| tokens.prompt_tokens.saturating_add(tokens.completion_tokens);
    callers
        .sort_by(|a, b| sum(&b.tokens).cmp(&sum(&a.tokens)).then_with(|| (&a.who, &a.model).cmp(&(&b.who, &b.model))));
    let pairs = callers.len();
    let shown: Vec<_> = callers.into_iter().skip(after).take(limit).collect();
    let next = after.saturating_add(shown.len());
    let mut refused: Vec<_> = refused.into_values().collect();
    refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| b.last_time.cmp(&a.last_time)));
    refused.truncate(MOST_REFUSED);
    Ok(LlmView {
        since: since.rfc3339(),
        until: until.rfc3339(),
        counted_from: counted_from.unwrap_or(since).rfc3339(),
        complete: counted_from.is_none(),
        step_seconds,
        steps,
        total,
        callers: shown,
        next: (next < pairs).then(|| next.to_string()),
        pairs: pairs as u64,
        refused,
        quotas,
    })
}

/// Counts the records of the span, the newest first; where not all of them are counted, the time of the oldest one that
/// is.
async fn counted(call: &Call, namespace: Option<String>, counts: &mut Counts) -> Result<Option<Timestamp>, Failure> {
    let filter = RecordFilter {
        kind: Some(RecordKind::Decision),
        language_models: true,
        namespace,
        since: Some(counts.since),
        until: Some(counts.until),
        ..RecordFilter::default()
    };
    let filter = permitted(call, filter).await?;
    let (mut before, mut seen, mut oldest) = (None, 0, counts.until);
    for _ in 0..MOST_PAGES {
        let read = page(&call.manager, &filter, before.as_ref(), PAGE).await?;
        read.items.iter().for_each(|record| counts.add(record));
        seen += read.items.len();
        let last = read.items.last().and_then(|record| Timestamp::parse_rfc3339(record.time()));
        oldest = last.unwrap_or(oldest);
        match read.next {
            Some(next) if seen < MOST => before = Some(next),
            Some(_) => return Ok(Some(oldest)),
            None => return Ok(None),
        }
    }
    Ok(Some(oldest))
}

/// The quotas of the policies of a namespace; `None` where they are not known.
async fn quotas(
    call: &Call,
    namespace: &str,
    counts: &Counts,
    counted_from: Timestamp,
    (until, now): (Timestamp, Timestamp),
) -> Option<Vec<LlmQuota>> {
    let read = call.manager.place.understood(&call.person, namespace).await.ok()?;
    // A span that ended says nothing about what is left now.
    let is_now = now.0.saturating_sub(until.0) < 60_000;
    let policies = read.compiled.plan.policies.iter().filter(|policy| is_now && policy.key.namespace == namespace);
    let mut all: Vec<_> = policies.flat_map(|policy| of_policy(policy, counts, counted_from, now)).collect();
    let share = |quota: &LlmQuota| u128::from(quota.used) * 1_000_000 / u128::from(quota.tokens.max(1));
    all.sort_by(|a, b| share(b).cmp(&share(a)).then_with(|| (&a.policy, &a.who).cmp(&(&b.policy, &b.who))));
    all.truncate(MOST_QUOTAS);
    Some(all)
}

fn of_policy(policy: &Policy, counts: &Counts, counted_from: Timestamp, now: Timestamp) -> Vec<LlmQuota> {
    let quotas = policy.llm.iter().flat_map(|llm| &llm.quotas);
    let rows = quotas.flat_map(|quota| {
        // Spans are cut from the clock as the gateway cuts them: from the epoch on, without overlap.
        let span_ms = quota.per_seconds.saturating_mul(1000).max(1);
        let begin = Timestamp(now.0 / span_ms * span_ms);
        let row = move |who: &str, used: u64| LlmQuota {
            policy: policy.key.name.clone(),
            namespace: policy.key.namespace.clone(),
            who: who.to_owned(),
            tokens: quota.tokens,
            per_seconds: quota.per_seconds,
            used,
            end_time: Timestamp(begin.0.saturating_add(span_ms)).rfc3339(),
            complete: begin >= counted_from,
        };
        let mut rows: Vec<_> =
            counts.used_since(&policy.key, begin).into_iter().map(|(who, used)| row(&who, used)).collect();
        if rows.is_empty() {
            rows.push(row("", 0));
        }
        rows
    });
    rows.collect()
}
