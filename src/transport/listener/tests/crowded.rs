//! Clients that come in too great a number.

use super::{tls::Files, *};

/// Asks on a connection, which stays.
async fn is_answered(socket: &mut TcpStream) {
    within(socket.write_all(b"GET /whoami HTTP/1.1\r\nhost: localhost\r\n\r\n")).await.unwrap();
    let mut answered = [0; 12];
    within(socket.read_exact(&mut answered)).await.unwrap();
    assert_eq!(answered, *b"HTTP/1.1 200");
}

#[tokio::test]
async fn who_has_the_most_connections_is_closed_at_the_limit() {
    let config = ListenerConfig { max_connections: 1, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut first = server.socket_with(b"GET /slow HTTP/1.0\r\n\r\n").await;
    server.gate.entered().await;

    let mut second = server.socket().await;
    let closed = within(second.read_u8()).await;
    server.gate.release();

    assert!(closed.is_err(), "closed, and not answered: {closed:?}");
    assert!(read_to_close(&mut first).await.ends_with("done"));
}

#[tokio::test]
async fn two_addresses_keep_no_third_out() {
    let config = ListenerConfig { max_connections: 4, ..patient() };
    let server = TestServer::start(config, None).await;
    let (mut idle, mut held) = (Vec::new(), Vec::new());
    for source in [2, 3] {
        idle.push(server.http2(server.socket_from(source).await).await);
        held.push(server.socket_from(source).await);
        answer(idle.last_mut().unwrap().requests.send_request(get_request("/whoami"))).await;
    }

    let mut third = server.socket_from(4).await;
    is_answered(&mut third).await;

    let [one, other] = &mut held[..] else { unreachable!("two are held") };
    let gone = tokio::select! {
        gone = read_to_close(one) => gone,
        gone = read_to_close(other) => gone,
    };
    assert_eq!(gone, "", "one of those who have two lost the newer");
}

/// It is asked to go as one that has got too old: what it was asked before is answered.
#[tokio::test]
async fn who_has_to_go_for_others_answers_first() {
    let config = ListenerConfig { max_connections: 3, ..patient() };
    let server = TestServer::start(config, None).await;
    let _older = [server.socket().await, server.socket().await];
    let mut newest = server.socket_with(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    server.gate.entered().await;

    let mut other = server.socket_from(2).await;
    within(other.write_all(b"GET /whoami HTTP/1.0\r\n\r\n")).await.unwrap();
    assert!(read_to_close(&mut other).await.contains("200 OK"), "at once, beside the one that goes");
    server.gate.release();

    assert!(read_to_close(&mut newest).await.ends_with("done"));
}

#[tokio::test]
async fn silent_clients_lose_their_places() {
    let config = ListenerConfig { max_connections: 2, first_bytes_timeout: SHORT, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut silent = [server.socket().await, server.socket().await];
    for socket in &mut silent {
        assert_eq!(read_to_close(socket).await, "");
    }
    within(async {
        while server.metrics.connections().get() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mut socket = server.socket_with(b"GET /whoami HTTP/1.0\r\n\r\n").await;

    assert!(read_to_close(&mut socket).await.contains("200 OK"));
}

#[tokio::test]
async fn a_limit_of_no_connections_still_serves_one() {
    let config = ListenerConfig { max_connections: 0, ..patient() };
    let server = TestServer::start(config, None).await;

    let mut socket = server.socket_with(b"GET /whoami HTTP/1.0\r\n\r\n").await;

    assert!(read_to_close(&mut socket).await.contains("200 OK"));
}

/// They have begun to ask, so each would be waited for.
#[tokio::test]
async fn who_does_not_go_keeps_nobody_out() {
    let config = ListenerConfig { max_connections: 6, ..patient() };
    let server = TestServer::start(config, None).await;
    let mut stuck = Vec::new();
    for _ in 0..6 {
        stuck.push(server.socket_with(b"GET /whoami HTTP/1.1\r\nhost: loc").await);
    }

    for source in 2..6 {
        let mut other = server.socket_from(source).await;
        is_answered(&mut other).await;
        stuck.push(other);
    }

    for cut in &mut stuck[3..6] {
        assert_eq!(read_to_close(cut).await, "");
    }
    let waited_for = timeout(SHORT, stuck[2].read_u8()).await;
    assert!(waited_for.is_err(), "{waited_for:?}");
}

#[tokio::test]
async fn a_handshake_gives_way_to_others() {
    let config = ListenerConfig { max_connections: 2, ..patient() };
    let files = Files::new();
    let server = TestServer::start(config, Some(Arc::new(Tls::load(files.config()).unwrap()))).await;
    let mut silent = [server.socket().await, server.socket().await];

    let _other = server.socket_from(2).await;

    let [older, newer] = &mut silent;
    assert_eq!(read_to_close(newer).await, "");
    let stays = timeout(SHORT, older.read_u8()).await;
    assert!(stays.is_err(), "{stays:?}");
}
