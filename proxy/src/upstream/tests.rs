//! Reaching a server, with servers of every kind.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::tls::testing::Authority;

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// What `secure` makes of a server that answers SSLRequest with `answer`.
async fn answered(answer: &'static [u8], mode: TlsMode) -> Result<bool, ConnectError> {
    let (near, mut far) = tokio::io::duplex(1024);
    let connector = tls::connector(mode, None, None, "server.test")
        .unwrap()
        .unwrap();
    let server = async {
        let mut request = [0; 8];
        far.read_exact(&mut request).await.unwrap();
        far.write_all(answer).await.unwrap();
        drop(far);
    };
    let (outcome, ()) = tokio::join!(secure(near, &connector, mode), server);
    outcome.map(|stream| stream.is_tls())
}

#[tokio::test]
async fn a_refusal_of_tls_is_taken_where_it_may_be() {
    assert!(matches!(answered(b"N", TlsMode::Prefer).await, Ok(false)));
    assert!(matches!(
        answered(b"N", TlsMode::Require).await,
        Err(ConnectError::TlsUnsupported)
    ));
}

#[tokio::test]
async fn bytes_before_the_handshake_are_refused() {
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        assert!(matches!(
            answered(b"SR\0\0\0\x08\0\0\0\0", mode).await,
            Err(ConnectError::EarlyData)
        ));
    }
    assert!(matches!(
        answered(b"NR", TlsMode::Prefer).await,
        Err(ConnectError::TlsAnswer(b'N'))
    ));
}

#[tokio::test]
async fn odd_answers_are_no_answers() {
    assert!(matches!(
        answered(b"EFATAL", TlsMode::Prefer).await,
        Err(ConnectError::TlsErrorAnswer)
    ));
    assert!(matches!(
        answered(b"X", TlsMode::Prefer).await,
        Err(ConnectError::TlsAnswer(b'X'))
    ));
    assert!(matches!(
        answered(b"", TlsMode::Prefer).await,
        Err(ConnectError::Io(_))
    ));
    assert!(matches!(
        answered(b"S", TlsMode::Prefer).await,
        Err(ConnectError::Handshake(_))
    ));
}

#[tokio::test]
async fn prefer_comes_back_without_tls_and_require_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            // An ancient server: it knows no SSLRequest. A plain client says nothing yet.
            let _ = tcp.write_all(b"EFATAL").await;
        }
    };
    let clients = async {
        let prefer = Upstream::at(&address, TlsMode::Prefer, None).unwrap();
        assert!(matches!(
            prefer.connect(later()).await,
            Ok(Stream::Plain(_))
        ));
        let require = Upstream::at(&address, TlsMode::Require, None).unwrap();
        assert!(matches!(
            require.connect(later()).await,
            Err(ConnectError::TlsErrorAnswer)
        ));
    };
    tokio::select! { () = server => {}, () = clients => {} }
}

#[tokio::test]
async fn speaks_tls_with_the_server_it_trusts() {
    let authority = Authority::new("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let upstream = Upstream::at(&address, TlsMode::VerifyFull, Some(&authority.ca_file())).unwrap();
    let server = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_exact(&mut [0; 8]).await.unwrap();
        tcp.write_all(b"S").await.unwrap();
        let acceptor = tls::acceptor(&authority.cert_file(), &authority.key_file(), None).unwrap();
        acceptor.accept(tcp).await.unwrap()
    };
    let (client, _server) = tokio::join!(upstream.connect(later()), server);
    assert!(client.unwrap().is_tls());
}

#[tokio::test]
async fn says_when_nobody_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let upstream = Upstream::at(&address, TlsMode::Disable, None).unwrap();
    let error = upstream.connect(later()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    assert!(
        !error.report().to_string().contains(&address),
        "the client is not told where"
    );
    assert!(matches!(
        upstream.connect(Instant::now()).await,
        Err(ConnectError::TimedOut { .. } | ConnectError::Unreachable { .. })
    ));
}

#[test]
fn reads_addresses() {
    let host_of = |address: &str| {
        Upstream::at(address, TlsMode::Disable, None).map(|upstream| (upstream.host, upstream.port))
    };
    assert_eq!(
        host_of("db.test:5432").unwrap(),
        ("db.test".to_owned(), 5432)
    );
    assert_eq!(host_of("[::1]:6000").unwrap(), ("::1".to_owned(), 6000));
    for wrong in ["db.test", ":5432", "db.test:", "db.test:99999"] {
        assert!(host_of(wrong).is_err(), "{wrong}");
    }
}
