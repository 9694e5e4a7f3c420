//! The examples of the documents: parts of a configuration, and commands that end by themselves.

use super::files::read;
use super::{RUNNABLE, documents, prose_spans};
use std::path::PathBuf;
use std::process::{Command, Output};
use tidegate::config::yaml::{Kind, Node, parse};
use tidegate::config::{Severity, load};

/// A block of code in a document.
pub(super) struct Block {
    /// The words behind the opening fence: `yaml`, `console` and others. `yaml,part` is a part of a configuration: it
    /// lacks sections, or names files.
    pub(super) info: String,
    pub(super) body: String,
}

impl Block {
    pub(super) fn is_configuration(&self) -> bool {
        self.info == "yaml" || self.info == "yaml,part"
    }
}

pub(super) fn blocks(text: &str) -> Vec<Block> {
    let inside = text.split("```").skip(1).step_by(2);
    let block = |block: &str| {
        let (info, body) = block.split_once('\n').unwrap_or((block, ""));
        Block { info: info.to_owned(), body: body.to_owned() }
    };
    inside.map(block).collect()
}

/// A folder with the files that the examples name; removed at the end.
pub(super) struct Workshop(pub(super) PathBuf);

impl Workshop {
    pub(super) fn new(name: &str) -> Workshop {
        let folder = format!("tidegate-docs-{name}-{}", std::process::id());
        let workshop = Workshop(std::env::temp_dir().join(folder));
        std::fs::create_dir_all(workshop.0.join("pages")).unwrap();
        let page = blocks(&read("docs/https.md"));
        let certificate = page.iter().find(|block| block.body.starts_with("openssl req"));
        let made = workshop.run(&certificate.unwrap().body);
        assert!(made.status.success(), "{made:?}");
        for name in ["token", "fleet-token", "webhook-secret"] {
            workshop.write(name, "a token of more than sixteen bytes\n");
        }
        for name in ["not-found.html", "sorry.html", "error.json"] {
            workshop.write(&format!("pages/{name}"), "{}\n");
        }
        // The password of the page: wonderland. htpasswd is not installed everywhere.
        let hash = "$2y$05$tidegatetidegatetidegOFAY7fHfTylHsW26ZBfv.m/o1nyZYvoG";
        workshop.write("users", &format!("alice:{hash}\n"));
        let keys = blocks(&read("docs/authentication.md"));
        let keys = keys.into_iter().find(|block| block.info == "json").unwrap();
        workshop.write("jwks.json", &keys.body);
        workshop
            .write("fleet.creds", "SUABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRSTUVWX\n");
        let context = "{ name: idc-east, context: { cluster: idc, user: gateway } }";
        let clusters = "clusters: [{ name: idc, cluster: { server: 'https://10.0.0.1:6443' } }]";
        let users = "users: [{ name: gateway, user: { token: token } }]";
        let kubeconfig = format!("contexts: [{context}]\n{clusters}\n{users}\n");
        workshop.write("idc.kubeconfig", &kubeconfig);
        workshop
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs lines of the shell in the folder.
    pub(super) fn run(&self, script: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&self.0);
        shell.env_remove("TIDEGATE_CONFIG").env("NO_PROXY", "*").env("no_proxy", "*");
        shell.output().unwrap()
    }

    /// Makes the certificates and keys that an example names: all are the same.
    fn certify(&self, text: &str) {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c));
        for name in words {
            let same = match name.rsplit('.').next() {
                _ if self.0.join(name).exists() => continue,
                Some("pem") if name.contains("key") => "shop.key",
                Some("pem") => "shop.pem",
                Some("key") => "shop.key",
                _ => continue,
            };
            std::fs::copy(self.0.join(same), self.0.join(name)).unwrap();
        }
    }

    /// A part of a configuration with what it lacks.
    pub(super) fn complete(&self, part: &str) -> String {
        let part = part.replace("/etc/letsencrypt/live/shop.example/", "");
        self.certify(&part);
        let tree = parse(&part).0.unwrap();
        let names = |section: &str| -> Option<Vec<String>> {
            let Kind::Map(entries) = &value(&tree, section)?.kind else { return None };
            Some(entries.iter().map(|(key, _)| key.text().unwrap().to_owned()).collect())
        };
        let mut whole = part.clone();
        let clusters = names("clusters").unwrap_or_else(|| {
            whole.push_str("clusters: { idc: { endpoints: [10.0.0.11:8080] } }\n");
            vec!["idc".to_owned()]
        });
        let services = names("services").unwrap_or_else(|| {
            let list = clusters.join(", ");
            whole.push_str("services:\n");
            whole.push_str(&format!("  shop: {{ clusters: [{list}] }}\n"));
            whole.push_str(&format!("  api: {{ clusters: [{list}] }}\n"));
            vec!["shop".to_owned()]
        });
        if names("listeners").is_none() {
            let service = &services[0];
            whole.push_str("listeners:\n");
            whole.push_str("  web: { address: 127.0.0.1:8080, protocol: http, ");
            whole.push_str(&format!("service: {service} }}\n"));
        }
        whole
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // A folder that is left behind in the temporary folder does no harm.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// The value of a section of a configuration.
pub(super) fn value<'a>(tree: &'a Node, section: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &tree.kind else { return None };
    entries.iter().find(|(key, _)| key.text() == Some(section)).map(|(_, value)| value)
}

#[test]
fn every_part_of_a_configuration_passes_check_with_what_it_lacks() {
    let workshop = Workshop::new("parts");
    let mut count = 0;
    for document in documents() {
        for block in blocks(&read(&document)) {
            if block.info != "yaml,part" {
                continue;
            }
            count += 1;
            let text = workshop.complete(&block.body);
            let problems = load(&text, &workshop.0, &|_| None).problems;
            let errors: Vec<_> =
                problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
            assert!(errors.is_empty(), "{document}: {errors:#?}\n{text}");
        }
    }
    assert!(count > 15, "{count}");
}

/// A command of a page that needs no running proxy, as arguments of the program.
fn arguments(line: &str) -> Option<&str> {
    let line = line.split(" #").next()?.trim();
    let rest = line.strip_prefix("$ ").unwrap_or(line).strip_prefix("tidegate ")?;
    let needs_nothing = RUNNABLE.contains(&rest.split(' ').next()?)
        && rest.contains("--config tidegate.yaml")
        && !rest.contains("--admin")
        && !rest.contains("HOST");
    needs_nothing.then_some(rest)
}

#[test]
fn commands_succeed_with_the_example_of_their_page() {
    let workshop = Workshop::new("commands");
    let mut count = 0;
    for document in documents() {
        // The commands of these two write and use a file of their own: `the_commands_of_the_first_pages_...`.
        if ["README.md", "docs/quick-start.md"].contains(&document.as_str()) {
            continue;
        }
        let text = read(&document);
        let all = blocks(&text);
        let Some(mut config) = all.iter().find(|block| block.is_configuration()) else { continue };
        let spans: String = prose_spans(&text).join("\n");
        let spans = Block { info: "console".to_owned(), body: spans };
        for block in all.iter().chain([&spans]) {
            if block.is_configuration() {
                config = block;
            }
            if block.info != "console" && block.info != "bash" {
                continue;
            }
            for rest in block.body.lines().filter_map(arguments) {
                count += 1;
                workshop.write("tidegate.yaml", &workshop.complete(&config.body));
                let program = env!("CARGO_BIN_EXE_tidegate");
                let output = workshop.run(&format!("{program} {rest}"));
                assert!(output.status.success(), "{document}: {rest}: {output:?}");
            }
        }
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn every_json_text_and_python_program_can_be_read() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&read(&document)) {
            match block.info.as_str() {
                "json" => {
                    let read = serde_json::from_str::<serde_json::Value>(&block.body);
                    assert!(read.is_ok(), "{document}: {read:?}\n{}", block.body);
                }
                "python" => {
                    let parse = ["-c", "import ast, sys; ast.parse(sys.argv[1])", &block.body];
                    let output = Command::new("python3").args(parse).output().unwrap();
                    assert!(output.status.success(), "{document}: {output:?}");
                }
                _ => continue,
            }
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}
