//! `superserve secrets set AGENT [KEY[=VALUE]…]`.

use std::time::Duration;

use clap::{Args, builder::OsStringValueParser, builder::TypedValueParser as _};

use crate::{
    cli::{
        agent::{AgentArgument, OF_PROJECT},
        client::{Client, NamedAgent},
        context::Context,
        duration,
        failure::{Exit, Failure},
        random,
        settings::ClientArgs,
    },
    proto::v1::{SecretChangeKind, SetSecretsRequest, SetSecretsResponse},
};

use super::{
    ask, set_report,
    sources::{self, Argument, Assignment, EnvFile},
};

/// The arguments of `secrets set`.
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
    /// KEY asks for the value, KEY=- reads stdin, KEY=@FILE a file, KEY=VALUE takes what stands there
    /// (which other users of the machine can see). Without any: asks for all that is missing
    #[arg(value_name = "KEY[=VALUE]", value_parser = OsStringValueParser::new().map(Argument::from))]
    arguments: Vec<Argument>,
    #[command(flatten)]
    env_file: EnvFile,
    /// Check everything and say what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete the agent's keys that are not given
    #[arg(long)]
    prune: bool,
    /// Do not ask before --prune deletes
    #[arg(long, short)]
    yes: bool,
    /// Change nothing unless the agent is at this revision
    #[arg(long, value_name = "N", value_parser = parse_revision)]
    if_revision: Option<i64>,
    /// For so long, runs also get the value before, as `KEY_PREVIOUS`: s, m, h, d or w, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    previous_for: Option<Duration>,
}

fn parse_revision(text: &str) -> Result<i64, &'static str> {
    text.parse().ok().filter(|revision| *revision >= 0).ok_or("a revision is a number, 0 or greater")
}

/// What is sent, apart from the values.
#[derive(Clone, Copy)]
struct Mode {
    expected_revision: Option<i64>,
    validate_only: bool,
    prune: bool,
    previous_for: Option<Duration>,
}

impl Set {
    /// Gathers the values and sets them all in one call, or none.
    ///
    /// # Errors
    /// When the input is invalid, it is not confirmed, or the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let gathered = sources::gather(&self.arguments, &self.env_file, context).await?;
        let is_conversation = self.arguments.is_empty() && self.env_file.path.is_none();
        if is_conversation || !gathered.to_ask.is_empty() {
            ask::needs_terminal(context, &gathered.to_ask)?;
        }
        if self.prune && !self.yes && !self.dry_run && !context.input.is_terminal {
            return Err(Failure::local("Not confirmed: --prune deletes the keys that are not given.")
                .hint("There is no terminal to ask on: pass --yes to confirm."));
        }
        if gathered.had_inline && context.input.is_terminal {
            context
                .output
                .warn("a value on the command line can be seen by others; KEY alone asks for it hidden");
        }

        let client = context.connect(client).await?;
        let agent = agent.find(&client).await?;
        let mut assignments = gathered.assignments;
        assignments.extend(ask::each(context, gathered.to_ask).await?);
        if is_conversation {
            assignments.extend(ask::missing_and_more(context, &client, &agent).await?);
        }
        if assignments.is_empty() {
            context.output.talk("There is nothing to set.");
            return Ok(Exit::Fine);
        }
        self.set(&client, &agent, &assignments, context).await
    }

    async fn set(
        &self,
        client: &Client,
        agent: &NamedAgent,
        assignments: &[Assignment],
        context: &mut Context,
    ) -> Result<Exit, Failure> {
        let Self { dry_run, prune, if_revision, previous_for, .. } = *self;
        let mut mode = Mode { expected_revision: if_revision, validate_only: dry_run, prune, previous_for };
        if prune && !self.yes && !dry_run {
            let preview = send(client, agent, assignments, Mode { validate_only: true, ..mode }).await?;
            if confirm_prune(agent, &preview, context).await? {
                // What was confirmed is what is done, or nothing
                mode.expected_revision = Some(preview.revision);
            }
        }
        let answer = send(client, agent, assignments, mode).await?;
        if dry_run {
            set_report::would_set(&mut context.output, agent, &answer)?;
        } else {
            set_report::has_set(&mut context.output, agent, assignments.len(), &answer)?;
        }
        Ok(Exit::Fine)
    }
}

/// Lists what would go and asks. `false` when nothing would.
async fn confirm_prune(
    agent: &NamedAgent,
    preview: &SetSecretsResponse,
    context: &mut Context,
) -> Result<bool, Failure> {
    let is_pruned = |kind: SecretChangeKind| kind == SecretChangeKind::Pruned;
    let pruned: Vec<_> =
        preview.changes.iter().filter(|change| is_pruned(change.kind())).map(|c| c.key.as_str()).collect();
    if pruned.is_empty() {
        return Ok(false);
    }
    let question = format!("Delete {} from agent '{}'?", pruned.join(", "), agent.shown);
    context.input.confirm(&mut context.output, &question).await?;
    Ok(true)
}

/// Sends one request, again if need be under the same idempotency key: it has one effect.
async fn send(
    client: &Client,
    agent: &NamedAgent,
    assignments: &[Assignment],
    mode: Mode,
) -> Result<SetSecretsResponse, Failure> {
    let idempotency_key = if mode.validate_only { String::new() } else { random::idempotency_key()? };
    let call = || {
        let request = SetSecretsRequest {
            agent_id: agent.id.clone(),
            secrets: assignments
                .iter()
                .map(|Assignment { key, value }| (key.as_str().to_owned(), value.expose().to_owned()))
                .collect(),
            expected_revision: mode.expected_revision,
            idempotency_key: idempotency_key.clone(),
            validate_only: mode.validate_only,
            prune: mode.prune,
            previous_for: mode.previous_for.map(to_wire),
        };
        let mut secrets = client.secrets();
        async move { secrets.set_secrets(request).await }
    };
    client.repeatable(call).await
}

fn to_wire(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
