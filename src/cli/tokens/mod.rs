//! `superserve tokens …`.

mod create;
mod generate;
mod list;
mod revoke;

use clap::Subcommand;
use serde_json::{Value, json};

pub(super) use create::parse_scope;

use crate::proto::v1::Token;

use super::{
    context::Context,
    failure::{Exit, Failure},
    render,
    settings::ClientArgs,
};

/// The commands about tokens.
#[derive(Subcommand, Debug)]
pub(super) enum Tokens {
    /// Make a token and print its text, once
    Create(create::Create),
    /// List tokens, newest first
    List(list::List),
    /// Revoke a token at once
    Revoke(revoke::Revoke),
    /// Print the text of a fresh token for `SUPERSERVE_BOOTSTRAP_TOKEN`, without a server
    Generate(generate::Generate),
}

impl Tokens {
    /// Runs one of them.
    ///
    /// # Errors
    /// As it fails.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(client, context).await,
            Self::List(command) => command.run(client, context).await,
            Self::Revoke(command) => command.run(client, context).await,
            Self::Generate(command) => command.run(context),
        }
    }
}

/// A token for programs: all but its text.
pub(super) fn document(token: &Token) -> Value {
    let Token { id, name, scopes, agent_ids, email, created_at, expires_at, revoked_at } = token;
    json!({
        "id": id,
        "name": name,
        "scopes": scopes,
        "agent_ids": agent_ids,
        "email": render::optional(email),
        "created_at": render::time(created_at.as_ref()),
        "expires_at": render::time(expires_at.as_ref()),
        "revoked_at": render::time(revoked_at.as_ref()),
    })
}

/// A token for people, in lines.
pub(super) fn describe(token: &Token) -> String {
    let agents = if token.agent_ids.is_empty() { "all".to_owned() } else { token.agent_ids.join(", ") };
    let expires = token.expires_at.as_ref().map_or_else(|| "never".to_owned(), ToString::to_string);
    let Token { id, name, scopes, .. } = token;
    format!(
        "Token:    {name} ({id})\nScopes:   {}\nAgents:   {agents}\nExpires:  {expires}",
        scopes.join(", ")
    )
}
