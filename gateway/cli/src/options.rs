//! Flags that several verbs share.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use idm_audit::ship::Elasticsearch;
use idm_audit::{OnFull, Successes};
use idm_gateway::AuditOptions;
use idm_store::SharedOptions;
use idm_types::Redacted;

/// Where audit records go
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// Folder for audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    /// What happens to requests while records cannot be stored
    #[arg(long, value_enum, default_value = "refuse", env = "IDM_AUDIT_ON_FULL")]
    audit_on_full: OnFullArg,
    /// When the record of a success is on disk; that of a refusal always is before the answer
    #[arg(long, value_enum, default_value = "within-moments", env = "IDM_AUDIT_SUCCESSES")]
    audit_successes: SuccessesArg,
    /// Most disk space for records, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576), env = "IDM_AUDIT_MAX_MIB")]
    audit_max_mib: u64,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

/// Which Elasticsearch
#[derive(Args, Clone, Debug)]
pub(crate) struct ElasticsearchArgs {
    /// Elasticsearch or OpenSearch to ship records to, for example https://es:9200
    #[arg(long, env = "IDM_ELASTICSEARCH")]
    elasticsearch: Option<String>,
    /// File with the value of the Authorization header, for example `ApiKey …`
    #[arg(long, env = "IDM_ELASTICSEARCH_AUTHORIZATION_FILE")]
    elasticsearch_authorization_file: Option<PathBuf>,
    /// PEM file with certificates to trust besides the system's
    #[arg(long, env = "IDM_ELASTICSEARCH_CA_FILE")]
    elasticsearch_ca_file: Option<PathBuf>,
}

/// What gateways remember together
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// Redis or Valkey that gateways share, for example redis://valkey:6379 or rediss:// for TLS [default: each
    /// remembers for itself]
    #[arg(long, env = "IDM_STORE")]
    store: Option<String>,
    /// The user, where the store has users
    #[arg(long, env = "IDM_STORE_USERNAME")]
    store_username: Option<String>,
    /// File with the password for the store
    #[arg(long, env = "IDM_STORE_PASSWORD_FILE")]
    store_password_file: Option<PathBuf>,
    /// PEM file with certificates to trust besides the system's
    #[arg(long, env = "IDM_STORE_CA_FILE")]
    store_ca_file: Option<PathBuf>,
}

impl StoreArgs {
    pub(crate) fn options(&self, namespace: &str) -> anyhow::Result<Option<SharedOptions>> {
        let Some(url) = self.store.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
                .transpose()
        };
        let password = read(&self.store_password_file)?
            .map(|bytes| String::from_utf8(bytes).context("the store's password file must hold text"))
            .transpose()?;
        let password = password.map(|text| Redacted::new(text.trim().to_owned()));
        Ok(Some(SharedOptions {
            url,
            username: self.store_username.clone(),
            password,
            ca_pem: read(&self.store_ca_file)?,
            namespace: namespace.to_owned(),
        }))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFullArg {
    /// Requests are refused: nothing happens unrecorded
    Refuse,
    /// Requests are served and the loss is counted
    Shed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SuccessesArg {
    /// Moments after the answer: what a killed process answered last may have no record
    WithinMoments,
    /// Before the answer: every success waits for the disk
    BeforeAnswer,
}

impl AuditArgs {
    pub(crate) fn dir(&self) -> PathBuf {
        self.audit_dir.clone().unwrap_or_else(crate::state::audit_dir)
    }

    pub(crate) fn options(&self) -> anyhow::Result<AuditOptions> {
        let on_full = match self.audit_on_full {
            OnFullArg::Refuse => OnFull::Refuse,
            OnFullArg::Shed => OnFull::Shed,
        };
        Ok(AuditOptions {
            dir: self.dir(),
            on_full,
            successes: match self.audit_successes {
                SuccessesArg::WithinMoments => Successes::WithinMoments,
                SuccessesArg::BeforeAnswer => Successes::BeforeAnswer,
            },
            max_bytes: self.audit_max_mib << 20,
            elasticsearch: self.elasticsearch.options()?,
        })
    }
}

impl ElasticsearchArgs {
    pub(crate) fn options(&self) -> anyhow::Result<Option<Elasticsearch>> {
        let Some(url) = self.elasticsearch.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
                .transpose()
        };
        let authorization = read(&self.elasticsearch_authorization_file)?
            .map(|bytes| String::from_utf8(bytes).context("the authorization file must hold text"))
            .transpose()?;
        let authorization = authorization.map(|text| Redacted::new(text.trim().to_owned()));
        Ok(Some(Elasticsearch { url, authorization, ca_pem: read(&self.elasticsearch_ca_file)? }))
    }
}
