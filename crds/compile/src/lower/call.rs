//! Lowers the matches of GRPCRoute rules: a call is a POST to the path `/service/method`.

use gateway_api::apis::standard::grpcroutes as gr;
use idm_plan::{PathMatch, canonical_path};

use super::Notes;
use super::route::{LoweredMatch, header_matches};
use crate::Cause;

pub(super) fn lower_calls(
    path: &str,
    matches: &[gr::GrpcRouteRulesMatches],
    notes: &mut Notes<'_>,
) -> Vec<LoweredMatch> {
    let of_path = |path| LoweredMatch { method: Some("POST".to_owned()), grpc: true, ..LoweredMatch::of_path(path) };
    if matches.is_empty() {
        return vec![of_path(PathMatch::Prefix(String::new()))];
    }
    let lowered = matches.iter().enumerate().map(|(i, gr::GrpcRouteRulesMatches { headers, method })| {
        let path = format!("{path}.matches[{i}]");
        let found = method.as_ref().and_then(|method| lower_method(&format!("{path}.method"), method, notes));
        // A match that cannot be read closes the whole host.
        let found = of_path(found.unwrap_or(PathMatch::Prefix(String::new())));
        let headers = headers.iter().flatten().map(|gr::GrpcRouteRulesMatchesHeaders { name, r#type, value }| {
            let is_pattern = matches!(r#type, Some(gr::GrpcRouteRulesMatchesHeadersType::RegularExpression));
            (name.as_str(), is_pattern, value.as_str())
        });
        LoweredMatch { headers: header_matches(&path, headers, notes), ..found }
    });
    lowered.collect()
}

fn lower_method(path: &str, given: &gr::GrpcRouteRulesMatchesMethod, notes: &mut Notes<'_>) -> Option<PathMatch> {
    let gr::GrpcRouteRulesMatchesMethod { method, service, r#type } = given;
    if matches!(r#type, Some(gr::GrpcRouteRulesMatchesMethodType::RegularExpression)) {
        let why = "regular expressions are not supported: use Exact";
        return notes.fail(format!("{path}.type"), Cause::UnsupportedValue, why);
    }
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let text = match (named(service), named(method)) {
        (Some(service), Some(method)) => format!("/{service}/{method}"),
        (Some(service), None) => format!("/{service}"),
        (None, Some(_)) => {
            let why = "a method is matched together with its service only";
            return notes.fail(format!("{path}.service"), Cause::UnsupportedValue, why);
        }
        (None, None) => return notes.fail(path, Cause::Invalid, "service or method must be given"),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let parts = text.split('/').skip(1);
    if parts.clone().count() > 2 || !parts.flat_map(str::chars).all(is_part) || canonical_path(&text).is_err() {
        let why = format!("'{text}' must be a service and a method of letters, digits, `_`, and dots in the service");
        return notes.fail(path, Cause::Invalid, why);
    }
    Some(if named(method).is_some() { PathMatch::Exact(text) } else { PathMatch::Prefix(text) })
}
