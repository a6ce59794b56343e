//! `idm idp try`: a login at a directory, step by step.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Args;
use idm_compile::Settings;
use idm_gateway::source::dir::{self, DirError};
use idm_gateway::{Environment, TriedLogin, TriedPerson};
use idm_plan::Federation;
use idm_store::Store;
use idm_types::Redacted;
use serde_json::Value;

/// Try a login at a directory of a folder, and print each step
#[derive(Args)]
pub(crate) struct Try {
    /// The folder of YAML
    #[arg(long)]
    dir: PathBuf,
    /// The Federation, of type `ldap`, `database` or `rest`
    #[arg(long)]
    federation: String,
    /// The user name; the password is the first line of standard input
    #[arg(long)]
    username: String,
    /// Directories may be on this machine under any name, and reached over plain http
    #[arg(long)]
    danger_insecure_issuers: bool,
}

impl Try {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = Settings::of_a_folder(self.danger_insecure_issuers);
        let compiled = match dir::load(&dir::read(&self.dir)?, settings) {
            Ok(compiled) => compiled,
            Err(DirError::Files(errors)) => {
                errors.iter().for_each(|error| say!("{error}"));
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        let of_name = |federation: &&Federation| federation.key.name == self.federation;
        let federation = compiled.plan.federations.iter().find(of_name);
        let federation = federation.with_context(|| format!("there is no Federation `{}`", self.federation))?;
        let password = password()?;
        let environment = Environment::new(Store::in_process(), 1, self.danger_insecure_issuers)?;
        let tried = environment.try_login(federation, &compiled.secrets, &self.username, password).await;
        let TriedLogin { steps, outcome } = tried.map_err(anyhow::Error::msg)?;
        steps.iter().for_each(|step| say!("  {step}"));
        match outcome {
            Ok(person) => {
                told(&person, federation);
                Ok(ExitCode::SUCCESS)
            }
            Err((reason, detail)) => {
                say!("refused: {reason}");
                say!("  why: {detail}");
                say!("  fix: {}", reason.fix());
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Says who the person is, and what follows from their groups.
fn told(TriedPerson { claims, roles }: &TriedPerson, federation: &Federation) {
    say!("verified");
    for (name, value) in claims.iter().filter(|(name, _)| name.as_str() != "mappedGroups") {
        say!("  token.{name}: {value}");
    }
    let of = |name: &str| claims.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    say!("  groups: {} found, {} named by role mappings", of("groups"), of("mappedGroups"));
    say!("  roles: {}", if roles.is_empty() { "none".to_owned() } else { roles.join(", ") });
    if let Some(role) = &federation.provisions {
        say!("  at the first sign-in a RoleBinding would give the role {role}");
    }
}

/// The first line of standard input; a terminal does not show it.
fn password() -> anyhow::Result<Redacted<String>> {
    let hides = std::io::stdin().is_terminal();
    let echo = |state: &str| Command::new("stty").arg(state).status();
    if hides {
        write!(std::io::stderr(), "password: ")?;
        let _ = echo("-echo");
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if hides {
        let _ = echo("echo");
        writeln!(std::io::stderr())?;
    }
    read.context("the password cannot be read from standard input")?;
    Ok(Redacted::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
