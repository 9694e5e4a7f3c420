//! Properties that hold for any bytes from a client, from the connection to the responses, tested with the code of
//! the data plane. Fuzz targets and the test that replays their seeds call these functions.
//!
//! # Panics
//! When a property does not hold.

use super::fresh::{Channels, count_panics, shared, view};
use crate::config;
use crate::decision::plan::ListenerIndex;
use crate::os::proxy_header::Origin;
use crate::os::stream::Stream;
use crate::proxy::accept::Accepted;
use crate::proxy::l7;
use crate::proxy::worker::Worker;
use crate::shared::Shared;
use crate::telemetry::access_log::{AccessLog, Format};
use crate::telemetry::cells::Registry;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Routes with fixed responses, short and long, and a route whose only cluster is down.
const CONFIGURATION: &str = "
listeners:
  web:
    address: 127.0.0.1:1
    protocol: http
    service: down
    timeouts: { first_byte: 200ms, head: 200ms, idle: 200ms, body_idle: 200ms, write: 200ms }
services: { down: { clusters: [idc] } }
clusters: { idc: { kind: idc, endpoints: [127.0.0.1:2] } }
routes:
  - { path: /, respond: { status: 200, body: ok } }
  - { path_prefix: /gone, redirect: { to: \"http://a/\" } }
";

/// The longest time that a connection may stay open after the client has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends these bytes over a connection in two pieces; asserts that the connection ends, nothing panics, and all
/// gauges return to 0.
pub fn connection(bytes: &[u8]) {
    drop(answers(bytes));
}

/// Returns the bytes that the client receives.
fn answers(bytes: &[u8]) -> Vec<u8> {
    thread_local! {
        static RIG: Rig = Rig::new();
    }
    RIG.with(|rig| rig.run(bytes))
}

/// Sends the preface of HTTP/2 (RFC 9113 §3.4) followed by these bytes.
pub fn http2(bytes: &[u8]) {
    connection(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes].concat());
}

struct Rig {
    runtime: tokio::runtime::LocalRuntime,
    worker: Rc<Worker>,
    shared: Arc<Shared>,
    _channels: Channels,
}

impl Rig {
    fn new() -> Rig {
        let outcome = config::load(CONFIGURATION, Path::new("/"), &|_| None);
        let plan = outcome.config.map(|config| config.plan).unwrap_or_default();
        assert!(!plan.listeners.is_empty(), "{:?}", outcome.problems);
        let registry = Arc::new(Registry::default());
        count_panics(registry.clone());
        let (shared, channels) = shared(1, registry.clone());
        shared.view.store(Arc::new(view(plan, 1, 1)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        let Ok(runtime) = runtime else { unreachable!("a runtime can be made") };
        let (log, _) = AccessLog::new(Format::Off, 1, registry);
        let worker = Worker::new(0, shared.clone(), log);
        Rig { runtime, worker, shared, _channels: channels }
    }

    fn run(&self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        let panics = self.shared.registry.panics.load(Ordering::Relaxed);
        self.runtime.block_on(async {
            let Ok((mut client, server)) = UnixStream::pair() else { return };
            let local = SocketAddr::from(([127, 0, 0, 1], 1));
            let accepted = Box::new(Accepted {
                stream: Stream::Unix(server),
                origin: Origin { client: local, server: local },
                buffer: None,
                clients: 0,
                class: None,
                sni: None,
            });
            let worker = self.worker.clone();
            let view = worker.view();
            let served = tokio::task::spawn_local(l7::inbound::h1_connection::serve(
                worker,
                accepted,
                view,
                ListenerIndex(0),
            ));
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let talk = async {
                for piece in [first, second] {
                    if client.write_all(piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                // The client may have disconnected already.
                drop(client.shutdown().await);
                drop(client.read_to_end(&mut answers).await);
            };
            let ticks = async {
                loop {
                    self.worker.tick();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let both = async {
                talk.await;
                served.await
            };
            tokio::select! {
                ended = tokio::time::timeout(PATIENCE, both) => match ended {
                    Ok(ended) => assert!(ended.is_ok(), "the connection's task panicked"),
                    Err(_) => unreachable!("a connection whose client is gone must end"),
                },
                () = ticks => {}
            }
        });
        assert_eq!(self.shared.registry.panics.load(Ordering::Relaxed), panics);
        assert_eq!(self.shared.upstreams.get(), 0, "nothing stays counted");
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_harness_serves_requests() {
        let answered = answers(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answered.starts_with(b"HTTP/1.1 200 ") && answered.ends_with(b"ok"));
        let get =
            b"\0\0\0\x04\0\0\0\0\0\0\0\x0b\x01\x05\0\0\0\x01\x82\x86\x84\0\x0a:authority\x01a";
        let mut get = get.to_vec();
        get[11] = u8::try_from(get.len() - 18).unwrap();
        let answered = answers(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", get.as_slice()].concat());
        assert!(answered.windows(2).any(|pair| pair == b"ok"), "{answered:?}");
    }

    #[test]
    fn the_control_thread_notices_an_exchange_for_a_cluster() {
        let rig = Rig::new();
        assert!(rig.run(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
        assert!(!rig.shared.demand.was_seen(), "the proxy itself has answered");
        drop(rig.run(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(rig.shared.demand.was_seen());
    }
}
