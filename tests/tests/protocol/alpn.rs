//! The protocol that a client names within its TLS handshake: judged as PostgreSQL 17 judges it, where that is the server.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::{Options, TempPostgres},
    site::Site,
    wire::{PROTOCOL_3_0, startup},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::papers::{Papers, offer_tls_to_clients};

const SSL_REQUEST: u32 = 80_877_103;

/// What becomes of a client that names these protocols.
async fn outcome(port: u16, papers: &Papers, direct: bool, names: &[&str]) -> Result<&'static str> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&papers.ca_file)?)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    if !direct {
        tcp.write_all(&startup(SSL_REQUEST, &[])).await?;
        ensure!(tcp.read_u8().await? == b'S');
    }
    let name = ServerName::try_from("127.0.0.1").context("a name")?;
    let Ok(mut tls) = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
    else {
        return Ok("refused in the handshake");
    };
    let opening = startup(PROTOCOL_3_0, &[("user", "app"), ("database", "postgres")]);
    let greeted = match tls.write_all(&opening).await {
        Ok(()) => tls.read_u8().await,
        Err(error) => Err(error),
    };
    Ok(match greeted {
        Ok(b'R') => "taken",
        _ => "closed",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_protocol_is_not_taken_for_one_of_postgres() -> Result<()> {
    let papers = Papers::new()?;
    let server = TempPostgres::start(&Options::default().tls(papers.certificate.clone()))?;
    let database = server.database()?;
    let mut site = Site::new(&database, "")?;
    offer_tls_to_clients(&mut site, &papers)?;
    site.apply()?;
    let proxy = site.serve()?;
    let release: u32 = database.admin("SHOW server_version_num")?.parse()?;
    for (direct, names, wanted) in [
        (false, &[][..], "taken"),
        (false, &["postgresql"], "taken"),
        (false, &["http/1.1"], "refused in the handshake"),
        (true, &["postgresql"], "taken"),
        (true, &["http/1.1", "postgresql"], "taken"),
        (true, &[], "closed"),
        (true, &["http/1.1"], "refused in the handshake"),
    ] {
        let said = outcome(proxy.port(), &papers, direct, names).await?;
        ensure!(said == wanted, "{direct} {names:?}: {said}");
        // Releases before know neither.
        if release >= 170_000 {
            let server_said = outcome(server.port(), &papers, direct, names).await?;
            ensure!(server_said == wanted, "{direct} {names:?}: {server_said}");
        }
    }
    Ok(())
}
