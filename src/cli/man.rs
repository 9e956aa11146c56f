//! `superserve man [DIR]`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use super::{
    context::Context,
    failure::{Exit, Failure},
    tree,
};

/// The arguments of `man`.
#[derive(Args, Debug)]
pub(super) struct Manual {
    /// Write a page for each command into this directory, instead of the first one to stdout
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Manual {
    /// Prints the page of the program, or writes all pages.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn run(self, context: &mut Context) -> Result<Exit, Failure> {
        let Some(directory) = self.directory else {
            let mut page = Vec::new();
            Man::new(tree()).render(&mut page).map_err(|error| cannot_write(Path::new("-"), &error))?;
            context.output.only_copy(String::from_utf8_lossy(&page).trim_end())?;
            return Ok(Exit::Fine);
        };
        let written =
            std::fs::create_dir_all(&directory).and_then(|()| clap_mangen::generate_to(tree(), &directory));
        written.map_err(|error| cannot_write(&directory, &error))?;
        context.output.talk(format!("Wrote the manual pages to {}", directory.display()));
        Ok(Exit::Fine)
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("Cannot write to {}: {error}.", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::cli::testing::superserve;

    #[tokio::test]
    async fn a_page_for_each_command() {
        let page = superserve(&["man"], [], b"").await;
        assert_eq!((page.code, page.stderr.as_str()), (0, ""));
        assert!(page.stdout.contains(".TH superserve 1"), "{}", page.stdout);

        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("share/man/man1");
        let outcome = superserve(&["man", inner.to_str().unwrap()], [], b"").await;
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let set = std::fs::read_to_string(inner.join("superserve-secrets-set.1")).unwrap();
        assert!(set.contains("Examples:") && set.contains("dry\\-run"), "{set}");
        assert!(!inner.join("superserve-secrets-__launch.1").exists());

        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let outcome = superserve(&["man", file.to_str().unwrap()], [], b"").await;
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("Cannot write to"), "{}", outcome.stderr);
    }
}
