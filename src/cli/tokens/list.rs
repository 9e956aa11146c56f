//! `superserve tokens list`.

use clap::Args;
use serde_json::Value;
use tonic::Status;

use crate::{
    cli::{
        client::Client,
        context::Context,
        failure::{Exit, Failure},
        list::{self, Listing, Page},
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
        list::print_all(&self, client, context).await
    }
}

impl Listing<6> for List {
    type Row = Token;

    const NAME: &'static str = "tokens";
    const HEADING: [&'static str; 6] = ["ID", "NAME", "CREATED", "LAST USED", "ENDS", "SCOPES"];

    async fn page(&self, client: &Client, page_token: String) -> Result<Page<Token>, Status> {
        let request = ListTokensRequest { page_token, ..ListTokensRequest::default() };
        let page = client.tokens().list_tokens(request).await?.into_inner();
        Ok((page.tokens, page.next_page_token))
    }

    fn none(&self) -> String {
        "No tokens".to_owned()
    }

    fn cells(&self, token: &Token) -> [String; 6] {
        let ends = match (&token.revoked_at, &token.expires_at) {
            (Some(revoked), _) => format!("revoked {revoked}"),
            (None, Some(expires)) => expires.to_string(),
            (None, None) => "never".to_owned(),
        };
        let created = render::time_text(token.created_at.as_ref());
        let last_used = render::time_text(token.last_used_at.as_ref());
        [token.id.clone(), token.name.clone(), created, last_used, ends, token.scopes.join(",")]
    }

    fn document(&self, token: &Token) -> Value {
        let mut document = super::document(token);
        if let Some(members) = document.as_object_mut() {
            members.insert("last_used_at".to_owned(), render::time(token.last_used_at.as_ref()));
        }
        document
    }
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
        list::report(&List {}, &[token], false, &mut captured.output()).unwrap();
        let lines = "ID     NAME  CREATED  LAST USED  ENDS                          SCOPES\n\
                     tok_1  ci    -        -          revoked 1970-01-01T00:00:00Z\n";
        assert_eq!(captured.stdout(), lines);
    }

    #[test]
    fn the_last_use_is_shown() {
        let last_used_at = Some(prost_types::Timestamp { seconds: 60, nanos: 0 });
        let token = Token { id: "tok_1".to_owned(), last_used_at, ..Default::default() };
        assert_eq!(List {}.cells(&token)[3], "1970-01-01T00:01:00Z");
        assert_eq!(List {}.document(&token)["last_used_at"], "1970-01-01T00:01:00Z");
        assert_eq!(List {}.document(&Token::default())["last_used_at"], Value::Null);
    }
}
