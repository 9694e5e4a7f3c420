//! The first minutes with the program: `init`, `run`, and what they print.

use super::admin::tidegate;
use super::support::*;
use super::terminal::Tmux;

#[test]
fn run_without_a_file_says_what_to_do() {
    let bare = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("run")
        .env_remove("TIDEGATE_CONFIG")
        .output()
        .unwrap();
    assert_eq!(bare.status.code(), Some(2));
    let bare = String::from_utf8_lossy(&bare.stderr).into_owned();
    let (code, absent) = tidegate(&["run", "--config", "/nowhere/tidegate.yaml"]);
    assert_eq!(code, 1, "{absent}");
    assert!(absent.contains("there is no file /nowhere/tidegate.yaml"), "{absent}");
    for said in [bare, absent] {
        for command in ["tidegate demo", "tidegate init --backend", "tidegate run --config"] {
            assert!(said.contains(command), "{command}: {said}");
        }
    }
}

#[test]
fn init_writes_a_new_file_for_these_endpoints_and_run_shows_where_to_look() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let folder = Folder::new();
    let file = folder.0.join("first.yaml");
    let path = file.to_str().unwrap();
    let backends = [format!("idc={}", idc.address), format!("cloud=http://{}", cloud.address)];
    let init = ["init", "--output", path, "--backend", &backends[0], "--backend", &backends[1]];
    let (code, said) = tidegate(&init);
    assert!(code == 0 && said.contains(&format!("tidegate run --config {path}")), "{said}");
    let (code, said) = tidegate(&init);
    assert!(code == 1 && said.contains("exists and is kept"), "{said}");
    let (code, said) = tidegate(&["check", "--strict", path]);
    assert_eq!(code, 0, "{said}");

    // The ports of the file may be in use on the machine of this test.
    let text = std::fs::read_to_string(&file).unwrap();
    let text =
        text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");
    std::fs::write(&file, text).unwrap();
    let Some(tmux) = Tmux::start(120, 40, &format!("run --config {path}")) else { return };
    let screen = tmux.shows("tidegate explain --config");
    let after = |label: &str| {
        let line = screen.lines().find(|line| line.contains(label)).expect(&screen);
        line.rsplit(' ').next().unwrap().trim_start_matches("http://").to_owned()
    };
    assert!(screen.contains("is ready."), "{screen}");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let dashboard = after("  dashboard  ").parse().unwrap();
    assert_eq!(ask_raw(dashboard, request).status, 200);
    let web = after("curl -i http://").trim_end_matches('/').parse().unwrap();
    assert_eq!(ask_raw(web, request).body, "idc");
    tmux.press("C-c");
    tmux.shows("ended with 0");
}
