//! A configuration in a JetStream bucket, with Debian's NATS server: changes, bad values, a deleted key, a server that
//! dies and returns, and starts without it.

use super::nats::server;
use super::support::*;
use async_nats::jetstream::kv::Store;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The bucket `conf` of a server, as an operator uses it.
struct Bucket {
    runtime: Runtime,
    store: Store,
}

impl Bucket {
    fn at(address: SocketAddr) -> Bucket {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let client = async_nats::connect(format!("nats://{address}")).await.unwrap();
            let stream = serde_json::json!({
                "name": "KV_conf", "subjects": ["$KV.conf.>"], "max_msgs_per_subject": 1,
                "retention": "limits", "storage": "file", "discard": "new", "num_replicas": 1,
                "allow_direct": true, "deny_delete": true,
            });
            let create = "$JS.API.STREAM.CREATE.KV_conf";
            client.request(create, stream.to_string().into()).await.unwrap();
            async_nats::jetstream::new(client).get_key_value("conf").await.unwrap()
        });
        Bucket { runtime, store }
    }

    fn put(&self, text: &str) -> u64 {
        self.runtime.block_on(self.store.put("idc.east", text.to_owned().into())).unwrap()
    }

    fn delete(&self) {
        self.runtime.block_on(self.store.delete("idc.east")).unwrap();
    }
}

/// A NATS server with JetStream, whose data is in this folder.
fn stream_server(folder: &Folder, address: SocketAddr, more: &str) -> Process {
    let data = folder.0.join("jetstream").display().to_string();
    server(folder, address, &format!("jetstream {{ store_dir: \"{data}\" }}\n{more}"))
}

/// A folder with the file that names the key.
fn bootstrap(nats: &str) -> Folder {
    let folder = Folder::new();
    folder.write("token", "secret\n");
    let source = format!("source: nats, {nats}, bucket: conf, key: idc.east");
    folder.write("tidegate.yaml", &format!("state_dir: state\nconfig: {{ {source} }}\n"));
    folder
}

fn value(cluster: &Cluster) -> String {
    whole(&config(&[("idc", "idc", cluster.address)]))
}

fn source(proxy: &Proxy) -> serde_json::Value {
    proxy.json("/api/v1/status")["config"]["source"].clone()
}

fn reload_error(proxy: &Proxy) -> String {
    let last = proxy.json("/api/v1/status")["config"]["last_reload"].clone();
    last["error"].as_str().unwrap_or_default().to_owned()
}

/// Ends a proxy, and starts it again in its folder.
fn restarted(mut proxy: Proxy) -> Proxy {
    let folder = std::mem::replace(&mut proxy.folder, Folder::new());
    drop(proxy);
    Proxy::start_in(folder, &[])
}

fn serves(proxy: &Proxy, body: &str) -> bool {
    get(proxy.at("web"), "/").body == body
}

#[test]
fn the_value_of_a_key_is_the_configuration_and_bad_values_change_nothing() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let at = free();
    let _server = stream_server(&folder, at, "");
    let bucket = Bucket::at(at);
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    let first = bucket.put(&value(&one));
    let proxy = Proxy::start_in(bootstrap(&format!("url: \"nats://{at}\"")), &[]);
    assert!(serves(&proxy, "one"));
    eventually("it is followed", || source(&proxy)["connected"] == true);
    let told = source(&proxy);
    assert_eq!(
        (&told["kind"], &told["bucket"], &told["key"]),
        (&"nats".into(), &"conf".into(), &"idc.east".into())
    );
    assert_eq!((&told["revision"], &told["last_good"]), (&first.into(), &false.into()), "{told}");
    assert_eq!(proxy.metric("tidegate_config_source_connected"), 1.0);
    assert_eq!(proxy.metric("tidegate_config_source_last_good"), 0.0);

    let began = Instant::now();
    let second = bucket.put(&value(&two));
    eventually("the change is in force", || serves(&proxy, "two"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(proxy.metric("tidegate_config_source_revision"), second as f64);
    let kept = proxy.folder.0.join("state/config.yaml");
    let is_kept = |text: &str| std::fs::read_to_string(&kept).unwrap_or_default().ends_with(text);
    eventually("it is kept", || is_kept(&value(&two)));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(check(&proxy.folder, &std::fs::read_to_string(&kept).unwrap()).0, 0);

    let bad = bucket.put("listeners: [");
    eventually("a bad value is told", || reload_error(&proxy).contains("nats:conf/idc.east:1:"));
    assert_eq!(source(&proxy)["newest_revision"], bad);
    assert_eq!(source(&proxy)["revision"], second, "the old one stays");
    assert_eq!(proxy.metric("tidegate_config_last_reload_successful"), 0.0);
    assert!(is_kept(&value(&two)));
    let nested = "config: { source: nats, url: \"nats://127.0.0.1:1\", bucket: b, key: k }";
    bucket.put(nested);
    eventually("so is another source", || reload_error(&proxy).contains("may name a source"));
    bucket.put(&"#".repeat(900_000));
    eventually("and an empty one", || reload_error(&proxy).contains("configuration is empty"));
    bucket.delete();
    eventually("and no value", || reload_error(&proxy).contains("the key was deleted"));
    assert!(serves(&proxy, "two"));
    // Neither would a restart go wrong.
    let proxy = restarted(proxy);
    assert!(serves(&proxy, "two"));
    proxy.says("started with the last good one, revision");
    eventually("and told after a restart", || reload_error(&proxy).contains("the key was deleted"));
    assert_eq!(source(&proxy)["last_good"], true);

    bucket.put(&value(&one));
    eventually("the next good one counts", || serves(&proxy, "one"));
    assert_eq!(reload_error(&proxy), "");
    assert_eq!(source(&proxy)["last_good"], false);
}

#[test]
fn a_server_that_dies_changes_nothing_and_is_followed_again_when_it_returns() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let at = free();
    let first = stream_server(&folder, at, "");
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    Bucket::at(at).put(&value(&one));
    let proxy = Proxy::start_in(bootstrap(&format!("url: \"nats://{at}\"")), &[]);
    eventually("it is followed", || source(&proxy)["connected"] == true);

    drop(first);
    eventually("it is told", || source(&proxy)["connected"] == false);
    assert_eq!(proxy.metric("tidegate_config_source_connected"), 0.0);
    proxy.says("not followed, the configuration in force stays");
    assert_eq!(reload_error(&proxy), "", "nothing was rejected");
    let answer = proxy.tell("POST", "/api/v1/reload", "");
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("cannot read the key"), "{}", answer.body);
    assert!(serves(&proxy, "one"));

    // A start finds the last good one; a start that has none fails.
    let proxy = restarted(proxy);
    assert!(serves(&proxy, "one"));
    let told = source(&proxy);
    assert_eq!((&told["last_good"], &told["connected"]), (&true.into(), &false.into()), "{told}");
    assert_eq!(proxy.metric("tidegate_config_source_last_good"), 1.0);
    let other = bootstrap(&format!("url: \"nats://{at}\""));
    let mut alone = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(other.0.join("tidegate.yaml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it does not start", || alone.try_wait().unwrap().is_some());
    let output = alone.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no last good one: cannot read"), "{said}");

    let _second = stream_server(&folder, at, "");
    eventually("the server is back", || source(&proxy)["connected"] == true);
    assert_eq!(source(&proxy)["last_good"], false, "the same text");
    assert_eq!(proxy.generation(), 1, "which was not put in force again");
    let bucket = Bucket::at(at);
    bucket.put(&value(&two));
    eventually("its changes are seen again", || serves(&proxy, "two"));
}

/// The subjects of docs/configuration.md that read the key, and those that watch it.
const READ: &str = "\"$JS.API.STREAM.INFO.KV_conf\", \"$JS.API.DIRECT.GET.KV_conf.>\"";
const WATCH: &str = "\"$JS.API.CONSUMER.CREATE.KV_conf\", \"$JS.API.CONSUMER.CREATE.KV_conf.>\", \"$JS.FC.KV_conf.>\"";

#[test]
fn proxies_need_only_permissions_to_read_and_without_one_to_watch_read_on_request() {
    if !is_installed("nats-server") {
        return;
    }
    let (folder, at) = (Folder::new(), free());
    let users = [("watcher", format!("{READ}, {WATCH}")), ("reader", READ.to_owned())];
    let users = users.map(|(name, allowed)| {
        let key = nkeys::KeyPair::new_user();
        let seed = folder.write(&format!("{name}.nk"), &key.seed().unwrap());
        std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o600)).unwrap();
        let may = format!("publish: [{allowed}], subscribe: \"_INBOX.>\"");
        (format!("{{ nkey: {}, permissions: {{ {may} }} }}", key.public_key()), seed)
    });
    let (watcher, reader) = (&users[0].0, &users[1].0);
    let operator = "{ user: op, password: op }";
    let more =
        format!("authorization {{ users: [{watcher}, {reader}, {operator}] }}\nno_auth_user: op");
    let _server = stream_server(&folder, at, &more);
    let bucket = Bucket::at(at);
    let (one, two) = (Cluster::named("one"), Cluster::named("two"));
    bucket.put(&value(&one));
    let [watcher, reader] = users.map(|(_, seed)| {
        let keys = format!("url: \"nats://{at}\", creds_file: \"{}\"", seed.display());
        Proxy::start_in(bootstrap(&keys), &[])
    });
    reader.says("not watched, only read every 30 s");

    bucket.put(&value(&two));

    eventually("the watcher sees the change", || serves(&watcher, "two"));
    assert!(watcher.said("not watched").is_none());
    assert!(serves(&reader, "one"));
    let answer = reader.tell("POST", "/api/v1/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(serves(&reader, "two"));
}
