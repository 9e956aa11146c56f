//! TLS on the one port: REST over HTTP/1.1 and HTTP/2, gRPC, and clients that must show a certificate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Version;
use rustls::pki_types::ServerName;
use superserve::proto::v1::{WhoAmIRequest, tokens_service_client::TokensServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{Database, LIMIT, grpc::Grpc, pki::Authority, rest::Rest, server::Server};

#[tokio::test]
async fn both_protocols_are_served_encrypted() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    let token = Some(server.admin_token());
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let answer = authority.get(&server, alpn, None, token).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
    let channel = authority.channel(&server, None).await.unwrap();
    assert!(who_am_i(&server, channel).await);
    let stranger = Authority::new();
    stranger.get(&server, "h2", None, token).await.unwrap_err();
    stranger.channel(&server, None).await.unwrap_err();

    let plain =
        server.rest().raw(b"GET /v1/agents HTTP/1.1\r\nhost: x\r\n\r\n", Duration::from_secs(1)).await;
    assert!(!plain.starts_with(b"HTTP/"), "{}", plain.escape_ascii());
    assert!(server.rest().get("/v1/agents").try_send().await.is_err());
    assert_eq!(server.ops().get("/livez").send().await.status, 200, "probes stay plain");
    let ops = Grpc::connect(server.ops_address(), server.admin_token()).await.channel();
    let health = HealthClient::new(ops).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving, "also over gRPC");
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let server = authority.serve(&[&format!("--tls-client-ca={}", clients.path("ca.pem"))]);
    let token = Some(server.admin_token());
    let (known, unknown) = (clients.issue(), strangers.issue());
    for alpn in ["http/1.1", "h2"] {
        assert_eq!(authority.get(&server, alpn, Some(&known), token).await.unwrap().status(), 200);
        authority.get(&server, alpn, None, token).await.unwrap_err();
        authority.get(&server, alpn, Some(&unknown), token).await.unwrap_err();
    }
    let channel = authority.channel(&server, Some(&known)).await.unwrap();
    assert!(who_am_i(&server, channel).await);
    for identity in [None, Some(&unknown)] {
        // With TLS 1.3 a client may learn of it only with its first call
        let called = match authority.channel(&server, identity).await {
            Ok(channel) => who_am_i(&server, channel).await,
            Err(_refused) => false,
        };
        assert!(!called);
    }
}

/// Who is not answered in this time is not answered before somebody reads.
const PATIENCE: Duration = Duration::from_secs(3);

/// TLS takes bytes while the socket has no room; that they are sent is up to the server.
#[tokio::test]
async fn a_client_that_reads_late_gets_all_of_its_answers() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    let mut one = connect_with_little_room(&authority, &server).await;
    let mut first = Vec::new();
    send_requests(&mut one, 1).await;
    while !first.ends_with(b"}") || serde_json::from_slice::<serde_json::Value>(body_of(&first)).is_err() {
        let read = timeout(LIMIT, one.read_buf(&mut first)).await.expect("an answer").unwrap();
        assert_ne!(read, 0);
    }
    // So many are answered before the sockets and the server have no room left for more
    let mut stream = connect_with_little_room(&authority, &server).await;
    let mut most = 0_usize;
    while are_answered(&server, 1, PATIENCE, async || send_requests(&mut stream, 1).await).await {
        most += 1;
    }
    // At one number or another the last bytes are with TLS when the client begins to read
    for requests in most.saturating_sub(20).max(1)..=most {
        let mut stream = connect_with_little_room(&authority, &server).await;
        let sending = async || send_requests(&mut stream, requests).await;
        // One connection has a little more room than another
        let _all_or_most = are_answered(&server, requests, Duration::from_secs(1), sending).await;
        let mut received = vec![0; first.len() * requests];
        let mut filled = 0;
        while filled < received.len() {
            let read = timeout(LIMIT, stream.read(&mut received[filled..])).await;
            let missing = first.len() * requests - filled;
            let read =
                read.unwrap_or_else(|_late| panic!("{missing} bytes of {requests} answers do not come"));
            let read = read.unwrap();
            assert_ne!(read, 0, "it ends early");
            filled += read;
        }
        assert!(received.ends_with(body_of(&first)));
    }
}

/// Plaintext off loopback: on every address, by name of the wildcard or of one that is the machine's own.
#[tokio::test]
async fn plaintext_off_loopback_has_to_be_asked_for() {
    let authority = Authority::new();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let refused = Server::with(Database::Sqlite).listen(listen).run_serve();
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{listen}");
        assert!(refused.stderr.contains("--insecure") && refused.stderr.contains("unencrypted"), "{listen}");

        let asked = Server::with(Database::Sqlite).listen(listen).arg("--insecure").start();
        let loopback = SocketAddr::from(([127, 0, 0, 1], asked.address().port()));
        let rest = Rest::new(loopback).token(asked.admin_token());
        assert_eq!(rest.get("/v1/auth/validate").send().await.status, 200, "{listen}");
        let encrypted = authority.setup(&[]).listen(listen).start();
        assert!(!encrypted.address().ip().is_loopback(), "{listen}");
        assert_eq!(
            authority.get(&encrypted, "h2", None, Some(encrypted.admin_token())).await.unwrap().status(),
            200,
            "{listen}"
        );
    }
}

/// As the client's system takes little at a time, the server's socket is full.
async fn connect_with_little_room(authority: &Authority, server: &Server) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(server.address()).await.unwrap();
    let config = authority.client("http/1.1", None).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
}

/// Sends requests without a wait for the answers.
async fn send_requests(stream: &mut TlsStream<TcpStream>, requests: usize) {
    let request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.repeat(requests).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Sends requests, and says whether the server has answered all of them in time, whoever takes the answers.
async fn are_answered(server: &Server, requests: usize, in_time: Duration, send: impl AsyncFnOnce()) -> bool {
    let answered = || server.log().matches("GET /openapi.json").count();
    let all = answered() + requests;
    send().await;
    let are_there = async {
        while answered() < all {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(in_time, are_there).await.is_ok()
}

fn body_of(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    &answer[end..]
}

async fn who_am_i(server: &Server, channel: Channel) -> bool {
    let mut request = tonic::Request::new(WhoAmIRequest {});
    let bearer = format!("Bearer {}", server.admin_token()).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    TokensServiceClient::new(channel).who_am_i(request).await.is_ok()
}
