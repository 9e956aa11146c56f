//! `superserve agents list`.

use clap::Args;
use serde_json::Value;
use tonic::Status;

use crate::{
    cli::{
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        list::{self, Listing, Page},
        settings::ClientArgs,
    },
    proto::v1::Agent,
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
        list::print_all(&self, client, context).await
    }
}

impl Listing<4> for List {
    type Row = Agent;

    const NAME: &'static str = "agents";
    const HEADING: [&'static str; 4] = ["ID", "NAME", "SECRETS", "MISSING"];

    async fn page(&self, client: &Client, page_token: String) -> Result<Page<Agent>, Status> {
        client.agents_page("", page_token).await
    }

    fn none(&self) -> String {
        "No agents: make one with `superserve agents deploy NAME`".to_owned()
    }

    fn cells(&self, agent: &Agent) -> [String; 4] {
        let Agent { id, name, environment_keys, missing_secrets, .. } = agent;
        let missing = if missing_secrets.is_empty() { "-".to_owned() } else { missing_secrets.join(", ") };
        [id.clone(), name.clone(), environment_keys.len().to_string(), missing]
    }

    fn document(&self, agent: &Agent) -> Value {
        super::document(agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn agents_are_a_table() {
        let captured = Captured::default();
        list::report(&List {}, &[super::super::sample()], false, &mut captured.output()).unwrap();
        assert_eq!(captured.stdout(), "ID     NAME      SECRETS  MISSING\nagt_1  my-agent  1        B\n");
    }

    #[test]
    fn none_is_an_empty_list_for_programs_and_advice_for_people() {
        let captured = Captured::default();
        list::report(&List {}, &[], false, &mut captured.json_output()).unwrap();
        assert_eq!(captured.stdout(), "{\n  \"agents\": []\n}\n");
        let captured = Captured::default();
        list::report(&List {}, &[], false, &mut captured.output()).unwrap();
        assert_eq!(captured.stdout(), "No agents: make one with `superserve agents deploy NAME`\n");
    }
}
