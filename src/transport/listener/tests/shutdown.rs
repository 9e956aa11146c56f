//! How connections end: the server stops, or they are too old.

use super::*;

#[tokio::test]
async fn an_http1_request_in_flight_survives_the_stop() {
    let mut server = TestServer::start(patient(), None).await;
    let mut socket = server.socket_with(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    server.gate.entered().await;

    server.stop().await;
    let refused = within(TcpStream::connect(server.addr)).await.unwrap_err();
    server.gate.release();

    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let received = read_to_close(&mut socket).await;
    assert!(received.ends_with("done"), "{received}");
    assert!(received.contains("connection: close"), "{received}");
    server.drained().await;
}

#[tokio::test]
async fn http2_requests_in_flight_survive_the_stop() {
    let mut server = TestServer::start(patient(), None).await;
    let mut client = server.http2(server.socket().await).await;
    let mut responses = Vec::new();
    for _ in 0..50 {
        responses.push(server.clients.spawn(client.requests.send_request(get_request("/slow"))));
        server.gate.entered().await;
    }

    server.stop().await;
    for _ in &responses {
        server.gate.release();
    }

    for response in responses {
        assert_eq!(answer(async { response.await.unwrap() }).await, ok("done"));
    }
    within(client.ended).await.unwrap().unwrap();
    server.drained().await;
}

#[tokio::test]
async fn the_stop_waits_for_no_idle_connection() {
    let mut server = TestServer::start(patient(), None).await;
    let mut http1 = server.http1(server.socket().await).await;
    let mut http2 = server.http2(server.socket().await).await;
    answer(http1.requests.send_request(get_request("/whoami"))).await;
    answer(http2.requests.send_request(get_request("/whoami"))).await;
    let mut silent = server.socket().await;

    server.stop().await;

    within(http1.ended).await.unwrap().unwrap();
    within(http2.ended).await.unwrap().unwrap();
    assert_eq!(read_to_close(&mut silent).await, "");
    server.drained().await;
}

#[tokio::test]
async fn an_old_http1_connection_ends_with_the_answer_it_owes() {
    let config = ListenerConfig { max_connection_age: Some(SHORT), ..patient() };
    let server = TestServer::start(config, None).await;
    let mut socket = server.socket_with(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    server.gate.entered().await;

    let early = timeout(SHORT * 3, socket.read_u8()).await;
    server.gate.release();

    assert!(early.is_err(), "neither answered nor closed: {early:?}");
    let received = read_to_close(&mut socket).await;
    assert!(received.contains("connection: close"), "{received}");
    assert!(received.ends_with("done"), "{received}");
}

#[tokio::test]
async fn an_old_http2_connection_says_goodbye() {
    let config = ListenerConfig { max_connection_age: Some(SHORT), ..patient() };
    let server = TestServer::start(config, None).await;
    let mut client = server.http2(server.socket().await).await;
    answer(client.requests.send_request(get_request("/whoami"))).await;

    within(client.ended).await.unwrap().expect("GOAWAY without an error");

    let mut next = server.http2(server.socket().await).await;
    assert_eq!(answer(next.requests.send_request(get_request("/whoami"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_old_connection_that_does_not_end_is_cut_after_the_grace() {
    let config =
        ListenerConfig { max_connection_age: Some(SHORT), max_connection_age_grace: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut http1 = server.socket_with(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut http2 = server.http2(server.socket().await).await;
    let never = server.clients.spawn(http2.requests.send_request(get_request("/slow")));

    assert_eq!(read_to_close(&mut http1).await, "");
    assert!(within(never).await.unwrap().is_err());
    server.drained().await;
}
