//! The operator and the folder reader give the same configuration: for objects that are watched in an API server, and
//! for the same objects exported into files.

use std::time::Duration;

use idm_audit::{Spool, SpoolConfig, SpoolHandle};
use idm_compile::{Compiled, Layout, Settings, compile, yaml::read_files};
use idm_plan::{Bundle, CONTROL_TOKEN, SecretHandle};
use kube::runtime::events::{Recorder, Reporter};

use super::api_server::{ApiServer, NAMESPACE};
use super::*;
use crate::{CallerLimits, GatewaySettings, Telemetry};

pub(super) const SAMPLES: &str = concat!(
    include_str!("../../../config/samples/orders.yaml"),
    "---\n",
    include_str!("../../../config/samples/people.yaml"),
    "---\n",
    include_str!("../../../config/samples/tokens.yaml"),
);

/// More than the samples have: keys in a Secret, authorities in a ConfigMap, a password, and a Gateway of another
/// class.
const MORE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: inner, annotations: {identity-manager.io/hostnames: 'inner.example'}}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: inner}
spec:
  targetRefs: [{group: '', kind: Service, name: inner}]
  authentication:
    methods:
    - name: machines
      jwt:
        issuers:
        - {issuer: 'https://idp.example', audiences: [inner], algorithms: [ES256], keys: {secretRef: {name: shared}}}
    - {name: people, basic: {realm: inner}}
    - {name: devices, mtls: {trustBundleRef: {kind: ConfigMap, name: roots}, identity: URI}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots}
data: {ca.crt: \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"}
---
apiVersion: v1
kind: Secret
metadata: {name: shared}
stringData:
  jwks.json: '{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",
    \"y\": \"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}'
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana}
spec: {password: {}, roles: [order-writer], secretRef: {name: ana-password}}
---
apiVersion: v1
kind: Secret
metadata: {name: ana-password}
stringData: {password: correct horse}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: of-another-class}
spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: shop}]
  hostnames: [calls.shop.example]
  rules: [{matches: [{method: {service: shop.Orders}}], backendRefs: [{name: inner, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: idm}
spec: {controllerName: identity-manager.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
";

/// A rival for a Service that another policy holds, and older than it: while it exists, the plan differs.
pub(super) const DELETED: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: a-rival}
spec:
  targetRefs: [{group: '', kind: Service, name: inner}]
  authentication: {methods: [{name: everyone, anonymous: {}}]}
";

/// The policies of each gateway.
const POLICIES: [(&str, &[&str]); 2] =
    [("idm-gateway", &["inner", "people"]), ("idm-gateway-shop", &["health", "orders", "reports"])];

type Bundles = BTreeMap<String, Bundle>;

pub(crate) fn context(server: &Arc<ApiServer>) -> Context {
    let settings = GatewaySettings {
        operator_namespace: super::api_server::HOME.into(),
        metrics_namespaces: vec![],
        image: "idm".into(),
        pull_policy: "Never".into(),
        layout: Layout::Own,
        replicas: 1,
        cpu_request: "1m".into(),
        memory_limit: "1Mi".into(),
        limits: CallerLimits::default(),
        telemetry: Telemetry::default(),
        traces_authorization: None,
        audit_on_full: "refuse".into(),
        audit_successes: "within-moments".into(),
        sealing: None,
        store: Some("redis://store".into()),
        store_password: None,
        elasticsearch: None,
        elasticsearch_authorization: None,
        kept: idm_audit::Retention::default(),
        chain_key: None,
    };
    let reporter = Reporter { controller: crate::MANAGER.into(), instance: None };
    Context {
        recorder: Recorder::new(server.client(), reporter),
        store: watch::Store::default(),
        settings,
        http: reqwest::Client::new(),
        client: server.client(),
        hashes: idm_compile::PasswordHashes::default(),
        served: crate::served::Board::default(),
        compiled: crate::compiled::Compilations::default(),
        named: crate::named::Named::default(),
        stored: crate::gateway::Stored::default(),
        sealing: None,
        registers: crate::keys::Registers::default(),
        key_uses: crate::key_uses::KeyUses::default(),
        permissions: crate::permissions::Board::default(),
        permission_issuers: Default::default(),
        heard: tokio::sync::Mutex::default(),
        requests: crate::requests::Board::new(None),
        changes: crate::changes::Settings { webhook: String::new(), address: None, port: 0, gitops: false },
        change_count: Arc::default(),
        watched_until: None,
    }
}

/// The bundles of a folder with the exported objects, by the name of the gateway. `made` are the operator's: they alone
/// have the token for the control port. An error says what is wrong with the objects, as long as not all of them have
/// arrived.
fn from_folder(exported: String, made: &Bundles) -> Result<Bundles, String> {
    // The same trust that the operator has in the authors of the objects, whose gateways share a store, and the same
    // gateways.
    let settings = Settings { remembers_together: true, layout: Layout::Own, ..Settings::default() };
    let (world, _) = read_files(&[("all.yaml".into(), exported)], settings).expect("a folder reads it");
    let Compiled { parts, credentials, report, .. } = compile(&world, None);
    // While objects arrive, Secrets of theirs may not have been made yet.
    let errors: Vec<_> = report.errors().collect();
    if !errors.is_empty() {
        return Err(format!("{errors:#?}"));
    }
    let token = SecretHandle(CONTROL_TOKEN.into());
    let bundles = parts.iter().map(|part| {
        let (name, mut secrets) = (gateway::name(&part.part), part.secrets.clone());
        if let Some(value) = made.get(&name).and_then(|made| made.secrets.get(&token)) {
            secrets.put(token.clone(), value.clone());
        }
        let generation = made.get(&name).map_or(0, |made| made.generation);
        (name, Bundle::seal(part.plan.clone(), secrets, credentials.clone(), generation))
    });
    Ok(bundles.collect())
}

/// The digests of gateways by name.
fn digests(bundles: &Bundles) -> BTreeMap<&str, &str> {
    bundles.iter().map(|(name, bundle)| (name.as_str(), bundle.digest.as_str())).collect()
}

/// Runs the operator against the server until its bundles are equal to those of a folder with the same objects;
/// otherwise returns the last ones and the expected ones.
async fn agreed(server: &Arc<ApiServer>, spool_handle: SpoolHandle) -> Result<Bundles, String> {
    let mut bundles = server.bundles();
    let (_, notes) = tokio::sync::mpsc::channel(1);
    let context = Arc::new(context(server));
    let (changed, _recorder) = crate::changes::Recorder::start(context.clone(), notes, spool_handle);
    tokio::spawn(run(context, changed));
    // Objects arrive one by one; after the last of them the two are equal, whatever the result was before.
    let is_equal = |made: &Bundles| from_folder(server.exported(), made).is_ok_and(|of| digests(&of) == digests(made));
    let agreed = bundles.wait_for(is_equal);
    if let Ok(made) = tokio::time::timeout(Duration::from_secs(60), agreed).await {
        return Ok(made.expect("the server is there").clone());
    }
    let made = server.bundles().borrow().clone();
    let expected = from_folder(server.exported(), &made)?;
    let plans = |of: &Bundles| of.iter().map(|(name, of)| (name.clone(), of.plan.clone())).collect::<Vec<_>>();
    Err(format!("operator: {:#?}\nfolder: {:#?}", plans(&made), plans(&expected)))
}

#[test]
fn what_the_operator_watches_and_what_a_folder_holds_give_the_same_digest() {
    let server = ApiServer::new(&format!("{SAMPLES}{MORE}"), DELETED);
    let audit = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig::in_folder(audit.path(), 1 << 20)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let agreed = runtime.block_on(agreed(&server, spool.spool_handle()));
    // Its tasks end first: the spool waits for their records.
    drop(runtime);
    spool.close();
    let made = agreed.unwrap_or_else(|different| panic!("{different}"));
    let policies = |of: &Bundle| of.plan.policies.iter().map(|policy| policy.key.name.clone()).collect::<Vec<_>>();
    let all: Vec<_> = made.iter().map(|(name, of)| (name.as_str(), policies(of))).collect();
    assert_eq!(all, POLICIES.map(|(name, of)| (name, of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())));
    for bundle in made.values() {
        assert_eq!(bundle.plan.namespace, NAMESPACE);
        assert!(!bundle.secrets.is_empty() && !bundle.plan.hosts.is_empty());
    }
}
