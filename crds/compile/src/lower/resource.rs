//! A policy's targets as an OAuth protected resource (RFC 9728).

use idm_api::v1alpha1 as wire;
use idm_plan::{AccessTokens, Method, ProtectedResource, ResourceIdentifier, Source, TokenService};
use url::Url;

use super::Notes;
use super::keys::check_url;
use super::token_service::{base_path, is_scope};
use crate::{Cause, Condition, World};

const PATH: &str = "spec.resource";

pub(super) fn lower_resource(
    world: &World,
    resource: &wire::ProtectedResource,
    methods: &[Method],
    service: Option<&TokenService>,
    notes: &mut Notes<'_>,
) -> Option<ProtectedResource> {
    let wire::ProtectedResource { identifier, name, documentation, scopes, authorization_servers } = resource;
    let tokens = Tokens::of(methods);
    // A method that is not valid is a finding already.
    if !tokens.in_header && !notes.failed {
        let message = "the policy must have a method `jwt` or `introspection` that takes tokens in `Authorization`: \
                       the description says where to get those";
        return notes.fail(PATH, Cause::Invalid, message);
    }
    let identifier = match identifier {
        Some(text) => Some(lower_identifier(world, text, methods, notes)?),
        None => None,
    };
    if let Some(page) = documentation {
        if !Url::parse(page).is_ok_and(|url| ["https", "http"].contains(&url.scheme())) {
            let message = format!("'{page}' must be an http or https URL");
            return notes.fail(format!("{PATH}.documentation"), Cause::Invalid, message);
        }
    }
    if let Some(wrong) = scopes.iter().flatten().find(|scope| !is_scope(scope)) {
        let message = format!("'{wrong}' must be a scope: printable characters without space, quote and backslash");
        return notes.fail(format!("{PATH}.scopes"), Cause::Invalid, message);
    }
    for (i, issuer) in authorization_servers.iter().flatten().enumerate() {
        check_url(world, &format!("{PATH}.authorizationServers[{i}]"), issuer, notes)?;
    }
    let mut servers = authorization_servers.clone().unwrap_or_default();
    let known = tokens.issuers.iter().copied().chain(service.map(|service| service.issuer.as_str()));
    for issuer in known.filter(|_| authorization_servers.is_none()) {
        if !servers.iter().any(|server| server == issuer) {
            servers.push(issuer.to_owned());
        }
    }
    Some(ProtectedResource {
        identifier,
        name: name.clone(),
        documentation: documentation.clone(),
        scopes: scopes.clone().unwrap_or_default(),
        authorization_servers: servers,
        bearer_methods: tokens.bearer_methods(),
        dpop_required: tokens.all_dpop,
        certificate_required: tokens.all_certificate,
    })
}

/// The properties that the methods that take tokens have in common.
struct Tokens<'p> {
    issuers: Vec<&'p str>,
    /// In `Authorization`, by any scheme.
    in_header: bool,
    /// As a bearer token, in `Authorization` and in the query.
    bearer: bool,
    in_query: bool,
    all_dpop: bool,
    all_certificate: bool,
}

impl<'p> Tokens<'p> {
    fn of(methods: &'p [Method]) -> Self {
        let mut all = Self {
            issuers: vec![],
            in_header: false,
            bearer: false,
            in_query: false,
            all_dpop: true,
            all_certificate: true,
        };
        for method in methods {
            let Some(AccessTokens { issuers, confirmation }) = method.kind.access_tokens() else { continue };
            all.issuers.extend(issuers.iter().map(|(issuer, _)| *issuer));
            all.all_dpop &= confirmation.dpop;
            all.all_certificate &= confirmation.certificate;
            for source in method.kind.sources() {
                match source {
                    Source::Header { name, scheme: Some(scheme) } if name == "authorization" => {
                        all.in_header = true;
                        all.bearer |= scheme.eq_ignore_ascii_case("bearer");
                    }
                    // RFC 6750 §2.3 names the parameter.
                    Source::Query { name, .. } => all.in_query |= name == "access_token",
                    Source::Header { .. } | Source::Cookie { .. } => {}
                }
            }
        }
        all
    }

    fn bearer_methods(&self) -> Vec<String> {
        let places = [("header", self.bearer), ("query", self.in_query)];
        places.iter().filter(|(_, taken)| *taken).map(|(place, _)| (*place).to_owned()).collect()
    }
}

/// The identifier, which the tokens that are accepted must be made for (RFC 8707).
fn lower_identifier(
    world: &World,
    text: &str,
    methods: &[Method],
    notes: &mut Notes<'_>,
) -> Option<ResourceIdentifier> {
    let path = format!("{PATH}.identifier");
    check_url(world, &path, text, notes)?;
    let parsed = Url::parse(text).ok().zip(base_path(text)).filter(|_| !text.ends_with('/'));
    let Some((url, base)) = parsed else {
        let message = format!(
            "'{text}' must be a URL without query, fragment, slash at its end, or anything in its path that has two \
             readings"
        );
        return notes.fail(path, Cause::Invalid, message);
    };
    for method in methods {
        let Some(AccessTokens { issuers, confirmation: _ }) = method.kind.access_tokens() else { continue };
        let name = &method.name;
        for (issuer, _) in issuers.iter().filter(|(_, audiences)| !audiences.iter().any(|audience| audience == text)) {
            let message = format!(
                "method '{name}' does not have '{text}' among the `audiences` of issuer '{issuer}': tokens that \
                 clients get for this resource are refused, and those that were made for others are accepted"
            );
            notes.report.push(&notes.object, &path, Condition::Programmed, Cause::DangerousOption, message);
        }
    }
    Some(ResourceIdentifier { text: text.to_owned(), origin: url.origin().ascii_serialization(), path: base })
}
