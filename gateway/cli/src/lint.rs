use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use idm_compile::Settings;
use idm_gateway::source::dir::{self, DirError};

/// Check the YAML of a folder as the gateway would
#[derive(Args)]
pub(crate) struct Lint {
    /// The folder
    dir: PathBuf,
}

impl Lint {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let settings = Settings::of_a_folder(false);
        match dir::load(&dir::read(&self.dir)?, settings) {
            Ok(compiled) => {
                for note in compiled.report.findings() {
                    say!("note: {note}");
                }
                let plan = &compiled.plan;
                say!(
                    "{}: {} policies, {} route rules, {} credentials: in order",
                    self.dir.display(),
                    plan.policies.len(),
                    plan.rules.len(),
                    compiled.credentials.all.len()
                );
                Ok(ExitCode::SUCCESS)
            }
            Err(DirError::Files(errors)) => {
                errors.iter().for_each(|error| say!("{error}"));
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error.into()),
        }
    }
}
