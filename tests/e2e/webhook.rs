//! The webhook: signed messages about failover and return, repeated with their id, and receivers that refuse or hang.

use super::support::*;
use super::tls::folder_with;
use aws_lc_rs::hmac;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A message as the receiver gets it.
#[derive(Clone, Debug)]
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn field(&self, name: &str) -> String {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or(String::new(), |(_, value)| value.into())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks the signature with this secret.
    fn verify(&self, secret: &str) {
        let hex = self.field("x-tidegate-signature:");
        let hex = hex.strip_prefix("sha256=").unwrap_or_default();
        let bytes = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let tag: Vec<u8> = bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, &self.body, &tag).expect("a valid signature");
        assert!(hmac::verify(&key, b"forged", &tag).is_err());
    }

    fn events(&self) -> Vec<(String, String)> {
        let json = self.json();
        let events = json["events"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        events.map(|event| (text(&event["kind"]), text(&event["service"]))).collect()
    }

    /// Whether a cluster is needed for the service.
    fn needs(&self, cluster: &str) -> bool {
        let json = self.json();
        let rows = json["desired"].as_array().unwrap();
        let row = rows.iter().find(|row| row["service"] == "shop" && row["cluster"] == cluster);
        row.is_some_and(|row| row["active"] == true)
    }
}

/// A receiver of webhooks.
struct Receiver {
    cluster: Cluster,
    messages: Arc<Mutex<Vec<Message>>>,
    /// Messages that are answered with 500 before the first 200.
    refuses: Arc<AtomicUsize>,
    /// Messages that are not answered before.
    ignores: Arc<AtomicUsize>,
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Receiver {
    fn start() -> Receiver {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let refuses = Arc::new(AtomicUsize::new(0));
        let ignores = Arc::new(AtomicUsize::new(0));
        let (all, refused, ignored) = (messages.clone(), refuses.clone(), ignores.clone());
        let cluster = Cluster::scripted(move |mut connection| {
            while let Some((head, body)) = connection.request() {
                all.lock().unwrap().push(Message { head, body });
                if take_one(&ignored) {
                    // Until the client gives up.
                    assert!(connection.head().is_none());
                    return;
                }
                if take_one(&refused) {
                    connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
                } else {
                    connection.send(b"HTTP/1.1 204 Yes\r\n\r\n");
                }
            }
        });
        Receiver { cluster, messages, refuses, ignores }
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    /// The first message that this holds for.
    fn gets(&self, what: &str, holds: impl Fn(&Message) -> bool) -> Message {
        let mut found = None;
        eventually(what, || {
            found = self.messages().into_iter().find(&holds);
            found.is_some()
        });
        found.unwrap()
    }
}

const SECRET: &str = "shared by both";

/// A proxy before these clusters that posts to this URL.
fn start(folder: &Folder, url: &str, more: &str, clusters: &[(&str, &str, SocketAddr)]) -> Proxy {
    folder.write("webhook-secret", &format!("{SECRET}\n"));
    let secret = folder.0.join("webhook-secret").display().to_string();
    let webhook = format!("{{ url: \"{url}\", secret_file: \"{secret}\"{more} }}");
    Proxy::start(&format!("scaling: {{ webhook: {webhook} }}\n{}", config(clusters)))
}

#[test]
fn a_receiver_is_told_of_failover_and_return_and_which_cluster_is_needed() {
    let (folder, receiver) = (Folder::new(), Receiver::start());
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let url = format!("http://{}/scale?from=tidegate", receiver.cluster.address);
    let clusters = [("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)];
    let proxy = start(&folder, &url, "", &clusters);
    let web = proxy.at("web");
    let first = receiver.gets("the state", |_| true);
    first.verify(SECRET);
    assert!(first.head.starts_with("POST /scale?from=tidegate HTTP/1.1\r\n"), "{}", first.head);
    assert_eq!(first.field("content-type:"), "application/json");
    assert_eq!(first.field("idempotency-key:"), first.json()["id"].as_str().unwrap());
    assert!(first.events().is_empty() && !first.needs("cloud"), "{:?}", first.json());

    let at = idc.address;
    drop(idc);
    let served = || get(web, "/");
    let failover = ("failover".to_owned(), "shop".to_owned());
    let told = receiver.gets("the failover", |message| {
        served();
        message.events().contains(&failover)
    });
    let event = &told.json()["events"][0];
    assert_eq!((&event["from"], &event["to"]), (&"idc".into(), &"cloud".into()));
    receiver
        .gets("the cloud is needed", |message| {
            served();
            message.needs("cloud")
        })
        .verify(SECRET);

    let _idc = Cluster::at(at, |mut connection| {
        while connection.request().is_some() {
            connection.reply("idc");
        }
    });
    receiver.gets("the return", |message| {
        served();
        message.events().contains(&("return".to_owned(), "shop".to_owned()))
    });
    let ids: Vec<Value> =
        receiver.messages().iter().map(|message| message.json()["id"].clone()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    assert!(proxy.metric("tidegate_webhook_attempts_total{result=\"accepted\"}") >= 3.0);
    proxy.counts("tidegate_webhook_attempts_total{result=\"failed\"}", 0.0);
    assert!(proxy.metric("tidegate_webhook_last_accepted_timestamp_seconds") > 1e9);
}

#[test]
fn a_refused_message_is_repeated_with_its_id_until_it_is_accepted() {
    let (folder, receiver) = (Folder::new(), Receiver::start());
    receiver.refuses.store(2, Ordering::SeqCst);
    let cloud = Cluster::named("cloud");
    let url = format!("http://{}/", receiver.cluster.address);
    let proxy = start(&folder, &url, "", &[("cloud", "cloud", cloud.address)]);
    proxy.says("webhook not accepted by");
    eventually("it is accepted", || {
        proxy.metric("tidegate_webhook_attempts_total{result=\"accepted\"}") == 1.0
    });
    proxy.counts("tidegate_webhook_attempts_total{result=\"failed\"}", 2.0);
    proxy.says("webhook accepted again");
    let messages = receiver.messages();
    assert_eq!(messages.len(), 3);
    for message in &messages {
        message.verify(SECRET);
        assert_eq!(message.body, messages[0].body, "the same message");
        assert_eq!(message.field("idempotency-key:"), messages[0].field("idempotency-key:"));
    }
    // A new secret needs no reload.
    folder.write("webhook-secret", "another\n");
    get(proxy.at("web"), "/");
    eventually("the next message", || receiver.messages().len() > 3);
    receiver.messages()[3].verify("another");
}

#[test]
fn a_receiver_that_hangs_or_is_absent_leaves_the_data_plane_untouched() {
    let (folder, receiver) = (Folder::new(), Receiver::start());
    receiver.ignores.store(1, Ordering::SeqCst);
    let cloud = Cluster::named("cloud");
    let clusters = [("cloud", "cloud", cloud.address)];
    let url = format!("http://{}/", receiver.cluster.address);
    let proxy = start(&folder, &url, ", timeout: 2s, interval: 1s", &clusters);
    eventually("it hangs", || receiver.messages().len() == 1);
    for _ in 0..20 {
        assert_eq!(get(proxy.at("web"), "/").body, "cloud");
    }
    assert_eq!(proxy.get("/readyz").status, 200);
    proxy.says("no response within 2s");
    proxy.counts("tidegate_webhook_attempts_total{result=\"failed\"}", 1.0);
    eventually("the next attempt is answered", || {
        proxy.metric("tidegate_webhook_attempts_total{result=\"accepted\"}") >= 1.0
    });
    // An absent receiver; a reload begins with the new one at once.
    let config = std::fs::read_to_string(proxy.config_path()).unwrap();
    let absent = format!("http://{}/", free());
    std::fs::write(proxy.config_path(), config.replace(&url, &absent)).unwrap();
    proxy.says("webhook not accepted by");
    eventually("refused", || proxy.said("Connection refused").is_some());
    assert_eq!(get(proxy.at("web"), "/").body, "cloud");
}

#[test]
fn a_receiver_with_tls_must_have_a_certificate_of_the_authority() {
    let folder = folder_with(&[("a", &["localhost", "127.0.0.1"])]);
    let (receiver, cloud) = (Receiver::start(), Cluster::named("cloud"));
    let at = folder.0.display();
    let port = free().port();
    // Another proxy ends TLS before the receiver.
    let tls = Process::proxy(&folder.write("tls.yaml", &format!(
        "admin: {{ address: \"off\" }}\n\
         listeners: {{ web: {{ address: \"127.0.0.1:{port}\", protocol: http, service: shop, tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] }} }} }}\n\
         services: {{ shop: {{ clusters: [r] }} }}\nclusters: {{ r: {{ endpoints: [\"{}\"] }} }}\n",
        receiver.cluster.address
    )));
    let url = format!("https://localhost:{port}/");
    let more = format!(", ca: \"{at}/ca.pem\"");
    let proxy = start(&folder, &url, &more, &[("cloud", "cloud", cloud.address)]);
    receiver.gets("a message", |_| true).verify(SECRET);

    let config = std::fs::read_to_string(proxy.config_path()).unwrap();
    let foreign = folder_with(&[("b", &["b.example"])]);
    let other = format!("{}/ca.pem", foreign.0.display());
    std::fs::write(proxy.config_path(), config.replace(&format!("{at}/ca.pem"), &other)).unwrap();
    let told = proxy.says("webhook not accepted by");
    assert!(told.contains("certificate"), "{told}");
    drop(tls);
}
