//! The configuration that the gateway of one namespace enforces, as pure data.
//!
//! In: nothing; `idm-compile` makes a [`Plan`] and `idm-gateway` arms it. Out: a value that can be compared, printed
//! and drawn. Every reference is resolved, every default is filled in, nothing that matters is optional. A plan
//! contains no secret: it names each by its [`SecretHandle`], and the values are beside it in [`Secrets`]. The callers
//! are beside it, too, in [`Credentials`], where API keys are present as SHA-256 hashes of 256-bit random values and
//! passwords as argon2id hashes. A [`Bundle`] holds all three. This crate never does IO. Start at [`Plan`], then
//! [`Handler`]: a rule enforces a policy, refuses, or is answered by the gateway itself; none forwards without a
//! policy.

mod address;
mod baseline;
mod bundle;
mod care;
mod cors;
mod credential;
mod directory;
mod expr;
mod jose;
mod keys;
mod labels;
mod ldap;
mod limits;
mod llm;
mod method;
mod path;
mod policy;
mod redirect;
mod resource;
mod route;
mod secret;
mod shard;
mod sign_in;
mod tls;
mod token_service;

pub use address::is_local_address;
pub use baseline::Baseline;
pub use bundle::{Bundle, BundleError, FORMAT, WITH_SHARDS};
pub use care::{Capacity, Care, Ejection, Retry};
pub use cors::{Cors, Names, OriginPattern, Origins};
pub use credential::{CallerKey, Credential, Credentials, KeyMaterial, Proof, Selector};
pub use directory::{
    DatabaseDirectory, DatabaseProduct, DigestColumn, Directory, DirectoryServer, DirectorySource, GroupStrategy,
    LdapAttribute, LdapBind, LdapDirectory, LdapGroups, LdapLookup, LdapPerson, LdapSyntax, LegacyFormat, NamedGroup,
    Parameter, Protection, Realm, ReferralHost, RestAnswer, RestBody, RestDirectory, RestJson, RestRequest, RestValue,
    Statement, Validator,
};
pub use expr::{Expr, Variable};
pub use jose::{
    CertificateHeaders, Consume, Decrypt, Destination, Encrypt, EncryptionKeyRef, ExpectedClaims, JoseStep,
    JoseStepKind, KeyChoice, MadeClaims, Message, Place, Produce, Sign, SignedForm, SigningKeyRef, VerificationKeys,
    Verify,
};
pub use keys::{EndCause, EndedKey, Key, KeyEnd, Keys, RetiringKey, key_id, key_state};
pub use labels::{Labelled, Labels};
pub use ldap::{DistinguishedName, LdapFilter, escape_dn_value, is_attribute, is_group_id};
pub use limits::{Access, Calendar, Hours, Limit, LimitKey, LimitKind, UsagePlan};
pub use llm::{Llm, LlmProvider, PromptRule, TokenQuota};
pub use method::*;
pub use path::{NamedByte, PathError, PathForm, PathForms, ReadPath, canonical_path, read_path};
pub use policy::{
    CredentialForwarding, Disclosure, Grant, HeaderMapping, IdentityMapping, NameSet, Policy, Require, Rule, Subject,
    TokenExchange, UpstreamSettings,
};
pub use redirect::{PathChange, Redirect, Rewrite, Scheme};
pub use resource::{ProtectedResource, RESOURCE_METADATA_PATH, ResourceIdentifier, resource_metadata_url};
pub use route::{
    Backend, BackendProtocol, Handler, HeaderEdit, HeaderMatch, Host, Mirror, PathMatch, QueryMatch, RouteEntry,
    RouteRule, Shadow, ShadowPart, Timeouts, VirtualHost,
};
pub use secret::{CONTROL_TOKEN, SecretHandle, Secrets};
pub use shard::{
    Divided, Held, Made, PackedShard, SHARD_FIELD, SHARD_VERSIONS, Shard, ShardError, ShardRef, divide, divide_again,
    needs_shards, shard_of, shard_secret,
};
pub use sign_in::{
    Federation, FederationKind, LOGIN_COOKIE, OidcProvider, Pages, PersonCredentials, ProviderAuthentication,
    ProviderEndpoints, RequiredClaim, RoleMapping, SECURE_LOGIN_COOKIE, SECURE_SESSION_COOKIE, SESSION_COOKIE,
    SamlMetadata, SamlProvider, SignInEndpoint, SignInMethod, StepUp,
};
pub use tls::{
    BackendName, BackendTls, CertificateName, DirectoryTls, MtlsMethod, NameRule, Network, OutgoingTls,
    ServerCertificate, ServerTrust,
};
pub use token_service::{ClientAuthentication, Endpoint, OauthClient, ServiceKey, TokenGrant, TokenService};

use serde::{Deserialize, Serialize};

/// Namespace and name of an object, printed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Everything the gateway of one namespace enforces.
///
/// An older gateway that meets a field it does not know refuses the whole plan and keeps its last good one: if it
/// enforced only the part that it understands, it could permit requests that the other part refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The namespace this gateway belongs to.
    pub namespace: String,
    /// The policies in force: those of the namespace, then those of others whose routes it takes.
    pub policies: Vec<Policy>,
    /// Routing of plain HTTP, most specific host first.
    pub hosts: Vec<VirtualHost>,
    /// Routing of HTTPS, most specific host first.
    pub secure_hosts: Vec<VirtualHost>,
    /// The certificates of the HTTPS listeners, most specific host first.
    pub certificates: Vec<ServerCertificate>,
    /// The rules that the entries of the hosts refer to.
    pub rules: Vec<RouteRule>,
    /// Roles granted to users, groups and credentials, each for the policies of its own namespace.
    pub grants: Vec<Grant>,
    /// The outside servers where people sign in, each for the policies of its own namespace.
    pub federations: Vec<Federation>,
    /// The addresses of the API server, in order: no backend may have one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_server: Vec<std::net::IpAddr>,
}
