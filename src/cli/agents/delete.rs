//! `superserve agents delete AGENT`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        agent::AgentArgument,
        client::NamedAgent,
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    proto::v1::DeleteAgentRequest,
};

/// The arguments of `agents delete`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", value_parser = AgentArgument::parse)]
    agent: AgentArgument,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Delete {
    /// Deletes the agent and its data key. Not repeated: a second call would not find it.
    ///
    /// # Errors
    /// When it is not confirmed, or the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let Context { input, output, .. } = context;
        let question = format!("Delete agent '{}' with all its secrets, for ever?", agent.shown());
        if !self.yes {
            input.confirm(output, &question).await?;
        }
        let client = context.connect(client).await?;
        let agent = agent.find(&client).await?;
        let request = DeleteAgentRequest { agent_id: agent.id.clone() };
        client.once(client.agents().delete_agent(request)).await?;
        report(&mut context.output, &agent)?;
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, agent: &NamedAgent) -> Result<(), Failure> {
    let NamedAgent { id, shown } = agent;
    if output.json {
        return output.document(&json!({ "agent_id": id, "deleted": true }));
    }
    output.data(format!("Deleted agent '{shown}'"))
}

#[cfg(test)]
mod tests {
    use crate::cli::testing::superserve;

    #[tokio::test]
    async fn nothing_is_deleted_unasked() {
        let outcome = superserve(&["agents", "delete", "my-agent"], [], b"y\n").await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
        assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    }
}
