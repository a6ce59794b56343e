//! The configuration by which something is explained: a folder, or the objects of a cluster.

use std::path::{Path, PathBuf};

use clap::Args;
use idm_compile::{Compiled, Settings, World, compile, yaml};
use idm_gateway::source::dir::{self, DirError};
use idm_manager::supply_secrets;

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
