//! Whole imports: the fixtures of `tests/import`, and mutations of them.

use super::capabilities::Capabilities;
use super::files::Files;
use super::model::{Model, Origin, PathTest, Rule, Test, When};
use super::{Format, Written, translate, write};
use crate::config::{Outcome, load};
use crate::decision::matching::RequestFacts;
use crate::decision::route::{Action, RouteQuery};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Files in memory.
#[derive(Clone, Default)]
pub(super) struct Table {
    texts: BTreeMap<PathBuf, String>,
    has_no_output: bool,
}

impl Table {
    /// From now on the configuration goes to standard output.
    pub(super) fn has_no_output(&mut self) {
        self.has_no_output = true;
    }
}

impl Files for Table {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.texts.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let below = self.texts.keys().filter_map(|path| path.strip_prefix(folder).ok());
        let mut names: Vec<String> = below
            .filter_map(|path| path.components().next())
            .map(|name| name.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/etc/imported").join(path)
    }

    fn writes(&self) -> bool {
        !self.has_no_output
    }
}

const NGINX: &str = include_str!("../../../tests/import/nginx/nginx.conf");
const MAPS: &str = include_str!("../../../tests/import/nginx/sites/maps.conf");
const HAPROXY: &str = include_str!("../../../tests/import/haproxy/haproxy.cfg");
const USERS: &str = include_str!("../../../tests/import/haproxy/users.cfg");
const STATIC: &str = include_str!("../../../tests/import/traefik/traefik.yml");
const DYNAMIC: &str = include_str!("../../../tests/import/traefik/dynamic.yml");
const STATIC_TOML: &str = include_str!("../../../tests/import/traefik/traefik.toml");
const DYNAMIC_TOML: &str = include_str!("../../../tests/import/traefik/dynamic.toml");
const COMPOSE: &str = include_str!("../../../tests/import/traefik/docker-compose.yml");

pub(super) fn table(files: &[(&str, &str)]) -> Table {
    let texts = files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned()));
    Table { texts: texts.collect(), has_no_output: false }
}

pub(super) fn run(format: Format, files: &Table, name: &str) -> Written {
    translate(format, &[PathBuf::from(name)], files).unwrap()
}

pub(super) fn checked(text: &str) -> Outcome {
    load(text, Path::new("."), &|_| None)
}

/// Errors that are not about files that only the original machine has.
pub(super) fn errors(outcome: &Outcome) -> Vec<String> {
    let of_text =
        outcome.problems.iter().filter(|problem| super::repair::concerns_the_text(problem));
    of_text.map(|problem| problem.render("-")).collect()
}

/// What `check` refuses, but for the files that are written beside the configuration.
fn wrong(written: &Written) -> Vec<String> {
    let mut wrong = errors(&checked(&written.text));
    wrong.retain(|problem| !written.companions.iter().any(|known| problem.contains(&known.name)));
    wrong
}

pub(super) fn passes(written: &Written) {
    assert_eq!(wrong(written), Vec::<String>::new(), "{}", written.text);
}

pub(super) fn nginx(text: &str) -> Written {
    let table = table(&[("nginx.conf", text)]);
    let written = run(Format::Nginx, &table, "nginx.conf");
    assert_eq!(errors(&checked(&written.text)), Vec::<String>::new(), "{}", written.text);
    written
}

pub(super) fn haproxy(text: &str) -> Written {
    let table = table(&[("haproxy.cfg", text)]);
    let written = run(Format::Haproxy, &table, "haproxy.cfg");
    passes(&written);
    written
}

/// Files of Traefik, the first of which is named to the importer.
pub(super) fn traefik(files: &[(&str, &str)]) -> Written {
    let written = run(Format::Traefik, &table(files), files[0].0);
    passes(&written);
    written
}

pub(super) fn has(written: &Written, part: &str) {
    assert!(written.text.contains(part), "{part}\n{}", written.text);
}

#[test]
fn the_fixtures_pass_check_and_what_is_left_out_has_its_line() {
    let nginx = nginx(NGINX);
    has(&nginx, "nginx.conf:117: `root /srv/files`: Tidegate serves no files");
    has(&nginx, "strategy: priority");
    has(&nginx, "rate_limit: { requests: 5, per: 1s, burst: 21 }");
    has(&nginx, "allow: [10.0.0.0/8]");
    assert!(nginx.left_out);
    let haproxy = haproxy(HAPROXY);
    has(&haproxy, "affinity: { cookie: SHOP }");
    has(&haproxy, "strip_prefix: /api");
    let traefik = traefik(&[("traefik.yml", STATIC), ("dynamic.yml", DYNAMIC)]);
    has(&traefik, "split: { shop: 3, api: 1 }");
    // The users are in the file as MD5: the route is closed, and the remark says so.
    has(&traefik, "members-only.basicAuth");
    has(&traefik, "deny: [0.0.0.0/0, \"::/0\"]");
    let compose = run(Format::Traefik, &table(&[("c.yml", COMPOSE)]), "c.yml");
    assert_eq!(errors(&checked(&compose.text)), Vec::<String>::new(), "{}", compose.text);
    has(&compose, "websecure");
}

/// The configuration without the comments, which have the names and lines of the original, and without the layout, which
/// depends on their length.
fn bare(written: &Written) -> String {
    let lines = written.text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.split("   #").next());
    lines.collect::<String>().chars().filter(|c| !" {},".contains(*c)).collect()
}

#[test]
fn toml_and_yaml_of_traefik_are_the_same_configuration() {
    let yaml = traefik(&[("traefik.yml", STATIC), ("dynamic.yml", DYNAMIC)]);
    let toml = traefik(&[("traefik.toml", STATIC_TOML), ("dynamic.toml", DYNAMIC_TOML)]);
    assert_eq!(bare(&toml), bare(&yaml));
    // The folder of the file provider has TOML, too.
    let provided = STATIC_TOML.replace("filename = \"dynamic.toml\"", "directory = \"conf\"");
    let folder = traefik(&[("traefik.toml", &provided), ("conf/dynamic.toml", DYNAMIC_TOML)]);
    assert_eq!(bare(&folder), bare(&yaml));
}

#[test]
fn remarks_on_toml_have_their_lines() {
    let toml = traefik(&[("traefik.toml", STATIC_TOML), ("dynamic.toml", DYNAMIC_TOML)]);
    let line = |text: &str| DYNAMIC_TOML.lines().position(|line| line.starts_with(text)).unwrap();
    let users = line("[http.middlewares.members-only.basicAuth]") + 1;
    has(&toml, &format!("dynamic.toml:{users}: `members-only.basicAuth`"));
    let shop = line("[http.routers.shop]") + 1;
    has(&toml, &format!("# dynamic.toml:{shop}"));
    let array = "[[tls.certificates]]\ncertFile = \"a\"\n\n[[http.services.s.loadBalancer.servers]]\n\
                 url = \"http://10.0.0.1/path\"\n[http.routers.r]\nservice = \"s\"\nrule = \"Path(`/`)\"\n";
    has(&traefik(&[("f.toml", array)]), "f.toml:4: `http://10.0.0.1/path`");
    let deep = format!("{}a = 1\n", "a.".repeat(100_000));
    let error = translate(Format::Traefik, &["f.toml".into()], &table(&[("f.toml", &deep)]));
    assert!(error.unwrap_err().0.contains("f.toml:1: "), "more levels than a configuration has");
}

#[test]
fn a_small_file_is_translated_without_a_remark_and_as_a_person_writes_it() {
    let written = nginx(
        "upstream shop { server 10.0.0.11:8080; server 10.0.0.12:8080 weight=2; }\n\
         server { listen 8080; location / { proxy_pass http://shop; proxy_set_header Host $host; } }\n",
    );
    assert!(!written.left_out, "{:?}", written.remarks);
    let lines: Vec<&str> = written.text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = "version: 1

listeners:
  web-8080:   # nginx.conf:2
    address: 0.0.0.0:8080
    protocol: http
    limits: { body: 1MiB, underscores: drop, encoded_slash: keep }

services:
  shop: { clusters: [shop], timeout: 60s }   # nginx.conf:1

clusters:
  shop: { endpoints: [10.0.0.11:8080, { address: 10.0.0.12:8080, weight: 2 }] }   # nginx.conf:1

routes:
  - { path_prefix: /, service: shop }   # nginx.conf:2";
    let shown = lines.join("\n");
    let short = shown.replace(
        "  web-8080: { address: 0.0.0.0:8080, protocol: http, limits: { body: 1MiB, underscores: drop, encoded_slash: keep } }   # nginx.conf:2",
        "  web-8080:   # nginx.conf:2\n    address: 0.0.0.0:8080\n    protocol: http\n    limits: { body: 1MiB, underscores: drop, encoded_slash: keep }",
    );
    assert_eq!(short, expected, "{shown}");
}

#[test]
fn what_protects_a_route_is_never_lost_silently() {
    for protection in [
        "auth_basic x;",
        "auth_request /nowhere;",
        "allow 10.0.0.0/8; deny 10.0.0.1; deny all;",
        "allow unix:; deny all;",
    ] {
        let text =
            format!("server {{ location / {{ {protection} proxy_pass http://10.0.0.1; }} }}");
        let written = nginx(&text);
        assert!(written.left_out, "{protection}: {:?}", written.remarks);
        has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
    }
    let written = haproxy(
        "frontend f\n mode http\n bind :80\n http-request deny if { hdr_reg(host) ^a.*b$ }\n default_backend b\n\
         backend b\n mode http\n server s 10.0.0.1:80\n",
    );
    has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
}

#[test]
fn a_syntax_error_has_its_line() {
    for (format, text, part) in [
        (Format::Nginx, "server {\n listen 80;\n", "f:3: a `}` is missing"),
        (Format::Nginx, "server {\n listen 80\n}\n", "f:3: `listen` is not ended by `;`"),
        (Format::Nginx, "a 'b\n", "f:1: a quote is not closed"),
        (Format::Haproxy, "frontend a\n bind \"x\n", "f:2: a quote is not closed"),
        (Format::Haproxy, "bind :80\n", "f:1: `bind` is outside of any section"),
        (Format::Traefik, "http: {\n", "f:"),
        (Format::Traefik, "http: {{ env }}\n", "f: Go templates"),
    ] {
        let error = translate(format, &[PathBuf::from("f")], &table(&[("f", text)])).unwrap_err();
        assert!(error.0.contains(part), "{part}: {error:?}");
    }
    for (text, part) in [
        ("[api]\ninsecure = \n", "f.toml:2: "),
        ("[api]\n[api]\n", "f.toml:2: "),
        ("a = [\n  1,\n", "f.toml:"),
        ("[http.routers.a]\nrule = \"{{ env }}\"\n", "f.toml: Go templates"),
    ] {
        let files = table(&[("f.toml", text)]);
        let error = translate(Format::Traefik, &["f.toml".into()], &files).unwrap_err();
        assert!(error.0.contains(part), "{part}: {error:?}");
    }
    let deep = "a {".repeat(100_000);
    let error = translate(Format::Nginx, &["f".into()], &table(&[("f", &deep)])).unwrap_err();
    assert!(error.0.contains("24 levels"), "{error:?}");
    let itself = table(&[("f", "include f;")]);
    let error = translate(Format::Nginx, &["f".into()], &itself).unwrap_err();
    assert!(error.0.contains("24 levels"), "{error:?}");
}

#[test]
fn a_remark_stays_on_its_line_whatever_the_original_says() {
    let written = traefik(&[(
        "f.yml",
        "http:\n  routers:\n    r: { rule: \"Path(`/`)\", service: \"s\\u0000\\nlisteners: x\", middlewares: [\"m\\nservices: y\"] }\n",
    )]);
    assert!(written.left_out, "{:?}", written.remarks);
    let lines = written.text.lines().take_while(|line| *line != "version: 1");
    assert!(lines.clone().count() > 3 && lines.clone().all(|line| line.starts_with('#')));
    for text in [
        "a {\n use_backend b if \u{0}list\n}",
        "frontend f\n mode http\n bind :80\n use_backend b if \u{0}x\n",
    ] {
        haproxy(&format!(
            "frontend g\n mode http\n bind :81\n default_backend b\n{text}\nbackend b\n mode http\n server s 10.0.0.1:80\n"
        ));
    }
}

/// A small generator of pseudo-random numbers; the tests print the seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn mutated(text: &str, dice: &mut Dice) -> String {
    const PARTS: &[&str] = &[
        "{",
        "}",
        ";",
        "\"",
        "'",
        "`",
        "$",
        "${",
        "\\",
        "\n",
        " ",
        "!",
        "(",
        ")",
        "||",
        "&&",
        "%[",
        "]",
        "*",
        "/",
        "//",
        "0",
        "-1",
        "99999999999999999999",
        "é",
        "\u{0}",
        "default_server",
        " ssl",
        " backup",
        "~",
        "^~",
        "if ",
        "unless ",
        "http://",
        "https://",
        ":",
        ",",
        "[0]",
        ".",
        "on",
        "off",
        "[::]:80",
        "1r/s",
        "\t",
        "#",
        "path_beg ",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + dice.below(6) {
        let (a, b) = (dice.below(bytes.len() + 1), dice.below(40));
        let end = (a + b).min(bytes.len());
        match dice.below(5) {
            0 => drop(bytes.drain(a..end)),
            1 => {
                let copy = bytes[a..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            2 | 3 => drop(bytes.splice(a..a, dice.of(PARTS).bytes())),
            _ => {
                if let Some(byte) = bytes.get_mut(a) {
                    *byte = byte.wrapping_add(1 << dice.below(7));
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn mutated_files_never_panic_and_what_is_written_passes_check() {
    let cases: [(Format, &str, &[&str]); 7] = [
        (Format::Nginx, "nginx.conf", &[NGINX]),
        (Format::Nginx, "maps.conf", &[MAPS]),
        (Format::Haproxy, "haproxy.cfg", &[HAPROXY]),
        (Format::Haproxy, "users.cfg", &[USERS]),
        (Format::Traefik, "traefik.yml", &[STATIC, DYNAMIC]),
        (Format::Traefik, "traefik.toml", &[STATIC_TOML, DYNAMIC_TOML]),
        (Format::Traefik, "compose.yml", &[COMPOSE]),
    ];
    let seeds = std::env::var("IMPORT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for seed in 1..=seeds {
        for (format, name, texts) in cases {
            let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
            let mut files = Table::default();
            let index = dice.below(texts.len());
            for (at, text) in texts.iter().enumerate() {
                let text = if at == index { mutated(text, &mut dice) } else { (*text).to_owned() };
                let end = if name.ends_with("toml") { "toml" } else { "yml" };
                let dynamic = format!("dynamic.{end}");
                files.texts.insert(PathBuf::from(if at == 0 { name } else { &dynamic }), text);
            }
            let Ok(written) = translate(format, &[PathBuf::from(name)], &files) else { continue };
            let wrong = wrong(&written);
            assert!(
                wrong.is_empty(),
                "replay with seed {seed}, {name}: {wrong:#?}\n{}",
                written.text
            );
        }
    }
}

const HOSTS: &[&str] = &["a.example", "b.example", "x.a.example", "y.x.a.example"];
const PATTERNS: &[&str] =
    &["a.example", "x.a.example", "*.a.example", "*.x.a.example", "b.example"];
const PATHS: &[&str] = &["/", "/p", "/p/q", "/p/q.php", "/r", "/p/q/r", "/r.php"];

fn random_rule(dice: &mut Dice, line: usize) -> Rule {
    use super::model::{Field, Value};
    let mut when = When::default();
    for _ in 0..dice.below(3) {
        let host = (*dice.of(PATTERNS)).to_owned();
        if !when.hosts.contains(&host) {
            when.hosts.push(host);
        }
    }
    when.path = match dice.below(5) {
        0 => PathTest::Exact((*dice.of(PATHS)).to_owned()),
        1 => PathTest::Regex((*dice.of(&[".*\\.php", "/p/.*", "/r.*"])).to_owned()),
        2 => PathTest::Prefix("/".to_owned()),
        _ => PathTest::Prefix((*dice.of(PATHS)).to_owned()),
    };
    if dice.below(4) == 0 {
        when.methods.push((*dice.of(&["GET", "POST"])).to_owned());
    }
    for name in ["x-a", "x-b"] {
        if dice.below(5) == 0 {
            let field = Field::Header(name.to_owned());
            when.tests.push(Test { negated: false, field, value: Value::Exact("1".to_owned()) });
        }
    }
    let mut keys = super::document::Map::default();
    keys.set("respond.status", super::document::Doc::word(200 + line));
    Rule { at: Origin { file: "f".into(), line }, when, keys }
}

/// A request with these fields, each with the value `1`.
struct Fields<'a>(&'a [&'a str]);

impl RequestFacts for Fields<'_> {
    fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.0.contains(&name) && test(b"1")
    }

    fn query(&self) -> &str {
        ""
    }

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn is_https(&self) -> bool {
        false
    }
}

/// Whether a request meets conditions, by their definition.
fn accepts(when: &When, host: &str, path: &str, method: &str, fields: &[&str]) -> bool {
    let of_host = |pattern: &String| match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => host == pattern,
    };
    let of_path = match &when.path {
        PathTest::Exact(exact) => path == exact,
        PathTest::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        }
        PathTest::Regex(pattern) => {
            regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(path)
        }
    };
    let of_test = |test: &Test| match &test.field {
        super::model::Field::Header(name) => fields.contains(&name.as_str()),
        super::model::Field::Query(_) | super::model::Field::Client => false,
    };
    (when.hosts.is_empty() || when.hosts.iter().any(of_host))
        && of_path
        && (when.methods.is_empty() || when.methods.iter().any(|known| known == method))
        && when.tests.iter().all(of_test)
}

#[test]
fn the_first_rule_that_accepts_a_request_is_the_most_specific_route() {
    let (mut compared, capabilities) = (0, Capabilities::of_this_version());
    for seed in 1..=150_u64 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let rules: Vec<Rule> =
            (1..2 + dice.below(6)).map(|line| random_rule(&mut dice, line)).collect();
        let mut model = Model { groups: vec![rules.clone()], ..Model::default() };
        let at = Origin { file: "f".into(), line: 1 };
        let keys = &mut super::model::block(&mut model.listeners, "web", &at).keys;
        keys.set("address", "127.0.0.1:80");
        keys.set("protocol", "http");
        let written = write::write(model, "f", &capabilities);
        let outcome = checked(&written.text);
        let plan = outcome
            .config
            .unwrap_or_else(|| panic!("{:?}\n{}", outcome.problems, written.text))
            .plan;
        for (host, path) in
            HOSTS.iter().flat_map(|host| PATHS.iter().map(move |path| (*host, *path)))
        {
            for (method, fields) in [
                ("GET", vec![]),
                ("POST", vec!["x-a"]),
                ("PUT", vec!["x-a", "x-b"]),
                ("GET", vec!["x-b"]),
            ] {
                let first =
                    rules.iter().find(|rule| accepts(&rule.when, host, path, method, &fields));
                let first = first.map(|rule| 200 + rule.at.line);
                let listener = plan.listeners.indices().next().unwrap();
                let request = &Fields(&fields);
                let query = RouteQuery { listener, host, path, method, announced: None, request };
                let found =
                    plan.routes.find(&query).ok().map(|index| &plan.routes.route(index).action);
                let found = found.map(|action| match action {
                    Action::Respond { status, .. } => usize::from(*status),
                    other => panic!("{other:?}"),
                });
                assert_eq!(
                    found, first,
                    "replay with seed {seed}: {method} {host}{path} {fields:?}\n{}",
                    written.text
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}
