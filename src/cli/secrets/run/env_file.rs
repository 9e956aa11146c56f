//! The open file that an environment is written to.
//!
//! It is written through the descriptor that was named, not opened a second time by its name in `/dev/fd`:
//! a socket cannot be opened again, a file perhaps not any more, and either would begin at a place of its
//! own. Whoever opened it decides who can read it.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, IsTerminal as _, Write as _},
    mem::MaybeUninit,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _, unix::net::UnixStream},
    sync::Arc,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, fcntl_getfl},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use crate::cli::{failure::Failure, output::Output};

/// The bits of a mode that let others than the owner read.
const OTHERS_READ: u32 = 0o044;

/// The number of an open file, and the file as it was when the command line was read: before this process had opened
/// any of its own, which could have got the number of one that the caller forgot.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    number: i32,
    file: Arc<io::Result<File>>,
}

/// A file that can be written.
#[derive(Debug)]
pub(super) struct EnvFile {
    file: File,
    number: i32,
}

// === impl Descriptor ===

impl Descriptor {
    /// Reads a number. Talk goes to 2, and nobody can read from 0.
    ///
    /// # Errors
    /// Which numbers there are.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let number = text.parse().ok().filter(|number| *number == 1 || *number >= 3);
        number.map(Self::of).ok_or("the number of an open file descriptor: 1, or 3 and up")
    }

    fn of(number: i32) -> Self {
        Self { number, file: Arc::new(duplicate(number)) }
    }
}

/// The open file behind the number. Sent over a socket by its number, it arrives as a descriptor that is owned: nothing
/// else tells the compiler that there is a file at all.
fn duplicate(number: i32) -> io::Result<File> {
    let (here, there) = UnixStream::pair()?;
    if [here.as_raw_fd(), there.as_raw_fd()].contains(&number) {
        return Err(Errno::BADF.into());
    }
    let numbers = [number];
    let message = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(&[0])], &message, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&there, &mut [io::IoSliceMut::new(&mut [0])], &mut received, RecvFlags::CMSG_CLOEXEC)?;
    for message in received.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message
            && let Some(file) = files.next()
        {
            return Ok(File::from(file));
        }
    }
    Err(ErrorKind::NotFound.into())
}

// === impl EnvFile ===

impl EnvFile {
    /// Takes it.
    ///
    /// # Errors
    /// When it is not open for writing, or is a terminal, which would show the values.
    pub(super) fn open(descriptor: &Descriptor, output: &mut Output) -> Result<Self, Failure> {
        let Descriptor { number, file } = descriptor;
        let refused = |why: &str| {
            Failure::local(format!("Cannot write to file descriptor {number}: {why}.")).hint(format!(
                "Open a pipe there, or a file of your own, as in `umask 077; superserve secrets run … \
                 --env-file-fd {number} {number}>FILE`."
            ))
        };
        let file = file.as_ref().as_ref().map_err(|error| refused(&error.to_string()))?;
        let file = file.try_clone().map_err(|error| refused(&error.to_string()))?;
        let flags = fcntl_getfl(&file).map_err(|error| refused(&error.to_string()))?;
        if flags & OFlags::ACCMODE == OFlags::RDONLY {
            return Err(refused("it is open for reading"));
        }
        if file.is_terminal() {
            return Err(refused("it is a terminal, which would show the values"));
        }
        let metadata = file.metadata().map_err(|error| refused(&error.to_string()))?;
        if metadata.is_file() && metadata.mode() & OTHERS_READ != 0 {
            output.warn(format!(
                "the file behind descriptor {number} can be read by others than its owner: make it with `umask 077`"
            ));
        }
        Ok(Self { file, number: *number })
    }

    /// Writes this text, from where the file's own offset is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        self.write_all(text.as_bytes()).map_err(|error| {
            Failure::local(format!("Cannot write to file descriptor {}: {error}.", self.number))
        })
    }

    /// Waits for who reads slowly, also where whoever opened it does not want to wait.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, thread};

    use super::*;
    use crate::cli::testing::Captured;

    fn open(file: &impl std::os::fd::AsRawFd) -> (Result<EnvFile, Failure>, String) {
        let captured = Captured::default();
        let opened = EnvFile::open(&Descriptor::of(file.as_raw_fd()), &mut captured.output());
        (opened, captured.stderr())
    }

    #[test]
    fn numbers_of_what_can_be_written() {
        for number in [1, 3] {
            assert_eq!(Descriptor::parse(&number.to_string()).unwrap().number, number);
        }
        for text in ["0", "2", "-1", "x", "", "3>", "99999999999"] {
            assert!(Descriptor::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writing_goes_on_where_the_file_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        open(&file).0.unwrap().write("A='a'\n").unwrap();
        file.write_all(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nA='a'\nafter\n");
    }

    #[test]
    fn a_file_that_is_no_more_there_is_written() {
        let file = tempfile::tempfile().unwrap();
        open(&file).0.unwrap().write("A='a'\n").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 6);
    }

    #[test]
    fn a_socket_is_written_whole_also_when_it_does_not_wait() {
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let text = "x".repeat(1 << 20);
        let reader = thread::spawn(move || {
            let mut read = String::new();
            there.read_to_string(&mut read).unwrap();
            read
        });
        open(&here).0.unwrap().write(&text).unwrap();
        drop(here);
        assert!(reader.join().unwrap() == text);
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, is_warned) in [(0o600, false), (0o640, true), (0o604, true), (0o622, false)] {
            file.as_file().set_permissions(fs::Permissions::from_mode(mode)).unwrap();
            let (opened, said) = open(file.as_file());
            opened.unwrap();
            assert_eq!(said.contains("umask 077"), is_warned, "{mode:o}: {said}");
        }
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(open(&here).1, "");
    }

    #[test]
    fn what_is_only_read_or_not_open_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = open(&File::open(file.path()).unwrap()).0.unwrap_err();
        assert!(failure.to_string().contains("it is open for reading"), "{failure}");
        let failure = EnvFile::open(&Descriptor::of(9_999), &mut Captured::default().output()).unwrap_err();
        assert!(failure.to_string().contains("Cannot write to file descriptor 9999: "), "{failure}");
        assert!(failure.to_string().contains("umask 077"), "{failure}");
    }
}
