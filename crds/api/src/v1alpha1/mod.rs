//! Version `v1alpha1`: one file per kind.

mod baseline;
mod common;
mod cors;
mod credential;
mod credential_request;
mod database;
mod directory;
mod federation;
mod hmac_jwt;
mod jose;
mod ldap;
mod limits;
mod llm;
mod method;
mod mtls;
mod password;
mod paths;
mod policy;
mod references;
mod resource;
mod restrictions;
mod role_binding;
mod rotation;
mod saml;
mod sign_in;
mod signature;
mod streams;
mod token;
mod token_service;
mod usage_plan;

pub use baseline::{Baseline, BaselineCondition};
pub use common::{
    Attribute, Discovery, HeaderSource, KeyReference, KeySources, NamedSource, ObjectReference, ObjectStatus,
    OutgoingTls, SigningKeyStatus, TargetReference, TrustBundleKind, TrustBundleReference,
};
pub use cors::Cors;
pub use credential::{Credential, CredentialSpec, CredentialStatus, Owner, PasswordCredential, PersonCredential};
pub use credential_request::{
    CredentialRequest, CredentialRequestSpec, CredentialRequestStatus, MadeCredential, Recipient, RequestApproval,
    RequestDecision, RequestPerson, RequestedApiKey, RequestedCredential, RequestedLabel,
};
pub use database::{DatabaseDigest, DatabaseDirectory, DatabaseEnabled, DatabaseLegacyFormat, DatabaseProduct};
pub use directory::{
    CredentialValidator, DirectoryTls, LoginSettings, OnOutage, RestAnswer, RestBasic, RestDirectory, RestHeader,
    RestMethod, RestParameter, RestRequest, Validator,
};
pub use federation::{
    AuthorizationParameter, ClaimsFrom, Emails, EndedSessions, Federation, FederationSpec, OidcAssertion, OidcClient,
    OidcClientAuthentication, OidcEndpoints, OidcProvider, Provisioning, RoleMapping, TlsClientAuth,
};
pub use hmac_jwt::{HmacAlgorithm, HmacJwtCredential, HmacJwtKey, HmacJwtMethod};
pub use jose::{
    CertificateHeader, ChosenKey, ContentDestination, ContentSource, CustomClaim, ExpectedClaims, JoseConsume,
    JoseDecrypt, JoseEncrypt, JoseMessage, JoseProduce, JoseSign, JoseStep, JoseVerify, MadeClaims, NewBody,
    Serialization, SignedForm, WholeBody,
};
pub use ldap::{
    LdapAnonymousBind, LdapAttribute, LdapBind, LdapDirectory, LdapGroupSearch, LdapGroups, LdapInChain, LdapMemberOf,
    LdapReferrals, LdapSimpleBind, LdapSyntax, LdapTokenGroups, LdapUsers,
};
pub use limits::{
    ConcurrencyLimit, Limit, LimitKey, OnStoreLoss, PolicyLimit, RateLimit, RequestQuota, SizeLimit, TokenBudget,
};
pub use llm::{Llm, LlmProvider, PromptRule, TokenQuota};
pub use method::*;
pub use mtls::{CertificateName, CertificateNameRule, MtlsMethod, TrustedCertificates};
pub use password::{Base64Method, BasicMethod, DigestAlgorithm, DigestMethod, Quality};
pub use paths::{PathForm, Paths};
pub use policy::{
    AnonymousMethod, ApiKeyMethod, AttributeMapping, Authentication, Authorization, AuthorizationRule, Capacity,
    CredentialForwarding, CredentialSelector, CredentialSource, Disclosure, Ejection, Enforcement, HeaderMapping,
    IdentityMapping, IdentityPolicy, IdentityPolicySpec, JwtIssuer, JwtMethod, NameSet, RequestMethod, Require, Retry,
    TokenSource, Upstream,
};
pub use references::{References, ReferredNames};
pub use resource::ProtectedResource;
pub use restrictions::{Access, Day, Hours};
pub use role_binding::{
    PermissionRule, ProjectScope, RoleBinding, RoleBindingSpec, Scope, ServiceAccountSubject, Subject, SystemScope,
    TeamScope,
};
pub use rotation::{ApiKeyCredential, KeyStatus, Rotation, RotationStatus, SuppliedKeys};
pub use saml::{NameIdFormat, SamlBinding, SamlMetadata, SamlProvider, SamlServiceProvider, Unsolicited};
pub use sign_in::{LogoutSettings, Pages, PersonCredentials, RequiredClaim, SessionSettings, SignInMethod, StepUp};
pub use signature::{SignatureAlgorithm, SignatureCredential, SignatureKey, SignatureMethod};
pub use streams::{CutStreams, OpenStreams};
pub use token::{Confirmation, Demand, IntrospectionMethod, QueryTokenSource, TokenExchange, TokenProfile};
pub use token_service::{
    AccessTokenSettings, ClientSecret, Introspects, Lifetime, OauthClientCredential, PrivateKeyJwt,
    RefreshTokenSettings, SigningSettings, TokenClaim, TokenGrant, TokenService,
};
pub use usage_plan::{PlanSelector, UsagePlan, UsagePlanSpec};
