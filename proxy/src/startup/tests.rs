//! A client's opening, byte by byte, over pipes.

use std::time::Duration;

use pgveil_config::TlsMode;
use tokio::io::DuplexStream;

use super::{
    testing::{cancel_request, gssenc_request, packet, ssl_request, startup},
    *,
};
use crate::{
    messages::ErrorFields,
    tls::{self, testing::Authority},
};

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn with_tls(required: bool) -> Entrance {
    let authority = Authority::new("server.test");
    let tls = tls::acceptor(&authority.cert_file(), &authority.key_file(), None).unwrap();
    Entrance {
        tls: Some(tls),
        tls_required: required,
    }
}

/// The outcome and everything the client received when it sends `bytes` at once and waits.
async fn send(
    entrance: &Entrance,
    bytes: &[u8],
) -> (Result<Opening<DuplexStream>, StartupError>, Vec<u8>) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    far.write_all(bytes).await.unwrap();
    let from = Some(IpAddr::from([192, 0, 2, 7]));
    let outcome = async {
        let mut outcome = open(near, entrance, from, later()).await;
        if let Ok(Opening::Session(Client { stream, .. }) | Opening::Cancel { stream, .. }) =
            &mut outcome
        {
            stream.shutdown().await.unwrap();
        }
        outcome
    };
    let mut received = Vec::new();
    let client = async {
        // What the client would still write matters to no test; that it closes does.
        far.shutdown().await.unwrap();
        far.read_to_end(&mut received).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(outcome, client);
    (outcome, received)
}

/// The SQLSTATE of an ErrorResponse that is the last thing in `received`.
fn sqlstate(received: &[u8]) -> String {
    assert_eq!(received[0], b'E');
    String::from_utf8(
        ErrorFields::read(&received[5..])
            .unwrap()
            .get(b'C')
            .unwrap()
            .to_vec(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_at_once_is_no_error() {
    for bytes in [vec![], ssl_request(), gssenc_request()] {
        let (outcome, _) = send(&Entrance::default(), &bytes).await;
        assert!(matches!(outcome, Ok(Opening::Nothing)));
    }
    let (outcome, received) = send(&Entrance::default(), b"\0\0\0\x20\0\x03").await;
    assert!(matches!(outcome, Err(StartupError::Incomplete)) && received.is_empty());
}

#[tokio::test]
async fn a_plain_client_is_taken_with_what_it_sent_early() {
    let hello = startup(&[("user", "ada")]);
    let (outcome, received) = send(&Entrance::default(), &[&hello[..], b"Q\0\0"].concat()).await;
    let Ok(Opening::Session(client)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (client.startup.raw(), &client.early[..], &received[..]),
        (&hello[..], &b"Q\0\0"[..], &b""[..])
    );
    assert!(!client.stream.is_tls());
}

#[tokio::test]
async fn requests_for_encryption_are_refused_once_each_in_any_order() {
    let hello = startup(&[("user", "ada")]);
    for requests in [
        [gssenc_request(), ssl_request()],
        [ssl_request(), gssenc_request()],
    ] {
        let (outcome, received) = send(
            &Entrance::default(),
            &[requests.concat(), hello.clone()].concat(),
        )
        .await;
        assert!(matches!(outcome, Ok(Opening::Session(_))));
        assert_eq!(received, b"NN");
    }
    for request in [ssl_request(), gssenc_request()] {
        let (outcome, received) =
            send(&Entrance::default(), &[request.clone(), request].concat()).await;
        assert!(matches!(
            outcome,
            Err(StartupError::Packet(PacketError::Version(_)))
        ));
        assert_eq!(sqlstate(&received[1..]), "0A000");
    }
}

#[tokio::test]
async fn bytes_before_the_handshake_are_refused() {
    let injected = [ssl_request(), startup(&[("user", "mallory")])].concat();
    let (outcome, received) = send(&with_tls(false), &injected).await;
    assert!(matches!(outcome, Err(StartupError::EarlyData)));
    assert_eq!(sqlstate(&received), "08P01");
}

#[tokio::test]
async fn a_plain_session_is_refused_where_tls_is_required() {
    let (outcome, received) = send(
        &with_tls(true),
        &startup(&[("user", "ada"), ("database", "app")]),
    )
    .await;
    let Err(StartupError::TlsRequired { message }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        message,
        "no pg_hba.conf entry for host \"192.0.2.7\", user \"ada\", database \"app\", no encryption"
    );
    assert_eq!(sqlstate(&received), "28000");
}

#[tokio::test]
async fn a_cancel_request_is_taken_without_a_word() {
    for key in [&[1; 4][..], &[1; 256]] {
        let raw = cancel_request(key);
        let (outcome, received) = send(&with_tls(true), &raw).await;
        let Ok(Opening::Cancel { request, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(request.raw() == raw && received.is_empty());
    }
}

#[tokio::test]
async fn garbage_is_closed_as_postgres_closes_it() {
    for (bytes, answered) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        (packet(3 << 16, b"user"), true),
        (packet(2 << 16, b""), true),
        (b"\x16\x03\x01".to_vec(), false),
    ] {
        let (outcome, received) = send(&Entrance::default(), &bytes).await;
        assert!(outcome.is_err());
        assert_eq!(received.starts_with(b"E"), answered);
    }
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for() {
    let (near, _far) = tokio::io::duplex(16);
    let outcome = open(near, &Entrance::default(), None, Instant::now()).await;
    assert!(matches!(outcome, Err(StartupError::TimedOut)));
}

/// A client that speaks TLS, directly or after asking, and then sends a startup message and `Q`.
async fn over_tls(
    entrance: &Entrance,
    direct: bool,
    alpn: &[&[u8]],
) -> Result<Opening<DuplexStream>, StartupError> {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let connector = tls::connector(TlsMode::Require, None, None, "server.test")
        .unwrap()
        .unwrap();
    let client = async {
        if !direct {
            far.write_all(&ssl_request()).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), b'S');
        }
        let protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let connect = connector
            .tls
            .with_alpn(protocols)
            .connect(connector.name, far);
        if let Ok(mut tls) = connect.await {
            let _ = tls
                .write_all(&[startup(&[("user", "ada")]), b"Q".to_vec()].concat())
                .await;
            let _ = tls.read_to_end(&mut Vec::new()).await;
        }
    };
    let server = async {
        let outcome = open(near, entrance, None, later()).await;
        if let Ok(Opening::Session(client)) = outcome {
            assert!(client.stream.is_tls() && client.startup.user() == b"ada");
            return Ok(Opening::Nothing);
        }
        outcome
    };
    tokio::join!(server, client).0
}

#[tokio::test]
async fn tls_is_spoken_after_a_request_or_at_once() {
    assert!(over_tls(&with_tls(true), false, &[ALPN]).await.is_ok());
    assert!(over_tls(&with_tls(true), false, &[]).await.is_ok());
    assert!(over_tls(&with_tls(true), true, &[ALPN]).await.is_ok());
    assert!(
        over_tls(&with_tls(true), true, &[b"h2", ALPN])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn direct_tls_needs_alpn_and_a_certificate() {
    assert!(matches!(
        over_tls(&with_tls(false), true, &[]).await,
        Err(StartupError::AlpnMissing)
    ));
    assert!(matches!(
        over_tls(&Entrance::default(), true, &[ALPN]).await,
        Err(StartupError::DirectTlsUnsupported)
    ));
}

#[tokio::test]
async fn another_protocol_is_refused_within_the_handshake() {
    for direct in [true, false] {
        let outcome = over_tls(&with_tls(false), direct, &[b"http/1.1"]).await;
        assert!(matches!(outcome, Err(StartupError::Handshake(_))));
    }
}

#[tokio::test]
async fn a_broken_handshake_ends_it() {
    let (outcome, _) = send(&with_tls(false), b"\x16\x03\x01\x00\x05hello").await;
    assert!(matches!(outcome, Err(StartupError::Handshake(_))));
}

#[tokio::test]
async fn a_client_of_protocol_2_is_answered_in_its_own_terms() {
    let (_, received) = send(&Entrance::default(), &packet(2 << 16, b"")).await;
    let expected = b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.2\n\0";
    assert_eq!(received, expected);
}
