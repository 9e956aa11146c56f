//! `superserve audit AGENT`: what was done, or with `--runs`, `--key` and `--stale` who holds what.

mod events;
mod runs;

use clap::Args;

use super::{
    context::Context,
    failure::{Exit, Failure},
    output::Output,
    settings::ClientArgs,
};

/// How many events are listed unless another number is asked for. Runs are all listed: one that is left out
/// is one that is not restarted.
const EVENTS: usize = 100;

/// What is listed, newest first.
struct Listed<Row> {
    rows: Vec<Row>,
    /// There are older ones, too.
    more: bool,
}

/// The arguments of `audit`.
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// The agent: a name, or an `agt_` id (which also reaches a deleted agent)
    agent: String,
    /// Show which run was given which version of which key, instead of events
    #[arg(long)]
    runs: bool,
    /// Show only runs that were given this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Show only runs that hold an old version (of --key, if given): those to restart after a rotation
    #[arg(long)]
    stale: bool,
    /// How many at most, newest first [default: 100 events, all runs]
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
}

fn parse_limit(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or("a number greater than 0")
}

impl Audit {
    /// Lists events or runs.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self { agent, runs, key, stale, limit } = self;
        let client = context.connect(client).await?;
        let agent = client.find_agent(&agent).await?;
        if runs || stale || key.is_some() {
            let filter = runs::Filter { key, stale };
            let runs = runs::fetch(&client, &agent, &filter, limit.unwrap_or(usize::MAX)).await?;
            runs::report(&mut context.output, &agent, &filter, &runs)?;
            runs.say_if_more(&mut context.output);
            if !runs.rows.is_empty() && !context.output.json {
                context.output.talk("Runs that have ended are listed too.");
            }
        } else {
            let events = events::fetch(&client, &agent, limit.unwrap_or(EVENTS)).await?;
            events::report(&mut context.output, &agent, &events)?;
            events.say_if_more(&mut context.output);
        }
        Ok(Exit::Fine)
    }
}

// === impl Listed ===

impl<Row> Listed<Row> {
    /// Says that there are more, if so.
    fn say_if_more(&self, output: &mut Output) {
        if self.more {
            output.talk(format!("There are more than these {}: see them with --limit.", self.rows.len()));
        }
    }
}
