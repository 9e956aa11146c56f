//! Where a token came from, so that who is refused is told which one to replace.

use std::path::PathBuf;

/// Where the token of a command came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenSource {
    /// This variable holds it.
    Variable(&'static str),
    /// It is in a file that a variable names.
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// `login` has kept it in this file.
    Kept(PathBuf),
    /// It was typed or piped in just now.
    Given,
}

// === impl TokenSource ===

impl TokenSource {
    /// A sentence that says which token it is.
    pub(super) fn tell(&self) -> String {
        match self {
            Self::Variable(variable) => format!("It is the one in {variable}."),
            Self::File { variable, path } => {
                format!("It is the one in {}, which {variable} names.", path.display())
            }
            Self::Kept(path) => {
                format!("It is the one in {}, where `superserve login` keeps it.", path.display())
            }
            Self::Given => "It is the one that was just given.".to_owned(),
        }
    }

    /// What to do where the server at `url` does not know it, or not any more. Which one comes next is for `whoami` to say:
    /// there may be several.
    pub(super) fn advise(&self, url: &str) -> String {
        let it = self.tell();
        match self {
            Self::Variable(variable) => format!(
                "{it} Put one there that {url} knows, or unset {variable}: `superserve whoami` says which is used then."
            ),
            Self::File { variable, .. } => format!(
                "{it} Write one there that {url} knows, or unset {variable}: `superserve whoami` says which is used then."
            ),
            Self::Kept(_) => format!("{it} Log in at {url} again, with `superserve login`."),
            Self::Given => format!("{it} Nothing was kept. Is it one of {url}?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_named_and_can_be_mended() {
        let file = TokenSource::File { variable: "V_FILE".to_owned(), path: "a/token".into() };
        for (source, is, does) in [
            (TokenSource::Variable("V"), "in V.", "unset V: "),
            (file, "in a/token, which V_FILE names.", "Write one there that http://a knows, or unset V_FILE"),
            (TokenSource::Kept("/h/auth.json".into()), "in /h/auth.json, where", "Log in at http://a again"),
            (TokenSource::Given, "just given", "one of http://a?"),
        ] {
            let advice = source.advise("http://a");
            assert!(
                advice.starts_with(&source.tell()) && advice.contains(is) && advice.contains(does),
                "{advice}"
            );
        }
    }
}
