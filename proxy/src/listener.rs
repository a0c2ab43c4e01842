//! Where clients connect: TCP addresses and Unix sockets. It accepts; what comes of it is the server's.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::stream::Socket;

/// What begins the address of a Unix socket.
pub const UNIX: &str = "unix:";

/// One place to connect to.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A file, which is removed in the end.
    Unix(UnixListener, SocketFile),
}

/// The file of a socket. Dropping it removes it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A connection that belongs to no event loop yet.
#[derive(Debug)]
pub enum Arrived {
    /// By TCP.
    Tcp(std::net::TcpStream, IpAddr),
    /// By a Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Arrived {
    /// The connection, on the event loop that asks, and where it comes from.
    pub fn adopt(self) -> io::Result<(Socket, Option<IpAddr>)> {
        Ok(match self {
            Self::Tcp(tcp, from) => (Socket::Tcp(TcpStream::from_std(tcp)?), Some(from)),
            Self::Unix(unix) => (Socket::Unix(UnixStream::from_std(unix)?), None),
        })
    }
}

impl Listener {
    /// Listens at each of the places that `listen` names, with commas between them.
    ///
    /// # Errors
    /// The place where it cannot, and why.
    pub async fn bind_all(listen: &str) -> Result<Vec<Self>, (String, io::Error)> {
        let mut all = Vec::new();
        for place in listen.split(',').map(str::trim) {
            let bound = match place.strip_prefix(UNIX) {
                Some(path) => Self::bind_unix(Path::new(path)),
                None => TcpListener::bind(place).await.map(Self::Tcp),
            };
            all.push(bound.map_err(|error| (place.to_owned(), error))?);
        }
        Ok(all)
    }

    fn bind_unix(path: &Path) -> io::Result<Self> {
        // The file of a proxy that was killed is still there; one that somebody listens on is not taken away.
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
    }

    /// Where it listens, for people.
    pub fn name(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(tcp) => tcp.local_addr()?.to_string(),
            Self::Unix(_, path) => format!("{UNIX}{}", path.0.display()),
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Arrived> {
        match self {
            Self::Tcp(tcp) => {
                let (tcp, from) = tcp.accept().await?;
                Ok(Arrived::Tcp(tcp.into_std()?, from.ip()))
            }
            Self::Unix(unix, _) => Ok(Arrived::Unix(unix.accept().await?.0.into_std()?)),
        }
    }
}
