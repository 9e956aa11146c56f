//! `superserve tokens revoke TOKEN_ID`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    domain::TokenId,
    proto::v1::{RevokeTokenRequest, Token},
};

/// The arguments of `tokens revoke`.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The token's id, `tok_…`, as `tokens list` shows it; not its text
    #[arg(value_parser = super::parse_id)]
    token_id: TokenId,
}

impl Revoke {
    /// Revokes the token. Revoking it again changes nothing, so the call is repeatable.
    ///
    /// # Errors
    /// When there is none of this id, or the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let client = context.connect(client).await?;
        let answer = client.repeatable(|| {
            let request = RevokeTokenRequest { token_id: self.token_id.as_str().to_owned() };
            let mut tokens = client.tokens();
            async move { tokens.revoke_token(request).await }
        });
        report(&mut context.output, &answer.await?.token.unwrap_or_default())?;
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, token: &Token) -> Result<(), Failure> {
    if output.json {
        return output.document(&json!({ "token": super::document(token) }));
    }
    output.data(format!("Revoked token '{}' ({})", token.name, token.id))
}

#[cfg(test)]
mod tests {
    use crate::cli::testing::superserve;

    #[tokio::test]
    async fn a_token_s_text_is_not_taken_for_an_id_and_not_shown() {
        let outcome = superserve(&["tokens", "revoke", "ss_sentinel"], [], b"").await;
        assert_eq!(outcome.code, 1);
        assert!(
            outcome.stderr.contains("tok_") && !outcome.stderr.contains("sentinel"),
            "{}",
            outcome.stderr
        );
    }
}
