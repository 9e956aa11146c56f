//! Both versions of HTTP on one plain port.

use super::*;

#[tokio::test]
async fn http1_is_answered_and_knows_its_client() {
    let server = TestServer::start(patient(), None).await;
    let socket = server.socket().await;
    let expected = format!("{} false 0", socket.local_addr().unwrap());
    let mut client = server.http1(socket).await;

    let first = answer(client.requests.send_request(get_request("/whoami"))).await;
    let second = answer(client.requests.send_request(get_request("/whoami"))).await;

    assert_eq!(first, ok(&expected));
    assert_eq!(second, ok(&expected), "on the same connection");
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_answered_on_the_same_port() {
    let server = TestServer::start(patient(), None).await;
    let socket = server.socket().await;
    let expected = format!("{} false 0", socket.local_addr().unwrap());
    let mut client = server.http2(socket).await;

    let slow = client.requests.send_request(get_request("/slow"));
    let quick = answer(client.requests.send_request(get_request("/whoami"))).await;
    server.gate.release();

    assert_eq!(quick, ok(&expected), "while another request waits");
    assert_eq!(answer(slow).await, ok("done"));
}

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_socket_is_shown_as_ipv4() {
    let bound = match super::super::bind("[::]:0".parse().unwrap()).await {
        Ok(bound) => bound,
        // A machine without IPv6 has no such clients.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return,
        Err(error) => panic!("{error}"),
    };
    let port = bound.local_addr().port();
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let _stop_at_the_end = stop.clone().drop_guard();
    let config = patient();
    drop(tracker.spawn(super::super::serve(
        bound,
        None,
        routes(Gate::closed()),
        config,
        crate::telemetry::LimitMetrics::default(),
        stop,
        tracker.clone(),
    )));
    let mut socket = within(TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await.unwrap();
    let expected = socket.local_addr().unwrap().to_string();

    within(socket.write_all(b"GET /whoami HTTP/1.0\r\n\r\n")).await.unwrap();

    let received = read_to_close(&mut socket).await;
    assert!(received.ends_with(&format!("{expected} false 0")), "{received}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = TestServer::start(patient(), None).await;

    let error = super::super::bind(server.addr).await.unwrap_err();

    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&server.addr.to_string()), "{error}");
}
