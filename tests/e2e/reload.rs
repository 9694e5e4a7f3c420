//! Reload: every way to change the file takes effect within a second and fails no request.

use super::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_rejected_file_is_logged_once() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text);
    let errors = |proxy: &Proxy| proxy.log().iter().filter(|l| l.contains(" ERROR ")).count();
    proxy.rewrite(&text.replace("protocol: http", "protocol: htp"));
    eventually("it is told", || errors(&proxy) >= 2);
    // Waits for two further checks; there is no event to wait for.
    std::thread::park_timeout(Duration::from_millis(1_200));
    assert_eq!(errors(&proxy), 2, "{:?}", proxy.log());
}

#[test]
fn twelve_reloads_under_load_fail_no_request_and_each_is_in_force_within_a_second() {
    let (a, b) = (Cluster::named("a"), Cluster::named("b"));
    let of = |cluster: &Cluster| config(&[("one", "idc", cluster.address)]);
    let proxy = Proxy::start(&of(&a));
    let web = proxy.at("web");
    let (stop, failed, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, failed, served) = (stop.clone(), failed.clone(), served.clone());
            std::thread::spawn(move || {
                let mut client = Keeping::new(web);
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    // Four clients, each at a hundred requests a second.
                    next += Duration::from_millis(10);
                    std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    match client.try_answer() {
                        Some(answer) if answer.status == 200 => {
                            served.fetch_add(1, Ordering::Relaxed);
                            if answer.header("connection").as_deref() == Some("close") {
                                client = Keeping::new(web);
                            }
                        }
                        _ => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            client = Keeping::new(web);
                        }
                    }
                }
            })
        })
        .collect();
    for number in 0..12 {
        let cluster = if number % 2 == 0 { &b } else { &a };
        let before = proxy.generation();
        let since = Instant::now();
        proxy.rewrite(&of(cluster));
        eventually("the reload", || proxy.generation() == before + 1);
        assert!(since.elapsed() < Duration::from_secs(1), "{number}: {:?}", since.elapsed());
        let expected = if number % 2 == 0 { "b" } else { "a" };
        eventually("its effect", || get(web, "/").body == expected);
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(served.load(Ordering::Relaxed) > 200, "{}", served.load(Ordering::Relaxed));
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_is_reported() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text);
    for bad in
        ["clusters: {", "", "listeners: {}\nclusters: {}\nservices: {}\n", "\u{0}", "nonsense: 1\n"]
    {
        let failures = || proxy.metric("tidegate_config_reloads_total{result=\"failure\"}");
        let before = failures();
        std::fs::write(proxy.config_path(), bad).unwrap();
        eventually("the failure is counted", || failures() > before);
        let status = proxy.json("/api/v1/status");
        assert_eq!(status["config"]["last_reload"]["ok"], false, "{bad:?}");
        assert!(!status["config"]["last_reload"]["error"].as_str().unwrap().is_empty());
        assert_eq!(proxy.metric("tidegate_config_last_reload_successful"), 0.0);
        assert_eq!(get(proxy.at("web"), "/").body, "a");
    }
    proxy.rewrite(&(text + "# mended\n"));
    eventually("the mended file is in force", || {
        proxy.metric("tidegate_config_last_reload_successful") == 1.0
    });
}

#[test]
fn renamed_swapped_and_recreated_files_are_loaded() {
    let (a, b) = (Cluster::named("a"), Cluster::named("b"));
    let text = |cluster: &Cluster| whole(&config(&[("one", "idc", cluster.address)]));
    let proxy = Proxy::start(&config(&[("one", "idc", a.address)]));
    let (web, folder) = (proxy.at("web"), &proxy.folder);
    // By rename.
    let beside = folder.write("beside", &text(&b));
    std::fs::rename(beside, proxy.config_path()).unwrap();
    eventually("a rename", || get(web, "/").body == "b");
    // After deletion the old configuration stays; a new file is loaded.
    std::fs::remove_file(proxy.config_path()).unwrap();
    eventually("the deletion shows", || {
        proxy.metric("tidegate_config_last_reload_successful") == 0.0
    });
    assert_eq!(get(web, "/").body, "b");
    folder.write("tidegate.yaml", &text(&a));
    eventually("made again", || get(web, "/").body == "a");
    // Like a ConfigMap: a link to a link to a folder that is replaced.
    for (name, cluster) in [("..1", &a), ("..2", &b)] {
        std::fs::create_dir(folder.0.join(name)).unwrap();
        std::fs::write(folder.0.join(name).join("tidegate.yaml"), text(cluster)).unwrap();
    }
    let link = |to: &str, name: &str| {
        let temporary = folder.0.join("..new");
        std::os::unix::fs::symlink(to, &temporary).unwrap();
        std::fs::rename(temporary, folder.0.join(name)).unwrap();
    };
    link("..1", "..data");
    link("..data/tidegate.yaml", "tidegate.yaml");
    eventually("the link is followed", || {
        proxy.metric("tidegate_config_last_reload_successful") == 1.0
    });
    link("..2", "..data");
    eventually("the swap", || get(web, "/").body == "b");
}

#[test]
fn included_files_are_watched_like_the_main_file() {
    let (a, b) = (Cluster::named("a"), Cluster::named("b"));
    let part = |name: &str, cluster: &Cluster| {
        let (probe, at) = ("probe: { interval: 100ms, timeout: 100ms }", cluster.address);
        format!(
            "services: {{ {name}: {{ clusters: [{name}] }} }}\nclusters: {{ {name}: {{ endpoints: [\"{at}\"], {probe} }} }}\nroutes: [{{ path_prefix: /{name}, service: {name} }}]\n"
        )
    };
    let folder = Folder::new();
    folder.write("token", "secret\n");
    let main = "include: [conf.d/*.yaml, swapped/*.yaml]\nlisteners: { web: { address: 127.0.0.1:0, protocol: http, service: base } }\n";
    folder.write("tidegate.yaml", &whole(&format!("{main}{}", part("base", &a))));
    let proxy = Proxy::start_in(folder, &[]);
    let (web, folder) = (proxy.at("web"), &proxy.folder);
    let answers = |path: &str, status: u16, body: &str| {
        let since = Instant::now();
        eventually(path, || {
            let answer = get(web, path);
            answer.status == status && (status != 200 || answer.body == body)
        });
        // The poll comes every 500 ms; the watch is faster.
        assert!(since.elapsed() < Duration::from_secs(2), "{path}: {:?}", since.elapsed());
    };
    // A folder that did not exist at the start, and a new file.
    std::fs::create_dir(folder.0.join("conf.d")).unwrap();
    folder.write("conf.d/one.yaml", &part("one", &a));
    answers("/one", 200, "a");
    // Changed in place, and by rename.
    folder.write("conf.d/one.yaml", &part("one", &b));
    answers("/one", 200, "b");
    let beside = folder.write("conf.d/one.tmp", &part("one", &a));
    std::fs::rename(beside, folder.0.join("conf.d/one.yaml")).unwrap();
    answers("/one", 200, "a");
    // A second file; an invalid one changes nothing, and its position names it.
    folder.write("conf.d/two.yaml", &part("two", &b));
    answers("/two", 200, "b");
    folder.write("conf.d/two.yaml", &part("one", &b));
    eventually("the duplicate is told", || {
        proxy.metric("tidegate_config_last_reload_successful") == 0.0
    });
    answers("/two", 200, "b");
    let told = proxy.json("/api/v1/config/diff");
    let problems = told["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["severity"] == "error").unwrap();
    assert!(problem["file"].as_str().unwrap().ends_with("conf.d/two.yaml"), "{told:#}");
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains("written twice: first in") && message.contains("conf.d/one.yaml:1:13"),
        "{message}"
    );
    let changed =
        told["changes"].as_array().unwrap().iter().find(|c| c["path"] == "routes[2].path_prefix");
    assert!(changed.unwrap()["file"].as_str().unwrap().ends_with("conf.d/two.yaml"), "{told:#}");
    // Removed: its cluster goes.
    std::fs::remove_file(folder.0.join("conf.d/two.yaml")).unwrap();
    eventually("the removed file is gone", || get(web, "/two").body == "a");
    assert_eq!(proxy.metric("tidegate_config_last_reload_successful"), 1.0);
    // Like a ConfigMap: links to files in a folder that is swapped.
    std::fs::create_dir(folder.0.join("swapped")).unwrap();
    for (name, cluster) in [("..1", &a), ("..2", &b)] {
        std::fs::create_dir(folder.0.join("swapped").join(name)).unwrap();
        folder.write(&format!("swapped/{name}/map.yaml"), &part("map", cluster));
    }
    let link = |to: &str, name: &str| {
        let temporary = folder.0.join("swapped/..new");
        std::os::unix::fs::symlink(to, &temporary).unwrap();
        std::fs::rename(temporary, folder.0.join("swapped").join(name)).unwrap();
    };
    link("..1", "..data");
    link("..data/map.yaml", "map.yaml");
    answers("/map", 200, "a");
    link("..2", "..data");
    answers("/map", 200, "b");
    let shown = proxy.json("/api/v1/config");
    assert_eq!(shown["clusters"]["map"]["endpoints"][0], b.address.to_string(), "{shown:#}");
}

#[test]
fn check_lists_included_files_and_shows_the_line_of_the_right_one() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("conf.d")).unwrap();
    let all = config(&[("a", "idc", "127.0.0.1:9".parse().unwrap())]);
    let main = format!("include: [conf.d/*.yaml, none/*.yaml]\n{all}");
    folder.write("conf.d/log.yaml", "log: { level: warn }\n");
    let (code, told) = check(&folder, &main);
    assert!(
        code == 0 && told.contains("conf.d/log.yaml\n") && told.contains("checked.yaml: valid\n"),
        "{told}"
    );
    assert!(told.contains("note: include: `none/*.yaml` matches no file"), "{told}");
    folder.write("conf.d/log.yaml", "# a\n# b\nlog: { level: wrn }\n");
    let (code, told) = check(&folder, &main);
    assert!(code == 1 && told.contains("conf.d/log.yaml:3:15: error: log.level"), "{told}");
    assert!(told.contains("\n 3 | log: { level: wrn }\n"), "{told}");
}

#[test]
fn sighup_and_the_api_reload_too() {
    let cluster = Cluster::named("a");
    let proxy = Proxy::start(&config(&[("a", "idc", cluster.address)]));
    proxy.signal(1);
    eventually("sighup", || proxy.generation() == 2);
    let answer = proxy.tell("POST", "/api/v1/reload", "");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"generation\":3"), "{}", answer.body);
    std::fs::write(proxy.config_path(), "listners: {}\nclusters: 7\n").unwrap();
    let answer = proxy.tell("POST", "/api/v1/reload", "");
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("did you mean `listeners`?"), "{}", answer.body);
    assert!(answer.body.contains("\"line\":2"), "{}", answer.body);
}

#[test]
fn listeners_are_added_and_removed_and_a_used_address_changes_nothing() {
    let cluster = Cluster::named("a");
    let text = config(&[("a", "idc", cluster.address)]);
    let proxy = Proxy::start(&text);
    let web = proxy.at("web");
    let more = text.replace(
        "listeners: {",
        "listeners: { more: { address: 127.0.0.2:0, protocol: http, service: shop },",
    );
    proxy.rewrite(&more);
    eventually("a new listener", || proxy.said("listener more listening").is_some());
    let second = proxy.at("more");
    assert_eq!(get(second, "/").body, "a");
    let mut kept = Keeping::new(second);
    assert_eq!(kept.get("/").status, 200);
    proxy.rewrite(&text);
    eventually("it is gone", || std::net::TcpStream::connect(second).is_err());
    assert_eq!(get(web, "/").body, "a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let clash = text.replace(
        "listeners: {",
        &format!(
            "listeners: {{ clash: {{ address: \"{}\", protocol: http, service: shop }},",
            taken.local_addr().unwrap()
        ),
    );
    proxy.rewrite(&clash);
    eventually("the clash shows", || {
        proxy.said("listeners.clash.address: cannot listen").is_some()
    });
    assert_eq!(get(web, "/").body, "a");
}
