//! Imported configurations beside the originals: the same requests to nginx or HAProxy and to Tidegate, and the answers
//! compared.

use super::support::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// An application that answers with its name and the request that it got.
fn application(name: &'static str) -> Cluster {
    Cluster::scripted(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            let line = head.lines().next().unwrap_or_default();
            let mut words = line.split(' ');
            let (method, path) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let field = |name: &str| {
                let is_it = |line: &&str| line.to_ascii_lowercase().starts_with(name);
                let line = head.lines().find(is_it).unwrap_or_default();
                line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
            };
            connection.reply(&format!("{name} {method} {path} {}", field("host:")));
        }
    })
}

/// Addresses for listeners, each with a port of the system's choice.
const ANY_PORT: [&str; 3] = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"];

fn fixture(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(path);
    std::fs::read_to_string(path).unwrap()
}

/// The applications of the fixtures and their addresses there.
struct Shop(Vec<(&'static str, Cluster)>);

impl Shop {
    fn new() -> Shop {
        let names = [
            ("10.0.0.11:8080", "shop"),
            ("10.0.0.12:8080", "shop"),
            ("10.0.0.13:8080", "backup"),
            ("10.0.0.21:8080", "api"),
            ("10.0.0.22:8080", "beta"),
            ("10.0.0.31:8080", "files"),
            ("10.0.0.32:8080", "legacy"),
            ("10.0.0.41:5432", "db"),
            ("10.0.0.42:5432", "db-standby"),
        ];
        Shop(names.into_iter().map(|(address, name)| (address, application(name))).collect())
    }

    /// The text with the applications' real addresses.
    fn placed(&self, text: &str) -> String {
        let place = |text: String, (address, cluster): &(&str, Cluster)| {
            text.replace(address, &cluster.address.to_string())
        };
        self.0.iter().fold(text.to_owned(), place)
    }
}

/// Runs `tidegate import`; the configuration, standard error and the exit code.
fn import(format: &str, files: &[&Path]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["import", format])
        .args(files)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// The imported configuration as a running proxy, whose admin API is at a free port.
fn serve(text: &str) -> Proxy {
    let folder = Folder::new();
    let (code, told) = check(&folder, text);
    assert_eq!(code, 0, "{told}\n{text}");
    Proxy::start(text)
}

/// A request by curl: status, `Location` and body.
fn curl(to: SocketAddr, method: &str, host: &str, path: &str, field: &str) -> String {
    let output = Command::new("curl")
        .args(["-s", "--path-as-is", "-m", "10", "-X", method, "-H"])
        .arg(format!("Host: {host}"))
        .args(if field.is_empty() { vec![] } else { vec!["-H", field] })
        .args(if method == "HEAD" { vec!["-I"] } else { vec![] })
        .args(["-o", "-", "-w", "\n%{http_code} %{redirect_url}"])
        .arg(format!("http://{to}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap_or(("", &text));
    let status = last.split(' ').next().unwrap_or_default();
    // Texts of errors are each program's own.
    let body = if status.starts_with(['2']) { body } else { "" };
    format!("{last} {body}")
}

/// Asks both, and demands the same answers.
fn compare(
    original: SocketAddr,
    ours: SocketAddr,
    requests: &[(&str, &str, &str, &str)],
    text: &str,
) {
    let mut differing = Vec::new();
    for (method, host, path, field) in requests {
        let (theirs, mine) =
            (curl(original, method, host, path, field), curl(ours, method, host, path, field));
        if theirs != mine {
            differing.push(format!("{method} {host}{path} {field}: {theirs:?} but {mine:?}"));
        }
    }
    assert!(differing.is_empty(), "{}\n{text}", differing.join("\n"));
}

const NGINX: &[(&str, &str, &str, &str)] = &[
    ("GET", "shop.example.com", "/", ""),
    ("GET", "www.shop.example.com", "/cart?x=1&y=%2F", ""),
    ("POST", "shop.example.com", "/cart", ""),
    ("GET", "shop.example.com", "/api/items?id=3", ""),
    ("GET", "shop.example.com", "/api/items.php", ""),
    ("GET", "shop.example.com", "/v2/items", ""),
    ("GET", "shop.example.com", "/status", ""),
    ("GET", "shop.example.com", "/status/more", ""),
    ("GET", "shop.example.com", "/assets/logo.php", ""),
    ("GET", "shop.example.com", "/index.php", ""),
    ("GET", "shop.example.com", "/index.php/more", ""),
    ("GET", "shop.example.com", "/report/2024/pdf", ""),
    ("GET", "shop.example.com", "/REPORT/2024/pdf", ""),
    ("GET", "shop.example.com", "/report/x/pdf", ""),
    ("GET", "shop.example.com", "/old/a", ""),
    ("GET", "shop.example.com", "/admin/users", ""),
    ("GET", "shop.example.com", "/login/form", ""),
    ("GET", "shop.example.com", "/downloads/none.zip", ""),
    ("GET", "shop.example.com", "/a/../api/x", ""),
    ("GET", "shop.example.com", "//api//x", ""),
    ("GET", "unknown.example.com", "/", ""),
    ("GET", "unknown.example.com", "/api/x", ""),
    ("GET", "legacy.example.com", "/a", ""),
    ("GET", "x.legacy.example.com", "/api/a", ""),
    ("GET", "y.x.legacy.example.com", "/index.php", ""),
    ("GET", "moved.example.com", "/a/b?c=d", ""),
    ("GET", "tiers.example.com", "/a?b=c", ""),
    ("GET", "tiers.example.com", "/a?b=c", "X-Tier: gold"),
    ("GET", "tiers.example.com", "/a", "X-Tier: GOLD"),
    ("GET", "tiers.example.com", "/a", "X-Tier: golden"),
    ("GET", "tiers.example.com", "/gone/a", "X-Tier: gold"),
    ("GET", "tiers.example.com", "/gone/b", ""),
    ("GET", "tiers.example.com", "/gone/a/b", ""),
    ("GET", "tiers.example.com", "/a", "User-Agent: a Robot/1"),
    ("GET", "tiers.example.com", "/gone/a", "User-Agent: a Robot/1"),
];

#[test]
fn an_imported_nginx_configuration_answers_as_nginx_does() {
    if !is_installed("nginx") || !is_installed("curl") {
        return;
    }
    let (shop, folder) = (Shop::new(), Folder::new());
    std::fs::create_dir_all(folder.0.join("sites")).unwrap();
    let (at, database) = (free(), free());
    let placed = |text: &str| {
        let text = shop.placed(text).replace("listen 80", &format!("listen {at}"));
        text.replace("listen 5432", &format!("listen {database}"))
    };
    let main = placed(&fixture("nginx/nginx.conf"));
    let path = folder.write("original.conf", &main);
    for site in ["sites/legacy.conf", "sites/maps.conf"] {
        folder.write(site, &placed(&fixture(&format!("nginx/{site}"))));
    }
    let (text, told, code) = import("nginx", &[&path]);
    assert_eq!(code, 3, "{told}");
    let line = main.lines().position(|line| line.contains("root /srv/files")).unwrap() + 1;
    assert!(told.contains(&format!("original.conf:{line}: `root /srv/files`")), "{told}");
    assert!(
        text.contains(&format!("# {}", told.lines().next().unwrap())),
        "the file begins with the remarks"
    );

    // The original: what nginx needs to run as this user.
    let here = folder.0.display();
    let runnable = main.replace("user www-data;", "").replace("pid /run/nginx.pid;", &format!("pid {here}/pid;")).replace(
        "sendfile on;",
        &format!(
            "access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; \
             uwsgi_temp_path {here}/u; scgi_temp_path {here}/s; sendfile on;"
        ),
    );
    // This nginx may be built without `stream`; that part is compared below without it.
    let runnable = runnable.split("\nstream {").next().unwrap();
    let file = folder.write("runnable.conf", runnable);
    let child = Command::new("nginx")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .args(["-g", "daemon off; master_process off;", "-e", "stderr", "-c"])
        .arg(file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _original = Process(child);
    eventually("nginx listens", || std::net::TcpStream::connect(at).is_ok());

    let ours =
        text.replace(&at.to_string(), "127.0.0.1:0").replace(&database.to_string(), "127.0.0.2:0");
    let proxy = serve(&ours);
    let (_, name) = ours.split_once("\nlisteners:\n  ").unwrap();
    let name = name.split(':').next().unwrap();
    compare(at, proxy.at(name), NGINX, &ours);
    // The layer-4 server.
    let database = proxy.at(&format!("tcp-{}", database.port()));
    reaches_the_database(database);
}

/// Over a layer-4 listener, whose connection the endpoint keeps open.
fn reaches_the_database(listener: SocketAddr) {
    let mut stream = connect(listener);
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n").unwrap();
    let (mut text, mut space) = (Vec::new(), [0; 4096]);
    while !text.ends_with(b"db GET /x shop.example") {
        let count = stream.read(&mut space).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&space[..count]);
    }
}

const HAPROXY: &[(&str, &str, &str, &str)] = &[
    ("GET", "shop.example.com", "/", ""),
    ("GET", "www.shop.example.com", "/cart?x=1", ""),
    ("GET", "other.example.com", "/cart", ""),
    ("TRACE", "shop.example.com", "/cart", ""),
    ("GET", "shop.example.com", "/api/items?id=3", ""),
    ("GET", "other.example.com", "/api/items", ""),
    ("GET", "shop.example.com", "/api/style.css", ""),
    ("GET", "shop.example.com", "/style.css", ""),
    ("POST", "shop.example.com", "/style.css", ""),
    ("GET", "other.example.com", "/style.css", ""),
    ("GET", "shop.example.com", "/style.css", "x-beta: 1"),
    ("GET", "shop.example.com", "/cart", "x-beta: 1"),
    ("GET", "other.example.com", "/cart", "x-beta: 1"),
    ("GET", "shop.example.com", "/api/x", "x-beta: 1"),
    ("GET", "a.legacy.example.com", "/x", ""),
    ("GET", "a.legacy.example.com", "/api/x", ""),
    ("GET", "b.a.legacy.example.com", "/style.css", ""),
    ("GET", "other.example.com", "/report/12/pdf", ""),
    ("GET", "shop.example.com", "/report/12/pdf", ""),
    ("GET", "shop.example.com", "/report/12/pdf", "x-beta: 1"),
    ("GET", "shop.example.com", "/admin/x", ""),
    ("GET", "a.legacy.example.com", "/admin/style.css", ""),
    ("GET", "shop.example.com", "/old/a", ""),
    ("GET", "a.legacy.example.com", "/old/a", ""),
    ("GET", "other.example.com", "/status", ""),
    ("GET", "shop.example.com", "/closed/x", ""),
    ("GET", "a.legacy.example.com", "/closed/x", ""),
    ("GET", "other.example.com", "/closed/style.css", ""),
];

#[test]
fn an_imported_haproxy_configuration_answers_as_haproxy_does() {
    if !is_installed("haproxy") || !is_installed("curl") {
        return;
    }
    let (shop, folder) = (Shop::new(), Folder::new());
    let (at, database, stats) = (free(), free(), free());
    let main = shop
        .placed(&fixture("haproxy/haproxy.cfg"))
        .replace("bind *:80", &format!("bind {at}"))
        .replace("bind :5432", &format!("bind {database}"))
        .replace("bind 127.0.0.1:8404", &format!("bind {stats}"));
    let path = folder.write("haproxy.cfg", &main);
    let (text, told, code) = import("haproxy", &[&path]);
    assert!(matches!(code, 0 | 3), "{told}");

    // As any user, with few file descriptors, in the foreground.
    let runnable = main
        .replace("    user haproxy\n    group haproxy\n    daemon\n", "")
        .replace("maxconn 20000", "maxconn 100");
    let child = Command::new("haproxy")
        .env("PATH", "/usr/sbin:/usr/bin:/bin")
        .args(["-db", "-f"])
        .arg(folder.write("runnable.cfg", &runnable))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _original = Process(child);
    eventually("HAProxy serves", || {
        std::net::TcpStream::connect(at).is_ok()
            && get(at, "/").body.starts_with("shop")
            && get(at, "/report/1/pdf").status == 200
    });
    let ours = [at, database, stats]
        .iter()
        .zip(ANY_PORT)
        .fold(text, |text, (address, any)| text.replace(&address.to_string(), any));
    let proxy = serve(&ours);
    eventually("the endpoints are up", || get(proxy.at("web"), "/").body.starts_with("shop"));
    compare(at, proxy.at("web"), HAPROXY, &ours);
    reaches_the_database(proxy.at("orders-db"));
}

#[test]
fn an_imported_traefik_configuration_sends_requests_where_traefik_would() {
    if !is_installed("curl") {
        return;
    }
    let (shop, folder) = (Shop::new(), Folder::new());
    let path = folder.write("traefik.yml", &fixture("traefik/traefik.yml"));
    folder.write("dynamic.yml", &shop.placed(&fixture("traefik/dynamic.yml")));
    let output = folder.0.join("imported.yaml");
    let code = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["import", "traefik"])
        .arg(&path)
        .arg("--output")
        .arg(&output)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(code.code(), Some(3), "the users of `members-only` are not translated");
    let text = std::fs::read_to_string(output).unwrap();
    let ours = ["[::]:80", "127.0.0.1:8081", "[::]:5432"].iter().zip(ANY_PORT).fold(
        text,
        |text, (address, any)| {
            text.replace(&format!("\"{address}\""), any)
                .replace(&format!("address: {address}"), &format!("address: {any}"))
        },
    );
    let proxy = serve(&ours);
    let web = proxy.at("web");
    for (method, host, path, field, expected) in [
        ("GET", "shop.example.com", "/", "", "200  shop GET / shop.example.com"),
        ("GET", "www.shop.example.com", "/api/x", "", "200  shop GET /api/x www.shop.example.com"),
        ("GET", "shop.example.com", "/api/x?y", "", "200  api GET /x?y shop.example.com"),
        ("GET", "shop.example.com", "/api/x", "X-Beta: 1", "200  api GET /api/x shop.example.com"),
        (
            "GET",
            "shop.example.com",
            "/report/1/pdf",
            "",
            "200  api GET /report/1/pdf shop.example.com",
        ),
        ("GET", "shop.example.com", "/admin/users", "", "403  "),
        ("GET", "members.example.com", "/", "", "403  "),
        ("GET", "old.example.com", "/a?b=c", "", "301 https://shop.example.com/a?b=c "),
        ("GET", "x.legacy.example.com", "/", "", "200  legacy GET / "),
        ("POST", "x.legacy.example.com", "/", "", "405  "),
        ("GET", "unknown.example.com", "/", "", "404  "),
    ] {
        let answer = curl(web, method, host, path, field);
        assert!(answer.starts_with(expected), "{method} {host}{path} {field}: {answer:?}\n{ours}");
    }
    let bodies: Vec<String> =
        (0..60).map(|_| curl(proxy.at("internal"), "GET", "x", "/", "")).collect();
    let of_api = bodies.iter().filter(|body| body.contains(" api ")).count();
    assert!((3..=27).contains(&of_api), "a quarter of 60: {of_api}");
    assert!(curl(proxy.at("internal"), "GET", "x", "/dashboard/", "").starts_with("404"));
    reaches_the_database(proxy.at("database"));
}

#[test]
fn an_imported_traefik_configuration_in_toml_passes_check() {
    let folder = Folder::new();
    let path = folder.write("traefik.toml", &fixture("traefik/traefik.toml"));
    folder.write("dynamic.toml", &fixture("traefik/dynamic.toml"));
    let (text, told, code) = import("traefik", &[&path]);
    assert_eq!(code, 3, "the users of `members-only` are not translated: {told}");
    assert!(told.contains("dynamic.toml:83: `members-only.basicAuth`"), "{told}");
    let (code, told) = check(&folder, &text);
    assert_eq!(code, 0, "{told}\n{text}");
}

#[test]
fn the_passwords_and_error_pages_of_haproxy_are_files_beside_the_configuration() {
    if !is_installed("curl") {
        return;
    }
    let (folder, shop, dead) = (Folder::new(), application("shop"), free());
    let page = folder.write(
        "503.http",
        "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/html\r\n\r\n<p>{sorry}: closed</p>\n",
    );
    let original = folder.write(
        "haproxy.cfg",
        &format!(
            "userlist staff\n user ann insecure-password secret\n user eve password $5$salt$hash\n\
             frontend web\n mode http\n bind 127.0.0.1:8080\n errorfile 503 {}\n \
             http-request auth unless {{ http_auth(staff) }} or {{ path /health }}\n \
             use_backend dead if {{ path_beg /dead/ }}\n default_backend shop\n\
             backend shop\n mode http\n server s {}\nbackend dead\n mode http\n server d {dead} check inter 100\n",
            page.display(),
            shop.address
        ),
    );
    let output = folder.0.join("imported.yaml");
    let run = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["import", "haproxy"])
        .arg(&original)
        .arg("--output")
        .arg(&output)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(3), "eve cannot enter: {told}");
    assert!(told.contains("haproxy-staff.users: written"), "{told}");
    let text = std::fs::read_to_string(output).unwrap().replace("127.0.0.1:8080", "127.0.0.1:0");
    let (code, told) = check(&folder, &text);
    assert_eq!(code, 0, "{told}\n{text}");
    folder.write("token", "secret\n");
    folder.write("tidegate.yaml", &whole(&text));
    let proxy = Proxy::start_in(folder, &[]);
    let asked = |user: &str, path: &str| {
        let output = Command::new("curl")
            .args(["-s", "-m", "10", "-w", " %{http_code}", "-u", user])
            .arg(format!("http://{}{path}", proxy.at("web")))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(asked("ann:secret", "/a").starts_with("shop GET /a"));
    assert!(asked("ann:wrong", "/a").ends_with(" 401"));
    assert!(asked("eve:secret", "/a").ends_with(" 401"));
    assert!(asked("nobody:x", "/health").starts_with("shop GET /health"));
    eventually("the dead cluster is known to be dead", || {
        asked("ann:secret", "/dead/a") == "<p>{sorry}: closed</p>\n 503"
    });
}

#[test]
fn an_import_that_cannot_begin_says_where_and_why() {
    let folder = Folder::new();
    let broken = folder.write("nginx.conf", "http {\n  server {\n    listen 80\n  }\n}\n");
    let (text, told, code) = import("nginx", &[&broken]);
    assert_eq!((text.as_str(), code), ("", 1), "{told}");
    assert!(told.contains("nginx.conf:4: `listen` is not ended by `;`"), "{told}");
    let (_, told, code) = import("haproxy", &[&folder.0.join("nowhere")]);
    assert_eq!(code, 1);
    assert!(told.contains("nowhere: No such file"), "{told}");
    let (_, _, code) = import("caddy", &[&broken]);
    assert_eq!(code, 2);
    let whole = folder.write(
        "whole.conf",
        "server { listen 127.0.0.1:8080; location / { proxy_pass http://127.0.0.1:9001; proxy_set_header Host $host; } }",
    );
    let (text, told, code) = import("nginx", &[&whole]);
    assert_eq!(code, 0, "{told}\n{text}");
}
