//! Exchanges through a whole proxy in this process: a client, a cluster, and one worker between them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tidegate::decision::plan::Address;
use tidegate::server::origin::Origin;
use tidegate::server::{Options, Running, start};

/// Allocations by thread: the number of a thread modulo the length is its place.
static ALLOCATIONS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// Bytes allocated and not freed by a thread, likewise.
static HELD: [AtomicI64; 1024] = [const { AtomicI64::new(0) }; 1024];

fn place(thread: i32) -> usize {
    thread as usize % ALLOCATIONS.len()
}

fn here() -> usize {
    place(rustix::thread::gettid().as_raw_nonzero().get())
}

struct Counting;

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait; this one forwards all")]
// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS[here()].fetch_add(1, Ordering::Relaxed);
        HELD[here()].fetch_add(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD[here()].fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\n0123456789abcdef";
const REQUEST: &[u8] = b"GET /items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: cost\r\nAccept: */*\r\n\r\n";

/// A cluster that answers every request alike, in a thread for each connection.
fn cluster() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut space, mut held) = ([0; 8192], 0);
    while let Ok(count @ 1..) = stream.read(&mut space[held..]) {
        held += count;
        if space[..held].ends_with(b"\r\n\r\n") {
            held = 0;
            if stream.write_all(RESPONSE).is_err() {
                return;
            }
        }
    }
}

/// A running proxy and its runtime.
struct Proxy {
    address: SocketAddr,
    _running: Running,
    _runtime: tokio::runtime::Runtime,
}

fn proxy() -> Proxy {
    let cluster = cluster();
    let config = format!(
        "runtime: {{ workers: 1 }}\nadmin: {{ address: off }}\naccess_log: {{ format: off }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ kind: idc, endpoints: [\"{cluster}\"], probe: {{ interval: 1h, timeout: 1h }} }} }}\n"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
        .unwrap();
    let origin = Origin::Text(config);
    let options = Options { origin, loaded: None, signals: false, pin: false, log: None };
    let running = runtime.block_on(start(options)).unwrap();
    let Some(Address::Ip(address)) = running.addresses.get("web").cloned() else {
        panic!("{:?}", running.addresses)
    };
    Proxy { address, _running: running, _runtime: runtime }
}

/// Sends requests one by one over one kept connection.
fn exchange(stream: &mut TcpStream, count: u64) {
    let mut space = [0; 8192];
    for _ in 0..count {
        stream.write_all(REQUEST).unwrap();
        let mut held = 0;
        while !space[..held].ends_with(b"0123456789abcdef") {
            let count = stream.read(&mut space[held..]).unwrap();
            assert!(count > 0, "the proxy answers");
            held += count;
        }
    }
}

/// This number of exchanges over HTTP/1.1.
pub fn http1(count: u64) {
    let proxy = proxy();
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_nodelay(true).unwrap();
    exchange(&mut stream, count);
}

/// This number of exchanges over HTTP/2 without TLS, one by one on one connection.
pub fn http2(count: u64) {
    let proxy = proxy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        for _ in 0..count {
            client = client.ready().await.unwrap();
            let request = http::Request::get("http://shop.example.com/items?page=2");
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            while let Some(part) = body.data().await {
                let length = part.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
            }
        }
        driver.abort();
    });
}

/// Allocations on the worker's thread during each of some batches of exchanges, after one to warm up.
pub fn allocations(count: u64, batches: usize) -> Vec<u64> {
    let proxy = proxy();
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_nodelay(true).unwrap();
    exchange(&mut stream, 500);
    let worker = &ALLOCATIONS[place(worker_thread())];
    let mut batch = || {
        let before = worker.load(Ordering::Relaxed);
        exchange(&mut stream, count);
        worker.load(Ordering::Relaxed) - before
    };
    (0..batches).map(|_| batch()).collect()
}

/// Bytes that the worker's thread holds for each of `count` connections that are idle after an exchange.
pub fn idle_bytes(count: u32) -> f64 {
    let proxy = proxy();
    let connect = || {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_nodelay(true).unwrap();
        exchange(&mut stream, 2);
        stream
    };
    // Some tables are made, or have their final size, after the first ones.
    let _first: Vec<TcpStream> = (0..600).map(|_| connect()).collect();
    let worker = &HELD[place(worker_thread())];
    let before = worker.load(Ordering::Relaxed);
    let _idle: Vec<TcpStream> = (0..count).map(|_| connect()).collect();
    (worker.load(Ordering::Relaxed) - before) as f64 / f64::from(count)
}

/// The number of the worker's thread, by its name.
fn worker_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
    let named =
        |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    let mut workers = tasks.filter(|task| named(&task.path()).starts_with("worker"));
    let worker = workers.next().unwrap();
    worker.file_name().to_str().unwrap().parse().unwrap()
}
