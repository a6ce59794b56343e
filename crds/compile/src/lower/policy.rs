use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_plan::{
    CredentialForwarding, Disclosure, Expr, Federation, HeaderMapping, IdentityMapping, NameSet, ObjectKey, PathForm,
    Policy, Require, Rule, Secrets, TokenExchange, UpstreamSettings, Variable,
};

use super::Notes;
use super::baseline::{check_class_targets, lower_baseline};
use super::care::lower_care;
use super::cors::lower_policy_cors;
use super::jose::lower_steps;
use super::keys::{check_url, secret_text};
use super::limits::lower_policy_limits;
use super::llm::lower_policy_llm;
use super::methods::lower_methods;
use super::resource::lower_resource;
use super::source::header_name;
use super::token_service::lower_service;
use crate::{Cause, Condition, Object, World};

/// The variables that are known when a caller is authorized.
pub(crate) const CONDITION: &[Variable] = Variable::ALL;

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
        enforcement,
        authentication,
        authorization,
        limits,
        jose,
        llm,
        token_service,
        upstream,
        disclosure,
        cors,
        paths,
        resource,
        open_streams,
        baseline,
    } = &object.spec;
    check_class_targets(world, &object.spec, notes);
    let wire::Authentication { methods, identity } = match authentication {
        Some(authentication) => authentication.clone(),
        None => wire::Authentication { methods: Vec::new(), identity: None },
    };
    let methods = match authentication {
        Some(_) => lower_methods(world, federations, &methods, secrets, notes),
        None => Vec::new(),
    };
    let identity = lower_identity(identity.as_ref(), notes);
    let rules = lower_rules(authorization.as_ref(), notes);
    let limits = lower_policy_limits("spec.limits", limits.as_deref(), &methods, llm.is_some(), notes);
    let jose = lower_steps(world, jose.as_deref(), secrets, notes);
    let llm = lower_policy_llm(world, llm.as_ref(), &limits, secrets, notes);
    let token_service =
        token_service.as_ref().and_then(|service| lower_service(world, object, service, federations, secrets, notes));
    let upstream = lower_upstream(world, upstream.as_ref(), object.spec.llm.is_some(), secrets, notes);
    let cors = cors.as_ref().and_then(|cors| lower_policy_cors(cors, notes));
    let paths = paths.as_ref().map(|paths| lower_paths(paths, authorization.as_ref(), notes)).unwrap_or_default();
    let resource =
        resource.as_ref().and_then(|resource| lower_resource(world, resource, &methods, token_service.as_ref(), notes));
    let drain_streams_ms = super::streams::lower_open_streams(open_streams.as_ref(), notes);
    let shadow = *enforcement == Some(wire::Enforcement::Shadow);
    if shadow && object.spec.token_service.is_some() {
        let message =
            "`tokenService` must not be set with `enforcement: Shadow`: it answers, and a shadow answers nobody";
        notes.fail::<()>("spec.tokenService", Cause::Invalid, message);
    }
    let baseline = baseline.as_ref().map(|baseline| lower_baseline(baseline, &object.spec.target_refs, notes));
    if notes.failed {
        return None;
    }
    Some(Policy {
        baseline,
        keeps_claims: false,
        shadow,
        drain_streams_ms,
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        uid: object.meta.uid.clone(),
        generation: object.meta.generation,
        methods,
        identity,
        rules,
        limits,
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
    let wire::Upstream { headers, credential, token_exchange, capacity, ejection, retry } =
        upstream.unwrap_or(&default);
    let care = lower_care(capacity.as_ref(), ejection.as_ref(), retry.as_ref(), notes);
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
    UpstreamSettings { headers: lowered, credential, exchange, care }
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
