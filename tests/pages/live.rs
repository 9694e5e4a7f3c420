//! The README and the quick start, followed line by line; and the requests of the task pages: a page's example runs
//! before a small application, and each curl gets the statuses that its comment states.

use super::documents;
use super::examples::{Workshop, blocks, value};
use super::files::{read, root};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tidegate::config::yaml::parse;

/// The application: 200 for each request. Below `/check` it is an authorization service that admits one token.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || respond(stream));
        }
    });
    address
}

fn respond(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        // A probe closes its connection without a request.
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let refuses = head.starts_with("GET /check") && !head.contains("let-me-in");
    let status = if refuses { "401 Unauthorized" } else { "200 OK" };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
    // The client may have gone.
    stream.write_all(answer.as_bytes()).unwrap_or_default();
}

/// A running proxy; ended when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs `tidegate.yaml` of the folder, and waits until it says that it is ready, as it says to systemd.
fn start(workshop: &Workshop) -> Proxy {
    let path = workshop.0.join("notify");
    std::fs::remove_file(&path).unwrap_or_default();
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let log = std::fs::File::create(workshop.0.join("log")).unwrap();
    let proxy = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config", "tidegate.yaml"])
        .current_dir(&workshop.0)
        .env_remove("TIDEGATE_CONFIG")
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let proxy = Proxy(proxy.unwrap());
    let mut message = [0; 4096];
    loop {
        let length = socket.recv(&mut message).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(workshop.0.join("log")).unwrap();
            panic!("not ready: {error}\n{log}")
        });
        if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
            return proxy;
        }
    }
}

/// The three-digit numbers of a text.
fn statuses(text: &str) -> Vec<u16> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_status = |word: &&str| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    words.filter(is_status).map(|word| word.parse().unwrap()).collect()
}

/// The statuses that the comments of a block state.
fn expected(script: &str) -> Vec<u16> {
    let comments = script.lines().filter(|line| line.contains("curl "));
    comments
        .filter_map(|line| line.rsplit_once("  # "))
        .flat_map(|(_, comment)| statuses(comment))
        .collect()
}

/// The statuses that curl printed with `-i`.
fn received(printed: &str) -> Vec<u16> {
    let heads = printed.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    heads.map(|rest| rest[..3].parse().unwrap()).collect()
}

/// Runs a page's requests with the page's configuration, at addresses that are free.
fn play(document: &str, config: &str, script: &str) {
    let workshop = Workshop::new("live");
    let application = application().to_string();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:8080", &free).replace("127.0.0.1:9001", &application);
        text.replace("127.0.0.1:9000", &application)
    };
    let mut config = workshop.complete(&here(config));
    if value(&parse(&config).0.unwrap(), "admin").is_none() {
        config.push_str("admin: { address: \"off\" }\n");
    }
    workshop.write("tidegate.yaml", &config);
    let _proxy = start(&workshop);

    let output = workshop.run(&here(script));

    let printed = String::from_utf8_lossy(&output.stdout);
    let log = std::fs::read_to_string(workshop.0.join("log")).unwrap();
    assert_eq!(received(&printed), expected(script), "{document}:\n{script}\n{printed}\n{log}");
}

#[test]
fn the_requests_of_the_task_pages_get_the_statuses_that_the_pages_state() {
    let mut count = 0;
    for document in documents() {
        let mut config: Option<String> = None;
        for block in blocks(&read(&document)) {
            if block.info == "console" && !expected(&block.body).is_empty() {
                count += 1;
                play(&document, config.as_ref().unwrap(), &block.body);
            } else if block.is_configuration() {
                config = Some(block.body);
            }
        }
    }
    assert!(count >= 4, "{count}");
}

/// An address that is free now.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Verbs that ask the proxy at the address of the admin API.
const ASK: &[&str] = &["clusters", "drain", "undrain", "status", "why"];

/// Runs the command lines of a page in their order, with addresses that are free; its applications run here.
fn follow(document: &str) {
    let workshop = Workshop::new("first");
    std::os::unix::fs::symlink(root().join("config"), workshop.0.join("config")).unwrap();
    std::fs::remove_file(workshop.0.join("token")).unwrap();
    let (application, web, admin) = (application().to_string(), free(), free());
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:8080", &web).replace("127.0.0.1:9901", &admin);
        let text = text.replace("10.0.0.11:8080", &application);
        text.replace("https://app.example.com", &format!("http://{application}"))
    };
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(workshop.0.join("tidegate.yaml")).unwrap();
        assert!(text.contains(from), "{document}: {from}");
        workshop.write("tidegate.yaml", &here(&text.replace(from, to)));
    };
    let (mut proxy, mut asked) = (None, 0);
    let text = read(document);
    let scripts = blocks(&text).into_iter().filter(|block| block.info == "console");
    for line in scripts.flat_map(|block| block.body.lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let line = line.split(" #").next().unwrap().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let command =
            here(line).replacen("tidegate ", &format!("{} ", env!("CARGO_BIN_EXE_tidegate")), 1);
        match words[..] {
            // `make clone-test` and tests/e2e/terminal.rs run these.
            ["make", ..] | ["tidegate", "demo"] => {}
            ["tidegate", "run", ..] => {
                assert_eq!(line, "tidegate run --config tidegate.yaml", "{document}");
                proxy = Some(start(&workshop));
            }
            ["tidegate", verb, ..] if ASK.contains(&verb) => {
                asked += 1;
                in_force(&workshop, &format!("{command} --admin http://{admin}"));
                let output = workshop.run(&format!("curl -i http://{web}/"));
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(received(&printed), [200], "{document}: after {line}: {printed}");
            }
            _ => {
                asked += usize::from(words[0] == "curl");
                let output = workshop.run(&command);
                assert!(output.status.success(), "{document}: {line}: {output:?}");
                let printed = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    !line.starts_with("curl -i ") || received(&printed) == [200],
                    "{line}: {printed}"
                );
            }
        }
        match words[..] {
            ["tidegate", "init", ..] => edit("127.0.0.1:8080", &web),
            // As the page says, before it drains.
            ["openssl", ..] => edit("# token_file: token ", "token_file: token "),
            _ => {}
        }
    }
    assert!(proxy.is_some() && asked > 0, "{document}: {asked}");
}

/// Runs a command until it succeeds: a saved file is in force within a second.
fn in_force(workshop: &Workshop, command: &str) {
    for _attempt in 0..100 {
        let output = workshop.run(command);
        if output.status.success() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("{command}: {:?}", workshop.run(command));
}

#[test]
fn the_readme_and_the_quick_start_work_line_by_line() {
    for document in ["README.md", "docs/quick-start.md"] {
        follow(document);
    }
}
