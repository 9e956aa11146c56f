//! An address that stays the same, whoever stands behind it, and that may fall silent.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Listens, and connects each client with whom `behind` names at that moment. Where that is nobody, or nobody is
/// there, the client is hung up on.
pub(crate) fn relay(behind: impl Fn() -> Option<SocketAddr> + Send + 'static) -> SocketAddr {
    Relay::to(behind).address
}

/// The same with a way that can be lost without a word: no end is told, and nothing gets through any more.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    clients: Arc<AtomicUsize>,
    /// The clients that came before this one are cut off.
    silent: Arc<AtomicUsize>,
}

// === impl Relay ===

impl Relay {
    /// A relay to one server.
    pub(crate) fn start(server: SocketAddr) -> Self {
        Self::to(move || Some(server))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts off those who are connected; who comes gets through.
    pub(crate) fn lose_clients(&self) {
        self.silent.store(self.clients.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Cuts off everybody, also those who come.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(usize::MAX, Ordering::SeqCst);
    }

    fn to(behind: impl Fn() -> Option<SocketAddr> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let relay = Self { address, clients: Arc::default(), silent: Arc::default() };
        let (clients, silent) = (Arc::clone(&relay.clients), Arc::clone(&relay.silent));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = clients.fetch_add(1, Ordering::SeqCst);
                let Some(server) = behind().and_then(|server| TcpStream::connect(server).ok()) else {
                    continue;
                };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                for (from, to) in [(from_client, to_server), (server, client)] {
                    let silent = Arc::clone(&silent);
                    thread::spawn(move || pass_on(from, to, || number < silent.load(Ordering::SeqCst)));
                }
            }
        });
        relay
    }
}

/// Until one end hangs up. Where it is silent, neither end is told, and both stay as they are until the tests end.
fn pass_on(mut from: TcpStream, mut to: TcpStream, is_silent: impl Fn() -> bool) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        while is_silent() {
            thread::park();
        }
        let passed = bytes.get(..read).unwrap_or_default();
        if passed.is_empty() || to.write_all(passed).is_err() {
            let _closed = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
