//! Logins between a scripted client and a scripted server, over pipes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;
use crate::{
    gate::Gate,
    messages::{
        Authentication, BackendKeyData, ErrorFields, NegotiateProtocolVersion, ParameterStatus,
        ReadyForQuery, Report, TransactionStatus,
    },
    startup::{Entrance, Opening, open, testing},
};

/// One step of a script: what a side waits to receive, or what it sends.
enum Step {
    Hears(Vec<u8>),
    Says(Vec<u8>),
}
use Step::{Hears, Says};

fn hello() -> Vec<u8> {
    testing::startup(&[("user", "ada"), ("database", "app"), ("_pq_.odd", "1")])
}

fn built(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn auth(code: u32, rest: &[u8]) -> Vec<u8> {
    built(|out| Authentication::write(out, code, rest))
}

fn offers(names: &[&str]) -> Vec<u8> {
    built(|out| Authentication::write_sasl(out, names.iter().map(|name| name.as_bytes())))
}

fn password(body: &[u8]) -> Vec<u8> {
    [&b"p"[..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn chooses(mechanism: &str, first: &str) -> Vec<u8> {
    let mut body = [
        mechanism.as_bytes(),
        b"\0",
        &(first.len() as u32).to_be_bytes(),
    ]
    .concat();
    body.extend_from_slice(first.as_bytes());
    password(&body)
}

/// What a server says after AuthenticationOk.
fn ready() -> Vec<u8> {
    built(|out| {
        ParameterStatus {
            name: b"client_encoding",
            value: b"UTF8",
        }
        .write(out)
        .unwrap();
        Report::new(crate::messages::Severity::Warning, "01000", "hello").write(out);
        BackendKeyData {
            pid: 7,
            secret: &[9; 32],
        }
        .write(out);
        ReadyForQuery {
            status: TransactionStatus::Idle,
        }
        .write(out);
    })
}

/// Plays a script; what it does not hear, the test does not wait for.
async fn play(mut io: DuplexStream, script: Vec<Step>) -> DuplexStream {
    for step in script {
        match step {
            // A peer that has hung up by now is one of the outcomes that are looked at.
            Says(bytes) => drop(io.write_all(&bytes).await),
            Hears(bytes) => {
                let mut heard = vec![0; bytes.len()];
                io.read_exact(&mut heard).await.unwrap();
                assert_eq!(
                    String::from_utf8_lossy(&heard),
                    String::from_utf8_lossy(&bytes)
                );
            }
        }
    }
    io
}

/// The outcome, and what the client received behind its script.
async fn run(
    client_script: Vec<Step>,
    server_script: Vec<Step>,
) -> (
    Result<Established<DuplexStream, DuplexStream>, LoginError>,
    Vec<u8>,
) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let (near_client, mut far_client) = tokio::io::duplex(64);
    let (near_server, far_server) = tokio::io::duplex(64);
    let proxy = async {
        let opening = open(near_client, &Entrance::default(), None, deadline)
            .await
            .unwrap();
        let Opening::Session(client) = opening else {
            panic!("{opening:?}")
        };
        let gate = Gate::relaying();
        let mut outcome = login(client, Stream::Plain(near_server), &gate, deadline).await;
        if let Ok(established) = &mut outcome {
            // So that the client sees an end behind what it received.
            established.client.shutdown().await.unwrap();
        }
        outcome
    };
    let client = async {
        far_client.write_all(&hello()).await.unwrap();
        let mut io = play(far_client, client_script).await;
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let server = async {
        let mut io = far_server;
        let mut heard = vec![0; hello().len()];
        io.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, hello(), "the startup message goes on verbatim");
        play(io, server_script).await
    };
    let (outcome, rest, _server) = tokio::join!(proxy, client, server);
    (outcome, rest)
}

fn sqlstate(received: &[u8]) -> String {
    assert_eq!(received.first(), Some(&b'E'), "{received:?}");
    let fields = ErrorFields::read(&received[5..]).unwrap();
    assert_eq!(fields.get(b'V'), Some(&b"FATAL"[..]));
    String::from_utf8(fields.get(b'C').unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn trust_goes_straight_to_the_session() {
    let said = [auth(0, b""), ready()].concat();
    let early = b"Q\0\0\0\x0dselect 1\0".to_vec();
    let client = vec![Says(early.clone()), Hears(said.clone())];
    let (outcome, _) = run(client, vec![Says(said)]).await;
    let established = outcome.unwrap();
    assert_eq!(established.parameters.text("client_encoding"), Some("UTF8"));
    assert_eq!(
        established.key,
        Some(BackendKey {
            pid: 7,
            secret: vec![9; 32]
        })
    );
    assert_eq!(
        (established.startup.user(), established.minor_version),
        (&b"ada"[..], 0)
    );
    assert_eq!(
        established.client_early, early,
        "what was sent early is kept for the session"
    );
}

#[tokio::test]
async fn passwords_are_handed_on() {
    for step in [auth(3, b""), auth(5, b"salt")] {
        let answer = password(b"md5f00\0");
        let end = [auth(0, b""), ready()].concat();
        let client = vec![
            Hears(step.clone()),
            Says(answer.clone()),
            Hears(end.clone()),
        ];
        let (outcome, _) = run(client, vec![Says(step), Hears(answer), Says(end)]).await;
        assert!(outcome.is_ok());
    }
}

#[tokio::test]
async fn scram_is_handed_on_without_its_binding_twin() {
    let first = chooses("SCRAM-SHA-256", "n,,n=,r=abc");
    let (challenge, proof) = (
        auth(11, b"r=abcdef,s=c2FsdA==,i=4096"),
        password(b"c=biws,r=abcdef,p=AAAA"),
    );
    let end = [auth(12, b"v=BBBB"), auth(0, b""), ready()].concat();
    let client = vec![
        Hears(offers(&["SCRAM-SHA-256"])),
        Says(first.clone()),
        Hears(challenge.clone()),
        Says(proof.clone()),
        Hears(end.clone()),
    ];
    let server = vec![
        Says(offers(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        Hears(first),
        Says(challenge),
        Hears(proof),
        Says(end),
    ];
    assert!(run(client, server).await.0.is_ok());
}

#[tokio::test]
async fn a_client_that_would_have_bound_is_refused_with_a_cure() {
    for answers in [
        vec![chooses("SCRAM-SHA-256", "y,,n=,r=abc")],
        vec![chooses(
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point,,n=,r=abc",
        )],
    ] {
        let mut client = vec![Hears(offers(&["SCRAM-SHA-256"]))];
        client.extend(answers.into_iter().map(Says));
        let (outcome, rest) = run(
            client,
            vec![Says(offers(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]))],
        )
        .await;
        assert!(
            matches!(outcome, Err(LoginError::BindingLost)),
            "{outcome:?}"
        );
        assert_eq!(sqlstate(&rest), "28000");
        assert!(String::from_utf8_lossy(&rest).contains("channel_binding=disable"));
    }
}

#[tokio::test]
async fn the_binding_flag_is_found_in_a_late_first_message_too() {
    let late = password(b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    let client = vec![
        Hears(offers(&["SCRAM-SHA-256"])),
        Says(late.clone()),
        Hears(auth(11, b"")),
        Says(password(b"y,,n=,r=abc")),
    ];
    let server = vec![
        Says(offers(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        Hears(late),
        Says(auth(11, b"")),
    ];
    let (outcome, _) = run(client, server).await;
    assert!(
        matches!(outcome, Err(LoginError::BindingLost)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_client_over_tls_may_say_y_to_a_server_that_offers_no_binding() {
    let first = chooses("SCRAM-SHA-256", "y,,n=,r=abc");
    let end = [auth(0, b""), ready()].concat();
    let offer = offers(&["SCRAM-SHA-256"]);
    let client = vec![
        Hears(offer.clone()),
        Says(first.clone()),
        Hears(end.clone()),
    ];
    assert!(
        run(client, vec![Says(offer), Hears(first), Says(end)])
            .await
            .0
            .is_ok()
    );
}

#[tokio::test]
async fn what_cannot_be_relayed_is_refused() {
    for (step, anchor) in [
        (auth(7, b""), "authentication-not-relayed"),
        (auth(9, b""), "authentication-not-relayed"),
        (auth(2, b""), "authentication-not-relayed"),
        (auth(99, b"x"), "authentication-not-relayed"),
        (
            offers(&["SCRAM-SHA-256-PLUS"]),
            "channel-binding-not-relayed",
        ),
    ] {
        let (outcome, rest) = run(vec![], vec![Says(step)]).await;
        assert_eq!(outcome.unwrap_err().anchor(), Some(anchor));
        assert_eq!(sqlstate(&rest), "28000");
    }
}

#[tokio::test]
async fn the_servers_refusal_is_handed_on_and_ends_it() {
    let refusal = built(|out| Report::fatal("28P01", "password authentication failed").write(out));
    let (outcome, rest) = run(vec![], vec![Says([refusal.clone(), ready()].concat())]).await;
    assert!(matches!(outcome, Err(LoginError::Rejected)));
    assert_eq!(rest, refusal, "nothing of what follows it");
}

#[tokio::test]
async fn a_counter_offer_of_the_version_is_handed_on() {
    let offer = built(|out| NegotiateProtocolVersion::write(out, 3 << 16, vec!["_pq_.odd".into()]));
    let said = [offer, auth(0, b""), ready()].concat();
    let (outcome, _) = run(vec![Hears(said.clone())], vec![Says(said)]).await;
    assert_eq!(outcome.unwrap().minor_version, 0);
}

#[tokio::test]
async fn only_a_password_answers_a_question() {
    let (outcome, rest) = run(
        vec![Hears(auth(3, b"")), Says(b"Q\0\0\0\x04".to_vec())],
        vec![Says(auth(3, b""))],
    )
    .await;
    assert!(matches!(
        outcome,
        Err(LoginError::Frame(FrameError::UnknownTag { .. }))
    ));
    assert_eq!(sqlstate(&rest), "08P01");
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_not_followed() {
    for said in [
        ready(),
        built(|out| {
            ReadyForQuery {
                status: TransactionStatus::Idle,
            }
            .write(out);
        }),
        [auth(0, b""), auth(0, b"")].concat(),
        auth(5, b"sal"),
        b"D\0\0\0\x06\0\0".to_vec(),
        b"?\0\0\0\x04".to_vec(),
        b"N\x7f\0\0\0".to_vec(),
    ] {
        let (outcome, rest) = run(vec![], vec![Says(said.clone())]).await;
        assert!(outcome.is_err(), "{said:?}");
        let error_at = rest
            .windows(5)
            .position(|bytes| bytes[0] == b'E' && bytes[1] == 0)
            .unwrap();
        assert_eq!(sqlstate(&rest[error_at..]), "08P01");
    }
}

#[tokio::test]
async fn time_runs_out() {
    let (near, _far) = tokio::io::duplex(64);
    let (client, mut far_client) = tokio::io::duplex(1024);
    far_client.write_all(&hello()).await.unwrap();
    let later = Instant::now() + Duration::from_mins(1);
    let Ok(Opening::Session(client)) = open(client, &Entrance::default(), None, later).await else {
        panic!()
    };
    let outcome = login(
        client,
        Stream::Plain(near),
        &Gate::relaying(),
        Instant::now(),
    )
    .await;
    assert!(matches!(outcome, Err(LoginError::TimedOut)));
    let mut rest = Vec::new();
    far_client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(sqlstate(&rest), "57014");
}
