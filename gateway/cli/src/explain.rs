//! `idm explain`: a decision on record, a request that nobody sends, or the settings of a policy that are in force.

mod cluster;
mod made_by;
mod policy;
mod request;
pub(crate) mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use idm_types::DecisionId;

use crate::audit::search;
use crate::options::ElasticsearchArgs;
use crate::print;

/// Say in plain words why a request was or would be decided as it is, or which settings of a policy are in force
#[derive(Args)]
pub(crate) struct Explain {
    /// The decision id, which is in the answer's body and in its X-Decision-Id header; or policy/NAME
    #[arg(value_name = "ID|policy/NAME", required_unless_present = "request", conflicts_with = "request")]
    subject: Option<String>,
    #[command(flatten)]
    request: request::RequestArgs,
    #[command(flatten)]
    source: source::SourceArgs,
    /// Folder with audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
    /// The form of the output of requests and policies
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

impl Explain {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self { subject, request, source, audit_dir, elasticsearch, output } = self;
        let json = output == "json";
        let Some(subject) = subject else { return request.run(&source, json).await };
        if let Some(name) = policy_named(&subject) {
            return policy::run(name, &source, json).await;
        }
        let id: DecisionId = subject.parse()?;
        let records = search::records(&elasticsearch, audit_dir)?;
        match search::find(&records, &id.to_string()).await? {
            Some(record) => {
                print::lines(&record.explain());
                for line in made_by::lines(&records, &record).await {
                    say!("{line}");
                }
                Ok(ExitCode::SUCCESS)
            }
            None => {
                complain!(
                    "error: no decision {id} in these records: it may be somewhere else (--audit-dir, --elasticsearch) \
                     or older than what is kept"
                );
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// The name behind `policy/`, or behind another name of the kind.
fn policy_named(subject: &str) -> Option<&str> {
    let (kind, name) = subject.split_once('/')?;
    let is_policy = kind == "policy" || kind.parse() == Ok(idm_permission::Kind::IdentityPolicy);
    is_policy.then_some(name)
}
