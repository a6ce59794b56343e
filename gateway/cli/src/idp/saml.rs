//! SAML identity providers.

use idm_saml::IdentityProvider;
use idm_types::Timestamp;

use super::report::Report;
use super::{Found, Probe};

/// Whether a body looks like metadata.
pub(super) fn is_metadata(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body.get(..4096.min(body.len())).unwrap_or_default());
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<') && text.contains("EntityDescriptor")
}

/// The entity ids of a document, in order.
fn entities(text: &str) -> Vec<&str> {
    text.split("entityID=").skip(1).filter_map(|rest| rest.get(1..)?.split(['"', '\'']).next()).collect()
}

pub(super) fn probe(probe: &Probe, found: &Found, report: &mut Report) -> Option<String> {
    let text = String::from_utf8_lossy(&found.body).into_owned();
    let names = entities(&text);
    let entity_id = match (&probe.entity_id, names.as_slice()) {
        (Some(wanted), _) => wanted.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, several) => {
            report.failed(
                "entity",
                &format!("the document describes {} providers: {}", several.len(), several.join(", ")),
                "choose one with `--entity-id`",
            );
            return None;
        }
    };
    match IdentityProvider::read(&text, &entity_id, Timestamp::now()) {
        Err(error) => {
            report.failed("metadata", &error.to_string(), "ask the provider's administrator for current metadata");
            return None;
        }
        Ok(provider) => {
            report.good("entity", &entity_id);
            let bindings = |redirect: bool, post: bool| {
                [(redirect, "redirect"), (post, "form")]
                    .iter()
                    .filter(|(has, _)| *has)
                    .map(|(_, what)| *what)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            report.good("sign-in", bindings(provider.sign_on.redirect.is_some(), provider.sign_on.post.is_some()));
            match bindings(provider.logout.redirect.is_some(), provider.logout.post.is_some()).as_str() {
                "" => report.notable("sign-out", "the provider takes no requests to sign out: sessions end here alone"),
                how => report.good("sign-out", how),
            }
            report.good("certificates", format!("{} for signing", provider.keys.len()));
            if provider.wants_signed_requests {
                report.notable("requests", "the provider wants them signed: keep `serviceProvider.keyRef`");
            }
        }
    }
    let name = &probe.name;
    Some(format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata:\n  name: {name}\nspec:\n  saml:\n    \
            entityId: {entity_id}\n    metadata: {{uri: {}}}\n    serviceProvider:\n      keyRef: {{name: \
            {name}-sp}}   # a Secret of type kubernetes.io/tls: signs requests, opens encrypted assertions\n",
        probe.url
    ))
}
