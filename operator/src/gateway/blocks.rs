//! The options for automatic blocks at the gateways. The gateways know the defaults, so only given options are passed
//! on.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::limits::network;

/// Automatic blocks; each option is one of `idm gateway` of the same name, without `gateway-`.
#[derive(Args, Clone, Debug, Default)]
#[command(group = clap::ArgGroup::new("addresses-known").multiple(true))]
pub(super) struct BlockSettings {
    /// Whether gateways block addresses after many refused credentials, or only record that they would have
    #[arg(long, value_parser = ["off", "observe", "enforce"], requires_if("enforce", "addresses-known"))]
    gateway_blocks: Option<String>,
    /// No proxy or balancer hides the addresses of the gateways' callers
    #[arg(long, group = "addresses-known")]
    gateway_blocks_callers_connect_directly: bool,
    /// Different credentials of one address that are refused before it is blocked
    #[arg(long, value_parser = number(2, 100))]
    gateway_blocks_credentials: Option<u32>,
    /// Refusals of one credential at one address before this credential is blocked there
    #[arg(long, value_parser = number(2, 10_000))]
    gateway_blocks_failures: Option<u32>,
    /// Seconds in which refusals count together
    #[arg(long, value_parser = number(10, 86_400))]
    gateway_blocks_window_seconds: Option<u32>,
    /// Seconds that a block is in force
    #[arg(long, value_parser = number(10, 86_400))]
    gateway_blocks_seconds: Option<u32>,
    /// An address from which so many different callers were let in is not blocked
    #[arg(long, value_parser = number(0, 100))]
    gateway_blocks_spared_by: Option<u32>,
    /// Networks that are never blocked
    #[arg(long, value_delimiter = ',', value_parser = network)]
    gateway_blocks_never: Vec<String>,
}

fn number(least: u64, most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(least..=most)
}

impl BlockSettings {
    /// The arguments of a gateway pod.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        // No `..`: an option that users can set and that no gateway gets would have no effect.
        let Self {
            gateway_blocks,
            gateway_blocks_callers_connect_directly,
            gateway_blocks_credentials,
            gateway_blocks_failures,
            gateway_blocks_window_seconds,
            gateway_blocks_seconds,
            gateway_blocks_spared_by,
            gateway_blocks_never,
        } = self;
        let mode = gateway_blocks.as_ref().map(|mode| format!("--blocks={mode}"));
        let direct = gateway_blocks_callers_connect_directly.then(|| "--blocks-callers-connect-directly".to_owned());
        let never = gateway_blocks_never.join(",");
        let never = (!never.is_empty()).then(|| format!("--blocks-never={never}"));
        let numbers = [
            ("credentials", gateway_blocks_credentials),
            ("failures", gateway_blocks_failures),
            ("window-seconds", gateway_blocks_window_seconds),
            ("seconds", gateway_blocks_seconds),
            ("spared-by", gateway_blocks_spared_by),
        ];
        let numbers =
            numbers.map(|(option, number)| number.as_ref().map(|number| format!("--blocks-{option}={number}")));
        mode.into_iter().chain(direct).chain(numbers.into_iter().flatten()).chain(never)
    }
}
