//! The metadata of a policy's targets for OAuth clients (RFC 9728).

use bytes::Bytes;
use http::Response;
use idm_plan::{PathMatch, ProtectedResource, RESOURCE_METADATA_PATH, Scheme, resource_metadata_url};
use idm_request::RequestView;
use idm_types::{Reason, Refusal};
use serde_json::{Map, Value, json};

use crate::canonical::Canonical;
use crate::own::document;

/// Scheme, host and port by which the caller reached the gateway.
pub(crate) fn origin(canonical: &Canonical, https: bool) -> String {
    let scheme = if https { Scheme::Https } else { Scheme::Http };
    let authority = canonical.authority.to_str().unwrap_or(&canonical.host);
    let authority = authority.strip_suffix(&format!(":{}", scheme.default_port())).unwrap_or(authority);
    format!("{}://{authority}", scheme.name())
}

/// The address of the metadata of what a request asks for, where this is its match in the route.
pub(crate) fn address(resource: &ProtectedResource, canonical: &Canonical, https: bool, found: &PathMatch) -> String {
    if let Some(identifier) = &resource.identifier {
        return resource_metadata_url(&identifier.origin, &identifier.path);
    }
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = found;
    let path = if path == "/" { "" } else { path };
    resource_metadata_url(&origin(canonical, https), path)
}

/// The metadata document (RFC 9728 §2), for a request to its address.
pub(crate) fn answer(
    resource: &ProtectedResource,
    origin: &str,
    view: RequestView<'_>,
) -> Result<Response<Bytes>, Refusal> {
    if !matches!(view.method, "GET" | "HEAD") {
        return Err(Refusal::new(Reason::MethodNotAllowed, "metadata of a protected resource are read with GET"));
    }
    Ok(document(Some(&metadata(resource, origin, view.path)), true))
}

fn metadata(resource: &ProtectedResource, origin: &str, path: &str) -> Value {
    let ProtectedResource {
        identifier,
        name,
        documentation,
        scopes,
        authorization_servers,
        bearer_methods,
        dpop_required,
        certificate_required,
    } = resource;
    // The identifier in the document is the one that its address was made of (RFC 9728 §3.3).
    let of_request = || format!("{origin}{}", path.strip_prefix(RESOURCE_METADATA_PATH).unwrap_or_default());
    let identifier = identifier.as_ref().map_or_else(of_request, |identifier| identifier.text.clone());
    let mut members = Map::new();
    members.insert("resource".into(), identifier.into());
    let lists = [
        ("authorization_servers", authorization_servers),
        ("scopes_supported", scopes),
        ("bearer_methods_supported", bearer_methods),
    ];
    // A list without elements is left out (RFC 9728 §3.2).
    members.extend(lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| ((*name).into(), json!(list))));
    let texts = [("resource_name", name), ("resource_documentation", documentation)];
    members.extend(texts.iter().filter_map(|(name, text)| Some(((*name).to_owned(), text.as_deref()?.into()))));
    let required = [
        ("dpop_bound_access_tokens_required", dpop_required),
        ("tls_client_certificate_bound_access_tokens", certificate_required),
    ];
    members.extend(required.iter().filter(|(_, is)| **is).map(|(name, _)| ((*name).to_owned(), true.into())));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Version, header};

    use super::*;

    fn canonical(host: &str) -> Canonical {
        let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        Canonical::of(&Method::GET, &"/".parse().unwrap(), &headers, Version::HTTP_11).unwrap()
    }

    #[test]
    fn an_origin_has_no_port_that_its_scheme_implies() {
        for (host, https, expected) in [
            ("Shop.Example", true, "https://shop.example"),
            ("shop.example:443", true, "https://shop.example"),
            ("shop.example:443", false, "http://shop.example:443"),
            ("shop.example:80", false, "http://shop.example"),
            ("shop.example:8080", true, "https://shop.example:8080"),
            ("[::1]:80", false, "http://[::1]"),
            ("[::80]", false, "http://[::80]"),
        ] {
            assert_eq!(origin(&canonical(host), https), expected);
        }
    }
}
