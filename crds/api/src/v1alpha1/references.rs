//! The Secrets and ConfigMaps that objects refer to.
//!
//! Each type is taken apart without `..`: a field that is added does not compile until it is said whether it refers to
//! one.

use super::{
    AnonymousMethod, ApiKeyMethod, Authentication, ChosenKey, CredentialSpec, DatabaseDirectory, DirectoryTls,
    FederationSpec, IdentityPolicySpec, IntrospectionMethod, JoseConsume, JoseDecrypt, JoseEncrypt, JoseProduce,
    JoseSign, JoseStep, JoseVerify, JwtIssuer, JwtMethod, KeyReference, KeySources, LdapBind, LdapDirectory,
    LdapSimpleBind, Llm, MtlsMethod, OauthClientCredential, ObjectReference, OidcAssertion, OidcClient,
    OidcClientAuthentication, OidcProvider, OutgoingTls, PrivateKeyJwt, RestDirectory, RestHeader, RestRequest,
    SamlMetadata, SamlProvider, SamlServiceProvider, SigningSettings, TokenExchange, TokenService, TrustBundleKind,
    TrustBundleReference, TrustedCertificates, Upstream,
};

/// The names of Secrets and ConfigMaps that objects refer to; a name may come more than once.
#[derive(Debug, Default)]
pub struct ReferredNames<'a> {
    /// Names of Secrets, in the order of the fields.
    pub secrets: Vec<&'a str>,
    /// Names of ConfigMaps, in the order of the fields.
    pub config_maps: Vec<&'a str>,
}

/// Refers to Secrets and ConfigMaps of its own namespace.
pub trait References {
    /// Adds their names.
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>);
}

impl<T: References> References for Option<T> {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        self.iter().for_each(|one| one.refer(names));
    }
}

impl<T: References> References for Vec<T> {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        self.iter().for_each(|one| one.refer(names));
    }
}

impl References for KeyReference {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        let Self { name, key: _ } = self;
        names.secrets.push(name);
    }
}

impl References for TrustBundleReference {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        let Self { kind, name, key: _ } = self;
        match kind.unwrap_or_default() {
            TrustBundleKind::Secret => names.secrets.push(name),
            TrustBundleKind::ConfigMap => names.config_maps.push(name),
        }
    }
}

/// The name of an object that is a Secret.
fn secret<'a>(reference: &'a ObjectReference, names: &mut ReferredNames<'a>) {
    let ObjectReference { name } = reference;
    names.secrets.push(name);
}

/// Says of each type which fields refer to Secrets or ConfigMaps, and which do not; here, or in the file of the type.
macro_rules! refer {
    ($($type:ident { $($field:ident),* ; $($none:ident),* })*) => {
        $(#[allow(unused_variables)]
        impl $crate::v1alpha1::References for $type {
            fn refer<'a>(&'a self, names: &mut $crate::v1alpha1::ReferredNames<'a>) {
                let Self { $($field,)* $($none: _,)* } = self;
                $($crate::v1alpha1::References::refer($field, names);)*
            }
        })*
    };
}
pub(super) use refer;

refer! {
    IdentityPolicySpec {
        authentication, jose, llm, token_service, upstream;
        target_refs, enforcement, authorization, limits, disclosure, cors, paths, resource, open_streams, baseline
    }
    Authentication { methods; identity }
    JwtMethod { issuers; sources, clock_skew_seconds, confirmation }
    JwtIssuer { keys; issuer, federation_ref, token_service_ref, audiences, client_ids, algorithms, types, profile }
    KeySources { secret_ref, tls; discovery, jwks_uri, inline }
    IntrospectionMethod {
        client_secret_ref;
        issuer, endpoint, client_id, audiences, sources, cache_seconds, confirmation
    }
    MtlsMethod { trust_bundle_ref, revocation_list_ref; names, identity, trusted_proxies }
    ApiKeyMethod { ; sources, credential_selector }
    AnonymousMethod { ; }
    TrustedCertificates { trust_bundle_ref, revocation_list_ref; names }
    Upstream { token_exchange; headers, credential, capacity, ejection, retry }
    TokenExchange { client_secret_ref; endpoint, client_id, audience, scopes, cache_seconds }
    Llm { key_ref; max_request_bytes, provider, quotas, rules }
    TokenService { signing; issuer, audiences, grants, credential_selector, validators, access_token, refresh_token }
    SigningSettings { secret_ref; algorithm, rotate_every_days, publish_ahead_seconds }
    JoseStep { consume, produce; name }
    JoseConsume { decrypt, verify; from, serialization, to }
    JoseDecrypt { secret_ref; algorithms, encryptions }
    JoseVerify { keys, certificates; algorithms, detached_header, claims }
    JoseProduce { sign, encrypt; message, from, to }
    JoseSign { key_ref, keys; key_for, algorithm, form, typ, cty, certificate, claims }
    ChosenKey { key_ref; value }
    JoseEncrypt { key_ref; jwk, algorithm, encryption, cty, serialization }
    CredentialSpec {
        oauth_client, signature, hmac_jwt, secret_ref;
        owner, api_key, password, person, roles, attributes, access, limits, expire_time, suspend, rotation,
            revoked_keys
    }
    OauthClientCredential {
        private_key_jwt, tls_client_auth;
        client_id, client_secret, grants, scopes, audiences, access_token_lifetime, introspects
    }
    PrivateKeyJwt { keys; algorithms }
    FederationSpec {
        oidc, saml, ldap, database, rest;
        login, display_name, role_mappings, provisioning, ended_sessions, suspend, clock_skew_seconds
    }
    LdapDirectory { tls, bind; servers, start_tls, referrals, users, groups }
    LdapBind { simple; anonymous }
    LdapSimpleBind { password_ref; dn }
    DatabaseDirectory {
        tls, password_ref;
        product, host, port, database, user, query, id_query, group_query, enabled, ignore_case, danger_legacy_formats,
        digest, upgrade
    }
    RestDirectory { verify, look_up, tls; retries, answer }
    RestRequest { headers; method, url, json, form }
    RestHeader { secret_ref; name, value, basic, prefix }
    OidcProvider { keys, client; issuer, algorithms }
    OidcClient {
        authentication, tls;
        client_id, scopes, endpoints, claims_from, emails, danger_password_grant, parameters
    }
    OidcClientAuthentication { client_secret_basic, client_secret_post, private_key_jwt; tls_client_auth }
    OidcAssertion { key_ref; algorithm }
    SamlProvider {
        metadata, service_provider;
        entity_id, require_signed_assertions, name_id_format, request_binding, unsolicited
    }
    SamlMetadata { secret_ref, tls; uri, inline }
}

impl References for OutgoingTls {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        let Self { trust_bundle_ref, client_certificate_ref } = self;
        trust_bundle_ref.refer(names);
        client_certificate_ref.iter().for_each(|reference| secret(reference, names));
    }
}

impl References for DirectoryTls {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        let Self { trust_bundle_ref, client_certificate_ref, pinned_keys: _ } = self;
        trust_bundle_ref.refer(names);
        client_certificate_ref.iter().for_each(|reference| secret(reference, names));
    }
}

impl References for SamlServiceProvider {
    fn refer<'a>(&'a self, names: &mut ReferredNames<'a>) {
        let Self { entity_id: _, key_ref } = self;
        key_ref.iter().for_each(|reference| secret(reference, names));
    }
}
