//! A connected byte stream, over IP or a unix-domain socket.

use super::line_meter::LineMeter;
use super::secure::{Agreed, Secure, Socket};
use super::tcp_info;
use crate::decision::plan::Address;
use socket2::SockRef;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connected stream of the worker that made or accepted it.
#[derive(Debug)]
pub enum Stream {
    /// TCP, and the meter of its line.
    Tcp(TcpStream, Option<Arc<LineMeter>>),
    /// Unix-domain.
    Unix(UnixStream),
    /// TCP under TLS.
    Tls(Box<Secure>),
}

/// One half of a [`Stream`], for reading.
#[derive(Debug)]
pub enum Reader<'a> {
    /// TCP.
    Tcp(tokio::net::tcp::ReadHalf<'a>, Option<&'a LineMeter>),
    /// Unix-domain.
    Unix(tokio::net::unix::ReadHalf<'a>),
    /// TCP under TLS.
    Tls(&'a Secure),
}

/// One half of a [`Stream`], for writing.
#[derive(Debug)]
pub enum Writer<'a> {
    /// TCP.
    Tcp(tokio::net::tcp::WriteHalf<'a>, Option<&'a LineMeter>),
    /// Unix-domain.
    Unix(tokio::net::unix::WriteHalf<'a>),
    /// TCP under TLS.
    Tls(&'a Secure),
}

impl Stream {
    /// Opens a connection.
    ///
    /// # Errors
    /// The socket's error.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Ip(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, None))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    }

    /// Adopts an accepted, non-blocking socket into this thread's runtime.
    ///
    /// # Errors
    /// When the socket cannot be registered.
    pub fn adopt(socket: socket2::Socket) -> io::Result<Stream> {
        if socket.domain()? == socket2::Domain::UNIX {
            return UnixStream::from_std(socket.into()).map(Stream::Unix);
        }
        socket.set_tcp_nodelay(true)?;
        TcpStream::from_std(socket.into()).map(|stream| Stream::Tcp(stream, None))
    }

    /// The stream with this meter of its bytes on the wire, before TLS; a unix-domain socket has no wire.
    #[must_use]
    pub fn metered(self, meter: Arc<LineMeter>) -> Stream {
        match self {
            Stream::Tcp(stream, _) => Stream::Tcp(stream, Some(meter)),
            Stream::Unix(_) | Stream::Tls(_) => self,
        }
    }

    /// Both halves, for concurrent use.
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Stream::Tcp(stream, meter) => {
                let ((reader, writer), meter) = (stream.split(), meter.as_deref());
                (Reader::Tcp(reader, meter), Writer::Tcp(writer, meter))
            }
            Stream::Unix(stream) => {
                let (reader, writer) = stream.split();
                (Reader::Unix(reader), Writer::Unix(writer))
            }
            Stream::Tls(secure) => (Reader::Tls(secure), Writer::Tls(secure)),
        }
    }

    /// Starts TLS on the stream by a handshake.
    ///
    /// # Errors
    /// The handshake's error, or that the stream is not TCP.
    pub async fn secure<F>(self, shaking: impl FnOnce(Socket) -> F) -> io::Result<Stream>
    where
        F: Future<Output = io::Result<TlsStream<Socket>>>,
    {
        match self {
            Stream::Tcp(stream, meter) => {
                Ok(Stream::Tls(Box::new(Secure::shake(stream, meter, shaking).await?)))
            }
            Stream::Unix(_) | Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The result of the TLS handshake, if there is TLS.
    #[must_use]
    pub fn agreed(&self) -> Option<Agreed> {
        match self {
            Stream::Tls(secure) => Some(secure.agreed()),
            Stream::Tcp(..) | Stream::Unix(_) => None,
        }
    }

    /// Waits for the first byte, and returns it without consuming it.
    ///
    /// # Errors
    /// The socket's error, the end of the stream, or that the stream is not plaintext TCP.
    pub async fn first_byte(&self) -> io::Result<u8> {
        let mut byte = [0; 1];
        match self {
            Stream::Tcp(stream, _) => match stream.peek(&mut byte).await? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(byte[0]),
            },
            Stream::Unix(_) | Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The TCP socket, if there is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream, _) => Some(stream),
            Stream::Tls(secure) => Some(&secure.socket),
            Stream::Unix(_) => None,
        }
    }

    /// The peer's IP address; a unix-domain peer counts as loopback.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = self.tcp().and_then(|stream| stream.peer_addr().ok());
        peer.map_or(LOCAL, |peer| peer.ip().to_canonical())
    }

    /// The original destination of a connection that the packet filter redirected here; `None` if it was not redirected.
    #[must_use]
    pub fn original_destination(&self) -> Option<std::net::SocketAddr> {
        let socket = SockRef::from(self.tcp()?);
        let redirected = socket.original_dst_v4().or_else(|_| socket.original_dst_v6());
        redirected.ok()?.as_socket()
    }

    /// Both addresses: the peer's, then ours; `None` for a unix-domain socket.
    #[must_use]
    pub fn addresses(&self) -> Option<(std::net::SocketAddr, std::net::SocketAddr)> {
        let tcp = self.tcp()?;
        tcp.peer_addr().ok().zip(tcp.local_addr().ok())
    }

    /// The round trip of the TCP handshake, as the kernel measured it; valid for a new connection.
    #[must_use]
    pub fn handshake_rtt(&self) -> Option<Duration> {
        tcp_info::handshake_rtt(self.tcp()?.as_fd())
    }

    /// Whether nothing has arrived, not even an end, so that an idle connection may be reused. This asks the kernel,
    /// because surplus bytes from a cluster must not become the response to another request.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Tcp(stream, _) => SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            // The kernel cannot distinguish tickets from responses.
            Stream::Tls(secure) => return secure.is_quiet(),
        };
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`Stream::is_quiet`], from the runtime's readiness: no system call, but only what had arrived at the start of
    /// the event loop's turn.
    pub fn seems_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let read = match self {
            Stream::Tcp(stream, _) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
            Stream::Tls(secure) => return secure.seems_quiet(),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes closing send a reset instead of a FIN, so that a truncated body does not look complete.
    pub fn reset_on_close(&self) {
        let linger = |stream| SockRef::from(stream).set_linger(Some(Duration::ZERO));
        if let Some(Err(error)) = self.tcp().map(linger) {
            tracing::debug!(%error, "connection closed without RST: SO_LINGER not set");
        }
    }

    /// Detects dead peers of silent connections: TCP keep-alive, and a limit on unacknowledged data.
    pub fn keep_alive(&self) {
        if let Some(stream) = self.tcp() {
            keep_alive(stream);
        }
    }
}

pub(super) fn count_read(meter: Option<&LineMeter>, bytes: usize) {
    if let Some(meter) = meter {
        meter.received(bytes);
    }
}

pub(super) fn counted_write(
    meter: Option<&LineMeter>,
    written: Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    if let (Some(meter), Poll::Ready(Ok(bytes))) = (meter, &written) {
        meter.sent(*bytes);
    }
    written
}

fn keep_alive(stream: &TcpStream) {
    let options = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let socket = SockRef::from(stream);
    let result = socket
        .set_tcp_keepalive(&options)
        .and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(120))));
    if let Err(error) = result {
        tracing::debug!(%error, "connection: TCP keep-alive not set");
    }
}

impl Reader<'_> {
    /// Enables TCP keep-alive, from the reading half.
    pub fn keep_alive(&self) {
        match self {
            Reader::Tcp(half, _) => keep_alive(half.as_ref()),
            Reader::Tls(secure) => keep_alive(&secure.socket),
            Reader::Unix(_) => {}
        }
    }

    /// Waits until there are bytes to read, without holding a buffer.
    ///
    /// # Errors
    /// The socket's error.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Reader::Tcp(half, _) => half.readable().await,
            Reader::Unix(half) => half.readable().await,
            Reader::Tls(secure) => {
                std::future::poll_fn(|context| secure.poll_readable(context)).await
            }
        }
    }

    /// Waits until the peer has reset the connection; an orderly end does not count.
    pub async fn broken(&self) {
        let ready = match self {
            Reader::Tcp(half, _) => half.ready(Interest::ERROR).await,
            Reader::Unix(half) => half.ready(Interest::ERROR).await,
            Reader::Tls(secure) => secure.socket.ready(Interest::ERROR).await,
        };
        if let Err(error) = ready {
            tracing::debug!(%error, "connection not watched for its end");
        }
    }

    /// Reads available bytes; 0 is the end.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        let result = match self {
            Reader::Tcp(half, meter) => {
                let result = Pin::new(half).poll_read(context, &mut buffer);
                count_read(*meter, buffer.filled().len());
                result
            }
            Reader::Unix(half) => Pin::new(half).poll_read(context, &mut buffer),
            Reader::Tls(secure) => secure.poll_read(context, &mut buffer),
        };
        result.map_ok(|()| buffer.filled().len())
    }

    /// Whether there is nothing to read now; registers for readability.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Reader::Tcp(half, _) => {
                let stream: &TcpStream = half.as_ref();
                stream.poll_read_ready(context)
            }
            Reader::Unix(half) => {
                let stream: &UnixStream = half.as_ref();
                stream.poll_read_ready(context)
            }
            Reader::Tls(secure) => secure.poll_readable(context),
        }
    }
}

impl Writer<'_> {
    /// Enables TCP keep-alive, from the writing half.
    pub fn keep_alive(&self) {
        match self {
            Writer::Tcp(half, _) => keep_alive(half.as_ref()),
            Writer::Tls(secure) => keep_alive(&secure.socket),
            Writer::Unix(_) => {}
        }
    }

    /// Writes as many bytes as fit.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Writer::Tcp(half, meter) => {
                counted_write(*meter, Pin::new(half).poll_write(context, bytes))
            }
            Writer::Unix(half) => Pin::new(half).poll_write(context, bytes),
            Writer::Tls(secure) => secure.poll_write(context, bytes),
        }
    }

    /// Writes as many bytes of two slices as fit, in one call.
    pub fn poll_write_both(
        &mut self,
        context: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        match self {
            Writer::Tcp(half, meter) => {
                counted_write(*meter, Pin::new(half).poll_write_vectored(context, &pieces))
            }
            Writer::Unix(half) => Pin::new(half).poll_write_vectored(context, &pieces),
            Writer::Tls(secure) => secure.poll_write_vectored(context, &pieces),
        }
    }

    /// Records that the next write is the last of this direction: under TLS it is sent together with the end.
    pub fn ends(&self) {
        if let Writer::Tls(secure) = self {
            secure.ends();
        }
    }

    /// Whether the stream is under TLS, which may buffer written bytes.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(self, Writer::Tls(_))
    }

    /// Sends buffered bytes.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Writer::Tcp(..) | Writer::Unix(_) => Poll::Ready(Ok(())),
            Writer::Tls(secure) => secure.poll_flush(context),
        }
    }

    /// Ends this direction.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Writer::Tcp(half, _) => Pin::new(half).poll_shutdown(context),
            Writer::Unix(half) => Pin::new(half).poll_shutdown(context),
            Writer::Tls(secure) => secure.poll_shutdown(context),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, meter) => {
                let before = buffer.filled().len();
                let result = Pin::new(stream).poll_read(context, buffer);
                count_read(meter.as_deref(), buffer.filled().len() - before);
                result
            }
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(secure) => secure.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream, meter) => {
                let result = Pin::new(stream).poll_write(context, bytes);
                counted_write(meter.as_deref(), result)
            }
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(secure) => secure.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream, meter) => {
                let result = Pin::new(stream).poll_write_vectored(context, pieces);
                counted_write(meter.as_deref(), result)
            }
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tls(secure) => secure.poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(..) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(secure) => secure.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream, _) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(secure) => secure.poll_shutdown(context),
        }
    }
}
