//! Certificates from an ACME authority: Pebble, the test server of Let's Encrypt, validates names, issues, forgets and
//! refuses; `tests/foreign/lying_acme.py` before it fails in other ways.

use super::support::*;
use super::tls::folder_with;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time for orders: a challenge is shown for some seconds before it is validated.
const ORDERS: Duration = Duration::from_secs(120);

/// Waits until `done`, as long as orders may take.
#[track_caller]
fn in_time(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + ORDERS;
    while !done() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Pebble, and a name server that gives every name one address.
struct Authority {
    folder: Folder,
    /// The address of its directory.
    address: SocketAddr,
    management: SocketAddr,
    /// The ports on which it validates names.
    http: u16,
    tls: u16,
    pebble: Option<Process>,
    _names: Process,
    name_server: SocketAddr,
}

impl Authority {
    /// An authority whose certificates are valid for so many seconds, and that finds all names at this address.
    fn start(seconds: u32, names_at: &str) -> Option<Authority> {
        if !is_installed("pebble") || !is_installed("pebble-challtestsrv") {
            return None;
        }
        let folder = folder_with(&[("authority", &["127.0.0.1", "authority.example"])]);
        let (address, management, name_server) = (free(), free(), free());
        let (http, tls) = (free().port(), free().port());
        let settings = serde_json::json!({"pebble": {
            "listenAddress": address.to_string(), "managementListenAddress": management.to_string(),
            "certificate": "authority.pem", "privateKey": "authority.key",
            "httpPort": http, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false, "certificateValidityPeriod": seconds,
        }});
        folder.write("pebble.json", &settings.to_string());
        let names = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", names_at, "-defaultIPv6", ""])
            .args(["-dns01", &name_server.to_string(), "-management", &free().to_string()])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut authority = Authority {
            folder,
            address,
            management,
            http,
            tls,
            pebble: None,
            _names: Process(names.unwrap()),
            name_server,
        };
        authority.begin();
        Some(authority)
    }

    /// Starts Pebble, which then knows no account and has a new root.
    fn begin(&mut self) {
        self.pebble = None;
        let at = |name: &str| self.folder.0.join(name);
        let log = std::fs::File::options().create(true).append(true).open(at("pebble.log"));
        let log = log.unwrap();
        let pebble = Command::new("pebble")
            .current_dir(&self.folder.0)
            .args(["-config", "pebble.json", "-dnsserver", &self.name_server.to_string()])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.pebble = Some(Process(pebble.unwrap()));
        let url = format!("https://{}/roots/0", self.management);
        in_time("Pebble starts", || {
            let root = Command::new("curl")
                .args(["--silent", "--cacert"])
                .arg(at("ca.pem"))
                .arg(&url)
                .output()
                .unwrap();
            std::fs::write(at("root.pem"), &root.stdout).unwrap();
            root.status.success()
        });
    }

    fn root(&self) -> PathBuf {
        self.folder.0.join("root.pem")
    }

    /// The number of requests to a path since the start.
    fn asked(&self, path: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.0.join("pebble.log")).unwrap();
        log.matches(&format!("POST {path}")).count()
    }

    /// The keys of `tls.acme` for these names.
    fn acme(&self, names: &str, more: &str) -> String {
        self.acme_at(self.address, names, more)
    }

    fn acme_at(&self, directory: SocketAddr, names: &str, more: &str) -> String {
        let ca = self.folder.0.join("ca.pem");
        format!(
            "{{ acme: {{ directory: \"https://{directory}/dir\", ca: {}, email: ops@shop.example, \
             domains: [{names}], accept_terms: true{more} }} }}",
            ca.display()
        )
    }
}

/// A proxy's configuration: a plain listener and one with TLS, at these addresses.
fn proxied(plain: &str, secure: &str, tls: &str, cluster: &Cluster) -> String {
    let listener = |name: &str, at: &str, more: &str| {
        format!("  {name}: {{ address: \"{at}\", protocol: http, service: shop{more} }}\n")
    };
    format!(
        "state_dir: state\nlisteners:\n{}{}services: {{ shop: {{ clusters: [idc] }} }}\n\
         clusters: {{ idc: {{ endpoints: [\"{}\"], probe: {{ interval: 100ms, timeout: 100ms }} }} }}\n",
        listener("web", plain, ""),
        listener("secure", secure, &format!(", tls: {tls}")),
        cluster.address
    )
}

/// A request by curl; its output, if the certificate is of this authority and for this name.
fn fetch(root: &Path, to: SocketAddr, name: &str) -> Option<String> {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "10", "--connect-to", &format!("{name}:443:{to}")])
        .arg("--cacert")
        .arg(root)
        .arg(format!("https://{name}/"))
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The serial number of the certificate for a name; empty if the handshake is refused.
fn serial(to: SocketAddr, name: &str) -> String {
    let shown = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "openssl s_client -connect {to} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null"
        ))
        .output()
        .unwrap();
    String::from_utf8_lossy(&shown.stdout).trim().to_owned()
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(files_below(&path)),
            path => all.push(path),
        }
    }
    all
}

fn state(proxy: &Proxy) -> PathBuf {
    proxy.folder.0.join("state/acme")
}

fn results(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric(&format!("tidegate_acme_renewals_total{{result=\"{result}\"}}"))
}

#[test]
fn a_first_start_orders_by_http_01_and_a_restart_needs_no_order() {
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let cluster = Cluster::named("idc");
    let plain = format!("127.0.0.1:{}", authority.http);
    let tls = authority.acme("shop.example, WWW.shop.example", "");
    let mut proxy = Proxy::start(&proxied(&plain, "127.0.0.1:0", &tls, &cluster));
    let to = proxy.at("secure");
    let ready = proxy.get("/readyz");
    assert_eq!(ready.status, 200, "a load balancer must let the authority in");
    assert!(
        ready.body.contains("listener secure: no certificate for shop.example yet"),
        "{ready:?}"
    );
    assert_eq!(serial(to, "shop.example"), "", "no placeholder");
    proxy.counts(
        "tidegate_tls_handshakes_total{listener=\"secure\",result=\"no_certificate\"}",
        1.0,
    );
    proxy.counts("tidegate_certificates_pending{listener=\"secure\"}", 2.0);
    proxy.says("no certificate for shop.example yet, its TLS handshakes are refused");

    for name in ["shop.example", "www.shop.example"] {
        in_time(name, || fetch(&authority.root(), to, name).as_deref() == Some("idc"));
    }

    proxy.says("certificate for www.shop.example issued, valid until");
    assert_eq!(proxy.get("/readyz").body, "ready\n");
    proxy.counts("tidegate_certificates_pending{listener=\"secure\"}", 0.0);
    assert_eq!(results(&proxy, "issued"), 2.0);
    let certificates = proxy.json("/api/v1/status")["certificates"].clone();
    assert_eq!(certificates[0]["name"], "shop.example", "{certificates}");
    assert!(certificates[1]["expires"].as_str().is_some(), "{certificates}");
    assert_ne!(serial(to, "shop.example"), serial(to, "www.shop.example"), "one for each name");
    // Only the challenge that is open is ours.
    let at = proxy.at("web");
    assert_eq!(get(at, "/.well-known/acme-challenge/of-a-client-in-the-cluster").body, "idc");
    let mut names = BTreeSet::new();
    for file in files_below(&state(&proxy)) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
        names.insert(file.file_name().unwrap().to_string_lossy().into_owned());
    }
    let expected = ["account.json", "lock", "shop.example.pem", "www.shop.example.pem"];
    assert_eq!(names, expected.map(str::to_owned).into(), "challenges are removed");

    let (orders, accounts) = (authority.asked("/order-plz"), authority.asked("/sign-me-up"));
    let before = serial(to, "shop.example");
    let folder = std::mem::replace(&mut proxy.folder, Folder::new());
    drop(proxy);
    let proxy = Proxy::start_in(folder, &[]);

    assert_eq!(serial(proxy.at("secure"), "shop.example"), before);
    assert_eq!(proxy.get("/readyz").body, "ready\n");
    // A further name: the known account orders it, and nothing else.
    let tls = authority.acme("shop.example, www.shop.example, new.shop.example", "");
    proxy.rewrite(&proxied(&plain, "127.0.0.1:0", &tls, &cluster));
    let to = proxy.at("secure");
    in_time("the further name", || fetch(&authority.root(), to, "new.shop.example").is_some());
    assert_eq!(authority.asked("/sign-me-up"), accounts);
    assert!(authority.asked("/order-plz") > orders);
    assert_eq!(results(&proxy, "issued"), 1.0);
    assert_eq!(serial(to, "shop.example"), before);
}

#[test]
fn a_name_is_validated_by_tls_alpn_01_on_the_listener_itself() {
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let cluster = Cluster::named("idc");
    let tls = authority.acme("shop.example", ", challenge: tls-alpn-01");
    let secure = format!("127.0.0.1:{}", authority.tls);
    let proxy = Proxy::start(&proxied("127.0.0.3:0", &secure, &tls, &cluster));
    let to = proxy.at("secure");

    in_time("a certificate", || fetch(&authority.root(), to, "shop.example").is_some());

    let validated = "tidegate_tls_handshakes_total{listener=\"secure\",result=\"acme_challenge\"}";
    assert!(proxy.metric(validated) >= 1.0);
    // Without an open challenge the protocol is not spoken.
    let refused = Command::new("openssl")
        .args(["s_client", "-connect", &to.to_string(), "-servername", "shop.example"])
        .args(["-alpn", "acme-tls/1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

/// A connection by TLS that openssl keeps open.
struct Session(Child, BufReader<std::process::ChildStdout>);

impl Session {
    fn to(at: SocketAddr, name: &str) -> Session {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &at.to_string(), "-servername", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(client.stdout.take().unwrap());
        Session(client, answers)
    }

    /// Sends a request; the body of the answer, three bytes long.
    fn get(&mut self) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";
        self.0.stdin.as_mut().unwrap().write_all(request).unwrap();
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let mut body = [0; 3];
        self.1.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_certificate_is_renewed_before_it_expires_and_no_connection_notices() {
    let Some(authority) = Authority::start(30, "127.0.0.1") else { return };
    let cluster = Cluster::named("idc");
    let plain = format!("127.0.0.1:{}", authority.http);
    let tls = authority.acme("shop.example", "");
    let proxy = Proxy::start(&proxied(&plain, "127.0.0.1:0", &tls, &cluster));
    let to = proxy.at("secure");
    in_time("a certificate", || fetch(&authority.root(), to, "shop.example").is_some());
    let first = serial(to, "shop.example");
    let mut session = Session::to(to, "shop.example");

    in_time("another one", || {
        assert_eq!(session.get(), "idc");
        assert!(fetch(&authority.root(), to, "shop.example").is_some(), "never an expired one");
        std::thread::park_timeout(Duration::from_millis(300));
        serial(to, "shop.example") != first
    });

    assert_eq!(session.get(), "idc", "the connection of the first certificate goes on");
    assert!(results(&proxy, "issued") >= 2.0);
}

/// The authority that fails as it is told, before the real one.
struct Liar(#[expect(dead_code, reason = "ended with the test")] Process, SocketAddr);

impl Liar {
    fn before(authority: &Authority) -> Liar {
        let address = free();
        authority.folder.write("fault", "");
        let mut command = Command::new("python3");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let (real, real_port) =
            (authority.address.ip().to_string(), authority.address.port().to_string());
        let log = std::fs::File::create(authority.folder.0.join("liar.log")).unwrap();
        command.current_dir(&authority.folder.0).arg(script("lying_acme.py"));
        command.args([&ip, &port]).args(["authority.pem", "authority.key"]);
        command.args([&real, &real_port]).arg("fault").stdout(log).stderr(Stdio::null());
        let process = Process(command.spawn().unwrap());
        eventually("the liar listens", || std::net::TcpStream::connect(address).is_ok());
        Liar(process, address)
    }

    fn heard(authority: &Authority, line: &str) -> usize {
        let log = std::fs::read_to_string(authority.folder.0.join("liar.log")).unwrap();
        log.matches(line).count()
    }
}

#[test]
fn an_authority_that_fails_is_reported_once_and_the_old_certificate_serves() {
    let Some(authority) = Authority::start(50, "127.0.0.1") else { return };
    let liar = Liar::before(&authority);
    let cluster = Cluster::named("idc");
    let plain = format!("127.0.0.1:{}", authority.http);
    let tls = authority.acme_at(liar.1, "shop.example", "");
    authority.folder.write("fault", "garbage");
    let proxy = Proxy::start(&proxied(&plain, "127.0.0.1:0", &tls, &cluster));
    let to = proxy.at("secure");
    // With each fault an operator asks again; the rest of the pause is not waited for.
    #[rustfmt::skip]
    let faults = [
        ("garbage",   "unreachable",     "the answer is not of an ACME authority"),
        ("nonce",     "refused",         "told so by a test"),
        ("wrong",     "bad_certificate", "does not match the certificate"),
    ];
    for (fault, result, why) in faults {
        authority.folder.write("fault", fault);
        let before = results(&proxy, result);
        assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
        in_time(fault, || results(&proxy, result) > before);
        let line = proxy.says(&format!("no certificate for shop.example ({result}): "));
        assert!(line.contains(why) && line.contains("next attempt in"), "{line}");
        assert_eq!(proxy.get("/readyz").status, 200);
        assert_eq!(get(proxy.at("web"), "/").body, "idc", "the data plane is not concerned");
    }
    assert_eq!(serial(to, "shop.example"), "");

    // The account was made through the liar; it is unknown once, and a new one is made at once.
    authority.folder.write("fault", "forgotten");
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
    in_time("a certificate", || fetch(&authority.root(), to, "shop.example").is_some());
    proxy.says("ACME account unknown to");
    let first = serial(to, "shop.example");
    let accounts = Liar::heard(&authority, "POST /sign-me-up");
    assert!(accounts >= 2, "{accounts}");

    // Renewal, refused for some seconds: the old certificate serves, and no order comes earlier.
    authority.folder.write("fault", "limited 7");
    in_time("a refusal", || results(&proxy, "rate_limited") == 1.0);
    let since = Instant::now();
    authority.folder.write("fault", "");
    assert_eq!(serial(to, "shop.example"), first);
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
    in_time("the renewal", || {
        let shown = serial(to, "shop.example");
        assert_ne!(shown, "", "a certificate is always shown");
        shown != first
    });
    assert!(since.elapsed() > Duration::from_secs(6), "{:?}", since.elapsed());
    assert_eq!(results(&proxy, "rate_limited"), 1.0);
}

/// A certificate for the name that is past two thirds of its life and valid for years: its renewal is due at once.
fn due(name: &str) -> String {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2050, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
}

#[test]
fn a_slow_or_lying_authority_leaves_the_old_certificate_and_the_data_plane_alone() {
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let liar = Liar::before(&authority);
    let cluster = Cluster::named("idc");
    let plain = format!("127.0.0.1:{}", authority.http);
    let tls = authority.acme_at(liar.1, "shop.example", "");
    authority.folder.write("fault", "garbage");
    let mut proxy = Proxy::start(&proxied(&plain, "127.0.0.1:0", &tls, &cluster));
    in_time("a failure", || results(&proxy, "unreachable") > 0.0);
    let all = files_below(&state(&proxy));
    let lock = all.iter().find(|file| file.ends_with("lock")).unwrap();
    let file = lock.with_file_name("shop.example.pem");
    std::fs::write(&file, due("shop.example")).unwrap();
    let folder = std::mem::replace(&mut proxy.folder, Folder::new());
    drop(proxy);
    let proxy = Proxy::start_in(folder, &[]);
    let (web, to) = (proxy.at("web"), proxy.at("secure"));
    let old = serial(to, "shop.example");
    assert_ne!(old, "");
    in_time("the first failure of the renewal", || results(&proxy, "unreachable") > 0.0);

    let (no_acme, in_no_time) =
        ("is not of an ACME authority", "did not complete the order in time");
    #[rustfmt::skip]
    let faults = [
        ("cut",     "unreachable",     no_acme),
        ("unready", "unreachable",     in_no_time),
        ("endless", "unreachable",     in_no_time),
        ("nowhere", "unreachable",     "the directory's newNonce is not a URL"),
        ("other",   "bad_certificate", "the certificate is for other.example, not for shop.example"),
        ("slow",    "unreachable",     "no response within 20s"),
    ];
    for (fault, result, why) in faults {
        authority.folder.write("fault", fault);
        let (before, since) = (results(&proxy, result), Instant::now());
        assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
        in_time(fault, || {
            let asked = Instant::now();
            assert_eq!(get(web, "/").body, "idc", "{fault}");
            assert_eq!(serial(to, "shop.example"), old, "{fault}: the old one serves");
            assert!(asked.elapsed() < Duration::from_secs(2), "{fault}: {:?}", asked.elapsed());
            results(&proxy, result) > before
        });
        let said = format!("no certificate for shop.example ({result}): ");
        let told = proxy.log();
        let told: Vec<&String> =
            told.iter().filter(|line| line.contains(&said) && line.contains(why)).collect();
        assert!(!told.is_empty(), "{fault}: {:?}", proxy.said(&said));
        assert!(told.iter().all(|line| line.contains("next attempt in")), "{told:?}");
        assert!(since.elapsed() < Duration::from_secs(40), "{fault}: {:?}", since.elapsed());
    }
    let slow = proxy.log().iter().filter(|line| line.contains("no response within 20s")).count();
    assert_eq!(slow, 1, "one line");

    // Orders go on after all of that.
    authority.folder.write("fault", "");
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
    in_time("the renewal", || fetch(&authority.root(), to, "shop.example").is_some());
    assert_ne!(serial(to, "shop.example"), old);
    assert_eq!(results(&proxy, "issued"), 1.0);
}

#[test]
fn a_name_that_cannot_be_validated_and_an_authority_that_is_down_are_reported() {
    // All names are at an address where nothing listens.
    let Some(mut authority) = Authority::start(3_600, "127.0.0.77") else { return };
    let cluster = Cluster::named("idc");
    let tls = authority.acme("shop.example", "");
    let proxy = Proxy::start(&proxied("127.0.0.3:0", "127.0.0.1:0", &tls, &cluster));
    in_time("the verdict", || results(&proxy, "invalid") == 1.0);
    let line = proxy.says("no certificate for shop.example (invalid): ");
    assert!(line.contains("127.0.0.77") || line.contains("refused"), "{line}");
    let open = state(&proxy).join("challenges");
    assert_eq!(files_below(&open).len(), 0, "the challenge has ended");

    authority.pebble = None;
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);

    in_time("no answer", || results(&proxy, "unreachable") >= 2.0);
    let told = proxy.log();
    let told: Vec<&String> = told.iter().filter(|line| line.contains("(unreachable)")).collect();
    assert_eq!(told.len(), 1, "once, not at each attempt: {told:?}");
}

#[test]
fn a_challenge_that_reaches_another_proxy_is_answered_from_the_shared_folder() {
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let cluster = Cluster::named("idc");
    let shared = Folder::new();
    let start = |plain: &str, name: &str| {
        let text = proxied(plain, "127.0.0.1:0", &authority.acme(name, ""), &cluster);
        let folder = format!("state_dir: {}", shared.0.display());
        Proxy::start(&text.replace("state_dir: state", &folder))
    };
    // The authority reaches this proxy alone.
    let reached = start(&format!("127.0.0.1:{}", authority.http), "other.example");
    let to = reached.at("secure");
    in_time("its own", || fetch(&authority.root(), to, "other.example").is_some());
    let ordering = start("127.0.0.3:0", "shop.example");
    let to = ordering.at("secure");

    in_time("a certificate", || fetch(&authority.root(), to, "shop.example").is_some());

    assert_eq!((results(&ordering, "issued"), results(&ordering, "invalid")), (1.0, 0.0));
    // A third one finds the certificate and orders none.
    let third = start("127.0.0.3:0", "shop.example");
    assert_eq!(serial(third.at("secure"), "shop.example"), serial(to, "shop.example"));
    assert_eq!(results(&third, "issued"), 0.0);
}

#[test]
fn of_the_proxies_that_share_a_folder_one_renews_and_all_use_its_certificate() {
    let Some(authority) = Authority::start(30, "127.0.0.1") else { return };
    let cluster = Cluster::named("idc");
    let shared = Folder::new();
    let start = |plain: &str| {
        let text = proxied(plain, "127.0.0.1:0", &authority.acme("shop.example", ""), &cluster);
        let folder = format!("state_dir: {}", shared.0.display());
        Proxy::start(&text.replace("state_dir: state", &folder))
    };
    let first = start(&format!("127.0.0.1:{}", authority.http));
    let at = first.at("secure");
    in_time("a certificate", || fetch(&authority.root(), at, "shop.example").is_some());
    let second = start("127.0.0.3:0");
    let both = [at, second.at("secure")];
    let shown = || both.map(|at| serial(at, "shop.example"));
    let old = shown();
    assert_eq!(old[0], old[1]);
    let issued = || results(&first, "issued") + results(&second, "issued");

    in_time("a renewal that both use", || {
        let now = shown();
        now[0] == now[1] && now[0] != old[0]
    });

    // The renewal of the other one is due at most a twentieth of 30 s later; the next one of both after 20 s.
    let since = Instant::now();
    in_time("the turn of the other one passes", || {
        assert_eq!(issued(), 2.0, "each certificate is ordered once");
        since.elapsed() > Duration::from_secs(10)
    });
}

/// Two proxies of a site, each at its place and with these keys of `fleet`, of which the authority reaches the first: it
/// answers the challenge of the other one.
fn the_reached_one_answers(authority: &Authority, places: [SocketAddr; 2], fleet: [String; 2]) {
    let cluster = Cluster::named("idc");
    let start = |own: usize, plain: &str, name: &str| {
        let folder = Folder::new();
        folder.write("token", "secret\n");
        let text = format!(
            "site: {{ name: east }}\nadmin: {{ address: \"{}\", token_file: token }}\nfleet: {{ {} }}\n{}",
            places[own],
            fleet[own],
            proxied(plain, "127.0.0.1:0", &authority.acme(name, ""), &cluster)
        );
        folder.write("tidegate.yaml", &text);
        Proxy::start_in(folder, &[])
    };
    // The authority reaches this proxy alone.
    let reached = start(0, &format!("127.0.0.1:{}", authority.http), "other.example");
    let to = reached.at("secure");
    in_time("its own", || fetch(&authority.root(), to, "other.example").is_some());
    let ordering = start(1, "127.0.0.3:0", "shop.example");
    let to = ordering.at("secure");

    in_time("a certificate", || fetch(&authority.root(), to, "shop.example").is_some());

    assert_eq!((results(&ordering, "issued"), results(&ordering, "invalid")), (1.0, 0.0));
}

#[test]
fn a_challenge_that_reaches_another_proxy_is_answered_from_the_reports_of_the_fleet() {
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let places = [free(), free()];
    let peer = |at: SocketAddr| {
        format!("peers: [{{ site: east, url: \"http://{at}\", token_file: token }}]")
    };
    the_reached_one_answers(&authority, places, [peer(places[1]), peer(places[0])]);
}

#[cfg(feature = "nats")]
#[test]
fn a_challenge_that_reaches_another_proxy_is_answered_from_reports_on_nats() {
    if !is_installed("nats-server") {
        return;
    }
    let Some(authority) = Authority::start(3_600, "127.0.0.1") else { return };
    let (folder, at) = (Folder::new(), free());
    let _server = super::nats::server(&folder, at, "");
    let fleet = format!("nats: {{ url: \"nats://{at}\" }}");
    the_reached_one_answers(&authority, [free(), free()], [fleet.clone(), fleet]);
}

#[cfg(feature = "nats")]
#[test]
fn challenges_on_nats_are_answered_for_the_own_site_alone_and_in_their_form() {
    if !is_installed("nats-server") {
        return;
    }
    let (folder, at) = (Folder::new(), free());
    let _server = super::nats::server(&folder, at, "");
    let cluster = Cluster::named("idc");
    // An authority that is not there: the proxy answers challenges all the same.
    let tls = format!(
        "{{ acme: {{ directory: \"https://{}/dir\", domains: [shop.example], accept_terms: true }} }}",
        free()
    );
    let fleet = format!("site: {{ name: here }}\nfleet: {{ nats: {{ url: \"nats://{at}\" }} }}\n");
    let proxy = Proxy::start(&(fleet + &proxied("127.0.0.3:0", "127.0.0.1:0", &tls, &cluster)));
    eventually("a connection", || proxy.json("/api/v1/fleet")["nats"]["connected"] == true);
    let web = proxy.at("web");
    let mut forger = super::nats::Forger::connect(at);
    let mut say = |subject: &str, sequence: u32, keys: &[String]| {
        let all: Vec<String> = keys
            .iter()
            .map(|key| format!(r#"{{"domain":"shop.example","key_authorization":{key:?}}}"#))
            .collect();
        let report = format!(r#"{{"n":1,"q":{sequence},"a":[{}]}}"#, all.join(","));
        forger.publish(subject, report.as_bytes());
    };
    let answer = |token: &str| get(web, &format!("/.well-known/acme-challenge/{token}")).body;
    let mut sequence = 0;
    let mut says = |subject: &str, keys: &[String]| {
        sequence += 1;
        say(subject, sequence, keys);
    };

    // A report is valid for some seconds; a proxy repeats it until its order has ended.
    eventually("a colleague's challenge is answered", || {
        says("member.here.m:1", &["mine.thumb".to_owned()]);
        answer("mine") == "mine.thumb"
    });
    // Members of other sites are not subscribed to, and the sum over another site has no challenges.
    says("member.there.m:1", &["theirs.thumb".to_owned()]);
    says("site.there.m:1", &["theirs.thumb".to_owned()]);
    eventually("the other site is known", || {
        proxy.json("/api/v1/fleet")["sites"].as_array().is_some_and(|sites| sites.len() == 2)
    });
    for (reason, subject, keys) in [
        ("value", "member.here.v:1", vec!["bad.thumb\r\nx: y".to_owned()]),
        ("value", "member.here.v:2", vec!["../bad.thumb".to_owned()]),
        ("too_many", "member.here.t:1", (0..65).map(|n| format!("many{n}.thumb")).collect()),
    ] {
        let metric = format!("tidegate_fleet_refused_total{{reason=\"{reason}\"}}");
        let before = proxy.metric(&metric);
        says(subject, &keys);
        eventually(reason, || proxy.metric(&metric) == before + 1.0);
    }
    // Each look for challenges is over when a further one is answered.
    eventually("a further challenge is answered", || {
        says("member.here.m:1", &["mine.thumb".to_owned(), "more.thumb".to_owned()]);
        answer("more") == "more.thumb"
    });
    for token in ["theirs", "bad", "many0"] {
        assert_eq!(answer(token), "idc", "{token}: it passes to the cluster");
    }
    eventually("a colleague that is silent is forgotten", || answer("mine") == "idc");
}
