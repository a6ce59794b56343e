//! SAML and `samael`: each reads the messages and metadata of the other, and signatures in queries hold both ways.
//! Its XML signatures want libraries that are not everywhere; `xmlsec1` makes them here, as it does in the black-box
//! tests, where signed and encrypted XML of others is checked both ways.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_saml::{
    AuthnRequest, Carried, Expected, IdentityProvider, NameId, OwnKey, OwnMetadata, RedirectMessage, Response,
    SamlError, VerifyingKey, authn_request, logout_request, own_metadata, redirect_url,
};
use idm_tests::{IDP, SLO, SSO, SamlIdp, now};
use idm_types::{Skew, Timestamp};
use openssl::pkey::PKey;
use samael::crypto::{CertificateDer, UrlVerifier, decode_x509_cert, sign_url};
use samael::idp::response_builder::{ResponseAttribute, build_response_template};
use samael::idp::sp_extractor::{RequiredAttribute, SPMetadataExtractor};
use samael::key_info::{KeyInfo, X509Data};
use samael::metadata::{
    Endpoint, EntityDescriptor, HTTP_POST_BINDING, HTTP_REDIRECT_BINDING, IdpSsoDescriptor, KeyDescriptor,
};
use samael::schema::{Issuer, Response as TheirResponse};
use samael::signature::DigestAlgorithm;
use samael::traits::ToXml;

const SP: &str = "https://shop.example/saml";
const CONSUMER: &str = "https://shop.example/_idm/acs/idp";
const LOGOUT: &str = "https://shop.example/_idm/logout";
const PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
const MFA: &str = "https://refeds.org/profile/mfa";

fn at_present() -> Timestamp {
    Timestamp::from_seconds(now())
}

fn der(idp: &SamlIdp, name: &str) -> CertificateDer {
    let pem = idp.read(&format!("{name}.crt"));
    decode_x509_cert(&pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()).unwrap()
}

fn own_key(idp: &SamlIdp) -> OwnKey {
    OwnKey::from_pem(&idp.read("sp.crt"), &idp.read("sp.key")).unwrap()
}

fn request(contexts: &[String]) -> AuthnRequest<'_> {
    AuthnRequest {
        id: "_r1",
        entity_id: SP,
        destination: SSO,
        consumer: CONSUMER,
        name_format: Some(PERSISTENT),
        contexts,
        force: true,
    }
}

#[test]
fn our_request_to_sign_in_is_read_by_samael() {
    let contexts = [MFA.to_owned()];
    let text = authn_request(&request(&contexts), at_present(), None).unwrap();
    let read: samael::schema::AuthnRequest = text.parse().unwrap();
    assert_eq!((read.id.as_str(), read.version.as_str()), ("_r1", "2.0"));
    assert_eq!(read.issue_instant.timestamp(), now() as i64);
    assert_eq!((read.issuer_value().as_deref(), read.destination.as_deref()), (Some(SP), Some(SSO)));
    assert_eq!(read.assertion_consumer_service_url.as_deref(), Some(CONSUMER));
    assert_eq!((read.protocol_binding.as_deref(), read.force_authn), (Some(HTTP_POST_BINDING), Some(true)));
    assert_eq!(read.name_id_policy.and_then(|policy| policy.format).as_deref(), Some(PERSISTENT));
    let contexts = read.requested_authn_context.and_then(|wanted| wanted.authn_context_class_refs).unwrap();
    assert_eq!(contexts.iter().map(|class| class.value.as_deref()).collect::<Vec<_>>(), [Some(MFA)]);
}

#[test]
fn our_request_to_sign_out_is_read_by_samael() {
    let name = NameId { value: "ana".into(), format: Some(PERSISTENT.into()), ..NameId::default() };
    let text = logout_request("_l1", SP, SLO, &name, Some("session-1"), at_present());
    let read: samael::schema::LogoutRequest = text.parse().unwrap();
    assert_eq!((read.id.as_deref(), read.destination.as_deref()), (Some("_l1"), Some(SLO)));
    assert_eq!(read.issuer.and_then(|issuer| issuer.value).as_deref(), Some(SP));
    assert_eq!(read.name_id.map(|name| name.value).as_deref(), Some("ana"));
}

#[test]
fn our_signature_in_a_query_holds_for_samael() {
    let idp = SamlIdp::new();
    let text = authn_request(&request(&[]), at_present(), None).unwrap();
    let url = redirect_url(SSO, Carried::Request, &text, Some("/orders?x=1&y"), Some(&own_key(&idp))).unwrap();
    let holds = |url: &str, key: &str| {
        let verifier = UrlVerifier::from_x509(&der(&idp, key)).unwrap();
        verifier.verify_signed_request_url(&url.parse().unwrap()).unwrap()
    };
    assert!(holds(&url, "sp"));
    assert!(!holds(&url, "attacker"));
    assert!(!holds(&url.replace("%2Forders", "%2Forderz"), "sp"), "the relay state is signed too");
}

#[test]
fn samaels_signature_in_a_query_holds_for_us() {
    let idp = SamlIdp::new();
    let request = samael::schema::AuthnRequest {
        id: "_theirs".into(),
        version: "2.0".into(),
        destination: Some(SLO.into()),
        issuer: Some(Issuer { value: Some(IDP.into()), ..Issuer::default() }),
        ..Default::default()
    };
    let key = PKey::private_key_from_pem(idp.read("idp.key").as_bytes()).unwrap();
    let signed = sign_url(request.redirect("relay & state").unwrap().unwrap(), &key).unwrap();
    let keys = |name: &str| VerifyingKey::from_pem(&idp.read(&format!("{name}.crt"))).unwrap();
    let message = RedirectMessage::of(signed.query().unwrap()).unwrap();
    assert!(message.verified(&keys("idp")).unwrap().contains("ID=\"_theirs\""));
    assert_eq!(message.relay_state().as_deref(), Some("relay & state"));
    assert_eq!(message.verified(&keys("attacker")), Err(SamlError::UnknownSigner));
    let altered = signed.query().unwrap().replace("relay", "reley");
    assert_eq!(RedirectMessage::of(&altered).unwrap().verified(&keys("idp")), Err(SamlError::UnknownSigner));
}

#[test]
fn our_metadata_is_read_by_samael() {
    let idp = SamlIdp::new();
    let key = own_key(&idp);
    let text = own_metadata(&OwnMetadata {
        entity_id: SP,
        consumer: CONSUMER,
        logout: LOGOUT,
        key: Some(&key),
        signed_assertions: true,
        name_format: Some(PERSISTENT),
    });
    let extracted = SPMetadataExtractor::try_from_xml(&text).unwrap();
    assert_eq!((extracted.issuer().unwrap().as_str(), extracted.acs().unwrap().url.as_str()), (SP, CONSUMER));
    assert_eq!(extracted.verification_cert().unwrap(), der(&idp, "sp"));
    let read: EntityDescriptor = text.parse().unwrap();
    let [service] = read.sp_sso_descriptors.as_deref().unwrap() else { panic!("one role: {text}") };
    assert_eq!((service.authn_requests_signed, service.want_assertions_signed), (Some(true), Some(true)));
    assert_eq!(service.name_id_formats.as_deref(), Some([PERSISTENT.to_owned()].as_slice()));
    let logout: Vec<_> = service.single_logout_services.iter().flatten().map(|place| &*place.binding).collect();
    assert_eq!(logout, [HTTP_REDIRECT_BINDING, HTTP_POST_BINDING]);
    let uses: Vec<_> = service.key_descriptors.iter().flatten().map(|key| key.key_use.as_deref()).collect();
    assert_eq!(uses, [Some("signing"), Some("encryption")]);
}

fn their_metadata(idp: &SamlIdp) -> EntityDescriptor {
    let place = |binding: &str, location: &str| Endpoint {
        binding: binding.into(),
        location: location.into(),
        response_location: None,
    };
    let certificate = STANDARD.encode(der(idp, "idp").der_data());
    let key = KeyDescriptor {
        key_use: Some("signing".into()),
        key_info: KeyInfo { id: None, x509_data: Some(X509Data { certificates: vec![certificate] }) },
        encryption_methods: None,
    };
    let role = IdpSsoDescriptor {
        id: None,
        valid_until: None,
        cache_duration: None,
        protocol_support_enumeration: Some("urn:oasis:names:tc:SAML:2.0:protocol".into()),
        error_url: None,
        signature: None,
        key_descriptors: vec![key],
        organization: None,
        contact_people: vec![],
        artifact_resolution_service: vec![],
        single_logout_services: vec![place(HTTP_REDIRECT_BINDING, SLO)],
        manage_name_id_services: vec![],
        name_id_formats: vec![],
        want_authn_requests_signed: None,
        single_sign_on_services: vec![place(HTTP_REDIRECT_BINDING, SSO), place(HTTP_POST_BINDING, SSO)],
        name_id_mapping_services: vec![],
        assertion_id_request_services: vec![],
        attribute_profiles: vec![],
        attributes: vec![],
    };
    EntityDescriptor {
        entity_id: Some(IDP.into()),
        idp_sso_descriptors: Some(vec![role]),
        ..EntityDescriptor::default()
    }
}

#[test]
fn samaels_metadata_is_read_by_us() {
    let idp = SamlIdp::new();
    let mut theirs = their_metadata(&idp);
    let read = IdentityProvider::read(&theirs.to_string().unwrap(), IDP, at_present()).unwrap();
    assert_eq!((read.sign_on.redirect.as_deref(), read.sign_on.post.as_deref()), (Some(SSO), Some(SSO)));
    assert_eq!((read.logout.redirect.as_deref(), read.logout.post.as_deref()), (Some(SLO), None));
    assert_eq!(read.keys, VerifyingKey::from_pem(&idp.read("idp.crt")).unwrap());
    theirs.valid_until = Some(chrono::DateTime::from_timestamp(now() as i64 - 60, 0).unwrap());
    let late = IdentityProvider::read(&theirs.to_string().unwrap(), IDP, at_present());
    assert!(matches!(late, Err(SamlError::NotNow(_))), "{late:?}");
}

/// A response as samael writes it, to be signed by xmlsec1.
fn their_response(idp: &SamlIdp, audience: &str, issuer: &str) -> TheirResponse {
    let attribute = ResponseAttribute {
        required_attribute: RequiredAttribute { name: "groups".into(), format: None },
        value: "order-reader",
    };
    let mut response =
        build_response_template(&der(idp, "idp"), "ana", audience, issuer, CONSUMER, "_r1", &[attribute]);
    // It would take SHA-1, which nothing here takes, and leave the assertion valid for ever.
    let signature = response.signature.as_mut().unwrap();
    signature.signed_info.reference[0].digest_method.algorithm = DigestAlgorithm::Sha256;
    let until = chrono::DateTime::from_timestamp(now() as i64 + 120, 0);
    let assertion = response.assertion.as_mut().unwrap();
    assertion.conditions.as_mut().unwrap().not_on_or_after = until;
    let confirmations = assertion.subject.as_mut().unwrap().subject_confirmations.as_mut().unwrap();
    confirmations[0].subject_confirmation_data.as_mut().unwrap().not_on_or_after = until;
    response
}

fn accept(idp: &SamlIdp, document: &str) -> Result<idm_saml::Assertion, SamlError> {
    let keys = VerifyingKey::from_pem(&idp.read("idp.crt")).unwrap();
    let expected = Expected {
        issuer: IDP,
        keys: &keys,
        audience: SP,
        consumer: CONSUMER,
        own_key: None,
        signed_assertions: false,
        unsolicited: false,
        skew: Skew::from_seconds(5),
        now: at_present(),
    };
    Response::posted(&STANDARD.encode(document)).unwrap().accept(&expected)
}

#[test]
fn samaels_response_is_taken_by_us_when_the_providers_key_signed_it() {
    let idp = SamlIdp::new();
    let text = their_response(&idp, SP, IDP).to_string().unwrap();
    let taken = accept(&idp, &idp.sign(&text, "idp")).unwrap();
    assert_eq!((taken.name.value.as_str(), taken.in_response_to.as_deref()), ("ana", Some("_r1")));
    assert_eq!(taken.attributes, [("groups".to_owned(), vec!["order-reader".to_owned()])]);

    assert_eq!(accept(&idp, &idp.sign(&text, "attacker")), Err(SamlError::UnknownSigner));
    let altered = idp.sign(&text, "idp").replace(">ana<", ">eve<");
    assert!(matches!(accept(&idp, &altered), Err(SamlError::Signature(_))));
    let mut unsigned = their_response(&idp, SP, IDP);
    unsigned.signature = None;
    assert_eq!(accept(&idp, &unsigned.to_string().unwrap()), Err(SamlError::NotSigned));
    let for_another = their_response(&idp, "https://another.example", IDP).to_string().unwrap();
    assert!(matches!(accept(&idp, &idp.sign(&for_another, "idp")), Err(SamlError::NotForUs(_))));
    let of_another = their_response(&idp, SP, "https://another.example").to_string().unwrap();
    assert_eq!(accept(&idp, &idp.sign(&of_another, "idp")), Err(SamlError::WrongIssuer));
    let mut sha1 = their_response(&idp, SP, IDP);
    sha1.signature.as_mut().unwrap().signed_info.reference[0].digest_method.algorithm = DigestAlgorithm::Sha1;
    assert!(matches!(accept(&idp, &idp.sign(&sha1.to_string().unwrap(), "idp")), Err(SamlError::Algorithm(_))));
}
