//! `superserve agents get AGENT`.

use clap::Args;

use crate::{
    cli::{
        agent::{AgentArgument, OF_PROJECT},
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    proto::v1::Agent,
};

/// The arguments of `agents get`.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
}

impl Get {
    /// Shows the agent.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let client = context.connect(client).await?;
        report(&mut context.output, &agent.fetch(&client).await?)?;
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, agent: &Agent) -> Result<(), Failure> {
    if output.json { output.document(&super::document(agent)) } else { output.data(super::describe(agent)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn shows_what_is_required_set_and_missing() {
        let captured = Captured::default();
        report(&mut captured.output(), &super::super::sample()).unwrap();
        let lines = "Name:      my-agent\nId:        agt_1\nCommand:   -\nRequired:  A, B, C (optional)\n\
                     Set:       A\nMissing:   B\nCreated:   -\nUpdated:   -\n";
        assert_eq!(captured.stdout(), lines);
    }
}
