//! Relays bytes in both directions until both have ended: L4 flows and upgraded connections.
//!
//! The end of each direction is passed on, so that a half-closed flow continues in the other direction; a reset is
//! passed on as a reset. Each direction holds a buffer only while it has bytes.

use super::body::Source;
use super::buffer::Buffer;
use super::deadline::Watch;
use super::worker::Worker;
use crate::os::pipe;
use crate::os::stream::{Stream, Writer};
use crate::shared::Meter;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// One end of a tunnel: its stream, and bytes that were already read.
type End<'a> = (&'a mut Stream, &'a mut Option<Buffer>);

/// The timeouts of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte after one side has closed.
    pub half_close: Duration,
    /// While the receiver reads nothing.
    pub write: Duration,
}

/// The bytes that were relayed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// From client to cluster.
    pub up: u64,
    /// From cluster to client.
    pub down: u64,
}

/// The state that both directions share.
#[derive(Debug, Default)]
struct Flow {
    moved: Cell<u64>,
    closed: Cell<u8>,
}

impl Flow {
    /// Counts bytes, also in the direction's own count.
    fn carried(&self, direction: &Cell<u64>, count: usize) {
        direction.set(direction.get() + count as u64);
        self.moved.set(self.moved.get() + count as u64);
    }
}

/// Pieces from this size on are moved by a pipe.
const PIPED_MIN: usize = 16 * 1024;

/// Relays bytes until both directions have ended, one has failed, or a timeout has passed; `meter` counts the bytes from
/// the cluster as they arrive.
pub async fn carry(
    worker: &Worker,
    client: End<'_>,
    cluster: End<'_>,
    meter: &Meter,
    patience: Patience,
) -> Carried {
    let flow = Flow::default();
    let (up, down) = (Cell::new(0), Cell::new(0));
    let watches: [Watch; 4] = std::array::from_fn(|_| worker.deadlines.watch());
    let result = {
        let (client_reader, client_writer) = client.0.split();
        let (cluster_reader, cluster_writer) = cluster.0.split();
        let upward = Source::new(client_reader, client.1, &watches[0]);
        let downward = Source::new(cluster_reader, cluster.1, &watches[1]);
        let downward = downward.metered(meter.count());
        let up = direction(upward, cluster_writer, &watches[2], &flow, &up, patience);
        let down = direction(downward, client_writer, &watches[3], &flow, &down, patience);
        both(up, down).await
    };
    if result.is_err() {
        client.0.reset_on_close();
        cluster.0.reset_on_close();
    }
    Carried { up: up.get(), down: down.get() }
}

/// Runs both directions; the first failure ends both.
///
/// # Errors
/// The failure.
pub async fn both(
    first: impl Future<Output = io::Result<()>>,
    second: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_done, mut second_done) = (false, false);
    std::future::poll_fn(|context| {
        if !first_done && let Poll::Ready(result) = first.as_mut().poll(context) {
            result?;
            first_done = true;
        }
        if !second_done && let Poll::Ready(result) = second.as_mut().poll(context) {
            result?;
            second_done = true;
            // The first direction may have waited for this result.
            if !first_done && let Poll::Ready(result) = first.as_mut().poll(context) {
                result?;
                first_done = true;
            }
        }
        if first_done && second_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

async fn direction(
    mut source: Source<'_>,
    mut writer: Writer<'_>,
    write_watch: &Watch,
    flow: &Flow,
    carried: &Cell<u64>,
    patience: Patience,
) -> io::Result<()> {
    loop {
        if source.data().is_empty() && source.is_full() {
            // Boxed: few tunnels carry that much.
            let bulk =
                relay_by_pipe(&mut source, &mut writer, write_watch, flow, carried, patience);
            Box::pin(bulk).await?;
        }
        if source.data().is_empty() && read_some(&mut source, flow, patience).await? == 0 {
            flow.closed.set(flow.closed.get() + 1);
            let end = std::future::poll_fn(|context| writer.poll_shutdown(context));
            write_watch.within(patience.half_close, end).await??;
            return until_both_closed(&source, flow).await;
        }
        while !source.data().is_empty() {
            let write = {
                let (writer, data) = (&mut writer, source.data());
                std::future::poll_fn(move |context| writer.poll_write(context, data))
            };
            let count = write_watch.within(patience.write, write).await??;
            source.used(count);
            flow.carried(carried, count);
        }
        if writer.is_secure() {
            let flush = std::future::poll_fn(|context| writer.poll_flush(context));
            write_watch.within(patience.write, flush).await??;
        }
    }
}

/// Relays inside the kernel, between plain TCP sockets, until the end or a piece so small that copying it is cheaper.
async fn relay_by_pipe(
    source: &mut Source<'_>,
    writer: &mut Writer<'_>,
    write_watch: &Watch,
    flow: &Flow,
    carried: &Cell<u64>,
    patience: Patience,
) -> io::Result<()> {
    if !source.reader.feeds_pipes() || !writer.takes_pipes() {
        return Ok(());
    }
    loop {
        let mut fill = async |span| source.fill(pipe::CAPACITY, span).await;
        let filled = await_traffic(flow, patience, &mut fill).await?;
        let Some(mut pipe) = filled else { return Ok(()) };
        let is_small = pipe.len() < PIPED_MIN;
        while !pipe.is_empty() {
            let drain = std::future::poll_fn(|context| writer.poll_drain(context, &mut pipe));
            let count = write_watch.within(patience.write, drain).await??;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            flow.carried(carried, count);
        }
        if is_small {
            return Ok(());
        }
    }
}

/// Waits for a reset by a side that has already closed: the other side then has no receiver.
async fn until_both_closed(source: &Source<'_>, flow: &Flow) -> io::Result<()> {
    let mut broken = pin!(source.reader.broken());
    std::future::poll_fn(|context| {
        // The other direction wakes this one: both are in one task.
        if flow.closed.get() > 1 {
            return Poll::Ready(Ok(()));
        }
        broken.as_mut().poll(context).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
    })
    .await
}

/// Reads; a silent direction stays open as long as the other one has traffic.
async fn read_some(source: &mut Source<'_>, flow: &Flow, patience: Patience) -> io::Result<usize> {
    await_traffic(flow, patience, &mut async |span| source.more(span).await).await
}

/// Waits for bytes by `read`, which waits for a span at most.
async fn await_traffic<T>(
    flow: &Flow,
    patience: Patience,
    read: &mut impl AsyncFnMut(Duration) -> io::Result<T>,
) -> io::Result<T> {
    let mut silent = Duration::ZERO;
    let mut moved = flow.moved.get();
    loop {
        let half_closed = flow.closed.get() > 0;
        let span = if half_closed { patience.half_close } else { patience.idle };
        // In slices, to notice traffic of the other direction.
        let slice = span.saturating_sub(silent).min(SLICE);
        match read(slice).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                silent += slice;
                if moved != flow.moved.get() || (flow.closed.get() > 0) != half_closed {
                    moved = flow.moved.get();
                    silent = Duration::ZERO;
                } else if silent >= span {
                    return Err(error);
                }
            }
            other => return other,
        }
    }
}

/// The longest wait of a direction until it checks the other one.
const SLICE: Duration = Duration::from_secs(1);
