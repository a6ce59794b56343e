//! A folder of YAML files, read again when it changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use idm_compile::yaml::{FileError, read_files};
use idm_compile::{Compiled, Settings, compile};
use idm_plan::Bundle;
use tokio::sync::watch;

use crate::Gateway;

const POLL: Duration = Duration::from_millis(250);

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The folder or a file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{0}: the folder must hold at least one .yaml file")]
    Empty(PathBuf),
    /// Something in it is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Files(Vec<FileError>),
}

/// File names and texts, in the order of their names.
pub fn read(dir: &Path) -> Result<Vec<(String, String)>, DirError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DirError::Io { path, source }
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if is_yaml && path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(&path).map_err(failed(&path))?);
        }
    }
    if files.is_empty() { Err(DirError::Empty(dir.to_owned())) } else { Ok(files.into_iter().collect()) }
}

/// Compiles a folder. Where the writer of the policies runs the gateway, whatever is wrong anywhere is
/// refused whole, with file and line.
pub fn load(files: &[(String, String)], settings: Settings) -> Result<Compiled, DirError> {
    let (world, origins) = read_files(files, settings).map_err(DirError::Files)?;
    let compiled = compile(&world, None);
    for note in compiled.report.findings().iter().filter(|finding| finding.is_note()) {
        tracing::warn!("{}", origins.locate(note));
    }
    let errors: Vec<FileError> = compiled.report.errors().map(|finding| origins.locate(finding)).collect();
    if errors.is_empty() { Ok(compiled) } else { Err(DirError::Files(errors)) }
}

/// A folder being served.
pub struct DirSource {
    dir: PathBuf,
    settings: Settings,
    files: Vec<(String, String)>,
    generation: u64,
}

impl DirSource {
    /// Loads the folder for the first time; an unusable one is an error.
    pub async fn start(
        dir: &Path,
        settings: Settings,
        gateway: &Gateway,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let files = read(dir)?;
        let compiled = load(&files, settings)?;
        gateway.apply(&Bundle::seal(compiled.plan, compiled.secrets, 1)).await?;
        Ok(Self { dir: dir.to_owned(), settings, files, generation: 1 })
    }

    /// Watches the folder until `stop` turns true. A change that is not usable is reported, and the
    /// last good configuration keeps serving.
    pub async fn watch(mut self, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
        while tokio::time::timeout(POLL, stop.wait_for(|stop| *stop)).await.is_err() {
            let files = match read(&self.dir) {
                Ok(files) if files == self.files => continue,
                Ok(files) => files,
                // Editors replace files in two steps; what stays unreadable is reported once it changed.
                Err(DirError::Io { .. }) => continue,
                Err(error) => {
                    if !self.files.is_empty() {
                        tracing::error!("{error}; the last good configuration keeps serving");
                        self.files.clear();
                    }
                    continue;
                }
            };
            self.files = files;
            match load(&self.files, self.settings) {
                Ok(compiled) => {
                    self.generation += 1;
                    match gateway.apply(&Bundle::seal(compiled.plan, compiled.secrets, self.generation)).await {
                        Ok(()) => tracing::info!(generation = self.generation, "configuration in force"),
                        Err(error) => tracing::error!("{error}; the last good configuration keeps serving"),
                    }
                }
                Err(DirError::Files(errors)) => {
                    errors.iter().for_each(|error| tracing::error!("{error}"));
                    tracing::error!("the last good configuration keeps serving");
                }
                Err(error) => tracing::error!("{error}; the last good configuration keeps serving"),
            }
        }
    }
}
