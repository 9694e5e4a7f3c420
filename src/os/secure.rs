//! A TCP stream under TLS, which can be read and written at the same time from one thread.
//!
//! The session is borrowed only while it is polled, never across a wait; what waits for the socket alone
//! has the socket to itself.

use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A stream under TLS.
#[derive(Debug)]
pub struct Secure {
    /// The socket beneath.
    pub socket: Rc<TcpStream>,
    ends: Rc<Cell<bool>>,
    session: RefCell<TlsStream<Socket>>,
}

/// What a handshake has agreed on.
#[derive(Clone, Debug, Default)]
pub struct Agreed {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Whether it is HTTP/2.
    pub is_http2: bool,
    /// The name the client asked for.
    pub sni: Option<String>,
    /// Whether the other end has shown a certificate that was verified.
    pub is_verified: bool,
}

/// The socket as the session has it.
#[derive(Debug)]
pub struct Socket {
    stream: Rc<TcpStream>,
    /// Whether the kernel is to hold what is written, since the end follows (`MSG_MORE`, send(2)): packets cost
    /// more than what is in them.
    ends: Rc<Cell<bool>>,
}

impl Secure {
    /// Shakes hands by `shaking`, which is given the socket.
    ///
    /// # Errors
    /// Whatever it says.
    pub async fn shake<F>(
        stream: TcpStream,
        shaking: impl FnOnce(Socket) -> F,
    ) -> io::Result<Secure>
    where
        F: Future<Output = io::Result<TlsStream<Socket>>>,
    {
        let (socket, ends) = (Rc::new(stream), Rc::new(Cell::new(false)));
        let beneath = Socket { stream: socket.clone(), ends: ends.clone() };
        let session = RefCell::new(shaking(beneath).await?);
        Ok(Secure { socket, ends, session })
    }

    /// Notes that what is written next is the last: it goes out with the end.
    pub fn ends(&self) {
        self.ends.set(true);
    }

    /// What was agreed on.
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
            is_verified: common.peer_certificates().is_some(),
        }
    }

    /// Reads what is there; 0 is an orderly end.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_read(context, buffer)
    }

    /// Whether there may be something to read; registers for when there is.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was read from the socket already is not seen there again.
        if !self.session.borrow().get_ref().1.wants_read() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_read_ready(context)
    }

    /// Whether nothing has come but what TLS says among itself, such as tickets.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        // Nobody waits: whoever reads next registers anew.
        let nobody = &mut Context::from_waker(Waker::noop());
        if !self.poll_read(nobody, &mut buffer).is_pending() {
            return false;
        }
        // What the runtime has not noticed yet the kernel knows.
        let peeked = SockRef::from(&*self.socket).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes what fits.
    pub fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write(context, bytes)
    }

    /// Writes what fits of several pieces.
    pub fn poll_write_vectored(
        &self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write_vectored(context, pieces)
    }

    /// Sends what was written and sealed, and did not fit.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_flush(context)
    }

    /// Ends this direction, as TLS does it.
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

    /// Notes that a read took all there was: TLS asks until there is nothing, and by this no system call is
    /// needed to say so. What comes from now on is an event of its own (epoll(7), edge-triggered).
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
                other => return Poll::Ready(other),
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
