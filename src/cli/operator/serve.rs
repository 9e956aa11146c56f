//! `superserve serve`.

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::{
    app::{self, FirstToken, Running},
    config::{Environment, ServeSettings},
};

/// Serves until SIGTERM or SIGINT, then drains.
pub(in crate::cli) async fn run(
    settings: ServeSettings,
    environment: &Environment,
    talk: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    app::start_log(settings.log());
    let encrypted = settings.is_encrypted();
    let running = app::start(settings.check(environment)?).await?;
    greet(&running, encrypted, talk)?;
    wait_for_signal().await?;
    running.stop().await;
    Ok(())
}

/// What an operator sees first: where it is, and after the first start, where the token is and what to
/// type next.
fn greet(running: &Running, encrypted: bool, talk: &mut (dyn Write + Send)) -> io::Result<()> {
    let scheme = if encrypted { "https" } else { "http" };
    let url = format!("{scheme}://{}", running.address);
    writeln!(talk, "superserve serves gRPC, gRPC-Web and REST on {url}")?;
    writeln!(talk, "  probes and metrics: http://{}/readyz, /livez, /metrics", running.ops_address)?;
    if let Some(FirstToken { text, path }) = &running.first_token {
        let (token, file) = (text.expose(), path.display());
        writeln!(
            talk,
            "\nThis is the first start. The admin token, shown here once and kept in {file}:\n\n    {token}\n\n\
             Next, in another terminal:\n\n    \
             export SUPERSERVE_API_URL={url}\n    \
             export SUPERSERVE_TOKEN_FILE={file}\n    \
             superserve agents deploy my-agent --require ANTHROPIC_API_KEY\n    \
             superserve secrets set my-agent\n"
        )?;
    }
    talk.flush()
}

async fn wait_for_signal() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
