//! A server that says what a test wants it to say, over HTTP/1.1 with or without TLS: where a key manager has no emulator,
//! and for faults that emulators do not make.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request, whole.
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What is said to it.
pub(crate) enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Nothing, and the connection stays.
    Hang,
    /// Nothing, and the connection ends.
    Close,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        let kind = ("content-type".to_owned(), "application/json".to_owned());
        Self::Answer(status, vec![kind], body.to_string().into_bytes())
    }
}

type Answers = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server; it ends when this is dropped.
pub(crate) struct Fault {
    /// `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Under TLS, the root that signed its certificate.
    pub(crate) ca_file: PathBuf,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fault {
    pub(crate) async fn plain(
        answers: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start(Arc::new(answers), None).await
    }

    pub(crate) async fn tls(
        answers: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let tls = (TlsAcceptor::from(Arc::new(config)), made.cert.pem());
        Self::start(Arc::new(answers), Some(tls)).await
    }

    async fn start(answers: Arc<Answers>, tls: Option<(TlsAcceptor, String)>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ca_file = dir.path().join("ca.crt");
        let (acceptor, pem) = tls.unzip();
        std::fs::write(&ca_file, pem.unwrap_or_default())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answers, acceptor) = (Arc::clone(&answers), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(socket, answers).await,
                        Some(acceptor) => match acceptor.accept(socket).await {
                            Ok(stream) => serve(stream, answers).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Ok(Self {
            address,
            ca_file,
            task,
            _dir: dir,
        })
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Arc<Answers>,
) -> Result<()> {
    while let Some(request) = read(&mut stream).await? {
        let answers = Arc::clone(&answers);
        // An answer may be waited for elsewhere.
        let reply = tokio::task::spawn_blocking(move || answers(&request)).await?;
        match reply {
            Reply::Close => return Ok(()),
            Reply::Hang => std::future::pending().await,
            Reply::Answer(status, headers, body) => {
                let mut head = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n",
                    body.len()
                );
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += "\r\n";
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body).await?;
                stream.flush().await?;
            }
        }
    }
    Ok(())
}

/// `None` at the end of the connection.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let path = first.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = request.header("content-length").unwrap_or("0").parse()?;
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

/// Asks another server (`http://HOST:PORT`) the same and answers what it says.
pub(crate) fn forward(address: &str, request: &Request) -> Result<Reply> {
    let place = address.strip_prefix("http://").context("plain HTTP only")?;
    let mut stream = TcpStream::connect(place)?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("connection") {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head += "connection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(&request.body)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    let end = said.windows(4).position(|part| part == b"\r\n\r\n");
    let end = end.context("an answer has a head")?;
    let head = String::from_utf8(said[..end].to_vec())?;
    let status = head.split(' ').nth(1).context("an answer has a status")?;
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked {
        without_chunks(&said[end + 4..])?
    } else {
        said[end + 4..].to_vec()
    };
    let kept = ["content-type", "x-amzn-errortype"];
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let headers = headers.filter(|(name, _)| kept.contains(&name.to_lowercase().as_str()));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Ok(Reply::Answer(status.parse()?, headers.collect(), body))
}

fn without_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|part| part == b"\r\n");
        let end = end.context("a chunk has a length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if length == 0 {
            return Ok(body);
        }
        let chunk = rest
            .get(end + 2..end + 2 + length)
            .context("a whole chunk")?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + length..).context("an end of a chunk")?;
    }
}
