//! `superserve health`.

use clap::Args;
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    client,
    context::Context,
    failure::{Exit, Failure},
    input::interruptible,
    output::Output,
    refusal,
    settings::{ClientArgs, Server},
};

/// The arguments of `health`.
#[derive(Args, Debug)]
pub(super) struct Health {
    /// Ask for one gRPC service instead of the whole server
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

impl Health {
    /// Asks once. No token is needed.
    ///
    /// # Errors
    /// When the server does not serve or cannot be reached.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let server = Server::resolve(client, &context.environment)?;
        let mut health = HealthClient::new(client::connect(&server).await?);
        let answer = interruptible(health.check(HealthCheckRequest { service: self.service })).await?;
        let answer = answer.map_err(|status| refusal::from_status(&status, server.shown()))?;
        report(&mut context.output, answer.get_ref().status())
    }
}

fn report(output: &mut Output, status: ServingStatus) -> Result<Exit, Failure> {
    if output.json {
        output.document(&json!({ "status": status.as_str_name() }))?;
    } else {
        output.data(status.as_str_name())?;
    }
    Ok(if status == ServingStatus::Serving { Exit::Fine } else { Exit::Server })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn only_serving_is_healthy() {
        for (status, exit) in [
            (ServingStatus::Serving, Exit::Fine),
            (ServingStatus::NotServing, Exit::Server),
            (ServingStatus::Unknown, Exit::Server),
        ] {
            let captured = Captured::default();
            assert_eq!(report(&mut captured.json_output(), status).unwrap(), exit);
            assert_eq!(captured.stdout(), format!("{{\n  \"status\": \"{}\"\n}}\n", status.as_str_name()));
        }
    }
}
