//! Requests for Credentials of a cluster: asked, listed, answered, received, withdrawn.
//!
//! The private key of a request is in a file of the requester's state folder until the key was received; nothing else
//! opens what the operator encrypts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use idm_api::v1alpha1::RequestDecision;
use idm_compile::request_hash;
use idm_jose::{DecryptionKeys, Jwe, JweExpectations, Jwk, generate_ec};
use idm_manager::{ClusterRequests, LabelView, NewRequest, RequestView};
use idm_types::{ApiKey, ContentEncryption, KeyManagement, Redacted};
use serde_json::{Value, json};

use super::{Form, shown, time};
use crate::{print, state};

const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Namespace of the requests
#[derive(Args)]
pub(crate) struct Namespace {
    /// Namespace in the cluster [default: that of the kubeconfig]
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Namespace {
    async fn connect(&self) -> anyhow::Result<ClusterRequests> {
        Ok(ClusterRequests::connect(self.namespace.as_deref()).await?)
    }
}

/// Ask for a Credential, which somebody else approves
#[derive(Args)]
pub(crate) struct Request {
    /// The name of the request and of the Credential
    name: String,
    /// The purpose, for the one who approves
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// A policy that it is for; may be repeated
    #[arg(long = "policy", value_name = "POLICY", required = true)]
    policies: Vec<String>,
    /// A role that it shall have; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A label that it shall have, for example of a tier; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<LabelView>,
    /// The time from which on it is refused, for example 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: String,
    /// The team that it is of
    #[arg(long)]
    team: Option<String>,
    /// File for the private key of the request [default: in the state folder]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Seconds to wait for the answer and the key
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: u64,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// List requests for Credentials
#[derive(Args)]
pub(crate) struct Requests {
    /// One request, with everything that it asks for
    name: Option<String>,
    /// Only those that you may answer, as far as the requests tell it
    #[arg(long, conflicts_with = "mine")]
    pending: bool,
    /// Only your own
    #[arg(long)]
    mine: bool,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Approve a request of somebody else: the operator makes the Credential
#[derive(Args)]
pub(crate) struct Approve {
    /// The request
    name: String,
    /// The hash of the request that you have read [default: that of the request that is printed]
    #[arg(long)]
    hash: Option<String>,
    /// The reason, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Reject a request of somebody else
#[derive(Args)]
pub(crate) struct Reject {
    /// The request
    name: String,
    /// The hash of the request that you have read [default: that of the request that is printed]
    #[arg(long)]
    hash: Option<String>,
    /// The reason, which the requester reads
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Print the key of an approved request, once
#[derive(Args)]
pub(crate) struct Receive {
    /// The request
    name: String,
    /// File with the private key of the request [default: in the state folder]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Seconds to wait for the answer and the key
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: u64,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Withdraw an own request; the Credential that it gave ends with it
#[derive(Args)]
pub(crate) struct Withdraw {
    /// The request
    name: String,
    #[command(flatten)]
    namespace: Namespace,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

fn label(text: &str) -> Result<LabelView, String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok(LabelView { name: name.to_owned(), value: value.to_owned() })
}

/// The file of the private key of a request, by its uid: no later request of the same name writes over it.
fn place_of_key(given: Option<&Path>, uid: &str) -> PathBuf {
    given.map_or_else(|| state::dir().join("requests").join(format!("{uid}.jwk")), Path::to_path_buf)
}

impl Request {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Request { name, purpose, policies, roles, labels, expires, team, key_file, wait, namespace, output } = self;
        let given = key_file;
        let all = namespace.connect().await?;
        let key = generate_ec("P-256")?;
        let recipient = key.public().context("the key has no public part")?.reveal();
        // A file that was named is written first: without it nobody opens the key.
        if let Some(path) = &given {
            state::write_private(path, key.reveal().to_string().as_bytes())?;
        }
        let access = json!({"policies": policies});
        let new = NewRequest { name, purpose, team, labels, roles, access, expire_time: expires, recipient };
        let person = all.whoami().await?;
        let made = all.ask(&person, new).await?;
        let view = RequestView::of(&made, &person);
        let path = place_of_key(given.as_deref(), &view.uid);
        if given.is_none()
            && let Err(error) = state::write_private(&path, key.reveal().to_string().as_bytes())
        {
            all.withdraw(&view.name, &view.uid).await?;
            return Err(error.context("the request is withdrawn, because nobody could open its key"));
        }
        if wait > 0 {
            return receive(&all, &view.name, given.as_deref(), wait, output).await;
        }
        let text = format!(
            "{person} asks for Credential '{}', hash {}. When it is approved:\n  idm credential receive {} -n {}{}",
            view.name,
            request_hash(&made),
            view.name,
            view.namespace,
            given.map(|path| format!(" --key-file {}", path.display())).unwrap_or_default()
        );
        shown::done(output, &json!(view), &text);
        Ok(ExitCode::SUCCESS)
    }
}

impl Requests {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Requests { name, pending, mine, namespace, output } = self;
        let all = namespace.connect().await?;
        let person = all.whoami().await?;
        if let Some(name) = name {
            print_one(&RequestView::of(&all.one(&name).await?, &person), output);
            return Ok(ExitCode::SUCCESS);
        }
        let mut views: Vec<_> = all.all().await?.iter().map(|object| RequestView::of(object, &person)).collect();
        views.retain(|view| (!pending || view.may_answer) && (!mine || view.mine));
        if output == Form::Json {
            print::json("", &json!(views));
            return Ok(ExitCode::SUCCESS);
        }
        let head = ["NAME", "REQUESTER", "STATE", "EXPIRES", "PURPOSE"].map(str::to_owned);
        let rows = views.iter().map(|view| {
            let expires = view.credential["expireTime"].as_str().unwrap_or("-").to_owned();
            [view.name.clone(), view.requester.clone(), view.state.clone(), expires, view.purpose.clone()]
        });
        shown::table(std::iter::once(head).chain(rows).collect());
        Ok(ExitCode::SUCCESS)
    }
}

fn print_one(view: &RequestView, output: Form) {
    if output == Form::Json {
        return print::json("", &json!(view));
    }
    let given = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("request", format!("{}/{}", view.namespace, view.name)),
        ("state", format!("{}: {}", view.state, view.message)),
        ("requester", view.requester.clone()),
        ("purpose", view.purpose.clone()),
        ("team", given(&view.team)),
        ("credential", view.credential.to_string()),
        ("hash", given(&view.hash)),
        (
            "answer",
            view.decision.as_ref().map_or_else(
                || "-".to_owned(),
                |decision| format!("{decision} by {}: {}", given(&view.answered_by), given(&view.reason)),
            ),
        ),
    ];
    lines.iter().for_each(|(name, value)| say!("{name:<10} {value}"));
}

/// Answers the request that is printed, or the one of the hash that was given.
async fn answer(
    namespace: &Namespace,
    name: &str,
    (decision, hash, reason): (RequestDecision, Option<String>, Option<String>),
    output: Form,
) -> anyhow::Result<ExitCode> {
    let all = namespace.connect().await?;
    let person = all.whoami().await?;
    let read = all.one(name).await?;
    let view = RequestView::of(&read, &person);
    if output == Form::Table {
        print_one(&view, output);
    }
    if let Some(why) = &view.why_not {
        bail!("{name} cannot be answered by {person}: {why}");
    }
    let hash = hash.unwrap_or_else(|| request_hash(&read));
    let answered = all.answer(&person, name, decision, &hash, reason.as_deref()).await?;
    let word = if decision == RequestDecision::Approved { "approved" } else { "rejected" };
    let view = RequestView::of(&answered, &person);
    let told = format!("{word} by {person}: request '{name}' of {}, hash {hash}", view.requester);
    shown::done(output, &json!(view), &told);
    Ok(ExitCode::SUCCESS)
}

impl Approve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Approve { name, hash, reason, namespace, output } = self;
        answer(&namespace, &name, (RequestDecision::Approved, hash, reason), output).await
    }
}

impl Reject {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Reject { name, hash, reason, namespace, output } = self;
        answer(&namespace, &name, (RequestDecision::Rejected, hash, Some(reason)), output).await
    }
}

impl Receive {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Receive { name, key_file, wait, namespace, output } = self;
        receive(&namespace.connect().await?, &name, key_file.as_deref(), wait, output).await
    }
}

impl Withdraw {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Withdraw { name, namespace, output } = self;
        let all = namespace.connect().await?;
        let uid = text(&all.one(&name).await?, "/metadata/uid");
        all.withdraw(&name, &uid).await?;
        let _ = std::fs::remove_file(place_of_key(None, &uid));
        shown::done(output, &json!({"withdrawn": name}), &format!("withdrawn: {name}"));
        Ok(ExitCode::SUCCESS)
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Waits for the key, prints it, and says that it was received; the private key is not needed any more.
async fn receive(
    all: &ClusterRequests,
    name: &str,
    given: Option<&Path>,
    wait: u64,
    output: Form,
) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (object, ciphertext) = loop {
        let object = all.one(name).await?;
        let ciphertext = text(&object, "/status/encryptedKey");
        if !ciphertext.is_empty() {
            break (object, ciphertext);
        }
        let view = RequestView::of(&object, "");
        let is_open = matches!(view.state.as_str(), "Pending" | "Issuing" | "Unknown");
        if !is_open || began.elapsed() >= Duration::from_secs(wait) {
            bail!("request '{name}' has no key for you: {}: {}", view.state, view.message);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let uid = text(&object, "/metadata/uid");
    let path = place_of_key(given, &uid);
    let private = std::fs::read(&path).with_context(|| {
        format!("cannot read {}, which has the private key of this request: name it with --key-file", path.display())
    })?;
    let key = opened(&private, &ciphertext).with_context(|| format!("with the private key in {}", path.display()))?;
    let id = text(&object, "/status/credential/keyId");
    match output {
        Form::Json => print::json("", &json!({"credential": name, "id": id, "key": key.reveal()})),
        Form::Table => {
            say!("{}", key.reveal());
            complain!("key {id} of Credential '{name}', shown this once");
        }
    }
    all.received(name, &uid).await?;
    if let Err(error) = std::fs::remove_file(&path) {
        complain!("note: {} is not needed any more, and could not be removed: {error}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The API key in a JWE.
fn opened(private: &[u8], ciphertext: &str) -> anyhow::Result<ApiKey> {
    let set = json!({"keys": [Jwk::parse(private)?.reveal()]}).to_string();
    let keys = DecryptionKeys::parse(set.as_bytes(), &[KeyManagement::EcdhEs])?;
    let expected = JweExpectations {
        key_management: &[KeyManagement::EcdhEs],
        content_encryption: &[ContentEncryption::A256Gcm],
        compressed: false,
    };
    let text = Redacted::new(Jwe::parse(ciphertext)?.decrypt(&keys, &expected)?.payload);
    let key = std::str::from_utf8(text.reveal()).ok().and_then(ApiKey::parse);
    key.context("what is encrypted is no API key")
}

#[cfg(test)]
mod tests {
    use idm_api::v1alpha1::Recipient;

    use super::*;

    #[test]
    fn the_key_of_a_request_is_opened_by_its_private_key_and_by_no_other() {
        let key = ApiKey::from_random([7; 32]);
        let (own, other) = (generate_ec("P-256").unwrap(), generate_ec("P-256").unwrap());
        let recipient = Recipient { jwk: own.public().unwrap().reveal().to_string() };
        let jwe = idm_compile::encrypted_to(&recipient, key.reveal().as_bytes()).unwrap();
        let open = |key: &Jwk, jwe: &str| opened(key.reveal().to_string().as_bytes(), jwe);
        assert_eq!(open(&own, &jwe).unwrap().reveal(), key.reveal());
        assert!(open(&other, &jwe).is_err());
        let planted = idm_compile::encrypted_to(&recipient, b"rm -rf").unwrap();
        assert!(open(&own, &planted).is_err(), "nothing but a key is printed");
    }

    #[test]
    fn a_label_has_a_name_and_a_value() {
        assert_eq!(label("plan=gold"), Ok(LabelView { name: "plan".into(), value: "gold".into() }));
        assert!(label("gold").is_err());
    }
}
