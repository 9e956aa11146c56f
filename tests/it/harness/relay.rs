//! An address that stays the same, whoever stands behind it, and that may fall silent.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
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
    /// For so many milliseconds the server's answers are held back.
    delay: Arc<AtomicU64>,
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

    /// Holds the server's answers back for so long from now on.
    pub(crate) fn delay(&self, time: Duration) {
        self.delay.store(u64::try_from(time.as_millis()).expect("a short time"), Ordering::SeqCst);
    }

    /// Cuts off everybody, also those who come.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(usize::MAX, Ordering::SeqCst);
    }

    fn to(behind: impl Fn() -> Option<SocketAddr> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let relay = Self { address, clients: Arc::default(), silent: Arc::default(), delay: Arc::default() };
        let Self { clients, silent, delay, .. } = &relay;
        let (clients, silent, delay) = (Arc::clone(clients), Arc::clone(silent), Arc::clone(delay));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = clients.fetch_add(1, Ordering::SeqCst);
                let Some(server) = behind().and_then(|server| TcpStream::connect(server).ok()) else {
                    continue;
                };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                let none = Arc::default();
                for (from, to, delay) in [(from_client, to_server, &none), (server, client, &delay)] {
                    let (silent, delay) = (Arc::clone(&silent), Arc::clone(delay));
                    let delay = move || Duration::from_millis(delay.load(Ordering::SeqCst));
                    thread::spawn(move || {
                        pass_on(from, to, || number < silent.load(Ordering::SeqCst), delay);
                    });
                }
            }
        });
        relay
    }
}

/// Until one end hangs up. Where it is silent, neither end is told, and both stay as they are until the tests end.
fn pass_on(
    mut from: TcpStream,
    mut to: TcpStream,
    is_silent: impl Fn() -> bool,
    delay: impl Fn() -> Duration,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        while is_silent() {
            thread::park();
        }
        thread::sleep(delay());
        let passed = bytes.get(..read).unwrap_or_default();
        if passed.is_empty() || to.write_all(passed).is_err() {
            let _closed = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
