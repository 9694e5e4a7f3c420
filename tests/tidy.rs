//! The rules of this code as tests: permitted imports between modules, no circles of imports, banned words, lengths
//! of files and functions, and that the documentation names every metric, refusal and key. Each message says what to
//! do instead.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each top-level module, and the modules it may name as `crate::module`. All other imports are forbidden. The manifests
/// of `MEMBERS` enforce theirs.
const MAY_USE: &[(&str, &[&str])] = &[
    ("decision", &[]),
    ("http", &[]),
    // Addresses and timestamps are types of `decision`, which `os` uses.
    ("os", &["decision"]),
    // The canonical target and host are types of the codec.
    ("tls", &["decision", "os"]),
    ("policy", &["decision", "os", "tls"]),
    // `check` reads certificates, keys and passwords too.
    ("config", &["decision", "http", "policy", "tls"]),
    // Counted results are enums of the modules that produce them.
    ("telemetry", &["decision", "os", "tls"]),
    // The limits of a listener's requests are the codec's.
    ("shared", &["decision", "http", "os", "policy", "telemetry", "tls"]),
    ("discover", &["decision", "os", "shared"]),
    ("probe", &["decision", "os", "shared", "http", "tls"]),
    ("traces", &["decision", "shared", "telemetry", "tls"]),
    // The status of a gRPC call is the codec's.
    ("scaling", &["decision", "fleet", "http", "os", "shared", "tls"]),
    ("nats", &["decision", "os"]),
    ("acme", &["decision", "fleet", "os", "shared", "tls"]),
    ("fleet", &["decision", "nats", "os", "shared", "tls"]),
    ("proxy", &["decision", "os", "policy", "shared", "telemetry", "http", "tls"]),
    // The effect of a dial is simulated on request.
    ("admin", &["config", "decision", "fleet", "http", "shared", "sim", "telemetry", "tls"]),
    (
        "server",
        &[
            "acme",
            "admin",
            "config",
            "decision",
            "discover",
            "fleet",
            "http",
            "nats",
            "os",
            "policy",
            "probe",
            "proxy",
            "scaling",
            "shared",
            "telemetry",
            "tls",
            "traces",
        ],
    ),
    ("sim", &["decision"]),
    // Verbs query a running proxy with the admin API's own client.
    ("cli", &["admin", "server", "config", "sim", "decision", "http"]),
];

/// Modules that are crates of their own, with `crate::` for themselves.
const MEMBERS: &[&str] =
    &["decision", "http", "os", "policy", "proxy", "shared", "sim", "telemetry", "tls"];

/// The modules within `proxy::l7`, from the client's side to the cluster's, and those that each may name. The other
/// files of `l7` are the lowest layer and import none of these modules.
const L7_MAY_USE: &[(&str, &[&str])] =
    &[("inbound", &["exchange"]), ("exchange", &["outbound"]), ("outbound", &[]), ("", &[])];

/// A banned word, its module ("" is every module), and the alternative.
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
/// Names that describe nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "misc", "manager"];
/// Lines of a file before its tests.
const LINES_MAX: usize = 500;

/// Circles of imports that are allowed: the files, or the folder, and why.
const CIRCLES: &[(&str, &str)] = &[
    (
        "proxy/upstream/leaving.rs proxy/upstream/multiplexed.rs",
        "a lease that is given up early joins the list of leaving streams, which keeps the lease until its stream ends",
    ),
    (
        "decision/plan.rs decision/listener.rs decision/permit.rs decision/route.rs decision/terms.rs",
        "the plan holds listeners, constraints and routes, which name clusters and services of the plan by index",
    ),
    (
        "decision/endpoint/ decision/signal.rs",
        "the signals of an endpoint hold its `Cost`, and an endpoint policy chooses by the signals",
    ),
];

/// Functions that may be longer than [`FUNCTION_LINES_MAX`]: file, function, and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("sim/gate.rs", "judge", "a table: the gates of each scenario"),
    ("sim/scenario.rs", "others", "a table: the worlds of the further scenarios"),
];
/// Lines of a function, its signature included.
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: PathBuf,
    room: String,
    /// The source without tests, comments and string contents: the text that the rules apply to.
    code: String,
    text: String,
    /// Whether all of it is tests: its parent declares it under `#[cfg(test)]`.
    is_test: bool,
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
    let tests: BTreeSet<String> = all.iter().flat_map(test_modules).collect();
    for source in &mut all {
        source.is_test = tests.contains(&module(&name(source)));
    }
    all
}

/// The modules that a file declares for tests alone.
fn test_modules(source: &Source) -> Vec<String> {
    let parent = module(&name(source));
    let declared = source.text.split("#[cfg(test)]\nmod ").skip(1);
    let names = declared.filter_map(|after| after.lines().next()?.strip_suffix(';'));
    names.map(|name| format!("{parent}::{name}")).collect()
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).unwrap();
    let relative = path.strip_prefix(root).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    let room = first.trim_end_matches(".rs").to_owned();
    let production = text.split("#[cfg(test)]").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = production.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    Source { path, room, code, text, is_test: false }
}

#[test]
fn modules_import_only_permitted_modules() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !["main", "lib"].contains(&source.room.as_str()))
    {
        let allowed = MAY_USE.iter().find(|(room, _)| *room == source.room);
        let Some((_, allowed)) = allowed else {
            broken.push(format!("{}: a room without a line in MAY_USE", source.path.display()));
            continue;
        };
        if MEMBERS.contains(&source.room.as_str()) {
            continue;
        }
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
fn the_manifest_of_each_member_names_only_the_members_that_it_may_use() {
    for member in MEMBERS {
        let manifest = read(&format!("src/{member}/Cargo.toml"));
        let (_, allowed) = MAY_USE.iter().find(|(room, _)| room == member).unwrap();
        for other in manifest.split("path = \"../").skip(1) {
            let other = other.split('"').next().unwrap();
            assert!(allowed.contains(&other), "`{member}` may not depend on `{other}`");
        }
        assert_eq!(
            manifest.matches("path = \"..").count(),
            manifest.matches("path = \"../").count()
        );
    }
}

#[test]
fn the_picture_of_the_modules_has_each_below_those_that_import_it() {
    let page = read("docs/architecture.md");
    let picture = page.split("```text\n  cli ").nth(1).unwrap().split("```").next().unwrap();
    let mut rows = BTreeMap::new();
    for (row, line) in format!("  cli {picture}").lines().enumerate() {
        // What follows is the description of the row.
        let names: String = line.chars().take(60).collect();
        rows.extend(names.split_whitespace().map(|name| (name.to_owned(), row)));
    }
    let known: BTreeSet<String> = MAY_USE.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), known);
    for (room, allowed) in MAY_USE {
        for below in *allowed {
            assert!(rows[*below] > rows[*room], "`{room}` imports `{below}`");
        }
    }
}

#[test]
fn the_modules_of_l7_import_in_one_direction() {
    let is_room = |name: &str| L7_MAY_USE.iter().any(|(room, _)| !name.is_empty() && *room == name);
    let l7 = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/l7");
    let (mut broken, mut seen) = (Vec::new(), 0);
    for source in sources().iter().filter(|source| source.room == "proxy") {
        let path = source.path.display();
        let Ok(within) = source.path.strip_prefix(&l7) else {
            // The thread passes accepted connections to `l7`.
            if source.code.contains("l7::") && !source.path.ends_with("worker_thread.rs") {
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
        // For the top-level modules of l7, `super` is l7.
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
fn banned_words_do_not_occur() {
    let mut broken = Vec::new();
    for source in sources() {
        for (room, word, instead) in BANNED {
            let concerns = room.is_empty() || source.room == *room;
            let kernel = *word == "unsafe {"
                && UNSAFE_MAY.iter().any(|file| source.path.ends_with(file))
                && source.text.matches("unsafe {").count()
                    == source.text.matches("// SAFETY:").count();
            if concerns && !source.is_test && !kernel && source.code.contains(word) {
                broken.push(format!("{}: `{word}`: {instead}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_has_a_header_and_a_bounded_length() {
    let mut broken = Vec::new();
    for source in sources() {
        let path = source.path.display();
        if !source.text.starts_with("//!") {
            broken.push(format!("{path}: begin with `//!`: what lives here, in a sentence"));
        }
        let lines = source.text.split("#[cfg(test)]").next().unwrap().lines().count();
        if lines > LINES_MAX && !source.is_test {
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

/// The path of a source below `src`, as the lists above name it.
fn name(source: &Source) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    source.path.strip_prefix(root).unwrap().to_string_lossy().into_owned()
}

/// The module path of a file: `decision/plan.rs` is `decision::plan`. `mod.rs` and the `lib.rs` of a member stand for
/// their folder.
fn module(file: &str) -> String {
    let stem = file.trim_end_matches(".rs");
    let root = stem.strip_suffix("/mod").or_else(|| stem.strip_suffix("/lib"));
    root.unwrap_or(stem).replace('/', "::")
}

/// The paths that a source names: those of `use`, with their braces expanded, and those within its code.
fn named_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    for (index, part) in format!("\n{code}").split("use ").enumerate() {
        let (tree, after) = match part.split_once(';') {
            Some((tree, after)) if index > 0 && is_tree(tree) => (tree, after),
            Some(_) | None => ("", part),
        };
        expand("", tree, &mut paths);
        rest.push_str(after);
        rest.push('\n');
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c: char| !is_path(c)).filter(|word| word.contains("::"));
    paths.extend(words.map(str::to_owned));
    paths
}

/// Whether text behind the word `use` is a list of imports, and not a sentence.
fn is_tree(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_:,{}*".contains(c);
    let depth_after = |depth: Option<u32>, c: char| match c {
        '{' => depth?.checked_add(1),
        '}' => depth?.checked_sub(1),
        _ => depth,
    };
    text.chars().all(is_part) && text.chars().fold(Some(0), depth_after) == Some(0)
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return;
    }
    let Some((before, inside)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{}", tree.split(" as ").next().unwrap_or_default()));
        return;
    };
    let inside = inside.trim_end().strip_suffix('}').unwrap_or(inside);
    let (mut depth, mut from) = (0_usize, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&format!("{prefix}{}", before.trim()), &inside[from..at], paths);
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Names that a module re-exports, by module, with the module that declares each name.
type Reexports = BTreeMap<String, BTreeMap<String, String>>;

fn reexports(all: &[Source], modules: &BTreeSet<String>) -> Reexports {
    let of = |source: &Source| {
        let from = module(&name(source));
        let mut paths = Vec::new();
        for part in source.code.split("pub use ").skip(1) {
            expand("", part.split(';').next().unwrap(), &mut paths);
        }
        let target = |path: &String| {
            let last = path.rsplit("::").next()?.to_owned();
            Some((last, resolve(&from, path, modules, &Reexports::new())?))
        };
        (from.clone(), paths.iter().filter_map(target).collect())
    };
    all.iter().map(of).collect()
}

/// The module of this crate that a path of `from` leads to; `None` for other crates and for `from` itself. A path to a
/// name that a module merely re-exports leads to the module that declares the name.
fn resolve(
    from: &str,
    path: &str,
    modules: &BTreeSet<String>,
    reexports: &Reexports,
) -> Option<String> {
    let mut base: Vec<&str> = from.split("::").collect();
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    match *parts.first()? {
        "crate" => {
            base.truncate(usize::from(MEMBERS.contains(&base[0])));
            parts.remove(0);
        }
        "super" => {
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
        }
        "self" => {
            parts.remove(0);
        }
        child if modules.contains(&format!("{from}::{child}")) => {}
        _ => return None,
    }
    base.extend(parts);
    let mut rest = None;
    while !base.is_empty() && !modules.contains(&base.join("::")) {
        rest = base.pop();
    }
    let mut found = base.join("::");
    while let Some(to) = rest.and_then(|name| reexports.get(&found)?.get(name)) {
        found.clone_from(to);
    }
    (!found.is_empty() && found != from).then_some(found)
}

/// Each module, and the modules of its own top-level module that it names. The root of a folder may name the files of
/// the folder, and the files may name the items that the root declares: this is not a circle. An item that the root
/// re-exports belongs to its file: two files that name each other through the root are a circle.
fn imports(all: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = all.iter().map(|source| module(&name(source))).collect();
    let reexports = reexports(all, &modules);
    let of = |source: &Source| {
        let from = module(&name(source));
        let room = |module: &str| module.split("::").next().map(str::to_owned);
        let paths = named_paths(&source.code);
        let found = paths.iter().filter_map(|path| resolve(&from, path, &modules, &reexports));
        let others = found.filter(|to| room(to) == room(&from));
        let own = format!("{from}::");
        let to = others.filter(|to| !to.starts_with(&own)).collect();
        (from, to)
    };
    all.iter().map(of).collect()
}

/// All modules that can be reached from `start`.
fn reached(imports: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start.to_owned()];
    while let Some(module) = open.pop() {
        for next in imports.get(&module).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}

/// The circles: sets of modules each of which reaches all others of its set.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|module| (module, reached(imports, module))).collect();
    let within = |module: &String| -> BTreeSet<String> {
        let back = |other: &&String| reach.get(other).is_some_and(|of| of.contains(module));
        reach[module].iter().filter(back).cloned().collect()
    };
    imports.keys().filter(|module| reach[module].contains(*module)).map(within).collect()
}

#[test]
fn imports_within_a_module_have_no_circles() {
    let imports = imports(&sources());
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 200, "the imports were found");
    let allowed = |circle: &BTreeSet<String>| {
        CIRCLES.iter().any(|(files, _)| {
            let of_list = |module: &String| {
                files.split(' ').any(|file| {
                    let listed = module == &self::module(file.trim_end_matches('/'));
                    let below = file.strip_suffix('/').map(|folder| self::module(folder) + "::");
                    listed || below.is_some_and(|folder| module.starts_with(&folder))
                })
            };
            circle.iter().all(of_list)
        })
    };
    let found = circles(&imports);
    for (files, _) in CIRCLES {
        let part = |circle: &BTreeSet<String>| {
            let is_listed = |module: &String| {
                files
                    .split(' ')
                    .any(|file| module.starts_with(&self::module(file.trim_end_matches('/'))))
            };
            circle.iter().all(is_listed)
        };
        assert!(found.iter().any(part), "{files}: no longer a circle: take it off the list");
    }
    let broken: Vec<String> = found
        .iter()
        .filter(|circle| !allowed(circle))
        .map(|circle| {
            let files: Vec<&str> = circle.iter().map(String::as_str).collect();
            format!("{} import one another: move what they share below them", files.join(", "))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_circle_is_detected_and_a_folder_with_its_files_is_none() {
    let graph = |edges: &[(&str, &str)]| {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            all.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            all.entry((*to).to_owned()).or_default();
        }
        circles(&all).len()
    };
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]), 1);
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("a", "c")]), 0);
    let code = "use super::error::{Position, Problems};\nuse crate::config::{\n    shape::{Decode, Named},\n};\nlet x = super::yaml::parse(text);\nuse std::path::Path;";
    let modules = ["config", "config::error", "config::file", "config::shape", "config::yaml"];
    let modules = modules.iter().map(|module| (*module).to_owned()).collect();
    let found: BTreeSet<String> = named_paths(code)
        .iter()
        .filter_map(|path| resolve("config::file", path, &modules, &Reexports::new()))
        .collect();
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        ["config::error", "config::shape", "config::yaml"]
    );
    let names = [("Problem".to_owned(), "config::error".to_owned())].into();
    let reexports = [("config".to_owned(), names)].into();
    let through = |path: &str| resolve("config::file", path, &modules, &reexports);
    assert_eq!(through("super::Problem").as_deref(), Some("config::error"));
    assert_eq!(through("super::Settings").as_deref(), Some("config"));
    assert_eq!(
        resolve("config", "file::Text", &modules, &reexports).as_deref(),
        Some("config::file")
    );
}

/// Names and lengths of the functions of `text`, which rustfmt has laid out.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (from, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let words = ["pub", "pub(super)", "pub(crate)", "const", "async", "unsafe"];
        if code.starts_with("//") || !before.split_whitespace().all(|word| words.contains(&word)) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let ends = |line: &&str| {
            **line == format!("{indent}}}")
                || line.ends_with(';') && line.starts_with(&format!("{indent})"))
        };
        let one_line = line.ends_with(['}', ';']);
        let length = match lines[from..].iter().position(ends) {
            Some(length) if !one_line => length + 1,
            Some(_) | None => 1,
        };
        let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        all.push((name, length));
    }
    all
}

#[test]
fn a_function_fits_on_a_screen() {
    let mut broken = Vec::new();
    let mut count = 0;
    for source in sources() {
        let file = name(&source);
        let production = source.text.split("#[cfg(test)]").next().unwrap();
        let mut is_long = false;
        for (function, lines) in functions(production) {
            count += 1;
            let known = LONG_FUNCTIONS.iter().any(|(f, n, _)| *f == file && *n == function);
            is_long |= known && lines > FUNCTION_LINES_MAX;
            if lines > FUNCTION_LINES_MAX && !known {
                broken.push(format!(
                    "{file}: `{function}` has {lines} lines: cut it by phase, at most {FUNCTION_LINES_MAX}"
                ));
            }
        }
        if !is_long && LONG_FUNCTIONS.iter().any(|(listed, ..)| *listed == file) {
            broken.push(format!("{file}: no longer has a long function: take it off the list"));
        }
    }
    assert!(count > 1_000, "the functions were found: {count}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The pages of the documentation, as one text.
fn documentation() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.map(|page| std::fs::read_to_string(page).unwrap()).collect()
}

/// The words of a text; a word consists of letters, digits and `_`.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

/// Quoted lower-case names in code.
fn quoted(code: &str) -> Vec<&str> {
    let is_name = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    code.split('"').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_metric_refusal_and_key_stands_in_the_documentation() {
    let all = sources();
    let docs = documentation();
    let documented = words(&docs);
    let mut broken = Vec::new();
    let mut check =
        |kind: &str, names: &[&str], least: usize, place: &str, known: &BTreeSet<&str>| {
            assert!(names.len() >= least, "{} names of a {kind} were found", names.len());
            let missing = names.iter().filter(|name| !known.contains(*name));
            broken.extend(missing.map(|name| format!("{kind} `{name}` is not in {place}")));
        };
    let exposed = all.iter().filter(|source| name(source).starts_with("telemetry/metrics/"));
    let metrics: Vec<&str> = exposed
        .flat_map(|source| quoted(&source.code))
        .filter(|name| name.starts_with("tidegate_"))
        .collect();
    check("metric", &metrics, 40, "docs/", &documented);
    let refusals = all.iter().find(|source| source.code.contains("enum Refusal {")).unwrap();
    check("refusal", &quoted(&refusals.code), 23, "docs/", &documented);
    let reference = read("config/reference.yaml");
    let shapes = all.iter().filter(|source| name(source).starts_with("config/file/"));
    let lines = shapes.flat_map(|source| source.code.lines());
    let is_key = |line: &&str| {
        line.starts_with("        ")
            && [" = required,", " = optional,", "\","].iter().any(|end| line.ends_with(end))
            && line.contains(": ")
    };
    let keys: Vec<&str> = lines
        .filter(is_key)
        .filter_map(|line| Some(line.trim().split_once(": ")?.0))
        .map(|key| key.trim_start_matches("r#"))
        .collect();
    check("configuration key", &keys, 150, "config/reference.yaml", &words(&reference));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
