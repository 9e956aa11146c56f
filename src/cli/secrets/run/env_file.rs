//! The open file that an environment is written to.
//!
//! It is opened a second time by its name in `/dev/fd`, which only writes at its end: what others wrote
//! to it stays. Whoever opened it decides who can read it.

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal as _, Write as _},
};

use crate::cli::failure::Failure;

/// The mode in the flags of an open file, and the mode that only reads (`O_ACCMODE`, `O_RDONLY`).
const MODE: u32 = 0o3;
const READS_ONLY: u32 = 0o0;

/// The number of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor(u32);

/// A file that can be written.
#[derive(Debug)]
pub(super) struct EnvFile {
    file: File,
    descriptor: Descriptor,
}

// === impl Descriptor ===

impl Descriptor {
    /// Reads a number. Talk goes to 2, and nobody can read from 0.
    ///
    /// # Errors
    /// Which numbers there are.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let number = text.parse().ok().filter(|number| *number == 1 || *number >= 3);
        number.map(Self).ok_or("the number of an open file descriptor: 1, or 3 and up")
    }

    /// Whether whoever opened it did so to read. Unknown where there is no `/proc`; opening tells then.
    fn only_reads(self) -> bool {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0)).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & MODE == READS_ONLY)
    }
}

// === impl EnvFile ===

impl EnvFile {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not open for writing, is no file or pipe, or is a terminal, which would show the values.
    pub(super) fn open(descriptor: Descriptor) -> Result<Self, Failure> {
        let refused = |why: &str| {
            let number = descriptor.0;
            Failure::local(format!("Cannot write to file descriptor {number}: {why}."))
                .hint(format!("Open a file or a pipe there, as in `superserve secrets run … --env-file-fd {number} {number}>FILE`."))
        };
        if descriptor.only_reads() {
            return Err(refused("it is open for reading"));
        }
        let file = OpenOptions::new().append(true).open(format!("/dev/fd/{}", descriptor.0));
        let file = file.map_err(|error| refused(&error.to_string()))?;
        if file.is_terminal() {
            return Err(refused("it is a terminal, which would show the values"));
        }
        Ok(Self { file, descriptor })
    }

    /// Writes this text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(|error| {
            Failure::local(format!("Cannot write to file descriptor {}: {error}.", self.descriptor.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn numbers_of_what_can_be_written() {
        assert_eq!(Descriptor::parse("3"), Ok(Descriptor(3)));
        assert_eq!(Descriptor::parse("1"), Ok(Descriptor(1)));
        for text in ["0", "2", "-1", "x", "", "3>"] {
            assert!(Descriptor::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_written_before_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        let descriptor = Descriptor(file.as_raw_fd().try_into().unwrap());
        EnvFile::open(descriptor).unwrap().write("A='a'\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nA='a'\n");
    }

    #[test]
    fn what_is_only_read_or_not_open_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reading = File::open(file.path()).unwrap();
        let failure = EnvFile::open(Descriptor(reading.as_raw_fd().try_into().unwrap())).unwrap_err();
        assert!(failure.to_string().contains("it is open for reading"), "{failure}");
        let failure = EnvFile::open(Descriptor(9_999)).unwrap_err();
        assert!(
            failure.to_string().contains("Cannot write to file descriptor 9999: No such file"),
            "{failure}"
        );
    }
}
