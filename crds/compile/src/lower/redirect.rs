//! Lowers the filters `RequestRedirect` and `URLRewrite` of HTTPRoute rules.

use gateway_api::apis::standard::httproutes as hr;
use idm_plan::{Host, PathChange, PathMatch, Redirect, Rewrite, Scheme, canonical_path};

use super::Notes;
use super::route::LoweredMatch;
use crate::Cause;
use crate::listeners::parse_host;

/// The redirect; its listener's port is set where the rule is attached.
pub(super) fn lower_redirect(
    path: &str,
    given: &hr::HttpRouteRulesFiltersRequestRedirect,
    matches: &[LoweredMatch],
    notes: &mut Notes<'_>,
) -> Option<Redirect> {
    let hr::HttpRouteRulesFiltersRequestRedirect { hostname, path: change, port, scheme, status_code } = given;
    let status = match status_code.unwrap_or(302) {
        status @ (301 | 302 | 303 | 307 | 308) => u16::try_from(status).ok()?,
        other => {
            let why = format!("{other} must be 301, 302, 303, 307 or 308");
            return notes.fail(format!("{path}.statusCode"), Cause::UnsupportedValue, why);
        }
    };
    let host = lower_host(path, hostname, notes)?;
    let port = match port.map(u16::try_from) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => {
            return notes.fail(format!("{path}.port"), Cause::Invalid, "the port must be between 1 and 65535");
        }
    };
    let scheme = scheme.as_ref().map(|scheme| match scheme {
        hr::HttpRouteRulesFiltersRequestRedirectScheme::Http => Scheme::Http,
        hr::HttpRouteRulesFiltersRequestRedirectScheme::Https => Scheme::Https,
    });
    let path = match change {
        None => None,
        Some(hr::HttpRouteRulesFiltersRequestRedirectPath { replace_full_path, replace_prefix_match, r#type }) => {
            let full = *r#type == hr::HttpRouteRulesFiltersRequestRedirectPathType::ReplaceFullPath;
            let given = Given { full, replace_full_path, replace_prefix_match };
            Some(lower_change(&format!("{path}.path"), given, matches, notes)?)
        }
    };
    Some(Redirect { status, scheme, host, port, listener_port: 0, path })
}

/// The change of the request's address.
pub(super) fn lower_rewrite(
    path: &str,
    given: &hr::HttpRouteRulesFiltersUrlRewrite,
    matches: &[LoweredMatch],
    notes: &mut Notes<'_>,
) -> Option<Rewrite> {
    let hr::HttpRouteRulesFiltersUrlRewrite { hostname, path: change } = given;
    let host = lower_host(path, hostname, notes)?;
    let path = match change {
        None => None,
        Some(hr::HttpRouteRulesFiltersUrlRewritePath { replace_full_path, replace_prefix_match, r#type }) => {
            let full = *r#type == hr::HttpRouteRulesFiltersUrlRewritePathType::ReplaceFullPath;
            let given = Given { full, replace_full_path, replace_prefix_match };
            Some(lower_change(&format!("{path}.path"), given, matches, notes)?)
        }
    };
    Some(Rewrite { host, path })
}

/// The one host that both filters may name, in lower case.
fn lower_host(path: &str, hostname: &Option<String>, notes: &mut Notes<'_>) -> Option<Option<String>> {
    match hostname.as_deref().map(parse_host) {
        None => Some(None),
        Some(Some(Host::Exact(host))) => Some(Some(host)),
        Some(_) => notes.fail(format!("{path}.hostname"), Cause::Invalid, "the hostname must be a DNS name"),
    }
}

/// A change of a path as both filters write it.
struct Given<'g> {
    /// The whole path is replaced; else its prefix.
    full: bool,
    replace_full_path: &'g Option<String>,
    replace_prefix_match: &'g Option<String>,
}

fn lower_change(path: &str, given: Given<'_>, matches: &[LoweredMatch], notes: &mut Notes<'_>) -> Option<PathChange> {
    let Given { full, replace_full_path, replace_prefix_match } = given;
    let (text, other) =
        if full { (replace_full_path, replace_prefix_match) } else { (replace_prefix_match, replace_full_path) };
    let (Some(text), None) = (text, other) else {
        return notes.fail(path, Cause::Invalid, "the path must have the one member that its type names");
    };
    let text = if text.is_empty() { "/" } else { text };
    let canonical = match canonical_path(text) {
        Ok(canonical) => canonical.into_owned(),
        Err(error) => return notes.fail(path, Cause::Invalid, format!("'{text}': {error}")),
    };
    if full {
        return Some(PathChange::Full(canonical));
    }
    match matches {
        [LoweredMatch { path: PathMatch::Prefix(prefix), .. }] => {
            let with = canonical.trim_end_matches('/').to_owned();
            Some(PathChange::Prefix { prefix: prefix.clone(), with })
        }
        _ => notes.fail(path, Cause::Invalid, "ReplacePrefixMatch needs a rule with exactly one match, a PathPrefix"),
    }
}
