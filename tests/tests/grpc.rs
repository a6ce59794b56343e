//! A gRPC server of the C core behind the gateway: it answers no request without `te: trailers`, and tells how a call
//! went in the trailers of its answer.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use idm_tests::{Gateway, interop_libraries, open_to_address, secret};
use idm_types::ApiKey;
use serde_json::{Value, json};

fn peer(arguments: &[&str]) -> Command {
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/grpc_peer.py");
    let mut command = Command::new(interop_libraries().join("python/bin/python"));
    command.arg(script).args(arguments).stdout(Stdio::piped());
    command
}

/// The server, and the metadata of each call that it took.
struct Server {
    child: Child,
    port: u16,
    calls: Receiver<Value>,
}

impl Server {
    fn start() -> Self {
        let mut child = peer(&["serve"]).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.next().and_then(|line| line.parse().ok()).expect("a port");
        let (seen, calls) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(seen.send(serde_json::from_str(&line).expect("JSON")))));
        Self { child, port, calls }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call(gateway: &Gateway, token: &str) -> Value {
    let output = peer(&["call", &gateway.address.port().to_string(), token]).output().expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn calls_of_a_grpc_client_reach_a_grpc_server_of_the_c_core() {
    let server = Server::start();
    let key = ApiKey::from_random([3; 32]).reveal().to_owned();
    let methods = "    - {name: keys, apiKey: {sources: [{header: {name: X-Api-Key}}]}}\n";
    let yaml = open_to_address(([127, 0, 0, 1], server.port).into(), methods).replacen(
        "name: http, port:",
        "name: grpc, appProtocol: kubernetes.io/h2c, port:",
        1,
    );
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: shop}\n\
                      spec: {apiKey: {}, secretRef: {name: shop}}\n";
    let yaml = format!("{yaml}{credential}{}", secret("shop", &[("key", key.clone())]));
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);

    let told = json!({"x-told": "at the end"});
    let outcome = call(&gateway, &key);
    assert_eq!(outcome["unary"], json!({"answer": "one x", "trailers": told}));
    assert_eq!(outcome["streaming"], json!({"answers": ["each 0", "each 1", "each 2"], "trailers": told}));
    // An answer without messages has its trailers in its head, among the head's other fields.
    let failed = &outcome["failed"];
    assert_eq!((&failed["code"], &failed["details"]), (&json!("FAILED_PRECONDITION"), &json!("as asked")));
    assert_eq!(failed["trailers"]["x-told"], "at the end", "{failed}");
    for _ in 0..3 {
        let metadata = server.calls.recv_timeout(Duration::from_secs(5)).expect("a call");
        assert_eq!(metadata["x-authenticated-userid"], "shop", "{metadata}");
        assert!(metadata.get("x-api-key").is_none(), "{metadata}");
    }

    let before = gateway.records().len();
    let refused = call(&gateway, ApiKey::from_random([4; 32]).reveal());
    for kind in ["unary", "failed", "streaming"] {
        assert_eq!(refused[kind]["code"], "UNAUTHENTICATED", "{refused}");
    }
    assert!(server.calls.try_recv().is_err(), "a refused call arrived");
    let records = gateway.records();
    let reasons: Vec<_> = records[before..].iter().filter(|record| record["outcome"] == "Denied").collect();
    assert_eq!((reasons.len(), &reasons[0]["reason"]), (3, &json!("UnknownApiKey")), "{records:#?}");
}

/// The same server behind a GRPCRoute, which needs no `appProtocol`: one method takes a key, the other has no rule.
#[test]
fn calls_of_a_grpc_client_are_routed_by_service_and_method() {
    let server = Server::start();
    let key = ApiKey::from_random([3; 32]).reveal().to_owned();
    let port = server.port;
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{port: {port}}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: \
         idm, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: \
         [{{name: g}}]\n  rules:\n  - {{name: unary, matches: [{{method: {{service: test.Echo, method: Unary}}}}], \
         backendRefs: [{{name: up, port: {port}}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: \
         [{{group: gateway.networking.k8s.io, kind: GRPCRoute, name: r, sectionName: unary}}]\n  authentication: \
         {{methods: [{{name: keys, apiKey: {{sources: [{{header: {{name: X-Api-Key}}}}]}}}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: shop}}\nspec: {{apiKey: {{}}, \
         secretRef: {{name: shop}}}}\n{}",
        secret("shop", &[("key", key.clone())])
    );
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let outcome = call(&gateway, &key);
    assert_eq!(outcome["unary"]["answer"], "one x", "{outcome}");
    assert_eq!(outcome["failed"]["code"], "FAILED_PRECONDITION", "{outcome}");
    assert_eq!(outcome["streaming"]["code"], "UNIMPLEMENTED", "{outcome}");
    let refused = call(&gateway, ApiKey::from_random([4; 32]).reveal());
    assert_eq!(refused["unary"]["code"], "UNAUTHENTICATED", "{refused}");
    let records = gateway.records();
    let routes: Vec<_> = records.iter().map(|record| record["route"].as_str().unwrap_or_default()).collect();
    assert!(routes.contains(&"GRPCRoute default/r rule unary"), "{routes:?}");
}
