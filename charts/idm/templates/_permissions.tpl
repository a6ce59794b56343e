{{- /* Written from crds/permission: IDM_UPDATE=1 cargo test -p idm-permission. */}}
{{- define "idm.permissions" }}
- apiGroups: [identity-manager.io]
  resources: [rolebindings/team, usageplans/team, credentialrequests/team]
  verbs: [get, create, update, delete]
- apiGroups: [identity-manager.io]
  resources: [federations/team]
  verbs: [get, create, update, delete, readSecretMetadata]
- apiGroups: [identity-manager.io]
  resources: [identitypolicies/team]
  verbs: [get, create, update, delete, rotate, deploy]
- apiGroups: [identity-manager.io]
  resources: [credentials/team]
  verbs: [get, create, update, delete, rotate, revoke, approve, readSecretMetadata]
- apiGroups: [identity-manager.io]
  resources: [rolebindings/grant]
  verbs: [bind]
{{- end }}
{{- define "idm.blocks" }}
  - "idm:get:identitypolicies"
  - "idm:create:identitypolicies"
  - "idm:update:identitypolicies"
  - "idm:delete:identitypolicies"
  - "idm:get:credentials"
  - "idm:create:credentials"
  - "idm:update:credentials"
  - "idm:delete:credentials"
  - "idm:get:federations"
  - "idm:create:federations"
  - "idm:update:federations"
  - "idm:delete:federations"
  - "idm:get:rolebindings"
  - "idm:create:rolebindings"
  - "idm:update:rolebindings"
  - "idm:delete:rolebindings"
  - "idm:get:usageplans"
  - "idm:create:usageplans"
  - "idm:update:usageplans"
  - "idm:delete:usageplans"
  - "idm:get:credentialrequests"
  - "idm:create:credentialrequests"
  - "idm:update:credentialrequests"
  - "idm:delete:credentialrequests"
{{- end }}
