//! Session affinity.

use super::support::*;
use std::collections::BTreeSet;

fn ask(proxy: &Proxy, cookie: Option<&str>) -> Answer {
    let field = cookie.map(|cookie| format!("Cookie: a=b; {cookie}; c=d\r\n")).unwrap_or_default();
    let head = format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{field}\r\n");
    ask_raw(proxy.at("web"), head.as_bytes())
}

/// One cluster of these endpoints, with this affinity.
fn one(endpoints: &[&Cluster], affinity: &str) -> String {
    let listed: Vec<String> = endpoints.iter().map(|c| format!("\"{}\"", c.address)).collect();
    config(&[("idc", "idc", endpoints[0].address)])
        .replace(&format!("[\"{}\"]", endpoints[0].address), &format!("[{}]", listed.join(", ")))
        .replace("clusters: [idc] }", &format!("clusters: [idc], affinity: {affinity} }}"))
}

fn pair(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn a_client_stays_at_its_endpoint_while_that_is_usable() {
    let clusters: Vec<Cluster> = ["0", "1", "2"].map(Cluster::named).into();
    let all: Vec<&Cluster> = clusters.iter().collect();
    let folder = Folder::new();
    let secret = folder.write("secret", "sixteen bytes at least\n");
    let stay = format!("{{ cookie: stay, ttl: 1h, secret_file: {} }}", secret.display());
    let text = one(&all, &stay);
    let proxy = Proxy::start(&text);
    let first = ask(&proxy, None);
    let set = first.header("set-cookie").unwrap();
    assert!(set.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{set}");
    let cookie = pair(&first);
    for _ in 0..20 {
        let answer = ask(&proxy, Some(&cookie));
        assert_eq!(answer.body, first.body);
        assert_eq!(answer.header("set-cookie"), None, "it has it already");
    }
    // Clients without a cookie are balanced as usual.
    let mut others = BTreeSet::new();
    eventually("each gets some", || {
        others.insert(ask(&proxy, None).body);
        others.len() == 3
    });
    // An unknown cookie is ignored.
    for strange in ["stay=", "stay=0000000000000000", "stay=xyz", "stay=ffffffffffffffffffff"] {
        assert!(ask(&proxy, Some(strange)).header("set-cookie").is_some(), "{strange}");
    }
    clusters[first.body.parse::<usize>().unwrap()].kill();
    let moved = ask(&proxy, Some(&cookie));
    assert_ne!((moved.status, &moved.body), (200, &first.body));
    assert_eq!(moved.status, 200, "its endpoint's end costs it nothing");
    assert_eq!(ask(&proxy, Some(&pair(&moved))).body, moved.body, "and there it stays");
    // Another proxy with the same secret accepts the cookie; one with another secret does not.
    let other = Proxy::start(&text);
    assert_eq!(ask(&other, Some(&pair(&moved))).header("set-cookie"), None);
    folder.write("secret", "sixteen other bytes\n");
    let other = Proxy::start(&text);
    assert!(ask(&other, Some(&pair(&moved))).header("set-cookie").is_some());
}

#[test]
fn a_client_stays_in_its_cluster_only_with_across_clusters() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let base = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)])
        .replace("cloud: { kind: cloud,", "cloud: { kind: cloud, dial: 100,");
    for (across, expected) in [("true", "cloud"), ("false", "idc")] {
        let stay = format!("affinity: {{ cookie: stay, across_clusters: {across} }} }}");
        let text =
            base.replace("clusters: [idc, cloud] }", &format!("clusters: [idc, cloud], {stay}"));
        let proxy = Proxy::start(&text);
        // The cloud served the client while the idc was drained.
        assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
        eventually("the idc is drained", || ask(&proxy, None).body == "cloud");
        let cookie = pair(&ask(&proxy, None));
        assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/undrain", "").status, 200);
        eventually("the idc is back", || ask(&proxy, None).body == "idc");
        for _ in 0..10 {
            assert_eq!(ask(&proxy, Some(&cookie)).body, expected, "across clusters: {across}");
        }
        let stayed =
            || proxy.log().iter().filter(|l| l.contains("\"reason\":\"affinity\"")).count();
        let wanted = if across == "true" { 10 } else { 0 };
        eventually("the log says why", || stayed() == wanted);
    }
}

#[test]
fn affinity_never_overrides_data_classes() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let text = config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]).replace(
        "clusters: [idc, cloud] }",
        "clusters: [cloud, idc], affinity: { cookie: stay, across_clusters: true } }",
    ) + "routes: [{ path_prefix: /s, service: shop, data: sensitive }]\n";
    let proxy = Proxy::start(&text);
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/drain", "").status, 200);
    eventually("the idc is drained", || ask(&proxy, None).body == "cloud");
    let cookie = pair(&ask(&proxy, None));
    assert_eq!(proxy.tell("POST", "/api/v1/clusters/idc/undrain", "").status, 200);
    let head =
        format!("GET /s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
    eventually("the idc is back", || ask_raw(proxy.at("web"), head.as_bytes()).body == "idc");
    assert!(!cloud.seen().contains("GET /s "), "a cookie is no permit");
}

#[test]
fn a_cookie_is_valid_for_its_own_service_only() {
    let (first, second) = (Cluster::named("0"), Cluster::named("1"));
    let text = one(&[&first, &second], "{ cookie: stay }").replace(
        "services: { shop",
        "services: { other: { clusters: [idc], affinity: { cookie: stay } }, shop",
    ) + "routes: [{ path_prefix: /other, service: other }]\n";
    let proxy = Proxy::start(&text);
    let cookie = pair(&ask(&proxy, None));
    assert_eq!(ask(&proxy, Some(&cookie)).header("set-cookie"), None);
    let head = format!(
        "GET /other HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    );
    let other = ask_raw(proxy.at("web"), head.as_bytes());
    assert!(other.header("set-cookie").is_some_and(|set| !set.contains(&cookie)), "{other:?}");
}

#[test]
fn check_reports_volatile_cookie_keys_and_invalid_secrets() {
    let (cluster, folder) = (Cluster::named("0"), Folder::new());
    let checked = |affinity: &str| check(&folder, &one(&[&cluster], affinity));
    let (code, said) = checked("{ cookie: stay }");
    assert!(
        code == 0 && said.contains("cookies are encrypted with a random key: after a restart"),
        "{said}"
    );
    folder.write("short", "short\n");
    let (code, said) = checked("{ cookie: stay, secret_file: short }");
    assert!(code == 1 && said.contains("has fewer than 16 bytes"), "{said}");
    let (code, said) = checked("{ cookie: stay, secret_file: missing }");
    assert!(code == 1 && said.contains("missing"), "{said}");
    use std::os::unix::fs::PermissionsExt;
    let secret = folder.write("secret", "sixteen bytes at least\n");
    for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = checked("{ cookie: stay, secret_file: secret }");
        assert_eq!(
            (code, said.matches("every user of this machine may read it").count()),
            (0, warnings),
            "{said}"
        );
    }
}
