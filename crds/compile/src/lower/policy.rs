use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_plan::{
    ApiKeyMethod, Confirmation, CredentialForwarding, Disclosure, Expr, Federation, HeaderMapping, IdentityMapping,
    IntrospectionMethod, Issuer, JwtMethod, KeySource, Llm, LlmProvider, Method, MethodKind, NameSet, ObjectKey,
    PathForm, Policy, Require, Rule, Secrets, Selector, Source, TokenExchange, TokenQuota, UpstreamSettings, Variable,
};
use idm_types::{Algorithm, Skew};

use super::Notes;
use super::cors::lower_policy_cors;
use super::jose::lower_steps;
use super::keys::{DEFAULT_ALGORITHMS, check_url, lower_keys, secret_text};
use super::mtls::lower_mtls;
use super::password::{lower_base64, lower_basic, lower_digest};
use super::resource::lower_resource;
use super::sign_in::lower_sign_in;
use super::token_service::{lower_service, published};
use crate::{Cause, Condition, Object, World};

const DEFAULT_SKEW_SECONDS: i64 = 30;
/// The variables that are known when a caller is authorized.
const CONDITION: &[Variable] = Variable::ALL;

pub(crate) fn lower_policy(
    world: &World,
    federations: &[Federation],
    object: &Object<wire::IdentityPolicySpec>,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Policy> {
    // `target_refs` is read by attach.rs.
    let wire::IdentityPolicySpec {
        target_refs: _,
        authentication,
        authorization,
        jose,
        llm,
        token_service,
        upstream,
        disclosure,
        cors,
        paths,
        resource,
        open_streams,
    } = &object.spec;
    let wire::Authentication { methods, identity } = authentication;
    let methods = lower_methods(world, federations, methods, secrets, notes);
    let identity = lower_identity(identity.as_ref(), notes);
    let rules = lower_rules(authorization.as_ref(), notes);
    let jose = lower_steps(world, jose.as_deref(), secrets, notes);
    let llm = llm.as_ref().and_then(|llm| lower_llm(world, llm, secrets, notes));
    let token_service =
        token_service.as_ref().and_then(|service| lower_service(world, object, service, federations, secrets, notes));
    let upstream = lower_upstream(world, upstream.as_ref(), object.spec.llm.is_some(), secrets, notes);
    let cors = cors.as_ref().and_then(|cors| lower_policy_cors(cors, notes));
    let paths = paths.as_ref().map(|paths| lower_paths(paths, authorization.as_ref(), notes)).unwrap_or_default();
    let resource =
        resource.as_ref().and_then(|resource| lower_resource(world, resource, &methods, token_service.as_ref(), notes));
    let drain_streams_ms = super::streams::lower_open_streams(open_streams.as_ref(), notes);
    if notes.failed {
        return None;
    }
    Some(Policy {
        drain_streams_ms,
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        uid: object.meta.uid.clone(),
        generation: object.meta.generation,
        methods,
        identity,
        rules,
        jose,
        llm,
        token_service,
        upstream,
        disclosure: match disclosure {
            None | Some(wire::Disclosure::Minimal) => Disclosure::Minimal,
            Some(wire::Disclosure::Detailed) => Disclosure::Detailed,
        },
        cors,
        paths,
        resource,
    })
}

/// The forms of paths that are taken, in the order of the catalogue.
fn lower_paths(
    paths: &wire::Paths,
    authorization: Option<&wire::Authorization>,
    notes: &mut Notes<'_>,
) -> Vec<PathForm> {
    let wire::Paths { allow } = paths;
    if allow.is_empty() {
        notes.fail::<()>(
            "spec.paths.allow",
            Cause::Invalid,
            "at least one form must be given; leave `paths` out for none",
        );
    }
    let forms: Vec<PathForm> = allow
        .iter()
        .map(|form| match form {
            wire::PathForm::EncodedSlash => PathForm::EncodedSlash,
            wire::PathForm::EncodedPercent => PathForm::EncodedPercent,
            wire::PathForm::EncodedQuestionMark => PathForm::EncodedQuestionMark,
            wire::PathForm::EncodedHash => PathForm::EncodedHash,
            wire::PathForm::Parameters => PathForm::Parameters,
            wire::PathForm::EmptySegments => PathForm::EmptySegments,
        })
        .collect();
    // A form that the gateway writes in one way only is no danger to conditions.
    let escaped = forms.iter().find(|form| !matches!(form, PathForm::Parameters | PathForm::EmptySegments));
    let conditions = authorization.iter().flat_map(|authorization| authorization.rules.iter().enumerate());
    for (i, rule) in conditions.filter(|(_, rule)| rule.when.as_ref().is_some_and(|when| when.contains("path"))) {
        let Some(form) = escaped else { break };
        let message = format!(
            "rule '{}' asks for the path, in which escapes stay (`{}`): an upstream that decodes before it splits the \
             path may read another one",
            rule.name,
            form.name()
        );
        let at = format!("spec.authorization.rules[{i}].when");
        notes.report.push(&notes.object, at, Condition::Programmed, Cause::DangerousOption, message);
    }
    PathForm::ALL.into_iter().filter(|form| forms.contains(form)).collect()
}

/// The largest request to a language model that is read; prompts with pictures are large.
const DEFAULT_MODEL_REQUEST: i64 = 16 << 20;

fn lower_llm(world: &World, llm: &wire::Llm, secrets: &mut Secrets, notes: &mut Notes<'_>) -> Option<Llm> {
    let wire::Llm { provider, max_request_bytes, key_ref, quotas } = llm;
    let (key, text) = secret_text(world, "spec.llm.keyRef", key_ref, "apiKey", secrets, notes)?;
    if text.trim().is_empty() || !text.trim().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return notes.fail(
            "spec.llm.keyRef",
            Cause::InvalidRef,
            format!("Secret '{}' must hold the provider's key: printable, without spaces", key_ref.name),
        );
    }
    let provider = match provider {
        wire::LlmProvider::OpenAI => LlmProvider::OpenAi,
        wire::LlmProvider::AzureOpenAI => LlmProvider::AzureOpenAi,
        wire::LlmProvider::Anthropic => LlmProvider::Anthropic,
        wire::LlmProvider::Bedrock => LlmProvider::Bedrock,
    };
    let Ok(max_request_bytes) = usize::try_from(max_request_bytes.unwrap_or(DEFAULT_MODEL_REQUEST)) else {
        return notes.fail("spec.llm.maxRequestBytes", Cause::Invalid, "it must be at least 1024");
    };
    let mut lowered = Vec::new();
    for (i, wire::TokenQuota { tokens, per_seconds }) in quotas.iter().flatten().enumerate() {
        match (u64::try_from(*tokens), u64::try_from(*per_seconds)) {
            (Ok(tokens @ 1..), Ok(per_seconds @ 1..)) => lowered.push(TokenQuota { tokens, per_seconds }),
            _ => {
                return notes.fail(
                    format!("spec.llm.quotas[{i}]"),
                    Cause::Invalid,
                    "`tokens` and `perSeconds` must be greater than 0",
                );
            }
        }
    }
    Some(Llm { provider, max_request_bytes, key, quotas: lowered })
}

fn lower_methods(
    world: &World,
    federations: &[Federation],
    methods: &[wire::Method],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Vec<Method> {
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    if methods.is_empty() {
        notes.fail::<()>(
            "spec.authentication.methods",
            Cause::Invalid,
            "at least one method must be given; write `anonymous: {}` to open the route",
        );
    }
    for (i, method) in methods.iter().enumerate() {
        let (path, name) = (format!("spec.authentication.methods[{i}]"), &method.name);
        if !names.insert(name) {
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, format!("method name '{name}' must be used once"));
        }
        let Some(kind) = method.kind() else {
            notes.fail::<()>(path, Cause::Invalid, wire::Method::exactly_one_kind());
            continue;
        };
        let kind = match kind {
            wire::MethodKind::Jwt(jwt) => {
                lower_jwt(world, &format!("{path}.jwt"), jwt, secrets, notes).map(MethodKind::Jwt)
            }
            wire::MethodKind::Introspection(method) => {
                lower_introspection(world, &format!("{path}.introspection"), method, secrets, notes)
                    .map(MethodKind::Introspection)
            }
            wire::MethodKind::ApiKey(key) => {
                lower_api_key(&format!("{path}.apiKey"), key, notes).map(MethodKind::ApiKey)
            }
            wire::MethodKind::Mtls(method) => {
                lower_mtls(world, &format!("{path}.mtls"), method, notes).map(MethodKind::Mtls)
            }
            wire::MethodKind::Basic(basic) => {
                lower_basic(federations, &format!("{path}.basic"), basic, notes).map(MethodKind::Basic)
            }
            wire::MethodKind::Digest(digest) => {
                lower_digest(world, &format!("{path}.digest"), digest, secrets, notes).map(MethodKind::Digest)
            }
            wire::MethodKind::Base64(base64) => {
                lower_base64(federations, &format!("{path}.base64"), base64, notes).map(MethodKind::Base64)
            }
            wire::MethodKind::SignIn(method) => {
                if lowered.iter().any(|other: &Method| matches!(other.kind, MethodKind::SignIn(_))) {
                    notes.fail::<()>(path, Cause::Invalid, "`signIn` must be used once: list all Federations there");
                    continue;
                }
                lower_sign_in(world, federations, &format!("{path}.signIn"), method, notes)
                    .map(|method| MethodKind::SignIn(Box::new(method)))
            }
            wire::MethodKind::Anonymous(_) => Some(MethodKind::Anonymous),
        };
        lowered.extend(kind.map(|kind| Method { name: name.clone(), kind }));
    }
    lowered
}

fn lower_jwt(
    world: &World,
    path: &str,
    jwt: &wire::JwtMethod,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<JwtMethod> {
    let wire::JwtMethod { issuers, sources, clock_skew_seconds, confirmation } = jwt;
    let mut lowered: Vec<Issuer> = Vec::new();
    for (i, issuer) in issuers.iter().enumerate() {
        let path = format!("{path}.issuers[{i}]");
        // A suspended Federation authenticates no caller, also where its tokens are presented.
        if issuer.federation_ref.as_ref().is_some_and(|reference| is_suspended(world, &reference.name)) {
            continue;
        }
        let issuer = lower_issuer(world, &path, issuer, secrets, notes)?;
        if lowered.iter().any(|other| other.issuer == issuer.issuer) {
            return notes.fail(
                path,
                Cause::Invalid,
                format!("issuer '{}' must be listed once; give it all its audiences there", issuer.issuer),
            );
        }
        lowered.push(issuer);
    }
    if issuers.is_empty() {
        return notes.fail(format!("{path}.issuers"), Cause::Invalid, "at least one issuer must be given");
    }
    let seconds = clock_skew_seconds.unwrap_or(DEFAULT_SKEW_SECONDS);
    if !(0..=Skew::MAX_SECONDS as i64).contains(&seconds) {
        return notes.fail(
            format!("{path}.clockSkewSeconds"),
            Cause::Invalid,
            "clockSkewSeconds must be between 0 and 300",
        );
    }
    let sources = token_sources(path, sources.as_deref(), notes)?;
    Some(JwtMethod {
        issuers: lowered,
        sources,
        skew: Skew::from_seconds(seconds as u64),
        confirmation: lower_confirmation(confirmation.as_ref()),
    })
}

fn is_suspended(world: &World, federation: &str) -> bool {
    world.federations.iter().any(|known| known.meta.name == federation && known.spec.suspend == Some(true))
}

fn token_sources(path: &str, sources: Option<&[wire::TokenSource]>, notes: &mut Notes<'_>) -> Option<Vec<Source>> {
    let Some(given) = sources else {
        return Some(
            ["Bearer", "DPoP"]
                .map(|scheme| Source::Header { name: "authorization".into(), scheme: Some(scheme.into()) })
                .to_vec(),
        );
    };
    let mut lowered = Vec::new();
    for (i, wire::TokenSource { header, cookie, query }) in given.iter().enumerate() {
        let path = format!("{path}.sources[{i}]");
        let named = query.as_ref().map(|query| wire::NamedSource { name: query.name.clone() });
        let source = lower_source(&path, header.as_ref(), cookie.as_ref(), named.as_ref(), notes)?;
        let Some(wire::QueryTokenSource { name, requests_per_minute }) = query else {
            lowered.push(source);
            continue;
        };
        let message = format!(
            "tokens in the query parameter '{name}' stay in logs, histories and referrers: use it only for clients \
             that can do no better"
        );
        notes.report.push(
            &notes.object,
            format!("{path}.query"),
            Condition::Programmed,
            Cause::DangerousOption,
            message,
        );
        let Ok(per_minute @ 1..=6000) = u32::try_from(requests_per_minute.unwrap_or(60)) else {
            return notes.fail(
                format!("{path}.query.requestsPerMinute"),
                Cause::Invalid,
                "requestsPerMinute must be between 1 and 6000",
            );
        };
        lowered.push(Source::Query { name: name.clone(), per_minute: Some(per_minute) });
    }
    non_empty(path, lowered, notes)
}

fn lower_confirmation(confirmation: Option<&wire::Confirmation>) -> Confirmation {
    let required = |demand: &Option<wire::Demand>| *demand == Some(wire::Demand::Required);
    confirmation.map_or_else(Confirmation::default, |wire::Confirmation { dpop, certificate }| Confirmation {
        dpop: required(dpop),
        certificate: required(certificate),
    })
}

fn lower_introspection(
    world: &World,
    path: &str,
    method: &wire::IntrospectionMethod,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<IntrospectionMethod> {
    let wire::IntrospectionMethod {
        issuer,
        endpoint,
        client_id,
        client_secret_ref,
        audiences,
        sources,
        cache_seconds,
        confirmation,
    } = method;
    check_url(world, &format!("{path}.endpoint"), endpoint, notes)?;
    let (client_secret, _) =
        secret_text(world, &format!("{path}.clientSecretRef"), client_secret_ref, "clientSecret", secrets, notes)?;
    let cache_seconds = cache_seconds.unwrap_or(15);
    if !(0..=300).contains(&cache_seconds) {
        return notes.fail(format!("{path}.cacheSeconds"), Cause::Invalid, "cacheSeconds must be between 0 and 300");
    }
    Some(IntrospectionMethod {
        endpoint: endpoint.clone(),
        client_id: client_id.clone(),
        client_secret,
        issuer: issuer.clone(),
        audiences: audiences.clone().unwrap_or_default(),
        sources: token_sources(path, sources.as_deref(), notes)?,
        cache_seconds: cache_seconds as u64,
        confirmation: lower_confirmation(confirmation.as_ref()),
    })
}

fn non_empty(path: &str, sources: Vec<Source>, notes: &mut Notes<'_>) -> Option<Vec<Source>> {
    if sources.is_empty() {
        return notes.fail(
            format!("{path}.sources"),
            Cause::Invalid,
            "at least one source must be given; leave `sources` out for the default",
        );
    }
    Some(sources)
}

fn lower_issuer(
    world: &World,
    path: &str,
    entry: &wire::JwtIssuer,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Issuer> {
    let wire::JwtIssuer {
        issuer,
        federation_ref,
        token_service_ref,
        audiences,
        client_ids,
        keys,
        algorithms,
        types,
        profile,
    } = entry;
    let (audiences, client_ids) = lower_recipients(path, audiences.as_ref(), client_ids.as_ref(), notes)?;
    let types: Vec<String> = types
        .iter()
        .flatten()
        .map(|t| t.to_ascii_lowercase())
        .map(|t| t.strip_prefix("application/").map(str::to_owned).unwrap_or(t))
        .collect();
    let (issuer, keys, algorithms) = match (issuer, keys, federation_ref, token_service_ref) {
        (Some(issuer), Some(keys), None, None) => {
            let algorithms = lower_algorithms(path, algorithms.as_deref(), notes)?;
            let keys = lower_keys(world, &format!("{path}.keys"), issuer, keys, &algorithms, secrets, notes)?;
            (issuer.clone(), keys, algorithms)
        }
        (None, None, None, Some(reference)) if algorithms.is_none() => {
            let (issuer, jwks, algorithms) =
                published(world, &format!("{path}.tokenServiceRef"), &reference.name, notes)?;
            (issuer, KeySource::Inline { jwks }, algorithms)
        }
        (None, None, Some(reference), None) if algorithms.is_none() => {
            lower_federated(world, &format!("{path}.federationRef"), &reference.name, secrets, notes)?
        }
        _ => {
            return notes.fail(
                path,
                Cause::Invalid,
                "an issuer entry must have `issuer` with `keys`, or `federationRef` or `tokenServiceRef` without `keys` and `algorithms`",
            );
        }
    };
    let issued_here = token_service_ref.is_some();
    // Our own service writes `at+jwt` into every token.
    let rfc9068 = *profile == Some(wire::TokenProfile::Rfc9068);
    let types = if (issued_here || rfc9068) && types.is_empty() { vec!["at+jwt".to_owned()] } else { types };
    if rfc9068 && types != ["at+jwt"] {
        return notes.fail(
            format!("{path}.types"),
            Cause::Invalid,
            "`types` must be left out, or be `at+jwt`, with the profile RFC9068",
        );
    }
    Some(Issuer { issuer, audiences, client_ids, keys, algorithms, types, rfc9068, issued_here })
}

/// The audiences and clients whose tokens are accepted, of which at least one is named.
fn lower_recipients(
    path: &str,
    audiences: Option<&Vec<String>>,
    client_ids: Option<&Vec<String>>,
    notes: &mut Notes<'_>,
) -> Option<(Vec<String>, Vec<String>)> {
    let lists = [("audiences", audiences), ("clientIds", client_ids)];
    if let Some((name, _)) = lists.iter().find(|(_, list)| list.is_some_and(Vec::is_empty)) {
        let message = "the list must not be empty: without it every token of the issuer would do";
        return notes.fail(format!("{path}.{name}"), Cause::Invalid, message);
    }
    if lists.iter().all(|(_, list)| list.is_none()) {
        let message = "at least one audience must be given, or `clientIds` where the issuer writes no `aud`: without \
                       either every token of the issuer would do";
        return notes.fail(format!("{path}.audiences"), Cause::Invalid, message);
    }
    let owned = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    Some((owned(audiences), owned(client_ids)))
}

/// The issuer, its keys and algorithms as a Federation has them.
fn lower_federated(
    world: &World,
    path: &str,
    name: &str,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<(String, KeySource, Vec<Algorithm>)> {
    let Some(federation) = world.federations.iter().find(|federation| federation.meta.name == name) else {
        return notes.fail(
            path,
            Cause::RefNotFound,
            format!("Federation '{name}' must exist in this namespace and be readable"),
        );
    };
    // `client` is read by federation.rs.
    let Some(wire::OidcProvider { issuer, keys, algorithms, client: _ }) = &federation.spec.oidc else {
        return notes.fail(path, Cause::InvalidRef, format!("Federation '{name}' must be of type `oidc`"));
    };
    let algorithms = lower_algorithms(path, algorithms.as_deref(), notes)?;
    let keys = keys.clone().unwrap_or_else(|| wire::KeySources::discovered(None));
    let keys = lower_keys(world, path, issuer, &keys, &algorithms, secrets, notes)?;
    Some((issuer.clone(), keys, algorithms))
}

pub(crate) fn lower_algorithms(
    path: &str,
    algorithms: Option<&[idm_types::Algorithm]>,
    notes: &mut Notes<'_>,
) -> Option<Vec<Algorithm>> {
    match algorithms {
        None => Some(DEFAULT_ALGORITHMS.to_vec()),
        Some([]) => notes.fail(
            format!("{path}.algorithms"),
            Cause::Invalid,
            "at least one algorithm must be given; leave `algorithms` out for RS256 and ES256",
        ),
        Some(given) => Some(given.to_vec()),
    }
}

fn lower_api_key(path: &str, method: &wire::ApiKeyMethod, notes: &mut Notes<'_>) -> Option<ApiKeyMethod> {
    let wire::ApiKeyMethod { sources, credential_selector } = method;
    let sources = match sources {
        None => vec![Source::Header { name: "x-api-key".into(), scheme: None }],
        Some(given) => {
            let mut lowered = Vec::new();
            for (i, wire::CredentialSource { header, cookie, query }) in given.iter().enumerate() {
                lowered.push(lower_source(
                    &format!("{path}.sources[{i}]"),
                    header.as_ref(),
                    cookie.as_ref(),
                    query.as_ref(),
                    notes,
                )?);
            }
            lowered
        }
    };
    Some(ApiKeyMethod { sources: non_empty(path, sources, notes)?, only: lower_selector(credential_selector.as_ref()) })
}

/// Without a selector, every Credential of the namespace is accepted.
pub(crate) fn lower_selector(selector: Option<&wire::CredentialSelector>) -> Selector {
    selector
        .map_or(Selector::ANY, |wire::CredentialSelector { match_labels }| Selector { labels: match_labels.clone() })
}

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

pub(crate) fn expr(path: &str, text: &str, allowed: &[Variable], notes: &mut Notes<'_>) -> Option<Expr> {
    let expr = match idm_expr::parse(text, allowed) {
        Ok(expr) => expr,
        Err(message) => return notes.fail(path, Cause::Invalid, message),
    };
    if let Some(advice) = idm_expr::advice(&expr) {
        notes.report.push(&notes.object, path, Condition::Programmed, Cause::DangerousOption, advice);
    }
    Some(expr)
}

fn lower_identity(identity: Option<&wire::IdentityMapping>, notes: &mut Notes<'_>) -> IdentityMapping {
    let default = wire::IdentityMapping::default();
    let wire::IdentityMapping { username, roles, groups, attributes } = identity.unwrap_or(&default);
    let token = &[Variable::Token];
    let mut one = |field: &str, text: &Option<String>| {
        text.as_ref().and_then(|text| expr(&format!("spec.authentication.identity.{field}"), text, token, notes))
    };
    let (username, roles, groups) = (one("username", username), one("roles", roles), one("groups", groups));
    let attributes =
        attributes.iter().flatten().enumerate().filter_map(|(i, wire::AttributeMapping { name, value })| {
            Some((
                name.clone(),
                expr(&format!("spec.authentication.identity.attributes[{i}].value"), value, token, notes)?,
            ))
        });
    IdentityMapping { attributes: attributes.collect(), username, roles, groups }
}

fn lower_rules(authorization: Option<&wire::Authorization>, notes: &mut Notes<'_>) -> Vec<Rule> {
    let Some(wire::Authorization { rules }) = authorization else { return Vec::new() };
    if rules.is_empty() {
        notes.fail::<()>(
            "spec.authorization.rules",
            Cause::Invalid,
            "at least one rule must be given; leave `authorization` out when being authenticated is enough",
        );
    }
    let names = |set: &Option<wire::NameSet>| {
        let wire::NameSet { any, all } = set.clone().unwrap_or_default();
        NameSet { any: any.unwrap_or_default(), all: all.unwrap_or_default() }
    };
    let mut seen = BTreeSet::new();
    let mut lowered = Vec::new();
    for (i, wire::AuthorizationRule { name, methods, when, require }) in rules.iter().enumerate() {
        let path = format!("spec.authorization.rules[{i}]");
        if !seen.insert(name) {
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, format!("rule name '{name}' must be used once"));
        }
        let wire::Require { roles, scopes } = require.clone().unwrap_or_default();
        if [&roles, &scopes]
            .into_iter()
            .flatten()
            .any(|set| set.any.as_ref().is_none_or(Vec::is_empty) && set.all.as_ref().is_none_or(Vec::is_empty))
        {
            notes.fail::<()>(format!("{path}.require"), Cause::Invalid, "set `any`, `all` or both");
        }
        let methods = methods.iter().flatten().map(|m| format!("{m:?}").to_ascii_uppercase()).collect();
        let when = when.as_ref().and_then(|text| expr(&format!("{path}.when"), text, CONDITION, notes));
        lowered.push(Rule {
            name: name.clone(),
            methods,
            when,
            require: Require { roles: names(&roles), scopes: names(&scopes) },
        });
    }
    lowered
}

fn lower_upstream(
    world: &World,
    upstream: Option<&wire::Upstream>,
    is_provider: bool,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> UpstreamSettings {
    let default = wire::Upstream::default();
    let wire::Upstream { headers, credential, token_exchange } = upstream.unwrap_or(&default);
    let exchange = token_exchange.as_ref().and_then(|exchange| lower_exchange(world, exchange, secrets, notes));
    if exchange.is_some() && *credential == Some(wire::CredentialForwarding::Forward) {
        notes.fail::<()>(
            "spec.upstream",
            Cause::Invalid,
            "`tokenExchange` must not be set with `credential: Forward`: the upstream would get two tokens",
        );
    }
    let mut lowered: Vec<HeaderMapping> = Vec::new();
    for (i, wire::HeaderMapping { name, value }) in headers.iter().flatten().enumerate() {
        let path = format!("spec.upstream.headers[{i}]");
        let Some(name) = header_name(&format!("{path}.name"), name, notes) else { continue };
        if lowered.iter().any(|other| other.name == name) {
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, format!("header '{name}' must be listed once"));
        }
        if matches!(name.as_str(), "authorization" | "cookie") {
            notes.fail::<()>(
                format!("{path}.name"),
                Cause::Invalid,
                format!("header '{name}' must not be made from identity values"),
            );
        }
        lowered.extend(
            expr(&format!("{path}.value"), value, Variable::ALL, notes).map(|value| HeaderMapping { name, value }),
        );
    }
    // The two attributes that every upstream can rely on, unless the policy maps them itself. A language model's
    // provider is a third party: it gets only the attributes that the policy names.
    let standard = [("x-authenticated-userid", "username"), ("x-authenticated-userroles", "roles")];
    for (name, member) in standard.into_iter().filter(|_| !is_provider) {
        if !lowered.iter().any(|header| header.name == name) {
            lowered.push(HeaderMapping {
                name: name.into(),
                value: Expr::Member { variable: Variable::Identity, path: vec![member.into()] },
            });
        }
    }
    let credential = match credential {
        None | Some(wire::CredentialForwarding::Remove) => CredentialForwarding::Remove,
        Some(wire::CredentialForwarding::Forward) => CredentialForwarding::Forward,
    };
    UpstreamSettings { headers: lowered, credential, exchange }
}

fn lower_exchange(
    world: &World,
    exchange: &wire::TokenExchange,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<TokenExchange> {
    let wire::TokenExchange { endpoint, client_id, client_secret_ref, audience, scopes, cache_seconds } = exchange;
    let path = "spec.upstream.tokenExchange";
    check_url(world, &format!("{path}.endpoint"), endpoint, notes)?;
    let (client_secret, _) =
        secret_text(world, &format!("{path}.clientSecretRef"), client_secret_ref, "clientSecret", secrets, notes)?;
    let Ok(cache_seconds @ 0..=3600) = u64::try_from(cache_seconds.unwrap_or(60)) else {
        return notes.fail(format!("{path}.cacheSeconds"), Cause::Invalid, "cacheSeconds must be between 0 and 3600");
    };
    let scopes = scopes.clone().unwrap_or_default();
    Some(TokenExchange {
        endpoint: endpoint.clone(),
        client_id: client_id.clone(),
        client_secret,
        audience: audience.clone(),
        scopes,
        cache_seconds,
    })
}
