//! `superserve.yaml`: what a project says of its agent, so that nobody has to type it.
//!
//! ```yaml
//! name: my-agent
//! command: python agent.py
//! secrets:
//!   - ANTHROPIC_API_KEY
//!   - name: DATABASE_URL
//!     description: the team's database
//!     pattern: ^postgres://
//!     optional: true
//! ```
//!
//! It is looked for in the working directory and then in each directory above it. It lies in version control,
//! so no value belongs in it: a file that seems to hold one is refused, by line and never by what stands there.

mod fields;
mod yaml;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use crate::domain::RequiredSecret;

use super::{bounded, context::Context, failure::Failure};

/// The name of the file.
pub(super) const FILE: &str = "superserve.yaml";

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Project {
    /// The agent's name.
    pub(super) name: String,
    /// The command line that runs it.
    pub(super) command: Option<String>,
    /// What a run requires.
    pub(super) secrets: Vec<RequiredSecret>,
}

/// The project of the working directory. Says on stderr which file it is.
///
/// # Errors
/// When there is none, or it cannot be read, or it is refused.
pub(super) fn of(context: &mut Context) -> Result<Project, Failure> {
    let path = context.directory.as_deref().map(find).transpose()?.flatten();
    let Some(path) = path else {
        return Err(Failure::local(format!("No agent is named, and there is no {FILE} here or above."))
            .hint(format!("Give the agent's name or id, or write `name: my-agent` into a {FILE}.")));
    };
    let project = read(&path)?;
    context.output.talk(format!("Using agent '{}' of {}", project.name, path.display()));
    Ok(project)
}

/// The nearest file, in `directory` or above it. One above it that somebody else has put there (`/tmp`) does not
/// decide where this person's values go.
fn find(directory: &Path) -> Result<Option<PathBuf>, Failure> {
    for above in directory.ancestors() {
        let path = above.join(FILE);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        if above != directory && metadata.uid() != geteuid().as_raw() && metadata.uid() != 0 {
            return Err(Failure::local(format!("{} belongs to another user.", path.display()))
                .hint("It is above the working directory, so it is not used: give the agent's name or id."));
        }
        if !metadata.is_file() {
            return Err(Failure::local(format!("{} is not a file.", path.display())));
        }
        return Ok(Some(path));
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Project, Failure> {
    let bytes = bounded::read_file(path, MAX_BYTES).map_err(|error| unreadable(path, &error))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_not_utf8| Failure::local(format!("{} is not UTF-8.", path.display())))?;
    fields::parse(text)
        .map_err(|faults| Failure::local(format!("{} is refused.", path.display())).lines(faults))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("Cannot read {}: {error}.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_is_found() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(find(&inner).unwrap(), None);
        fs::write(root.path().join(FILE), "name: outer\n").unwrap();
        assert_eq!(find(&inner).unwrap(), Some(root.path().join(FILE)));
        fs::write(root.path().join("a").join(FILE), "name: inner\n").unwrap();
        assert_eq!(find(&inner).unwrap(), Some(root.path().join("a").join(FILE)));
        assert_eq!(read(&root.path().join("a").join(FILE)).unwrap().name, "inner");
        fs::create_dir(inner.join(FILE)).unwrap();
        assert!(find(&inner).unwrap_err().to_string().contains("is not a file"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(FILE);
        for (content, words) in
            [(&b"name: \xff"[..], "is not UTF-8"), (&vec![b'#'; MAX_BYTES + 1][..], "too large")]
        {
            fs::write(&path, content).unwrap();
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains(words) && text.contains(FILE), "{text}");
        }
    }
}
