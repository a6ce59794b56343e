//! API keys: where they travel, what ends them, and whom they speak for.

use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, open_to, raw};
use idm_types::ApiKey;

const SOURCES: &str = "    - {name: machines, apiKey: {sources: [{header: {name: X-Api-Key}}, {header: {name: \
    Authorization, scheme: ApiKey}}, {query: {name: key}}, {cookie: {name: key}}]}}\n";

fn credential(name: &str, key: &ApiKey, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-secret}}\nstringData: {{key: {}}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\nspec: {{apiKey: \
         {{}}, secretRef: {{name: {name}-secret}}, roles: [reader]{more}}}\n",
        key.reveal()
    )
}

fn send(gateway: &impl Serves, target: &str, headers: &str) -> Reply {
    raw(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
}

fn refused(gateway: &impl Serves, upstream: &Upstream, key: &str, status: u16, reason: &str) {
    upstream.forget();
    let reply = send(gateway, "/", &format!("X-Api-Key: {key}\r\n"));
    assert_eq!((reply.status, gateway.record(reply.decision())["reason"].as_str()), (status, Some(reason)));
    assert_eq!(upstream.received(), "");
}

#[test]
fn a_key_is_taken_from_header_query_or_cookie_and_goes_no_further() {
    let (upstream, key) = (Upstream::new(), ApiKey::from_random([7; 32]));
    let yaml = format!(
        "{}{}",
        open_to(&upstream, SOURCES),
        credential("batch", &key, ", attributes: [{name: tenant, value: acme}]")
    );
    let yaml = yaml.replace(
        "  authentication:\n",
        "  upstream: {headers: [{name: X-Tenant, value: credential.attributes.tenant}]}\n  authentication:\n",
    );
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let text = key.reveal();
    for (target, headers) in [
        ("/", format!("X-Api-Key: {text}\r\n")),
        ("/", format!("Authorization: ApiKey {text}\r\n")),
        (format!("/?a=1&key={text}").as_str(), String::new()),
        ("/", format!("Cookie: other=1; key={text}\r\n")),
    ] {
        upstream.forget();
        let reply = send(&gateway, target, &format!("{headers}X-Tenant: evil\r\nx_tenant: evil\r\n"));
        assert_eq!(reply.status, 200, "{target} {headers}");
        let received = upstream.received();
        assert!(
            received.contains("x-authenticated-userid: batch\r\n")
                && received.contains("x-authenticated-userroles: reader\r\n"),
            "{received}"
        );
        assert!(
            received.contains("x-tenant: acme\r\n") && !received.contains("evil") && !received.contains(text),
            "{received}"
        );
    }
    refused(&gateway, &upstream, ApiKey::from_random([8; 32]).reveal(), 401, "UnknownApiKey");
    refused(&gateway, &upstream, &text.replace("idm_", "idm_0")[..53], 401, "MalformedApiKey");
    refused(&gateway, &upstream, "hunter2", 401, "UnknownApiKey");
}

#[test]
fn a_key_that_ended_was_suspended_or_belongs_elsewhere_is_refused() {
    let upstream = Upstream::new();
    let keys: Vec<ApiKey> = (0..4).map(|n| ApiKey::from_random([n; 32])).collect();
    let yaml = [
        open_to(&upstream, SOURCES),
        credential("ended", &keys[0], ", expireTime: '2020-01-01T00:00:00Z'"),
        credential("suspended", &keys[1], ", suspend: true"),
        credential("elsewhere", &keys[2], ", access: {policies: [another]}"),
        credential("here", &keys[3], ", access: {policies: [p]}"),
    ]
    .concat();
    let gateway = InProcess::start(&[("all.yaml", &yaml)]);
    refused(&gateway, &upstream, keys[0].reveal(), 401, "CredentialExpired");
    refused(&gateway, &upstream, keys[1].reveal(), 401, "CredentialSuspended");
    refused(&gateway, &upstream, keys[2].reveal(), 403, "CredentialNotAllowedHere");
    assert_eq!(send(&gateway, "/", &format!("X-Api-Key: {}\r\n", keys[3].reveal())).status, 200);
}

#[test]
fn a_credential_named_like_a_user_is_not_that_user() {
    let (upstream, key) = (Upstream::new(), ApiKey::from_random([9; 32]));
    let binding = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: b}\nspec: \
        {role: admin, subjects: [{user: ana}], scope: {project: {}}}\n";
    let rule = "  authorization: {rules: [{name: admins, require: {roles: {all: [admin]}}}]}\n";
    let gateway = InProcess::start(&[(
        "all.yaml",
        &format!("{}{rule}{}{binding}", open_to(&upstream, SOURCES), credential("ana", &key, "")),
    )]);
    refused(&gateway, &upstream, key.reveal(), 403, "MissingRole");
    gateway.write(
        "all.yaml",
        &format!(
            "{}{rule}{}{}",
            open_to(&upstream, SOURCES),
            credential("ana", &key, ""),
            binding.replace("user: ana", "credential: ana")
        ),
    );
    idm_tests::eventually("the credential has the role by its own name", || {
        let status = send(&gateway, "/", &format!("X-Api-Key: {}\r\n", key.reveal())).status;
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    });
}
