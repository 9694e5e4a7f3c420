//! The proxies under comparison, and the nginx that is their cluster: each in its best configuration for the rig.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One proxy at one address.
#[derive(Clone)]
pub struct Peer {
    /// The name in the tables.
    pub name: &'static str,
    /// The address.
    pub address: SocketAddr,
    pid: u32,
}

impl Peer {
    /// User and system time of the process so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        let after = stat.rsplit_once(')').unwrap().1;
        let field = |number: usize| {
            after.split_whitespace().nth(number - 3).unwrap().parse::<f64>().unwrap()
        };
        (field(14) + field(15)) / 100.0
    }

    /// The process's resident memory.
    pub fn resident_bytes(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }
}

/// All processes of the bench.
pub struct Rig {
    folder: PathBuf,
    children: Vec<Child>,
    http: Vec<Peer>,
    tcp: Vec<Peer>,
    tls: Vec<Peer>,
}

impl Rig {
    /// Starts all processes; a missing program ends the bench with its name.
    pub fn start() -> Rig {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut rig = Rig {
            folder,
            children: Vec::new(),
            http: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
        };
        rig.certificate();
        rig.write("k1", &"a".repeat(1024));
        rig.write("big", &"0123456789abcdef".repeat(16 * 1024 * 1024));
        let cluster = rig.cluster();
        rig.nginx(cluster);
        rig.haproxy(cluster);
        rig.tidegate(cluster);
        rig
    }

    /// The peers of the HTTP scenarios.
    pub fn http(&self) -> Vec<Peer> {
        self.http.clone()
    }

    /// The peers of the L4 scenarios.
    pub fn tcp(&self) -> Vec<Peer> {
        self.tcp.clone()
    }

    /// The peers of the TLS scenarios: HTTP/2 and HTTP/1.1 by ALPN.
    pub fn tls(&self) -> Vec<Peer> {
        self.tls.clone()
    }

    /// The peers' certificate, to trust.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("cert.pem")
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

    fn spawn(&mut self, core: &str, program: &str, arguments: &[&str], ready: SocketAddr) -> u32 {
        let mut command = Command::new("taskset");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["-c", core, program]).args(arguments);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
        let pid = child.id();
        self.children.push(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(ready).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen on {ready}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        pid
    }

    fn nginx_config(&self, name: &str, inside: &str) -> PathBuf {
        let at = self.folder.display();
        self.write(
            &format!("{name}.conf"),
            &format!(
                "worker_processes 1; daemon off; master_process off; pid {at}/{name}.pid; error_log /dev/null;\n\
                 events {{ worker_connections 16384; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on;\n\
                 open_file_cache max=100; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2;\n\
                 fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n{inside}\n}}\n"
            ),
        )
    }

    fn cluster(&mut self) -> SocketAddr {
        let address = free();
        let inside = format!("server {{ listen {address}; root {}; }}", self.folder.display());
        let config = self.nginx_config("cluster", &inside);
        self.spawn("1", "nginx", &["-c", &config.display().to_string()], address);
        address
    }

    fn nginx(&mut self, cluster: SocketAddr) {
        let (address, tls) = (free(), free());
        let at = self.folder.display();
        let inside = format!(
            "upstream u {{ server {cluster}; keepalive 256; keepalive_requests 1000000000; }}\n\
             ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; ssl_protocols TLSv1.3;\n\
             server {{ listen {address}; listen {tls} ssl http2; location / {{ proxy_pass http://u; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; }} }}"
        );
        let config = self.nginx_config("nginx", &inside);
        let pid = self.spawn("0", "nginx", &["-c", &config.display().to_string()], address);
        self.http.push(Peer { name: "nginx", address, pid });
        self.tls.push(Peer { name: "nginx", address: tls, pid });
    }

    fn haproxy(&mut self, cluster: SocketAddr) {
        let (http, tcp, tls) = (free(), free(), free());
        let at = self.folder.display();
        let config = self.write(
            "haproxy.cfg",
            &format!(
                "global\n  nbthread 1\n  maxconn 7000\n  tune.bufsize 65536\n\
                 defaults\n  timeout client 1h\n  timeout server 1h\n  timeout connect 5s\n  http-reuse always\n  option splice-auto\n\
                 frontend h\n  mode http\n  bind {http}\n  bind {tls} ssl crt {at}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3\n  default_backend hb\n\
                 backend hb\n  mode http\n  server s {cluster} pool-max-conn -1\n\
                 frontend t\n  mode tcp\n  bind {tcp}\n  default_backend tb\n\
                 backend tb\n  mode tcp\n  server s {cluster}\n"
            ),
        );
        let pid = self.spawn("0", "haproxy", &["-db", "-f", &config.display().to_string()], tcp);
        self.http.push(Peer { name: "haproxy", address: http, pid });
        self.tls.push(Peer { name: "haproxy", address: tls, pid });
        self.tcp.push(Peer { name: "haproxy", address: tcp, pid });
    }

    fn tidegate(&mut self, cluster: SocketAddr) {
        let (http, tcp, tls) = (free(), free(), free());
        let config = self.write(
            "tidegate.yaml",
            &format!(
                "runtime: {{ workers: 1 }}\nadmin: {{ address: 127.0.0.1:0 }}\naccess_log: {{ format: off }}\n\
                 listeners:\n  h: {{ address: \"{http}\", protocol: http, service: s, timeouts: {{ idle: 1h }} }}\n  t: {{ address: \"{tcp}\", protocol: tcp, service: s }}\n  s: {{ address: \"{tls}\", protocol: http, service: s, timeouts: {{ idle: 1h }}, tls: {{ certificates: [{{ cert: cert.pem, key: key.pem }}], min_version: \"1.3\" }} }}\n\
                 services: {{ s: {{ clusters: [c] }} }}\nclusters: {{ c: {{ kind: idc, endpoints: [\"{cluster}\"] }} }}\n"
            ),
        );
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tidegate");
        let (binary, config) = (binary.display().to_string(), config.display().to_string());
        let pid = self.spawn("0", &binary, &["run", "--config", &config], tcp);
        self.http.push(Peer { name: "tidegate", address: http, pid });
        self.tls.push(Peer { name: "tidegate", address: tls, pid });
        self.tcp.push(Peer { name: "tidegate", address: tcp, pid });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
