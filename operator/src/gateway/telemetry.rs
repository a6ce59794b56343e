//! The options for the output of gateways about their traffic, and for their way to outside servers. The gateways know
//! the defaults, so only given options are passed on.

use clap::Args;
use clap::builder::RangedU64ValueParser;

/// Options of the gateways; each is one of `idm gateway` of the same name, without `gateway-`.
#[derive(Args, Clone, Debug, Default)]
pub struct Telemetry {
    /// Most consumers that have metrics of their own, of a gateway pod
    #[arg(long, value_parser = RangedU64ValueParser::<u32>::new().range(0..=10_000))]
    gateway_metrics_consumers: Option<u32>,
    /// A line on standard output for each request of a gateway pod
    #[arg(long, value_parser = ["off", "json", "combined"])]
    gateway_access_log: Option<String>,
    /// Collector that gateways send spans to with OTLP over HTTP, for example http://collector.monitoring:4318
    #[arg(long)]
    gateway_traces: Option<String>,
    /// The share of traces that are recorded of those that begin at a gateway, from 0 to 1
    #[arg(long, value_parser = share)]
    gateway_traces_ratio: Option<String>,
    /// How far the traceparent of callers of a gateway decides
    #[arg(long, value_parser = ["bounded", "trusted", "ignored"])]
    gateway_traces_callers: Option<String>,
    /// Most requests in a second of a gateway pod that are recorded because their callers record them
    #[arg(long)]
    gateway_traces_callers_per_second: Option<u32>,
    /// Proxy on the way of gateways to issuers and other outside servers, for example http://proxy.corp:3128; without a
    /// password, which would be seen in the Deployment
    #[arg(long, value_parser = proxy)]
    gateway_egress_proxy: Option<String>,
    /// Servers that gateways reach without it, separated by commas
    #[arg(long)]
    gateway_no_proxy: Option<String>,
}

fn proxy(text: &str) -> Result<String, String> {
    let known = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    match known && !text.contains('@') {
        true => Ok(text.to_owned()),
        false => Err("give an http or https URL without a user, for example http://proxy.corp:3128".to_owned()),
    }
}

fn share(text: &str) -> Result<String, String> {
    let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.map(|_| text.to_owned()).ok_or_else(|| "give a share from 0 to 1, for example 0.01".to_owned())
}

impl Telemetry {
    /// The arguments of a gateway pod.
    pub(super) fn arguments(&self) -> Vec<String> {
        // No `..`: an option that users can set and that no gateway gets would have no effect.
        let Self {
            gateway_metrics_consumers,
            gateway_access_log,
            gateway_traces,
            gateway_traces_ratio,
            gateway_traces_callers,
            gateway_traces_callers_per_second,
            gateway_egress_proxy,
            gateway_no_proxy,
        } = self;
        [
            ("metrics-consumers", gateway_metrics_consumers.map(|number| number.to_string())),
            ("access-log", gateway_access_log.clone()),
            ("traces", gateway_traces.clone()),
            ("traces-ratio", gateway_traces_ratio.clone()),
            ("traces-callers", gateway_traces_callers.clone()),
            ("traces-callers-per-second", gateway_traces_callers_per_second.map(|number| number.to_string())),
            ("egress-proxy", gateway_egress_proxy.clone()),
            ("no-proxy", gateway_no_proxy.clone()),
        ]
        .into_iter()
        .filter_map(|(option, value)| Some(format!("--{option}={}", value?)))
        .collect()
    }
}
