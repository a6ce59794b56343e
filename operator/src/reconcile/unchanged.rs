//! A reconcile of a namespace with many Credentials reads, compiles and writes nothing but what changed.

use idm_types::ApiKey;
use serde_json::json;

use super::api_server::{ApiServer, NAMESPACE, orders};
use super::parity::{DELETED, context};
use super::*;

fn key(number: u8, version: u8) -> String {
    ApiKey::from_random([number, version].repeat(16).try_into().unwrap()).reveal().to_owned()
}

fn robot(number: usize) -> String {
    let key = key((number % 256) as u8, 1 + (number / 256) as u8);
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: key-{number:03}}}
stringData: {{key: {key}}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {{name: robot-{number:03}}}
spec: {{apiKey: {{}}, secretRef: {{name: key-{number:03}}}}}
"
    )
}

#[tokio::test]
async fn what_did_not_change_is_not_written_and_a_change_of_one_key_is_one_shard() {
    let robots: String = (0..300).map(robot).collect();
    let server = ApiServer::new(&format!("{}{robots}", orders("{name: keys, apiKey: {}}")), DELETED);
    let context = context(&server);
    server.fill(&context.store);
    let queue = Arc::new(Queue::default());
    let run = || reconcile(&context, &queue, NAMESPACE);
    // Statuses are written in parts.
    for _ in 0..3 {
        run().await.unwrap();
    }
    let bundle = server.bundle().borrow().clone().unwrap();
    assert_eq!((bundle.shards.len(), bundle.credentials.all.len()), (64, 0));
    assert_eq!(bundle.shards.iter().map(|shard| shard.credentials).sum::<usize>(), 300);

    server.written();
    run().await.unwrap();
    // The substitute does not show the status of a policy that was written.
    let written = || -> Vec<String> {
        let all = server.written().into_iter();
        all.filter(|path| !path.contains("/identitypolicies/") && !path.contains("/events")).collect()
    };
    assert_eq!(written(), Vec::<String>::new());

    while tokio::time::timeout(Duration::from_millis(50), queue.next()).await.is_ok() {
        queue.done(NAMESPACE);
    }
    let epoch = queue.epoch(NAMESPACE);
    server.write(&json!({"kind": "Secret", "metadata": {"name": "key-007"}, "stringData": {"key": key(7, 99)}}));
    // The event of the Secret asks for it, and for no other compilation of policies.
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.unwrap(), NAMESPACE);
    assert_eq!(queue.epoch(NAMESPACE), epoch);
    server.written();
    run().await.unwrap();
    let number = idm_plan::shard_of(&idm_plan::ObjectKey::new(NAMESPACE, "robot-007"), 64);
    let place = format!("/api/v1/namespaces/{NAMESPACE}/secrets/idm-gateway");
    let status = format!("/apis/identity-manager.io/v1alpha1/namespaces/{NAMESPACE}/credentials/robot-007/status");
    assert_eq!(written(), [format!("{place}-shard-{number}"), place, status]);
    let next = server.bundle().borrow().clone().unwrap();
    assert_eq!(next.generation, bundle.generation + 1);
    let moved = next.shards.iter().zip(&bundle.shards).filter(|(a, b)| a != b).count();
    assert_eq!(moved, 1);
}
