//! `superserve tenants`.

mod create;
mod delete;
mod list;
mod token;

use clap::Subcommand;
use prost_types::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Failure, failed};
use crate::{
    app::tenants::TokenMade,
    cli::{context::Context, failure::Exit, output::Output, render},
    config::StorageSettings,
    domain::Tenant,
};

/// Manage tenants, which are kept apart from each other
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TenantsCommand {
    /// Make a tenant, and print its first token
    Create(create::Create),
    /// List the tenants
    List(StorageSettings),
    /// Delete a tenant with its agents, their secrets and its tokens
    Delete(delete::Delete),
    /// Print a new token that may call for every tenant
    ///
    /// A call says for which one: by the header, or the metadata, `x-superserve-tenant: ten_…`. Without it the call is for
    /// the default tenant.
    Token(token::Token),
}

/// Runs a command.
pub(in crate::cli) async fn run(command: &TenantsCommand, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        TenantsCommand::Create(command) => command.run(context).await,
        TenantsCommand::List(settings) => list::run(settings, context).await,
        TenantsCommand::Delete(command) => command.run(context).await,
        TenantsCommand::Token(command) => command.run(context).await,
    }
}

fn document(tenant: &Tenant) -> Value {
    json!({
        "id": tenant.id.as_str(),
        "name": tenant.name.as_str(),
        "created_at": render::time(Some(&made_at(tenant))),
        "deleting": tenant.is_going,
    })
}

fn made_at(tenant: &Tenant) -> Timestamp {
    let micros = tenant.created_at.0;
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default();
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// Prints a token's text as the one thing that is data.
fn print_token(output: &mut Output, made: &TokenMade, tenant: Option<&Tenant>) -> Result<(), Failure> {
    let TokenMade { record, text } = made;
    let written = if output.json {
        let mut document = json!({ "token_id": record.id.as_str(), "text": text.expose() });
        if let (Some(tenant), Some(members)) = (tenant, document.as_object_mut()) {
            members.insert("tenant".to_owned(), self::document(tenant));
        }
        output.only_copy(&Zeroizing::new(format!("{document:#}")))
    } else {
        output.only_copy(text.expose())
    };
    written.map_err(|failure| {
        failure.hint(format!("The token's text is lost: `superserve tokens revoke {}`.", record.id))
    })?;
    output.talk("The text on stdout is the token. Keep it now: it is not stored and cannot be shown again.");
    Ok(())
}
