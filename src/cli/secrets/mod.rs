//! `superserve secrets …`.

mod ask;
mod check;
mod delete;
mod list;
mod run;
mod set;
mod set_report;
mod sources;

use clap::Subcommand;

use super::{
    client::{Client, NamedAgent},
    context::Context,
    failure::{Exit, Failure},
    settings::ClientArgs,
};
use crate::proto::v1::{ListSecretsRequest, ListSecretsResponse};

/// The commands about secrets.
#[derive(Subcommand, Debug)]
pub(super) enum Secrets {
    /// Set or replace secrets
    Set(set::Set),
    /// List the names of an agent's secrets
    List(list::List),
    /// Delete secrets
    Delete(delete::Delete),
    /// Say whether all required secrets are set
    Check(check::Check),
    /// Run a command with an agent's secrets in its environment
    Run(run::RunCommand),
    /// Become a command of `run --watch`, which starts this by itself
    #[command(hide = true, name = run::LAUNCH)]
    Launch(run::Launch),
}

impl Secrets {
    /// Runs one of them.
    ///
    /// # Errors
    /// As it fails.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Set(command) => command.run(client, context).await,
            Self::List(command) => command.run(client, context).await,
            Self::Delete(command) => command.run(client, context).await,
            Self::Check(command) => command.run(client, context).await,
            Self::Run(command) => command.run(client, context).await,
            Self::Launch(command) => command.run(),
        }
    }
}

/// Lists an agent's keys.
///
/// # Errors
/// When the server refuses or fails.
async fn fetch(client: &Client, agent: &NamedAgent) -> Result<ListSecretsResponse, Failure> {
    let call = || {
        let (mut secrets, agent_id) = (client.secrets(), agent.id.clone());
        async move { secrets.list_secrets(ListSecretsRequest { agent_id }).await }
    };
    client.repeatable(call).await
}

#[cfg(test)]
fn sample() -> NamedAgent {
    NamedAgent { id: "agt_1".to_owned(), shown: "my-agent".to_owned() }
}
