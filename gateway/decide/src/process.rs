use std::sync::Arc;

use idm_transform::Quotas;

use crate::held::{BodyLimits, Holding};

/// The state that all decisions of a gateway's process share, whatever the configuration.
pub struct Process {
    /// The gateway's name in records and expressions.
    pub gateway: String,
    /// The memory of bodies that are held.
    pub holding: Arc<Holding>,
    /// Tokens of language models that callers used here.
    pub(crate) quotas: Quotas,
}

impl Process {
    /// A process that holds no bodies and has counted no tokens yet.
    pub fn new(gateway: impl Into<String>, bodies: BodyLimits) -> Self {
        Self { gateway: gateway.into(), holding: Holding::new(bodies), quotas: Quotas::default() }
    }
}
