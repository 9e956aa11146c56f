//! `superserve tenants token`.

use clap::Args;

use super::{Failure, failed, print_token};
use crate::{
    app,
    cli::{context::Context, failure::Exit, tokens::parse_scope},
    config::StorageSettings,
    domain::Scope,
};

/// The arguments of `tenants token`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Token {
    #[command(flatten)]
    settings: StorageSettings,
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may do in each tenant; may be given again, or with commas
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true, value_parser = parse_scope)]
    scopes: Vec<Scope>,
}

impl Token {
    /// Prints a token that spans all tenants.
    ///
    /// # Errors
    /// When the name cannot be one, or the database fails.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let made = app::tenants::create_token(&storage, &self.name, &self.scopes).await;
        let made = made.map_err(|error| failed(&error))?;
        context.output.talk(format!("Made the token {} ('{}') for all tenants.", made.record.id, self.name));
        print_token(&mut context.output, &made, None)?;
        Ok(Exit::Fine)
    }
}
