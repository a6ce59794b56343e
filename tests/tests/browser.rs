//! A real browser and a certified OpenID provider, which know nothing of us, on the way through a gateway.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use idm_tests::{CLIENT_SECRET, Gateway, Upstream, interop_libraries, open_to};

#[test]
fn people_sign_in_with_chromium_at_a_certified_provider() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/sign-in.mjs");
    let mut provider = Command::new("node")
        .arg(script)
        .arg(interop_libraries())
        .env("CLIENT_SECRET", CLIENT_SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut out = BufReader::new(provider.stdout.take().unwrap());
    let mut issuer = String::new();
    out.read_line(&mut issuer).unwrap();
    let upstream =
        Upstream::answering("HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<body>ok</body>");
    let method = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n    identity: \
        {username: token.email}\n  upstream: {headers: [{name: X-Authenticated-UserId, value: identity.username}]}\n";
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp, uid: \
            uid-idp}}\nspec:\n  oidc:\n    issuer: {}\n    client:\n      clientId: shop\n      scopes: [profile, \
            email, offline_access]\n      parameters: [{{name: prompt, value: consent}}]\n      authentication: \
            {{clientSecretBasic: {{name: client}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: \
            client}}\nstringData: {{clientSecret: {CLIENT_SECRET}}}\n",
        issuer.trim()
    );
    let gateway = Gateway::start_with(
        &[("all.yaml", &format!("{}{federation}", open_to(&upstream, method)))],
        &["--danger-insecure-issuers"],
    );
    writeln!(provider.stdin.take().unwrap(), "http://{}", gateway.address).unwrap();
    let said = out.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    let output = provider.wait_with_output().unwrap();
    let refused: Vec<_> =
        gateway.records().iter().filter(|record| record["outcome"] != "Permitted").map(ToString::to_string).collect();
    assert!(
        output.status.success() && said.contains("done: 10 steps"),
        "{said}{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        refused.join("\n")
    );
    let seen = upstream.received();
    assert!(
        seen.to_ascii_lowercase().contains("x-authenticated-userid: ana@shop.example") && !seen.contains("OIDC_"),
        "{}",
        &seen[..seen.len().min(2000)]
    );
}
