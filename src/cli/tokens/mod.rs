//! `superserve tokens …`.

mod create;
mod generate;
mod list;
mod revoke;
mod rotate;

use clap::Subcommand;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(super) use create::parse_scope;

use crate::{domain::TokenId, proto::v1::Token};

use super::{
    context::Context,
    failure::{Exit, Failure},
    output::Output,
    render,
    settings::ClientArgs,
};

/// What is said beside a text that was printed.
const KEEP_IT: &str =
    "The text on stdout is the token. Keep it now: it is not stored and cannot be shown again.";

/// The commands about tokens.
#[derive(Subcommand, Debug)]
pub(super) enum Tokens {
    /// Make a token and print its text, once
    Create(create::Create),
    /// List tokens, newest first
    List(list::List),
    /// Make a token in the place of another, and print its text, once
    Rotate(rotate::Rotate),
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
            Self::Rotate(command) => command.run(client, context).await,
            Self::Revoke(command) => command.run(client, context).await,
            Self::Generate(command) => command.run(context),
        }
    }
}

/// Reads the id of a token.
///
/// # Errors
/// What it begins with.
fn parse_id(text: &str) -> Result<TokenId, &'static str> {
    TokenId::parse(text).ok_or("an id begins with tok_, see `superserve tokens list`")
}

/// Prints the only copy of a token's text, for programs in the document that holds it.
///
/// # Errors
/// With `hint` when it cannot be written.
fn print_text(output: &mut Output, text: &str, document: &Value, hint: String) -> Result<(), Failure> {
    let document = Zeroizing::new(format!("{document:#}"));
    let written = output.only_copy(if output.json { document.as_str() } else { text });
    written.map_err(|failure| failure.hint(hint))
}

/// A token for programs: all but its text, and when it was used, which only a list tells.
pub(super) fn document(token: &Token) -> Value {
    let Token { id, name, scopes, agent_ids, email, created_at, expires_at, revoked_at, last_used_at: _ } =
        token;
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
