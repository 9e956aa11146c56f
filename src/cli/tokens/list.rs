//! `superserve tokens list`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        output::Output,
        render,
        settings::ClientArgs,
    },
    proto::v1::{ListTokensRequest, Token},
};

/// The arguments of `tokens list`.
#[derive(Args, Debug)]
pub(crate) struct List {}

impl List {
    /// Lists all tokens, revoked and expired ones too.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let client = context.connect(client).await?;
        report(&mut context.output, &fetch(&client).await?)?;
        Ok(Exit::Fine)
    }
}

async fn fetch(client: &Client) -> Result<Vec<Token>, Failure> {
    let page = |page_token| {
        let (mut tokens, request) =
            (client.tokens(), ListTokensRequest { page_token, ..ListTokensRequest::default() });
        async move {
            let page = tokens.list_tokens(request).await?.into_inner();
            Ok((page.tokens, page.next_page_token))
        }
    };
    client.pages(usize::MAX, page).await
}

fn report(output: &mut Output, tokens: &[Token]) -> Result<(), Failure> {
    if output.json {
        let tokens: Vec<_> = tokens.iter().map(super::document).collect();
        return output.document(&json!({ "tokens": tokens }));
    }
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            let ends = match (&token.revoked_at, &token.expires_at) {
                (Some(revoked), _) => format!("revoked {revoked}"),
                (None, Some(expires)) => expires.to_string(),
                (None, None) => "never".to_owned(),
            };
            let created = render::time_text(token.created_at.as_ref());
            [token.id.clone(), token.name.clone(), created, ends, token.scopes.join(",")]
        })
        .collect();
    output.data(render::table(["ID", "NAME", "CREATED", "ENDS", "SCOPES"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn a_revoked_token_is_seen_to_be_one() {
        let revoked_at = Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
        let token = Token { id: "tok_1".to_owned(), name: "ci".to_owned(), revoked_at, ..Default::default() };
        let captured = Captured::default();
        report(&mut captured.output(), &[token]).unwrap();
        let lines = "ID     NAME  CREATED  ENDS                          SCOPES\n\
                     tok_1  ci    -        revoked 1970-01-01T00:00:00Z\n";
        assert_eq!(captured.stdout(), lines);
    }
}
