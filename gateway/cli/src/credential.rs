use clap::{Args, Subcommand};

use crate::state;

/// Make API keys
#[derive(Subcommand)]
pub(crate) enum Credential {
    /// Print a new API key, or the Secret that holds it
    New(New),
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

impl Credential {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Credential::New(New { secret, client }) = self;
        let field = if client { "clientSecret" } else { "key" };
        let key = state::new_api_key()?;
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
