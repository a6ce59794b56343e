//! Credentials of a folder or of a cluster: made, shown, rotated and revoked. A key is printed once, by the command
//! that made it.

mod request;
mod shown;
mod signature;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use idm_compile::parse_span;
use idm_types::Timestamp;

use idm_manager::{ClusterCredentials, CredentialError, FolderCredentials, Shown, is_credential_name, new_api_key};

/// Make, show, rotate and revoke keys
#[derive(Subcommand)]
pub(crate) enum Credential {
    /// Print a new API key, or the Secret that holds it
    New(New),
    /// List the Credentials with their keys
    List(List),
    /// Show one Credential with its keys
    Show(Show),
    /// Make a Credential with an API key, or with a key for signed requests
    Create(Create),
    /// Make the next key; the old one still works for a while
    Rotate(Rotate),
    /// Refuse keys from now on, for good
    Revoke(Revoke),
    /// Ask for a Credential, which somebody else approves
    Request(request::Request),
    /// List requests for Credentials
    Requests(request::Requests),
    /// Approve a request of somebody else: the operator makes the Credential
    Approve(request::Approve),
    /// Reject a request of somebody else
    Reject(request::Reject),
    /// Print the key of an approved request, once
    Receive(request::Receive),
    /// Withdraw an own request; the Credential that it gave ends with it
    Withdraw(request::Withdraw),
}

/// Print a new API key, or the Secret that holds it
#[derive(Args)]
pub(crate) struct New {
    /// Print a Secret manifest of this name instead of the bare key
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Make it the secret of an OAuth client: the Secret's key is `clientSecret`
    #[arg(long, requires = "secret")]
    client: bool,
}

/// Place of the Credentials
#[derive(Args)]
pub(crate) struct Place {
    /// Folder of a gateway without a cluster [default: the cluster of the kubeconfig]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Namespace in the cluster [default: that of the kubeconfig]
    #[arg(short, long, conflicts_with = "dir")]
    namespace: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines for people
    Table,
    /// A document for programs
    Json,
}

/// List the Credentials with their keys
#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Show one Credential with its keys
#[derive(Args)]
pub(crate) struct Show {
    /// The Credential
    name: String,
    #[command(flatten)]
    place: Place,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Make a Credential with an API key, or with a key for signed requests
#[derive(Args)]
pub(crate) struct Create {
    /// The Credential
    name: String,
    /// The person it is for
    #[arg(long, value_name = "USER", conflicts_with = "application")]
    user: Option<String>,
    /// The program it is for
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// A role that it has; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The time from which on it is refused, for example 2027-01-01T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<String>,
    /// Make it one that signs its requests (RFC 9421): prints a new Ed25519 private key, once
    #[arg(long)]
    signature: bool,
    /// The public key of a caller that signs its requests: PEM or a JWK
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Make the next key; the old one still works for a while
#[derive(Args)]
pub(crate) struct Rotate {
    /// The Credential
    name: String,
    /// The time for which the old key still works, for example 30m or 7d; 0 after a leak
    #[arg(long, default_value = "24h", value_parser = span)]
    overlap: Overlap,
    #[command(flatten)]
    place: Place,
    /// Seconds to wait until the gateways know the new key
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Refuse keys from now on, for good
#[derive(Args)]
pub(crate) struct Revoke {
    /// The Credential
    name: String,
    /// The id of the key, as `show` lists it [default: every key that the Credential has now]
    #[arg(long, value_name = "ID", value_parser = key_id)]
    key: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Seconds to wait until the operator has seen it
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait: u64,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// A span of time, as it was written and in milliseconds.
#[derive(Clone)]
struct Overlap {
    text: String,
    milliseconds: u64,
}

fn span(text: &str) -> Result<Overlap, String> {
    let milliseconds = parse_span(text).ok_or("give 0, or a whole number with s, m, h or d, of a year at most")?;
    Ok(Overlap { text: text.to_owned(), milliseconds })
}

fn time(text: &str) -> Result<String, String> {
    match Timestamp::parse_rfc3339(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("give a time in UTC such as 2027-01-01T00:00:00Z".to_owned()),
    }
}

fn key_id(text: &str) -> Result<String, String> {
    let is_id = text.len() == 12 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id { Ok(text.to_owned()) } else { Err("give the 12 digits that `idm credential show` lists".to_owned()) }
}

/// The error with which the process ends with 3.
pub(crate) fn not_connected(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    CredentialError::NotConnected(Box::new(error)).into()
}

/// Whether an error says that no cluster answers.
pub(crate) fn is_not_connected(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(CredentialError::NotConnected(_)))
}

impl Credential {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Credential::New(new) => new.run()?,
            Credential::List(List { place, output }) => shown::print(&place.all().await?, output),
            Credential::Show(Show { name, place, output }) => shown::print_one(&place.one(&name).await?, output),
            Credential::Create(create) => create.run().await?,
            Credential::Rotate(rotate) => rotate.run().await?,
            Credential::Revoke(revoke) => revoke.run().await?,
            Credential::Request(request) => return request.run().await,
            Credential::Requests(requests) => return requests.run().await,
            Credential::Approve(approve) => return approve.run().await,
            Credential::Reject(reject) => return reject.run().await,
            Credential::Receive(receive) => return receive.run().await,
            Credential::Withdraw(withdraw) => return withdraw.run().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl New {
    fn run(self) -> anyhow::Result<()> {
        let New { secret, client } = self;
        let field = if client { "clientSecret" } else { "key" };
        let key = new_api_key()?;
        match secret {
            None => say!("{}", key.reveal()),
            Some(name) => crate::print::lines(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{field}: {}}}\n",
                key.reveal()
            )),
        }
        Ok(())
    }
}

impl Place {
    async fn cluster(&self) -> anyhow::Result<ClusterCredentials> {
        Ok(ClusterCredentials::connect(self.namespace.as_deref()).await?)
    }

    async fn all(&self) -> anyhow::Result<Vec<Shown>> {
        match &self.dir {
            Some(dir) => Ok(FolderCredentials::open(dir)?.all(Timestamp::now())),
            None => Ok(self.cluster().await?.all().await?),
        }
    }

    async fn one(&self, name: &str) -> anyhow::Result<Shown> {
        match &self.dir {
            Some(dir) => Ok(FolderCredentials::open(dir)?.one(name, Timestamp::now())?),
            None => Ok(self.cluster().await?.one(name).await?),
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let Create { name, user, application, roles, expires, signature, public_key, place, output } = self;
        if !is_credential_name(&name) {
            bail!(
                "'{name}' must be a name of Kubernetes: lower-case letters, digits, `-` and `.`, at most 240 of them"
            );
        }
        let mut spec = serde_json::json!({});
        match (user, application) {
            (Some(user), _) => spec["owner"] = serde_json::json!({"user": user}),
            (None, Some(application)) => spec["owner"] = serde_json::json!({"application": application}),
            (None, None) => {}
        }
        if !roles.is_empty() {
            spec["roles"] = roles.into();
        }
        if let Some(expires) = expires {
            spec["expireTime"] = expires.into();
        }
        if signature || public_key.is_some() {
            return signature::create(&name, spec, public_key.as_deref(), &place, output).await;
        }
        spec["secretRef"] = serde_json::json!({"name": format!("{name}-key")});
        match &place.dir {
            Some(dir) => {
                FolderCredentials::open(dir)?.create(&name, spec).map(|made| shown::print_made(&made, output))?
            }
            None => {
                place.cluster().await?.create(&name, spec).await?;
                shown::done(
                    output,
                    &serde_json::json!({"credential": name, "secret": format!("{name}-key")}),
                    &format!(
                        "Credential '{name}' is made. The operator puts its key into the Secret '{name}-key':\n  \
                            kubectl \
                         get secret {name}-key -o jsonpath='{{.data.key}}' | base64 -d"
                    ),
                );
            }
        }
        Ok(())
    }
}

impl Rotate {
    async fn run(self) -> anyhow::Result<()> {
        let Rotate { name, overlap, place, wait, output } = self;
        match &place.dir {
            Some(dir) => {
                let made = FolderCredentials::open(dir)?.rotate(&name, overlap.milliseconds, Timestamp::now())?;
                shown::print_made(&made, output);
            }
            None => {
                let request = new_api_key()?.body().chars().take(16).collect::<String>();
                let cluster = place.cluster().await?;
                let told = cluster.rotate(&name, &request, &overlap.text, Duration::from_secs(wait)).await?;
                shown::print_one(&told, output);
            }
        }
        Ok(())
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let Revoke { name, key, place, wait, output } = self;
        let revoked = match &place.dir {
            Some(dir) => FolderCredentials::open(dir)?.revoke(&name, key.as_deref(), Timestamp::now())?,
            None => place.cluster().await?.revoke(&name, key.as_deref(), Duration::from_secs(wait)).await?,
        };
        let text = format!("revoked for good: {}", revoked.join(", "));
        shown::done(output, &serde_json::json!({"credential": name, "revoked": revoked}), &text);
        Ok(())
    }
}
