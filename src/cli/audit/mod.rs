//! `superserve audit AGENT`: what was done, or with `--runs`, `--key` and `--stale` who holds what.

mod events;
mod runs;

use clap::Args;
use serde_json::{Value, json};

use crate::proto::v1::AuditedSecret;

use super::{
    agent::{AgentArgument, OF_PROJECT},
    context::Context,
    failure::{Exit, Failure},
    list, render,
    settings::ClientArgs,
};

use events::Events;
use runs::Runs;

/// How many events are listed unless another number is asked for. Runs are all listed: one that is left out
/// is one that is not restarted.
const EVENTS: usize = 100;

/// The arguments of `audit`.
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// The agent: a name or an `agt_` id (which also reaches a deleted one); `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
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
        let agent = agent.resolve(context)?;
        let client = context.connect(client).await?;
        let agent = agent.find(&client).await?;
        let page_size = limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or_default();
        let output = &mut context.output;
        if runs || stale || key.is_some() {
            let runs = Runs { agent, key, stale, page_size };
            let any = list::print(&runs, limit.unwrap_or(usize::MAX), &client, output).await?;
            if any && !output.json {
                output.talk("Runs that have ended are listed too.");
            }
        } else {
            list::print(&Events { agent, page_size }, limit.unwrap_or(EVENTS), &client, output).await?;
        }
        Ok(Exit::Fine)
    }
}

/// Secrets of an event or a run, for programs.
fn documents(secrets: &[AuditedSecret]) -> Vec<Value> {
    let document = |AuditedSecret { key, version, fingerprint, .. }: &AuditedSecret| json!({ "key": key, "version": version, "fingerprint": render::optional(fingerprint) });
    secrets.iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use crate::{cli::client::NamedAgent, proto::v1::AuditedSecret};

    pub(super) fn agent() -> NamedAgent {
        NamedAgent { id: "agt_1".to_owned(), shown: "my-agent".to_owned() }
    }

    pub(super) fn secret(key: &str, version: i64) -> AuditedSecret {
        AuditedSecret { key: key.to_owned(), version, ..Default::default() }
    }
}
