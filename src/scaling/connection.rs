//! Connections of KEDA: HTTP/2, with TLS if `scaling.tls` is configured.
//!
//! # Bounds
//! [`CONNECTIONS_MAX`] connections with [`CALLS_MAX`] calls each. A connection ends when its client does not answer a
//! ping, and when it has had no call for [`IDLE`].

use super::{Scaling, scaler};
use bytes::Bytes;
use h2::{Ping, server};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Connections at once.
pub(super) const CONNECTIONS_MAX: u32 = 128;
/// Calls at once on a connection.
const CALLS_MAX: u32 = 64;
/// The time for the TLS handshake, and for the HTTP/2 preface.
const SHAKEN: Duration = Duration::from_secs(5);
/// The interval between pings; the answer must arrive before the next one.
const PING: Duration = Duration::from_secs(20);
/// How long a connection without a call is kept.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of the fields of a request.
const FIELDS_MAX: u32 = 16 * 1024;
/// The window of a connection in bytes: all its calls together may send this much ahead.
const WINDOW: u32 = 128 * 1024;
/// Streams that were reset and are still remembered.
const RESET_MAX: usize = 16;

/// Accepts connections until the task is aborted.
pub(super) async fn accept(scaling: Arc<Scaling>, listener: TcpListener) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "scaler: connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = scaling.connections.clone().try_acquire_owned() else {
            tracing::debug!(%peer, "scaler: connection closed: too many");
            continue;
        };
        let scaling = scaling.clone();
        tokio::spawn(async move {
            if let Err(error) = secure(&scaling, stream).await {
                tracing::debug!(%peer, %error, "scaler: connection failed");
            }
            drop(permit);
        });
    }
}

/// Makes the TLS handshake with the certificate of now, so that replaced files apply to the next connection.
async fn secure(scaling: &Arc<Scaling>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let config = scaling.shared.view.load().tls.scaler.as_ref().map(|own| own.config.clone());
    match config {
        Some(config) => {
            let shaking = tokio_rustls::TlsAcceptor::from(config).accept(stream);
            serve(scaling, timeout(SHAKEN, shaking).await??).await
        }
        None => serve(scaling, stream).await,
    }
}

async fn serve<S>(scaling: &Arc<Scaling>, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(CALLS_MAX)
        .max_header_list_size(FIELDS_MAX)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(FIELDS_MAX as usize)
        .max_concurrent_reset_streams(RESET_MAX)
        .max_pending_accept_reset_streams(RESET_MAX);
    let shaken = timeout(SHAKEN, builder.handshake::<_, Bytes>(stream)).await?;
    let mut connection = shaken.map_err(io::Error::other)?;
    let mut pings = connection.ping_pong().ok_or(io::ErrorKind::Unsupported)?;
    let mut ending = scaling.ending.subscribe();
    let mut calls = JoinSet::new();
    let mut beats = interval_at(Instant::now() + PING, PING);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut awaits_pong, mut is_ending, mut used) = (false, false, Instant::now());
    loop {
        tokio::select! {
            // The drain first: a busy connection must notice it.
            biased;
            _ = ending.wait_for(|ending| *ending), if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    used = Instant::now();
                    calls.spawn(scaler::serve(scaling.clone(), request, respond));
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(()),
            },
            Some(_) = calls.join_next(), if !calls.is_empty() => used = Instant::now(),
            pong = std::future::poll_fn(|context| pings.poll_pong(context)), if awaits_pong => {
                pong.map_err(io::Error::other)?;
                awaits_pong = false;
            }
            _ = beats.tick() => {
                if awaits_pong {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                if calls.is_empty() && used.elapsed() >= IDLE && !is_ending {
                    is_ending = true;
                    connection.graceful_shutdown();
                }
                pings.send_ping(Ping::opaque()).map_err(io::Error::other)?;
                awaits_pong = true;
            }
        }
    }
}
