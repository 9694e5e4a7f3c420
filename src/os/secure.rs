//! A TCP stream under TLS, which can be read and written at the same time from one thread.
//!
//! The session is borrowed only while it is polled, never across an await; code that waits for the socket alone does not
//! borrow the session.

use super::line_meter::LineMeter;
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A stream under TLS.
#[derive(Debug)]
pub struct Secure {
    /// The TCP socket.
    pub socket: Rc<TcpStream>,
    ends: Rc<Cell<bool>>,
    session: RefCell<TlsStream<Socket>>,
}

/// The result of a handshake.
#[derive(Clone, Debug, Default)]
pub struct Agreed {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Whether ALPN selected HTTP/2.
    pub is_http2: bool,
    /// The server name in the ClientHello.
    pub sni: Option<String>,
    /// The verified certificate of the peer, in DER.
    pub peer: Option<CertificateDer<'static>>,
}

/// The socket as the TLS session uses it.
#[derive(Debug)]
pub struct Socket {
    stream: Rc<TcpStream>,
    meter: Option<Arc<LineMeter>>,
    /// Whether the kernel should delay written bytes because the end follows (`MSG_MORE`, send(2)), to save a packet.
    ends: Rc<Cell<bool>>,
}

impl Secure {
    /// Performs the handshake `shaking` on the socket, whose bytes `meter` counts.
    ///
    /// # Errors
    /// The handshake's error.
    pub async fn shake<F>(
        stream: TcpStream,
        meter: Option<Arc<LineMeter>>,
        shaking: impl FnOnce(Socket) -> F,
    ) -> io::Result<Secure>
    where
        F: Future<Output = io::Result<TlsStream<Socket>>>,
    {
        let (socket, ends) = (Rc::new(stream), Rc::new(Cell::new(false)));
        let beneath = Socket { stream: socket.clone(), meter, ends: ends.clone() };
        let session = RefCell::new(shaking(beneath).await?);
        Ok(Secure { socket, ends, session })
    }

    /// Records that the next write is the last: it is sent together with the end.
    pub fn ends(&self) {
        self.ends.set(true);
    }

    /// The result of the handshake.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        let session = self.session.borrow();
        let (_, common) = session.get_ref();
        let sni = match &*session {
            TlsStream::Server(server) => server.get_ref().1.server_name().map(str::to_owned),
            TlsStream::Client(_) => None,
        };
        let version = match common.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        Agreed {
            version,
            is_http2: common.alpn_protocol() == Some(b"h2"),
            sni,
            peer: common.peer_certificates().and_then(|chain| chain.first().cloned()),
        }
    }

    /// Reads available bytes; 0 is an orderly end.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_read(context, buffer)
    }

    /// Whether there may be bytes to read; registers for readability otherwise.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Bytes already read from the socket do not make it readable again.
        if !self.session.borrow().get_ref().1.wants_read() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_read_ready(context)
    }

    /// Whether no bytes have arrived but TLS messages such as tickets, as far as the runtime knows.
    #[must_use]
    pub fn seems_quiet(&self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        // No waker is registered: the next reader registers one.
        let nobody = &mut Context::from_waker(Waker::noop());
        self.poll_read(nobody, &mut buffer).is_pending()
    }

    /// As [`Secure::seems_quiet`], but also asks the kernel.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let peek = || SockRef::from(&*self.socket).peek(&mut [MaybeUninit::uninit()]);
        self.seems_quiet()
            && matches!(peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes as many bytes as fit.
    pub fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write(context, bytes)
    }

    /// Writes as many bytes of several slices as fit.
    pub fn poll_write_vectored(
        &self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write_vectored(context, pieces)
    }

    /// Sends encrypted bytes that did not fit before.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_flush(context)
    }

    /// Ends this direction with close_notify.
    pub fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_shutdown(context)
    }
}

impl Socket {
    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.ends.get() {
            return self.stream.try_write_vectored(pieces);
        }
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        let send = || SockRef::from(&*self.stream).send_vectored_with_flags(pieces, flags);
        self.stream.try_io(Interest::WRITABLE, send)
    }

    /// Records that a read emptied the socket. rustls reads until the socket is empty; this record saves the system
    /// call that would return nothing. Bytes that arrive later are a new event (epoll(7), edge-triggered).
    fn note_drained(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        drop(self.stream.try_io(Interest::READABLE, nothing));
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    if (1..buffer.remaining()).contains(&count) {
                        self.note_drained();
                    }
                    buffer.advance(count);
                    if let Some(meter) = &self.meter {
                        meter.received(count);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.send(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    if let (Some(meter), Ok(bytes)) = (&self.meter, &other) {
                        meter.sent(*bytes);
                    }
                    return Poll::Ready(other);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}
