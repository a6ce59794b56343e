//! `idm policy test`: a table of requests against a folder of policies, decided by the gateway's own decision.
//!
//! The folder is compiled as always. Then, in the plan alone, the issuers' keys are replaced by one of the test's own,
//! so that a caller of any issuer can be played without its keys. No port is opened, nothing is forwarded and no
//! outside server is asked. The rest is real: tokens are signed and verified, keys looked up, passwords checked.

mod play;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use idm_gateway::source::dir::DirError;

use play::Stage;
use table::{Table, Test};

/// Test policies
#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Decide a table of requests by the policies of a folder, and compare
    Test(RunTests),
}

/// Decide a table of requests by the policies of a folder, and compare
#[derive(Args)]
pub(crate) struct RunTests {
    /// The tables: YAML files with `policies` (a folder, relative to the file) and `tests`
    #[arg(required = true)]
    tables: Vec<PathBuf>,
    /// Run only tests whose name contains this
    #[arg(long)]
    filter: Option<String>,
}

impl Policy {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Policy::Test(RunTests { tables, filter }) = self;
        let (mut passed, mut failed) = (0, 0);
        for path in &tables {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let table: Table = serde_yaml_ng::from_str(&text).with_context(|| path.display().to_string())?;
            let folder = path.parent().unwrap_or(std::path::Path::new(".")).join(&table.policies);
            let stage = match Stage::new(&folder) {
                Ok(stage) => stage,
                Err(error) => {
                    if let Some(DirError::Files(errors)) = error.downcast_ref() {
                        errors.iter().for_each(|error| say!("{error}"));
                        return Ok(ExitCode::FAILURE);
                    }
                    return Err(error);
                }
            };
            for test in table
                .tests
                .iter()
                .filter(|test| filter.as_ref().is_none_or(|filter| test.name.contains(filter.as_str())))
            {
                let problems = one(&stage, test).await.with_context(|| format!("{}: {}", path.display(), test.name))?;
                if problems.is_empty() {
                    passed += 1;
                    say!("ok      {}", test.name);
                } else {
                    failed += 1;
                    say!("FAILED  {}", test.name);
                    problems.iter().for_each(|problem| say!("        {problem}"));
                }
            }
        }
        say!("");
        say!("{passed} passed, {failed} failed");
        // Nothing that was tested is nothing that was shown.
        Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Plays one test and lists the differences, as `expected … got …`.
async fn one(stage: &Stage, test: &Test) -> anyhow::Result<Vec<String>> {
    let got = stage.play(test).await?;
    Ok(test.expect.compare(&got))
}
