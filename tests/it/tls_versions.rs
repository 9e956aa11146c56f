//! Which TLS is spoken: versions, suites and protocols, asked for by hellos that no library of today sends.

use rustls::{ClientConfig, RootCertStore, crypto::ring, version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    LIMIT,
    pki::{Authority, connect},
    server::Server,
};

/// Alerts (RFC 8446, 6).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const NO_APPLICATION_PROTOCOL: u8 = 120;

const TLS_1_0: u16 = 0x0301;
const TLS_1_1: u16 = 0x0302;
const TLS_1_2: u16 = 0x0303;

const ECDHE_ECDSA_AES_128_GCM: u16 = 0xc02b;

/// What a server makes of a hello.
#[derive(Debug, PartialEq)]
enum Reply {
    /// It chose this version and this suite.
    Hello(u16, u16),
    /// It refused.
    Alert(u8),
}

/// A hello of TLS 1.2 or older with what elliptic curves need, and with these extensions beside.
fn hello(version: u16, suites: &[u16], extensions: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[u16]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized(body)].concat();
    let extensions = [
        extension(10, &sized(&numbers(&[0x001d, 0x0017]))),
        extension(11, &[1, 0]),
        extension(13, &sized(&numbers(&[0x0403, 0x0804, 0x0401]))),
        extensions.to_vec(),
    ]
    .concat();
    let body =
        [&version.to_be_bytes()[..], &[7; 32], &[0], &sized(&numbers(suites)), &[1, 0], &sized(&extensions)]
            .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1][..], &length[1..], &body].concat();
    [&[22][..], &TLS_1_0.to_be_bytes(), &sized(&handshake)].concat()
}

async fn reply(server: &Server, hello: &[u8]) -> Reply {
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(hello).await.unwrap();
    let mut head = [0; 5];
    timeout(LIMIT, socket.read_exact(&mut head)).await.unwrap().unwrap();
    let mut body = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
    timeout(LIMIT, socket.read_exact(&mut body)).await.unwrap().unwrap();
    match head[0] {
        21 => Reply::Alert(body[1]),
        22 => {
            // Type and length, version, random, session id
            let suite = 4 + 2 + 32 + 1 + usize::from(body[38]);
            let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
            Reply::Hello(number(4), number(suite))
        }
        other => panic!("a record of type {other}"),
    }
}

#[tokio::test]
async fn tls_older_than_1_2_is_refused() {
    let server = Authority::new().serve(&[]);
    let modern = hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], &[]);
    assert_eq!(reply(&server, &modern).await, Reply::Hello(TLS_1_2, ECDHE_ECDSA_AES_128_GCM), "it can speak");
    for version in [0x0300, TLS_1_0, TLS_1_1] {
        let old = hello(version, &[ECDHE_ECDSA_AES_128_GCM, 0xc009], &[]);
        assert_eq!(reply(&server, &old).await, Reply::Alert(PROTOCOL_VERSION), "{version:#06x}");
    }
}

#[tokio::test]
async fn suites_without_forward_secrecy_or_authenticated_encryption_are_refused() {
    let server = Authority::new().serve(&[]);
    for (suite, name) in [
        (0x0001, "RSA_NULL_MD5"),
        (0x0005, "RSA_RC4_128_SHA"),
        (0x000a, "RSA_3DES_EDE_CBC_SHA"),
        (0x002f, "RSA_AES_128_CBC_SHA"),
        (0x0033, "DHE_RSA_AES_128_CBC_SHA"),
        (0x009c, "RSA_AES_128_GCM_SHA256"),
        (0x009e, "DHE_RSA_AES_128_GCM_SHA256"),
        (0xc007, "ECDHE_ECDSA_RC4_128_SHA"),
        (0xc008, "ECDHE_ECDSA_3DES_EDE_CBC_SHA"),
        (0xc009, "ECDHE_ECDSA_AES_128_CBC_SHA"),
        (0xc023, "ECDHE_ECDSA_AES_128_CBC_SHA256"),
        (0xc018, "ECDH_anon_AES_128_CBC_SHA"),
    ] {
        assert_eq!(
            reply(&server, &hello(TLS_1_2, &[suite], &[])).await,
            Reply::Alert(HANDSHAKE_FAILURE),
            "{name}"
        );
        // Nor is one of them taken because the client would rather have it
        let both = hello(TLS_1_2, &[suite, ECDHE_ECDSA_AES_128_GCM], &[]);
        assert_eq!(reply(&server, &both).await, Reply::Hello(TLS_1_2, ECDHE_ECDSA_AES_128_GCM), "{name}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_no_http_is_refused() {
    let server = Authority::new().serve(&[]);
    let alpn = |name: &[u8]| {
        let name = [&[u8::try_from(name.len()).unwrap()][..], name].concat();
        let list = [&u16::try_from(name.len()).unwrap().to_be_bytes()[..], &name].concat();
        [&16_u16.to_be_bytes()[..], &u16::try_from(list.len()).unwrap().to_be_bytes(), &list].concat()
    };
    for name in ["spdy/3", "h2c", "http/1.0", "h3"] {
        let hello = hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], &alpn(name.as_bytes()));
        assert_eq!(reply(&server, &hello).await, Reply::Alert(NO_APPLICATION_PROTOCOL), "{name}");
    }
    for name in ["h2", "http/1.1"] {
        let hello = hello(TLS_1_2, &[ECDHE_ECDSA_AES_128_GCM], &alpn(name.as_bytes()));
        assert!(matches!(reply(&server, &hello).await, Reply::Hello(..)), "{name}");
    }
}

#[tokio::test]
async fn both_versions_of_today_are_spoken() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    let ca = rustls_pem(&authority);
    for (version, protocol) in [
        (&version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(ca.clone())
            .with_no_client_auth();
        // The best that both have wins, whichever the client names first
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let stream = connect(&server, config).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(protocol));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    }
}

fn rustls_pem(authority: &Authority) -> RootCertStore {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    roots
}
