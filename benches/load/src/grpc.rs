//! A gRPC client on bare h2. It is light enough not to be what is measured, and it looks at the status of each
//! answer: a server that only refuses would look fast.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Version, header};
use tokio::net::TcpStream;

/// One connection. Copies share it, each with a stream of its own.
#[derive(Clone)]
pub struct Grpc {
    send: SendRequest<Bytes>,
    authority: String,
    authorization: header::HeaderValue,
}

impl Grpc {
    /// Connects.
    pub async fn connect(address: SocketAddr, token: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
        let (send, connection) = builder.handshake::<_, Bytes>(socket).await?;
        tokio::spawn(connection);
        let authorization = format!("Bearer {token}").parse()?;
        Ok(Self { send, authority: address.to_string(), authorization })
    }

    /// Sends a framed message and gives the framed answer, of a call that went well.
    pub async fn call(&mut self, path: &str, message: Bytes) -> Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::AUTHORIZATION, &self.authorization)
            .body(())?;
        let mut ready = self.send.clone().ready().await?;
        let (answer, mut body) = ready.send_request(request, false)?;
        body.send_data(message, true)?;
        let answer = answer.await?;
        ensure!(answer.status() == 200, "{path}: HTTP {}", answer.status());
        let head = answer.headers().get("grpc-status").is_some().then(|| answer.headers().clone());
        let (message, trailers) = read(answer.into_body()).await?;
        check(path, head.as_ref().or(trailers.as_ref()).context("an answer without a status")?)?;
        Ok(message)
    }

    /// Sends one message and reads the answer's.
    pub async fn unary<A: prost::Message + Default>(
        &mut self,
        path: &str,
        message: &impl prost::Message,
    ) -> Result<A> {
        let answer = self.call(path, framed(message)).await?;
        Ok(A::decode(answer.get(5..).context("an answer without a message")?)?)
    }
}

/// A message as it goes over the wire.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // BytesMut grows: it cannot lack room
    let _encoded = message.encode(&mut bytes);
    bytes.freeze()
}

async fn read(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>)> {
    let mut message = Bytes::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message = if message.is_empty() { data } else { [message, data].concat().into() };
    }
    Ok((message, body.trailers().await?))
}

fn check(path: &str, headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status").map(header::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        status => bail!("{path}: grpc-status {:?}: {:?}", status, headers.get("grpc-message")),
    }
}
