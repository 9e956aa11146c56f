//! `superserve tenants create NAME`.

use clap::Args;

use super::{Failure, failed, print_token};
use crate::{
    app,
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// The arguments of `tenants create`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    settings: StorageSettings,
    /// What it is called; no other tenant may be called so
    name: String,
}

impl Create {
    /// Makes the tenant and prints a token that may do all in it but resolve.
    ///
    /// # Errors
    /// When the name cannot be one or is taken, or the database fails.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let made = app::tenants::create(&self.settings.check()?, &self.name).await;
        let (tenant, token) = made.map_err(|error| failed(&error))?;
        context.output.talk(format!("Made the tenant '{}', {}.", self.name, tenant.id));
        print_token(&mut context.output, &token, Some(&tenant))?;
        Ok(Exit::Fine)
    }
}
