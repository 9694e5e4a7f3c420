//! Upgrades: a successor takes over the listening sockets, and no connection is refused.

use super::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The last process that took over; ended with the test.
pub struct Successor<'a>(pub &'a Proxy);

impl Successor<'_> {
    fn id(&self) -> Option<String> {
        let line = self.0.said(" starting process=")?;
        line.rsplit("process=").next().map(|id| id.trim().to_owned())
    }
}

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        for line in self.0.log().iter().filter(|line| line.contains(" starting process=")) {
            let id = line.rsplit("process=").next().unwrap().trim().to_owned();
            drop(Command::new("kill").args(["-KILL", &id]).output());
        }
    }
}

fn signal(id: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
}

fn count(proxy: &Proxy, text: &str) -> usize {
    proxy.log().iter().filter(|line| line.contains(text)).count()
}

fn is_alive(id: &str) -> bool {
    // A zombie counts as ended.
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// A proxy at fixed addresses: a successor finds its sockets by the addresses in the file.
fn fixed(cluster: &Cluster, folder: &Folder) -> (String, std::net::SocketAddr) {
    let web = free();
    let text = format!(
        "drain: {{ deadline: 2s }}\n\
         listeners:\n  web: {{ address: {web}, protocol: http, service: shop }}\n  \
           local: {{ address: \"unix:{}/web.sock\", protocol: http, service: shop }}\n\
         services: {{ shop: {{ clusters: [a] }} }}\n\
         clusters: {{ a: {{ kind: idc, endpoints: [\"{}\"], probe: {{ interval: 100ms, timeout: 100ms }} }} }}\n",
        folder.0.display(),
        cluster.address
    );
    (text, web)
}

#[test]
fn upgrades_refuse_no_connection() {
    const UPGRADES: usize = 5;
    let (cluster, folder) = (Cluster::named("a"), Folder::new());
    let (text, web) = fixed(&cluster, &folder);
    let proxy = Proxy::start(&text);
    let successor = Successor(&proxy);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (stop, asked) = (stop.clone(), asked.clone());
            let path = folder.0.join("web.sock");
            std::thread::spawn(move || {
                let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                while !stop.load(Ordering::Relaxed) {
                    let mut answer = String::new();
                    // Each request on a new connection; one of them over the unix socket.
                    if number == 0 {
                        let mut stream = UnixStream::connect(&path).expect("nobody is refused");
                        stream.write_all(request).unwrap();
                        stream.read_to_string(&mut answer).unwrap();
                    } else {
                        let mut stream = TcpStream::connect(web).expect("nobody is refused");
                        stream.write_all(request).unwrap();
                        stream.read_to_string(&mut answer).unwrap();
                    }
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // A keep-alive connection is closed gracefully, not reset.
    let mut kept = Keeping::new(web);
    assert_eq!(kept.get("/").body, "a");
    for number in 1..=UPGRADES {
        let before = successor.id();
        match &before {
            None => proxy.signal(libc::SIGUSR2),
            Some(id) => signal(id, "-USR2"),
        }
        eventually("a successor is ready", || count(&proxy, "successor ready") == number);
        eventually("its predecessor ends", || count(&proxy, "INFO proxy stopped") == number);
        if let Some(id) = before {
            eventually("it is gone", || !is_alive(&id));
        }
    }
    let after = asked.load(Ordering::Relaxed);
    eventually("requests go on", || asked.load(Ordering::Relaxed) > after + 20);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(folder.0.join("web.sock").exists(), "the file is the successor's");
    assert!(count(&proxy, "connections are cut") == 0, "{:?}", proxy.log());
}

#[test]
fn a_failed_successor_changes_nothing() {
    let (cluster, folder) = (Cluster::named("a"), Folder::new());
    let (text, web) = fixed(&cluster, &folder);
    let proxy = Proxy::start(&text);
    let _successor = Successor(&proxy);
    proxy.rewrite("listeners: broken\n");
    eventually("it is told", || count(&proxy, "configuration rejected") == 1);
    proxy.signal(libc::SIGUSR2);
    proxy.says("failed before it was ready");
    assert_eq!(get(web, "/").body, "a");
    assert_eq!(proxy.get("/readyz").status, 200);
    // The next attempt may succeed.
    proxy.rewrite(&text);
    eventually("the configuration is whole", || proxy.generation() >= 1);
    proxy.signal(libc::SIGUSR2);
    proxy.says("successor ready");
    assert_eq!(get(web, "/").body, "a");
}

#[test]
fn systemd_passes_sockets_and_receives_notifications() {
    let (cluster, folder) = (Cluster::named("a"), Folder::new());
    let (text, web) = fixed(&cluster, &folder);
    let file = folder.write("tidegate.yaml", &format!("admin: {{ address: \"off\" }}\n{text}"));
    let notifications = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    notifications.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Like systemd: the socket is the descriptor 3, and the pid is that of the process itself.
    let program = "import os, socket, sys\n\
        s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
        s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(64)\n\
        os.dup2(s.fileno(), 3, inheritable=True); os.set_inheritable(3, True)\n\
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))\n\
        os.execv(sys.argv[3], [sys.argv[3], 'run', '--config', sys.argv[4]])\n";
    let mut child = Command::new("python3")
        .args(["-c", program, &web.ip().to_string(), &web.port().to_string()])
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(&file)
        .env("NOTIFY_SOCKET", folder.0.join("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let count = notifications.recv(&mut bytes).expect("it is told in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(get(web, "/").body, "a");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    // Notifications other than watchdog ones.
    let other = || std::iter::repeat_with(next).find(|said| said != "WATCHDOG=1").unwrap();
    let after = |first: &str| {
        let said = other();
        assert!(said.starts_with(first), "{said}");
    };
    signal(&child.id().to_string(), "-HUP");
    after("RELOADING=1\nMONOTONIC_USEC=");
    after("READY=1");
    // After the upgrade the successor notifies the service manager; its predecessor does not announce a stop.
    signal(&child.id().to_string(), "-USR2");
    // Two processes send these notifications, in any order.
    let mut said = [other(), other()];
    said.sort();
    let [id, ready] = said;
    assert_eq!(ready, "READY=1");
    let id = id.strip_prefix("MAINPID=").expect("the successor's number");
    assert!(child.wait().unwrap().success());
    while let Ok(count) = notifications.recv(&mut [0; 256]) {
        // The predecessor has ended: later watchdog notifications are the successor's.
        if count == "WATCHDOG=1".len() {
            break;
        }
    }
    assert_eq!(next(), "WATCHDOG=1");
    signal(id, "-TERM");
    after("STOPPING=1");
    eventually("it is gone", || !is_alive(id));
}

#[test]
fn a_proxy_has_pages_of_the_usual_size_alone() {
    let cluster = Cluster::named("idc");
    let proxy = Proxy::start(&fixed(&cluster, &Folder::new()).0);
    assert_eq!(proxy.status("THP_enabled:"), 0);
}
