//! Closes connections that never say which protocol they speak.
//!
//! The HTTP server tells HTTP/2 from HTTP/1.1 by the first bytes, and sets no limit to how long that
//! takes: a client that sends nothing, or a part of the HTTP/2 preface, would hold its connection for
//! ever. Once the version is known the protocols' own timers watch, and this wrapper only passes on.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What every HTTP/2 connection starts with; anything else is HTTP/1.1.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail with [`io::ErrorKind::TimedOut`] when the HTTP version is still open
/// after some time.
#[derive(Debug)]
pub(super) struct FirstBytes<S> {
    inner: S,
    undecided: Option<Undecided>,
}

/// The HTTP version is not known yet.
#[derive(Debug)]
struct Undecided {
    /// What is left of the preface: all read so far was its beginning.
    expected: &'static [u8],
    deadline: Pin<Box<Sleep>>,
}

// === impl FirstBytes ===

impl<S> FirstBytes<S> {
    /// Gives the peer of `inner` until `timeout` from now to decide on an HTTP version.
    pub(super) fn new(inner: S, timeout: Duration) -> Self {
        Self {
            inner,
            undecided: Some(Undecided { expected: HTTP2_PREFACE, deadline: Box::pin(sleep(timeout)) }),
        }
    }

    fn has_read(&mut self, bytes: &[u8]) {
        self.undecided = self.undecided.take().and_then(|undecided| undecided.after(bytes));
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.undecided {
            Some(undecided) => undecided.deadline.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.has_read(buf.filled().get(before..).unwrap_or_default());
            return read;
        }
        self.poll_deadline(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

// === impl Undecided ===

impl Undecided {
    /// `None` when `bytes` decide: they complete the preface or differ from it.
    fn after(self, bytes: &[u8]) -> Option<Self> {
        match self.expected.strip_prefix(bytes) {
            None | Some([]) => None,
            Some(expected) => Some(Self { expected, ..self }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    async fn read_after(sent: &[&[u8]]) -> (Vec<u8>, io::Result<usize>) {
        let (mut client, server) = duplex(64);
        let mut server = FirstBytes::new(server, SHORT);
        let mut received = Vec::new();
        for part in sent {
            client.write_all(part).await.unwrap();
            let mut buf = [0; 64];
            let count = server.read(&mut buf).await.unwrap();
            received.extend_from_slice(&buf[..count]);
        }
        let mut next = [0; 64];
        let outcome = tokio::time::timeout(SHORT * 10, server.read(&mut next)).await;
        (received, outcome.unwrap_or(Ok(usize::MAX)))
    }

    #[tokio::test]
    async fn silence_times_out() {
        let (_, outcome) = read_after(&[]).await;

        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_preface_in_parts_that_stops_times_out() {
        let (received, outcome) = read_after(&[b"P", b"RI * ", b"HTTP/2.0\r\n\r\nSM\r\n\r"]).await;

        assert_eq!(received, &HTTP2_PREFACE[..23]);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn after_a_whole_preface_there_is_no_limit() {
        let (received, outcome) = read_after(&[b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\nmore"]).await;

        assert!(received.starts_with(HTTP2_PREFACE));
        assert_eq!(outcome.unwrap(), usize::MAX, "still waiting");
    }

    /// A whole HTTP/1.0 request can be shorter than the preface, and its answer may take its time.
    #[tokio::test]
    async fn after_a_short_http1_request_there_is_no_limit() {
        let (_, outcome) = read_after(&[b"GET / HTTP/1.0\r\n\r\n"]).await;

        assert_eq!(outcome.unwrap(), usize::MAX, "still waiting");
    }

    #[tokio::test]
    async fn a_method_that_starts_like_the_preface_is_http1() {
        let (_, outcome) = read_after(&[b"PR", b"OPFIND"]).await;

        assert_eq!(outcome.unwrap(), usize::MAX, "still waiting");
    }
}
