//! Which server a command speaks to, and as whom: flag, then environment, then what `login` kept.

use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::{
    client::{self, Token},
    trace,
};

use super::{
    auth_file::AuthFile,
    bounded,
    environment::{Environment, TOKEN_VARIABLES},
    failure::Failure,
    output::Output,
    token_source::TokenSource,
};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const URL_VARIABLE: &str = "SUPERSERVE_API_URL";
const CA_VARIABLE: &str = "SUPERSERVE_CA_CERT";

/// The largest file of CA certificates, in bytes.
const MAX_CA_BYTES: usize = 1024 * 1024;

/// The flags of every command that speaks to a server.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ClientArgs {
    /// The server's address.
    #[arg(long, global = true, value_name = "URL", help_heading = "Client options")]
    #[arg(help = "The server's address [env: SUPERSERVE_API_URL] [default: http://127.0.0.1:8080]")]
    pub(crate) api_url: Option<String>,

    /// The CAs to trust.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Client options")]
    #[arg(help = "Trust the CAs in this PEM file, and no others, for https [env: SUPERSERVE_CA_CERT]")]
    pub(crate) ca_cert: Option<PathBuf>,

    /// Print data as JSON
    #[arg(long, global = true, help_heading = "Client options")]
    pub(crate) json: bool,
}

/// Where and as whom.
pub(crate) struct Settings {
    /// The server.
    pub(crate) server: Server,
    /// The bearer token, if there is one.
    pub(crate) token: Option<FoundToken>,
}

/// A token, and where it was found.
pub(crate) struct FoundToken {
    /// Its text.
    pub(crate) text: Zeroizing<String>,
    /// Where it was.
    pub(crate) source: TokenSource,
}

/// How to reach the server.
pub(crate) struct Server(pub(crate) client::Server);

// === impl Settings ===

impl Settings {
    /// Brings flags, environment and the kept token together. Warns of a token that others can read.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub(crate) fn resolve(
        args: &ClientArgs,
        environment: &Environment,
        output: &mut Output,
    ) -> Result<Self, Failure> {
        let server = Server::resolve(args, environment)?;
        let token = find_token(environment, output)?;
        if let Some(token) = &token {
            check_token(token)?;
            server.warn_of_plaintext(output);
        }
        Ok(Self { server, token })
    }
}

fn find_token(environment: &Environment, output: &mut Output) -> Result<Option<FoundToken>, Failure> {
    for name in TOKEN_VARIABLES {
        let Some(text) = environment.get_or_file(name)? else { continue };
        let variable = format!("{name}_FILE");
        let source = match environment.get_os(&variable).map(PathBuf::from) {
            Some(path) => TokenSource::File { variable, path },
            None => TokenSource::Variable(name),
        };
        return Ok(Some(FoundToken { text, source }));
    }
    let Some(home) = environment.home() else { return Ok(None) };
    let file = AuthFile::of_home(&home);
    let Some(kept) = file.read()? else { return Ok(None) };
    if kept.is_exposed {
        let path = file.path();
        output.warn(format!("others can read the token in {0}: run `chmod 600 {0}`", path.display()));
    }
    Ok(Some(FoundToken { text: kept.token, source: TokenSource::Kept(file.path()) }))
}

/// Finds a mistyped token before it is sent, and what could not be sent at all.
///
/// # Errors
/// When no server can accept it.
pub(crate) fn check_token(token: &FoundToken) -> Result<Token, Failure> {
    Token::parse(&token.text).map_err(|_malformed| {
        Failure::local("The token is malformed: a character is missing, added or mistyped.")
            .hint("Copy it again as a whole; a token of this service is \"ss_\" and 49 more characters.")
            .hint_first(&token.source.tell())
    })
}

// === impl Server ===

impl Server {
    /// The server that flags and environment name.
    ///
    /// # Errors
    /// When the address is malformed or the CA file cannot be read.
    pub(crate) fn resolve(args: &ClientArgs, environment: &Environment) -> Result<Self, Failure> {
        let url = match &args.api_url {
            Some(url) => parse_url(url, "--api-url")?,
            None => match environment.get_or_file(URL_VARIABLE)? {
                Some(url) => parse_url(&url, URL_VARIABLE)?,
                None => parse_url(DEFAULT_URL, URL_VARIABLE)?,
            },
        };
        let ca_path = match &args.ca_cert {
            Some(path) => Some(path.as_path()),
            None => environment.get(CA_VARIABLE)?.map(Path::new),
        };
        let server = match ca_path {
            Some(path) => url.trusting(read_ca(path)?),
            None => url,
        };
        Ok(Self(match trace_of(environment) {
            Some(trace) => server.in_trace(trace),
            None => server,
        }))
    }

    /// Warns when a token would cross a network unencrypted.
    pub(crate) fn warn_of_plaintext(&self, output: &mut Output) {
        if self.0.is_plaintext_over_network() {
            output
                .warn(format!("the token and the values travel unencrypted to {}: use https", self.shown()));
        }
    }

    /// The address as it is shown.
    pub(crate) fn shown(&self) -> &str {
        self.0.shown()
    }
}

/// The trace that the environment names, or else one that begins here: the lines of all calls of a command in the server's
/// log can then be found together. A name that is none is none.
fn trace_of(environment: &Environment) -> Option<trace::Context> {
    let text = |name| environment.get_os(name)?.to_str();
    let given = text("TRACEPARENT").and_then(trace::Context::parse);
    let given = given.map(|context| context.with_state(text("TRACESTATE").unwrap_or_default()));
    given.or_else(trace::Context::begin)
}

/// The text is not shown when it is refused: it may hold a password.
fn parse_url(text: &str, source: &str) -> Result<client::Server, Failure> {
    client::Server::parse(text).map_err(|error| {
        Failure::local(format!("{source} is not the address of a server: {error}."))
            .hint(format!("It looks like {DEFAULT_URL} or https://secrets.example.com."))
    })
}

fn read_ca(path: &Path) -> Result<Vec<u8>, Failure> {
    bounded::read_file(path, MAX_CA_BYTES)
        .map(|bytes| bytes.to_vec())
        .map_err(|error| Failure::local(format!("Cannot read the CA file {}: {error}.", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    fn resolve<const N: usize>(
        url: Option<&str>,
        variables: [(&str, &str); N],
    ) -> (Result<Settings, String>, String) {
        let captured = Captured::default();
        let args = ClientArgs { api_url: url.map(str::to_owned), ..ClientArgs::default() };
        let settings = Settings::resolve(&args, &Environment::from(variables), &mut captured.output());
        (settings.map_err(|failure| failure.to_string()), captured.stderr())
    }

    fn token<const N: usize>(variables: [(&str, &str); N]) -> Option<String> {
        resolve(None, variables).0.ok().unwrap().token.map(|token| (*token.text).clone())
    }

    #[test]
    fn a_trace_is_continued_or_begun() {
        let trace = |given| {
            let server = resolve(None, [("TRACEPARENT", given)]).0.ok().unwrap().server;
            server.0.trace().unwrap().clone()
        };
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace(given).to_string(), given);
        for none in ["", "sentinel"] {
            let (one, other) = (trace(none), trace(none));
            assert!(one.trace != other.trace && !one.is_sampled, "{none}");
        }
    }

    #[test]
    fn the_address_is_flag_then_environment_then_default() {
        let shown = |url, variables| resolve(url, variables).0.ok().unwrap().server.shown().to_owned();
        let environment = [("SUPERSERVE_API_URL", "https://b.example:1")];
        assert_eq!(shown(Some("http://a.example"), environment), "http://a.example");
        assert_eq!(shown(None, environment), "https://b.example:1");
        assert_eq!(shown(None, [("SUPERSERVE_API_URL", "")]), "http://127.0.0.1:8080");
    }

    #[test]
    fn what_is_no_address_is_refused_unseen() {
        for url in
            ["x", "127.0.0.1:8080", "ftp://a", "http://u:sentinel@a", "http://a/sentinel", "http://a?x"]
        {
            let message = resolve(Some(url), []).0.err().unwrap();
            assert!(message.contains("--api-url") && !message.contains("sentinel"), "{message}");
        }
    }

    #[test]
    fn the_token_comes_from_the_environment_before_the_file() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().to_str().unwrap();
        AuthFile::of_home(home.path()).write("kept").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "filed\n").unwrap();
        let file_path = file.path().to_str().unwrap();
        assert_eq!(token([("HOME", home_path)]).as_deref(), Some("kept"));
        assert_eq!(token([("HOME", home_path), ("SUPERSERVE_API_KEY", "k")]).as_deref(), Some("k"));
        assert_eq!(token([("SUPERSERVE_TOKEN", "t"), ("SUPERSERVE_API_KEY", "k")]).as_deref(), Some("t"));
        assert_eq!(token([("SUPERSERVE_TOKEN_FILE", file_path)]).as_deref(), Some("filed"));
        assert_eq!(token([]), None);
    }

    #[test]
    fn a_mistyped_token_is_found_and_not_shown() {
        for text in ["ss_sentinel", "a sentinel", "sentinel\n"] {
            let message = resolve(None, [("SUPERSERVE_TOKEN", text)]).0.err().unwrap();
            assert!(message.contains("malformed") && !message.contains("sentinel"), "{message}");
            assert!(message.contains("It is the one in SUPERSERVE_TOKEN."), "{message}");
        }
        let jwt = resolve(None, [("SUPERSERVE_TOKEN", "eyJh.eyJz.c2ln")]).0;
        assert!(jwt.is_ok(), "a JWT is for the server to judge");
    }

    #[test]
    fn plaintext_off_this_machine_is_warned_of() {
        let warned = |url| !resolve(Some(url), [("SUPERSERVE_TOKEN", "t")]).1.is_empty();
        assert!(warned("http://secrets.example.com"));
        assert!(warned("http://10.0.0.1:8080"));
        for url in ["https://secrets.example.com", "http://localhost:1", "http://127.1.2.3", "http://[::1]:8"]
        {
            assert!(!warned(url), "{url}");
        }
    }
}
