//! HTTP/2 frame by frame (RFC 9113), for clients that behave as none should.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::LIMIT;

/// Types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// By which a server says that it has had enough.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection of which nothing is done by itself.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Came, and is not looked at yet.
    received: Vec<u8>,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a GOAWAY of this code.
    GoAway(u32),
    /// Without a word.
    Cut,
}

/// A frame as it is sent.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers as HPACK has them at its plainest: nothing is compressed, nothing remembered.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&length(text.len())[..], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A length in HPACK's integers with a prefix of seven bits.
pub(crate) fn length(length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(127) else { return vec![u8::try_from(length).expect("7 bits")] };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("7 bits") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("7 bits"));
    bytes
}

/// The headers of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)])
}

/// The headers of a POST, with a token where there is one.
pub(crate) fn post(path: &str, content_type: &str, token: Option<&str>) -> Vec<u8> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
        ("content-type", content_type),
        ("te", "trailers"),
    ];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    block(&headers)
}

// === impl Connection ===

impl Connection {
    /// Connects, and greets with these settings.
    pub(crate) async fn open(server: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Who does not read is to be noticed soon
        socket.set_recv_buffer_size(64 * 1024).expect("a size of a buffer");
        let stream = socket.connect(server).await.expect("the server accepts");
        let mut connection = Self { stream, received: Vec::new() };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &settings)].concat();
        connection.send(&preface).await.expect("the server reads");
        connection.send(&frame(SETTINGS, ACK, 0, &[])).await.expect("the server reads");
        connection
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// If the server has hung up.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LIMIT, self.stream.write_all(bytes)).await.expect("the server reads within the limit")
    }

    /// Sends `chunk` again and again, and reads nothing, until `most` bytes are sent, the server hangs up, or takes
    /// nothing for `patience`. Gives how many bytes it took.
    pub(crate) async fn flood(&mut self, chunk: &[u8], most: usize, patience: Duration) -> usize {
        let mut sent = 0;
        while sent < most {
            let rest = &chunk[sent % chunk.len()..];
            match timeout(patience, self.stream.write(rest)).await {
                Ok(Ok(count)) => sent += count,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sent
    }

    /// The next frame; `None` once the server has hung up.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.received)).await;
            match read.expect("the server says something within the limit") {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Waits for a frame of this kind on this stream; `None` if the connection ends before.
    pub(crate) async fn wait_for(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        let began = Instant::now();
        loop {
            let frame = self.next().await?;
            if (frame.kind, frame.stream) == (kind, stream) {
                return Some(frame);
            }
            assert!(began.elapsed() < LIMIT, "waited for a frame {kind} on {stream}");
        }
    }

    /// Waits until the server has done what it was sent: a ping is answered in its turn. `None` if the connection has
    /// ended.
    pub(crate) async fn settle(&mut self) -> Option<()> {
        self.send(&frame(PING, 0, 0, b"settled?")).await.ok()?;
        loop {
            let frame = self.next().await?;
            if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"settled?" {
                return Some(());
            }
        }
    }

    /// Waits for the end, and gives the last that was said of it.
    pub(crate) async fn end(&mut self) -> End {
        let mut end = End::Cut;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                end = End::GoAway(u32::from_be_bytes(frame.payload[4..8].try_into().expect("four bytes")));
            }
        }
        end
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.received.get(..9)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let (length, kind, flags, stream) = (number(&head[..3]), head[3], head[4], number(&head[5..9]));
        let end = 9 + usize::try_from(length).expect("24 bits");
        let payload = self.received.get(9..end)?.to_vec();
        self.received.drain(..end);
        Some(Frame { kind, flags, stream, payload })
    }
}
