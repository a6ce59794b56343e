//! The configuration by which something is explained: a folder, or the objects of a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use idm_compile::{Compiled, Settings, World, compile, missing_secrets, rotated, signing_secret, yaml};
use idm_gateway::source::dir::{self, DirError};
use idm_types::{Redacted, Timestamp};

use super::cluster;

/// Place of the policies
#[derive(Args)]
pub(crate) struct SourceArgs {
    /// The YAML of this folder; without it the objects of the cluster of KUBECONFIG are read
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The namespace in the cluster [default: that of the context]
    #[arg(short, long, conflicts_with = "dir")]
    namespace: Option<String>,
    /// The operator's namespace, whose policies may demand something of the whole cluster
    #[arg(long, default_value = "idm-system", conflicts_with = "dir")]
    system_namespace: String,
}

/// A configuration that is compiled.
pub(crate) struct Prepared {
    pub(crate) world: World,
    pub(crate) compiled: Compiled,
    /// Secrets whose values are not known here; where a Credential needs one, it has a value that nobody knows.
    pub(crate) unread: Vec<String>,
    /// Remarks: lines.
    pub(crate) notes: Vec<String>,
}

impl SourceArgs {
    /// Reads and compiles it.
    pub(crate) async fn prepare(&self) -> anyhow::Result<Prepared> {
        match &self.dir {
            Some(folder) => Prepared::of_folder(folder),
            None => cluster::prepare(self.namespace.as_deref(), &self.system_namespace).await,
        }
    }
}

impl Prepared {
    /// Compiles a folder as `idm run` does, with values for the Secrets that are not kept beside policies. The error is
    /// a [`DirError`] where something in the folder is wrong.
    pub(crate) fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        let files = dir::read(folder)?;
        let (mut world, origins) = yaml::read_files(&files, Settings::of_a_folder(false)).map_err(DirError::Files)?;
        let unread = supply_secrets(&mut world)?;
        world.hash_passwords();
        let compiled = compile(&world, None);
        let errors: Vec<_> = compiled.report.errors().map(|finding| origins.locate(finding)).collect();
        if errors.is_empty() {
            Ok(Self { world, compiled, unread, notes: Vec::new() })
        } else {
            Err(DirError::Files(errors).into())
        }
    }
}

/// Makes up the Secrets of Credentials and of token services that are missing. Returns the names of those of
/// Credentials, which callers cannot have.
pub(super) fn supply_secrets(world: &mut World) -> anyhow::Result<Vec<String>> {
    let mut unread = Vec::new();
    for missing in missing_secrets(world) {
        let value = Redacted::new(missing.value(&idm_manager::new_api_key()?).into_bytes());
        world.secrets.insert(missing.secret.clone(), BTreeMap::from([(missing.field.clone(), value)]));
        unread.push(missing.secret);
    }
    for (policy, (name, field)) in
        world.policies.clone().iter().filter_map(|policy| Some((policy, signing_secret(policy)?)))
    {
        if world.secrets.contains_key(&name) {
            continue;
        }
        let keys = rotated(policy, None, Timestamp::now()).context("no signing key can be made")?;
        world.secrets.insert(name, BTreeMap::from([(field, Redacted::new(keys.into_bytes()))]));
    }
    Ok(unread)
}
