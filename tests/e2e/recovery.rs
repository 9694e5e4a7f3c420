//! Disaster recovery: clusters that return, drills and shifts under load.

use super::support::*;
use super::terminal::Tmux;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Two clusters; the nearer one has this `failback`.
fn returning(failback: &str) -> (Cluster, Cluster, Proxy) {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]);
    let text =
        text.replace("idc: { kind: idc,", &format!("idc: {{ kind: idc, failback: {failback},"));
    let proxy = Proxy::start(&text);
    (idc, cloud, proxy)
}

/// Kills a cluster, waits until it is down, and starts it again at its address.
fn outage(proxy: &Proxy, cluster: Cluster) -> Cluster {
    let address: SocketAddr = cluster.address;
    drop(cluster);
    eventually("it is down", || proxy.cluster("idc")["state"] == "down");
    eventually("the other serves", || get(proxy.at("web"), "/").body == "cloud");
    Cluster::at(address, |mut connection| {
        while connection.request().is_some() {
            connection.reply("idc");
        }
    })
}

/// Why the last exchange did not go to the nearest cluster.
fn rejected(proxy: &Proxy, reason: &str) -> bool {
    get(proxy.at("web"), "/");
    let all = proxy.json("/api/v1/decisions");
    all.as_array().unwrap().iter().any(|one| one["rejected"][0] == reason)
}

#[test]
fn a_manual_failback_waits_for_an_undrain_and_says_so() {
    let (idc, _cloud, proxy) = returning("{ mode: manual }");
    assert_eq!(proxy.cluster("idc")["failback"], "manual");
    assert_eq!(proxy.cluster("cloud")["failback"], "auto");
    let _idc = outage(&proxy, idc);

    eventually("it has returned", || proxy.cluster("idc")["cause"] == "failback_manual");
    let cluster = proxy.cluster("idc");
    assert_eq!((&cluster["state"], &cluster["awaits_undrain"]), (&"draining".into(), &true.into()));
    assert!(
        cluster["why"].as_str().unwrap().contains("until an operator undrains it"),
        "{cluster}"
    );
    assert_eq!(get(proxy.at("web"), "/").body, "cloud", "nothing returns by itself");
    let explained = proxy.json("/api/v1/explain?host=a&path=/");
    assert_eq!(explained["rejected"][0]["reason"], "failback_manual");
    eventually("a decision says it", || rejected(&proxy, "idc:failback_manual"));

    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/undrain", "").status, 200);

    eventually("it serves again", || get(proxy.at("web"), "/").body == "idc");
    assert_eq!(proxy.cluster("idc")["awaits_undrain"], false);
}

#[test]
fn a_held_failback_says_for_how_long_and_then_returns() {
    let (idc, _cloud, proxy) = returning("{ hold: 3s }");
    assert!(proxy.cluster("idc")["held_for_s"].is_null());
    let _idc = outage(&proxy, idc);

    eventually("it is held", || proxy.cluster("idc")["cause"] == "failback_hold");
    let cluster = proxy.cluster("idc");
    let left = cluster["held_for_s"].as_f64().unwrap();
    assert!(left > 0.0 && left <= 3.0, "{cluster}");
    assert!(cluster["why"].as_str().unwrap().contains("keeps it out for another"), "{cluster}");
    eventually("a decision says it", || rejected(&proxy, "idc:failback_hold"));

    eventually("it serves again", || get(proxy.at("web"), "/").body == "idc");
    assert!(proxy.cluster("idc")["held_for_s"].is_null());
}

/// Waits longer than [`eventually`]: an operation takes its time.
#[track_caller]
fn within(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !done() {
        assert!(Instant::now() < deadline, "in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Clients that send requests until they are dropped.
struct Load {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let (sent, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (ends, sent, failed) = (ends.clone(), sent.clone(), failed.clone());
            std::thread::spawn(move || {
                let mut client = Keeping::new(to);
                while !ends.load(Ordering::Relaxed) {
                    client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
                    sent.fetch_add(1, Ordering::Relaxed);
                    if client.try_answer().is_none_or(|answer| answer.status != 200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            })
        };
        let clients = (0..3).map(client).collect();
        Load { ends, sent, failed, clients }
    }

    /// Requests sent, and those that failed.
    fn counts(&self) -> (usize, usize) {
        (self.sent.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| drop(client.join()));
    }
}

/// A cluster that answers 500 while the switch is on.
fn failing(name: &'static str) -> (Cluster, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let fails = switch.clone();
    let cluster = Cluster::scripted(move |mut connection| {
        while connection.request().is_some() {
            match fails.load(Ordering::Relaxed) {
                true => connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
                false => connection.reply(name),
            }
        }
    });
    (cluster, switch)
}

const OPERATIONS: &str = "/api/v1/operations";

/// Begins an operation; returns its path.
fn begin(proxy: &Proxy, body: &str) -> String {
    // Not the second in which the load began.
    within(20, "there is a whole second to simulate", || {
        proxy.json("/api/v1/services")[0]["requests_per_s"].as_f64() > Some(20.0)
    });
    let answer = proxy.tell("POST", OPERATIONS, body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let begun: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    format!("{OPERATIONS}/{}", begun["id"])
}

fn reaches(proxy: &Proxy, path: &str, phase: &str) {
    within(60, phase, || proxy.json(path)["phase"] == phase);
}

fn three() -> ([Cluster; 3], String) {
    let all = ["idc", "near", "far"].map(Cluster::named);
    let [idc, near, far] = [&all[0], &all[1], &all[2]].map(|cluster| cluster.address);
    let text = config(&[("idc", "idc", idc), ("near", "cloud", near), ("far", "cloud", far)]);
    (all, text)
}

#[test]
fn a_drill_moves_a_site_away_and_back_without_an_error() {
    let (_clusters, text) = three();
    let proxy = Proxy::start(&text);
    let load = Load::start(proxy.at("web"));

    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 6}"#);

    let second = proxy.tell("POST", OPERATIONS, r#"{"kind": "drill", "site": "far", "for_s": 6}"#);
    assert_eq!(second.status, 409, "one at a time: {}", second.body);
    reaches(&proxy, &path, "held");
    assert_eq!(proxy.cluster("idc")["state"], "draining");
    assert_eq!(proxy.json(OPERATIONS)[0]["percent"], 100);
    reaches(&proxy, &path, "ended");
    let report = proxy.json(&path);
    assert_eq!(report["outcome"], "done", "{report}");
    let service = &report["services"][0];
    assert_eq!(service["held"]["failed"], 0.0, "{report}");
    assert_eq!(service["held"]["to"].get("idc").map_or(0.0, |rate| rate.as_f64().unwrap()), 0.0);
    assert!(service["held"]["to"]["near"].as_f64() > Some(10.0), "{report}");
    assert!(service["after"]["to"]["idc"].as_f64() > Some(10.0), "{report}");
    // Told beforehand, and compared afterwards.
    assert!(service["expected"]["to"]["near"].as_f64() > Some(10.0), "{report}");
    assert!(service["off"]["p99_percent"].is_f64(), "{report}");
    assert_eq!(proxy.cluster("idc")["site_dial_percent"], 100);
    let (sent, failed) = load.counts();
    assert!(sent > 500 && failed == 0, "{failed} of {sent}");
    let markdown = proxy.get(&format!("{path}/report"));
    assert!(markdown.head.contains("text/markdown"), "{}", markdown.head);
    assert!(markdown.body.starts_with("# Drill of idc\n\n**done**"), "{}", markdown.body);
    let audit = proxy.json("/api/v1/audit");
    let entry = |index: usize| (audit[index]["action"].clone(), audit[index]["message"].clone());
    assert_eq!(entry(0), ("drill".into(), "done".into()));
    assert_eq!(entry(1), ("drill".into(), "begins, operation 1".into()));
    let events = proxy.json("/api/v1/history?points=1")["events"].clone();
    let of = |event: &&serde_json::Value| event["kind"] == "drill" && event["outcome"] == "done";
    assert!(events.as_array().unwrap().iter().any(|event| of(&event)), "{events}");
}

#[test]
fn a_drill_stops_itself_when_its_target_fails() {
    let (near, fails) = failing("near");
    let idc = Cluster::named("idc");
    let proxy =
        Proxy::start(&config(&[("idc", "idc", idc.address), ("near", "cloud", near.address)]));
    let _load = Load::start(proxy.at("web"));
    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 120}"#);
    reaches(&proxy, &path, "held");

    fails.store(true, Ordering::Relaxed);

    within(8, "it stops", || proxy.json(&path)["outcome"] == "stopped");
    eventually("the traffic is back", || get(proxy.at("web"), "/").body == "idc");
    let cause = proxy.json(&path)["cause"].as_str().unwrap().to_owned();
    assert!(cause.starts_with("shop: ") && cause.contains("% of the requests failed"), "{cause}");
    reaches(&proxy, &path, "ended");
    fails.store(false, Ordering::Relaxed);

    // The target is down: the site serves, although it is drilled, and the drill ends.
    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 120}"#);
    reaches(&proxy, &path, "held");
    near.kill();
    within(8, "it stops", || proxy.json(&path)["outcome"] == "stopped");
    assert_eq!(proxy.json(&path)["cause"], "shop: no other cluster is up");
    assert_eq!(get(proxy.at("web"), "/").body, "idc");
    reaches(&proxy, &path, "ended");

    let refused = proxy.tell("POST", OPERATIONS, r#"{"kind": "drill", "site": "idc", "for_s": 9}"#);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("no other cluster is up"), "{}", refused.body);
}

#[test]
fn a_drill_ends_with_the_proxy_and_by_an_abort_and_its_report_survives() {
    use std::os::unix::fs::PermissionsExt;
    let (_clusters, text) = three();
    let state = Folder::new();
    let text = format!("state_dir: {}\n{text}", state.0.display());
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.metric(&ended("interrupted")), 0.0, "counters exist from the start");
    let load = Load::start(proxy.at("web"));
    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 60, "percent": 50}"#);
    reaches(&proxy, &path, "held");
    assert_eq!(proxy.cluster("idc")["site_dial_percent"], 50);
    let aborted = Instant::now();
    assert_eq!(proxy.tell("DELETE", &path, "").status, 200);
    eventually("it returns at once", || proxy.cluster("idc")["site_dial_percent"] == 100);
    // Not because its temporary dial was not extended: that takes more than four seconds.
    assert!(aborted.elapsed() < Duration::from_secs(3), "{:?}", aborted.elapsed());
    reaches(&proxy, &path, "ended");
    assert_eq!(proxy.json(&path)["outcome"], "aborted");

    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 60}"#);
    reaches(&proxy, &path, "held");
    let file = file_of(&state, &proxy, 2);
    within(20, "the report is written meanwhile", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(r#""phase":"held""#))
    });
    assert_eq!(proxy.metric("tidegate_operation_running"), 1.0);
    assert_eq!(proxy.metric(&ended("aborted")), 1.0);
    drop(load);
    let admin = proxy.admin;
    // SIGKILL.
    drop(proxy);
    let proxy = start_at(admin, &text);

    assert_eq!(proxy.cluster("idc")["site_dial_percent"], 100, "the dial of a drill is not stored");
    let all = proxy.json(OPERATIONS);
    let word = |index: usize, key: &str| all[index][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!((&all[0]["id"], word(0, "outcome")), (&2.into(), "interrupted".to_owned()), "{all}");
    assert_eq!((word(0, "phase"), &all[0]["percent"]), ("ended".to_owned(), &0.into()), "{all}");
    assert_eq!((&all[1]["id"], word(1, "outcome")), (&1.into(), "aborted".to_owned()), "{all}");
    let report = proxy.json(&path);
    assert!(report["ended_at"].is_string() && report["expected"].is_object(), "{report}");
    let markdown = proxy.get(&format!("{path}/report")).body;
    assert!(markdown.starts_with("# Drill of idc\n\n**interrupted: the proxy ended"), "{markdown}");
    assert_eq!(proxy.tell("DELETE", &path, "").status, 200, "it has ended already");
    assert_eq!(proxy.metric("tidegate_operation_running"), 0.0);
    assert_eq!(proxy.metric(&ended("interrupted")), 1.0);
    proxy.says("operation 2 ended with the process that ran it");
    eventually("it is written", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("interrupted"))
    });
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // A proxy that shares the folder has reports of its own.
    let other = Proxy::start(&text);
    assert_eq!(other.json(OPERATIONS), serde_json::json!([]));
    let _load = Load::start(other.at("web"));
    let path = begin(&other, r#"{"kind": "drill", "site": "idc", "for_s": 5}"#);
    assert_eq!(path, format!("{OPERATIONS}/1"));
    eventually("it is written", || file_of(&state, &other, 1).exists());
    drop(proxy);
    let proxy = start_at(admin, &text);
    assert_eq!(proxy.json(&format!("{OPERATIONS}/1"))["outcome"], "aborted");
    assert_eq!(proxy.json(OPERATIONS)[0]["outcome"], "interrupted");
    assert_eq!(proxy.metric(&ended("interrupted")), 0.0, "an interruption is counted once");
    let _load = Load::start(proxy.at("web"));
    let path = begin(&proxy, r#"{"kind": "drill", "site": "idc", "for_s": 5}"#);
    assert_eq!(path, format!("{OPERATIONS}/3"), "numbers continue");
}

/// The counter of drills with this result.
fn ended(result: &str) -> String {
    format!("tidegate_operations_total{{kind=\"drill\",result=\"{result}\"}}")
}

/// The file of a report.
fn file_of(state: &Folder, proxy: &Proxy, id: u64) -> PathBuf {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = format!("{}-{}.{id}.json", host.trim(), proxy.admin.port());
    state.0.join("operations").join(name)
}

/// A proxy whose admin API has the address of an earlier one.
fn start_at(admin: SocketAddr, text: &str) -> Proxy {
    let folder = Folder::new();
    folder.write("token", "secret\n");
    let text = whole(text).replacen("127.0.0.1:0", &admin.to_string(), 1);
    folder.write("tidegate.yaml", &text);
    Proxy::start_in(folder, &[])
}

#[test]
fn a_shift_reaches_its_target_survives_a_restart_and_is_taken_back() {
    let (_clusters, text) = three();
    let state = Folder::new();
    let text = format!(
        "state_dir: {}\n{}",
        state.0.display(),
        text.replace("services: {", "services: { other: { clusters: [idc, near, far] },")
            + "routes: [{ hosts: [other.example], service: other }]\n"
    );
    let proxy = Proxy::start(&text);
    let load = Load::start(proxy.at("web"));
    eventually("there is traffic", || get(proxy.at("web"), "/").body == "idc");
    within(20, "a second is recorded", || {
        let services = proxy.json("/api/v1/services");
        services.as_array().unwrap().iter().any(|s| s["requests_per_s"].as_f64() > Some(1.0))
    });
    let body = r#"{"kind": "shift", "service": "shop", "from": "idc", "to": "far", "over_s": 10}"#;
    assert_eq!(proxy.tell("POST", OPERATIONS, body).status, 202);
    let path = format!("{OPERATIONS}/1");
    within(30, "a part has moved", || {
        let percent = proxy.json(&path)["percent"].as_u64().unwrap();
        (20..=90).contains(&percent)
    });
    reaches(&proxy, &path, "ended");
    let report = proxy.json(&path);
    assert_eq!((&report["outcome"], &report["percent"]), (&"done".into(), &100.into()), "{report}");
    let to = &report["services"][0]["held"]["to"];
    let far = to["far"].as_f64().unwrap();
    assert!(far > 10.0, "{report}");
    // A machine that is busy with other tests makes a few requests slow, and these spill.
    let near = to.get("near").map_or(0.0, |rate| rate.as_f64().unwrap());
    assert!(near < 0.1 * far, "{report}");
    assert_eq!(load.counts().1, 0);
    drop(load);

    eventually("it is stored", || state.0.join("dials.json").exists());
    drop(proxy);
    let proxy = Proxy::start(&text);
    let other = |proxy: &Proxy| {
        let request = b"GET / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
        ask_raw(proxy.at("web"), request).body
    };
    assert_eq!(get(proxy.at("web"), "/").body, "far", "a shift that is done stays");
    assert_eq!(other(&proxy), "idc", "for its service alone");
    let services = proxy.json("/api/v1/services");
    let shop = services.as_array().unwrap().iter().find(|s| s["name"] == "shop").unwrap().clone();
    assert_eq!(
        shop["shift"],
        serde_json::json!({"from": "idc", "to": "far", "percent": 100, "rests": false})
    );
    let explained = proxy.json("/api/v1/explain?host=a&path=/");
    let scores = explained["scores"].as_array().unwrap();
    let far = scores.iter().find(|score| score["cluster"] == "far").unwrap();
    assert!(far["why"].as_str().unwrap().starts_with("a shift moves the traffic of idc"), "{far}");

    assert_eq!(proxy.tell("POST", "/api/v1/services/shop/undrain", "").status, 200);

    eventually("it is taken back", || get(proxy.at("web"), "/").body == "idc");
}

#[test]
fn a_shift_returns_when_its_target_fails() {
    let (far, fails) = failing("far");
    let [idc, near] = ["idc", "near"].map(Cluster::named);
    let clusters = [("idc", "idc", idc.address), ("near", "cloud", near.address)];
    let all = [&clusters[..], &[("far", "cloud", far.address)]].concat();
    let proxy = Proxy::start(&config(&all));
    let _load = Load::start(proxy.at("web"));
    let path = begin(
        &proxy,
        r#"{"kind": "shift", "service": "shop", "from": "idc", "to": "far", "over_s": 20}"#,
    );
    within(30, "a part has moved", || proxy.json(&path)["percent"].as_u64() > Some(20));

    fails.store(true, Ordering::Relaxed);

    within(8, "it stops", || proxy.json(&path)["outcome"] == "stopped");
    reaches(&proxy, &path, "ended");
    assert_eq!(proxy.json(&path)["percent"], 0);
    eventually("all is back", || (0..10).all(|_| get(proxy.at("web"), "/").body == "idc"));
    assert!(proxy.json("/api/v1/services")[0]["shift"].is_null());
}

#[test]
fn invalid_operations_are_refused() {
    let (_clusters, text) = three();
    let proxy =
        Proxy::start(&text.replace("shop: { clusters", "shop: { strategy: round_robin, clusters"));
    for (body, status, part) in [
        ("{}", 400, "kind"),
        (r#"{"kind": "drill", "site": "idc"}"#, 400, "for_s"),
        (r#"{"kind": "drill", "site": "idc", "for_s": 4}"#, 400, "from 5 to 3600"),
        (r#"{"kind": "drill", "site": "idc", "for_s": 9, "percent": 0}"#, 400, "percent"),
        (r#"{"kind": "drill", "site": "idc", "for_s": 9, "x": 0}"#, 400, "x"),
        (r#"{"kind": "drill", "site": "idc", "for_s": 9, "max_p99_ms": 0}"#, 400, "max_p99_ms"),
        (
            r#"{"kind": "drill", "site": "idc", "for_s": 9, "max_errors_percent": -1}"#,
            400,
            "max_errors",
        ),
        (r#"{"kind": "drill", "site": "mars", "for_s": 9}"#, 404, "mars"),
        (
            r#"{"kind": "shift", "service": "x", "from": "idc", "to": "far", "over_s": 10}"#,
            404,
            "`x`",
        ),
        (
            r#"{"kind": "shift", "service": "shop", "from": "idc", "to": "x", "over_s": 10}"#,
            404,
            "`x`",
        ),
        (
            r#"{"kind": "shift", "service": "shop", "from": "idc", "to": "idc", "over_s": 10}"#,
            400,
            "same",
        ),
        (
            r#"{"kind": "shift", "service": "shop", "from": "idc", "to": "far", "over_s": 10}"#,
            409,
            "nearest",
        ),
    ] {
        let answer = proxy.tell("POST", OPERATIONS, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(part), "{body}: {}", answer.body);
    }
    assert_eq!(proxy.get(&format!("{OPERATIONS}/1")).status, 404);
    assert_eq!(proxy.get(&format!("{OPERATIONS}/1/report")).status, 404);
    assert_eq!(proxy.tell("DELETE", &format!("{OPERATIONS}/x"), "").status, 404);
    assert_eq!(proxy.get("/api/v1/expect?kind=services&name=shop&from=idc").status, 400);
    assert_eq!(proxy.tell("POST", "/api/v1/services/x/undrain", "").status, 404);
    assert_eq!(proxy.tell("POST", "/api/v1/services/shop/drain", "").status, 404);
}

#[test]
fn a_drill_that_is_followed_over_a_restart_has_its_report() {
    let (_clusters, text) = three();
    let (state, out) = (Folder::new(), Folder::new());
    let text = format!("state_dir: {}\n{text}", state.0.display());
    let proxy = Proxy::start(&text);
    let load = Load::start(proxy.at("web"));
    within(20, "a second is recorded", || {
        let services = proxy.json("/api/v1/services");
        services.as_array().unwrap().iter().any(|s| s["requests_per_s"].as_f64() > Some(1.0))
    });
    let verb = drill(&proxy, &out, &["--for", "60s"]);
    let file = file_of(&state, &proxy, 1);
    within(30, "the report is written meanwhile", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains(r#""phase":"held""#))
    });
    let admin = proxy.admin;
    drop(load);
    // SIGKILL.
    drop(proxy);
    let _proxy = start_at(admin, &text);

    let ended = verb.wait_with_output().unwrap();

    assert!(!ended.status.success(), "it was not done as planned");
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains("\ninterrupted: the proxy ended"), "{told}");
    let stem = told.rsplit("report: ").next().unwrap().split(".md").next().unwrap();
    let report = std::fs::read_to_string(format!("{stem}.md")).unwrap();
    assert!(report.starts_with("# Drill of idc\n\n**interrupted: the proxy ended"), "{report}");
}

/// The verb `drill` as a process.
fn drill(proxy: &Proxy, out: &Folder, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["drill", "--site", "idc", "--admin", &format!("http://{}", proxy.admin)])
        .arg("--token-file")
        .arg(proxy.folder.0.join("token"))
        .arg("--out")
        .arg(&out.0)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn top_drills_a_site_and_aborts_the_drill() {
    let (_clusters, text) = three();
    let proxy = Proxy::start(&text);
    let _load = Load::start(proxy.at("web"));
    within(20, "a second is recorded", || {
        proxy.json("/api/v1/services")[0]["requests_per_s"].as_f64() > Some(1.0)
    });
    let token = proxy.folder.0.join("token");
    let arguments = format!("top --admin http://{} --token-file {}", proxy.admin, token.display());
    let Some(tmux) = Tmux::start(110, 30, &arguments) else { return };
    tmux.shows("live");
    tmux.types("1/idc");
    tmux.press("Enter");
    tmux.shows("filter `idc`: 1");
    tmux.types("D");
    tmux.shows("Drill site idc: 100 % for 1 min 0 s?");
    tmux.press("Enter");
    within(30, "it was simulated", || tmux.screen().contains("Type its name"));
    tmux.types("idc");
    tmux.press("Enter");
    tmux.shows("The drill of idc has begun");
    within(20, "it is shown", || tmux.screen().contains("drill of idc: 100 % away, held"));
    assert_eq!(proxy.json(OPERATIONS)[0]["kind"], "drill");
    tmux.types("x");
    within(10, "it is aborted", || proxy.json(OPERATIONS)[0]["outcome"] == "aborted");
    eventually("the traffic is back", || proxy.cluster("idc")["site_dial_percent"] == 100);
}

#[test]
fn the_verb_returns_the_traffic_when_it_is_interrupted_or_killed() {
    let (_clusters, text) = three();
    let proxy = Proxy::start(&text);
    let _load = Load::start(proxy.at("web"));
    within(20, "a second is recorded", || {
        proxy.json("/api/v1/services")[0]["requests_per_s"].as_f64() > Some(1.0)
    });
    let out = Folder::new();
    let process = drill(&proxy, &out, &["--for", "60s"]);
    within(20, "it begins", || proxy.json(OPERATIONS)[0]["phase"] == "held");
    signal(&process, "-INT");
    eventually("it returns at once", || proxy.cluster("idc")["site_dial_percent"] == 100);
    let output = process.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for part in ["expected, simulated with the current load:", "shop: p99 ", "moving", "aborted"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let names: Vec<PathBuf> =
        std::fs::read_dir(&out.0).unwrap().map(|f| f.unwrap().path()).collect();
    let read = |end: &str| {
        let path = names.iter().find(|path| path.extension().is_some_and(|found| found == end));
        std::fs::read_to_string(path.unwrap()).unwrap()
    };
    assert!(read("md").starts_with("# Drill of idc\n\n**aborted**"), "{}", read("md"));
    let report: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
    assert_eq!(report["outcome"], "aborted");

    // Killed: the proxy goes on, and ends the drill by itself.
    let mut process = drill(&proxy, &out, &["--for", "5s", "--percent", "30"]);
    within(20, "it begins", || proxy.json(OPERATIONS)[0]["phase"] == "held");
    process.kill().unwrap();
    process.wait().unwrap();
    within(30, "it ends", || proxy.json(OPERATIONS)[0]["outcome"] == "done");
    eventually("the traffic is back", || proxy.cluster("idc")["site_dial_percent"] == 100);
}
