//! A small HTTP/1.1 client: JSON where a test wants it, any bytes where it does not.
//!
//! One connection a request, so that nothing is shared between two of them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::LIMIT;

/// A server's address and the token to show there.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    address: SocketAddr,
    token: Option<String>,
    source: Option<Ipv4Addr>,
}

/// A request that is not sent yet.
#[derive(Debug)]
pub(crate) struct Call {
    address: SocketAddr,
    source: Option<Ipv4Addr>,
    request: http::request::Builder,
    body: Bytes,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) body: Bytes,
}

// === impl Rest ===

impl Rest {
    /// A client without a token.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, token: None, source: None }
    }

    /// The same client with this token.
    pub(crate) fn token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client without a token.
    pub(crate) fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same client at another address of this machine.
    pub(crate) fn at(&self, source: Ipv4Addr) -> Self {
        Self { source: Some(source), ..self.clone() }
    }

    /// Begins a GET.
    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// Begins a POST.
    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    /// Begins a PATCH.
    pub(crate) fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    /// Begins a DELETE.
    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// Begins a request of any method.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Call { address: self.address, source: self.source, request, body: Bytes::new() }
    }

    /// Sends these bytes as they are and gives all that comes back until the server closes or is silent for
    /// `silence`.
    pub(crate) async fn raw(&self, bytes: &[u8], silence: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.expect("the server accepts");
        // A server may refuse before it has read everything: then its answer counts, not our failed write
        let _written = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        while let Ok(Ok(1..)) = timeout(silence, stream.read_buf(&mut answer)).await {}
        answer
    }
}

// === impl Call ===

impl Call {
    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Gives it a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Gives it a body of any bytes.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.expect("the server answers")
    }

    /// Sends it to a server that may be gone.
    ///
    /// # Errors
    /// When no whole answer comes.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub(crate) async fn try_send(self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let Self { address, source, request, body } = self;
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let stream = TokioIo::new(connect(address, source).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let exchange = async move {
                let (head, body) = sender.send_request(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok(Answer { status: head.status, headers: head.headers, body })
            };
            // The connection ends once the exchange has: its sender is gone then
            let (answer, _connection) = tokio::join!(exchange, connection);
            answer
        };
        timeout(LIMIT, exchange).await.expect("the server answers within the limit")
    }
}

async fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address).await };
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(address).await
}

// === impl Answer ===

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty when it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of text"))
    }

    /// The sentence and the details of a refusal, which must have the one shape of all refusals.
    ///
    /// # Panics
    /// When it has another.
    pub(crate) fn refusal(&self) -> (String, Value) {
        let mut body = self.json();
        let members: Vec<_> = body.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(members, ["detail", "details", "status"], "{}", self.text());
        assert_eq!(body["status"], self.status.as_u16(), "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json", "{}", self.text());
        assert_ne!(self.header("x-request-id"), "", "{}", self.text());
        assert!(body["details"].is_object(), "{}", self.text());
        (body["detail"].as_str().expect("a sentence").to_owned(), body["details"].take())
    }
}
