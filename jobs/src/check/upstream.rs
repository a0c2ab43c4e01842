//! The way to Postgres: does somebody listen, and does he speak TLS as configured. Nobody logs in.

use std::{io, time::Duration};

use pgveil_config::{Diagnostic, Settings, TlsMode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::CheckReport;

/// SSLRequest: length 8, code 80877103 (PostgreSQL documentation, Message Formats).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
/// Longest wait for one byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects and asks for TLS, then goes away.
pub(super) async fn check(settings: &Settings, report: &mut CheckReport) {
    let upstream = &settings.upstream;
    let on_socket = upstream.address.starts_with("unix:");
    let needs_tls = !on_socket && !matches!(upstream.tls, TlsMode::Disable | TlsMode::Prefer);
    let (message, cure) = match timeout(
        upstream.connect_timeout.saturating_add(ANSWER_TIMEOUT),
        ask(&upstream.address),
    )
    .await
    {
        Ok(Ok(b'S')) => return,
        Ok(Ok(b'N')) if !needs_tls => return,
        Ok(Ok(b'N')) => (
            format!(
                "{} does not offer TLS, and [upstream] tls asks for it",
                upstream.address
            ),
            "set `ssl = on` in the server's postgresql.conf, or another `tls` in pgveil.toml",
        ),
        Ok(Ok(_)) => (
            format!("{} does not answer as PostgreSQL does", upstream.address),
            "correct [upstream] address: HOST:PORT of the PostgreSQL server",
        ),
        Ok(Err(error)) => (
            format!("cannot reach PostgreSQL at {}: {error}", upstream.address),
            "start the server, or correct [upstream] address",
        ),
        Err(_) => (
            format!("no answer from {} in time", upstream.address),
            "see that no firewall drops the connection, or correct [upstream] address",
        ),
    };
    report.error(Diagnostic {
        at: upstream.at.clone(),
        message,
        cure: cure.to_owned(),
    });
}

async fn ask(address: &str) -> io::Result<u8> {
    if let Some(path) = address.strip_prefix("unix:") {
        return ask_on(UnixStream::connect(path).await?).await;
    }
    ask_on(TcpStream::connect(address).await?).await
}

async fn ask_on(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<u8> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}
