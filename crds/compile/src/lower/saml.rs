//! SAML identity providers.

use idm_api::v1alpha1 as wire;
use idm_plan::{SamlMetadata, SamlProvider, Secrets};
use idm_saml::{IdentityProvider, OwnKey, SamlError};
use idm_types::Timestamp;

use super::Notes;
use super::keys::{check_url, judge_url, secret_text};
use super::mtls::{certificate, lower_outgoing};
use crate::{Cause, Condition, World};

pub(crate) fn lower_saml(
    world: &World,
    saml: &wire::SamlProvider,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<SamlProvider> {
    let wire::SamlProvider {
        entity_id,
        metadata,
        service_provider,
        require_signed_assertions,
        name_id_format,
        request_binding,
        unsolicited,
    } = saml;
    let metadata = lower_metadata(world, entity_id, metadata, secrets, notes)?;
    let wire::SamlServiceProvider { entity_id: own_entity_id, key_ref } = service_provider.clone().unwrap_or_default();
    let key = match key_ref {
        None => None,
        Some(reference) => {
            let path = "spec.saml.serviceProvider.keyRef";
            let (chain, handle) = certificate(world, path, &reference.name, secrets, notes)?;
            let key =
                secrets.get(&handle).map(|key| String::from_utf8_lossy(key.reveal()).into_owned()).unwrap_or_default();
            if let Err(error) = OwnKey::from_pem(&chain, &key) {
                return notes.fail(path, Cause::InvalidRef, format!("Secret '{}': {error}", reference.name));
            }
            Some((chain, handle))
        }
    };
    let unsolicited = *unsolicited == Some(wire::Unsolicited::DangerAccept);
    if unsolicited {
        let message = "DangerAccept takes answers that nobody asked for: anyone with an account at the provider can \
                       sign another person's browser in as themselves";
        notes.report.push(
            &notes.object,
            "spec.saml.unsolicited",
            Condition::Programmed,
            Cause::DangerousOption,
            message,
        );
    }
    Some(SamlProvider {
        entity_id: entity_id.clone(),
        metadata,
        own_entity_id,
        key,
        signed_assertions: require_signed_assertions.unwrap_or(true),
        unsolicited,
        name_format: name_id_format.map(|format| uri(format).to_owned()),
        posts_requests: *request_binding == Some(wire::SamlBinding::Post),
    })
}

const fn uri(format: wire::NameIdFormat) -> &'static str {
    match format {
        wire::NameIdFormat::Persistent => "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        wire::NameIdFormat::Transient => "urn:oasis:names:tc:SAML:2.0:nameid-format:transient",
        wire::NameIdFormat::EmailAddress => "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        wire::NameIdFormat::Unspecified => "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
    }
}

fn lower_metadata(
    world: &World,
    entity_id: &str,
    metadata: &wire::SamlMetadata,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<SamlMetadata> {
    let wire::SamlMetadata { uri, inline, secret_ref, tls } = metadata;
    let path = "spec.saml.metadata";
    if tls.is_some() && uri.is_none() {
        return notes.fail(
            format!("{path}.tls"),
            Cause::Invalid,
            "`tls` must be set only with `uri`: nothing else is fetched",
        );
    }
    // Metadata in the document or its Secret is parsed once here, so that invalid metadata becomes a finding. The
    // gateway checks its validity period (`validUntil`), because that depends on the time.
    let checked = |text: String, path: String, cause, notes: &mut Notes<'_>| match IdentityProvider::read(
        &text,
        entity_id,
        Timestamp(0),
    ) {
        Ok(provider) => {
            for (name, address) in provider.locations() {
                if let Err(why) = judge_url(world, address) {
                    return notes.fail(path, cause, format!("`{name}`: {why}"));
                }
            }
            Some(SamlMetadata::Inline(text))
        }
        Err(error @ SamlError::Missing("EntityDescriptor of this `entityID`")) => {
            notes.fail(path, cause, format!("{error}: '{entity_id}' must stand there once"))
        }
        Err(error) => notes.fail(path, cause, error.to_string()),
    };
    match (uri, inline, secret_ref) {
        (Some(url), None, None) => {
            check_url(world, &format!("{path}.uri"), url, notes)?;
            let tls = match tls {
                Some(tls) => Some(lower_outgoing(world, &format!("{path}.tls"), tls, secrets, notes)?),
                None => None,
            };
            Some(SamlMetadata::Url { url: url.clone(), tls })
        }
        (None, Some(text), None) => checked(text.clone(), format!("{path}.inline"), Cause::Invalid, notes),
        (None, None, Some(reference)) => {
            let path = format!("{path}.secretRef");
            let (_, text) = secret_text(world, &path, reference, "metadata.xml", &mut Secrets::default(), notes)?;
            checked(text, path, Cause::InvalidRef, notes)
        }
        _ => notes.fail(path, Cause::Invalid, "metadata must have exactly one of `uri`, `inline`, `secretRef`"),
    }
}
