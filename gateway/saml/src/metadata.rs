//! Metadata of a provider, and our own (SAML Metadata §2).

use idm_types::Timestamp;
use roxmltree::Node;

use crate::key::{OwnKey, VerifyingKey, from_base64};
use crate::xml::{DSIG, METADATA, attribute, children, escaped, is, parse, text, wanted};
use crate::{SamlError, without_comments, xml};

const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const PROTOCOLS: &str = "urn:oasis:names:tc:SAML:2.0:protocol";

/// The endpoints at which a provider takes one kind of message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// In a query.
    pub redirect: Option<String>,
    /// In a form.
    pub post: Option<String>,
}

/// A provider, as its metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// The endpoints for signing in.
    pub sign_on: Endpoints,
    /// The endpoints for logout.
    pub logout: Endpoints,
    /// The keys that it signs with: the present one and the next. Never empty.
    pub keys: Vec<VerifyingKey>,
    /// It wants requests signed.
    pub wants_signed_requests: bool,
    /// The certificates that cannot be used, each with its place and the reason.
    pub left_out: Vec<String>,
}

impl IdentityProvider {
    /// The provider of this name in a metadata document: an entity, or one of a federation's.
    pub fn read(document: &str, entity_id: &str, now: Timestamp) -> Result<Self, SamlError> {
        let plain = without_comments(document)?;
        let document = parse(&plain)?;
        let root = document.root_element();
        let is_entity = |node: &Node<'_, '_>| {
            is(*node, METADATA, "EntityDescriptor") && attribute(*node, "entityID") == Some(entity_id)
        };
        let mut found = document.descendants().filter(is_entity);
        let (Some(entity), None) = (found.next(), found.next()) else {
            return Err(SamlError::Missing("EntityDescriptor of this `entityID`"));
        };
        for node in [root, entity] {
            let until = attribute(node, "validUntil")
                .map(|text| Timestamp::parse_rfc3339(text).ok_or(SamlError::Malformed("a time is not one")))
                .transpose()?;
            if until.is_some_and(|until| now.0 >= until.0) {
                return Err(SamlError::NotNow("the metadata has expired"));
            }
        }
        let role = children(entity, METADATA, "IDPSSODescriptor")
            .find(|role| {
                attribute(*role, "protocolSupportEnumeration")
                    .is_some_and(|all| all.split_ascii_whitespace().any(|one| one == PROTOCOLS))
            })
            .ok_or(SamlError::Missing("IDPSSODescriptor for SAML 2.0"))?;
        // A key without `use` is for both (§2.4.1.1): it must not turn verification off.
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for descriptor in children(role, METADATA, "KeyDescriptor")
            .filter(|node| attribute(*node, "use").is_none_or(|usage| usage == "signing"))
        {
            for data in children(wanted(descriptor, DSIG, "KeyInfo")?, DSIG, "X509Data") {
                for certificate in children(data, DSIG, "X509Certificate") {
                    // An old certificate beside the present one does not take it along.
                    let key = from_base64(&text(certificate)?).and_then(|der| VerifyingKey::from_certificate(&der));
                    match key {
                        Ok(key) => keys.push(key),
                        Err(error) => left_out.push((keys.len() + left_out.len(), error)),
                    }
                }
            }
        }
        match (keys.is_empty(), left_out.first()) {
            (false, _) => {}
            (true, Some((_, error))) => return Err(error.clone()),
            (true, None) => return Err(SamlError::Missing("KeyDescriptor with a certificate for signing")),
        }
        let left_out = left_out.iter().map(|(at, error)| format!("certificate {}: {error}", at + 1)).collect();
        let sign_on = endpoints(role, "SingleSignOnService")?;
        if sign_on == Endpoints::default() {
            return Err(SamlError::Missing("SingleSignOnService"));
        }
        let wants_signed_requests = matches!(attribute(role, "WantAuthnRequestsSigned"), Some("true" | "1"));
        Ok(Self { sign_on, logout: endpoints(role, "SingleLogoutService")?, keys, wants_signed_requests, left_out })
    }

    /// Every address that browsers are sent to, with the element that names it. Each is http or https; which of them
    /// may be used, the caller judges.
    pub fn locations(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let kinds = [("SingleSignOnService", &self.sign_on), ("SingleLogoutService", &self.logout)];
        kinds.into_iter().flat_map(|(name, Endpoints { redirect, post })| {
            [redirect, post].into_iter().flatten().map(move |address| (name, address.as_str()))
        })
    }
}

fn endpoints(role: Node<'_, '_>, name: &str) -> Result<Endpoints, SamlError> {
    let of = |binding: &str| -> Result<Option<String>, SamlError> {
        let Some(node) = children(role, METADATA, name).find(|node| attribute(*node, "Binding") == Some(binding))
        else {
            return Ok(None);
        };
        let location = attribute(node, "Location").unwrap_or_default();
        // Browsers are sent there: nothing but a web address.
        let plain = location.bytes().all(|byte| (0x21..0x7f).contains(&byte) && !b"\"<>\\".contains(&byte))
            && !location.contains('#');
        let is_web = location.starts_with("https://") || location.starts_with("http://");
        if plain && is_web {
            Ok(Some(location.to_owned()))
        } else {
            Err(SamlError::Malformed("a location is not a web address"))
        }
    };
    Ok(Endpoints { redirect: of(REDIRECT)?, post: of(POST)? })
}

/// The content of our own metadata.
#[derive(Debug)]
pub struct OwnMetadata<'a> {
    /// Our entity id.
    pub entity_id: &'a str,
    /// The assertion consumer service.
    pub consumer: &'a str,
    /// The single logout service.
    pub logout: &'a str,
    /// The key that signs our requests and decrypts assertions.
    pub key: Option<&'a OwnKey>,
    /// Assertions must be signed by themselves.
    pub signed_assertions: bool,
    /// The format of names that we want.
    pub name_format: Option<&'a str>,
}

/// Our metadata.
pub fn own_metadata(own: &OwnMetadata<'_>) -> String {
    let OwnMetadata { entity_id, consumer, logout, key, signed_assertions, name_format } = own;
    let descriptor = |usage: &str, key: &OwnKey| {
        format!(
            "<md:KeyDescriptor use=\"{usage}\"><ds:KeyInfo xmlns:ds=\"{}\"><ds:X509Data>\
                <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>",
            xml::DSIG,
            key.certificate()
        )
    };
    let signing = key.map(|key| descriptor("signing", key)).unwrap_or_default();
    let encryption = key.filter(|key| key.opens()).map(|key| descriptor("encryption", key)).unwrap_or_default();
    let format =
        name_format.map(|format| format!("<md:NameIDFormat>{}</md:NameIDFormat>", escaped(format))).unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<md:EntityDescriptor xmlns:md=\"{METADATA}\" \
            entityID=\"{}\"><md:SPSSODescriptor AuthnRequestsSigned=\"{}\" \
         WantAssertionsSigned=\"{signed_assertions}\" protocolSupportEnumeration=\"{PROTOCOLS}\">{signing}{encryption}\
         <md:SingleLogoutService Binding=\"{REDIRECT}\" Location=\"{logout}\"/><md:SingleLogoutService \
         Binding=\"{POST}\" Location=\"{logout}\"/>{format}\
         <md:AssertionConsumerService Binding=\"{POST}\" Location=\"{consumer}\" index=\"0\" \
         isDefault=\"true\"/></md:SPSSODescriptor></md:EntityDescriptor>\n",
        escaped(entity_id),
        key.is_some(),
        logout = escaped(logout),
        consumer = escaped(consumer),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no one: its key was thrown away.
    const CERTIFICATE: &str = "MIIBcjCCARmgAwIBAgIUJb7UXOEUEgHkWVwsmAn1L3SnbO4wCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDaWRwM\
        CAXDTI2MTEyNjEy\
        MzI1MloYDzIxMjYxMTAyMTIzMjUyWjAOMQwwCgYDVQQDDANpZHAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATVFJUKQMgz6van\
        cyHaZBDZTH7U+zHVlVYhiywAn35Bq/PjmjOZJh8h/4PO50fCJdPvXcOqlDIHnVZsPWCZq8VGo1MwUTAdBgNVHQ4EFgQUnwFTf5/l\
        64O+m2mtAsGMXw7VdsAwHwYDVR0jBBgwFoAUnwFTf5/l64O+m2mtAsGMXw7VdsAwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\
        AgNHADBEAiAab1aTPAnSfvSBTn5w8OmjVh1e9Qd440F9YL9tNB9ZNQIgTKlymV2mx119xa8mZ8MP8P1V74bDS5B6Pvnbnc7tuZo=";

    fn with_certificates(certificates: &[&str]) -> Result<IdentityProvider, SamlError> {
        let descriptors: String = certificates
            .iter()
            .map(|one| {
                format!(
                    "<KeyDescriptor><KeyInfo xmlns='{DSIG}'><X509Data><X509Certificate>{one}</X509Certificate>\
                     </X509Data></KeyInfo></KeyDescriptor>"
                )
            })
            .collect();
        let document = format!(
            "<!-- terms of use --><EntityDescriptor xmlns='{METADATA}' entityID='x'><!-- a > b -->\
             <IDPSSODescriptor protocolSupportEnumeration='{PROTOCOLS}'>{descriptors}\
             <SingleSignOnService Binding='{REDIRECT}' Location='https://idp/'/></IDPSSODescriptor></EntityDescriptor>"
        );
        IdentityProvider::read(&document, "x", Timestamp(0))
    }

    #[test]
    fn f24_metadata_has_comments_and_an_old_certificate_takes_no_other_along() {
        let found = with_certificates(&["AAAA", CERTIFICATE, "!"]).unwrap();
        assert_eq!((found.keys.len(), found.left_out.len()), (1, 2));
        assert!(found.left_out[0].starts_with("certificate 1: "), "{:?}", found.left_out);
        assert_eq!(found.keys, with_certificates(&[&format!("<![CDATA[{CERTIFICATE}]]>")]).unwrap().keys);
        assert!(with_certificates(&["AAAA"]).is_err() && with_certificates(&[]).is_err());
    }

    fn read(sign_on: &str, logout: &str) -> Result<IdentityProvider, SamlError> {
        let document = format!(
            "<EntityDescriptor xmlns='{METADATA}' entityID='x'><IDPSSODescriptor \
                protocolSupportEnumeration='{PROTOCOLS}'>\
             <KeyDescriptor><KeyInfo \
             xmlns='{DSIG}'><X509Data><X509Certificate>{CERTIFICATE}</X509Certificate></X509Data></KeyInfo>\
             </KeyDescriptor><SingleLogoutService Binding='{REDIRECT}' Location='{logout}'/>\
             <SingleSignOnService Binding='{REDIRECT}' Location='{sign_on}'/></IDPSSODescriptor></EntityDescriptor>"
        );
        IdentityProvider::read(&document, "x", Timestamp(0))
    }

    #[test]
    fn browsers_are_sent_to_web_addresses_alone() {
        let found = read("https://idp/in?a=b", "http://idp/out").unwrap();
        assert_eq!(
            found.locations().collect::<Vec<_>>(),
            [("SingleSignOnService", "https://idp/in?a=b"), ("SingleLogoutService", "http://idp/out")]
        );
        let good = "https://idp/";
        for bad in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            " javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "ftp://idp/",
            "//idp/",
            "/in",
            "",
            "https:idp",
            "https://idp/#x",
            "https://idp/&#10;x",
            "https://idp/&#x202E;x",
            "https://idp/&quot;x",
            "https://idp\\x",
        ] {
            for (sign_on, logout) in [(bad, good), (good, bad)] {
                let error = read(sign_on, logout).unwrap_err();
                assert_eq!(error, SamlError::Malformed("a location is not a web address"), "{bad}");
            }
        }
    }
}
