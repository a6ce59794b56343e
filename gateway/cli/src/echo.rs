use std::net::SocketAddr;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

const MAX_BODY: usize = 1 << 20;

/// Answer every request with what it carried
#[derive(Args)]
pub(crate) struct Echo {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
}

impl Echo {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let address = crate::listen::serve(self.listen, logged).await?;
        say!("echo listens on http://{address}");
        crate::serve::stopped().await;
        Ok(())
    }
}

/// One line per request on standard output, for whoever wants to know what arrived.
async fn logged(request: Request<Incoming>) -> Response<Full<Bytes>> {
    say!("{} {}", request.method(), request.uri());
    answer(request).await
}

/// Method, path, headers and body of the request, as JSON.
pub(crate) async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut headers = serde_json::Map::new();
    for (name, value) in &parts.headers {
        let value = Value::from(String::from_utf8_lossy(value.as_bytes()));
        match headers.get_mut(name.as_str()) {
            Some(Value::Array(several)) => several.push(value),
            Some(one) => *one = json!([one.clone(), value]),
            None => drop(headers.insert(name.to_string(), value)),
        }
    }
    let body = Limited::new(body, MAX_BODY).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answer = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map(|p| p.as_str()),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    crate::listen::json(200, &answer)
}
