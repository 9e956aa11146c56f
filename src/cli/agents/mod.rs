//! `superserve agents …`.

mod delete;
mod deploy;
mod get;
mod list;
mod requirements;
mod runner_token;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::proto::v1::{Agent, GetAgentRequest, RequiredSecret};

use super::{
    client::{Client, NamedAgent},
    context::Context,
    failure::{Exit, Failure},
    render,
    settings::ClientArgs,
};

/// The commands about agents.
#[derive(Subcommand, Debug)]
pub(super) enum Agents {
    /// Make an agent, or update the one of this name: it keeps its id and its secrets
    Deploy(deploy::Deploy),
    /// List agents by name
    List(list::List),
    /// Show an agent
    Get(get::Get),
    /// Delete an agent with its secrets
    Delete(delete::Delete),
}

impl Agents {
    /// Runs one of them.
    ///
    /// # Errors
    /// As it fails.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Deploy(command) => command.run(client, context).await,
            Self::List(command) => command.run(client, context).await,
            Self::Get(command) => command.run(client, context).await,
            Self::Delete(command) => command.run(client, context).await,
        }
    }
}

/// Reads an agent.
///
/// # Errors
/// When the server refuses or fails.
pub(super) async fn fetch(client: &Client, agent: &NamedAgent) -> Result<Agent, Failure> {
    let answer = client.repeatable(|| {
        let (mut agents, agent_id) = (client.agents(), agent.id.clone());
        async move { agents.get_agent(GetAgentRequest { agent_id }).await }
    });
    Ok(answer.await?.agent.unwrap_or_default())
}

/// An agent for programs, in the shape of the REST API.
fn document(agent: &Agent) -> Value {
    let Agent {
        id,
        name,
        command,
        environment_keys,
        required_secrets,
        missing_secrets,
        deps_status,
        deps_error,
        created_at,
        updated_at,
    } = agent;
    json!({
        "id": id,
        "name": name,
        "command": command,
        "environment_keys": environment_keys,
        "required_secrets": required_secrets.iter().map(required).collect::<Vec<_>>(),
        "missing_secrets": missing_secrets,
        "deps_status": deps_status,
        "deps_error": deps_error,
        "created_at": render::time(created_at.as_ref()),
        "updated_at": render::time(updated_at.as_ref()),
    })
}

/// A name alone where nothing more is declared.
fn required(secret: &RequiredSecret) -> Value {
    let RequiredSecret { name, description, pattern, min_length, optional } = secret;
    if description.is_empty() && pattern.is_empty() && *min_length == 0 && !optional {
        return json!(name);
    }
    json!({
        "name": name,
        "description": description,
        "pattern": pattern,
        "min_length": min_length,
        "optional": optional,
    })
}

/// An agent for people, in lines.
fn describe(agent: &Agent) -> String {
    let list = |keys: &[String]| if keys.is_empty() { "-".to_owned() } else { keys.join(", ") };
    let required: Vec<_> = agent.required_secrets.iter().map(requirements::shown).collect();
    format!(
        "Name:      {}\nId:        {}\nCommand:   {}\nRequired:  {}\nSet:       {}\nMissing:   {}\n\
         Created:   {}\nUpdated:   {}",
        agent.name,
        agent.id,
        agent.command.as_deref().unwrap_or("-"),
        list(&required),
        list(&agent.environment_keys),
        list(&agent.missing_secrets),
        render::time_text(agent.created_at.as_ref()),
        render::time_text(agent.updated_at.as_ref()),
    )
}

#[cfg(test)]
fn sample() -> Agent {
    let secret =
        |name: &str, optional| RequiredSecret { name: name.to_owned(), optional, ..Default::default() };
    Agent {
        id: "agt_1".to_owned(),
        name: "my-agent".to_owned(),
        environment_keys: vec!["A".to_owned()],
        required_secrets: vec![secret("A", false), secret("B", false), secret("C", true)],
        missing_secrets: vec!["B".to_owned()],
        deps_status: "none".to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_shape_of_the_rest_api() {
        let document = document(&sample());
        let mut names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = [
            "command",
            "created_at",
            "deps_error",
            "deps_status",
            "environment_keys",
            "id",
            "missing_secrets",
            "name",
            "required_secrets",
            "updated_at",
        ];
        assert_eq!(names, expected);
        assert_eq!(document["required_secrets"][0], "A");
        assert_eq!(document["required_secrets"][2]["optional"], true);
        assert_eq!(document["command"], Value::Null);
    }
}
