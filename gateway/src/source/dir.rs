//! A folder of YAML files, read again when it changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use idm_compile::yaml::{FileError, ParsedDocuments, read_files_again};
use idm_compile::{Cause, Compiled, Settings, compile};
use idm_plan::{Bundle, Plan};
use idm_types::{Clock, Uptime};
use tokio::sync::watch;

use super::losses::losses;
use crate::Gateway;

const POLL: Duration = Duration::from_millis(125);
/// A folder is taken when nothing in it has changed for this long: who writes a file in two steps, or several files one
/// after the other, is let finish.
const QUIET_MS: u64 = 400;
/// The longest time that a start waits for a folder that goes on changing.
const START_WAIT_MS: u64 = 10_000;
/// The largest file; larger ones are not even read.
const MAX_FILE_BYTES: u64 = 4 << 20;

type Files = Vec<(String, String)>;

/// Waits for a folder to be quiet.
#[derive(Default)]
struct Quiet {
    seen: Option<(Files, Uptime)>,
}

impl Quiet {
    /// The files, once they have been the same for a while. A look that failed counts as a change.
    fn look(&mut self, files: Option<Files>, now: Uptime) -> Option<Files> {
        let Some(files) = files else {
            self.seen = None;
            return None;
        };
        match &self.seen {
            Some((seen, since)) if *seen == files => (now.since(*since) >= QUIET_MS).then_some(files),
            _ => {
                self.seen = Some((files, now));
                None
            }
        }
    }
}

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
    /// It is a file.
    #[error("{0}: this is a file: name the folder that holds it, because policies are read with what they refer to")]
    File(PathBuf),
    /// A file is larger than any policy.
    #[error("{0}: the file is larger than 4 MiB: split it")]
    TooLarge(PathBuf),
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
    if dir.is_file() {
        return Err(DirError::File(dir.to_owned()));
    }
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if is_yaml && path.is_file() {
            if std::fs::metadata(&path).map_err(failed(&path))?.len() > MAX_FILE_BYTES {
                return Err(DirError::TooLarge(path));
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(&path).map_err(failed(&path))?);
        }
    }
    if files.is_empty() { Err(DirError::Empty(dir.to_owned())) } else { Ok(files.into_iter().collect()) }
}

/// Compiles a folder. Where the writer of the policies runs the gateway, whatever is wrong anywhere is
/// refused whole, with file and line.
pub fn load(files: &[(String, String)], settings: Settings) -> Result<Compiled, DirError> {
    load_again(files, settings, &mut ParsedDocuments::default())
}

/// The same, with what was `parsed` before.
fn load_again(
    files: &[(String, String)],
    settings: Settings,
    parsed: &mut ParsedDocuments,
) -> Result<Compiled, DirError> {
    let (world, origins) = read_files_again(files, settings, parsed).map_err(DirError::Files)?;
    let compiled = compile(&world, None);
    for note in compiled.report.findings().iter().filter(|finding| finding.is_note()) {
        // That a baseline holds is how it is meant to be.
        match note.cause {
            Cause::UnderBaseline => tracing::info!("{}", origins.locate(note)),
            _ => tracing::warn!("{}", origins.locate(note)),
        }
    }
    let errors: Vec<FileError> = compiled.report.errors().map(|finding| origins.locate(finding)).collect();
    if errors.is_empty() { Ok(compiled) } else { Err(DirError::Files(errors)) }
}

/// Reads a folder that was changed a moment ago when it has come to rest; an older one at once.
async fn read_when_quiet(dir: &Path) -> Result<Files, DirError> {
    let (mut quiet, clock) = (Quiet::default(), Clock::of_process());
    let began = clock.uptime();
    loop {
        let files = read(dir)?;
        if !changed_lately(dir) || clock.uptime().since(began) > START_WAIT_MS {
            return Ok(files);
        }
        if let Some(files) = quiet.look(Some(files), clock.uptime()) {
            return Ok(files);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether something in a folder was written within the last moment. A time in the future says nothing.
fn changed_lately(dir: &Path) -> bool {
    let young = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        age.is_some_and(|age| age < Duration::from_millis(QUIET_MS))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    young(dir) || entries.into_iter().any(|entry| young(&entry.path()))
}

/// A folder being served.
pub struct DirSource {
    dir: PathBuf,
    settings: Settings,
    files: Files,
    parsed: ParsedDocuments,
    plan: Plan,
    generation: u64,
}

impl DirSource {
    /// Loads the folder for the first time, and returns the bundle to start with; an unusable folder is an error.
    pub async fn load(dir: &Path, settings: Settings) -> Result<(Self, Bundle), DirError> {
        let files = read_when_quiet(dir).await?;
        let mut parsed = ParsedDocuments::default();
        let compiled = load_again(&files, settings, &mut parsed)?;
        let bundle = compiled.seal(1);
        Ok((Self { dir: dir.to_owned(), settings, files, parsed, plan: compiled.plan, generation: 1 }, bundle))
    }

    /// Watches the folder until `stop` turns true. A change that is not usable is reported, and the
    /// last good configuration keeps serving.
    pub async fn watch(mut self, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
        let (mut quiet, clock) = (Quiet::default(), Clock::of_process());
        while tokio::time::timeout(POLL, stop.wait_for(|stop| *stop)).await.is_err() {
            let changed = match read(&self.dir) {
                Ok(files) => Some(files).filter(|files| *files != self.files),
                // Editors replace files in two steps; what stays unreadable is reported once it changed.
                Err(DirError::Io { .. }) => None,
                Err(error) => {
                    if !self.files.is_empty() {
                        tracing::error!("{error}; the last good configuration keeps serving");
                        self.files.clear();
                    }
                    None
                }
            };
            // A configuration that is in force already, or cannot be read, interrupts the quiet of a change.
            let Some(files) = quiet.look(changed, clock.uptime()) else { continue };
            self.files = files;
            match load_again(&self.files, self.settings, &mut self.parsed) {
                Ok(compiled) => {
                    self.generation += 1;
                    losses(&self.plan, &compiled.plan).iter().for_each(|loss| tracing::warn!("{loss}"));
                    match gateway.apply(&compiled.seal(self.generation)).await {
                        Ok(()) => {
                            self.plan = compiled.plan;
                            tracing::info!(generation = self.generation, "configuration in force");
                        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_when_it_has_been_the_same_for_a_while() {
        let files = |text: &str| Some(vec![("a.yaml".to_owned(), text.to_owned())]);
        let mut quiet = Quiet::default();
        assert_eq!(quiet.look(files("half"), Uptime(0)), None);
        assert_eq!(quiet.look(files("half"), Uptime(QUIET_MS - 1)), None);
        assert_eq!(quiet.look(files("whole"), Uptime(QUIET_MS)), None, "it was not finished");
        assert_eq!(quiet.look(files("whole"), Uptime(2 * QUIET_MS - 1)), None);
        assert_eq!(quiet.look(None, Uptime(2 * QUIET_MS)), None);
        assert_eq!(quiet.look(files("whole"), Uptime(2 * QUIET_MS)), None, "it was away");
        assert_eq!(quiet.look(files("whole"), Uptime(3 * QUIET_MS)), files("whole"));
    }
}
