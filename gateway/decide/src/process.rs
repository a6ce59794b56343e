use std::sync::Arc;

use idm_limit::Blocks;
use idm_transform::Quotas;
use idm_types::Clock;

use crate::held::{BodyLimits, Holding};

/// The state that all decisions of a gateway's process share, whatever the configuration.
pub struct Process {
    /// The gateway's name in records and expressions.
    pub gateway: String,
    /// The memory of bodies that are held.
    pub holding: Arc<Holding>,
    /// The blocks of addresses, which are the first thing that a request is asked.
    pub(crate) blocks: Arc<Blocks>,
    /// The clock by which blocks end.
    pub(crate) clock: Clock,
    /// Tokens of language models that callers used here.
    pub(crate) quotas: Quotas,
}

impl Process {
    /// A process that holds no bodies and has counted no tokens yet, and blocks nobody.
    pub fn new(gateway: impl Into<String>, bodies: BodyLimits) -> Self {
        Self::blocking(gateway, bodies, Blocks::off(), Clock::of_process())
    }

    /// The same with blocks, which end by this clock.
    pub fn blocking(gateway: impl Into<String>, bodies: BodyLimits, blocks: Arc<Blocks>, clock: Clock) -> Self {
        let (holding, quotas) = (Holding::new(bodies), Quotas::default());
        Self { gateway: gateway.into(), holding, blocks, clock, quotas }
    }
}
