//! The places of a credential in a request, and the Credentials that a method accepts.

use idm_api::v1alpha1 as wire;
use idm_plan::{Selector, Source};

use super::Notes;
use crate::Cause;

pub(crate) fn lower_source(
    path: &str,
    header: Option<&wire::HeaderSource>,
    cookie: Option<&wire::NamedSource>,
    query: Option<&wire::NamedSource>,
    notes: &mut Notes<'_>,
) -> Option<Source> {
    match (header, cookie, query) {
        (Some(wire::HeaderSource { name, scheme }), None, None) => {
            let name = header_name(&format!("{path}.header.name"), name, notes)?;
            if name == "cookie" {
                return notes.fail(path, Cause::Invalid, "the header `Cookie` must be read with `cookie`");
            }
            Some(Source::Header { name, scheme: scheme.clone() })
        }
        (None, Some(wire::NamedSource { name }), None) => Some(Source::Cookie { name: name.clone() }),
        (None, None, Some(wire::NamedSource { name })) => Some(Source::Query { name: name.clone(), per_minute: None }),
        _ => notes.fail(path, Cause::Invalid, "a source must have exactly one of `header`, `cookie`, `query`"),
    }
}

pub(super) fn non_empty(path: &str, sources: Vec<Source>, notes: &mut Notes<'_>) -> Option<Vec<Source>> {
    if sources.is_empty() {
        return notes.fail(
            format!("{path}.sources"),
            Cause::Invalid,
            "at least one source must be given; leave `sources` out for the default",
        );
    }
    Some(sources)
}

/// A header name in lower case that the proxy does not reserve for itself.
pub(crate) fn header_name(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return notes.fail(path, Cause::Invalid, format!("header name '{name}' must be letters, digits and dashes"));
    }
    const OWNED: &[&str] = &[
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    if OWNED.contains(&name.as_str()) {
        return notes.fail(
            path,
            Cause::Invalid,
            format!("header '{name}' must not be used: the gateway sets it itself"),
        );
    }
    Some(name)
}

/// Without a selector, every Credential of the namespace is accepted.
pub(crate) fn lower_selector(selector: Option<&wire::CredentialSelector>) -> Selector {
    selector
        .map_or(Selector::ANY, |wire::CredentialSelector { match_labels }| Selector { labels: match_labels.clone() })
}
