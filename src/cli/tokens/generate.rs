//! `superserve tokens generate`.

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        random,
    },
    domain::TokenText,
};

/// The arguments of `tokens generate`.
#[derive(Args, Debug)]
pub(crate) struct Generate {}

impl Generate {
    /// Prints a fresh token that no server knows yet.
    ///
    /// # Errors
    /// When there is no randomness, or it cannot be written.
    pub(crate) fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let bytes = Zeroizing::new(random::bytes()?);
        let token = TokenText::from_random(&bytes);
        if context.output.json {
            let document = Zeroizing::new(format!("{:#}", json!({ "text": token.expose() })));
            context.output.only_copy(&document)?;
        } else {
            context.output.only_copy(token.expose())?;
        }
        Ok(Exit::Fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::superserve;

    #[tokio::test]
    async fn prints_a_well_formed_token_each_time_another() {
        let first = superserve(&["tokens", "generate"], [], b"").await;
        let second = superserve(&["tokens", "generate"], [], b"").await;
        assert_eq!((first.code, first.stderr.as_str()), (0, ""));
        assert!(TokenText::parse(first.stdout.trim_end()).is_ok());
        assert_ne!(first.stdout, second.stdout);
        let third = superserve(&["tokens", "generate", "--json"], [], b"").await;
        let document: serde_json::Value = serde_json::from_str(&third.stdout).unwrap();
        assert!(TokenText::parse(document["text"].as_str().unwrap()).is_ok());
    }
}
