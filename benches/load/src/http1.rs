//! An HTTP/1.1 client that writes prepared bytes and reads no more of an answer than it must, so that it is not
//! what is measured.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One connection.
pub struct Http1 {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// Where the body of an answer ends.
enum Length {
    Bytes(usize),
    Chunked,
}

impl Http1 {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and gives the body of its answer, whose status must be of the 200s.
    pub async fn call(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.socket.write_all(request).await?;
        self.buffer.clear();
        let head = self.read_until(b"\r\n\r\n", 0).await?;
        let (status, length) = parse_head(self.buffer.get(..head).unwrap_or_default())?;
        let end = match length {
            Length::Bytes(bytes) => {
                while self.buffer.len() < head + bytes {
                    self.fill().await?;
                }
                head + bytes
            }
            // Ours to answer for: no measured body holds these bytes
            Length::Chunked => self.read_until(b"0\r\n\r\n", head).await?,
        };
        let body = self.buffer.get(head..end).unwrap_or_default();
        if !(200..300).contains(&status) {
            bail!("HTTP {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    async fn read_until(&mut self, mark: &[u8], from: usize) -> Result<usize> {
        loop {
            let unread = self.buffer.get(from..).unwrap_or_default();
            if let Some(at) = unread.windows(mark.len()).position(|window| window == mark) {
                return Ok(from + at + mark.len());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => bail!("the server hung up"),
            _ => Ok(()),
        }
    }
}

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let content = match body {
        "" => String::new(),
        _ => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nhost: load\r\n{headers}{content}\r\n{body}").into_bytes()
}

/// One call on a connection of its own; the answer's JSON, or null where it has none.
pub async fn once(address: SocketAddr, request: &[u8]) -> Result<Value> {
    let mut connection = Http1::connect(address).await?;
    let body = connection.call(request).await?;
    let text = body.iter().position(|byte| *byte == b'{').map(|start| body.get(start..).unwrap_or_default());
    let json = text.and_then(|text| serde_json::Deserializer::from_slice(text).into_iter().next());
    Ok(json.transpose()?.unwrap_or(Value::Null))
}

fn parse_head(head: &[u8]) -> Result<(u16, Length)> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let status = head.get(9..12).context("no status")?.parse()?;
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = match (value("content-length:"), value("transfer-encoding:")) {
        (Some(length), _) => Length::Bytes(length.parse()?),
        (None, Some(_)) => Length::Chunked,
        (None, None) => Length::Bytes(0), // 204
    };
    Ok((status, length))
}
