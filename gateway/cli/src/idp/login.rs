//! `idm idp try`: a login at a directory, step by step.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Args;
use idm_compile::Settings;
use idm_gateway::source::dir::{self, DirError};
use idm_gateway::{Egress, Environment, TriedGroup, TriedLogin, TriedPerson};
use idm_plan::{Federation, FederationKind};
use idm_store::Store;
use idm_types::{Reason, Redacted};

/// The exit code of a refusal.
const REFUSED: u8 = 4;
/// The exit code of a directory that cannot be asked.
const NO_ANSWER: u8 = 3;

/// Try a login at a directory of a folder, and print each step
///
/// The directory gets the password once, as in a login at a gateway; nothing is counted or kept. Exit codes: 0
/// verified, 1 the folder or the arguments are wrong, 3 the directory cannot be asked, 4 refused.
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
        let federations = &compiled.plan.federations;
        let federation = federations.iter().find(|federation| federation.key.name == self.federation);
        let federation = federation.with_context(|| {
            let known: Vec<&str> = federations.iter().map(|federation| federation.key.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("there is no Federation `{}` in the folder; those that are: {known}", self.federation)
        })?;
        // Before anybody is asked to type a password.
        anyhow::ensure!(
            matches!(federation.kind, FederationKind::Directory(_)),
            "Federation `{}` is a provider where people sign in with a browser; name one of type `ldap`, `database` or \
             `rest`, and check this one with `idm idp probe`",
            self.federation
        );
        let password = password()?;
        let environment = Environment::new(Store::in_process(), 1, self.danger_insecure_issuers, &Egress::default())?;
        let tried = environment.try_login(federation, &compiled.secrets, &self.username, password).await;
        let TriedLogin { steps, outcome } = tried.map_err(anyhow::Error::msg)?;
        Ok(told(&self, federation, &steps, &outcome))
    }
}

/// Says the verdict, the steps that led to it, and what follows from the groups or should be done.
fn told(
    asked: &Try,
    federation: &Federation,
    steps: &[String],
    outcome: &Result<TriedPerson, (Reason, String)>,
) -> ExitCode {
    let whose = format!("`{}` at Federation {}", asked.username, federation.key.name);
    match outcome {
        Ok(_) => say!("✓ verified: {whose}"),
        Err((reason, _)) if reason.status() == 503 => say!("✗ no verdict about {whose}: {reason}"),
        Err((reason, _)) => say!("✗ refused: {whose}: {reason}"),
    }
    for (number, step) in steps.iter().enumerate() {
        say!("  {:>2} {step}", number + 1);
    }
    match outcome {
        Ok(person) => {
            follows(person, federation);
            ExitCode::SUCCESS
        }
        Err((reason, detail)) => {
            say!("why: {detail}");
            say!("fix: {}", reason.fix());
            ExitCode::from(if reason.status() == 503 { NO_ANSWER } else { REFUSED })
        }
    }
}

/// Says who the person is, and what follows from their groups.
fn follows(person: &TriedPerson, federation: &Federation) {
    let TriedPerson { claims, roles, groups, unmatched } = person;
    say!("claims, as policies see them:");
    for (name, value) in claims.iter().filter(|(name, _)| !["mappedGroups", "groups"].contains(&name.as_str())) {
        say!("  token.{name}: {value}");
    }
    say!("groups in `token.groups`: {}", groups.len());
    let width = groups.iter().map(|group| group.name.chars().count()).max().unwrap_or_default().min(40);
    for TriedGroup { name, dn, mapped_by } in groups {
        let (mark, by) = match mapped_by.as_slice() {
            [] => (' ', "no role mapping names it".to_owned()),
            names => ('✓', format!("role mapping `{}`", names.join("`, `"))),
        };
        say!("  {mark} {name:<width$}  {}{by}", dn.as_ref().map(|dn| format!("{dn}  ")).unwrap_or_default());
    }
    for name in unmatched {
        say!("  ‼ role mapping `{name}` names none of these groups");
    }
    say!("roles: {}", if roles.is_empty() { "none".to_owned() } else { roles.join(", ") });
    let text = |name: &str| claims.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    match &federation.provisions {
        Some(role) => say!(
            "provisioning: in a cluster, the first login makes a RoleBinding in {}: role `{role}`, user `{}`, issuer \
                `{}`; one that is there already stays as it is",
            federation.key.namespace,
            text("preferred_username"),
            text("iss")
        ),
        None => say!("provisioning: nothing is made, because the Federation has no `provisioning`"),
    }
}

/// The first line of standard input; a terminal does not show it.
pub(super) fn password() -> anyhow::Result<Redacted<String>> {
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
