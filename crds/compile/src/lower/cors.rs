//! Lowers what browsers may do with scripts of other origins: a policy's `cors`, and the filter `CORS` of HTTPRoutes.

use gateway_api::apis::standard::httproutes as hr;
use idm_api::v1alpha1 as wire;
use idm_plan::{Cors, Host, Names, OriginPattern, Origins};

use super::Notes;
use crate::Cause;

/// The Gateway API's default.
const DEFAULT_MAX_AGE: i64 = 5;

/// The members that both have.
struct Given<'w> {
    origins: &'w [String],
    credentials: bool,
    methods: &'w [String],
    headers: &'w [String],
    exposed: &'w [String],
    max_age: Option<i64>,
}

pub(super) fn lower_policy_cors(cors: &wire::Cors, notes: &mut Notes<'_>) -> Option<Cors> {
    let wire::Cors { allow_origins, allow_credentials, allow_methods, allow_headers, expose_headers, max_age } = cors;
    let given = Given {
        origins: allow_origins,
        credentials: allow_credentials.unwrap_or(false),
        methods: allow_methods.as_deref().unwrap_or_default(),
        headers: allow_headers.as_deref().unwrap_or_default(),
        exposed: expose_headers.as_deref().unwrap_or_default(),
        max_age: *max_age,
    };
    lower("spec.cors", &given, notes)
}

pub(super) fn lower_filter(path: &str, cors: &hr::HttpRouteRulesFiltersCors, notes: &mut Notes<'_>) -> Option<Cors> {
    let hr::HttpRouteRulesFiltersCors {
        allow_origins,
        allow_credentials,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
    } = cors;
    let given = Given {
        origins: allow_origins.as_deref().unwrap_or_default(),
        credentials: allow_credentials.unwrap_or(false),
        methods: allow_methods.as_deref().unwrap_or_default(),
        headers: allow_headers.as_deref().unwrap_or_default(),
        exposed: expose_headers.as_deref().unwrap_or_default(),
        max_age: max_age.map(i64::from),
    };
    lower(path, &given, notes)
}

fn lower(path: &str, given: &Given<'_>, notes: &mut Notes<'_>) -> Option<Cors> {
    let origins = lower_origins(path, given, notes)?;
    let methods = names(&format!("{path}.allowMethods"), given.methods, str::to_owned, notes)?;
    if let Names::Listed(listed) = &methods {
        let unusable =
            |name: &&String| matches!(name.as_str(), "TRACE" | "CONNECT") || name.contains(char::is_lowercase);
        if let Some(name) = listed.iter().find(unusable) {
            let why = format!("method '{name}' must be in upper case, and neither TRACE nor CONNECT");
            return notes.fail(format!("{path}.allowMethods"), Cause::Invalid, why);
        }
    }
    let lower = |name: &str| name.to_ascii_lowercase();
    let headers = names(&format!("{path}.allowHeaders"), given.headers, lower, notes)?;
    let exposed = names(&format!("{path}.exposeHeaders"), given.exposed, lower, notes)?;
    let seconds = given.max_age.unwrap_or(DEFAULT_MAX_AGE);
    let Ok(max_age_seconds @ 1..=86_400) = u32::try_from(seconds) else {
        return notes.fail(format!("{path}.maxAge"), Cause::Invalid, "maxAge must be between 1 and 86400");
    };
    Some(Cors { origins, methods, headers, exposed, max_age_seconds })
}

fn lower_origins(path: &str, given: &Given<'_>, notes: &mut Notes<'_>) -> Option<Origins> {
    let path = format!("{path}.allowOrigins");
    if given.origins.is_empty() {
        return notes.fail(path, Cause::Invalid, "at least one origin must be given");
    }
    let mut patterns = Vec::new();
    for (i, text) in given.origins.iter().enumerate().filter(|(_, text)| *text != "*") {
        let Some(pattern) = OriginPattern::parse(text) else {
            let why = format!(
                "'{text}' must be an origin such as https://app.example.com, https://*.example.com or \
                 http://localhost:3000: without a path, and never `null`, which every sandboxed page can send"
            );
            return notes.fail(format!("{path}[{i}]"), Cause::Invalid, why);
        };
        patterns.push(pattern);
    }
    let any = patterns.len() < given.origins.len();
    if any && !patterns.is_empty() {
        return notes.fail(path, Cause::Invalid, "`*` must stand alone");
    }
    if given.credentials && (any || patterns.iter().any(|pattern| pattern.host == Host::Any)) {
        let why = "allowCredentials for every host would let any page that a person opens act with the person's \
                   session: list the origins, or leave `allowCredentials` out";
        return notes.fail(path, Cause::Invalid, why);
    }
    Some(if any { Origins::Any } else { Origins::Listed { patterns, credentials: given.credentials } })
}

/// Names of methods or headers: tokens (RFC 9110 §5.6.2).
fn names(path: &str, given: &[String], spell: impl Fn(&str) -> String, notes: &mut Notes<'_>) -> Option<Names> {
    if given == ["*"] {
        return Some(Names::Any);
    }
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b))
    };
    let mut listed: Vec<String> = Vec::new();
    for (i, name) in given.iter().enumerate() {
        if !is_token(name) || name.len() > 128 {
            let why = format!("'{name}' must be a name; `*` must stand alone");
            return notes.fail(format!("{path}[{i}]"), Cause::Invalid, why);
        }
        let name = spell(name);
        if !listed.contains(&name) {
            listed.push(name);
        }
    }
    if listed.len() > 64 {
        return notes.fail(path, Cause::Invalid, "at most 64 names may be listed");
    }
    Some(Names::Listed(listed))
}
