//! `superserve serve`.

use std::{io, sync::Arc};

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, failed};
use crate::{
    app::{self, FirstToken, Running},
    cli::{context::Context, failure::Exit, output::Output},
    config::ServeSettings,
};

/// Serves until SIGTERM or SIGINT, then drains. SIGHUP has keyring, certificates and identities read again, and of the
/// settings, as `now` says they are, the log's level.
pub(in crate::cli) async fn run(
    settings: ServeSettings,
    now: impl Fn() -> Result<ServeSettings, String> + Send + Sync + 'static,
    context: &mut Context,
) -> Result<Exit, Failure> {
    close_memory().and_then(|()| keep_pages_small()).map_err(|error| failed(&error))?;
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let (encrypted, shows_token) = (settings.is_encrypted(), settings.shows_admin_token());
    let config = settings.check(&context.environment)?;
    // From here on it ends nobody; one that comes during the start is answered after it
    let hangups = signal(SignalKind::hangup()).map_err(|error| failed(&error))?;
    allow_sockets();
    // Who is told to end as soon as it listens ends in order, too
    let mut ends = Ends::new().map_err(|error| failed(&error))?;
    let running = tokio::select! {
        biased;
        () = ends.next() => return Ok(Exit::Fine),
        started = Box::pin(app::start(config)) => started.map_err(|error| failed(&error))?,
    };
    greet(&running, encrypted, shows_token, &mut context.output);
    wait_for_end(&running, hangups, ends, Arc::new(now)).await;
    running.stop().await;
    Ok(Exit::Fine)
}

/// What ends a server: SIGTERM or SIGINT.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

// === impl Ends ===

impl Ends {
    /// Listens for them from now on.
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// As many open sockets and files as the system lets us have: what one begins with, often 1,024, is fewer than the
/// connections that are served.
fn allow_sockets() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!(limit = current, "cannot have more open files than this");
    }
}

/// Keys and values go through this memory: no core dump has it, whatever writes those, and nobody of the same user reads it.
fn close_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Where the system backs memory by pages of 2 MiB, half of what an idle server has would be their unused rest.
fn keep_pages_small() -> io::Result<()> {
    Ok(nix::sys::prctl::set_thp_disable(true)?)
}

/// What an operator sees first: where it is, and after the first start, where the token is and what to
/// type next.
fn greet(running: &Running, encrypted: bool, shows_token: bool, output: &mut Output) {
    let scheme = if encrypted { "https" } else { "http" };
    let url = format!("{scheme}://{}", running.address);
    output.talk(format!("superserve serves gRPC, gRPC-Web and REST on {url}"));
    output.talk(format!("  probes and metrics: http://{}/readyz, /livez, /metrics", running.ops_address));
    let Some(FirstToken { text, path }) = &running.first_token else { return };
    let file = path.display();
    let told = if shows_token {
        format!("The admin token, shown here once and kept in {file}:\n\n    {}", text.expose())
    } else {
        format!("The admin token is kept in {file}.")
    };
    output.talk(format!(
        "\nThis is the first start. {told}\n\n\
         Next, in another terminal:\n\n    \
         export SUPERSERVE_API_URL={url}\n    \
         export SUPERSERVE_TOKEN_FILE={file}\n    \
         superserve agents deploy my-agent --require ANTHROPIC_API_KEY --runner-token runner-token\n    \
         superserve secrets set my-agent\n    \
         SUPERSERVE_TOKEN_FILE=./runner-token superserve secrets run my-agent -- COMMAND\n"
    ));
}

async fn wait_for_end(
    running: &Running,
    mut hangups: Signal,
    mut ends: Ends,
    now: Arc<impl Fn() -> Result<ServeSettings, String> + Send + Sync + 'static>,
) {
    let reloading = async {
        while hangups.recv().await.is_some() {
            running.reload().await;
            let now = Arc::clone(&now);
            // It reads files, and one that blocks must not keep the server from its end
            match tokio::task::spawn_blocking(move || now()).await {
                Ok(Ok(settings)) => app::set_log_level(settings.log().level),
                Ok(Err(error)) => {
                    tracing::warn!(error, "the log stays as it is: settings cannot be used any more");
                }
                Err(error) => tracing::error!(%error, "the settings could not be read"),
            }
        }
    };
    tokio::select! {
        () = ends.next() => {}
        () = reloading => {}
    }
}
