//! The rig: clusters that record and judge all bytes they receive, and raw clients that do the same.

use super::judge::{self, Closed, Response};
use super::support::{Folder, PATIENCE, Proxy, connect};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The number of parallel lanes, each with its own listener and cluster.
pub const LANES: usize = 4;

/// The bytes that a cluster has received.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Complete messages.
    pub whole: usize,
    /// Bytes.
    pub bytes: usize,
    /// Violations that a strict parser reports.
    pub violations: Vec<String>,
}

/// A cluster that answers every complete message, and judges all bytes it receives.
pub struct Recorder {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    pub fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let all = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = all.clone();
                std::thread::spawn(move || record(stream, &seen));
            }
        });
        Recorder { address, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

fn record(mut stream: TcpStream, seen: &Mutex<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let mut space = [0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        bytes.extend_from_slice(&space[..count]);
        let mut answers = Vec::new();
        {
            let mut seen = seen.lock().unwrap();
            seen.bytes += count;
            match judge::requests(&bytes) {
                Ok((whole, rest)) => {
                    seen.whole += whole.len();
                    for request in &whole {
                        let body = if request.method == "HEAD" { "" } else { "ok" };
                        answers.push(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"));
                    }
                    bytes.drain(..bytes.len() - rest);
                }
                Err(why) => {
                    let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
                    seen.violations.push(format!("{why}: {shown}"));
                    return;
                }
            }
        }
        for answer in answers {
            drop(stream.write_all(answer.as_bytes()));
        }
    }
}

/// A proxy in front of these clusters, with a listener for each; `more` is added to every cluster and listener.
pub fn proxy(clusters: &[SocketAddr], listener: &str, cluster: &str) -> Proxy {
    let each = |line: &dyn Fn(usize) -> String| -> String {
        (0..clusters.len()).map(line).collect::<Vec<_>>().concat()
    };
    let listeners = each(&|lane| {
        format!(
            "  l{lane}: {{ address: 127.0.0.{}:0, protocol: http, service: s{lane}{listener} }}\n",
            lane + 1
        )
    });
    let services =
        each(&|lane| format!("  s{lane}: {{ clusters: [c{lane}], retry: {{ retries: 0 }} }}\n"));
    let clusters = each(&|lane| {
        format!(
            "  c{lane}: {{ kind: idc, endpoints: [\"{}\"], outlier: {{ max_percent: 0 }}, \
             probe: {{ kind: none }}{cluster} }}\n",
            clusters[lane]
        )
    });
    Proxy::start(&format!(
        "access_log: {{ format: \"off\" }}\nlisteners:\n{listeners}services:\n{services}clusters:\n{clusters}"
    ))
}

/// A connection for bytes in both directions.
pub trait Wire: Read + Write {
    /// Closes the connection without leaving the port in use.
    fn finish(self: Box<Self>);
}

impl Wire for TcpStream {
    fn finish(self: Box<Self>) {
        socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

pub fn plain(to: SocketAddr) -> Box<dyn Wire> {
    Box::new(connect(to))
}

/// TLS by rustls, without ALPN.
pub struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    /// A client that trusts the folder's authority.
    pub fn new(folder: &Folder) -> Tls {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let ca = rustls::pki_types::CertificateDer::from_pem_file(folder.0.join("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Tls(Arc::new(config))
    }

    pub fn connect(&self, to: SocketAddr) -> Box<dyn Wire> {
        let name = rustls::pki_types::ServerName::try_from("a").unwrap();
        let session = rustls::ClientConnection::new(self.0.clone(), name).unwrap();
        Box::new(rustls::StreamOwned::new(session, connect(to)))
    }
}

impl Wire for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn finish(self: Box<Self>) {
        socket2::SockRef::from(&self.sock).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// `ca.pem`, `a.pem` and `a.key`, for the host `a`.
pub fn certificates() -> Folder {
    let folder = Folder::new();
    folder.write("a.ext", "subjectAltName=DNS:a\n");
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout a.key -out a.csr -subj /CN=a",
        "x509 -req -in a.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile a.ext -out a.pem",
    ] {
        run(&folder.0, arguments);
    }
    folder
}

fn run(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' ')).stdin(Stdio::null());
    assert!(command.output().unwrap().status.success(), "openssl {arguments}");
}

/// The bytes that a client received, strictly parsed.
#[derive(Debug)]
pub struct Got {
    /// Responses; interim ones precede their final one.
    pub responses: Vec<Response>,
    /// Whether the connection has ended.
    pub over: bool,
}

impl Got {
    /// The final response, if it is complete.
    pub fn whole(&self) -> Option<&Response> {
        self.responses.last().filter(|last| last.status >= 200 && last.complete)
    }
}

/// Reads until the response to `method` is complete, or the connection ends.
pub fn read(wire: &mut dyn Wire, method: &str) -> Result<Got, String> {
    let mut bytes = Vec::new();
    let mut space = [0; 65_536];
    loop {
        let closed = match wire.read(&mut space) {
            Ok(0) => Closed::Clean,
            Ok(count) => {
                bytes.extend_from_slice(&space[..count]);
                Closed::Open
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Closed::Clean,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Closed::Reset,
            Err(error) => {
                let shown = String::from_utf8_lossy(&bytes);
                return Err(format!("no end within {PATIENCE:?}: {error}, after {shown:?}"));
            }
        };
        let over = !matches!(closed, Closed::Open);
        let got = Got { responses: judge::responses(&bytes, &[method], closed)?, over };
        if over || got.whole().is_some() {
            return Ok(got);
        }
    }
}

/// Runs `work` on each item, in lanes; returns all violations, sorted.
pub fn in_lanes<T: Sync>(
    items: &[T],
    work: impl Fn(usize, &T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (faults, work) = (&faults, &work);
            scope.spawn(move || {
                for item in items.iter().skip(lane).step_by(LANES) {
                    if let Err(fault) = work(lane, item) {
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner().unwrap();
    faults.sort();
    faults
}
