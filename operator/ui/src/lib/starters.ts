// A few lines of YAML to start with: one for each method of authentication, and one for each other kind.
import type { Kind } from "./types";

const METHODS: Record<string, string> = {
  jwt: "jwt: {issuers: [{issuer: https://idp.example, audiences: [orders], keys: {discovery: {}}}]}",
  signIn: "signIn: {federationRefs: [{name: company}], origins: [https://shop.example]}",
  apiKey: "apiKey: {}",
  mtls: "mtls: {trustBundleRef: {name: device-ca}, identity: URI}",
  introspection:
    "introspection: {issuer: https://idp.example, endpoint: https://idp.example/introspect, clientId: gateway, " +
    "clientSecretRef: {name: gateway-client}}",
  basic: "basic: {realm: orders}",
  digest: "digest: {realm: orders}",
  base64: "base64: {layout: '{username}:{password}', sources: [{header: {name: X-Login}}]}",
  anonymous: "anonymous: {}",
};

/** The methods of authentication, the recommended ones first. */
export const METHOD_NAMES = Object.keys(METHODS);

const head = (kind: Kind, name: string): string => `apiVersion: identity-manager.io/v1alpha1
kind: ${kind}
metadata: {name: ${name}}
spec:
`;

const policy = (method: string): string => `${head("IdentityPolicy", "orders")}  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}
  authentication:
    methods:
    - name: callers
      ${METHODS[method] ?? ""}
  authorization:
    rules:
    - {name: read, methods: [GET, HEAD]}
`;

export const STARTERS: Record<Kind, Record<string, string>> = {
  IdentityPolicy: Object.fromEntries(METHOD_NAMES.map((each) => [each, policy(each)])),
  Credential: { apiKey: `${head("Credential", "nightly")}  owner: {application: nightly-batch}\n  apiKey: {}\n` },
  Federation: {
    oidc: `${head("Federation", "company")}  oidc:\n    issuer: https://idp.example/realms/staff\n`,
  },
  RoleBinding: {
    project: `${head("RoleBinding", "shop-owners")}  permissionRole: Owner
  subjects: [{group: shop-leads}]
  scope: {project: {}}
`,
  },
};

/** The text for a kind and, for policies, a method. */
export const starter = (kind: Kind, which: string): string =>
  STARTERS[kind][which] ?? Object.values(STARTERS[kind])[0] ?? head(kind, "new");
