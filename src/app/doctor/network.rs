//! Whether the addresses are free, or a server that is well has them.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::Findings;
use crate::config::Checked;

/// How long a server is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes.
const ANSWER: u64 = 1024 * 1024;

/// The metric by which a server of this kind is known.
const OURS: &str = "superserve_build_info";

pub(super) async fn look_at(config: &Checked, findings: &mut Findings) {
    let (listen, ops) = (config.sockets.listen, config.sockets.ops_listen);
    let is_ours = ask(ops, "/metrics").await.is_ok_and(|answer| answer.contains(OURS));
    for (check, setting, address) in [("listen", "--listen", listen), ("ops-listen", "--ops-listen", ops)] {
        match TcpListener::bind(address).await {
            Ok(_free) => findings.fine(check, format!("{address} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_ours => {
                findings.fine(check, format!("{address} is taken, and a server of this kind runs"));
            }
            Err(error) => findings.problem(check, format!("cannot listen on {address} ({setting}): {error}")),
        }
    }
    if !is_ours {
        return;
    }
    match ask(ops, "/readyz").await {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
            findings.fine("server", format!("the one at {ops} is ready"));
        }
        Ok(answer) => {
            let why = answer.lines().last().unwrap_or_default();
            findings.problem("server", format!("the one at {ops} is {why}"));
        }
        Err(error) => findings.problem("server", format!("the one at {ops} does not answer: {error}")),
    }
}

/// What the server at the operator's address answers, as it is.
async fn ask(ops: SocketAddr, path: &str) -> io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(ops).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {ops}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, asked).await?
}
