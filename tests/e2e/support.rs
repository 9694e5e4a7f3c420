//! The rig: the real binary, scripted clusters and raw clients on loopback.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The timeout of waits in tests.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `done`, at most ten seconds.
#[track_caller]
pub fn eventually(what: &str, done: impl FnMut() -> bool) {
    within(PATIENCE, what, done);
}

/// Waits until `done`, at most `limit`.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A temporary folder of a test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("tidegate-e2e-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running proxy.
pub struct Proxy {
    child: Child,
    pub folder: Folder,
    pub admin: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether the test provokes a panic.
    panics: bool,
}

impl Proxy {
    /// Starts a proxy with this configuration; the admin section is added, with a token.
    pub fn start(config: &str) -> Proxy {
        Proxy::start_with(config, &[])
    }

    pub fn start_with(config: &str, environment: &[(&str, &str)]) -> Proxy {
        let folder = Folder::new();
        folder.write("token", "secret\n");
        folder.write("tidegate.yaml", &whole(config));
        Proxy::start_in(folder, environment)
    }

    /// Starts a proxy with the configuration and the token in this folder.
    pub fn start_in(folder: Folder, environment: &[(&str, &str)]) -> Proxy {
        let path = folder.0.join("tidegate.yaml");
        // By a shell, so that a test can limit the process's resources.
        let bound = environment.iter().find(|(name, _)| *name == "DESCRIPTORS");
        let limit = bound.map_or(String::new(), |(_, count)| format!("ulimit -n {count} && "));
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" run --config \"$1\"")])
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .arg(&path)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let panics = environment.iter().any(|(name, _)| *name == "TIDEGATE_INJECT_PANIC");
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stderr.take().unwrap(), lines.clone());
        collect(child.stdout.take().unwrap(), lines.clone());
        let mut proxy =
            Proxy { child, folder, admin: SocketAddr::from(([127, 0, 0, 1], 0)), lines, panics };
        // The development build reads 10,000 routes in nine seconds of a slow processor.
        within(6 * PATIENCE, "the proxy starts", || {
            assert!(proxy.child.try_wait().unwrap().is_none(), "it ended: {:?}", proxy.log());
            proxy.said("admin API listening").is_some()
                && proxy.said("in force generation=").is_some()
        });
        proxy.admin = address(&proxy.said("admin API listening").unwrap());
        eventually("the proxy is ready", || proxy.get("/readyz").status == 200);
        proxy
    }

    pub fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The last log line that contains `text`.
    pub fn said(&self, text: &str) -> Option<String> {
        self.lines.lock().unwrap().iter().rev().find(|line| line.contains(text)).cloned()
    }

    /// Waits for a log line that contains `text`.
    pub fn says(&self, text: &str) -> String {
        eventually(text, || self.said(text).is_some());
        self.said(text).expect("it was said")
    }

    /// The address of a listener.
    pub fn at(&self, listener: &str) -> SocketAddr {
        address(&self.says(&format!("listener {listener} listening")))
    }

    /// Sends a GET to the admin API.
    pub fn get(&self, path: &str) -> Answer {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        ask_raw(self.admin, request.as_bytes())
    }

    /// Sends a request with the token to the admin API.
    pub fn tell(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        ask_raw(self.admin, request.as_bytes())
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.get(path).body).unwrap()
    }

    /// A cluster's state in the admin API.
    pub fn cluster(&self, name: &str) -> serde_json::Value {
        let all = self.json("/api/v1/clusters");
        all.as_array().unwrap().iter().find(|cluster| cluster["name"] == name).unwrap().clone()
    }

    /// The sum of the series whose lines start with `line`; 0 if there is none yet. Fails for an unknown metric or
    /// label.
    pub fn metric(&self, line: &str) -> f64 {
        assert_is_metric(line);
        let text = self.get("/metrics").body;
        let found = text.lines().filter(|known| known.starts_with(line));
        found.filter_map(|known| known.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the sum of these series is `figure`: an exchange is counted after its response.
    pub fn counts(&self, line: &str, figure: f64) {
        eventually(&format!("{line} is {figure}"), || self.metric(line) == figure);
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.0.join("tidegate.yaml")
    }

    pub fn rewrite(&self, config: &str) {
        std::fs::write(self.config_path(), whole(config)).unwrap();
    }

    pub fn generation(&self) -> u64 {
        self.json("/api/v1/status")["config"]["generation"].as_u64().unwrap()
    }

    pub fn signal(&self, signal: i32) {
        // `kill` sends the signal to a process that this test started.
        let status = Command::new("kill")
            .args([format!("-{signal}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end; returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("the proxy ends", || match self.child.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }
}

#[allow(dead_code, reason = "only some of the tests look at the process")]
impl Proxy {
    /// A field of `/proc/PID/status`, in KiB or as a count.
    pub fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The process's resident memory.
    pub fn resident_mib(&self) -> u64 {
        self.status("VmRSS:") / 1024
    }

    /// The process's open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// The process's calls of write(2) and its like; send(2) is not among them.
    pub fn writes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("syscw: "));
        line.and_then(|count| count.parse().ok()).unwrap()
    }

    /// The ends of pipes that the process holds.
    pub fn pipes(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let links = std::fs::read_dir(folder).unwrap().flatten();
        let names = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("pipe:")).count()
    }

    /// The process's CPU time, to a hundredth of a second.
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // A panic ends only one connection, and a test might not notice it.
        let panic = self.log().into_iter().find(|line| line.contains("panicked at"));
        if let Some(line) = panic.filter(|_| !(self.panics || std::thread::panicking())) {
            panic!("the proxy panicked: {line}");
        }
        if std::thread::panicking() {
            for line in self.log().iter().rev().take(60).rev() {
                eprintln!("proxy: {line}");
            }
        }
    }
}

/// A configuration with the admin section that every test needs.
pub fn whole(config: &str) -> String {
    format!("admin: {{ address: 127.0.0.1:0, token_file: token }}\n{config}")
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push(line);
        }
    });
}

/// Fails for a name that no metric has: its sum would always be 0.
fn assert_is_metric(line: &str) {
    const DECLARED: &str = concat!(
        include_str!("../../src/telemetry/metrics/clusters.rs"),
        include_str!("../../src/telemetry/metrics/compression.rs"),
        include_str!("../../src/telemetry/metrics/exchanges.rs"),
        include_str!("../../src/telemetry/metrics/families.rs"),
        include_str!("../../src/telemetry/metrics/fleet.rs"),
        include_str!("../../src/telemetry/metrics/listeners.rs"),
        include_str!("../../src/telemetry/metrics/process.rs"),
        include_str!("../../src/telemetry/metrics/routes.rs"),
        include_str!("../../src/telemetry/metrics/scaling.rs"),
        include_str!("../../src/telemetry/metrics/services.rs"),
    );
    let (name, labels) = line.split_once('{').unwrap_or((line, ""));
    let is_declared = |name: &str| DECLARED.contains(&format!("\"{name}\""));
    let parts = ["_count", "_sum", "_bucket"].iter().filter_map(|end| name.strip_suffix(end));
    assert!(is_declared(name) || parts.into_iter().any(is_declared), "no metric is named {name}");
    for label in labels.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0)) {
        assert!(is_declared(label.trim()), "no metric has a label {label}");
    }
}

#[test]
#[should_panic(expected = "no metric is named tidegate_panic_total")]
fn a_misspelt_metric_fails_its_test() {
    assert_is_metric("tidegate_panic_total");
}

#[test]
#[should_panic(expected = "no metric has a label servise")]
fn a_misspelt_label_fails_its_test() {
    assert_is_metric("tidegate_retries_total{servise=\"shop\",result=\"granted\"}");
}

/// The address in a log line.
pub fn address(line: &str) -> SocketAddr {
    let text = line.rsplit("address=").next().unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A response as a client sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    pub fn refusal(&self) -> String {
        self.header("tidegate-refusal").unwrap_or_default()
    }
}

/// An address for a server, below the ports that the system gives to clients, and never given twice.
pub fn free() -> SocketAddr {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let begin = std::process::id() as usize * 100;
    loop {
        let port = 10_000 + (begin + GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes and reads to the end of the connection.
pub fn ask_raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(to);
    // The peer may answer and close before all bytes were sent.
    drop(stream.write_all(bytes));
    let text = read_all(&mut stream);
    parse(&text)
}

pub fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut text = Vec::new();
    let mut space = [0; 65536];
    loop {
        match stream.read(&mut space) {
            Ok(0) => return text,
            Ok(count) => text.extend_from_slice(&space[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return text,
            Err(error) => panic!("reading: {error}, after {:?}", String::from_utf8_lossy(&text)),
        }
    }
}

pub fn parse(text: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { dechunk(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn dechunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        body.push_str(&rest[..size]);
        text = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    body
}

/// A plain GET.
pub fn get(to: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
    ask_raw(to, request.as_bytes())
}

/// A client with a keep-alive connection.
pub struct Keeping {
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Keeping {
    pub fn new(to: SocketAddr) -> Keeping {
        Keeping { stream: connect(to), rest: Vec::new() }
    }

    /// A client with the address 127.0.0.`last`.
    pub fn from(last: u8, to: SocketAddr) -> Keeping {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Keeping { stream, rest: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads one response with a Content-Length, or without a body.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("a response")
    }

    pub fn try_answer(&mut self) -> Option<Answer> {
        let mut space = [0; 65536];
        loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = parse(&self.rest[..end + 4]);
                let length: usize =
                    head.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                let interim = (100..200).contains(&head.status);
                let length = if interim { 0 } else { length };
                if self.rest.len() >= end + 4 + length {
                    let whole: Vec<u8> = self.rest.drain(..end + 4 + length).collect();
                    return Some(parse(&whole));
                }
            }
            match self.stream.read(&mut space) {
                Ok(0) => return None,
                Ok(count) => self.rest.extend_from_slice(&space[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    /// Reads at least this number of bytes.
    pub fn rest_of(&mut self, count: usize) -> Vec<u8> {
        let mut space = [0; 4096];
        while self.rest.len() < count {
            match self.stream.read(&mut space).unwrap() {
                0 => break,
                read => self.rest.extend_from_slice(&space[..read]),
            }
        }
        std::mem::take(&mut self.rest)
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n").as_bytes());
        self.answer()
    }
}

/// A cluster that runs its script on each connection, and records the bytes it received.
pub struct Cluster {
    pub address: SocketAddr,
    listening: socket2::Socket,
    pub received: Arc<Mutex<Vec<u8>>>,
    pub connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    open: Open,
}

/// Open connections, which are cut when the cluster is killed.
type Open = Arc<Mutex<std::collections::HashMap<usize, TcpStream>>>;

/// One connection of a cluster's script.
pub struct Connection {
    pub stream: TcpStream,
    open: (Open, usize),
    /// Leaves the end of the connection to the script's linger option.
    pub reset: bool,
    received: Arc<Mutex<Vec<u8>>>,
    rest: Vec<u8>,
}

impl Connection {
    /// The next request's head and body, or `None` at the end.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
        };
        if field("transfer-encoding:").is_some() {
            let mut wire = Vec::new();
            while !wire.ends_with(b"0\r\n\r\n") {
                wire.extend(self.take(1)?);
            }
            return Some((head, dechunk(&String::from_utf8_lossy(&wire)).into_bytes()));
        }
        let length = field("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = self.take(length)?;
        Some((head, body))
    }

    /// The next request's head.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.rest.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head[..end]).into_owned());
            }
            self.more()?;
        }
    }

    /// Reads this number of bytes.
    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.more()?;
        }
        Some(self.rest.drain(..count).collect())
    }

    fn more(&mut self) -> Option<()> {
        let mut space = [0; 65536];
        match self.stream.read(&mut space) {
            Ok(count @ 1..) => {
                self.rest.extend_from_slice(&space[..count]);
                self.received.lock().unwrap().extend_from_slice(&space[..count]);
                Some(())
            }
            _ => None,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Answers with this text as body.
    pub fn reply(&mut self, text: &str) {
        self.send(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes(),
        );
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.0.lock().unwrap().remove(&self.open.1);
        if !self.reset {
            drop(self.stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

impl Cluster {
    /// A cluster that answers every request with its name. A test may kill it and start another one at its address: no
    /// other test has this IP, so that meanwhile neither a server nor a client of one takes the port.
    pub fn named(name: &'static str) -> Cluster {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [.., second, third] = (number + 1).to_be_bytes();
        Cluster::at(SocketAddr::from(([127, 128, second, third], 0)), move |mut connection| {
            while connection.request().is_some() {
                connection.reply(name);
            }
        })
    }

    pub fn scripted(script: impl Fn(Connection) + Send + Sync + 'static) -> Cluster {
        Cluster::at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    pub fn at(address: SocketAddr, script: impl Fn(Connection) + Send + Sync + 'static) -> Cluster {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1024).unwrap();
        let listening = socket.try_clone().unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let open = Open::default();
        let script = Arc::new(script);
        let cluster = Cluster {
            address,
            listening,
            received: received.clone(),
            connections: connections.clone(),
            stop: stop.clone(),
            open: open.clone(),
        };
        std::thread::spawn(move || {
            for (accepted, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { return };
                // A tcp probe connects and resets; it does not run the script.
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let key = connections.load(Ordering::SeqCst) + 1_000 * accepted;
                open.lock().unwrap().insert(key, stream.try_clone().unwrap());
                let opened = (open.clone(), key);
                let (script, received, connections) =
                    (script.clone(), received.clone(), connections.clone());
                std::thread::spawn(move || {
                    let mut first = [0; 1];
                    if !matches!(stream.peek(&mut first), Ok(1)) {
                        opened.0.lock().unwrap().remove(&opened.1);
                        drop(stream.flush());
                        return;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (open, rest) = (opened, Vec::new());
                    script(Connection { stream, open, reset: false, received, rest });
                });
            }
        });
        cluster
    }

    /// Accepts no further connections; open ones continue.
    pub fn stop_listening(&self) {
        self.stop.store(true, Ordering::SeqCst);
        // At once: from now on connections are refused, even before the accepting thread wakes.
        drop(self.listening.shutdown(std::net::Shutdown::Both));
    }

    /// Stops the cluster: new connections are refused, and open ones are cut.
    pub fn kill(&self) {
        self.stop_listening();
        self.kill_open();
    }

    /// Cuts the open connections; new ones are accepted.
    pub fn kill_open(&self) {
        for (_, stream) in self.open.lock().unwrap().drain() {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The usual configuration: one http listener, one service, these clusters.
pub fn config(clusters: &[(&str, &str, SocketAddr)]) -> String {
    let names: Vec<&str> = clusters.iter().map(|(name, ..)| *name).collect();
    let mut text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [{}] }} }}\nclusters:\n",
        names.join(", ")
    );
    for (name, kind, address) in clusters {
        text.push_str(&format!(
            "  {name}: {{ kind: {kind}, endpoints: [\"{address}\"], probe: {{ interval: 100ms, timeout: 100ms }} }}\n"
        ));
    }
    text
}

/// The output of `tidegate check` for a configuration in a folder, and its exit code.
pub fn check(folder: &Folder, text: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--config"])
        .arg(folder.write("checked.yaml", text))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap(), printed)
}

/// The Python that has this module; `make test` installs it. [`is_installed`] describes the case without it.
pub fn python(module: &str) -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).status();
    let found = found.is_ok_and(|status| status.success());
    may_go_on(found, &format!("Python's {module}")).then_some(python)
}

/// A program of `tests/foreign`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name)
}

/// Whether a program is installed. A test without its program fails, unless TIDEGATE_SKIP_MISSING_TOOLS is set: then
/// the test is skipped.
pub fn is_installed(program: &str) -> bool {
    let folders = ["/usr/bin", "/usr/sbin", "/bin"];
    let found = folders.iter().any(|folder| Path::new(folder).join(program).exists());
    may_go_on(found, program)
}

fn may_go_on(found: bool, tool: &str) -> bool {
    let skip = std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some();
    assert!(
        found || skip,
        "{tool} is not installed: `make test` installs it; TIDEGATE_SKIP_MISSING_TOOLS=1 skips what needs it"
    );
    if !found {
        skipped(&format!("{tool} is not installed"));
    }
    found
}

/// Prints that a test is skipped, although its output is captured.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    drop(writeln!(std::io::stderr(), "skipped: {name}: {why}"));
}

#[test]
#[should_panic(expected = "no-such-tool is not installed")]
fn a_missing_tool_fails_its_test() {
    if std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some() {
        panic!("no-such-tool is not installed, and skipping is asked for");
    }
    is_installed("no-such-tool");
}

/// A process of a test, ended with the test.
pub struct Process(pub Child);

impl Process {
    /// A proxy that runs with this configuration file; its output is discarded.
    pub fn proxy(file: &Path) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["run", "--config"]).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An nginx with these `server` blocks, which listens at `address`.
pub fn nginx(folder: &Folder, address: SocketAddr, servers: &str) -> Process {
    let at = folder.0.display();
    let text = format!(
        "worker_processes 1; daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; \
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n{servers}\n}}\n"
    );
    let config = folder.write("nginx.conf", &text);
    let child = Command::new("nginx")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .arg("-c")
        .arg(config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("nginx listens", || TcpStream::connect(address).is_ok());
    Process(child)
}
