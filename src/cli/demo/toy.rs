//! A simulated cluster on loopback: a number of slots, a service time, and a distance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// A simulated cluster that can be killed and revived.
#[derive(Debug)]
pub(super) struct Toy {
    /// The address.
    pub(super) address: SocketAddr,
    nature: Nature,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Nature {
    name: &'static str,
    slots: Arc<Semaphore>,
    service: Duration,
    distance: Duration,
}

impl Toy {
    /// Starts a cluster.
    pub(super) async fn start(
        name: &'static str,
        slots: usize,
        service: Duration,
        distance: Duration,
    ) -> std::io::Result<Toy> {
        let nature = Nature { name, slots: Arc::new(Semaphore::new(slots)), service, distance };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = Some(tokio::spawn(serve(listener, nature.clone())));
        Ok(Toy { address, nature, task })
    }

    /// Stops the cluster and closes all its connections.
    pub(super) async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            if task.await.is_ok() {
                tracing::debug!("demo cluster not stopped: it has ended already");
            }
        }
    }

    /// Starts the cluster again at its address.
    pub(super) async fn revive(&mut self) -> std::io::Result<()> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let listener = socket.listen(1024)?;
        let slots = self.nature.slots.available_permits();
        tracing::debug!(slots, "demo cluster started again");
        self.task = Some(tokio::spawn(serve(listener, self.nature.clone())));
        Ok(())
    }
}

async fn serve(listener: TcpListener, nature: Nature) {
    // Dropped with the task, which closes all connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, nature.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, nature: Nature) {
    let mut bytes = Vec::new();
    while let Some(path) = next_request(&mut stream, &mut bytes).await {
        tokio::time::sleep(nature.distance / 2).await;
        if path != "/healthz" {
            let Ok(slot) = nature.slots.acquire().await else { return };
            tokio::time::sleep(nature.service).await;
            drop(slot);
        }
        tokio::time::sleep(nature.distance / 2).await;
        let response = format!(
            "HTTP/1.1 200 OK\r\nx-cluster: {}\r\ncontent-length: 3\r\n\r\nok\n",
            nature.name
        );
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The path of the next request; requests in the demo have no bodies.
async fn next_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            return head.split(' ').nth(1).map(str::to_owned);
        }
        let mut space = [0; 2048];
        match stream.read(&mut space).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&space[..count]),
            Ok(0) | Err(_) => return None,
        }
    }
}
