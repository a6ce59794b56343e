//! Credentials that sign their requests: the gateway gets the public key alone.

use std::path::Path;

use anyhow::bail;
use idm_jose::{Jwk, generate_ed25519};
use idm_manager::FolderCredentials;
use serde_json::{Value, json};

use super::{Form, Place, shown};
use crate::{input, jwk, print};

/// Makes a Credential with this public key; without one, with that of a new key pair, whose private key is printed.
pub(super) async fn create(
    name: &str,
    mut spec: Value,
    public_key: Option<&Path>,
    place: &Place,
    output: Form,
) -> anyhow::Result<()> {
    let key = match public_key {
        Some(path) => input::key(path)?,
        None => generate_ed25519()?,
    };
    let private = if public_key.is_none() { Some(jwk::private_pem(&key)?) } else { None };
    let Some(public) = key.public() else { bail!("a symmetric key has no public part: put it into a Secret") };
    let algorithm = algorithm_of(&public)?;
    let listed = json!({"id": name, "algorithm": algorithm, "publicKey": public.reveal().to_string()});
    spec["signature"] = json!({"keys": [listed]});
    let file = match &place.dir {
        Some(dir) => Some(FolderCredentials::open(dir)?.add(name, &spec)?),
        None => place.cluster().await?.add(name, &spec).await.map(|()| None)?,
    };
    if output == Form::Json {
        let made = json!({"credential": name, "keyid": name, "algorithm": algorithm, "privateKey": private,
            "file": file});
        print::json("", &made);
        return Ok(());
    }
    let done = format!("Credential '{name}' is made: requests are signed with keyid \"{name}\" and {algorithm}");
    match private {
        Some(private) => {
            print::lines(&private);
            complain!("{done}; the private key is shown this once");
        }
        None => shown::done(output, &Value::Null, &done),
    }
    Ok(())
}

/// The usual algorithm of a key, as RFC 9421 names it.
fn algorithm_of(key: &Jwk) -> anyhow::Result<&'static str> {
    match (key.text("kty"), key.text("crv")) {
        (Some("OKP"), Some("Ed25519")) => Ok("ed25519"),
        (Some("EC"), Some("P-256")) => Ok("ecdsa-p256-sha256"),
        (Some("EC"), Some("P-384")) => Ok("ecdsa-p384-sha384"),
        (Some("RSA"), _) => Ok("rsa-pss-sha512"),
        _ => bail!("a key for signed requests must be of Ed25519, P-256, P-384 or RSA, and this is {}", key.describe()),
    }
}
