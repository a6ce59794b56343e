//! The options for records that the operator and its gateways share: how long a server keeps them, and the key of the
//! hashes that chain them.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use idm_audit::{ChainKey, Retention};
use idm_types::Redacted;

/// Options of the operator, which it hands on to its gateways.
#[derive(Args, Clone, Debug, Default)]
pub struct AuditSettings {
    /// Days after which Elasticsearch (ILM) or OpenSearch (ISM) deletes decisions
    #[arg(long, value_parser = days(), env = "IDM_ELASTICSEARCH_KEEP_DECISIONS_DAYS")]
    elasticsearch_keep_decisions_days: Option<u32>,
    /// Days after which it deletes records of changes
    #[arg(long, value_parser = days(), env = "IDM_ELASTICSEARCH_KEEP_CHANGES_DAYS")]
    elasticsearch_keep_changes_days: Option<u32>,
    /// File with a key of at least 32 bytes for the hashes that chain audit records; gateways get a copy of it
    #[arg(long, env = "IDM_AUDIT_CHAIN_KEY_FILE")]
    audit_chain_key_file: Option<PathBuf>,
}

fn days() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=36_500)
}

impl AuditSettings {
    /// The key in the file. One that is too short stops the operator before any gateway gets it.
    pub(crate) fn key_text(&self) -> anyhow::Result<Option<Redacted<String>>> {
        let text = crate::secret_of(self.audit_chain_key_file.as_deref())?;
        key_of(text.as_ref()).with_context(|| "--audit-chain-key-file")?;
        Ok(text)
    }

    /// How long records are kept.
    pub(crate) fn kept(&self) -> Retention {
        Retention {
            decisions_days: self.elasticsearch_keep_decisions_days,
            changes_days: self.elasticsearch_keep_changes_days,
        }
    }
}

/// The key of the operator's own records: the bytes that gateways read from their copy, too.
pub(crate) fn key_of(text: Option<&Redacted<String>>) -> anyhow::Result<ChainKey> {
    text.map_or_else(|| Ok(ChainKey::none()), |text| Ok(ChainKey::new(text.reveal().clone().into_bytes())?))
}

/// The arguments of a gateway pod; its copy of the key is in its Secret.
pub(super) fn arguments(kept: Retention, has_key: bool) -> impl Iterator<Item = String> {
    let Retention { decisions_days, changes_days } = kept;
    let days = |kind: &str, days: Option<u32>| days.map(|days| format!("--elasticsearch-keep-{kind}-days={days}"));
    let key = has_key.then(|| "--audit-chain-key-file=/config/audit-chain-key".to_owned());
    [days("decisions", decisions_days), days("changes", changes_days), key].into_iter().flatten()
}
