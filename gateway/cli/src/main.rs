//! `idm`: one binary with every role. Each verb calls a library; nothing is decided here.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 cannot connect.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod print;

mod access;
mod audit;
mod blocks;
mod credential;
mod demo;
mod echo;
mod explain;
mod idp;
mod input;
mod jose;
mod jwk;
mod lint;
mod listen;
mod manager;
mod options;
mod policy;
mod seal;
mod secret_file;
mod serve;
mod state;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Memory is wiped when it is given back: a secret passes through parsers, decoders and buffers that no type of ours
/// reaches, and none of them leaves a copy.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> = zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

/// Identity manager for Kubernetes: policies in, authenticated traffic out, every decision on record.
#[derive(Parser)]
#[command(name = "idm", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run gateway, echo upstream and a test identity provider in one process (needs nothing else)
    Demo(demo::Demo),
    /// Serve the policies of a folder, without a cluster
    Run(serve::Run),
    /// Serve as a gateway pod, configured by the operator
    Gateway(serve::GatewayPod),
    /// Run the operator
    Operator(idm_operator::Options),
    /// Serve the web application and the management API over the objects of a cluster
    Manager(Box<manager::ClusterManager>),
    /// Say in plain words why a request was or would be decided as it is, or which settings of a policy are in force
    Explain(Box<explain::Explain>),
    /// Read the audit
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Show and end the blocks of addresses that a gateway made
    #[command(subcommand)]
    Blocks(blocks::Blocks),
    /// Check the YAML of a folder as the gateway would
    Lint(lint::Lint),
    /// Say whether somebody may do something with the objects of idm
    CanI(access::CanI),
    /// Say who may do something with the objects of idm
    WhoCan(access::WhoCan),
    /// Print the name and groups that the API server has for you
    Whoami(access::Whoami),
    /// Print who may do what with the objects of idm
    AccessMatrix(access::AccessMatrix),
    /// Test policies, without a cluster
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Decode, verify and mint tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Check the providers where people sign in
    #[command(subcommand)]
    Idp(idp::Idp),
    /// Make, show and convert keys
    #[command(subcommand)]
    Jwk(jwk::JwkCommand),
    /// Sign, verify, encrypt and decrypt (RFC 7515, RFC 7516)
    #[command(subcommand)]
    Jose(jose::Jose),
    /// Make, show, rotate and revoke keys
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Count, and seal anew, what is sealed in a cluster
    #[command(subcommand)]
    Seal(seal::Seal),
    /// Print the CRD manifests
    Crds,
    /// Answer every request with what it carried (the demo's upstream)
    Echo(echo::Echo),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        complain!("error: the crypto provider could not be installed");
        return ExitCode::FAILURE;
    }
    let json = matches!(cli.command, Command::Gateway(_) | Command::Operator(_) | Command::Manager(_));
    start_log(json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            complain!("error: {error:#}");
            if credential::is_not_connected(&error) { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(demo) => demo.run().await.map(|()| ExitCode::SUCCESS),
        Command::Run(run) => run.run().await.map(|()| ExitCode::SUCCESS),
        Command::Gateway(pod) => pod.run().await.map(|()| ExitCode::SUCCESS),
        Command::Operator(options) => idm_operator::run(options).await.map(|()| ExitCode::SUCCESS),
        Command::Manager(manager) => manager.run().await.map(|()| ExitCode::SUCCESS),
        Command::Explain(explain) => explain.run().await,
        Command::Audit(audit) => audit.run().await,
        Command::Blocks(blocks) => blocks.run().await,
        Command::Lint(lint) => lint.run(),
        Command::CanI(question) => question.run().await,
        Command::WhoCan(question) => question.run().await,
        Command::Whoami(whoami) => whoami.run().await,
        Command::AccessMatrix(matrix) => matrix.run().await,
        Command::Policy(policy) => policy.run().await,
        Command::Idp(idp) => idp.run().await,
        Command::Jwk(jwk) => jwk.run().map(|()| ExitCode::SUCCESS),
        Command::Jose(jose) => jose.run().map(|()| ExitCode::SUCCESS),
        Command::Token(token) => token.run().map(|()| ExitCode::SUCCESS),
        Command::Credential(credential) => credential.run().await,
        Command::Seal(seal) => seal.run().await,
        Command::Crds => crds().map(|()| ExitCode::SUCCESS),
        Command::Echo(echo) => echo.run().await.map(|()| ExitCode::SUCCESS),
    }
}

fn crds() -> anyhow::Result<()> {
    for crd in idm_api::crds() {
        print::lines(&format!("---\n{}", serde_yaml_ng::to_string(&crd)?));
    }
    Ok(())
}

/// Logs go to stderr; JSON in pods. `IDM_LOG` sets the level, for example `IDM_LOG=debug`.
fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("IDM_LOG").unwrap_or_else(|_| "info,kube=warn".into());
    // At trace level it would write what directories say of people.
    let filter = match "ldap3_proto=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    // No colors: what would let ours through would let a caller's through, too.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(print::Log::new).with_ansi(false);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.without_time().with_target(false).init();
    }
}
