//! Verbs that draw on a terminal, in a real one: tmux.

use super::remote::{secure, start};
use super::support::*;
use super::tls::folder_with;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A terminal with a program in it, ended with the test.
pub struct Tmux {
    folder: Folder,
}

impl Tmux {
    /// Runs a program of these arguments; `None` where tmux is missing and may be.
    pub fn start(width: u16, height: u16, arguments: &str) -> Option<Tmux> {
        if !is_installed("tmux") {
            return None;
        }
        let tmux = Tmux { folder: Folder::new() };
        let program = env!("CARGO_BIN_EXE_tidegate");
        // The shell stays, so that the terminal can be looked at after the program.
        let line = format!("'{program}' {arguments}; echo \"ended with $?\"; read wait");
        let (width, height) = (width.to_string(), height.to_string());
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &line]);
        Some(tmux)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let socket = self.folder.0.join("tmux");
        let mut command = Command::new("tmux");
        let command = command.arg("-u").arg("-S").arg(socket).args(arguments);
        let output = command.env_remove("TMUX").env_remove("NO_COLOR").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until the screen has this text.
    #[track_caller]
    pub fn shows(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(Instant::now() < deadline, "`{text}` is missing in:\n{screen}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn types(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    pub fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let socket = self.folder.0.join("tmux");
        drop(Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output());
    }
}

#[test]
fn top_shows_an_outage_drains_a_cluster_and_leaves_the_terminal_as_it_was() {
    let (idc, cloud) = (Cluster::named("idc"), Cluster::named("cloud"));
    let proxy =
        Proxy::start(&config(&[("idc", "idc", idc.address), ("cloud", "cloud", cloud.address)]));
    let token = proxy.folder.0.join("token");
    let arguments =
        format!("top --admin http://{} --token-file {} --name ann", proxy.admin, token.display());
    let Some(tmux) = Tmux::start(100, 30, &arguments) else { return };
    tmux.shows("live");
    tmux.types("3");
    tmux.shows("● up");

    idc.kill();
    tmux.shows("■ down");
    tmux.types("4");
    tmux.shows("■ idc is down");

    tmux.types("3/cloud");
    tmux.press("Enter");
    tmux.shows("filter `cloud`: 1");
    tmux.types("d");
    tmux.shows("Type its name");
    assert_eq!(proxy.cluster("cloud")["dial_percent"], 100, "nothing is done before the answer");
    tmux.types("cloud");
    tmux.press("Enter");
    tmux.shows("cloud is drained");
    tmux.shows("◆ draining");
    assert_eq!(proxy.cluster("cloud")["state"], "draining");
    assert_eq!(proxy.json("/api/v1/audit")[0]["by"], "ann");

    // A proxy that does not answer: keys are followed, and the figures are marked as old.
    proxy.signal(19);
    tmux.shows("CUT OFF: figures are");
    tmux.types("1");
    tmux.shows("(here)");
    proxy.signal(18);
    tmux.shows("live");
    tmux.types("q");
    let screen = tmux.shows("ended with 0");
    assert!(!screen.contains("Services"), "the terminal is as it was:\n{screen}");
}

#[test]
fn top_needs_a_terminal_and_an_address() {
    let (code, printed) = super::admin::tidegate(&["top", "--admin", "127.0.0.1:1"]);
    assert!(code == 1 && printed.contains("`top` needs a terminal"), "{printed}");
    let Some(tmux) = Tmux::start(80, 24, "top --admin 127.0.0.1:1") else { return };
    tmux.shows("no answer");
    tmux.shows("Connection refused");
    tmux.press("C-c");
    tmux.shows("ended with 0");
}

/// Starts `top` with these arguments, and drains a cluster.
fn drains(arguments: &str) {
    let Some(tmux) = Tmux::start(100, 30, arguments) else { return };
    tmux.shows("live");
    tmux.types("3/idc");
    tmux.press("Enter");
    tmux.shows("● up");
    tmux.types("d");
    tmux.shows("Type its name");
    tmux.types("idc");
    tmux.press("Enter");
    tmux.shows("idc is drained");
    tmux.shows("◆ draining");
    tmux.types("q");
    tmux.shows("ended with 0");
}

#[test]
fn top_follows_and_drains_over_tls_with_a_token() {
    let folder = folder_with(&[("a", &["127.0.0.1"])]);
    let idc = Cluster::named("idc");
    let (_proxy, _, address) = secure(&folder, idc.address);
    let at = folder.0.display();
    let url = format!("top --admin https://{address}");
    drains(&format!("{url} --ca {at}/ca.pem --token-file {at}/token"));
    for (arguments, told) in [
        (format!("{url} --token-file {at}/token"), "certificate"),
        (format!("{url} --ca {at}/ca.pem"), "bearer token is missing"),
    ] {
        let Some(tmux) = Tmux::start(120, 24, &arguments) else { return };
        tmux.shows(told);
        tmux.types("q");
        tmux.shows("ended with 0");
    }
}

#[test]
fn top_follows_and_drains_by_a_unix_socket() {
    let folder = Folder::new();
    folder.write("token", "secret\n");
    let idc = Cluster::named("idc");
    let admin = "{ address: \"unix:admin.sock\", token_file: token }";
    let (_proxy, _) = start(&folder, admin, idc.address);
    let at = folder.0.display();
    drains(&format!("top --admin unix:{at}/admin.sock --token-file {at}/token"));
}

/// The dashboard's address in the demo's output.
fn dashboard_of(text: &str) -> SocketAddr {
    let address = text.split("http://").nth(1).unwrap();
    address.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn the_demo_draws_in_place_and_follows_keys() {
    let Some(tmux) = Tmux::start(100, 40, "demo --forever") else { return };
    let screen = tmux.shows("f flood   k kill the data centre   q quit");
    let first = screen.lines().next().unwrap();
    assert!(
        first.starts_with("Dashboard  http://127.0.0.1:"),
        "the address comes first:\n{screen}"
    );
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(ask_raw(dashboard_of(first), request).status, 200);
    tmux.shows("Low tide");
    tmux.shows("idc        █");

    tmux.types("f");
    tmux.shows("You flood the data centre");
    tmux.shows("the show goes on in");
    tmux.shows("cloud-near █");

    tmux.types("k");
    tmux.shows("k revive it");
    let screen = tmux.shows(" killed");
    assert_eq!(screen.matches("cloud-near █").count(), 1, "it is drawn in place:\n{screen}");

    tmux.types("q");
    let screen = tmux.shows("ended with 1");
    assert!(screen.contains("Stopped before the end: the rest was not judged."), "{screen}");
    assert!(screen.contains("Now yours: tidegate init"), "{screen}");
    assert!(!screen.contains("k revive it"), "the picture is gone:\n{screen}");
}

#[test]
fn the_demo_prints_plain_lines_into_a_pipe_and_spills_early() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let child = command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut process = Process(child);
    let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let started = Instant::now();
    let (mut seen, mut rises) = (Vec::new(), false);
    for line in lines {
        let line = line.unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        // Requests a second, then the shares of the data centre, the near and the far cloud.
        let figures: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let spills = line.contains('[') && figures[2] + figures[3] > 5.0;
        rises |= line.starts_with("--- The tide rises");
        seen.push(line);
        if rises && spills {
            break;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "no spill in time: {seen:#?}");
    }
    assert!(seen[0].starts_with("Dashboard  http://127.0.0.1:"), "{seen:#?}");
    assert!(seen.iter().any(|line| line.starts_with("--- Low tide")), "{seen:#?}");
    assert!(rises, "{seen:#?}");
}

#[test]
fn the_demo_goes_on_for_ever_and_keeps_its_address() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["demo", "--forever"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(send.send(line))));
    let (mut seen, mut rounds) = (Vec::<String>::new(), 0);
    // It prints a line each second.
    while let Ok(line) = receive.recv_timeout(2 * PATIENCE) {
        rounds += usize::from(line.starts_with("--- Low tide"));
        let is_second = rounds == 2 && line.starts_with("--- The tide rises");
        seen.push(line);
        if is_second {
            break;
        }
    }
    let of = |start: &str| seen.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((rounds, of("What you saw:"), of("Now yours")), (2, 1, 0), "{seen:#?}");
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(ask_raw(dashboard_of(&seen[0]), request).status, 200);
}

/// Plays of the demo: it is judged in real time, and other processes may disturb it.
const PLAYS: usize = 3;

#[test]
fn the_demo_plays_to_its_verdict_and_every_promise_comes_true() {
    for play in 1..=PLAYS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = command.arg("demo").stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, verdict) = text.split_once("What you saw:\n").expect(&text);
        let kept = verdict.matches("  [ok] ").count();
        let promises = kept + verdict.matches("  [NO] ").count();
        assert_eq!(promises, 7, "all is judged, whatever the result:\n{text}");
        assert!(verdict.trim_end().ends_with("Now yours: tidegate init"), "{text}");
        let came_true = verdict.contains("All came true.");
        assert_eq!(came_true, kept == promises, "{text}");
        assert_eq!(output.status.code(), Some(i32::from(!came_true)), "{text}");
        for always in
            ["sensitive data does not leave", "an outage costs idempotent requests nothing"]
        {
            assert!(verdict.contains(&format!("  [ok] {always}")), "{text}");
        }
        if came_true {
            return;
        }
        println!("play {play} of {PLAYS}:\n{verdict}");
    }
    panic!("promises were broken in each of {PLAYS} plays");
}

#[test]
fn top_ends_when_its_terminal_is_gone() {
    let idc = Cluster::named("idc");
    let proxy = Proxy::start(&config(&[("idc", "idc", idc.address)]));
    let Some(tmux) = Tmux::start(100, 30, &format!("top --admin http://{}", proxy.admin)) else {
        return;
    };
    tmux.shows("idc");
    let shell = tmux.run(&["list-panes", "-F", "#{pane_pid}"]);
    let shell = shell.trim();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let program = children.trim();
    assert!(program.parse::<u32>().is_ok(), "the shell runs one program: {children}");
    tmux.run(&["kill-server"]);
    let running = format!("/proc/{program}/exe");
    eventually("it ended", || std::fs::read_link(&running).is_err());
}
