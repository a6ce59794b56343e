//! The limits of the gateways' callers. The gateways know the defaults, so only given limits are passed on.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::blocks::BlockSettings;

/// Limits of the gateways; each is an option of `idm gateway` of the same name, without `gateway-`.
#[derive(Args, Clone, Debug, Default)]
pub struct CallerLimits {
    /// Most connections of callers in sum, of a gateway pod
    #[arg(long, value_parser = count())]
    gateway_max_connections: Option<u32>,
    /// Most connections of one address
    #[arg(long, value_parser = count())]
    gateway_max_connections_per_address: Option<u32>,
    /// Most requests under way in sum, of a gateway pod
    #[arg(long, value_parser = count())]
    gateway_max_requests: Option<u32>,
    /// Most requests under way of one address
    #[arg(long, value_parser = count())]
    gateway_max_requests_per_address: Option<u32>,
    /// Milliseconds for a whole head
    #[arg(long, value_parser = milliseconds())]
    gateway_head_timeout_ms: Option<u32>,
    /// Milliseconds that a connection may wait for its next request
    #[arg(long, value_parser = milliseconds())]
    gateway_idle_timeout_ms: Option<u32>,
    /// Milliseconds that an answer may wait for its caller
    #[arg(long, value_parser = milliseconds())]
    gateway_write_timeout_ms: Option<u32>,
    /// Memory of a gateway pod for bodies that are held, in MiB
    #[arg(long, value_parser = binary())]
    gateway_bodies_max_mib: Option<u32>,
    /// Seconds that a held body may take
    #[arg(long, value_parser = seconds())]
    gateway_body_deadline_seconds: Option<u32>,
    /// Seconds that a held body may fall behind the least rate
    #[arg(long, value_parser = seconds())]
    gateway_body_pause_seconds: Option<u32>,
    /// The least rate of a held body, in KiB a second
    #[arg(long, value_parser = binary())]
    gateway_body_least_kib: Option<u32>,
    /// Networks of proxies that the gateways believe about their clients, for example 10.0.0.0/8,fd00::/8
    #[arg(long, value_delimiter = ',', value_parser = network, group = "addresses-known")]
    gateway_trusted_proxies: Vec<String>,
    /// Connections of callers begin with a header of the PROXY protocol
    #[arg(long, requires = "gateway_trusted_proxies")]
    gateway_proxy_protocol: bool,
    #[command(flatten)]
    blocks: BlockSettings,
}

/// Checked here, so that no pod starts with a network that it does not take.
pub(super) fn network(text: &str) -> Result<String, String> {
    let is_one = idm_plan::Network::parse(text).is_some();
    is_one.then(|| text.to_owned()).ok_or_else(|| "give a network such as 10.0.0.0/8".to_owned())
}

fn count() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..)
}

fn milliseconds() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(100..=86_400_000)
}

fn seconds() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=3600)
}

fn binary() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=1_048_576)
}

impl CallerLimits {
    /// The arguments of a gateway pod.
    pub(super) fn arguments(&self) -> Vec<String> {
        // No `..`: a limit that users can set and that no gateway gets would have no effect.
        let Self {
            gateway_max_connections,
            gateway_max_connections_per_address,
            gateway_max_requests,
            gateway_max_requests_per_address,
            gateway_head_timeout_ms,
            gateway_idle_timeout_ms,
            gateway_write_timeout_ms,
            gateway_bodies_max_mib,
            gateway_body_deadline_seconds,
            gateway_body_pause_seconds,
            gateway_body_least_kib,
            gateway_trusted_proxies,
            gateway_proxy_protocol,
            blocks,
        } = self;
        let proxies = gateway_trusted_proxies.join(",");
        let trusted = (!proxies.is_empty()).then(|| format!("--trusted-proxies={proxies}"));
        let protocol = gateway_proxy_protocol.then(|| "--proxy-protocol".to_owned());
        [
            ("max-connections", gateway_max_connections),
            ("max-connections-per-address", gateway_max_connections_per_address),
            ("max-requests", gateway_max_requests),
            ("max-requests-per-address", gateway_max_requests_per_address),
            ("head-timeout-ms", gateway_head_timeout_ms),
            ("idle-timeout-ms", gateway_idle_timeout_ms),
            ("write-timeout-ms", gateway_write_timeout_ms),
            ("bodies-max-mib", gateway_bodies_max_mib),
            ("body-deadline-seconds", gateway_body_deadline_seconds),
            ("body-pause-seconds", gateway_body_pause_seconds),
            ("body-least-kib", gateway_body_least_kib),
        ]
        .into_iter()
        .filter_map(|(option, value)| Some(format!("--{option}={}", value.as_ref()?)))
        .chain(trusted)
        .chain(protocol)
        .chain(blocks.arguments())
        .collect()
    }
}
