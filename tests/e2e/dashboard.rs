//! The dashboard's files and the API endpoints that they use: history, audit log, expectations, the difference of
//! files. `tests/dashboard` tests the page itself in a browser.

use super::support::*;
use serde_json::Value;

fn rig() -> (Cluster, Cluster, Proxy) {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let proxy =
        Proxy::start(&config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]));
    (idc, cloud, proxy)
}

fn asked(proxy: &Proxy, path: &str, fields: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{fields}connection: close\r\n\r\n");
    ask_raw(proxy.admin, request.as_bytes())
}

const BROWSER: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

#[test]
fn a_browser_gets_the_page_and_its_files_and_a_program_the_list() {
    let (_idc, _cloud, proxy) = rig();
    let page = asked(&proxy, "/", BROWSER);
    assert_eq!(page.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
    for (path, accept) in [("/", "accept: */*\r\n"), ("/", ""), ("/api", BROWSER)] {
        let list = asked(&proxy, path, accept);
        assert!(list.body.contains("/api/v1/history"), "{path}: {}", list.body);
    }
    let mut files = 0;
    for part in page.body.split(['"']).filter(|part| part.starts_with("dashboard/")) {
        let file = asked(&proxy, &format!("/{part}"), "");
        assert_eq!(file.status, 200, "{part}");
        let policy = file.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'self';") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(file.header("x-content-type-options").as_deref(), Some("nosniff"));
        let tag = file.header("etag").unwrap();
        let again = asked(&proxy, &format!("/{part}"), &format!("if-none-match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{part}");
        files += 1;
    }
    assert!(files >= 4, "{}", page.body);
    assert_eq!(asked(&proxy, "/dashboard/../api", "").status, 404);
    let rebound =
        format!("GET / HTTP/1.1\r\nhost: evil.example\r\n{BROWSER}connection: close\r\n\r\n");
    assert_eq!(ask_raw(proxy.admin, rebound.as_bytes()).status, 403);
}

#[test]
fn history_counts_what_happened_and_remembers_events() {
    let (idc, _cloud, proxy) = rig();
    let web = proxy.at("web");
    let newest = |path: &[&str]| -> f64 {
        let told = proxy.json("/api/v1/history?range=10m");
        let points = path.iter().fold(&told, |value, key| &value[*key]);
        let known = points.as_array().into_iter().flatten().filter_map(Value::as_f64);
        known.fold(0.0, f64::max)
    };
    eventually("requests are in the history", || {
        assert_eq!(get(web, "/").status, 200);
        newest(&["services", "shop", "requests_per_s"]) >= 1.0
            && newest(&["services", "shop", "to", "idc"]) >= 1.0
            && newest(&["services", "shop", "p99_ms"]) > 0.0
            && newest(&["clusters", "idc", "requests_per_s"]) >= 1.0
    });
    let services = proxy.json("/api/v1/services");
    assert!(services[0]["to"].is_object() && services[0]["cost_usd_per_h"] == 0.0, "{services}");
    let told = proxy.json("/api/v1/history?range=24h&service=shop&figures=p50_ms&points=100");
    let points = told["services"]["shop"]["p50_ms"].as_array().unwrap().len();
    assert!((90..=100).contains(&points), "{points}");
    assert!(told["services"]["shop"].as_object().unwrap().get("p99_ms").is_none(), "{told}");
    assert!(told["clusters"].as_object().unwrap().is_empty());
    assert_eq!(proxy.get("/api/v1/history?range=1y").status, 400);
    idc.kill();
    eventually("the outage is in the history", || {
        let told = proxy.json("/api/v1/history");
        let is_down = |event: &Value| event["kind"] == "cluster" && event["state"] == "down";
        told["events"].as_array().unwrap().iter().any(is_down)
            && newest(&["clusters", "idc", "state"]) > 3.5
    });
}

#[test]
fn actions_leave_who_did_what_and_a_wrong_token_leaves_nothing() {
    let (_idc, _cloud, proxy) = rig();
    let check = |token: &str| {
        let request = format!(
            "POST /api/v1/token HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        ask_raw(proxy.admin, request.as_bytes()).status
    };
    assert_eq!((check("wrong"), check("secret")), (401, 204));
    assert_eq!(proxy.json("/api/v1/audit"), serde_json::json!([]));
    let request = "POST /api/v1/clusters/idc/drain HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\ntidegate-operator: Ada <b>\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(ask_raw(proxy.admin, request.as_bytes()).status, 200);
    assert_eq!(proxy.tell("DELETE", "/api/v1/clusters/idc/dial", "").status, 200);
    assert_eq!(proxy.tell("POST", "/api/v1/reload", "").status, 200);
    let all = proxy.json("/api/v1/audit");
    let told = |index: usize, key: &str| all[index][key].clone();
    assert_eq!((told(0, "action"), told(0, "ok")), ("reload".into(), true.into()));
    assert_eq!((told(1, "percent"), told(1, "name")), (Value::Null, "idc".into()));
    assert_eq!((told(2, "percent"), told(2, "by")), (0.into(), "Ada <b>".into()));
    assert!(told(2, "from").as_str().unwrap().starts_with("127.0.0.1:"), "{all}");
    eventually("the dial is an event", || {
        let told = proxy.json("/api/v1/history?points=1");
        told["events"].as_array().unwrap().iter().any(|event| event["kind"] == "dial")
    });
}

#[test]
fn a_drain_is_expected_before_it_is_done() {
    let (_idc, _cloud, proxy) = rig();
    let web = proxy.at("web");
    let path = "/api/v1/expect?kind=clusters&name=idc&percent=0";
    eventually("there is enough traffic to simulate", || {
        (0..20).for_each(|_| assert_eq!(get(web, "/").status, 200));
        let answer = proxy.get(path);
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let of = |name: &str, key: &str| {
            let clusters = told["services"][0]["clusters"].as_array()?;
            clusters.iter().find(|cluster| cluster["name"] == name)?[key].as_f64()
        };
        let (now, after) = (of("idc", "now_rps"), of("idc", "after_rps"));
        now.is_some_and(|now| now > 1.0)
            && after == Some(0.0)
            && of("cloud", "after_rps").is_some_and(|rate| rate > 0.8 * now.unwrap_or(0.0))
    });
    assert_eq!(proxy.cluster("idc")["dial_percent"], 100, "a question changes nothing");
    assert_eq!(proxy.get("/api/v1/expect?kind=clusters&name=nobody&percent=0").status, 404);
    assert_eq!(proxy.get("/api/v1/expect?kind=clusters&name=idc&percent=101").status, 400);
}

#[test]
fn a_rejected_file_is_compared_with_the_one_in_force() {
    let (idc, _cloud, proxy) = rig();
    let same = proxy.json("/api/v1/config/diff");
    assert_eq!(
        (same["comparable"].as_bool(), &same["changes"]),
        (Some(true), &Value::Array(vec![]))
    );
    let text = config(&[("idc", "idc", idc.address)]);
    proxy.rewrite(&text.replace("protocol: http", "protocol: htp"));
    eventually("the difference is told", || {
        let told = proxy.json("/api/v1/config/diff");
        let changes = told["changes"].as_array().unwrap();
        let wrong = changes.iter().find(|change| change["on_disk"] == "htp");
        wrong.is_some_and(|change| change["in_force"] == "http" && change["line"].is_u64())
            && told["problems"][0]["line"].is_u64()
    });
    proxy.rewrite(&text);
    eventually("the good file is in force", || {
        let told = proxy.json("/api/v1/config/diff");
        told["changes"] == Value::Array(vec![]) && proxy.generation() > 1
    });
}

#[test]
fn why_tells_of_a_request_by_its_id_and_says_what_is_kept_of_others() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("service: shop }", "service: shop, trusted_proxies: [127.0.0.0/8] }");
    let proxy = Proxy::start(&format!("access_log: {{ format: off }}\n{text}"));
    let send = |fields: &str| {
        let request = format!(
            "GET /cart?card=4111 HTTP/1.1\r\nhost: shop.example\r\n{fields}connection: close\r\n\r\n"
        );
        ask_raw(proxy.at("web"), request.as_bytes()).status
    };
    assert_eq!(send("x-request-id: of a/client\r\n"), 200);
    let mut told = Value::Null;
    eventually("the exchange is recorded", || {
        let answer = proxy.get("/api/v1/why/of%20a%2Fclient");
        told = serde_json::from_str(&answer.body).unwrap_or_default();
        answer.status == 200
    });
    assert_eq!((&told["request_id"], &told["path"]), (&"of a/client".into(), &"/cart".into()));
    assert_eq!((&told["cluster"], &told["reason"]), (&"idc".into(), &"nearest".into()));
    assert_eq!((&told["status"], &told["listener"]), (&200.into(), &"web".into()));
    assert_eq!(told["endpoint"], idc.address.to_string());
    assert!(told["why"].as_str().unwrap().contains("nearest healthy"), "{told}");
    assert_eq!(told["explanation"]["scores"][1]["cluster"], "cloud");
    assert_eq!(
        proxy.json("/api/v1/decisions"),
        serde_json::json!([]),
        "nothing else went elsewhere"
    );

    idc.kill();
    eventually("the cluster is down", || proxy.cluster("idc")["state"] == "down");
    assert_eq!(send("x-request-id: later\r\n"), 200);
    eventually("the exchange is recorded", || proxy.get("/api/v1/why/later").status == 200);
    let told = proxy.json("/api/v1/why/later");
    assert_eq!((&told["cluster"], &told["reason"]), (&"cloud".into(), &"failover".into()));
    let rejected = &told["explanation"]["rejected"];
    assert_eq!(rejected, &serde_json::json!([{"cluster": "idc", "reason": "down"}]));
    assert_eq!(proxy.json("/api/v1/decisions")[0]["request_id"], "later");
    // The explanation is the one of that time.
    let first = proxy.json("/api/v1/why/of%20a%2Fclient");
    assert_eq!(first["explanation"]["rejected"], serde_json::json!([]));

    // An id that the proxy made is found as well: the cluster has received the id.
    assert_eq!(send(""), 200);
    let seen = cloud.seen().to_ascii_lowercase();
    let own = seen.rsplit("x-request-id: ").next().unwrap().lines().next().unwrap().to_owned();
    eventually("the exchange is recorded", || {
        proxy.get(&format!("/api/v1/why/{own}")).status == 200
    });
    let unknown = proxy.get("/api/v1/why/unknown");
    let body: Value = serde_json::from_str(&unknown.body).unwrap();
    assert_eq!(unknown.status, 404);
    assert!(body["error"].as_str().unwrap().contains("100 exchanges a second"), "{body}");
    assert!(body["kept_since"]["nearest"].is_string(), "{body}");
}

#[test]
fn an_endpoint_has_its_rate_and_the_text_and_age_of_its_last_error() {
    let (idc, _cloud, proxy) = rig();
    let web = proxy.at("web");
    let endpoint = || proxy.cluster("idc")["endpoints"][0].clone();
    assert_eq!(endpoint()["last_error_age_s"], Value::Null);
    eventually("the endpoint has a rate", || {
        (0..10).for_each(|_| assert_eq!(get(web, "/").status, 200));
        endpoint()["requests_per_s"].as_f64().unwrap() > 5.0
    });
    assert_eq!(proxy.cluster("idc")["learned_rps"], Value::Null, "it was never full");
    idc.kill();
    eventually("the endpoint is down", || endpoint()["state"] == "down");
    let told = endpoint();
    assert_eq!(told["last_error"], "refused", "{told}");
    assert_eq!(told["last_error_text"], "connections refused, or host unreachable");
    assert!(told["last_error_age_s"].as_f64().unwrap() < 5.0, "{told}");
}
