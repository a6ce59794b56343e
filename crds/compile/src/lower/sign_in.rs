//! The method `signIn`.

use idm_api::v1alpha1 as wire;
use idm_plan::{Federation, Pages, PersonCredentials, RequiredClaim, SignInMethod, StepUp, Variable, canonical_path};
use url::{Host, Url};

use super::Notes;
use super::policy::expr;
use super::source::lower_selector;
use crate::{Cause, World};

const DEFAULT_BASE: &str = "/_idm";
const DEFAULT_IDLE_SECONDS: i64 = 1800;
const DEFAULT_ABSOLUTE_SECONDS: i64 = 36_000;

pub(crate) fn lower_sign_in(
    world: &World,
    federations: &[Federation],
    path: &str,
    method: &wire::SignInMethod,
    notes: &mut Notes<'_>,
) -> Option<SignInMethod> {
    let wire::SignInMethod {
        federation_refs,
        base_path,
        origins,
        session,
        required_claims,
        step_up,
        credentials,
        logout,
        pages,
    } = method;
    if !world.settings.remembers_together {
        let message = "signIn needs a store that all gateway pods share: set `gateway.store.url` in the chart's values";
        return notes.fail(path, Cause::UnsupportedValue, message);
    }
    let base = base_path.clone().unwrap_or_else(|| DEFAULT_BASE.into());
    if !base.starts_with('/')
        || base.len() < 2
        || !canonical_path(&base).is_ok_and(|canonical| canonical == base)
        || base.ends_with('/')
    {
        return notes.fail(
            format!("{path}.basePath"),
            Cause::Invalid,
            "basePath must be a path such as /_idm, without a slash at its end",
        );
    }
    let wire::SessionSettings { idle_seconds, absolute_seconds } = session.clone().unwrap_or_default();
    let (idle, absolute) =
        (idle_seconds.unwrap_or(DEFAULT_IDLE_SECONDS), absolute_seconds.unwrap_or(DEFAULT_ABSOLUTE_SECONDS));
    if !(60..=604_800).contains(&idle) {
        return notes.fail(
            format!("{path}.session.idleSeconds"),
            Cause::Invalid,
            "idleSeconds must be between 60 and 604800",
        );
    }
    if !(60..=2_592_000).contains(&absolute) {
        return notes.fail(
            format!("{path}.session.absoluteSeconds"),
            Cause::Invalid,
            "absoluteSeconds must be between 60 and 2592000",
        );
    }
    let credentials = match credentials {
        Some(wire::PersonCredentials { user, selector }) => Some(PersonCredentials {
            user: expr(&format!("{path}.credentials.user"), user, &[Variable::Token], notes)?,
            only: lower_selector(selector.as_ref()),
        }),
        None => None,
    };
    Some(SignInMethod {
        federations: lower_refs(world, federations, &format!("{path}.federationRefs"), federation_refs, notes)?,
        base,
        origins: lower_origins(world, &format!("{path}.origins"), origins.as_deref().unwrap_or_default(), notes)?,
        idle_seconds: idle.unsigned_abs(),
        absolute_seconds: absolute.unsigned_abs(),
        required: lower_required(
            &format!("{path}.requiredClaims"),
            required_claims.as_deref().unwrap_or_default(),
            notes,
        )?,
        step_up: lower_step_up(&format!("{path}.stepUp"), step_up.as_ref(), notes)?,
        credentials,
        after_logout: lower_return(&format!("{path}.logout.returnTo"), logout.as_ref(), notes)?,
        pages: lower_pages(&format!("{path}.pages"), pages.as_ref(), notes)?,
    })
}

fn lower_refs(
    world: &World,
    federations: &[Federation],
    path: &str,
    references: &[wire::ObjectReference],
    notes: &mut Notes<'_>,
) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (i, wire::ObjectReference { name }) in references.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Some(object) = world.federations.iter().find(|federation| federation.meta.name == *name) else {
            return notes.fail(
                path,
                Cause::RefNotFound,
                format!("Federation '{name}' must exist in this namespace and be readable"),
            );
        };
        if object.spec.oidc.as_ref().is_some_and(|oidc| oidc.client.is_none()) {
            let message = format!("Federation '{name}' must have an `oidc.client` with which people sign in");
            return notes.fail(path, Cause::InvalidRef, message);
        }
        if !federations.iter().any(|federation| federation.key.name == *name) {
            return notes.fail(path, Cause::InvalidRef, format!("Federation '{name}' must be valid: read its status"));
        }
        if names.contains(name) {
            return notes.fail(path, Cause::Invalid, format!("Federation '{name}' must be listed once"));
        }
        names.push(name.clone());
    }
    if names.is_empty() {
        return notes.fail(path, Cause::Invalid, "at least one Federation must be given");
    }
    Some(names)
}

/// Origins as browsers write them: scheme, host, and a port unless it is the scheme's default.
fn lower_origins(world: &World, path: &str, origins: &[String], notes: &mut Notes<'_>) -> Option<Vec<String>> {
    let mut lowered: Vec<String> = Vec::new();
    for (i, text) in origins.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let url = Url::parse(text).ok().filter(|url| {
            url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !text.ends_with('/')
        });
        let Some(url) = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.host().is_some())
        else {
            return notes.fail(
                path,
                Cause::Invalid,
                format!("'{text}' must be an origin such as https://shop.example, without a path"),
            );
        };
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => {}
            "http" if here || world.settings.danger_insecure_issuers => {}
            _ => {
                return notes.fail(
                    path,
                    Cause::Invalid,
                    "an origin must be https: over plain http anyone on the way could take the session",
                );
            }
        }
        lowered.push(url.origin().ascii_serialization());
    }
    Some(lowered)
}

fn lower_required(path: &str, required: &[wire::RequiredClaim], notes: &mut Notes<'_>) -> Option<Vec<RequiredClaim>> {
    let mut lowered = Vec::new();
    for (i, wire::RequiredClaim { claim, values }) in required.iter().enumerate() {
        let members = claim_path(&format!("{path}[{i}].claim"), claim, notes)?;
        if values.as_ref().is_some_and(Vec::is_empty) {
            return notes.fail(
                format!("{path}[{i}].values"),
                Cause::Invalid,
                "at least one value must be given; leave `values` out to take any",
            );
        }
        lowered.push(RequiredClaim { path: members, values: values.clone().unwrap_or_default() });
    }
    Some(lowered)
}

/// A claim, and the members to follow inside it. Names that contain dots themselves, as names of SAML attributes may,
/// are URIs or OIDs and are not split.
pub(crate) fn claim_path(path: &str, claim: &str, notes: &mut Notes<'_>) -> Option<Vec<String>> {
    if claim.contains(':') {
        return Some(vec![claim.to_owned()]);
    }
    let members: Vec<String> = claim.split('.').map(str::to_owned).collect();
    if members.iter().any(String::is_empty) {
        return notes.fail(path, Cause::Invalid, "claim must be a name such as `hd`, or names with a dot between them");
    }
    Some(members)
}

fn lower_step_up(path: &str, step_up: Option<&wire::StepUp>, notes: &mut Notes<'_>) -> Option<StepUp> {
    let Some(wire::StepUp { acr_values, max_age_seconds }) = step_up else { return Some(StepUp::default()) };
    let acr = acr_values.clone().unwrap_or_default();
    if acr.is_empty() && max_age_seconds.is_none() {
        return notes.fail(path, Cause::Invalid, "stepUp must have `acrValues`, `maxAgeSeconds` or both");
    }
    let max_age_seconds = match max_age_seconds.map(u64::try_from) {
        None => None,
        Some(Ok(seconds @ 60..=604_800)) => Some(seconds),
        Some(_) => {
            return notes.fail(
                format!("{path}.maxAgeSeconds"),
                Cause::Invalid,
                "maxAgeSeconds must be between 60 and 604800",
            );
        }
    };
    Some(StepUp { acr, max_age_seconds })
}

fn lower_return(path: &str, logout: Option<&wire::LogoutSettings>, notes: &mut Notes<'_>) -> Option<Option<String>> {
    let Some(wire::LogoutSettings { return_to: Some(text) }) = logout else { return Some(None) };
    let local = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    let elsewhere = Url::parse(text)
        .is_ok_and(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
    if !(local || elsewhere) || text.chars().any(|c| c.is_control() || c == ' ') {
        return notes.fail(path, Cause::Invalid, "returnTo must be an https URL or a path");
    }
    Some(Some(text.clone()))
}

fn lower_pages(path: &str, pages: Option<&wire::Pages>, notes: &mut Notes<'_>) -> Option<Pages> {
    let Some(wire::Pages { title, logo_uri, accent_color }) = pages else { return Some(Pages::default()) };
    let plain = |text: &str| !text.chars().any(|c| c.is_control() || c.is_whitespace() || "\"'<>\\;,".contains(c));
    let is_logo = |text: &str| {
        plain(text)
            && ((text.starts_with('/') && !text.starts_with("//"))
                || Url::parse(text).is_ok_and(|url| url.scheme() == "https"))
    };
    if logo_uri.as_deref().is_some_and(|logo| !is_logo(logo)) {
        return notes.fail(format!("{path}.logoUri"), Cause::Invalid, "logoUri must be an https URL or a path");
    }
    let is_colour = |text: &str| {
        text.len() == 7 && text.starts_with('#') && text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit())
    };
    if accent_color.as_deref().is_some_and(|colour| !is_colour(colour)) {
        return notes.fail(
            format!("{path}.accentColor"),
            Cause::Invalid,
            "accentColor must be a colour such as #0b5fff",
        );
    }
    Some(Pages { title: title.clone(), logo: logo_uri.clone(), accent: accent_color.clone() })
}
