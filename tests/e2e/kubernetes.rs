//! Endpoints from Kubernetes, with an API server that replays lists and watches: pages, bookmarks, 410 Gone, expired
//! tokens, credentials of a pod and of a plugin, and answers that no API server would give.

use super::support::*;
use super::tls::folder_with;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, watch};

/// The state of the API server.
#[derive(Default)]
struct World {
    slices: BTreeMap<String, Value>,
    version: u64,
    /// What watches tell: the version, and the line.
    events: Vec<(u64, String)>,
    /// The oldest version that a watch may continue from.
    oldest: u64,
    token: String,
    /// The requests so far: `list`, `list NEXT`, `watch VERSION`, or a status.
    requests: Vec<String>,
    /// The status and body of all lists, instead of the slices.
    canned: Option<(u16, String)>,
    /// Whether lists never end.
    is_endless: bool,
    /// Watches of an earlier epoch end.
    epoch: u64,
    /// Open watches.
    open: usize,
}

struct ApiServer {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<()>,
    _runtime: tokio::runtime::Runtime,
}

impl ApiServer {
    /// An API server with the certificate `a` of this folder, or without TLS.
    fn start(folder: Option<&Folder>) -> ApiServer {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let world = World { version: 100, token: "first".to_owned(), ..World::default() };
        let (world, changed) = (Arc::new(Mutex::new(world)), watch::Sender::new(()));
        let tls = folder.map(acceptor);
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, tls, world.clone(), changed.clone()));
        ApiServer { address, world, changed, _runtime: runtime }
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
        self.changed.send_replace(());
    }

    /// Adds or replaces a slice, and tells the watches.
    fn put(&self, mut slice: Value) {
        self.change(|world| {
            world.version += 1;
            slice["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
            let known = world.slices.insert(name, slice.clone());
            let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
            let line = json!({ "type": kind, "object": slice }).to_string();
            world.events.push((world.version, line));
        });
    }

    fn delete(&self, name: &str) {
        self.change(|world| {
            world.version += 1;
            let mut slice = world.slices.remove(name).unwrap();
            slice["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let line = json!({ "type": "DELETED", "object": slice }).to_string();
            world.events.push((world.version, line));
        });
    }

    /// Tells the watches this line, under a new version.
    fn say(&self, line: &str) {
        self.change(|world| {
            world.version += 1;
            let line = line.replace("VERSION", &world.version.to_string());
            world.events.push((world.version, line));
        });
    }

    /// Ends all watches.
    fn end_watches(&self) {
        self.change(|world| world.epoch += 1);
    }

    fn requests(&self) -> Vec<String> {
        self.world.lock().unwrap().requests.clone()
    }

    fn count(&self, request: &str) -> usize {
        self.requests().iter().filter(|known| *known == request).count()
    }

    /// A kubeconfig for this server with these fields of its user.
    fn kubeconfig(&self, folder: &Folder, scheme: &str, user: &str) {
        let ca = if scheme == "https" { "certificate-authority: ca.pem, " } else { "" };
        folder.write(
            "kubeconfig",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: other\n\
                 clusters:\n- name: near\n  cluster: {{ {ca}server: \"{scheme}://{}\" }}\n\
                 - name: other\n  cluster: {{ server: \"https://127.0.0.1:1\" }}\n\
                 users:\n- name: gateway\n  user: {{ {user} }}\n\
                 contexts:\n- name: near\n  context: {{ cluster: near, user: gateway, namespace: shop }}\n\
                 - name: other\n  context: {{ cluster: other, user: gateway }}\n",
                self.address
            ),
        );
    }
}

fn acceptor(folder: &Folder) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(folder.0.join("a.pem")).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.0.join("a.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

async fn accept(
    listener: tokio::net::TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    world: Arc<Mutex<World>>,
    changed: watch::Sender<()>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, world, changed) = (tls.clone(), world.clone(), changed.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&request, &world, &changed);
                async move { Ok::<_, Infallible>(answer) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            match tls {
                // A client may leave at any time.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => drop(http.serve_connection(TokioIo::new(stream), service).await),
                    Err(error) => println!("a handshake failed: {error}"),
                },
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
            }
        });
    }
}

/// Lines that a task sends.
struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

type Answered = Response<Either<Full<Bytes>, Lines>>;

fn plain(status: u16, body: String) -> Answered {
    let body = Either::Left(Full::new(Bytes::from(body)));
    Response::builder().status(status).body(body).unwrap()
}

fn answer(
    request: &Request<Incoming>,
    world: &Arc<Mutex<World>>,
    changed: &watch::Sender<()>,
) -> Answered {
    let mut now = world.lock().unwrap();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let field = |name: &str| {
        let mut fields = query.split('&').filter_map(|field| field.split_once('='));
        fields.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let authorization = request.headers().get("authorization");
    if authorization
        .is_none_or(|value| value.as_bytes() != format!("Bearer {}", now.token).as_bytes())
    {
        now.requests.push("401".to_owned());
        return plain(401, r#"{"kind":"Status","code":401}"#.to_owned());
    }
    let is_asked = request.uri().path()
        == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
        && field("labelSelector").as_deref() == Some("kubernetes.io%2Fservice-name%3Dweb");
    if !is_asked {
        now.requests.push(format!("unexpected {}", request.uri()));
        return plain(404, r#"{"kind":"Status","code":404}"#.to_owned());
    }
    if field("watch").as_deref() != Some("true") {
        return list(&mut now, field("continue"));
    }
    assert_eq!(field("allowWatchBookmarks").as_deref(), Some("true"));
    assert!(field("timeoutSeconds").is_some(), "{query}");
    let from: u64 = field("resourceVersion").unwrap().parse().unwrap();
    now.requests.push(format!("watch {from}"));
    if from < now.oldest {
        let gone = json!({ "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
            "message": format!("too old resource version: {from} ({})", now.oldest) });
        return plain(200, format!("{}\n", json!({ "type": "ERROR", "object": gone })));
    }
    let (sender, lines) = mpsc::channel(16);
    now.open += 1;
    let events = watch_events(world.clone(), changed.subscribe(), from, now.epoch, sender);
    let world = world.clone();
    tokio::spawn(async move {
        events.await;
        world.lock().unwrap().open -= 1;
    });
    Response::new(Either::Right(Lines(lines)))
}

fn list(world: &mut World, next: Option<String>) -> Answered {
    world.requests.push(next.as_ref().map_or("list".to_owned(), |next| format!("list {next}")));
    if let Some((status, body)) = &world.canned {
        return plain(*status, body.clone());
    }
    if world.is_endless {
        let (sender, lines) = mpsc::channel(16);
        tokio::spawn(async move {
            let spaces = Bytes::from(vec![b' '; 65_536]);
            while sender.send(spaces.clone()).await.is_ok() {}
        });
        return Response::new(Either::Right(Lines(lines)));
    }
    // One slice a page: a server may send less than it is asked for.
    let after = next.unwrap_or_default();
    let mut rest = world.slices.iter().filter(|(name, _)| **name > after);
    let item = rest.next();
    let next = item.filter(|_| rest.next().is_some()).map(|(name, _)| name.clone());
    let metadata = json!({ "resourceVersion": world.version.to_string(), "continue": next.unwrap_or_default() });
    let items: Vec<&Value> = item.iter().map(|(_, slice)| *slice).collect();
    let page = json!({ "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": metadata, "items": items });
    plain(200, page.to_string())
}

async fn watch_events(
    world: Arc<Mutex<World>>,
    mut changed: watch::Receiver<()>,
    mut from: u64,
    epoch: u64,
    sender: mpsc::Sender<Bytes>,
) {
    loop {
        let (fresh, is_over): (Vec<(u64, String)>, bool) = {
            let world = world.lock().unwrap();
            let fresh = world.events.iter().filter(|(version, _)| *version > from);
            (fresh.cloned().collect(), world.epoch != epoch)
        };
        for (version, line) in fresh {
            from = version;
            let text = format!("{line}\n");
            // In two pieces: an event may arrive in any.
            let (first, second) = text.split_at(text.len() / 2);
            for piece in [first, second] {
                if sender.send(Bytes::from(piece.to_owned())).await.is_err() {
                    return;
                }
            }
        }
        if is_over {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = sender.closed() => return,
        }
    }
}

/// A slice as an API server sends it, with these endpoints.
fn slice(name: &str, port: u16, endpoints: Vec<Value>) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "generateName": "web-", "namespace": "shop", "uid": format!("uid-of-{name}"),
            "resourceVersion": "1", "generation": 4, "creationTimestamp": "2026-03-02T08:00:00Z",
            "labels": {
                "app": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web",
            },
            "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "2026-03-02T08:00:00Z" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s", "controller": true }],
            "managedFields": [{ "manager": "kube-controller-manager", "operation": "Update", "fieldsV1": { "f:ports": {} } }],
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }, { "name": "metrics", "port": 9090, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

/// A pod with this last byte of its address.
fn pod(last: u8, ready: bool, terminating: bool) -> Value {
    json!({
        "addresses": [format!("127.0.0.{last}")],
        "conditions": { "ready": ready, "serving": ready || terminating, "terminating": terminating },
        "nodeName": "worker-1", "zone": "zone-b",
        "targetRef": { "kind": "Pod", "namespace": "shop", "name": format!("web-{last}"), "uid": format!("pod-{last}") },
    })
}

fn up(last: u8) -> Value {
    pod(last, true, false)
}

fn on(last: u8, port: u16, name: &'static str) -> Cluster {
    Cluster::at(SocketAddr::from(([127, 0, 0, last], port)), move |mut connection| {
        while connection.request().is_some() {
            connection.reply(name);
        }
    })
}

/// A configuration with one cluster from Kubernetes, with these keys.
fn following(keys: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [one], retry: {{ retries: 1 }} }} }}\n\
         clusters: {{ one: {{ kind: idc, discover: {{ kubernetes: {{ service: web, {keys} }} }}, \
         probe: {{ interval: 100ms, timeout: 100ms }} }} }}\n"
    )
}

fn with_kubeconfig(folder: &Folder) -> String {
    following(&format!(
        "port: http, kubeconfig: \"{}/kubeconfig\", context: near",
        folder.0.display()
    ))
}

fn endpoints(proxy: &Proxy) -> Vec<String> {
    let cluster = proxy.cluster("one");
    let all = cluster["endpoints"].as_array().unwrap().iter();
    let mut all: Vec<String> = all.map(|e| e["address"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

fn failures(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!(
        "tidegate_kubernetes_failures_total{{tidegate_cluster=\"one\",reason=\"{reason}\"}}"
    ))
}

/// A server and a proxy that follows it by a token in a file, without TLS.
fn rig(slices: Vec<Value>) -> (Folder, ApiServer, Proxy) {
    let (folder, server) = (Folder::new(), ApiServer::start(None));
    slices.into_iter().for_each(|slice| server.put(slice));
    folder.write("api-token", "first");
    server.kubeconfig(&folder, "http", "tokenFile: api-token");
    let proxy = Proxy::start(&with_kubeconfig(&folder));
    (folder, server, proxy)
}

#[test]
fn slices_are_listed_in_pages_over_tls_and_watched_from_bookmark_to_bookmark() {
    let folder = folder_with(&[("a", &["a.example", "127.0.0.1"])]);
    let server = ApiServer::start(Some(&folder));
    let first = on(2, 0, "two");
    let port = first.address.port();
    let _second = on(3, port, "three");
    server.put(slice("web-a", port, vec![up(2), pod(4, false, false)]));
    server.put(slice("web-b", port, vec![up(3), up(2)]));
    server.kubeconfig(&folder, "https", "token: first");
    let proxy = Proxy::start(&with_kubeconfig(&folder));
    let at = |last: u8| format!("127.0.0.{last}:{port}");
    eventually("both pages, each pod once", || endpoints(&proxy) == [at(2), at(3)]);
    eventually("they serve", || ["two", "three"].contains(&&*get(proxy.at("web"), "/").body));
    eventually("a watch", || server.count("watch 102") == 1);
    assert_eq!(server.requests(), ["list", "list web-a", "watch 102"]);

    server.put(slice("web-b", port, vec![pod(3, false, true), pod(2, true, false)]));
    eventually("a terminating pod gets no new exchanges", || endpoints(&proxy) == [at(2)]);
    server.put(slice("web-c", port, vec![up(3)]));
    eventually("a new slice", || endpoints(&proxy) == [at(2), at(3)]);
    server.delete("web-c");
    eventually("it is gone", || endpoints(&proxy) == [at(2)]);

    server.say(r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"VERSION","creationTimestamp":null}}}"#);
    let age = || proxy.metric("tidegate_kubernetes_age_seconds{tidegate_cluster=\"one\"}");
    server.end_watches();
    eventually("the next watch continues", || server.count("watch 106") >= 1);
    server.put(slice("web-a", port, vec![up(3)]));
    server.put(slice("web-b", port, vec![]));
    eventually("and is followed", || endpoints(&proxy) == [at(3)]);
    assert_eq!(server.count("list"), 1, "{:?}", server.requests());
    assert!(age() < 9.0, "{}", age());

    server.delete("web-a");
    server.delete("web-b");
    eventually("a Service without slices", || endpoints(&proxy).is_empty());
    proxy.says("Service web of cluster one has no EndpointSlices");
    assert_eq!(get(proxy.at("web"), "/").refusal(), "no_healthy_cluster");
    assert!(Fail::ALL.iter().all(|reason| failures(&proxy, reason) == 0.0));
}

struct Fail;

impl Fail {
    const ALL: [&str; 12] = [
        "credentials",
        "connect",
        "timeout",
        "unauthorized",
        "forbidden",
        "expired",
        "status",
        "malformed",
        "too_large",
        "address",
        "port",
        "foreign",
    ];
}

#[test]
fn after_410_gone_the_list_is_read_anew() {
    let (_folder, server, proxy) = rig(vec![slice("web-a", 1, vec![up(2)])]);
    eventually("the first list", || endpoints(&proxy) == ["127.0.0.2:1"]);
    eventually("a watch", || server.count("watch 101") == 1);

    server.change(|world| {
        // Events that no watch hears.
        world.slices.clear();
        world.version = 900;
        world.oldest = 900;
        world.slices.insert("web-z".to_owned(), slice("web-z", 2, vec![up(3)]));
        world.epoch += 1;
    });

    eventually("the new list", || endpoints(&proxy) == ["127.0.0.3:2"]);
    eventually("is watched", || server.count("watch 900") == 1);
    assert!(failures(&proxy, "expired") >= 1.0);
    assert!(proxy.said("does not follow Kubernetes").is_none(), "nothing is wrong");
}

#[test]
fn an_expired_token_is_read_anew_and_the_last_endpoints_stay_meanwhile() {
    let cluster = on(2, 0, "two");
    let port = cluster.address.port();
    let (folder, server, proxy) = rig(vec![slice("web-a", port, vec![up(2)])]);
    eventually("it serves", || get(proxy.at("web"), "/").body == "two");
    eventually("a watch", || server.count("watch 101") == 1);

    server.change(|world| {
        world.token = "second".to_owned();
        world.epoch += 1;
    });
    proxy.says("cluster one does not follow Kubernetes, the last endpoints stay: the API server answers 401");
    eventually("it asks again", || failures(&proxy, "unauthorized") > 2.0);
    server.put(slice("web-a", port, vec![up(2), up(3)]));
    assert_eq!(get(proxy.at("web"), "/").body, "two");
    assert_eq!(endpoints(&proxy), [format!("127.0.0.2:{port}")]);
    let age = proxy.metric("tidegate_kubernetes_age_seconds{tidegate_cluster=\"one\"}");
    assert!(age > 0.3, "the answer grows old: {age}");

    folder.write("api-token", "second");
    eventually("the new token", || endpoints(&proxy).len() == 2);
    proxy.says("cluster one follows Kubernetes again");
    let count = proxy.log().iter().filter(|line| line.contains("does not follow")).count();
    assert_eq!(count, 1, "told once: {:?}", proxy.log());
}

#[test]
fn answers_that_no_api_server_gives_are_counted_and_change_nothing() {
    let cluster = on(2, 0, "two");
    let port = cluster.address.port();
    let empty = |kind: &str, items: &str| {
        format!(r#"{{"kind":"{kind}","metadata":{{"resourceVersion":"1"}},"items":{items}}}"#)
    };
    let many = empty("EndpointSliceList", &format!("[{}{{}}]", "{},".repeat(2_000)));
    let canned = [
        ("malformed", 200, "{}".to_owned()),
        ("malformed", 200, "<html>login</html>".to_owned()),
        ("malformed", 200, empty("PodList", "[]")),
        ("malformed", 200, empty("EndpointSliceList", r#"{"a":1}"#)),
        ("malformed", 200, many),
        ("malformed", 200, "[".repeat(1_000_000)),
        ("forbidden", 403, String::new()),
        ("status", 500, "x".repeat(100_000)),
        ("too_large", 200, "endless".to_owned()),
    ];
    for (reason, status, body) in canned {
        let (_folder, server, proxy) = rig(vec![slice("web-a", port, vec![up(2)])]);
        eventually("it serves", || get(proxy.at("web"), "/").body == "two");
        let before = proxy.resident_mib();
        let shown = body.chars().take(60).collect::<String>();
        server.change(|world| {
            world.is_endless = body == "endless";
            world.canned = (!world.is_endless).then_some((status, body));
            world.oldest = world.version + 1;
            world.epoch += 1;
        });
        eventually(&format!("{reason}: {shown}"), || failures(&proxy, reason) > 0.0);
        assert_eq!(endpoints(&proxy), [format!("127.0.0.2:{port}")], "{shown}");
        assert_eq!(get(proxy.at("web"), "/").body, "two", "requests do not notice {shown}");
        assert!(proxy.resident_mib() < before + 100, "{before} to {} MiB", proxy.resident_mib());
        proxy.says("the last endpoints stay");
    }
}

#[test]
fn forged_events_and_addresses_are_counted_and_the_rest_is_used() {
    let (_folder, server, proxy) = rig(vec![slice("web-a", 1, vec![up(2)])]);
    eventually("the first list", || endpoints(&proxy) == ["127.0.0.2:1"]);
    let address = |address: &str| json!({ "addresses": [address] });
    let forged = ["169.254.169.254", "0.0.0.0", "224.0.0.1", "evil.example", "10.0.0.1; drop"];
    let mut all: Vec<Value> = forged.iter().map(|text| address(text)).collect();
    all.push(up(3));
    server.put(slice("web-b", 1, all));
    eventually("the honest one", || endpoints(&proxy) == ["127.0.0.2:1", "127.0.0.3:1"]);
    assert_eq!(failures(&proxy, "address"), 5.0);
    let line = "5 addresses of Service web of cluster one ignored: \"169.254.169.254\" cannot be";
    proxy.says(line);

    for last in 0..100 {
        server.put(slice("web-b", 1, vec![address(&format!("224.0.0.{last}")), up(3)]));
    }
    eventually("a storm of them", || failures(&proxy, "address") == 105.0);
    let count = proxy.log().iter().filter(|line| line.contains("cannot be")).count();
    assert!(count <= 12, "the log has a bound: {count}");

    let mut other = slice("web-c", 1, vec![up(4)]);
    other["metadata"]["labels"]["kubernetes.io/service-name"] = json!("db");
    server.put(other);
    eventually("another Service's", || failures(&proxy, "foreign") == 1.0);
    let mut nameless = slice("web-d", 1, vec![up(5)]);
    nameless["ports"] = json!([{ "name": "grpc", "port": 1 }]);
    server.put(nameless);
    eventually("without the port", || failures(&proxy, "port") == 1.0);

    server.say("no JSON");
    eventually("garbage", || failures(&proxy, "malformed") >= 1.0);
    eventually("the list is read anew", || server.count("list") >= 2);
    // What is said while the list is read belongs to the list, and no watch would get it.
    let version = server.world.lock().unwrap().version;
    eventually("a new watch", || server.count(&format!("watch {version}")) >= 1);
    server.say(&"x".repeat(5 << 20));
    eventually("an endless line", || failures(&proxy, "too_large") >= 1.0);
    server.change(|world| world.events.clear());
    server.put(slice("web-b", 1, vec![]));
    eventually("and the next event counts", || endpoints(&proxy) == ["127.0.0.2:1"]);
}

#[test]
fn a_source_that_is_no_longer_configured_is_no_longer_followed() {
    let (folder, server, proxy) = rig(vec![slice("web-a", 1, vec![up(2)])]);
    let open = || server.world.lock().unwrap().open;
    eventually("the first list", || endpoints(&proxy) == ["127.0.0.2:1"] && open() == 1);
    let threads = proxy.status("Threads:");
    let listed = "endpoints: [127.0.0.9:1]";
    let text = with_kubeconfig(&folder);
    let (before, after) = text.split_once("discover:").unwrap();
    let (_, after) = after.split_once("} }").unwrap();
    proxy.rewrite(&format!("{before}{listed}{after}"));
    proxy.signal(1);
    eventually("the list", || endpoints(&proxy) == ["127.0.0.9:1"]);
    eventually("the watch ends", || open() == 0);
    eventually("and its thread", || proxy.status("Threads:") < threads);
    server.put(slice("web-a", 1, vec![up(3)]));
    assert_eq!(endpoints(&proxy), ["127.0.0.9:1"]);
    assert!(!proxy.get("/metrics").body.contains("tidegate_kubernetes"));
}

#[test]
fn a_plugin_of_the_kubeconfig_fetches_the_token() {
    let (folder, server) = (Folder::new(), ApiServer::start(None));
    server.put(slice("web-a", 1, vec![up(2)]));
    let credential = json!({ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": "first" } });
    folder.write("credential.json", &credential.to_string());
    let file = folder.0.join("credential.json").display().to_string();
    let exec = format!(
        "exec: {{ apiVersion: client.authentication.k8s.io/v1, command: cat, args: [\"{file}\"] }}"
    );
    server.kubeconfig(&folder, "http", &exec);
    let proxy = Proxy::start(&with_kubeconfig(&folder));
    eventually("its token is accepted", || endpoints(&proxy) == ["127.0.0.2:1"]);

    // A plugin that hangs delays only its own cluster.
    server.kubeconfig(
        &folder,
        "http",
        "exec: { apiVersion: client.authentication.k8s.io/v1, command: sleep, args: ['30'] }",
    );
    server.change(|world| world.token = "second".to_owned());
    server.end_watches();
    eventually("the token is refused", || failures(&proxy, "unauthorized") >= 1.0);
    proxy.rewrite(&with_kubeconfig(&folder).replace("port: http", "port: metrics"));
    proxy.signal(1);
    eventually("a reload", || proxy.generation() == 2);
    assert_eq!(endpoints(&proxy), ["127.0.0.2:1"]);
}

#[test]
fn a_proxy_in_a_pod_uses_the_service_account_and_its_rotated_token() {
    let folder = folder_with(&[("a", &["a.example", "127.0.0.1"])]);
    let server = ApiServer::start(Some(&folder));
    server.put(slice("web-a", 1, vec![up(2)]));
    let account = Folder::new();
    account.write("token", "first");
    account.write("namespace", "shop");
    std::fs::copy(folder.0.join("ca.pem"), account.0.join("ca.crt")).unwrap();
    let admin = free();
    let text = format!("admin: {{ address: \"{admin}\" }}\n{}", following("port: 7000"));
    let config = folder.write("pod.yaml", &text);
    // The account's files have fixed paths: the proxy sees them in a mount namespace of its own.
    let mount = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && \
        mount --bind \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$1\" run --config \"$2\"";
    let possible = Command::new("unshare").args(["--mount", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skipped("no mount namespaces");
    }
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", mount])
        .arg(&account.0)
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(&config)
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", server.address.port().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _proxy = Process(child);
    let shown = || {
        let request =
            "GET /api/v1/clusters HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        if std::net::TcpStream::connect(admin).is_err() {
            return String::new();
        }
        ask_raw(admin, request.as_bytes()).body
    };
    eventually("the account is used", || shown().contains("127.0.0.2:7000"));
    server.change(|world| {
        world.token = "second".to_owned();
        world.epoch += 1;
    });
    eventually("the old token is refused", || server.count("401") >= 1);
    account.write("token", "second");
    server.put(slice("web-a", 1, vec![up(3)]));
    eventually("the rotated token", || shown().contains("127.0.0.3:7000"));
}
