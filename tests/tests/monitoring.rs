//! The chart's alerts and dashboard: Prometheus takes them, and they speak of metrics that gateways export.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use idm_tests::{Authority, Gateway, Prometheus, Upstream, eventually, policy_of, raw, route_to, secret};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The chart's objects with these values, by kind.
fn chart(values: &[&str]) -> Vec<Value> {
    let helm = Command::new(root().join("tests/tools/helm")).output().expect("tests/tools/helm runs");
    assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
    let mut command = Command::new(String::from_utf8_lossy(&helm.stdout).trim());
    command.args(["template", "idm", "-n", "idm-system", "--kube-version", "v1.33.0"]).arg(root().join("charts/idm"));
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().expect("helm runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML")).collect()
}

fn of_kind(objects: &[Value], kind: &str) -> Option<Value> {
    objects.iter().find(|object| object["kind"] == kind).cloned()
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).current_dir(root()).output().expect("promtool is installed");
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    said
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("idm_"));
    words.map(str::to_owned).collect()
}

/// A gateway with a control port, and a few requests.
struct Served {
    gateway: Gateway,
    admin: SocketAddr,
}

fn served(upstream: &Upstream) -> Served {
    let authority = Authority::new("servers");
    authority.issue("localhost", "DNS:localhost", "serverAuth", "20400101000000Z");
    let pem = [("tls.crt", authority.read("localhost.crt")), ("tls.key", authority.read("localhost.key"))];
    let certificate = secret("server", &pem);
    let listeners = "{name: http, port: 80, protocol: HTTP}";
    let both =
        format!("{listeners}, {{name: s, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}");
    let (port, dead) = (idm_tests::free_port(), "matches: [{path: {type: PathPrefix, value: /dead}}]");
    let rules =
        format!("  - {{name: all, UP}}\n  - {{name: dead, {dead}, backendRefs: [{{name: gone, port: {port}}}]}}\n");
    let route = route_to(upstream, &rules).replace(listeners, &both);
    let gone = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: gone}}\n\
         spec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{port: {port}}}]}}\n"
    );
    let files = [route, policy_of("p", None, "{name: all, anonymous: {}}", ""), gone, certificate].concat();
    let admin = idm_tests::free_address();
    let arguments = ["--admin", &admin.to_string(), "--listen-tls", "127.0.0.1:0"];
    let gateway = Gateway::start_with(&[("all.yaml", &files)], &arguments);
    eventually("the control port", || TcpStream::connect(admin).map_err(|error| error.to_string()));
    for path in ["/", "/a//b", "/dead"] {
        raw(gateway.address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    }
    Served { gateway, admin }
}

/// The names of all samples that a gateway can export, whether it has one now or not.
fn exported(admin: SocketAddr) -> BTreeSet<String> {
    let text = raw(admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let samples = types.flat_map(|(name, kind)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
        _ => vec![name.to_owned()],
    });
    samples.collect()
}

#[test]
fn alerts_and_dashboard_are_in_the_chart_by_choice() {
    let none = chart(&[]);
    assert!(of_kind(&none, "PrometheusRule").is_none() && of_kind(&none, "ConfigMap").is_none());
    let all = chart(&[
        "gateway.metrics.prometheusRule.enabled=true",
        "gateway.metrics.prometheusRule.labels.release=mine",
        "gateway.metrics.dashboard.enabled=true",
    ]);
    let rule = of_kind(&all, "PrometheusRule").expect("a PrometheusRule");
    let expected: Value = serde_yaml_ng::from_str(&read("charts/idm/files/alerts.yaml")).unwrap();
    assert_eq!((&rule["spec"], &rule["metadata"]["labels"]["release"]), (&expected, &Value::from("mine")));
    let dashboard = of_kind(&all, "ConfigMap").expect("a ConfigMap");
    assert_eq!(dashboard["data"]["idm-gateways.json"], read("charts/idm/files/dashboard.json"));
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
}

/// The arguments of the operator that begin so.
fn arguments(objects: &[Value], prefix: &str) -> Vec<String> {
    let deployment = of_kind(objects, "Deployment").expect("a Deployment");
    let arguments =
        deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments").clone();
    let texts = arguments.iter().map(|argument| argument.as_str().expect("text").to_owned());
    texts.filter(|argument| argument.starts_with(prefix)).collect()
}

#[test]
fn the_collector_of_traces_is_named_by_choice() {
    assert_eq!(arguments(&chart(&[]), "--gateway-traces"), [""; 0]);
    let all = chart(&[
        "gateway.traces.url=http://collector.monitoring:4318",
        "gateway.traces.ratio=0",
        "gateway.traces.callers=trusted",
        "gateway.traces.callersPerSecond=1000000",
        "gateway.traces.authorizationSecret=collector",
    ]);
    assert_eq!(
        arguments(&all, "--gateway-traces"),
        [
            "--gateway-traces=http://collector.monitoring:4318",
            "--gateway-traces-ratio=0",
            "--gateway-traces-callers=trusted",
            "--gateway-traces-callers-per-second=1000000",
            "--gateway-traces-authorization-file=/traces/authorization",
        ]
    );
    let deployment = of_kind(&all, "Deployment").unwrap();
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "collector"), "{volumes:?}");
}

#[test]
fn every_alert_begins_when_it_should() {
    promtool(&["check", "rules", "charts/idm/files/alerts.yaml"]);
    promtool(&["test", "rules", "tests/prometheus/alerts.yaml"]);
    let rules: Value = serde_yaml_ng::from_str(&read("charts/idm/files/alerts.yaml")).unwrap();
    let tests = read("tests/prometheus/alerts.yaml");
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    for rule in rules {
        let alert = rule["alert"].as_str().expect("a name");
        assert!(tests.contains(&format!("alertname=\"{alert}\", alertstate=\"firing\"")), "{alert} has no test");
        let description = rule["annotations"]["description"].as_str().unwrap_or_default();
        assert!(description.len() > 80, "{alert} does not say what to do");
    }
    assert_eq!(rules.len(), 20);
}

#[test]
fn alerts_and_their_tests_speak_of_metrics_that_gateways_export() {
    let upstream = Upstream::new();
    let Served { gateway, admin } = served(&upstream);
    let exported = exported(admin);
    let of_operator = read("operator/src/changes/count.rs");
    for file in ["charts/idm/files/alerts.yaml", "tests/prometheus/alerts.yaml", "docs/operations.md"] {
        let named = names(&read(file));
        let is_known = |name: &&String| {
            // The operator's metrics are few; it writes them by hand.
            name.starts_with("idm_operator_") && of_operator.contains(&format!("# TYPE {name} "))
                || exported.contains(*name)
                || exported.contains(&format!("{name}_count"))
                || name.ends_with('_')
        };
        let unknown: Vec<_> = named.iter().filter(|name| !is_known(name)).collect();
        assert!(named.len() > 10 && unknown.is_empty(), "{file}: {unknown:?} of {named:?}");
    }
    gateway.stop();
}

/// The expressions of the dashboard's panels, and of its variables, as Grafana sends them.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let filled = |text: &str| {
        let text = text.replace("$__rate_interval", "10s").replace("$namespace", ".*").replace("$route", ".*");
        assert!(!text.contains('$'), "{text}");
        text
    };
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        panel["targets"].as_array().into_iter().flatten().map(move |target| (title, &target["expr"]))
    });
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables = variables.iter().filter(|variable| variable["type"] == "query").map(|variable| {
        let query = variable["definition"].as_str().expect("a query");
        let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')')).expect(query);
        let (series, label) = inner.rsplit_once(", ").expect(query);
        ("a variable".to_owned(), filled(&format!("count by ({label}) ({series})")))
    });
    let targets = targets.map(|(title, expression)| (title.to_owned(), filled(expression.as_str().expect("text"))));
    targets.chain(variables).collect()
}

#[test]
fn every_expression_of_the_dashboard_finds_what_gateways_export() {
    let upstream = Upstream::new();
    let Served { gateway, admin } = served(&upstream);
    let exported = exported(admin);
    let prometheus = Prometheus::of(&[admin]);
    let rate = "sum(rate(idm_requests_total[10s]))";
    eventually("two scrapes", || prometheus.value(rate).map(drop).ok_or_else(String::new));
    let sampled: BTreeSet<String> = {
        let values = prometheus.ask("label/__name__/values", &[]).unwrap();
        values.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let dashboard: Value = serde_json::from_str(&read("charts/idm/files/dashboard.json")).unwrap();
    let (mut shown, expressions) = (BTreeSet::new(), expressions(&dashboard));
    for (panel, expression) in &expressions {
        let named = names(expression);
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{panel}: {unknown:?}");
        let data = prometheus.ask("query", &[("query", expression)]);
        let data = data.unwrap_or_else(|error| panic!("{panel}: {expression}: {error}"));
        // Metrics with samples are found by their labels; a comparison finds only what is wrong.
        let found = data["result"].as_array().map_or(0, Vec::len);
        if named.is_subset(&sampled) && !expression.contains("> 0") && !expression.contains("status!~") {
            assert!(found > 0, "{panel}: nothing is found by {expression}");
            shown.extend(named);
        }
    }
    assert!(expressions.len() > 30 && shown.len() > 15, "{} expressions, {shown:?}", expressions.len());
    // Each label by which something is told apart is one that the samples have.
    for (panel, expression) in &expressions {
        for by in expression.split(" by (").skip(1).filter_map(|rest| rest.split_once(')')) {
            for label in by.0.split(", ").filter(|label| !["pod", "namespace", "le"].contains(label)) {
                let name = names(expression).into_iter().next().expect("a metric");
                let data = prometheus.ask("query", &[("query", &format!("count({name}{{{label}!=\"\"}})"))]).unwrap();
                let is_there = !data["result"].as_array().unwrap().is_empty() || !sampled.contains(&name);
                assert!(is_there, "{panel}: {name} has no label {label}");
            }
        }
    }
    gateway.stop();
}
