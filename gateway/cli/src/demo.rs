//! `idm demo`: the whole product in one process, in a minute, without a cluster.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use idm_compile::Settings;
use idm_gateway::source::dir::DirSource;
use idm_types::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use crate::manager::{ManagedFolder, ManagerArgs, RunningManager};
use crate::options::AuditArgs;
use crate::{echo, listen, serve, state, token};

/// Run gateway, echo upstream and a test identity provider in one process
#[derive(Args)]
pub(crate) struct Demo {
    /// Address of the gateway
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Address of the echo upstream
    #[arg(long, default_value = "127.0.0.1:8001")]
    echo: SocketAddr,
    /// Address of the test identity provider
    #[arg(long, default_value = "127.0.0.1:8002")]
    idp: SocketAddr,
    /// Address of the Manager: the web application and the management API
    #[arg(long, default_value = "127.0.0.1:8003")]
    manager: SocketAddr,
    #[command(flatten)]
    manager_names: ManagerArgs,
    /// Write the demo's configuration as YAML into this folder and stop
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    #[command(flatten)]
    audit: AuditArgs,
}

impl Demo {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if let Some(dir) = &self.export {
            write_files(dir, self.echo)?;
            let dir = dir.display();
            crate::print::lines(&format!(
                "The demo's configuration is in {dir}. Serve it with\n\n  idm echo --listen {} &\n  \
                 idm run --dir {dir} --listen {}\n\n",
                self.echo, self.listen
            ));
            return Ok(());
        }
        let echo = listen::serve(self.echo, echo::answer).await?;
        let idp = listen::serve(self.idp, provider).await?;
        let options = idm_gateway::GatewayOptions::new("demo", self.listen, self.audit.options()?);
        // The demo runs from the very files that --export writes.
        let dir = state::dir().join("demo");
        write_files(&dir, echo)?;
        let settings = Settings::of_a_folder(false);
        let (source, first) = DirSource::load(&dir, settings).await?;
        let gateway = idm_gateway::Gateway::start(&options, Some(&first)).await?;
        let over = ManagedFolder { dir: &dir, settings, gateway: gateway.clone(), audit: options.audit.clone() };
        let manager = self.manager_names.start(self.manager, over).await?;
        self.print(gateway.address(), idp, &manager);
        let (stop, watching) = watch::channel(false);
        let watcher = tokio::spawn(source.watch(gateway.clone(), watching));
        serve::stopped().await;
        let _ = stop.send(true);
        let _ = watcher.await;
        manager.stop().await;
        gateway.stop().await;
        Ok(())
    }

    fn print(&self, gateway: SocketAddr, idp: SocketAddr, manager: &RunningManager) {
        let mut out = String::new();
        let idm = std::env::args().next().unwrap_or_else(|| "idm".into());
        let _ =
            writeln!(out, "Gateway http://{gateway}   echo upstream behind it   test identity provider http://{idp}");
        let _ = writeln!(out, "{}\n", manager.line());
        let _ = writeln!(out, "try 1  an open route: 200");
        let _ = writeln!(out, "  curl -i http://{gateway}/open\n");
        let _ = writeln!(out, "try 2  a protected route without a credential: 401, with a decision id");
        let _ = writeln!(out, "  curl -i http://{gateway}/orders\n");
        let _ = writeln!(out, "try 3  why?");
        let _ = writeln!(out, "  {idm} explain DECISION-ID\n");
        let _ = writeln!(out, "try 4  with a token: 200, and the upstream is told who calls");
        let _ = writeln!(
            out,
            "  curl -i -H \"Authorization: Bearer $({idm} token mint --user ana)\" http://{gateway}/orders\n"
        );
        let _ = writeln!(
            out,
            "try 5  with an API key instead; writing needs the role order-writer, which this caller lacks: 403"
        );
        let _ = writeln!(
            out,
            "  curl -i -X POST -H \"X-Api-Key: $(cat {})\" http://{gateway}/orders\n",
            state::dir().join("demo-api-key").display()
        );
        let _ = writeln!(
            out,
            "The same as YAML: {idm} demo --export DIR.   Every decision: {idm} audit tail.   Stop: Ctrl-C."
        );
        // The reader of our output may be gone; the demo goes on.
        crate::print::lines(&out);
    }
}

/// The issuer of the demo's tokens. A name only: its keys are written into the policy.
pub(crate) const ISSUER: &str = "https://idp.demo.example";
/// The audience the demo's policy asks for.
pub(crate) const AUDIENCE: &str = "orders";

fn write_files(dir: &Path, echo: SocketAddr) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let jwks = state::demo_key()?.jwks();
    let upstream = include_str!("demo/upstream.yaml")
        .replace("ECHO_HOST", &echo.ip().to_string())
        .replace("ECHO_PORT", &echo.port().to_string());
    let policies = include_str!("demo/policies.yaml")
        .replace("ISSUER", ISSUER)
        .replace("AUDIENCE", AUDIENCE)
        .replace("JWKS", &jwks.to_string());
    let credential = include_str!("demo/credential.yaml").replace("API_KEY", state::demo_api_key()?.reveal());
    for (name, text) in [("upstream.yaml", upstream), ("policies.yaml", policies), ("credential.yaml", credential)] {
        // The last one holds a key, so all are for the owner only.
        state::write_private(&dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// The test identity provider: OpenID configuration, keys, and a token for whoever asks. For the demo only.
async fn provider(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = match request.uri().path() {
        "/.well-known/openid-configuration" => {
            Ok(json!({"issuer": ISSUER, "jwks_uri": "/jwks.json", "token_endpoint": "/token"}))
        }
        "/jwks.json" => state::demo_key().map(|key| key.jwks()),
        "/token" => {
            let body =
                Limited::new(request.into_body(), 4096).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let form = String::from_utf8_lossy(&body).into_owned();
            let user = form.split('&').find_map(|pair| pair.strip_prefix("user=")).unwrap_or("ana").to_owned();
            token::mint(&user, &["order-reader".into()], AUDIENCE, 300, Timestamp::now())
                .map(|token| json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
        }
        _ => {
            return listen::json(
                404,
                &json!({"error": "there are /.well-known/openid-configuration, /jwks.json and /token"}),
            );
        }
    };
    match answer {
        Ok(answer) => listen::json(200, &answer),
        Err(error) => listen::json(500, &json!({"error": error.to_string()})),
    }
}
