//! Refusals of the API server itself: every validation rule of every kind has an object that breaks it,
//! and the message says what to do.

use anyhow::{Result, ensure};
use idm_e2e::{kubectl, kubectl_with};
use serde_json::Value;

/// The digest of a public key.
const PINNED: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const GOOD: &[&str] = &[
    "kind: Federation\nspec: {ldap: {servers: ['ldaps://a'], users: {base: dc=x, loginAttributes: [uid]}, tls: \
        {pinnedKeys: ['AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=']}, referrals: {follow: [b]}}, login: \
        {offerPasswordChange: true}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: m, digest: {realm: r, validators: [{federationRef: {name: f}}]}}]}, llm: {provider: OpenAI, keyRef: \
        {name: s}, rules: [{name: short, allow: llm.maxTokens <= 100}]}, upstream: {retry: {attempts: 2}, ejection: \
        {failures: 3}, capacity: {requests: 10}}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}], \
        authentication: {methods: [{name: m, apiKey: {}}]}, baseline: {methods: [apiKey, jwt], issuers: ['https://i'], \
        access: {exceptPaths: [/a]}, conditions: [{name: c, holds: now > 0}], limits: [{name: a, key: \
        AllCallers, concurrency: {requests: 1}}]}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: m, jwt: {issuers: [{issuer: 'https://i', audiences: [a], keys: {discovery: {}}}]}}]}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: m, jwt: {issuers: [{issuer: 'https://i', clientIds: [a], keys: {discovery: {}}}]}}]}}",
    "kind: Credential\nspec: {apiKey: {}, secretRef: {name: s}}",
    "kind: Credential\nspec: {password: {}, secretRef: {name: s}}",
    "kind: Credential\nspec: {apiKey: {sha256: {entropyBits: 128}}, secretRef: {name: s}, access: {methods: [GET], \
        exceptPaths: [/admin], addresses: ['10.0.0.0/8'], hours: [{days: [Monday], from: '22:00', to: '06:00', \
        timeZone: Europe/Berlin}]}, limits: [{name: a, quota: {requests: 1, per: Month, timeZone: UTC}, onStoreLoss: \
        Local}]}",
    "kind: UsagePlan\nspec: {selects: {credentials: {matchLabels: {tier: gold}}, roles: [r]}, replaces: [free], \
        limits: [{name: a, rate: {requests: 1, perSeconds: 1, burst: 1}}, {name: b, responseSize: {maxBytes: 1}}]}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, apiKey: {}}]}, limits: [{name: a, key: AllCallers, concurrency: {requests: 1}}], openStreams: \
        {drain: {minutes: 5}}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, mtls: {trustBundleRef: {name: s}, identity: URI, names: [{name: URI, startsWith: \
        'spiffe://a/'}]}}, {name: b, introspection: {issuer: 'https://i', endpoint: 'https://i/x', clientId: c, \
        clientSecretRef: {name: s}}}, {name: c, digest: {realm: r, algorithms: [SHA-256]}}, {name: d, basic: {realm: \
        r}}]}, llm: {provider: OpenAI, keyRef: {name: s}, quotas: [{tokens: 1, perSeconds: 1}]}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, anonymous: {}}]}, jose: [{name: a, consume: {from: {body: {}}, verify: {keys: {secretRef: {name: \
        s}}, algorithms: [HS256]}, to: {body: {}}}}, {name: b, produce: {sign: {keyFor: identity.issuer, keys: \
        [{value: a, keyRef: {name: s}}], algorithm: ES256, claims: {custom: [{name: tenant, value: token.t}]}}, \
        encrypt: {keyRef: {name: s}, algorithm: dir, encryption: A128GCM}, to: {header: X-A}}}]}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, jwt: {issuers: [{tokenServiceRef: {name: x}, audiences: [a]}]}}]}, tokenService: {issuer: \
        'https://a/oauth', audiences: [a], grants: [ClientCredentials, RefreshToken, DangerPassword], accessToken: \
        {lifetime: {minutes: 5}, claims: [{name: t, value: identity.id}]}, refreshToken: {lifetime: {hours: 1}, \
        maxUses: 5}, signing: {algorithm: EdDSA, rotateEveryDays: 7, publishAheadSeconds: 60}}}",
    "kind: Credential\nspec: {oauthClient: {clientSecret: {}, scopes: [a.read], grants: [ClientCredentials], \
        accessTokenLifetime: {seconds: 60}, introspects: All}, secretRef: {name: s}}",
    "kind: Credential\nspec: {oauthClient: {privateKeyJwt: {keys: {jwksUri: 'https://i/k'}, algorithms: [ES256]}}}",
    "kind: Credential\nspec: {oauthClient: {tlsClientAuth: {trustBundleRef: {name: s}, names: [{name: DNS, is: a}]}}}",
    "kind: Credential\nspec: {signature: {keys: [{id: k, algorithm: ed25519, publicKey: PEM}, {id: l, algorithm: \
        hmac-sha256, secretRef: {name: s}, expireTime: '2027-01-01T00:00:00Z'}]}}",
    "kind: Credential\nspec: {hmacJwt: {issuer: 'https://i', keys: [{id: k, algorithm: HS512, secretRef: {name: s}}]}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, signature: {tag: t, components: ['@method', x-a], maxAgeSeconds: 5}}, {name: b, hmacJwt: \
        {audiences: [a], maxLifetimeSeconds: 60}}]}}",
    "kind: Federation\nspec: {oidc: {issuer: 'https://i'}}",
    "kind: Federation\nspec: {displayName: a, roleMappings: [{claim: groups, value: b, roles: [r]}], provisioning: \
        {role: r}, endedSessions: [{subject: s, beforeTime: '2027-01-01T00:00:00Z'}], suspend: false, oidc: {issuer: \
        'https://i', client: {clientId: c, authentication: {privateKeyJwt: {keyRef: {name: s}, algorithm: ES256}}, \
        scopes: [profile], endpoints: {authorization: 'https://i/a', token: 'https://i/t'}, claimsFrom: IdToken, \
        emails: Verified, parameters: [{name: p, value: v}]}}}",
    "kind: Federation\nspec: {saml: {entityId: a, metadata: {uri: 'https://i/m'}, serviceProvider: {entityId: b, \
        keyRef: {name: s}}, requireSignedAssertions: true, nameIdFormat: Persistent, requestBinding: Redirect, \
        unsolicited: Refuse}}",
    "kind: Credential\nspec: {person: {user: a, federationRef: {name: f}}, roles: [r]}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: m, signIn: {federationRefs: [{name: a}, {name: b}], basePath: /in, origins: ['https://a'], session: \
        {idleSeconds: 60, absoluteSeconds: 60}, requiredClaims: [{claim: hd, values: [a]}], stepUp: {acrValues: \
        [gold], maxAgeSeconds: 60}, credentials: {user: token.email, selector: {matchLabels: {a: b}}}, logout: \
        {returnTo: /}, pages: {title: a, logoUri: /l, accentColor: '#000000'}}}]}}",
    "kind: RoleBinding\nspec: {role: r, subjects: [{user: u}], scope: {project: {}}}",
    "kind: RoleBinding\nspec: {permissionRole: Developer, subjects: [{user: u, issuer: kubernetes}, {serviceAccount: \
        {name: a, namespace: b}}], scope: {team: {name: checkout}}}",
    "kind: RoleBinding\nspec: {permissions: [{kinds: [Credential], verbs: [Read, Rotate, Revoke, Approve, \
        ReadSecretMetadata]}, {kinds: [IdentityPolicy], verbs: [Deploy]}], subjects: [{group: g}], scope: {project: \
        {}}}",
    "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], authentication: {methods: \
        [{name: a, basic: {realm: r, validators: [{credentials: {selector: {matchLabels: {a: b}}}}, {federationRef: \
        {name: f}}]}}]}, resource: {identifier: 'https://a/mcp', scopes: [read]}}",
    "kind: Federation\nspec: {ldap: {servers: ['ldaps://a', 'ldap://b:389'], bind: {simple: {dn: cn=g, passwordRef: \
        {name: s}}}, users: {base: dc=x, loginAttributes: [uid], attributes: [{name: mail, all: true}]}, groups: \
        {base: dc=x, search: {nested: true}}}, login: {domains: [A], suffixes: [a.b], recheckSeconds: 60, onOutage: \
        KeepSessions}, roleMappings: [{group: 'cn=a,dc=x', roles: [r]}]}",
    "kind: Federation\nspec: {database: {product: MySQL, host: a, database: b, user: c, passwordRef: {name: s}, \
        query: 'SELECT 1 WHERE 1 = :username', dangerLegacyFormats: [Phpass]}}",
    "kind: Federation\nspec: {rest: {verify: {url: 'https://a/b', headers: [{name: X-A, secretRef: {name: s}, \
        prefix: 'Bearer '}], json: {a: {b: ['{username}', '{password}', 1]}}}, answer: {success: token.status == \
        200, id: token.body.id, username: token.body.name}}}",
];

const TARGET: &str = "targetRefs: [{group: '', kind: Service, name: a}]";

fn policy(methods: &str) -> String {
    format!("kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{methods}]}}}}")
}

fn issuer(entry: &str) -> String {
    policy(&format!("{{name: m, jwt: {{issuers: [{entry}]}}}}"))
}

fn jose(step: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
         jose: [{{name: s, {step}}}]}}"
    )
}

fn service(members: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
            tokenService: {{audiences: [a], {members}}}}}"
    )
}

fn cors(members: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
         cors: {{{members}}}}}"
    )
}

fn produce(members: &str) -> String {
    jose(&format!("produce: {{to: {{header: X-A}}, {members}}}"))
}

fn ldap(bind: &str, users: &str, groups: &str) -> String {
    format!(
        "kind: Federation\nspec: {{ldap: {{servers: ['ldaps://a'], bind: {bind}, users: {users}, groups: {groups}}}}}"
    )
}

fn rest(verify: &str) -> String {
    let answer = "{success: token.status == 200, id: token.body.id, username: token.body.name}";
    format!("kind: Federation\nspec: {{rest: {{verify: {{url: 'https://a/b', {verify}}}, answer: {answer}}}}}")
}

fn permissions(rule: &str) -> String {
    format!("kind: RoleBinding\nspec: {{permissions: [{rule}], subjects: [{{user: u}}], scope: {{project: {{}}}}}}")
}

fn limited(limit: &str) -> String {
    format!("kind: UsagePlan\nspec: {{selects: {{roles: [r]}}, limits: [{{name: l, {limit}}}]}}")
}

fn policy_limit(limit: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, apiKey: {{}}}}]}}, \
         limits: [{{name: l, {limit}}}]}}"
    )
}

fn key(members: &str) -> String {
    format!("kind: Credential\nspec: {{apiKey: {{}}, secretRef: {{name: s}}, {members}}}")
}

/// RoleBindings, each with a change that is refused.
const CHANGES: [(&str, &str); 4] = [
    ("role: r, scope: {project: {}}", "role: s, scope: {project: {}}"),
    ("permissionRole: Auditor, scope: {project: {}}", "permissionRole: Owner, scope: {project: {}}"),
    ("permissionRole: Auditor, scope: {project: {}}", "permissionRole: Auditor, scope: {team: {name: a}}"),
    (
        "permissions: [{kinds: [Credential], verbs: [Read]}], scope: {project: {}}",
        "permissions: [{kinds: [Credential], verbs: [Delete]}], scope: {project: {}}",
    ),
];

fn refused_changes() -> Result<String> {
    let mut said = String::new();
    for (number, (before, after)) in CHANGES.into_iter().enumerate() {
        let object = |spec: &str| {
            format!(
                "apiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {{name: fixed-{number}, \
                 namespace: default}}\nspec: {{subjects: [{{user: u}}], {spec}}}\n"
            )
        };
        kubectl_with(&["apply", "-f", "-"], &object(before))?;
        let outcome = kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &object(after));
        kubectl(&["-n", "default", "delete", "idrb", &format!("fixed-{number}")])?;
        match outcome {
            Ok(_) => anyhow::bail!("{before} became {after}"),
            Err(error) => said.push_str(&format!("{error}\n")),
        }
    }
    Ok(said)
}

/// A request for a Credential, in the name of somebody.
fn request(by: &str, members: &str) -> String {
    format!("kind: CredentialRequest\nspec: {{requester: {{username: '{by}'}}, purpose: p, {members}}}")
}

const RECIPIENT: &str = "recipient: {jwk: '{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\
                         \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\
                         \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}'}";
const WANTED: &str = "credential: {apiKey: {}, access: {policies: [p]}, roles: [r], labels: [{name: plan, value: \
                      gold}], expireTime: '2100-01-01T00:00:00Z'}";

/// A request that somebody makes and the administrator approves; every change of what must stay is refused.
fn refused_changes_of_a_request() -> Result<String> {
    let me = kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    dry_run(&request(&me, &format!("{WANTED}, {RECIPIENT}")))?;
    let as_ana = ["--as", "ana", "--as-group", "system:masters", "-n", "default"];
    let _ = kubectl(&["-n", "default", "delete", "idreq,idcred", "fixed", "--ignore-not-found"]);
    let object = request("ana", &format!("{WANTED}, {RECIPIENT}")).replacen('\n', "\nmetadata: {name: fixed}\n", 1);
    let object = format!("apiVersion: identity-manager.io/v1alpha1\n{object}\n");
    kubectl_with(&[&as_ana[..], &["create", "-f", "-"]].concat(), &object)?;
    let wait = |field: &str| {
        let wanted = format!("--for=jsonpath={field}");
        kubectl(&["-n", "default", "wait", &wanted, "idreq/fixed", "--timeout=60s"])
    };
    wait("{.status.hash}")?;
    let hash = kubectl(&["-n", "default", "get", "idreq", "fixed", "-o", "jsonpath={.status.hash}"])?;
    let patch = |who: &[&str], kind: &str, patch: &str| {
        kubectl(&[who, &["patch", "idreq", "fixed", kind, "-p", patch]].concat())
    };
    let admin = ["-n", "default"];
    let mut said = String::new();
    let mut refused = |outcome: Result<String>| match outcome {
        Ok(done) => anyhow::bail!("accepted: {done}"),
        Err(error) => Ok(said.push_str(&format!("{error}\n"))),
    };
    let answer = |decision: &str, by: &str, reason: &str| {
        let by = format!(r#""by":{{"username":"{by}"}}"#);
        format!(r#"{{"spec":{{"approval":{{"decision":"{decision}",{by},"hash":"{hash}"{reason}}}}}}}"#)
    };
    refused(patch(&admin, "--type=merge", r#"{"spec":{"purpose":"another"}}"#))?;
    refused(patch(&as_ana, "--type=merge", &answer("Approved", "ana", "")))?;
    refused(patch(&admin, "--type=merge", &answer("Rejected", &me, "")))?;
    refused(patch(&as_ana, "--type=merge", r#"{"spec":{"received":false}}"#))?;
    patch(&admin, "--type=merge", &answer("Approved", &me, ""))?;
    wait("{.status.encryptedKey}")?;
    refused(patch(&admin, "--type=merge", &answer("Rejected", &me, r#","reason":"r""#)))?;
    patch(&as_ana, "--type=merge", r#"{"spec":{"received":true}}"#)?;
    refused(patch(&as_ana, "--type=json", r#"[{"op":"remove","path":"/spec/received"}]"#))?;
    kubectl(&["-n", "default", "delete", "idreq", "fixed"])?;
    Ok(said)
}

/// Objects that break one rule each.
/// A directory of LDAP with this TLS.
fn ldap_over(tls: &str) -> String {
    format!(
        "kind: Federation\nspec: {{ldap: {{servers: ['ldaps://a'], users: {{base: dc=x, loginAttributes: [uid]}}, tls: \
         {{{tls}}}}}}}"
    )
}

/// A policy on a Gateway with these lines.
fn on_gateway(lines: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: a}}], \
         authentication: {{methods: [{{name: m, apiKey: {{}}}}]}}, {lines}}}"
    )
}

/// The same on a GatewayClass, without authentication.
fn on_class(lines: &str) -> String {
    format!(
        "kind: IdentityPolicy\nspec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: GatewayClass, name: \
         a}}], {lines}}}"
    )
}

fn broken() -> Vec<String> {
    let streams = "kind: IdentityPolicy\nspec: {targetRefs: [{group: '', kind: Service, name: a}], \
                   authentication: {methods: [{name: m, apiKey: {}}]}, openStreams: {}}";
    vec![
        ldap_over(""),
        ldap_over(&format!("trustBundleRef: {{name: s}}, pinnedKeys: ['{PINNED}']")),
        on_gateway(
            "enforcement: Shadow, tokenService: {issuer: 'https://a/t', audiences: [a], grants: [ClientCredentials]}",
        ),
        on_gateway("baseline: {}"),
        on_gateway("baseline: {access: {policies: [a], methods: [GET]}}"),
        on_gateway("baseline: {methods: [apiKey]}").replace("kind: Gateway", "kind: HTTPRoute"),
        // Of a class: without a baseline or with more, and with a section; elsewhere authentication is needed.
        on_gateway("baseline: {methods: [apiKey]}").replace("kind: Gateway", "kind: GatewayClass"),
        on_class("baseline: {methods: [apiKey]}").replace("name: a}", "name: a, sectionName: b}"),
        on_class("baseline: {methods: [apiKey]}").replace("kind: GatewayClass", "kind: Gateway"),
        limited("rate: {requests: 1, perSeconds: 1}, concurrency: {requests: 1}"),
        limited("requestSize: {maxBytes: 1}, onStoreLoss: Local"),
        policy_limit("key: Address"),
        policy_limit("requestSize: {maxBytes: 1}, key: Address"),
        "kind: UsagePlan\nspec: {selects: {roles: [r]}}".into(),
        "kind: UsagePlan\nspec: {selects: {}, limits: [{name: l, rate: {requests: 1, perSeconds: 1}}]}".into(),
        key("access: {}"),
        key("access: {policies: [a], exceptPolicies: [a]}"),
        key("access: {methods: [GET], exceptMethods: [GET]}"),
        key("access: {hours: [{from: '08:00', to: '08:00', timeZone: UTC}]}"),
        "kind: Credential\nspec: {apiKey: {sha256: {entropyBits: 64}}, secretRef: {name: s}}".into(),
        "kind: Credential\nspec: {password: {}, secretRef: {name: s}, rotation: {every: {hours: 720}}}".into(),
        "kind: Credential\nspec: {password: {}, secretRef: {name: s}, revokedKeys: ['000000000000']}".into(),
        streams.into(),
        "kind: IdentityPolicy\nspec: {targetRefs: [{group: apps, kind: Deployment, name: a}], authentication: \
            {methods: [{name: m, anonymous: {}}]}}"
            .into(),
        policy("{name: m, anonymous: {}, apiKey: {}}"),
        policy("{name: m}"),
        policy("{name: m, apiKey: {sources: [{header: {name: A}, query: {name: b}}]}}"),
        policy(
            "{name: m, jwt: {issuers: [{issuer: 'https://i', audiences: [a], keys: {discovery: {}}}], sources: \
            [{}]}}",
        ),
        issuer("{issuer: 'https://i', keys: {discovery: {}}}"),
        issuer("{issuer: 'https://i', federationRef: {name: f}, audiences: [a], keys: {discovery: {}}}"),
        issuer("{issuer: 'https://i', audiences: [a]}"),
        issuer("{federationRef: {name: f}, audiences: [a], algorithms: [RS256]}"),
        issuer("{issuer: 'https://i', audiences: [a], keys: {discovery: {}, jwksUri: 'https://i/k'}}"),
        issuer("{issuer: 'https://i', audiences: [a], keys: {jwksUri: 'ftp://i/keys'}}"),
        issuer("{issuer: 'https://i', audiences: [a], keys: {inline: '{}', tls: {trustBundleRef: {name: s}}}}"),
        issuer("{issuer: 'https://i', audiences: [a], keys: {discovery: {}, tls: {}}}"),
        format!(
            "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
                authorization: {{rules: [{{name: r, require: {{roles: {{}}}}}}]}}}}"
        ),
        issuer("{issuer: 'https://i', audiences: [a], keys: {discovery: {}}, tokenServiceRef: {name: x}}"),
        format!(
            "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
                upstream: {{tokenExchange: {{endpoint: 'ftp://i', clientId: c, clientSecretRef: {{name: s}}}}}}}}"
        ),
        format!(
            "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
                upstream: {{credential: Forward, tokenExchange: {{endpoint: 'https://i', clientId: c, \
                clientSecretRef: {{name: s}}}}}}}}"
        ),
        cors("allowOrigins: ['*', 'https://a.example']"),
        cors("allowOrigins: ['*'], allowCredentials: true"),
        service("issuer: 'https://a/'"),
        service("issuer: 'https://a', accessToken: {lifetime: {seconds: 1, hours: 1}}"),
        "kind: Credential\nspec: {secretRef: {name: s}}".into(),
        "kind: Credential\nspec: {apiKey: {}}".into(),
        "kind: Credential\nspec: \
            {oauthClient: {clientSecret: {}, privateKeyJwt: {keys: {inline: '{}'}}}, secretRef: {name: s}}"
            .into(),
        policy("{name: m, introspection: {issuer: i, endpoint: 'ftp://i', clientId: c, clientSecretRef: {name: s}}}"),
        policy("{name: m, mtls: {trustBundleRef: {name: s}, identity: URI, names: [{name: URI}]}}"),
        jose(
            "consume: {from: {body: {}}, verify: {keys: {inline: '{}'}, algorithms: [ES256]}}, produce: {from: \
                {body: {}}, to: {header: X-A}, sign: {keyRef: {name: k}, algorithm: ES256}}",
        ),
        jose("consume: {from: {body: {}, header: X-A}, verify: {keys: {inline: '{}'}, algorithms: [ES256]}}"),
        jose("consume: {from: {body: {}}}"),
        jose("consume: {from: {body: {}}, verify: {algorithms: [ES256]}}"),
        jose("consume: {from: {body: {}}, verify: {keys: {inline: '{}'}, algorithms: [ES256]}, to: {}}"),
        produce("from: {body: {}}"),
        produce("sign: {keyRef: {name: k}, algorithm: ES256}"),
        produce("from: {body: {}}, sign: {algorithm: ES256}"),
        produce("from: {body: {}}, sign: {keyRef: {name: k}, keyFor: identity.issuer, algorithm: ES256}"),
        produce("sign: {keyRef: {name: k}, algorithm: ES256, claims: {custom: [{name: iss, value: identity.id}]}}"),
        produce("from: {body: {}}, encrypt: {algorithm: dir, encryption: A128GCM}"),
        "kind: Credential\nspec: {apiKey: {}, secretRef: {name: s}, owner: {user: a, application: b}}".into(),
        "kind: Federation\nspec: {}".into(),
        "kind: Federation\nspec: {oidc: {issuer: 'https://i', client: {clientId: c, authentication: {}}}}".into(),
        "kind: Federation\nspec: {saml: {entityId: a, metadata: {}}}".into(),
        "kind: Federation\nspec: \
            {saml: {entityId: a, metadata: {inline: '<EntityDescriptor/>', tls: {trustBundleRef: {name: s}}}}}"
            .into(),
        "kind: Credential\nspec: {person: {user: a}, secretRef: {name: s}}".into(),
        "kind: Credential\nspec: {signature: {keys: [{id: k, algorithm: ed25519, publicKey: a}]}, secretRef: {name: s}}"
            .into(),
        "kind: Credential\nspec: {signature: {keys: [{id: k, algorithm: ed25519, secretRef: {name: s}}]}}".into(),
        "kind: Credential\nspec: {signature: {keys: [{id: k, algorithm: hmac-sha256, publicKey: a}]}}".into(),
        "kind: Credential\nspec: {hmacJwt: {keys: [{id: k, secretRef: {name: s}}]}, apiKey: {}, secretRef: {name: s}}"
            .into(),
        policy("{name: m, signIn: {federationRefs: [{name: a}], stepUp: {}}}"),
        "kind: RoleBinding\nspec: {role: r, subjects: [{user: u, group: g}], scope: {project: {}}}".into(),
        "kind: RoleBinding\nspec: {role: r, subjects: [{credential: c, issuer: i}], scope: {project: {}}}".into(),
        "kind: RoleBinding\nspec: {role: r, subjects: [{user: u}], scope: {}}".into(),
        "kind: RoleBinding\nspec: {subjects: [{user: u}], scope: {project: {}}}".into(),
        "kind: RoleBinding\nspec: {role: r, subjects: [{user: u}], scope: {team: {name: a}}}".into(),
        "kind: RoleBinding\nspec: {role: r, subjects: [{serviceAccount: {name: a}}], scope: {project: {}}}".into(),
        "kind: RoleBinding\nspec: {permissionRole: SystemAdmin, subjects: [{user: u}], scope: {project: {}}}".into(),
        permissions("{kinds: [Federation], verbs: [Revoke]}"),
        permissions("{kinds: [Federation], verbs: [Rotate]}"),
        permissions("{kinds: [Credential], verbs: [Deploy]}"),
        permissions("{kinds: [RoleBinding], verbs: [ReadSecretMetadata]}"),
        policy(
            "{name: m, basic: {realm: r, credentialSelector: {matchLabels: {a: b}}, validators: [{credentials: \
            {}}]}}",
        ),
        policy("{name: m, basic: {realm: r, validators: [{}]}}"),
        format!(
            "kind: IdentityPolicy\nspec: {{{TARGET}, authentication: {{methods: [{{name: m, anonymous: {{}}}}]}}, \
             resource: {{identifier: 'https://a/'}}}}"
        ),
        "kind: Federation\nspec: {oidc: {issuer: 'https://i'}, login: {cacheSeconds: 1}}".into(),
        "kind: Federation\nspec: {oidc: {issuer: 'https://i'}, roleMappings: [{claim: a, roles: [r]}]}".into(),
        ldap("{}", "{base: dc=x}", "{memberOf: {}}"),
        ldap("{anonymous: {}}", "{}", "{memberOf: {}}"),
        ldap("{anonymous: {}}", "{base: dc=x}", "{memberOf: {}, tokenGroups: {}}"),
        rest("json: {a: b}, form: [{name: a, value: b}]"),
        rest("headers: [{name: A}]"),
        rest("headers: [{name: A, value: b, prefix: c}]"),
        request("a", &format!("{}, {RECIPIENT}", WANTED.replace("apiKey: {}, ", ""))),
        request("a", &format!("{}, {RECIPIENT}", WANTED.replace("policies: [p]", "methods: [GET]"))),
        request("a", &format!("{WANTED}, recipient: {{jwk: '{{\"kty\":\"OKP\",\"d\":\"x\"}}'}}")),
    ]
}

fn dry_run(object: &str) -> Result<String> {
    let object = object.replacen('\n', "\nmetadata: {name: x, namespace: default}\n", 1);
    kubectl_with(
        &["apply", "--dry-run=server", "-f", "-"],
        &format!("apiVersion: identity-manager.io/v1alpha1\n{object}\n"),
    )
}

fn rules(schema: &Value, out: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let own = members.get("x-kubernetes-validations").and_then(Value::as_array);
            out.extend(own.into_iter().flatten().filter_map(|rule| rule["message"].as_str().map(str::to_owned)));
            members.values().for_each(|value| rules(value, out));
        }
        Value::Array(items) => items.iter().for_each(|item| rules(item, out)),
        _ => {}
    }
}

#[test]
fn every_rule_of_every_kind_refuses_something_and_says_what_to_do() -> Result<()> {
    for object in GOOD {
        dry_run(object)?;
    }
    let mut said = refused_changes()? + &refused_changes_of_a_request()?;
    for object in broken() {
        match dry_run(&object) {
            Ok(_) => anyhow::bail!("accepted: {object}"),
            Err(error) => said.push_str(&format!("{error}\n")),
        }
    }
    let crds: Value = serde_json::from_str(&kubectl(&["get", "crd", "-o", "json"])?)?;
    let ours =
        crds["items"].as_array().into_iter().flatten().filter(|crd| crd["spec"]["group"] == "identity-manager.io");
    let mut all = Vec::new();
    ours.for_each(|crd| rules(&crd["spec"], &mut all));
    all.sort();
    all.dedup();
    ensure!(all.len() >= 15, "{all:?}");
    let unproven: Vec<_> = all.iter().filter(|message| !said.contains(*message)).collect();
    ensure!(unproven.is_empty(), "no object breaks: {unproven:#?}\n{said}");
    Ok(())
}
