//! Reads input that may hold values: no more than a limit, into memory that is wiped.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use zeroize::Zeroizing;

/// Room beyond the limit: `read_to_end` grows a buffer that is exactly full, and growing leaves a copy.
const SLACK_BYTES: usize = 64;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// As [`read`], and when the file cannot be opened.
pub(crate) fn read_file(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read(File::open(path)?, limit)
}

/// Reads all of `source`, which may have at most `limit` bytes.
///
/// # Errors
/// When reading fails or there is more.
pub(crate) fn read(source: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(SLACK_BYTES)));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let message = format!("it is too large: at most {limit} bytes are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The bytes less one trailing newline (LF or CRLF), and whether there was one.
pub(crate) fn without_newline(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.strip_suffix(b"\n") {
        Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
        None => (bytes, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit_without_growing() {
        let bytes = read(&[7; 100][..], 100).unwrap();
        assert_eq!((bytes.len(), bytes.capacity()), (100, 164));
        let error = read(&[7; 101][..], 100).unwrap_err();
        assert_eq!(error.to_string(), "it is too large: at most 100 bytes are read");
    }

    #[test]
    fn one_newline_is_cut() {
        assert_eq!(without_newline(b"x\n"), (&b"x"[..], true));
        assert_eq!(without_newline(b"x\r\n"), (&b"x"[..], true));
        assert_eq!(without_newline(b"x\n\n"), (&b"x\n"[..], true));
        assert_eq!(without_newline(b"x\r"), (&b"x\r"[..], false));
        assert_eq!(without_newline(b""), (&b""[..], false));
    }
}
