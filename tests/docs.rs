//! The documents: links lead somewhere, every page is found from the README, commands, API paths and messages exist,
//! examples and requests work, and the reference pages are those of the program.
//! `TIDEGATE_GOLDEN=write cargo test --all-features --test docs` rewrites the reference pages.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

#[path = "pages/examples.rs"]
mod examples;
#[path = "files/mod.rs"]
mod files;
#[path = "pages/live.rs"]
mod live;

use files::{read, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use tidegate::config::schema::schema;
use tidegate::decision::refusal::{Refusal, Retry, Sent};

/// All documents, as paths from the root.
fn documents() -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["", "docs/"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                all.push(format!("{folder}{name}"));
            }
        }
    }
    all.sort();
    all
}

/// The targets of the links of a document.
fn links(text: &str) -> Vec<String> {
    // A link's text may be code.
    let outside: String = text.split("```").step_by(2).collect();
    let ends = outside.match_indices("](").map(|(at, _)| &outside[at + 2..]);
    ends.map(|rest| rest.split([')', ' ']).next().unwrap().to_owned()).collect()
}

/// A heading's anchor, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let headings = outside.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// A link's target from the root, and its anchor.
fn resolve(from: &str, link: &str) -> (String, Option<String>) {
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor.to_owned())),
        None => (link, None),
    };
    if file.is_empty() {
        return (from.to_owned(), anchor);
    }
    let mut path: Vec<&str> = Path::new(from)
        .parent()
        .map(|folder| folder.iter().map(|part| part.to_str().unwrap()).collect())
        .unwrap_or_default();
    for part in file.split('/') {
        match part {
            ".." => drop(path.pop()),
            "." => {}
            part => path.push(part),
        }
    }
    (path.join("/"), anchor)
}

fn is_local(link: &str) -> bool {
    !link.contains("://") && !link.starts_with("mailto:")
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents() {
        for link in links(&read(&document)).into_iter().filter(|link| is_local(link)) {
            count += 1;
            let (target, anchor) = resolve(&document, &link);
            let path = root().join(&target);
            let has_anchor = |anchor: String| anchors(&read(&target)).contains(&anchor);
            if !path.exists() || !anchor.is_none_or(has_anchor) {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(count > 150, "{count}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_two_clicks_from_the_readme() {
    let pages = |from: &str| -> BTreeSet<String> {
        let links = links(&read(from)).into_iter().filter(|link| is_local(link));
        links.map(|link| resolve(from, &link).0).filter(|page| page.ends_with(".md")).collect()
    };
    let one = pages("README.md");
    let two: BTreeSet<String> = one.iter().flat_map(|page| pages(page)).collect();
    let lost: Vec<_> = documents()
        .into_iter()
        .filter(|page| page != "README.md" && !one.contains(page) && !two.contains(page))
        .collect();
    assert!(lost.is_empty(), "not linked: {lost:?}");
    let book = pages("docs/SUMMARY.md");
    let outside: Vec<_> = documents()
        .into_iter()
        .filter(|page| {
            page.starts_with("docs/") && page != "docs/SUMMARY.md" && !book.contains(page)
        })
        .collect();
    assert!(outside.is_empty(), "not in docs/SUMMARY.md: {outside:?}");
}

fn tidegate(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env_remove("TIDEGATE_CONFIG")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The verbs of the command line.
fn verbs() -> Vec<String> {
    let help = tidegate(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let verb = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    list.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(verb)
        .collect()
}

/// What is wrong with a command line of a document.
fn wrong_command(line: &str, help: &BTreeMap<String, String>, makefile: &str) -> Option<String> {
    let line = line.split(" #").next().unwrap().trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let mut words = line.split_whitespace();
    let program = words.next()?;
    if program == "make" {
        let is_target =
            |word: &str| makefile.lines().any(|line| line.starts_with(&format!("{word}:")));
        let mut targets = words.take_while(|word| !word.contains('=') && *word != "&&");
        return targets
            .find(|word| !is_target(word))
            .map(|word| format!("no target `{word}`: {line}"));
    }
    if program.rsplit('/').next() != Some("tidegate") {
        return None;
    }
    let verb = words.next()?;
    if verb.starts_with('-') {
        return None;
    }
    let Some(help) = help.get(verb) else { return Some(format!("no verb `{verb}`: {line}")) };
    let flag = |word: &str| word.split('=').next().unwrap().to_owned();
    words
        .take_while(|word| !["|", "&&", ">", "&"].contains(word))
        .filter(|word| word.starts_with("--"))
        .map(flag)
        .find(|flag| !help.contains(&format!("{flag} ")) && !help.contains(&format!("{flag}\n")))
        .map(|flag| format!("no option `{flag}`: {line}"))
}

#[test]
fn every_command_in_the_documents_exists() {
    let help: BTreeMap<String, String> =
        verbs().into_iter().map(|verb| (verb.clone(), tidegate(&[&verb, "--help"]))).collect();
    assert!(help.len() > 15, "{help:?}");
    let makefile = read("Makefile");
    let (mut wrong, mut count) = (Vec::new(), 0);
    // The changelog names what there was.
    for document in documents().into_iter().filter(|name| name != "CHANGELOG.md") {
        let text = read(&document);
        let mut lines = prose_spans(&text);
        for block in examples::blocks(&text) {
            if ["console", "bash"].contains(&block.info.as_str()) {
                lines.extend(block.body.lines().map(str::to_owned));
            }
        }
        for line in lines {
            count += 1;
            let found = wrong_command(&line, &help, &makefile);
            wrong.extend(found.map(|why| format!("{document}: {why}")));
        }
    }
    assert!(count > 60, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    for broken in ["tidegate rum --config x", "tidegate run --confg x", "make demmo"] {
        assert!(wrong_command(broken, &help, &makefile).is_some(), "{broken}");
    }
}

/// The code spans that are command lines of this program.
fn prose_spans(text: &str) -> Vec<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let spans = outside.split('`').skip(1).step_by(2);
    let is_command = |span: &&str| span.starts_with("tidegate ") || span.starts_with("make ");
    spans.filter(is_command).map(str::to_owned).collect()
}

/// Verbs that end by themselves and need no running proxy.
const RUNNABLE: &[&str] = &["check", "explain", "init", "schema", "simulate"];

#[test]
fn the_commands_of_the_first_pages_succeed_in_their_order() {
    for document in ["README.md", "docs/quick-start.md"] {
        let folder = std::env::temp_dir().join(format!("tidegate-docs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(root().join("config"), folder.join("config")).unwrap();
        let text = read(document);
        let blocks =
            text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let mut count = 0;
        for line in blocks.flat_map(str::lines) {
            let line = line.split(" #").next().unwrap().trim();
            let Some(rest) = line.strip_prefix("tidegate ") else { continue };
            if !RUNNABLE.contains(&rest.split(' ').next().unwrap()) {
                continue;
            }
            count += 1;
            let output = Command::new("sh")
                .args(["-c", &format!("\"$0\" {rest}"), env!("CARGO_BIN_EXE_tidegate")])
                .current_dir(&folder)
                .env_remove("TIDEGATE_CONFIG")
                .output()
                .unwrap();
            assert!(output.status.success(), "{document}: {line}: {output:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(count >= 4, "{document}: {count}");
    }
}

/// The paths that the admin API routes, by segments; `{...}` stands for any segment.
fn routed() -> Vec<Vec<String>> {
    let code = read("src/admin/mod.rs");
    let paths = code.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let paths = paths.chain([tidegate::fleet::PATH]);
    paths.map(|path| path.split('/').map(str::to_owned).collect()).collect()
}

#[test]
fn every_path_of_the_admin_api_in_the_documents_exists() {
    let routed = routed();
    assert!(routed.len() > 20, "{routed:?}");
    let exists = |path: &str| {
        let asked: Vec<&str> = path.split('/').collect();
        routed.iter().any(|known| {
            let same = |(a, b): (&String, &&str)| a.starts_with('{') || a == b;
            known.len() == asked.len() && known.iter().zip(&asked).all(same)
        })
    };
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in documents().into_iter().filter(|name| name != "CHANGELOG.md") {
        let text = read(&document);
        for (at, _) in text.match_indices("/api/v1/") {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "/_-{}".contains(c);
            let path =
                text[at..].split(|c: char| !is_part(c)).next().unwrap().trim_end_matches('/');
            count += 1;
            if !exists(path) {
                wrong.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(count > 60, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!exists("/api/v1/cluster") && exists("/api/v1/clusters/NAME/dial"));
}

/// The first cells of the tables of a section, without the head.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    rows.skip(1).map(|row| row.split(" | ").next().unwrap()[2..].to_owned()).collect()
}

/// All files of the program, as one text.
fn program(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&program(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn troubleshooting_has_every_refusal_and_alert_and_its_messages_exist() {
    let page = read("docs/troubleshooting.md");
    for refusal in Refusal::ALL {
        let link = format!("reference-refusals.md#{}", refusal.label());
        assert!(page.contains(&link), "no row leads to {link}");
    }
    let alerts = read("config/monitoring/alerts.yaml");
    let alerts: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        assert!(page.contains(&format!("[{alert}](")), "no row for the alert {alert}");
    }
    let program = program(&root().join("src"));
    let lines = first_cells(&page, "A line in the log");
    assert!(lines.len() > 20, "{lines:?}");
    for line in lines {
        let message = line.trim_matches('`');
        assert!(program.contains(message), "no line of the log has `{message}`");
    }
}

/// The cells of the first table row that begins with this text.
fn row(page: &str, begin: &str) -> Vec<String> {
    let line = page.lines().find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("no row begins with {begin}"));
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn the_figures_of_the_readme_are_those_of_the_pages() {
    let (readme, field, wire) =
        (read("README.md"), read("docs/routing.md"), read("docs/performance.md"));
    let of = |proxy: &str| row(&field, &format!("| S18 overload | {proxy} |"));
    let seconds = |proxy: &str| format!("{:.1} s", of(proxy)[5].parse::<f64>().unwrap() / 1_000.0);
    let ours = of("Tidegate");
    let overload = row(&readme, "| load 1.4 times");
    for figure in [ours[2].clone(), format!("{} ms", ours[5]), seconds("nginx"), seconds("HAProxy")]
    {
        assert!(overload[1].contains(&figure), "`{figure}` is not in {overload:?}");
    }
    let costs = row(&readme, "| CPU, beside the best");
    for scenario in ["| A | ", "| BM | ", "| F, ", "| E | ", "| C | ", "| D | "] {
        let rows = wire.lines().filter(|line| line.starts_with(scenario));
        let cells = rows.map(|line| row(line, "|")).find(|cells| cells.len() == 8).unwrap();
        let figure = cells[6].split(' ').next().unwrap();
        assert!(costs[1].contains(figure), "`{figure}` of {cells:?} is not in {costs:?}");
    }
}

/// Compares a page with the program's, or writes it.
fn is_page(path: &str, text: &str) {
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(root().join(path), text).unwrap();
        return;
    }
    let stale = read(path) != text;
    assert!(!stale, "{path} is stale: TIDEGATE_GOLDEN=write cargo test --test docs rewrites it");
}

/// The type of a key in words.
fn kind(key: &Value) -> String {
    if let Some(words) = key["enum"].as_array() {
        let text = |word: &Value| word.as_str().map(|word| format!("`{word}`"));
        return words.iter().filter_map(text).collect::<Vec<_>>().join(", ");
    }
    if key["additionalProperties"].is_object() {
        return "map by name".to_owned();
    }
    if key["properties"].is_object() {
        return "map".to_owned();
    }
    match (&key["type"], &key["anyOf"]) {
        (Value::String(name), _) if name == "array" => "list".to_owned(),
        (Value::String(name), _) if name == "integer" => {
            match (key["minimum"].as_u64(), key["maximum"].as_u64()) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                _ => "number".to_owned(),
            }
        }
        (Value::String(name), _) if name == "boolean" => "`true`, `false`".to_owned(),
        (Value::String(name), _) if name == "number" => "number".to_owned(),
        (_, Value::Array(choices)) => {
            let all: BTreeSet<String> = choices.iter().map(choice).collect();
            all.into_iter().collect::<Vec<_>>().join(" or ")
        }
        _ => "text".to_owned(),
    }
}

fn choice(of: &Value) -> String {
    match (of["const"].as_str(), of["pattern"].as_str()) {
        (Some(word), _) => format!("`{word}`"),
        (None, Some(pattern)) if pattern.contains("ms") => "duration".to_owned(),
        (None, Some(pattern)) if pattern.contains("KiB") => "size".to_owned(),
        (None, _) if of["const"].is_number() => "`0`".to_owned(),
        (None, _) => kind(of),
    }
}

/// The rows of the keys below `path`.
fn rows(schema: &Value, path: &str, out: &mut String) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match key.get("default") {
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let about = key["description"].as_str().unwrap().replace('|', "\\|");
        writeln!(out, "| `{path}` | {} | {default} | {about} |", kind(key)).unwrap();
        nested(key, &path, out);
    }
}

fn nested(key: &Value, path: &str, out: &mut String) {
    rows(key, path, out);
    if key["items"].is_object() {
        rows(&key["items"], &format!("{path}[]"), out);
    }
    if key["additionalProperties"].is_object() {
        nested(&key["additionalProperties"], &format!("{path}.*"), out);
    }
}

#[test]
fn the_reference_of_the_configuration_is_the_schemas() {
    let mut page = "# Configuration: every key\n\n\
        Made from the schema by `tests/docs.rs`; do not edit. [Configuration](configuration.md) explains the keys,\n\
        and [config/reference.yaml](../config/reference.yaml) shows them in a file. `*` stands for a name of yours, `[]` for\n\
        each item of a list.\n"
        .to_owned();
    let schema = schema();
    for (section, key) in schema["properties"].as_object().unwrap() {
        let about = key["description"].as_str().unwrap();
        write!(page, "\n## {section}\n\n{about}\n").unwrap();
        let mut table = String::new();
        nested(key, section, &mut table);
        if !table.is_empty() {
            write!(page, "\n| key | values | default | meaning |\n|---|---|---|---|\n{table}")
                .unwrap();
        }
    }
    is_page("docs/reference-configuration.md", &page);
}

#[test]
fn the_reference_of_the_commands_is_the_programs() {
    let mut page = "# Commands\n\n\
        Made from the program's own help by `tests/docs.rs`; do not edit. Exit codes: 0 success, 1 failure, 2 wrong usage.\n"
        .to_owned();
    for verb in verbs() {
        let help = tidegate(&[&verb, "--help"])
            .replace("[env: TIDEGATE_CONFIG=]", "[env: TIDEGATE_CONFIG]");
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        write!(page, "\n## {verb}\n\n```text\n{}\n```\n", lines.join("\n")).unwrap();
    }
    is_page("docs/reference-commands.md", &page);
}

#[test]
fn the_reference_of_the_refusals_is_the_programs() {
    let mut page = "# Refusals\n\n\
        Made from `src/decision/refusal.rs` by `tests/docs.rs`; do not edit.\n\n\
        A request that is not served is answered by the proxy itself, with the field `tidegate-refusal: VALUE` and one line of text, or\n\
        your own [error page](headers.md#own-error-pages). An error without the field is the application's own. The access log has the\n\
        value as `refusal`, `tidegate_refusals_total{listener,reason}` counts it, and `tidegate why REQUEST_ID` shows the decision\n\
        behind it. At L4 a refusal is a reset before any byte.\n\n\
        * **status** is that of the HTTP response. **gRPC** clients get HTTP 200 and this status.\n\
        * **sent** tells whether a cluster may have received the request, and may have acted on it. After a retry it holds for the last\n\
        \x20 attempt.\n\
        * **elsewhere**: the client gets this refusal only if no other endpoint could be tried, as far as the request may be\n\
        \x20 repeated ([Effect of an outage](operations.md#effect-of-an-outage)).\n\
        * **closes**: the connection of an HTTP/1.1 client ends after the answer.\n\
        * **fault**: the refusal counts against the endpoint, and can [eject](resilience.md#ejection-of-endpoints) it.\n\n\
        | `tidegate-refusal` | status | gRPC | sent | elsewhere | closes | fault |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut refusals = Refusal::ALL.to_vec();
    refusals.sort_by_key(|refusal| (refusal.status(), refusal.label()));
    let yes = |holds: bool| if holds { "yes" } else { "" };
    for refusal in &refusals {
        let (label, status, grpc) = (refusal.label(), refusal.status(), refusal.grpc_status());
        let sent = match refusal.sent() {
            Sent::No => "no",
            Sent::Perhaps => "perhaps",
            Sent::Yes => "yes",
        };
        let elsewhere = yes(refusal.retry() == Retry::Elsewhere);
        let (closes, fault) = (yes(!refusal.keeps_connection()), yes(refusal.blame().is_some()));
        let facts = format!("{status} | {grpc} | {sent} | {elsewhere} | {closes} | {fault} |");
        writeln!(page, "| [`{label}`](#{label}) | {facts}").unwrap();
    }
    for refusal in &refusals {
        let (label, status) = (refusal.label(), refusal.status());
        let (meaning, look) = (refusal.meaning(), refusal.look());
        write!(page, "\n## {label}\n\n**{status}.** {meaning}\n\n{look}\n").unwrap();
    }
    is_page("docs/reference-refusals.md", &page);
}

#[test]
fn the_tables_of_a_page_have_as_many_cells_as_their_heads() {
    for document in documents() {
        let text = read(&document);
        let outside: String = text.split("```").step_by(2).collect();
        let mut width = None;
        for line in outside.lines() {
            if !line.starts_with('|') {
                width = None;
                continue;
            }
            let cells = line.replace("\\|", "").matches('|').count();
            assert_eq!(*width.get_or_insert(cells), cells, "{document}: {line}");
        }
    }
}
