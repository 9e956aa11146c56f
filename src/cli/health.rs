//! `superserve health`.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    context::Context,
    duration,
    failure::{Exit, Failure},
    input::interruptible,
    output::Output,
    settings::{ClientArgs, Server},
};

/// The arguments of `health`.
#[derive(Args, Debug)]
pub(super) struct Health {
    /// Ask for one gRPC service instead of the whole server
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// Ask again until it serves, for so long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
}

/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(250);

impl Health {
    /// Asks once, or until the server serves. No token is needed.
    ///
    /// # Errors
    /// When the server does not serve or cannot be reached.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let server = Server::resolve(client, &context.environment)?;
        let until = self.wait.map(|wait| Instant::now() + wait);
        loop {
            let status = self.ask(&server).await;
            let is_well = matches!(status, Ok(ServingStatus::Serving));
            if is_well || until.is_none_or(|until| until < Instant::now()) {
                return report(&mut context.output, status?);
            }
            interruptible(tokio::time::sleep(PAUSE)).await?;
        }
    }

    async fn ask(&self, server: &Server) -> Result<ServingStatus, Failure> {
        let mut health = HealthClient::new(interruptible(server.0.connect()).await??);
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer = interruptible(health.check(request)).await?;
        let answer = answer.map_err(|status| server.0.error(status))?;
        Ok(answer.get_ref().status())
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
