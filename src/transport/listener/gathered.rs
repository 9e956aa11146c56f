//! Gathers what a connection writes, and writes it once a turn.
//!
//! An answer over HTTP/2 ends in a frame of its own, the trailers, and the library has the body written before it takes
//! that frame: two system calls and two packets for each answer, and the client wakes up twice. Here what is written
//! is kept until the connection has nothing more to do for now ([`Gathered::drain`]).
//!
//! A stream may keep bytes itself: TLS takes some while the socket is full, and sends them when it is flushed. So whatever
//! it was given is flushed, until it says that nothing is left.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept at most; more is written at once.
const MOST: usize = 16 * 1024;

/// A stream of which the connection has one handle, and whoever drives the connection another.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    kept: Vec<u8>,
    /// So many bytes of it are written.
    written: usize,
    /// The stream was given bytes that it may not have sent.
    is_to_be_flushed: bool,
}

// === impl Gathered ===

impl<S> Gathered<S> {
    /// Keeps what is written to `stream`.
    pub(super) fn new(stream: S) -> Self {
        let inner = Inner { stream, kept: Vec::new(), written: 0, is_to_be_flushed: false };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The other handle.
    pub(super) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Writes what is kept, as far as the stream takes it, and has it sent; the task is woken when there is more to do.
    pub(super) fn drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().drain(cx)
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.hand_over(cx))?;
        if self.is_to_be_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_to_be_flushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the stream all that is kept.
    fn hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, kept, written, is_to_be_flushed } = self;
        while let Some(rest) = kept.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
            *is_to_be_flushed = true;
        }
        // An idle connection keeps no memory
        *kept = Vec::new();
        *written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        let bytes = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if inner.kept.len() + bytes > MOST {
            ready!(inner.hand_over(cx))?;
            if bytes > MOST {
                let count = ready!(Pin::new(&mut inner.stream).poll_write_vectored(cx, bufs))?;
                inner.is_to_be_flushed = true;
                return Poll::Ready(Ok(count));
            }
        }
        for buf in bufs {
            inner.kept.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // At the end of the turn
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.drain(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_a_turn_is_written_at_its_end() {
        let (mut client, server) = duplex(64);
        let mut stream = Gathered::new(server);
        let driver = stream.handle();
        for part in [&b"body"[..], b"trailers"] {
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut received = [0; 64];
        let early = tokio::time::timeout(std::time::Duration::from_millis(5), client.read(&mut received));
        assert!(early.await.is_err(), "nothing is written yet");
        poll_fn(|cx| driver.drain(cx)).await.unwrap();
        let count = client.read(&mut received).await.unwrap();
        assert_eq!(&received[..count], b"bodytrailers");
        assert!(driver.inner().kept.capacity() == 0, "nothing is kept for an idle connection");
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_holds_the_writer_up_and_loses_nothing() {
        let (mut client, server) = duplex(1000);
        let mut stream = Gathered::new(server);
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let expected = sent.clone();
        let writing = async move {
            for part in sent.chunks(7000).chain([&[][..]]) {
                stream.write_all(part).await.unwrap();
            }
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let reading = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(writing, reading);
        assert!(received == [expected.clone(), expected].concat(), "{} bytes", received.len());
    }

    /// As TLS does: it takes all, and sends of it what has room, the rest when it is flushed.
    struct Taker {
        stream: DuplexStream,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Taker {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(buf);
            let _sent_or_not = self.poll_flush(cx)?;
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self { stream, taken } = &mut *self;
            while !taken.is_empty() {
                let count = ready!(Pin::new(&mut *stream).poll_write(cx, taken))?;
                taken.drain(..count);
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn what_the_stream_has_taken_is_sent_too() {
        // Kept here first, and given to the stream as it comes
        for bytes in [MOST / 2, MOST * 2] {
            let (mut client, stream) = duplex(1000);
            let mut stream = Gathered::new(Taker { stream, taken: Vec::new() });
            stream.write_all(&vec![b'x'; bytes]).await.unwrap();
            let sending = poll_fn(|cx| stream.drain(cx));
            let mut received = vec![0; bytes];
            let (sent, _) = tokio::join!(sending, client.read_exact(&mut received));
            sent.unwrap();
            assert!(stream.inner().stream.taken.is_empty() && received == vec![b'x'; bytes]);
        }
    }
}
