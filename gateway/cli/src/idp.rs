//! `idm idp probe`: is this provider one that people can sign in at? `idm idp try`: is this login good?
//!
//! The findings go to standard error, a ready Federation to standard output, so that it can be piped on.

mod directory;
mod login;
mod oidc;
mod report;
mod saml;
mod service;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::redirect;

use report::Report;

/// Providers where people sign in, and directories
#[derive(Subcommand)]
pub(crate) enum Idp {
    /// Check a provider from here, and print a Federation for it
    Probe(Probe),
    /// Try a login at a directory of a folder, and print each step
    Try(login::Try),
}

/// Check a provider from here, and print a Federation for it
#[derive(Args)]
pub(crate) struct Probe {
    /// The issuer of an OpenID provider, its configuration document, a SAML metadata document; an LDAP server
    /// (`ldaps://HOST`), a database (`postgres://USER@HOST/DATABASE`, `mysql://…`); or with `--service` the address at
    /// which a service checks passwords
    url: String,
    /// Our client id there
    #[arg(long)]
    client_id: Option<String>,
    /// A redirect URI to check, such as https://shop.example/_idm/callback/NAME; needs `--client-id`
    #[arg(long, requires = "client_id")]
    redirect_uri: Option<String>,
    /// The name of the Federation that is printed
    #[arg(long, default_value = "idp")]
    name: String,
    /// The entity id, where a SAML document describes several providers
    #[arg(long)]
    entity_id: Option<String>,
    /// Certificates to trust besides the system's, in PEM; for a directory instead of the system's
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The only key of the server to trust, as a probe prints it (LDAP and databases)
    #[arg(long, conflicts_with = "ca_file")]
    pinned_key: Option<String>,
    /// The name with which the gateway binds at an LDAP server; its password is the first line of standard input.
    /// Without it the gateway is anonymous
    #[arg(long)]
    bind: Option<String>,
    /// The entry below which people are, where it is not the whole tree (LDAP)
    #[arg(long)]
    base: Option<String>,
    /// Somebody to look for (LDAP), or whose password is the first line of standard input (a service)
    #[arg(long)]
    username: Option<String>,
    /// Speak without TLS to a server on this machine (LDAP and databases)
    #[arg(long)]
    plain: bool,
    /// The address is that of a service that checks passwords
    #[arg(long)]
    service: bool,
}

/// A document as it was got.
struct Found {
    status: u16,
    date: Option<String>,
    location: Option<String>,
    body: Vec<u8>,
}

const MAX_BYTES: usize = 1 << 20;

/// Reads an address; a redirect is an answer like any other.
async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<Found> {
    let mut answer =
        client.get(url).header("accept", "application/json, application/samlmetadata+xml, */*").send().await?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, date, location) = (answer.status().as_u16(), header("date"), header("location"));
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        anyhow::ensure!(body.len() + chunk.len() <= MAX_BYTES, "{url} answers with more than 1 MiB");
        body.extend_from_slice(&chunk);
    }
    Ok(Found { status, date, location, body })
}

impl Idp {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Idp::Probe(probe) => probe.run().await,
            Idp::Try(login) => login.run().await,
        }
    }
}

impl Probe {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let probe = self;
        let mut report = Report::default();
        if directory::is_directory(&probe.url) {
            let federation = directory::probe(&probe, &mut report).await?;
            return Ok(finished(&report, federation));
        }
        let mut builder =
            reqwest::Client::builder().timeout(Duration::from_secs(10)).redirect(redirect::Policy::none());
        if let Some(path) = &probe.ca_file {
            let pem = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            builder = reqwest::Certificate::from_pem_bundle(&pem)?
                .into_iter()
                .fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = builder.build()?;
        if probe.service {
            let federation = service::probe(&probe, &client, &mut report).await?;
            return Ok(finished(&report, federation));
        }
        let is_document = probe.url.ends_with("/.well-known/openid-configuration");
        // A SAML document is at an address of its own; an issuer's is below it.
        let found = if is_document {
            None
        } else {
            get(&client, &probe.url).await.ok().filter(|found| saml::is_metadata(&found.body))
        };
        let federation = match found {
            Some(found) => saml::probe(&probe, &found, &mut report),
            None => match oidc::probe(&probe, &client, &mut report).await {
                Ok(federation) => federation,
                Err(error) => {
                    report.failed(
                        "reached",
                        &format!("{error:#}"),
                        "check the address, the network and the certificate (`--ca-file`)",
                    );
                    report.print();
                    return Ok(ExitCode::from(3));
                }
            },
        };
        Ok(finished(&report, federation))
    }
}

/// Prints the findings, and the Federation unless something must be changed first.
fn finished(report: &Report, federation: Option<String>) -> ExitCode {
    report.print();
    match federation.filter(|_| !report.has_failed()) {
        Some(federation) => {
            crate::print::lines(&federation);
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}
