//! The first bytes of a connection: versions, options, and the requests that may come before.

use anyhow::{Result, ensure};
use pgveil_tests::{
    psql::Target,
    wire::{Message, PROTOCOL_3_0, Wire, describe, startup},
};

use crate::twin;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What a server says to a startup message, up to the first ReadyForQuery or its end. Values that differ from backend
/// to backend (keys) are not printed.
fn greeting(target: &Target, code: u32, extra: &[(&str, &str)]) -> Result<String> {
    let mut wire = Wire::open(target.port)?;
    let mut parameters = vec![
        ("user", target.role.as_str()),
        ("database", target.database.as_str()),
    ];
    parameters.extend_from_slice(extra);
    wire.send_raw(&startup(code, &parameters))?;
    let mut lines = Vec::new();
    loop {
        let Ok(reply) = wire.receive() else { break };
        lines.push(describe(&reply));
        if reply.tag == b'Z' {
            break;
        }
    }
    Ok(lines.join("\n"))
}

fn greeted_alike(code: u32, extra: &[(&str, &str)]) -> Result<String> {
    let twin = twin()?;
    let mut direct = twin.plain.target("app");
    // Both name the same database, so that error messages agree too.
    direct.database = twin.veiled.name().to_owned();
    let (direct, veiled) = (
        greeting(&direct, code, extra)?,
        greeting(&twin.proxy.target("app"), code, extra)?,
    );
    ensure!(
        direct == veiled,
        "directly:\n{direct}\n\nthrough pgveil:\n{veiled}"
    );
    Ok(veiled)
}

#[test]
fn every_protocol_version_is_negotiated_by_the_server() -> Result<()> {
    for code in [PROTOCOL_3_0, 0x0003_0001, 0x0003_0002, 0x0003_270f] {
        ensure!(greeted_alike(code, &[])?.ends_with("ReadyForQuery I"));
    }
    greeted_alike(PROTOCOL_3_0, &[("_pq_.unheard_of", "1")])?;
    greeted_alike(0x0003_0002, &[("_pq_.grease", "1")]).map(drop)
}

#[test]
fn versions_that_are_none_are_refused_alike() -> Result<()> {
    let twin = twin()?;
    for code in [0x0002_0000, 0x0004_0000, 0x0001_0000] {
        // In the form of version 2, which is not framed.
        let said = |port: u16| -> Result<String> {
            let mut wire = Wire::open(port)?;
            wire.send_raw(&startup(
                code,
                &[("user", "app"), ("database", twin.veiled.name())],
            ))?;
            Ok(String::from_utf8_lossy(&wire.rest()).into_owned())
        };
        let (direct, veiled) = (said(twin.plain.server().port())?, said(twin.proxy.port())?);
        // Which versions are supported is for whoever answers to say, and from where in its source.
        let head = |said: &str| {
            said.find("unsupported")
                .map(|at| said[at..].split(':').next().unwrap_or_default().to_owned())
        };
        ensure!(
            head(&direct) == head(&veiled),
            "directly:\n{direct:?}\n\nthrough pgveil:\n{veiled:?}"
        );
        ensure!(
            veiled.contains("unsupported frontend protocol"),
            "{veiled:?}"
        );
    }
    Ok(())
}

#[test]
fn startup_parameters_reach_the_server() -> Result<()> {
    ensure!(
        greeted_alike(PROTOCOL_3_0, &[("application_name", "my app")])?
            .contains("application_name=my app")
    );
    greeted_alike(
        PROTOCOL_3_0,
        &[("options", "-c TimeZone=Asia/Tokyo -c extra_float_digits=0")],
    )?;
    greeted_alike(PROTOCOL_3_0, &[("client_encoding", "LATIN1")])?;
    ensure!(greeted_alike(PROTOCOL_3_0, &[("no_such_setting", "1")])?.contains("42704"));
    ensure!(greeted_alike(PROTOCOL_3_0, &[("options", "-c nonsense=")])?.contains("ErrorResponse"));
    Ok(())
}

#[test]
fn an_unknown_database_or_role_is_the_servers_error() -> Result<()> {
    let twin = twin()?;
    for (database, role) in [("no_such_database", "app"), ("postgres", "no_such_role")] {
        let side = |port: u16, target: Target| {
            let target = Target {
                port,
                database: database.to_owned(),
                role: role.to_owned(),
                ..target
            };
            greeting(&target, PROTOCOL_3_0, &[])
        };
        let direct = side(twin.plain.server().port(), twin.plain.target("app"))?;
        let veiled = side(twin.proxy.port(), twin.proxy.target("app"))?;
        ensure!(
            direct == veiled,
            "directly:\n{direct}\n\nthrough pgveil:\n{veiled}"
        );
    }
    Ok(())
}

#[test]
fn a_database_without_protected_tables_is_relayed() -> Result<()> {
    let twin = twin()?;
    let target = Target {
        database: "postgres".to_owned(),
        ..twin.proxy.target("app")
    };
    ensure!(target.psql("SELECT current_database()")? == "postgres");
    Ok(())
}

#[test]
fn requests_for_encryption_are_answered_no_and_the_connection_goes_on() -> Result<()> {
    let target = twin()?.proxy.target("app");
    for requests in [
        &[SSL_REQUEST][..],
        &[GSSENC_REQUEST],
        &[GSSENC_REQUEST, SSL_REQUEST],
        &[SSL_REQUEST, GSSENC_REQUEST],
    ] {
        let mut wire = Wire::open(target.port)?;
        for request in requests {
            wire.send_raw(&startup(*request, &[]))?;
            ensure!(wire.receive_byte()? == Some(b'N'));
        }
        wire.send_raw(&startup(
            PROTOCOL_3_0,
            &[("user", "app"), ("database", &target.database)],
        ))?;
        wire.until_ready(1)?;
        wire.query("SELECT 1")?;
    }
    Ok(())
}

#[test]
fn a_connection_that_says_nothing_harms_nobody() -> Result<()> {
    let target = twin()?.proxy.target("app");
    for _ in 0..20 {
        drop(Wire::open(target.port)?);
    }
    let mut half = Wire::open(target.port)?;
    half.send_raw(&[0, 0])?;
    drop(half);
    let mut wire = Wire::connect(&target)?;
    ensure!(
        wire.exchange(&[Message::query("SELECT 1")], 1)?
            .contains("DataRow")
    );
    Ok(())
}
