//! Clients that send nothing, too little, or too much.

use super::*;

#[tokio::test]
async fn a_silent_client_is_disconnected() {
    let config = ListenerConfig { first_bytes_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket().await;

    assert_eq!(read_to_close(&mut socket).await, "");
    server.counts_silence().await;
}

#[tokio::test]
async fn half_an_http2_preface_is_silence() {
    let config = ListenerConfig { first_bytes_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket_with(b"PRI * HTTP/2.0\r\n").await;

    assert_eq!(read_to_close(&mut socket).await, "");
    server.counts_silence().await;
}

#[tokio::test]
async fn half_a_header_is_disconnected() {
    let config = ListenerConfig { header_read_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket_with(b"GET /whoami HTTP/1.1\r\nhost: loc").await;

    assert!(!read_to_close(&mut socket).await.contains("200 OK"));
    server.counts_silence().await;
}

#[tokio::test]
async fn an_http2_client_that_shows_no_sign_of_life_is_disconnected() {
    let config = ListenerConfig { keepalive_interval: SHORT, keepalive_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    // The preface and an empty SETTINGS frame; the server's pings go unanswered.
    let mut socket = server.socket_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;

    assert_ne!(read_to_close(&mut socket).await, "", "it spoke HTTP/2 before");
    server.counts_silence().await;
}

/// The limits are on what a client sends: they must not cut an answer that takes longer.
#[tokio::test]
async fn a_slow_answer_to_a_request_shorter_than_the_preface_arrives() {
    let config = ListenerConfig { first_bytes_timeout: SHORT, header_read_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket_with(b"GET /slow HTTP/1.0\r\n\r\n").await;
    server.gate.entered().await;

    let early = timeout(SHORT * 3, socket.read_u8()).await;
    server.gate.release();

    assert!(early.is_err(), "neither answered nor closed: {early:?}");
    assert!(read_to_close(&mut socket).await.ends_with("done"));
}

#[tokio::test]
async fn a_huge_http1_header_is_refused() {
    let config = ListenerConfig { max_header_bytes: 8 * 1024, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket().await;

    let request = format!("GET /whoami HTTP/1.1\r\nhost: localhost\r\nx-fill: {}\r\n\r\n", "x".repeat(9000));
    within(socket.write_all(request.as_bytes())).await.unwrap();

    let received = read_to_close(&mut socket).await;
    assert!(received.starts_with("HTTP/1.1 431 "), "{received}");
}

#[tokio::test]
async fn a_huge_http2_header_is_refused() {
    let config = ListenerConfig { max_header_bytes: 8 * 1024, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut client = server.http2(server.socket().await).await;
    let mut request = get_request("/whoami");
    request.headers_mut().insert("x-fill", "x".repeat(9000).parse().unwrap());

    let (status, _) = answer(client.requests.send_request(request)).await;

    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

/// HTTP/2 streams over the limit must wait at the client, not fail.
#[tokio::test]
async fn requests_beyond_the_limit_of_streams_wait() {
    let config = ListenerConfig { max_concurrent_streams: 1, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut client = server.http2(server.socket().await).await;
    // The client learns of the limit with the first answer.
    answer(client.requests.send_request(get_request("/whoami"))).await;
    let first = server.clients.spawn(client.requests.send_request(get_request("/slow")));
    server.gate.entered().await;

    let mut second = server.clients.spawn(client.requests.send_request(get_request("/whoami")));
    let early = timeout(SHORT, &mut second).await;
    server.gate.release();

    assert!(early.is_err(), "not answered beside the first: {early:?}");
    assert_eq!(answer(async { first.await.unwrap() }).await, ok("done"));
    assert_eq!(answer(async { second.await.unwrap() }).await.0, StatusCode::OK);
}

/// More than fits into the sockets' buffers: its rest stays in the server.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_disconnected() {
    let config = ListenerConfig { answer_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let _http1 = server.socket_with(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut http2 = server.http2(server.socket().await).await;
    let unread = within(http2.requests.send_request(get_request("/large"))).await.unwrap();

    server.drained().await;

    assert!(within(unread.into_body().collect()).await.is_err(), "it was cut");
}

#[tokio::test]
async fn a_client_that_takes_its_answer_is_left_alone() {
    let config = ListenerConfig { answer_timeout: Duration::from_secs(5), ..patient() };
    let server = TestServer::start(config, None).await;
    let mut client = server.http2(server.socket().await).await;
    for _ in 0..2 {
        let (status, body) = answer(client.requests.send_request(get_request("/large"))).await;
        assert_eq!((status, body.len()), (StatusCode::OK, LARGE));
    }
}
