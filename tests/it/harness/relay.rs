//! An address that stays the same, whoever stands behind it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Listens, and connects each client with whom `behind` names at that moment. Where that is nobody, or nobody is
/// there, the client is hung up on.
pub(crate) fn relay(behind: impl Fn() -> Option<SocketAddr> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Some(server) = behind().and_then(|server| TcpStream::connect(server).ok()) else { continue };
            let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { continue };
            for (mut from, mut to) in [(from_client, to_server), (server, client)] {
                thread::spawn(move || {
                    let _broken = io::copy(&mut from, &mut to);
                    let _closed = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}
