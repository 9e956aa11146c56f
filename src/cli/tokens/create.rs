//! `superserve tokens create`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        agent::AgentArgument,
        context::Context,
        duration,
        environment::Environment,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    domain::Scope,
    proto::v1::{CreateTokenRequest, CreateTokenResponse},
};

/// The arguments of `tokens create`.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may do; may be given again, or with commas. Without it: agents:read, agents:write,
    /// secrets:list and secrets:write
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// Limit it to this agent; may be given again
    #[arg(long = "agent", value_name = "AGENT", value_parser = AgentArgument::parse)]
    agents: Vec<AgentArgument>,
    /// When it ends: a number and s, m, h, d or w, such as 30d or 12h. Without it: never
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires_in: Option<Duration>,
    /// The address of its owner
    #[arg(long)]
    email: Option<String>,
}

/// Reads a scope.
///
/// # Errors
/// The scopes that there are.
pub(crate) fn parse_scope(text: &str) -> Result<Scope, String> {
    let all = || Scope::ALL.map(Scope::as_str).join(", ");
    text.parse().map_err(|_unknown| format!("one of {}", all()))
}

impl Create {
    /// Makes the token. Not repeated when the connection breaks: nobody would know the first one's text.
    ///
    /// # Errors
    /// When the server refuses or fails, or the text cannot be written.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self { name, scopes, agents, expires_in, email } = self;
        let agents: Vec<_> = agents.iter().map(|agent| agent.resolve(context)).collect::<Result<_, _>>()?;
        let client = context.connect(client).await?;
        let mut agent_ids = Vec::with_capacity(agents.len());
        for agent in agents {
            agent_ids.push(agent.find(&client).await?.id);
        }
        let request = CreateTokenRequest {
            name,
            scopes: scopes.into_iter().map(|scope| scope.as_str().to_owned()).collect(),
            agent_ids,
            expires_at: expires_in.map(|after| (Environment::now() + after).into()),
            email: email.unwrap_or_default(),
        };
        let made = client.once(client.tokens().create_token(request)).await?;
        report(&mut context.output, made)?;
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, made: CreateTokenResponse) -> Result<(), Failure> {
    let CreateTokenResponse { token, text } = made;
    let text = Zeroizing::new(text);
    let token = token.unwrap_or_default();
    let document = json!({ "token": super::document(&token), "text": text.as_str() });
    let hint = format!("The token's text is lost: `superserve tokens revoke {}`.", token.id);
    super::print_text(output, &text, &document, hint)?;
    output.talk(super::describe(&token));
    output.talk(super::KEEP_IT);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::testing::Captured, proto::v1::Token};

    fn made() -> CreateTokenResponse {
        let token = Token { id: "tok_1".to_owned(), name: "ci".to_owned(), ..Default::default() };
        CreateTokenResponse { token: Some(token), text: "ss_text".to_owned() }
    }

    #[test]
    fn the_text_alone_is_data() {
        let captured = Captured::default();
        report(&mut captured.output(), made()).unwrap();
        assert_eq!(captured.stdout(), "ss_text\n");
        assert!(captured.stderr().contains("tok_1") && !captured.stderr().contains("ss_text"));
    }

    #[test]
    fn json_holds_the_text_once() {
        let captured = Captured::default();
        report(&mut captured.json_output(), made()).unwrap();
        let document: serde_json::Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!((&document["text"], &document["token"]["id"]), (&json!("ss_text"), &json!("tok_1")));
    }
}
