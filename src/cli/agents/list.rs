//! `superserve agents list`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        render,
        settings::ClientArgs,
    },
    proto::v1::{Agent, ListAgentsRequest},
};

/// The arguments of `agents list`.
#[derive(Args, Debug)]
pub(crate) struct List {}

impl List {
    /// Lists all agents that the token reaches.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let client = context.connect(client).await?;
        report(&mut context.output, &fetch(&client).await?)?;
        Ok(Exit::Fine)
    }
}

async fn fetch(client: &Client) -> Result<Vec<Agent>, Failure> {
    let page = |page_token| {
        let (mut agents, request) =
            (client.agents(), ListAgentsRequest { page_token, ..ListAgentsRequest::default() });
        async move {
            let page = agents.list_agents(request).await?.into_inner();
            Ok((page.agents, page.next_page_token))
        }
    };
    client.pages(usize::MAX, page).await
}

fn report(output: &mut Output, agents: &[Agent]) -> Result<(), Failure> {
    if output.json {
        let agents: Vec<_> = agents.iter().map(super::document).collect();
        return output.document(&json!({ "agents": agents }));
    }
    if agents.is_empty() {
        output.talk("No agents. Make one with `superserve agents deploy NAME`.");
        return Ok(());
    }
    let rows: Vec<_> = agents
        .iter()
        .map(|agent| {
            let missing = if agent.missing_secrets.is_empty() {
                "-".to_owned()
            } else {
                agent.missing_secrets.join(", ")
            };
            [agent.id.clone(), agent.name.clone(), agent.environment_keys.len().to_string(), missing]
        })
        .collect();
    output.data(render::table(["ID", "NAME", "SECRETS", "MISSING"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn agents_are_a_table() {
        let captured = Captured::default();
        report(&mut captured.output(), &[super::super::sample()]).unwrap();
        assert_eq!(captured.stdout(), "ID     NAME      SECRETS  MISSING\nagt_1  my-agent  1        B\n");
    }

    #[test]
    fn none_is_an_empty_list_for_programs_and_advice_for_people() {
        let captured = Captured::default();
        report(&mut captured.json_output(), &[]).unwrap();
        assert_eq!(captured.stdout(), "{\n  \"agents\": []\n}\n");
        let captured = Captured::default();
        report(&mut captured.output(), &[]).unwrap();
        assert_eq!(captured.stdout(), "");
    }
}
