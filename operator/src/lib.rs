//! x
/// x
#[derive(clap::Args)]
pub struct Options {}
/// x
pub async fn run(_: Options) -> anyhow::Result<()> { Ok(()) }
