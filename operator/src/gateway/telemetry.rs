//! What the gateways tell about their traffic. The gateways know the defaults, so only given options are passed on.

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
}

impl Telemetry {
    /// The arguments of a gateway pod.
    pub(super) fn arguments(&self) -> Vec<String> {
        // No `..`: an option that users can set and that no gateway gets would have no effect.
        let Self { gateway_metrics_consumers, gateway_access_log } = self;
        let consumers = gateway_metrics_consumers.map(|number| number.to_string());
        [("metrics-consumers", consumers), ("access-log", gateway_access_log.clone())]
            .into_iter()
            .filter_map(|(option, value)| Some(format!("--{option}={}", value?)))
            .collect()
    }
}
