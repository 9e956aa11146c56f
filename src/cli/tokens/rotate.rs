//! `superserve tokens rotate TOKEN_ID`.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        context::Context,
        duration,
        failure::{Exit, Failure},
        output::Output,
        settings::ClientArgs,
    },
    domain::TokenId,
    proto::v1::{RotateTokenRequest, RotateTokenResponse, Token},
};

/// The arguments of `tokens rotate`.
#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// The id of the token to replace, `tok_…`, as `tokens list` shows it; not its text
    #[arg(value_parser = super::parse_id)]
    token_id: TokenId,
    /// For how long the old token is still good: 0s for not at all, or s, m, h, d or w, such as 24h; at most 30d
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_overlap)]
    overlap: Duration,
}

fn parse_overlap(text: &str) -> Result<Duration, &'static str> {
    if text == "0s" { Ok(Duration::ZERO) } else { duration::parse(text) }
}

impl Rotate {
    /// Makes a token in the place of another. Not repeated when the connection breaks: nobody would know the first one's
    /// text.
    ///
    /// # Errors
    /// When there is none of this id or it has ended, the server refuses or fails, or the text cannot be written.
    pub(crate) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self { token_id, overlap } = self;
        let client = context.connect(client).await?;
        let seconds = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX);
        let overlap = (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 });
        let request = RotateTokenRequest { token_id: token_id.to_string(), overlap };
        let rotated = client.once(client.tokens().rotate_token(request)).await?;
        report(&mut context.output, rotated)?;
        Ok(Exit::Fine)
    }
}

fn report(output: &mut Output, rotated: RotateTokenResponse) -> Result<(), Failure> {
    let RotateTokenResponse { token, text, previous } = rotated;
    let text = Zeroizing::new(text);
    let (token, previous) = (token.unwrap_or_default(), previous.unwrap_or_default());
    let document = json!({
        "token": super::document(&token),
        "text": text.as_str(),
        "previous": super::document(&previous),
    });
    let hint = format!("The token's text is lost: `superserve tokens rotate {}` gives another.", token.id);
    super::print_text(output, &text, &document, hint)?;
    output.talk(super::describe(&token));
    output.talk(end_of(&previous));
    output.talk(super::KEEP_IT);
    Ok(())
}

fn end_of(previous: &Token) -> String {
    match (&previous.revoked_at, &previous.expires_at) {
        (None, Some(end)) => format!("Replaces: {}, which ends at {end}", previous.id),
        (Some(_), _) | (None, None) => format!("Replaces: {}, which has ended", previous.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Captured, superserve};

    fn rotated(revoked: bool) -> RotateTokenResponse {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let token = Token { id: "tok_2".to_owned(), name: "ci".to_owned(), ..Default::default() };
        let previous = Token { id: "tok_1".to_owned(), expires_at: at(9), ..token.clone() };
        let previous = Token { revoked_at: at(7).filter(|_| revoked), ..previous };
        RotateTokenResponse { token: Some(token), text: "ss_text".to_owned(), previous: Some(previous) }
    }

    #[test]
    fn the_text_alone_is_data_and_the_end_of_the_other_is_said() {
        for (revoked, end) in
            [(true, "tok_1, which has ended"), (false, "tok_1, which ends at 1970-01-01T00:00:09Z")]
        {
            let captured = Captured::default();
            report(&mut captured.output(), rotated(revoked)).unwrap();
            assert_eq!(captured.stdout(), "ss_text\n");
            let talk = captured.stderr();
            assert!(talk.contains("tok_2") && talk.contains(end) && !talk.contains("ss_text"), "{talk}");
        }
    }

    #[test]
    fn json_names_both() {
        let captured = Captured::default();
        report(&mut captured.json_output(), rotated(true)).unwrap();
        let document: serde_json::Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(document["text"], "ss_text");
        assert_eq!(
            (&document["token"]["id"], &document["previous"]["id"]),
            (&json!("tok_2"), &json!("tok_1"))
        );
    }

    #[tokio::test]
    async fn a_token_s_text_is_not_taken_for_an_id_and_not_shown() {
        for args in [&["ss_sentinel"][..], &["tok_1", "--overlap", "sentinel"]] {
            let outcome = superserve(&[&["tokens", "rotate"], args].concat(), [], b"").await;
            assert_eq!(outcome.code, 1, "{args:?}");
            assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
        }
        assert_eq!(parse_overlap("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_overlap("24h"), Ok(Duration::from_hours(24)));
    }
}
