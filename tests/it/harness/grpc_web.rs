//! gRPC-Web by hand, over HTTP/1.1: calls of any bytes, and what the answer says.

use bytes::Bytes;
use tonic::Status;

use super::rest::{Answer, Call, Rest};

/// The media type of binary calls.
pub(crate) const PROTO: &str = "application/grpc-web+proto";

/// A call as a browser makes it.
pub(crate) fn call(rest: &Rest, path: &str, message: &[u8]) -> Call {
    let call = rest.post(path).header("content-type", PROTO).header("x-grpc-web", "1");
    call.header("accept", PROTO).body(frame(message))
}

/// A message with the five bytes before it.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// The messages of an answer, and its trailers, which gRPC-Web sends as the last frame.
pub(crate) fn frames(answer: &Answer) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers, mut rest) = (Vec::new(), String::new(), answer.body.clone());
    while !rest.is_empty() {
        let head = rest.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
        let content = rest.split_to(length.try_into().expect("a short frame"));
        match head[0] {
            0 => messages.push(content),
            _ => trailers = String::from_utf8(content.to_vec()).expect("trailers are text"),
        }
    }
    (messages, trailers)
}

/// The status of an answer, which stands in its head or in its trailers.
///
/// # Panics
/// When there is none.
pub(crate) fn status(answer: &Answer) -> Status {
    Status::from_header_map(&answer.headers).unwrap_or_else(|| {
        let lines = frames(answer).1;
        let trailers = lines.lines().filter_map(|line| line.split_once(':'));
        let trailers = trailers.map(|(name, value)| {
            let name: http::HeaderName = name.trim().parse().expect("a name");
            (name, value.trim().parse().expect("a value"))
        });
        Status::from_header_map(&trailers.collect()).expect("a status")
    })
}
