use idm_permission::{BuiltInRole, Kind, Verb};
use idm_types::RoleName;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectStatus;

/// RoleBinding gives a role: `role` to the callers of APIs, `permissionRole` or `permissions` to the people who work
/// with our objects.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "RoleBinding", plural = "rolebindings", namespaced)]
#[kube(status = "ObjectStatus", shortname = "idrb", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"))]
#[kube(printcolumn(name = "Permission-Role", type_ = "string", json_path = ".spec.permissionRole"))]
#[kube(printcolumn(name = "Team", type_ = "string", json_path = ".spec.scope.team.name", priority = 1))]
#[kube(printcolumn(
    name = "Accepted",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(
    name = "Reason",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
    priority = 1
))]
#[kube(printcolumn(
    name = "Message",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].message",
    priority = 1
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.role) ? 1 : 0) + (has(self.permissionRole) ? 1 : 0) + (has(self.permissions) ? 1 : 0) == 1",
     "message": "spec must have exactly one of `role`, `permissionRole`, `permissions`"},
    {"rule": "has(self.role) == has(oldSelf.role) && (!has(self.role) || self.role == oldSelf.role)",
     "message": "`role` must not be changed: make another RoleBinding and delete this one"},
    {"rule": "has(self.permissionRole) == has(oldSelf.permissionRole) && (!has(self.permissionRole) || \
        self.permissionRole == oldSelf.permissionRole)",
     "message": "`permissionRole` must not be changed: make another RoleBinding and delete this one"},
    {"rule": "has(self.permissions) == has(oldSelf.permissions) && (!has(self.permissions) || self.permissions == \
        oldSelf.permissions)",
     "message": "`permissions` must not be changed: make another RoleBinding and delete this one"},
    {"rule": "self.scope == oldSelf.scope",
     "message": "`scope` must not be changed: make another RoleBinding and delete this one"},
    {"rule": "!has(self.role) || has(self.scope.project)",
     "message": "`role` holds for the callers of a project: scope must be `project: {}`"},
    {"rule": "!has(self.permissionRole) || (self.permissionRole == 'SystemAdmin' ? has(self.scope.system) : \
        self.permissionRole != 'Owner' || !has(self.scope.system))",
     "message": "`SystemAdmin` must have the scope `system: {}`, and `Owner` must not: everything of the system is \
         `SystemAdmin`"},
    {"rule": "has(self.role) ? self.subjects.all(s, !has(s.serviceAccount)) : self.subjects.all(s, !has(s.credential))",
     "message": "subjects must be `user`, `group` or `credential` with `role`, and `user`, `group` or \
         `serviceAccount` with permissions"}]))]
pub struct RoleBindingSpec {
    /// A role of callers, as rules and upstreams see it. It gives no permission on objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// A built-in role of people who work with our objects, by kubectl, Git or `idm`. Callers of APIs do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_role: Option<BuiltInRole>,
    /// Permissions one by one, where no built-in role fits. Those who give it must have every permission there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub permissions: Option<Vec<PermissionRule>>,
    /// The subjects that get it.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub subjects: Vec<Subject>,
    /// The scope in which it holds. It cannot be changed, and nor can the role.
    pub scope: Scope,
}

/// Verbs on kinds. There are no patterns: a verb that comes later is in no list of today.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!self.verbs.exists(v, v in ['Revoke', 'Approve']) || self.kinds.all(k, k == 'Credential')",
     "message": "`Revoke` and `Approve` are verbs of Credential only"},
    {"rule": "!('Rotate' in self.verbs) || self.kinds.all(k, k in ['Credential', 'IdentityPolicy'])",
     "message": "`Rotate` is a verb of Credential and IdentityPolicy only"},
    {"rule": "!('Deploy' in self.verbs) || self.kinds.all(k, k == 'IdentityPolicy')",
     "message": "`Deploy` is a verb of IdentityPolicy only"},
    {"rule": "!('ReadSecretMetadata' in self.verbs) || self.kinds.all(k, k in ['Credential', 'Federation'])",
     "message": "`ReadSecretMetadata` is a verb of Credential and Federation only"}]))]
pub struct PermissionRule {
    /// The kinds.
    #[schemars(length(min = 1, max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Vec<Kind>,
    /// The verbs; each must mean something for each of the kinds.
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub verbs: Vec<Verb>,
}

/// A subject that gets a role: exactly one of `user`, `group`, `credential`, `serviceAccount`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.user) ? 1 : 0) + (has(self.group) ? 1 : 0) + (has(self.credential) ? 1 : 0) + \
        (has(self.serviceAccount) ? 1 : 0) == 1",
     "message": "subject must have exactly one of `user`, `group`, `credential`, `serviceAccount`"},
    {"rule": "has(self.user) || has(self.group) || !has(self.issuer)",
     "message": "`issuer` must not be set with `credential` and `serviceAccount`"}]))]
pub struct Subject {
    /// A user: with `role` by `identity.username`, with permissions by the name at the issuer, or at the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// Everyone in a group: with `role` by `identity.groups`, with permissions by the name at the issuer, or at the API
    /// server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group: Option<String>,
    /// A Credential of this namespace, by name; with `role` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credential: Option<String>,
    /// A ServiceAccount; with permissions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSubject>,
    /// The issuer that must vouch for the user or group. With `role`, unset means any issuer that the policy trusts;
    /// set it where a policy trusts several. With permissions it is an issuer that the API server trusts, and
    /// `kubernetes` takes the name as the API server has it; unset means the same, and is refused where the API server
    /// trusts several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
}

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountSubject {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace. Unset means this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// The scope of a role: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.system) ? 1 : 0) + (has(self.project) ? 1 : 0) + (has(self.team) ? 1 : 0) == 1",
     "message": "scope must have exactly one of `system`, `project`, `team`"}]))]
pub struct Scope {
    /// In every namespace; in the operator's namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemScope>,
    /// In this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectScope>,
    /// For the objects of this namespace with the label of a team; with permissions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamScope>,
}

/// Every namespace; needs no settings: write `system: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemScope {}

/// This namespace; needs no settings: write `project: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectScope {}

/// A team of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TeamScope {
    /// The value of the label `identity-manager.io/team` of its objects.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"))]
    pub name: String,
}
