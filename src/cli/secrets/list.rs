//! `superserve secrets list AGENT`.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        agent::{AgentArgument, OF_PROJECT},
        client::NamedAgent,
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        render,
        settings::ClientArgs,
    },
    proto::v1::{Agent, ListSecretsResponse, SecretMetadata},
};

/// The arguments of `secrets list`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// The agent: a name or an `agt_` id; `.` is the one of superserve.yaml
    #[arg(value_name = "AGENT", default_value = OF_PROJECT, value_parser = AgentArgument::parse)]
    agent: AgentArgument,
}

impl List {
    /// Lists the names; with `--json` what else is known of each, which is never its value.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let agent = self.agent.resolve(context)?;
        let client = context.connect(client).await?;
        if context.output.json || agent.is_id() {
            let agent = agent.find(&client).await?;
            report(&mut context.output, &agent, &super::fetch(&client, &agent).await?)?;
        } else {
            // What finds the agent by its name tells its keys too
            let Agent { id, environment_keys: keys, .. } = agent.fetch(&client).await?;
            let agent = NamedAgent { id, shown: agent.shown().to_owned() };
            report(&mut context.output, &agent, &ListSecretsResponse { keys, ..Default::default() })?;
        }
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, agent: &NamedAgent, answer: &ListSecretsResponse) -> Result<(), Failure> {
    let ListSecretsResponse { keys, secrets, revision } = answer;
    if output.json {
        return output.document(&json!({
            "agent_id": agent.id,
            "keys": keys,
            "secrets": secrets.iter().map(document).collect::<Vec<_>>(),
            "revision": revision,
        }));
    }
    if keys.is_empty() {
        return output.data(format!("No secrets configured for agent '{}'", agent.shown));
    }
    output.data(format!("Secrets for agent '{}':\n  - {}", agent.shown, keys.join("\n  - ")))
}

fn document(secret: &SecretMetadata) -> Value {
    let SecretMetadata { key, version, fingerprint, created_at, updated_at, updated_by, previous_until } =
        secret;
    json!({
        "key": key,
        "version": version,
        "fingerprint": fingerprint,
        "created_at": render::time(created_at.as_ref()),
        "updated_at": render::time(updated_at.as_ref()),
        "updated_by": updated_by,
        "previous_until": render::time(previous_until.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{secrets::sample, testing::Captured};

    fn answer(keys: &[&str]) -> ListSecretsResponse {
        let secrets = keys.iter().map(|key| SecretMetadata { key: (*key).to_owned(), ..Default::default() });
        ListSecretsResponse {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            secrets: secrets.collect(),
            revision: 7,
        }
    }

    #[test]
    fn names_are_listed_below_each_other() {
        let captured = Captured::default();
        report(&mut captured.output(), &sample(), &answer(&["A", "B"])).unwrap();
        assert_eq!(captured.stdout(), "Secrets for agent 'my-agent':\n  - A\n  - B\n");
    }

    #[test]
    fn none_is_said() {
        let captured = Captured::default();
        report(&mut captured.output(), &sample(), &answer(&[])).unwrap();
        assert_eq!(captured.stdout(), "No secrets configured for agent 'my-agent'\n");
    }

    #[test]
    fn programs_get_what_is_known_of_each() {
        let captured = Captured::default();
        report(&mut captured.json_output(), &sample(), &answer(&["A"])).unwrap();
        let document: Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!((&document["revision"], &document["secrets"][0]["key"]), (&json!(7), &json!("A")));
        assert_eq!(captured.stderr(), "");
    }
}
