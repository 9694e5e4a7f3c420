//! The proxies under comparison, and the nginx that is their cluster: each in its best configuration for the rig.

mod envoy;
mod haproxy;
mod nginx;
pub mod tidegate;

use crate::Options;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is configured in each proxy.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The number of routes; the load uses the last one.
    pub routes: usize,
    /// The number of the cluster's endpoints, all of them the same server at different addresses.
    pub endpoints: usize,
    /// The number of clusters (Tidegate only).
    pub clusters: usize,
    /// The number of workers (Tidegate only).
    pub workers: usize,
    /// Whether each request is logged as JSON.
    pub access_log: bool,
    /// Whether policies and header rules are on: rate limit, address list, header rules, access log.
    pub features: bool,
    /// Whether the cluster is spoken to over HTTP/2.
    pub http2: bool,
    /// Whether endpoints are probed.
    pub probes: bool,
    /// The coding of compressed responses, if they are compressed; other proxies than Tidegate know gzip alone.
    pub coding: Option<&'static str>,
}

/// One route, one endpoint, nothing else.
pub const PLAIN: Setup = Setup {
    routes: 1,
    endpoints: 1,
    clusters: 1,
    workers: 1,
    access_log: false,
    features: false,
    http2: false,
    probes: true,
    coding: None,
};

impl Setup {
    /// The path of the load's requests, before the file's name.
    pub fn path(&self) -> String {
        match self.routes {
            1 => String::new(),
            routes => format!("/r{}", routes - 1),
        }
    }

    /// The addresses of the endpoints of one cluster: all of them are the server at `port`.
    fn addresses(&self, server: SocketAddr, cluster: usize) -> Vec<SocketAddr> {
        let at = |index: usize| {
            let number = cluster * self.endpoints + index;
            let [high, middle, low] = [number >> 16, number >> 8, number].map(|part| part as u8);
            ([127, high, middle, low], server.port()).into()
        };
        (1..=self.endpoints).map(at).collect()
    }
}

/// One running proxy. It ends with this value.
pub struct Peer {
    /// The name in the tables.
    pub name: String,
    /// Whether it is another proxy, rather than Tidegate or the kernel's floor.
    pub other: bool,
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// TLS: HTTP/2 and HTTP/1.1 by ALPN.
    pub tls: Option<SocketAddr>,
    /// L4.
    pub tcp: Option<SocketAddr>,
    /// The administration's address.
    pub admin: Option<SocketAddr>,
    /// From the start of the process to its first accepted connection.
    pub ready: Duration,
    child: Child,
}

impl Peer {
    /// User and system time of the process so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = format!("/proc/{}/stat", self.child.id());
        seconds(&std::fs::read_to_string(stat).expect("it runs"))
    }

    /// The CPU time of the threads of this name.
    pub fn thread_cpu_seconds(&self, name: &str) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let stats = tasks.flatten().filter_map(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            stat.contains(&format!("({name})")).then(|| seconds(&stat))
        });
        stats.sum()
    }

    /// The process's resident memory.
    pub fn resident_bytes(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }
}

/// Seconds of user and system CPU time in the text of `/proc/PID/stat`, proc(5).
fn seconds(stat: &str) -> f64 {
    let after = stat.rsplit_once(')').unwrap().1;
    let field =
        |number: usize| after.split_whitespace().nth(number - 3).unwrap().parse::<f64>().unwrap();
    (field(14) + field(15)) / 100.0
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The addresses of a proxy's listeners.
#[derive(Clone, Copy)]
struct Listeners {
    http: SocketAddr,
    tls: SocketAddr,
    tcp: SocketAddr,
}

/// The files and the cluster of the bench.
pub struct Rig {
    folder: PathBuf,
    binary: PathBuf,
    servers: Vec<Child>,
    http1: SocketAddr,
    http2: SocketAddr,
    notes: RefCell<Vec<String>>,
}

/// Text such as an API answers, which compresses as such text does.
fn listing(length: usize) -> String {
    const WORDS: [&str; 8] = ["blue", "large", "cotton", "shirt", "summer", "sale", "wool", "new"];
    let mut text = String::from("[");
    let mut number = 1_u64;
    while text.len() < length {
        number =
            number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = |shift: u32| WORDS[(number >> shift) as usize % WORDS.len()];
        let (id, price) = (number >> 40, (number >> 33) % 100_000);
        writeln!(
            text,
            "{{\"id\":{id},\"name\":\"{} {}\",\"price\":{price},\"tags\":[\"{}\"]}},",
            word(20),
            word(27),
            word(34)
        )
        .unwrap();
    }
    text.truncate(length);
    text
}

impl Rig {
    /// Writes the files and starts the cluster.
    pub fn start(options: &Options) -> Rig {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (servers, notes) = (Vec::new(), RefCell::new(Vec::new()));
        let (http1, http2) = (free(), free());
        let binary = options.binary.clone();
        let mut rig = Rig { folder, binary, servers, http1, http2, notes };
        rig.certificate();
        rig.write("k1", &"a".repeat(1024));
        rig.write("k64", &"b".repeat(64 * 1024));
        rig.write("m1", &"c".repeat(1024 * 1024));
        rig.write("t64", &listing(64 * 1024));
        rig.write("big", &"0123456789abcdef".repeat(16 * 1024 * 1024));
        // A gRPC message of 100 bytes: not compressed, its length, its bytes.
        rig.write("call", &format!("\0\0\0\0\x64{}", "m".repeat(100)));
        let cluster = nginx::cluster(&rig);
        rig.servers.push(cluster);
        rig
    }

    /// All proxies with this setup; those that are not installed or cannot do it are noted and left out.
    pub fn peers(&self, setup: &Setup) -> Vec<Peer> {
        let all = [nginx::start, haproxy::start, envoy::start, tidegate::start];
        all.iter().filter_map(|start| start(self, setup)).collect()
    }

    /// Tidegate alone.
    pub fn tidegate(&self, setup: &Setup) -> Option<Peer> {
        tidegate::start(self, setup)
    }

    /// The relay that shows the kernel's part.
    pub fn floor(&self) -> Option<Peer> {
        let address = free();
        let itself = std::env::current_exe().expect("this program has a file");
        let arguments = ["floor".to_owned(), address.to_string(), self.http1.to_string()];
        let (child, ready) = self.spawn("0", &itself, &arguments, address)?;
        Some(Peer {
            name: "floor".to_owned(),
            other: false,
            http: address,
            tls: None,
            tcp: Some(address),
            admin: None,
            ready,
            child,
        })
    }

    /// A file of the bench.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Notes for below the report, each once.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    fn note(&self, line: String) {
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&line) {
            println!("{line}");
            notes.push(line);
        }
    }

    /// The versions of all programs that are here.
    pub fn versions(&self) -> Vec<String> {
        let first = |program: &Path, argument: &str| {
            let output = Command::new(program).env("PATH", PATH).arg(argument).output().ok()?;
            let both = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&both).into_owned();
            text.lines().find(|line| !line.is_empty()).map(|line| line.trim().to_owned())
        };
        let mut versions = vec![
            first(Path::new("nginx"), "-v"),
            first(Path::new("haproxy"), "-v"),
            first(&self.binary, "--version"),
        ];
        versions.push(envoy::binary().and_then(|binary| first(&binary, "--version")));
        versions.into_iter().flatten().collect()
    }

    fn certificate(&self) {
        let made = Command::new("openssl")
            .current_dir(&self.folder)
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -keyout key.pem -out cert.pem -subj /CN=bench -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1".split(' '))
            .stderr(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "openssl makes a certificate");
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap();
        self.write("both.pem", &[read("cert.pem"), read("key.pem")].concat());
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts a program on these cores and waits until it accepts connections. `None`, with a note, if it does not.
    fn spawn(
        &self,
        cores: &str,
        program: &Path,
        arguments: &[String],
        listens: SocketAddr,
    ) -> Option<(Child, Duration)> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new("taskset");
        command.env("PATH", PATH).args(["-c", cores]).arg(program).args(arguments);
        let errors = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let start = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(errors).spawn();
        let mut child = child.expect("taskset is installed");
        while TcpStream::connect(listens).is_err() {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            if ended || start.elapsed() > START_MAX {
                let log = std::fs::read_to_string(self.folder.join(format!("{name}.log")));
                let log = log.unwrap_or_default();
                let last = log.lines().last().unwrap_or("it says nothing");
                let waited = start.elapsed().as_secs();
                self.note(format!(
                    "{name} does not listen after {waited} s and is left out: {last}"
                ));
                drop(child.kill());
                drop(child.wait());
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Some((child, start.elapsed()))
    }

    /// Starts a peer with listeners.
    fn peer(
        &self,
        name: &str,
        program: &Path,
        arguments: &[String],
        listeners: Listeners,
    ) -> Option<Peer> {
        let (child, ready) = self.spawn("0", program, arguments, listeners.http)?;
        let Listeners { http, tls, tcp } = listeners;
        Some(Peer {
            name: name.to_owned(),
            other: true,
            http,
            tls: Some(tls),
            tcp: Some(tcp),
            admin: None,
            ready,
            child,
        })
    }

    fn server(&self, setup: &Setup) -> SocketAddr {
        if setup.http2 { self.http2 } else { self.http1 }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.servers {
            drop(child.kill());
            drop(child.wait());
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// How long a program may take to listen: HAProxy needs more than a minute of CPU for 50,000 servers.
const START_MAX: Duration = Duration::from_secs(240);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn listeners() -> Listeners {
    Listeners { http: free(), tls: free(), tcp: free() }
}

/// An address that was free a moment ago.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
