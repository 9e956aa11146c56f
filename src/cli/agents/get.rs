//! `superserve agents get AGENT`.

use clap::Args;

use crate::{
    cli::{
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
    /// The agent: a name or an `agt_` id
    agent: String,
}

impl Get {
    /// Shows the agent.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let client = context.connect(client).await?;
        let named = client.find_agent(&self.agent).await?;
        report(&mut context.output, &super::fetch(&client, &named).await?)?;
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
