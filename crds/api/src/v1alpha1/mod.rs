//! Version `v1alpha1`: one file per kind.

mod common;
mod credential;
mod federation;
mod jose;
mod llm;
mod mtls;
mod password;
mod policy;
mod role_binding;
mod token;
mod token_service;

pub use common::{
    Attribute, Discovery, HeaderSource, KeyReference, KeySources, NamedSource, ObjectReference, ObjectStatus, OutgoingTls, SigningKeyStatus, TargetReference,
};
pub use credential::{Access, ApiKeyCredential, Credential, CredentialSpec, CredentialStatus, Owner, PasswordCredential};
pub use federation::{Federation, FederationSpec, OidcProvider};
pub use jose::{
    CertificateHeader, ChosenKey, ContentDestination, ContentSource, CustomClaim, ExpectedClaims, JoseConsume, JoseDecrypt, JoseEncrypt, JoseMessage,
    JoseProduce, JoseSign, JoseStep, JoseVerify, MadeClaims, NewBody, Serialization, SignedForm, WholeBody,
};
pub use llm::{Llm, LlmProvider, TokenQuota};
pub use mtls::{CertificateName, CertificateNameRule, MtlsMethod, TrustedCertificates};
pub use password::{Base64Method, BasicMethod, DigestAlgorithm, DigestMethod, Quality};
pub use policy::{
    AnonymousMethod, ApiKeyMethod, AttributeMapping, Authentication, Authorization, AuthorizationRule, CredentialForwarding, CredentialSelector,
    CredentialSource, Disclosure, HeaderMapping, IdentityMapping, IdentityPolicy, IdentityPolicySpec, JwtIssuer, JwtMethod, Method, NameSet, RequestMethod,
    Require, TokenSource, Upstream,
};
pub use role_binding::{ProjectScope, RoleBinding, RoleBindingSpec, Scope, Subject};
pub use token::{Confirmation, Demand, IntrospectionMethod, QueryTokenSource, TokenExchange, TokenProfile};
pub use token_service::{
    AccessTokenSettings, ClientSecret, Introspects, Lifetime, OauthClientCredential, PrivateKeyJwt, RefreshTokenSettings, SigningSettings, TokenClaim,
    TokenGrant, TokenService,
};
