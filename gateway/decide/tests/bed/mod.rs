//! The YAML for tests of decisions, and the callers in it.
#![allow(dead_code)] // each test uses a part of it

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use idm_compile::{Compiled, Settings, compile, yaml};
use idm_decide::{Decided, Decision, Offline, Peer};
use idm_types::{ApiKey, Reason, Stage, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// An API key that stays the same.
pub(crate) fn key() -> String {
    ApiKey::from_random([7; 32]).reveal().to_owned()
}

/// A Service under the host `up` with a policy of these methods and further lines of its spec.
pub(crate) fn policy(name: &str, methods: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\n\
         metadata: {{name: {name}, annotations: {{identity-manager.io/hostnames: {name}}}}}\n\
         spec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  targetRefs: [{{group: '', kind: Service, name: {name}}}]\n\
         \x20 authentication: {{methods: [{methods}]}}\n{rest}---\n"
    )
}

pub(crate) const API_KEY: &str = "{name: machines, apiKey: {}}";
pub(crate) const ANYONE: &str = "{name: anyone, anonymous: {}}";

/// The Credential of [`key`], with these roles.
pub(crate) fn robot(roles: &str) -> String {
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot}}\n\
         spec: {{apiKey: {{}}, secretRef: {{name: robot}}, roles: [{roles}]}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: robot}}\nstringData: {{key: {}}}\n",
        key()
    )
}

pub(crate) struct Bed(pub(crate) Offline);

impl Bed {
    pub(crate) fn new(yaml: &str) -> Self {
        Self(Offline::arm(&Self::compiled(yaml).seal(1), "test").expect("the plan is armed"))
    }

    /// Puts another YAML in force.
    pub(crate) fn change(&mut self, yaml: &str) {
        let generation = self.0.armed().version().0 + 1;
        self.0.swap(&Self::compiled(yaml).seal(generation)).expect("the plan is armed");
    }

    pub(crate) fn compiled(yaml: &str) -> Compiled {
        let files = [("all.yaml".to_owned(), yaml.to_owned())];
        let (world, _) = yaml::read_files(&files, Settings::of_a_folder(false)).expect("the YAML is read");
        let compiled = compile(&world, None);
        let errors: Vec<_> = compiled.report.errors().map(|finding| finding.message.clone()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        compiled
    }

    pub(crate) async fn ask(&self, method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Decision {
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).expect("a request");
        self.0.decide(&Peer::plain(Ipv4Addr::LOCALHOST.into()), request, NOW).await
    }

    /// The headers of the upstream's request.
    pub(crate) async fn forwarded(&self, host: &str, headers: &[(&str, &str)]) -> HeaderMap {
        match self.ask("GET", host, "/x", headers).await.outcome {
            Ok(Decided::Forward { head, .. }) => head.headers,
            Ok(Decided::Answer(_)) => panic!("the gateway answers itself"),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    /// The reason of a refusal, and the stage that it came to.
    pub(crate) async fn refused(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> (Reason, Stage) {
        let Decision { trace, outcome } = self.ask("GET", host, path, headers).await;
        (outcome.err().expect("it is refused").reason, trace.stage)
    }
}
