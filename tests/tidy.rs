//! The house's laws, as a test: who may know whom, which words are banned where, how long a file may be.
//! Its messages say what to do instead.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

use std::path::{Path, PathBuf};

/// Each room, and the rooms it may name as `crate::room`. What is not listed is forbidden.
const MAY_USE: &[(&str, &[&str])] = &[
    ("decision", &[]),
    ("http", &[]),
    // Addresses and moments are decision's words; the kernel's rooms speak them.
    ("os", &["decision"]),
    // The canonical target and host are the codec's words.
    ("tls", &["decision", "os"]),
    ("policy", &["decision", "os", "tls"]),
    // Certificates, keys and passwords are part of what is checked.
    ("config", &["decision", "http", "policy", "tls"]),
    ("telemetry", &["decision", "os"]),
    ("shared", &["decision", "policy", "telemetry", "tls"]),
    ("discover", &["decision", "os", "shared"]),
    ("probe", &["decision", "os", "shared", "http", "tls"]),
    ("proxy", &["decision", "os", "policy", "shared", "telemetry", "http", "tls"]),
    ("admin", &["config", "decision", "http", "shared", "telemetry", "tls"]),
    (
        "server",
        &[
            "admin",
            "config",
            "decision",
            "discover",
            "http",
            "os",
            "policy",
            "probe",
            "proxy",
            "shared",
            "telemetry",
            "tls",
        ],
    ),
    ("sim", &["decision"]),
    // The admin API's own client is how verbs ask a running proxy: who speaks TLS and HTTP to it knows both ends.
    ("cli", &["admin", "server", "config", "sim", "decision", "http"]),
];

/// The rooms within `proxy::l7`, from the client's side to the cluster's, and those that each may name. The files
/// beside them are the ground floor, which names none.
const L7_MAY_USE: &[(&str, &[&str])] =
    &[("inbound", &["exchange"]), ("exchange", &["outbound"]), ("outbound", &[]), ("", &[])];

/// A word, the room it is banned from ("" is every room), and what to do instead.
const BANNED: &[(&str, &str, &str)] = &[
    ("decision", "::now()", "take `now: Timestamp` as an argument"),
    ("decision", "HashMap", "its order is random: use BTreeMap or Vec"),
    ("decision", "std::fs", "decisions read no files: take the data"),
    ("decision", "tokio", "decisions run no tasks"),
    ("decision", "tracing", "decisions log nothing: return what is worth telling"),
    ("decision", "Mutex", "decisions share nothing"),
    ("sim", "::now()", "time is virtual: it is an argument"),
    ("sim", "HashMap", "its order is random: use BTreeMap or Vec"),
    ("sim", "std::fs", "a world touches nothing: give the caller what it would write"),
    ("sim", "tokio", "a world runs no tasks"),
    ("http", "tokio", "the codec does no I/O: bytes in, verdicts out"),
    ("http", "std::io", "the codec does no I/O: bytes in, verdicts out"),
    ("proxy", "Mutex", "give each worker its own, or publish through `shared`"),
    ("proxy", "HashMap<String, String>", "give it a type"),
    ("", "unbounded", "every queue has a bound and a counter for what it sheds"),
    ("", "crate::{", "one `use crate::room::...` per room, so that the edge can be seen"),
    ("", "todo!", "say in an issue what is missing"),
    ("", "process::exit", "return an exit code; only main may exit"),
    ("", "unsafe {", "only named files of os/ may, each use with its SAFETY reason"),
];

/// Files that may be `unsafe`, each use with its `// SAFETY:`.
const UNSAFE_MAY: &[&str] = &["os/tcp_info.rs", "os/datagram.rs", "os/inherit.rs"];
/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "misc", "manager"];
/// Lines of a file before its tests.
const LINES_MAX: usize = 660;

struct Source {
    path: PathBuf,
    room: String,
    /// Without its tests, comments and strings' worth of prose: what the laws are about.
    code: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push(source(&root, path));
            }
        }
    }
    assert!(all.len() > 50, "the sources were found");
    all
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).unwrap();
    let relative = path.strip_prefix(root).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    let room = first.trim_end_matches(".rs").to_owned();
    let production = text.split("#[cfg(test)]").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = production.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    Source { path, room, code, text }
}

#[test]
fn rooms_know_only_whom_they_may() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !["main", "lib"].contains(&source.room.as_str()))
    {
        let allowed = MAY_USE.iter().find(|(room, _)| *room == source.room);
        let Some((_, allowed)) = allowed else {
            broken.push(format!("{}: a room without a line in MAY_USE", source.path.display()));
            continue;
        };
        for named in source.code.split("crate::").skip(1) {
            let named: String =
                named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if named != source.room && !allowed.contains(&named.as_str()) {
                let path = source.path.display();
                broken.push(format!(
                    "{path}: `{}` may not know `{named}`: pass data, or move it",
                    source.room
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn an_exchange_goes_one_way_through_the_rooms_of_l7() {
    let is_room = |name: &str| L7_MAY_USE.iter().any(|(room, _)| !name.is_empty() && *room == name);
    let l7 = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/l7");
    let (mut broken, mut seen) = (Vec::new(), 0);
    for source in sources().iter().filter(|source| source.room == "proxy") {
        let path = source.path.display();
        let Ok(within) = source.path.strip_prefix(&l7) else {
            if source.code.contains("l7::") {
                broken.push(format!("{path}: the rest of `proxy` may not know `l7`"));
            }
            continue;
        };
        if within == Path::new("mod.rs") {
            continue;
        }
        seen += 1;
        let room = within.parent().unwrap().to_str().unwrap();
        let (_, allowed) = L7_MAY_USE.iter().find(|(known, _)| *known == room).unwrap();
        if !room.is_empty() && source.code.contains("super::super::") {
            broken.push(format!("{path}: name it from `crate::`, so that the edge can be seen"));
        }
        // Beside the rooms, `super` is l7.
        let ways: &[&str] = if room.is_empty() { &["l7::", "super::"] } else { &["l7::"] };
        for named in ways.iter().flat_map(|way| source.code.split(way).skip(1)) {
            let named =
                named.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            if is_room(named) && named != room && !allowed.contains(&named) {
                broken.push(format!(
                    "{path}: `{room}` may not know `{named}`: pass data, or move it"
                ));
            }
        }
    }
    assert!(seen > 20, "the rooms were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn banned_words_stay_out() {
    let mut broken = Vec::new();
    for source in sources() {
        for (room, word, instead) in BANNED {
            let concerns = room.is_empty() || source.room == *room;
            let world = source.path.ends_with("assess/world.rs");
            let kernel = *word == "unsafe {"
                && UNSAFE_MAY.iter().any(|file| source.path.ends_with(file))
                && source.text.matches("unsafe {").count()
                    == source.text.matches("// SAFETY:").count();
            if concerns && !world && !kernel && source.code.contains(word) {
                broken.push(format!("{}: `{word}`: {instead}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_stays_within_bounds() {
    let mut broken = Vec::new();
    for source in sources() {
        let path = source.path.display();
        if !source.text.starts_with("//!") {
            broken.push(format!("{path}: begin with `//!`: what lives here, in a sentence"));
        }
        let lines = source.text.split("#[cfg(test)]").next().unwrap().lines().count();
        if lines > LINES_MAX {
            broken
                .push(format!("{path}: {lines} lines: one idea a file, split it by what it knows"));
        }
        let stem = source.path.file_stem().unwrap().to_string_lossy().into_owned();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            broken.push(format!("{path}: a name that says what is inside"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
