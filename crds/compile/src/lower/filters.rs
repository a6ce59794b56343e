//! Lowers the filters of HTTPRoute rules, and of their backends.

use gateway_api::apis::standard::httproutes as hr;
use idm_plan::{Cors, HeaderEdit, Mirror, Redirect, Rewrite};

use super::Notes;
use super::backend::{BackendReference, lower_backend};
use super::cors::lower_filter;
use super::redirect::{lower_redirect, lower_rewrite};
use super::route::LoweredMatch;
use super::source::header_name;
use crate::{Cause, RouteKind, World};

/// The changes that the filters of a rule ask for.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) headers: Vec<HeaderEdit>,
    pub(super) redirect: Option<Redirect>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) answer: Vec<HeaderEdit>,
    pub(super) cors: Option<Cors>,
    pub(super) mirrors: Vec<Mirror>,
}

pub(super) fn lower_filters(
    world: &World,
    path: &str,
    filters: &[hr::HttpRouteRulesFilters],
    matches: &[LoweredMatch],
    kind: RouteKind,
    notes: &mut Notes<'_>,
) -> Filters {
    let mut found = Filters::default();
    for (i, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{i}]");
        let once = |taken: bool, name: &str, notes: &mut Notes<'_>| {
            let why = format!("a rule must have one filter {name} at most");
            !taken || notes.fail::<()>(path.clone(), Cause::Invalid, why).is_some()
        };
        if let Some(given) = &filter.request_redirect {
            if once(found.redirect.is_some(), "RequestRedirect", notes) {
                found.redirect = lower_redirect(&format!("{path}.requestRedirect"), given, matches, notes);
            }
        } else if let Some(given) = &filter.url_rewrite {
            if once(found.rewrite.is_some(), "URLRewrite", notes) {
                found.rewrite = lower_rewrite(&format!("{path}.urlRewrite"), given, matches, notes);
            }
        } else if let Some(given) = &filter.cors {
            if once(found.cors.is_some(), "CORS", notes) {
                found.cors = lower_filter(&format!("{path}.cors"), given, notes);
            }
        } else if let Some(modifier) = &filter.request_header_modifier {
            let hr::HttpRouteRulesFiltersRequestHeaderModifier { add, remove, set } = modifier;
            let set = set.iter().flatten().map(|h| (&h.name, &h.value));
            let add = add.iter().flatten().map(|h| (&h.name, &h.value));
            found.headers.extend(lower_edits(set, add, remove, |name| request_header(&path, name, notes)));
        } else if let Some(modifier) = &filter.response_header_modifier {
            let hr::HttpRouteRulesFiltersResponseHeaderModifier { add, remove, set } = modifier;
            let set = set.iter().flatten().map(|h| (&h.name, &h.value));
            let add = add.iter().flatten().map(|h| (&h.name, &h.value));
            found.answer.extend(lower_edits(set, add, remove, |name| answer_header(&path, name, notes)));
        } else if let Some(mirror) = &filter.request_mirror {
            found.mirrors.extend(lower_mirror(world, &format!("{path}.requestMirror"), mirror, kind, notes));
        } else {
            notes.fail::<()>(path, Cause::UnsupportedValue, unsupported(&filter.r#type));
        }
    }
    found
}

/// A mirror whose backend cannot be resolved is left out, and named in the route's status; the rule stays in force.
fn lower_mirror(
    world: &World,
    path: &str,
    given: &hr::HttpRouteRulesFiltersRequestMirror,
    from: RouteKind,
    notes: &mut Notes<'_>,
) -> Option<Mirror> {
    let hr::HttpRouteRulesFiltersRequestMirror { backend_ref, fraction, percent } = given;
    let share = match (fraction, percent) {
        (None, None) => Ok((1, 1)),
        (None, Some(percent)) => Ok((*percent, 100)),
        (Some(of), None) => Ok((of.numerator, of.denominator.unwrap_or(100))),
        (Some(_), Some(_)) => Err("only one of `fraction` and `percent` must be given"),
    };
    let share = share.and_then(|(numerator, denominator)| {
        let (numerator, denominator) = (u32::try_from(numerator).ok(), u32::try_from(denominator).ok());
        let share = numerator.zip(denominator).filter(|(numerator, denominator)| numerator <= denominator);
        share.filter(|(_, denominator)| *denominator > 0).ok_or("the share must be between 0 and all of the requests")
    });
    let (numerator, denominator) = match share {
        Ok(share) => share,
        Err(why) => return notes.fail(path, Cause::Invalid, why),
    };
    let hr::HttpRouteRulesFiltersRequestMirrorBackendRef { group, kind, name, namespace, port } = backend_ref;
    let reference = BackendReference { group, kind, name, namespace, port, from };
    let failed = std::mem::take(&mut notes.failed);
    let backend = lower_backend(world, &format!("{path}.backendRef"), reference, 1, notes);
    if backend.is_none() && notes.ends_unresolved() {
        notes.failed = false;
    }
    notes.failed |= failed;
    Some(Mirror { backend: backend?, numerator, denominator })
}

/// The edits of requests to one backend, which can have no other filters.
pub(super) fn lower_filters_of_backend(
    path: &str,
    filters: &[hr::HttpRouteRulesBackendRefsFilters],
    notes: &mut Notes<'_>,
) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    for (i, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{i}]");
        let Some(modifier) = &filter.request_header_modifier else {
            let why = "the one filter of a backend that is supported is RequestHeaderModifier: put others on the rule";
            notes.fail::<()>(path, Cause::UnsupportedValue, why);
            continue;
        };
        let hr::HttpRouteRulesBackendRefsFiltersRequestHeaderModifier { add, remove, set } = modifier;
        let set = set.iter().flatten().map(|h| (&h.name, &h.value));
        let add = add.iter().flatten().map(|h| (&h.name, &h.value));
        edits.extend(lower_edits(set, add, remove, |name| request_header(&path, name, notes)));
    }
    edits
}

fn lower_edits<'f>(
    set: impl Iterator<Item = (&'f String, &'f String)>,
    add: impl Iterator<Item = (&'f String, &'f String)>,
    remove: &Option<Vec<String>>,
    mut named: impl FnMut(&str) -> Option<String>,
) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    edits.extend(set.filter_map(|(name, value)| Some(HeaderEdit::Set(named(name)?, value.clone()))));
    edits.extend(add.filter_map(|(name, value)| Some(HeaderEdit::Add(named(name)?, value.clone()))));
    edits.extend(remove.iter().flatten().filter_map(|name| Some(HeaderEdit::Remove(named(name)?))));
    edits
}

fn request_header(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let name = header_name(path, name, notes)?;
    if name.starts_with("x-authenticated-") {
        let why = format!("header '{name}' must be made by the policy's `upstream.headers`");
        return notes.fail(path, Cause::Invalid, why);
    }
    Some(name)
}

fn answer_header(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let name = header_name(path, name, notes)?;
    if name.starts_with("access-control-") {
        return notes.fail(path, Cause::Invalid, format!("header '{name}' must be made by the filter CORS"));
    }
    Some(name)
}

/// The filter by its name in the Gateway API, and what is there instead of it.
fn unsupported(filter: &hr::HttpRouteRulesFiltersType) -> String {
    use hr::HttpRouteRulesFiltersType::*;
    let supported = "supported are CORS, RequestHeaderModifier, RequestMirror, RequestRedirect, ResponseHeaderModifier \
                     and URLRewrite";
    let (name, instead) = match filter {
        Cors => return "a filter CORS must have its settings in `cors`".to_owned(),
        RequestHeaderModifier => {
            return "a filter RequestHeaderModifier must have its settings in `requestHeaderModifier`".to_owned();
        }
        RequestRedirect => return "a filter RequestRedirect must have its settings in `requestRedirect`".to_owned(),
        UrlRewrite => return "a filter URLRewrite must have its settings in `urlRewrite`".to_owned(),
        ResponseHeaderModifier => {
            return "a filter ResponseHeaderModifier must have its settings in `responseHeaderModifier`".to_owned();
        }
        RequestMirror => return "a filter RequestMirror must have its settings in `requestMirror`".to_owned(),
        ExtensionRef => ("ExtensionRef", "; what a policy does is attached by its `targetRefs`"),
    };
    format!("filter {name} is not supported: {supported}{instead}")
}
