//! `superserve login`, `logout` and `whoami`.

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::proto::v1::{WhoAmIRequest, WhoAmIResponse};

use super::{
    auth_file::AuthFile,
    bounded,
    client::Client,
    context::Context,
    environment::{Environment, TOKEN_VARIABLES},
    failure::{Exit, Failure},
    output::Output,
    settings::{ClientArgs, FoundToken, Server},
    token_source::TokenSource,
    tokens,
};

/// The arguments of `login`. The token is asked for, or read from stdin when that is no terminal:
/// `superserve login < data/admin-token`.
#[derive(Args, Debug)]
pub(super) struct Login {}

/// The arguments of `logout`.
#[derive(Args, Debug)]
pub(super) struct Logout {}

/// The arguments of `whoami`.
#[derive(Args, Debug)]
pub(super) struct WhoAmI {}

// === impl Login ===

impl Login {
    /// Asks the server who the token is, and keeps it if the server knows it.
    ///
    /// # Errors
    /// When there is no token, the server refuses it or cannot be reached, or it cannot be kept.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let file = auth_file(&context.environment)?;
        let server = Server::resolve(client, &context.environment)?;
        server.warn_of_plaintext(&mut context.output);
        let token = FoundToken { text: read_token(context).await?, source: TokenSource::Given };
        let me = who_am_i(&Client::connect(&server, &token).await?).await?;
        file.write(&token.text)?;
        let name = me.token.as_ref().map(|token| token.name.as_str()).unwrap_or_default();
        context.output.talk(format!(
            "Logged in at {} with the token '{name}', kept in {}.",
            server.shown(),
            file.path().display()
        ));
        warn_of_environment(&context.environment, &mut context.output)?;
        if context.output.json {
            report(&mut context.output, &me)?;
        }
        Ok(Exit::Fine)
    }
}

async fn read_token(context: &mut Context) -> Result<Zeroizing<String>, Failure> {
    let token = if context.input.is_terminal {
        context.input.ask_hidden("Token: ".to_owned()).await?
    } else {
        let bytes = context.input.read_all().await?;
        let text = std::str::from_utf8(bounded::without_newline(&bytes).0)
            .map_err(|_where| Failure::local("What stdin holds is no token."))?;
        Zeroizing::new(text.to_owned())
    };
    let token = Zeroizing::new(token.trim().to_owned());
    if token.is_empty() {
        return Err(Failure::local("No token was given.")
            .hint("Type it at the prompt, or give it on stdin: `superserve login < data/admin-token`."));
    }
    Ok(token)
}

// === impl Logout ===

impl Logout {
    /// Removes the kept token. It stays valid until it is revoked.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let removed = auth_file(&context.environment)?.remove()?;
        if removed {
            context.output.talk("Logged out. The token is still valid: `superserve tokens revoke` ends it.");
        } else {
            context.output.talk("Not logged in.");
        }
        warn_of_environment(&context.environment, &mut context.output)?;
        if context.output.json {
            context.output.document(&json!({ "removed": removed }))?;
        }
        Ok(Exit::Fine)
    }
}

fn auth_file(environment: &Environment) -> Result<AuthFile, Failure> {
    let home = environment.home().ok_or_else(|| {
        Failure::local("HOME is not set, so there is no place to keep a token.")
            .hint("Set SUPERSERVE_TOKEN or SUPERSERVE_TOKEN_FILE instead.")
    })?;
    Ok(AuthFile::of_home(&home))
}

/// The environment wins over what is kept: easily forgotten.
fn warn_of_environment(environment: &Environment, output: &mut Output) -> Result<(), Failure> {
    for variable in TOKEN_VARIABLES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}_FILE")]) {
        if environment.get(&variable)?.is_some() {
            output.warn(format!("{variable} is set, and is used instead of a kept token"));
        }
    }
    Ok(())
}

// === impl WhoAmI ===

impl WhoAmI {
    /// Says whose token is used.
    ///
    /// # Errors
    /// When the server refuses or fails.
    pub(super) async fn run(self, client: &ClientArgs, context: &mut Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let client = context.connect(client).await?;
        report(&mut context.output, &who_am_i(&client).await?)?;
        Ok(Exit::Fine)
    }
}

async fn who_am_i(client: &Client) -> Result<WhoAmIResponse, Failure> {
    let call = || {
        let mut tokens = client.tokens();
        async move { tokens.who_am_i(WhoAmIRequest {}).await }
    };
    client.repeatable(call).await
}

fn report(output: &mut Output, me: &WhoAmIResponse) -> Result<(), Failure> {
    let WhoAmIResponse { token, tenant } = me;
    let token = token.clone().unwrap_or_default();
    if output.json {
        return output.document(&json!({ "token": tokens::document(&token), "tenant": tenant }));
    }
    output.data(format!("{}\nTenant:   {tenant}", tokens::describe(&token)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::testing::{Captured, superserve},
        proto::v1::Token,
    };

    #[test]
    fn tells_who_without_the_token() {
        let token = Token {
            id: "tok_1".to_owned(),
            name: "ci".to_owned(),
            scopes: vec!["secrets:list".to_owned(), "secrets:write".to_owned()],
            ..Default::default()
        };
        let me = WhoAmIResponse { token: Some(token), tenant: "ten_default".to_owned() };
        let captured = Captured::default();
        report(&mut captured.output(), &me).unwrap();
        let lines = "Token:    ci (tok_1)\nScopes:   secrets:list, secrets:write\nAgents:   all\nExpires:  never\n\
                     Tenant:   ten_default\n";
        assert_eq!(captured.stdout(), lines);
    }

    #[tokio::test]
    async fn logout_removes_what_login_kept() {
        let home = tempfile::tempdir().unwrap();
        let variables = [("HOME", home.path().to_str().unwrap())];
        AuthFile::of_home(home.path()).write("t").unwrap();
        let first = superserve(&["logout"], variables, b"").await;
        assert_eq!((first.code, first.stdout.as_str()), (0, ""));
        assert!(first.stderr.contains("still valid"), "{}", first.stderr);
        let second = superserve(&["logout", "--json"], variables, b"").await;
        assert_eq!((second.code, second.stdout.as_str()), (0, "{\n  \"removed\": false\n}\n"));
        assert_eq!(second.stderr, "Not logged in.\n");
    }

    #[tokio::test]
    async fn login_needs_a_token_that_can_be_one() {
        let home = tempfile::tempdir().unwrap();
        let variables =
            [("HOME", home.path().to_str().unwrap()), ("SUPERSERVE_API_URL", "http://127.0.0.1:1")];
        for stdin in [&b""[..], b"\n", b"ss_sentinel\n", b"sen tinel", b"sentinel\xff"] {
            let outcome = superserve(&["login"], variables, stdin).await;
            assert_eq!(outcome.code, 1, "{}", outcome.stderr);
            assert!(!outcome.stderr.contains("tinel"), "{}", outcome.stderr);
        }
        let unreachable = superserve(&["login"], variables, b"some.jwt.token\n").await;
        assert_eq!(unreachable.code, 2, "{}", unreachable.stderr);
        assert!(AuthFile::of_home(home.path()).read().unwrap().is_none(), "kept although nobody knows it");
    }
}
