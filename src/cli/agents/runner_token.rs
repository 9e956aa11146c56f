//! The token of a runner, made as its agent is deployed: it may run this agent, and nothing else.

use std::{
    fs::{File, OpenOptions, remove_file},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    cli::{client::Client, failure::Failure, output::Output},
    domain::Scope,
    proto::v1::{Agent, CreateTokenRequest, CreateTokenResponse},
};

/// What `secrets run` needs: the agent by its name, its values, and for `--watch` word of its changes.
const SCOPES: [Scope; 3] = [Scope::AgentsRead, Scope::SecretsList, Scope::SecretsResolve];

/// The file that the token is to be in. Until it is, the file goes with this.
pub(super) struct RunnerToken {
    path: PathBuf,
    file: File,
    is_written: bool,
}

impl RunnerToken {
    /// Makes the file, which nobody else can read, before anything is sent.
    ///
    /// # Errors
    /// When there is one already, which may hold a token in use, or it cannot be made.
    pub(super) fn at(path: &Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            let path = path.display();
            if error.kind() == io::ErrorKind::AlreadyExists {
                Failure::local(format!("{path} is there already; nothing was sent."))
                    .hint("It may be the token of a runner that is in use: name another file.")
            } else {
                Failure::local(format!("{path} cannot be written: {error}; nothing was sent."))
            }
        })?;
        Ok(Self { path: path.to_owned(), file, is_written: false })
    }

    /// Makes the token and writes it. Not repeated when the connection breaks: nobody would know the first one's text.
    ///
    /// # Errors
    /// When the server refuses or fails, or the text cannot be written.
    pub(super) async fn make(
        mut self,
        client: &Client,
        agent: &Agent,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let request = CreateTokenRequest {
            name: format!("runner of {}", agent.id),
            scopes: SCOPES.map(|scope| scope.as_str().to_owned()).to_vec(),
            agent_ids: vec![agent.id.clone()],
            ..CreateTokenRequest::default()
        };
        let made = client.once(client.tokens().create_token(request)).await?;
        let CreateTokenResponse { token, text } = made;
        let (id, line) = (token.unwrap_or_default().id, Zeroizing::new(text + "\n"));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        let path = self.path.display();
        written.map_err(|error| {
            Failure::local(format!("{path} cannot be written: {error}."))
                .hint(format!("The token's text is lost: `superserve tokens revoke {id}`."))
        })?;
        output.talk(format!("{path} has a token that may run '{}' and nothing else ({id}).", agent.name));
        self.is_written = true;
        Ok(())
    }
}

impl Drop for RunnerToken {
    fn drop(&mut self) {
        if !self.is_written {
            // An empty file would be in the way of the next try
            let _gone = remove_file(&self.path).is_ok();
        }
    }
}
