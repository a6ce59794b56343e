//! LDAP directories, Active Directory among them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DirectoryTls, KeyReference};

/// An LDAP directory (RFC 4511).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapDirectory {
    /// Servers with the same content, the preferred one first: `ldaps://dc1.corp.example` (port 636 unless written), or
    /// `ldap://` (389), which begins TLS before anything else is sent. Certificates are always verified against the
    /// name that is written here.
    #[schemars(length(min = 1, max = 8), inner(length(min = 8, max = 260), regex(pattern = "^ldaps?://[^/?#@]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub servers: Vec<String>,
    /// Whether `ldap://` begins TLS. Unset means true; false is for a server on the gateway's own machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_tls: Option<bool>,
    /// TLS settings, where the servers' certificates are not of the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DirectoryTls>,
    /// The gateway's own login, with which it searches. Not written with `users.bindTemplate`, which needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind: Option<LdapBind>,
    /// References to other servers, which servers answer for parts of the tree that they do not have. Unset: none is
    /// followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrals: Option<LdapReferrals>,
    /// How people are found.
    pub users: LdapUsers,
    /// How their groups are found. Unset: nobody has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<LdapGroups>,
}

/// References to other servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapReferrals {
    /// Hosts to which references may lead, for example `dc.child.corp.example`, or with a port other than the usual
    /// ones `dc.child.corp.example:3269`. The gateway binds there with `bind`, over TLS as at its own servers, and so
    /// do the people who are found there. References to other hosts are ignored.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 260), regex(pattern = "^[^/?#@ ]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub follow: Vec<String>,
}

/// The gateway's own login: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.simple) != has(self.anonymous)",
     "message": "bind must have exactly one of `simple`, `anonymous`"}]))]
pub struct LdapBind {
    /// A name with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simple: Option<LdapSimpleBind>,
    /// The directory lets anyone search: write `anonymous: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<LdapAnonymousBind>,
}

/// A name with a password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapSimpleBind {
    /// The distinguished name, or for Active Directory also `user@domain`.
    #[schemars(length(min = 1, max = 1024))]
    pub dn: String,
    /// The Secret with the password; the key is `password` unless named.
    pub password_ref: KeyReference,
}

/// An anonymous bind needs no settings: write `anonymous: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LdapAnonymousBind {}

/// How people are found: with `base` by a search, with `bindTemplate` by a name that is made of the user name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.base) != has(self.bindTemplate)",
     "message": "users must have exactly one of `base`, `bindTemplate`"}]))]
pub struct LdapUsers {
    /// The entry below which people are, for example `dc=corp,dc=example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub base: Option<String>,
    /// A condition that people must meet besides, for example `(objectClass=person)` (RFC 4515). The user name has no
    /// place in it: see `loginAttributes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    pub filter: Option<String>,
    /// Attributes of which one must be equal to the user name, for example `sAMAccountName`, `userPrincipalName` and
    /// `mail` at Active Directory. Unset means `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub login_attributes: Option<Vec<String>>,
    /// The distinguished name of everyone, with `{username}` as the value of one attribute, for example
    /// `uid={username},ou=people,dc=corp,dc=example`. People then read their own entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 1024))]
    pub bind_template: Option<String>,
    /// The attribute that never changes and that identifies a person. Unset means `objectGUID`, `entryUUID`,
    /// `nsUniqueId` or `ipaUniqueID`, whichever the directory has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id_attribute: Option<String>,
    /// The attribute that is the user name for policies and upstreams. Unset means the first of `loginAttributes` that
    /// the person has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub username_attribute: Option<String>,
    /// Attributes that become claims, as `token.NAME` in expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub attributes: Option<Vec<LdapAttribute>>,
}

/// An attribute that becomes a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapAttribute {
    /// The claim.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// The attribute. Unset means the name of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub attribute: Option<String>,
    /// How its octets are read. Unset means `Text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syntax: Option<LdapSyntax>,
    /// All values as a list. Unset means false: the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// How the octets of an attribute are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LdapSyntax {
    /// As UTF-8.
    Text,
    /// As a GUID in Microsoft's byte order, such as `objectGUID`.
    Guid,
    /// As a security identifier, such as `objectSid`: `S-1-…`.
    Sid,
    /// Not at all: in base64.
    Base64,
}

/// How groups are found: exactly one of `memberOf`, `tokenGroups`, `inChain` and `search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.memberOf), has(self.tokenGroups), has(self.inChain), has(self.search)].filter(is, is).size() \
        == 1",
     "message": "groups must have exactly one of `memberOf`, `tokenGroups`, `inChain`, `search`"}]))]
pub struct LdapGroups {
    /// The entry below which groups are; others do not count. `inChain` and `search` need it, and mappings by a group's
    /// short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub base: Option<String>,
    /// The attribute with a group's short name. Unset means `cn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name_attribute: Option<String>,
    /// The values of the person's `memberOf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_of: Option<LdapMemberOf>,
    /// Active Directory's own list, which has nested groups and the primary one: write `tokenGroups: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_groups: Option<LdapTokenGroups>,
    /// A search with Active Directory's matching rule for chains of members: write `inChain: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_chain: Option<LdapInChain>,
    /// A search for groups that name the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<LdapGroupSearch>,
}

/// The values of `memberOf`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapMemberOf {
    /// Also the groups that these groups are in. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<bool>,
}

/// `tokenGroups` needs no settings: write `tokenGroups: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LdapTokenGroups {}

/// `inChain` needs no settings: write `inChain: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LdapInChain {}

/// A search for groups that name the person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LdapGroupSearch {
    /// A condition that groups must meet besides, for example `(objectClass=groupOfNames)` (RFC 4515).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    pub filter: Option<String>,
    /// The attribute of a group that names its members, for example `uniqueMember` or `memberUid`. Unset means
    /// `member`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub member_attribute: Option<String>,
    /// The attribute of a person that it names, for example `uid` for `memberUid`. Unset means the distinguished name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub user_attribute: Option<String>,
    /// Also the groups that these groups are in, which name them by distinguished name. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nested: Option<bool>,
}
