//! `idm blocks`: the blocks of a running gateway, asked for and ended at its control port.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::{Client, Method, Url, redirect};
use serde_json::Value;

use crate::{print, state};

/// Show and end the blocks of addresses that a gateway made
#[derive(Subcommand)]
pub(crate) enum Blocks {
    /// Print the blocks in force: address, rule, end, and how many requests they refused
    List(List),
    /// End the blocks at an address, on all gateways that share a store
    Remove(Remove),
}

/// Which gateway
///
/// In a cluster: `kubectl exec deploy/idm-gateway -- idm blocks list`.
#[derive(Args)]
pub(crate) struct Of {
    /// The control port of the gateway: the `--admin` of `idm run`
    #[arg(long, default_value = "http://127.0.0.1:8081", env = "IDM_ADMIN")]
    admin: Url,
    /// The gateway's folder of audit records, in which its admin token is [default: audit in the idm state folder, or
    /// that of a pod]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
}

/// Print the blocks in force
#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    of: Of,
    /// The form of the output: a line each, or JSON
    #[arg(short, long, default_value = "short", value_parser = ["short", "json"])]
    output: String,
}

/// End the blocks at an address
#[derive(Args)]
pub(crate) struct Remove {
    /// The address; of a /64 any address in it
    #[arg(value_parser = address)]
    address: IpAddr,
    #[command(flatten)]
    of: Of,
}

/// An address as `idm blocks list` prints it.
fn address(text: &str) -> Result<IpAddr, String> {
    let text = text.strip_suffix("/64").unwrap_or(text);
    text.parse().map_err(|_| "give an address such as 192.0.2.1 or 2001:db8::1".to_owned())
}

/// The folder of the audit in a pod of the operator's.
const POD_DIR: &str = "/var/lib/idm/audit";

impl Of {
    fn token(&self) -> anyhow::Result<String> {
        let usual = || [state::audit_dir(), PathBuf::from(POD_DIR)];
        let folders = self.audit_dir.clone().map_or_else(|| usual().to_vec(), |dir| vec![dir]);
        let files: Vec<PathBuf> = folders.iter().map(|folder| idm_gateway::token_file(folder)).collect();
        let found = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
        found.with_context(|| {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            format!(
                "no admin token in {}: run this as the user of the gateway, on its machine or in its pod, and name its \
                 folder with --audit-dir; without --blocks a gateway has none",
                files.join(" or ")
            )
        })
    }

    async fn ask(&self, method: Method, address: Option<IpAddr>) -> anyhow::Result<Value> {
        let mut url = self.admin.join("/-/blocks").context("--admin must be an http URL")?;
        url.set_query(address.map(|address| format!("address={address}")).as_deref());
        let client = Client::builder().timeout(Duration::from_secs(10)).redirect(redirect::Policy::none()).no_proxy();
        let asked = client.build()?.request(method, url).bearer_auth(self.token()?).send().await;
        let answer = asked.with_context(|| format!("no answer from {}: name the gateway with --admin", self.admin))?;
        let (status, text) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status.is_success(), "{} answered {status}: {}", self.admin, text.trim_end());
        serde_json::from_str(&text).with_context(|| format!("{} is not the control port of a gateway", self.admin))
    }
}

impl Blocks {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(List { of, output }) => {
                let told = of.ask(Method::GET, None).await?;
                if output == "json" {
                    say!("{}", idm_types::visible_json(&told.to_string()));
                    return Ok(ExitCode::SUCCESS);
                }
                let mode = told["mode"].as_str().unwrap_or_default();
                let all = told["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
                for block in all {
                    if print::line(line(block)).is_err() {
                        break;
                    }
                }
                let blocks = if all.len() == 1 { "block" } else { "blocks" };
                say!("{} {blocks} in force (mode {mode})", all.len());
            }
            Self::Remove(Remove { address, of }) => {
                let told = of.ask(Method::DELETE, Some(address)).await?;
                let removed = told["removed"].as_array().map(Vec::as_slice).unwrap_or_default();
                removed.iter().for_each(|block| say!("ended: {}", line(block)));
                anyhow::ensure!(!removed.is_empty(), "there is no block at {address}: `idm blocks list` shows all");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A block in one line, without a control character of anybody.
fn line(block: &Value) -> String {
    let text = |name: &str| block[name].as_str().unwrap_or_default();
    let verb = match (text("mode"), block["spared"] == true) {
        ("enforce", _) => "refused",
        (_, true) => "spares, and would have refused",
        _ => "would have refused",
    };
    let credential = block["credential"].as_str().map(|about| format!(" {about}")).unwrap_or_default();
    let (address, ends, why, hits) = (text("address"), text("ends"), text("why"), &block["hits"]);
    idm_types::visible(&format!("{address}{credential}  until {ends}  {verb} {hits} here  {why}")).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_printed() {
        assert_eq!(address("2001:db8::/64"), Ok("2001:db8::".parse().unwrap()));
        assert_eq!(address("192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
        assert!(address("ana").is_err());
    }

    #[test]
    fn a_line_says_what_the_block_does() {
        let block = |mode: &str, spared| {
            json!({"address": "192.0.2.1", "credential": "user `a\u{1b}`", "mode": mode, "spared": spared, "hits": 3,
                "ends": "2027-01-01T00:00:00.000Z", "why": "rule oneCredential"})
        };
        let told = line(&block("enforce", false));
        assert!(told.contains("refused 3 here  rule oneCredential") && !told.contains('\u{1b}'), "{told}");
        assert!(line(&block("observe", false)).contains("would have refused 3 here"));
        assert!(line(&block("observe", true)).contains("spares"));
    }
}
