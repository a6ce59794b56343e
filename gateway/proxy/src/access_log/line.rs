use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, Version, header};
use idm_audit::{Decision, Outcome};
use idm_types::{Reason, Timestamp, TraceId, is_hidden, visible_json};
use serde::Serialize;

use super::LineFormat;

/// The longest text of a caller's header, in bytes.
const MAX_TEXT: usize = 512;

/// The headers of a request that a line has, and which do not reach the record.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    agent: String,
    /// Without query and fragment: they may hold secrets, as the request's own.
    referrer: String,
}

impl Seen {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
        let cut = |text: &str| text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned();
        let referrer = text(header::REFERER);
        let referrer = referrer.split(['?', '#']).next().unwrap_or_default();
        Self { agent: cut(&text(header::USER_AGENT)), referrer: cut(&without_user(referrer)) }
    }
}

/// An address without the user and password that it may have in front of its host.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("//") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}//{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

/// The parts of a line beside the record.
pub(crate) struct More<'l> {
    pub(crate) version: Version,
    pub(crate) seen: &'l Seen,
    /// The time of the upstream until the head of its answer.
    pub(crate) upstream: Option<Duration>,
}

/// A line but for what is known when the answer has ended.
#[derive(Debug)]
pub(crate) struct Line {
    format: LineFormat,
    before: String,
    after: String,
}

#[derive(Serialize)]
struct Entry<'l> {
    #[serde(serialize_with = "rfc3339")]
    time: Timestamp,
    id: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    source: IpAddr,
    method: &'l str,
    host: &'l str,
    path: &'l str,
    protocol: &'static str,
    status: u16,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_us: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'l str,
    #[serde(skip_serializing_if = "str::is_empty")]
    referrer: &'l str,
    duration_us: u64,
}

fn rfc3339<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.rfc3339())
}

impl Line {
    /// The line of a decision.
    pub(crate) fn of(format: LineFormat, decision: &Decision<'_>, more: &More<'_>) -> Self {
        let (before, after) = match format {
            LineFormat::Json => (json(decision, more), String::new()),
            LineFormat::Combined => combined(decision, more),
        };
        Self { format, before, after }
    }

    /// The whole line, with its line feed: so many bytes of the answer's body were sent, and it ended after this time.
    pub(crate) fn ended(self, bytes: u64, total: Duration) -> String {
        let Self { format, before: mut text, after } = self;
        let _ = match format {
            LineFormat::Json => writeln!(text, ",\"bytes\":{bytes},\"total_us\":{}}}", total.as_micros()),
            LineFormat::Combined => writeln!(text, "{bytes}{after}"),
        };
        text
    }
}

/// The object without its end.
fn json(decision: &Decision<'_>, more: &More<'_>) -> String {
    let identity = decision.identity.as_ref();
    let entry = Entry {
        time: decision.time,
        id: &decision.id.to_string(),
        trace_id: decision.trace.as_ref().map(|trace| trace.id),
        source: decision.request.source,
        method: decision.request.method,
        host: decision.request.host,
        path: decision.request.path,
        protocol: protocol(more.version),
        status: decision.status,
        outcome: decision.outcome,
        reason: decision.reason,
        route: decision.route,
        policy: decision.policy.as_ref().map(|policy| format!("{}/{}", decision.namespace, policy.name)),
        authentication: decision.policy.as_ref().and_then(|policy| policy.method),
        username: identity.map(|identity| identity.username).filter(|name| !name.is_empty()),
        credential: identity.and_then(|identity| identity.credential),
        upstream: decision.upstream,
        upstream_us: more.upstream.map(|time| time.as_micros() as u64),
        user_agent: &more.seen.agent,
        referrer: &more.seen.referrer,
        duration_us: decision.duration_us,
    };
    let text = serde_json::to_string(&entry).unwrap_or_default();
    let mut text = visible_json(&text).into_owned();
    text.pop();
    text
}

/// `ADDRESS - USER [TIME] "METHOD PATH VERSION" STATUS `, and `"REFERRER" "AGENT" ID TRACE`.
fn combined(decision: &Decision<'_>, more: &More<'_>) -> (String, String) {
    let request = &decision.request;
    let mut before = format!("{} - ", request.source);
    match decision.identity.as_ref().map(|identity| identity.username).filter(|name| !name.is_empty()) {
        // A space would begin the next column.
        Some(name) => push_quoted(&mut before, name, |c| c == ' '),
        None => before.push('-'),
    }
    let _ = write!(before, " [{}] \"", clock(decision.time));
    for part in [request.method, " ", request.path, " "] {
        push_quoted(&mut before, part, |_| false);
    }
    // A caller that had left got no status; web servers log this one.
    let status = if decision.status == 0 { Reason::ClientGone.status() } else { decision.status };
    let _ = write!(before, "{}\" {status} ", protocol(more.version));
    let mut after = " \"".to_owned();
    push_quoted(&mut after, if more.seen.referrer.is_empty() { "-" } else { &more.seen.referrer }, |_| false);
    after.push_str("\" \"");
    push_quoted(&mut after, if more.seen.agent.is_empty() { "-" } else { &more.seen.agent }, |_| false);
    let _ = write!(after, "\" {} ", decision.id);
    match &decision.trace {
        Some(trace) => drop(write!(after, "{}", trace.id)),
        None => after.push('-'),
    }
    (before, after)
}

/// Appends the text; what would end the quotes, a terminal obeys, or is named is written as `\xHH`.
fn push_quoted(out: &mut String, text: &str, also: impl Fn(char) -> bool) {
    let mut bytes = [0; 4];
    for c in text.chars() {
        if is_hidden(c) || matches!(c, '"' | '\\') || also(c) {
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// `27/Nov/2026:14:51:58 +0000`.
fn clock(time: Timestamp) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.rfc3339();
    let part = |range| text.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    format!("{}/{}/{}:{} +0000", part(8..10), month.copied().unwrap_or_default(), part(0..4), part(11..19))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_written_as_web_servers_write_it() {
        assert_eq!(clock(Timestamp(1_795_791_118_123)), "27/Nov/2026:14:51:58 +0000");
        assert_eq!(clock(Timestamp(0)), "01/Jan/1970:00:00:00 +0000");
    }

    #[test]
    fn a_referrer_is_told_without_what_may_be_secret() {
        for (given, told) in [
            ("https://a.example/x?token=canary#canary", "https://a.example/x"),
            ("https://a.example/x#canary", "https://a.example/x"),
            ("https://ana:canary@a.example/x@y", "https://a.example/x@y"),
            ("https://ana:canary@a.example", "https://a.example"),
            ("//ana:canary@a.example/", "//a.example/"),
            ("/x?canary", "/x"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, given.parse().unwrap());
            headers.insert(header::USER_AGENT, "é".repeat(400).parse().unwrap());
            let seen = Seen::of(&headers);
            assert_eq!(seen.referrer, told);
            assert_eq!(seen.agent, "é".repeat(256));
        }
    }

    #[test]
    fn nothing_ends_the_quotes_of_the_combined_format() {
        let mut out = String::new();
        push_quoted(&mut out, "a\" \"b\\ \n\u{1b}\u{202e}é", |_| false);
        assert_eq!(out, "a\\x22 \\x22b\\x5c \\x0a\\x1b\\xe2\\x80\\xaeé");
    }
}
