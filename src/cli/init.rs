//! `tidegate init`

use super::welcome::FIRST_FILE;
use super::{fail, print};
use crate::config::load;
use crate::config::scalar::target;
use crate::decision::plan::{Address, Target};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The choices of the command line.
#[derive(Debug, clap::Args)]
pub(super) struct Choices {
    /// Write a configuration for a sidecar of one application, instead of a proxy at a site's edge.
    #[arg(long)]
    sidecar: bool,
    /// A cluster and one of its endpoints: HOST:PORT, http://HOST[:PORT] or https://HOST[:PORT]. May be repeated, with
    /// the same NAME for a second endpoint. A name that starts with `idc` is the data centre, which may receive
    /// sensitive data; each other name is a cloud.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = backend)]
    backend: Vec<Backend>,
    /// Write to this file, which must not exist, instead of to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// One endpoint as named on the command line.
#[derive(Clone, Debug, PartialEq)]
struct Backend {
    cluster: String,
    /// HOST:PORT.
    address: String,
    tls: bool,
    /// Whether the address is a name, which an https endpoint expects as `Host`.
    is_name: bool,
}

/// Writes a first configuration.
pub(super) fn init(choices: &Choices) -> ExitCode {
    let text = match text(choices.sidecar, &choices.backend) {
        Ok(text) => text,
        Err(message) => return fail(&message),
    };
    let Some(path) = &choices.output else { return print(&text) };
    match write_new(path, &text) {
        Ok(()) => print(&format!(
            "{path} written. Now:\n  tidegate check --config {path}\n  tidegate run --config {path}\n",
            path = path.display()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            fail(&format!("{} exists and is kept; choose another name", path.display()))
        }
        Err(error) => fail(&format!("cannot write {}: {error}", path.display())),
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

/// Reads NAME=ADDRESS.
fn backend(text: &str) -> Result<Backend, String> {
    let hint = "write NAME=ADDRESS, such as idc=10.0.0.11:8080 or cloud=https://app.example.com";
    let (cluster, address) = text.split_once('=').ok_or(hint)?;
    let (address, tls, port) = match address.split_once("://") {
        Some(("http", rest)) => (rest, false, Some(80)),
        Some(("https", rest)) => (rest, true, Some(443)),
        Some(_) => return Err(hint.to_owned()),
        None => (address, false, None),
    };
    let address = address.trim_end_matches('/');
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = match port {
        Some(port) if !has_port => format!("{address}:{port}"),
        _ => address.to_owned(),
    };
    let is_name = match target(&address) {
        Ok(Target::Name(..)) => true,
        Ok(Target::Address(Address::Ip(_) | Address::Unix(_))) => false,
        Err(message) => return Err(format!("{message}; {hint}")),
    };
    Ok(Backend { cluster: cluster.to_owned(), address, tls, is_name })
}

/// A first configuration, with these endpoints or with examples; it always passes `tidegate check`.
fn text(sidecar: bool, backends: &[Backend]) -> Result<String, String> {
    let examples = [("idc", "127.0.0.1:9001"), ("cloud", "127.0.0.1:9002")];
    let example = |(cluster, address): (&str, &str)| Backend {
        cluster: cluster.to_owned(),
        address: address.to_owned(),
        tls: false,
        is_name: false,
    };
    let backends = match backends {
        [] => examples.map(example).to_vec(),
        given => given.to_vec(),
    };
    let mut names: Vec<&str> = Vec::new();
    for backend in &backends {
        if !names.contains(&backend.cluster.as_str()) {
            names.push(&backend.cluster);
        }
    }
    let clusters: String = names.iter().map(|name| cluster(name, &backends)).collect();
    let frame = if sidecar { SIDECAR } else { EDGE };
    let text = [MODELINE, frame].concat();
    let text = text.replace("FILE", FIRST_FILE);
    let list = format!("clusters: [{}]", names.join(", "));
    // The comment beside it keeps its column.
    let text = text.replace(&format!("{:<34}", "clusters: [NAMES]"), &format!("{list:<34}"));
    let text = text.replace("clusters: [NAMES]", &list) + &clusters;
    let problems = load(&text, Path::new("."), &|_| None).problems;
    match problems.first() {
        None => Ok(text),
        Some(problem) => Err(format!("--backend: {}", problem.message)),
    }
}

/// The lines of one cluster.
fn cluster(name: &str, backends: &[Backend]) -> String {
    let mut text = format!("  {name}:\n");
    let (kind, accepts) = match name.starts_with("idc") {
        true => ("idc", "general and sensitive data"),
        false => ("cloud", "general data only"),
    };
    let mut line = |key: &str, why: &str| {
        // Writing to a string cannot fail.
        let _infallible = match why {
            "" => writeln!(text, "    {key}"),
            why => writeln!(text, "    {key:<34} # {why}"),
        };
    };
    line(&format!("kind: {kind}"), &format!("accepts {accepts}"));
    let own: Vec<&Backend> = backends.iter().filter(|backend| backend.cluster == name).collect();
    let mut list = String::new();
    for (index, backend) in own.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _infallible = write!(list, "{comma}\"{}\"", backend.address);
    }
    line(&format!("endpoints: [{list}]"), "more addresses share the load");
    if own.iter().any(|backend| backend.tls) {
        line("tls: {}", "verified against the system's authorities");
        if own.iter().any(|backend| backend.is_name) {
            line("host: endpoint", "the endpoint's name as Host, not the client's");
        }
    }
    line("probe: { kind: http, path: /, status: [200-499] }", "");
    if kind == "cloud" {
        line("# cost: { per_gib: 0.09 }", "dollars; price counts as distance");
    }
    text
}

const MODELINE: &str = "\
# yaml-language-server: $schema=tidegate.schema.json
# Completion and checks in editors: tidegate schema > tidegate.schema.json
#
";

const EDGE: &str = r#"# Tidegate at the edge of a site.
# Try it:  tidegate check --config FILE && tidegate run --config FILE
# The file is watched: save it, and the change is in force within a second.
version: 1

# site: { name: idc-east }             # where this proxy runs; the host's name by default

admin:
  address: 127.0.0.1:9901              # the dashboard: http://127.0.0.1:9901/
  # token_file: token                  # needed to drain, dial or reload by the API

listeners:
  web:
    address: 127.0.0.1:8080            # 0.0.0.0:8080 to take requests from others
    protocol: http
    service: app

services:
  app:
    clusters: [NAMES]                  # the nearest is measured; this order breaks ties
    # data: sensitive                  # then only clusters that accept it may serve

clusters:
"#;

const SIDECAR: &str = r#"# Tidegate beside one application: what the application calls goes to the nearest healthy cluster, spills to the
# next one when that is full, and sensitive data never leaves the data centre (IDC).
# Try it:  tidegate check --config FILE && tidegate run --config FILE
version: 1

admin: { address: 127.0.0.1:9901 }     # the dashboard: http://127.0.0.1:9901/
access_log: { format: off }

listeners:
  app:
    address: 127.0.0.1:15001           # the application calls http://127.0.0.1:15001
    protocol: http
    service: app
    timeouts: { idle: 10m }

services:
  app:
    clusters: [NAMES]
    timeout: 5s

clusters:
"#;

#[cfg(test)]
mod tests {
    use super::{backend, text};
    use crate::config::load;

    fn written(sidecar: bool, backends: &[&str]) -> String {
        let backends: Vec<_> = backends.iter().map(|text| backend(text).unwrap()).collect();
        text(sidecar, &backends).unwrap()
    }

    #[test]
    fn every_choice_writes_a_valid_file_without_a_warning() {
        let choices: [&[&str]; 4] = [
            &[],
            &["idc=10.0.0.11:8080", "idc=10.0.0.12:8080", "cloud=https://app.example.com"],
            &["idc-east=[::1]:80", "near=http://near.example.com/", "far=unix:/run/app.sock"],
            &["eu=https://10.1.0.1:8443"],
        ];
        for backends in choices {
            for sidecar in [false, true] {
                let text = written(sidecar, backends);
                let outcome = load(&text, std::path::Path::new("."), &|_| None);
                assert!(outcome.config.is_some() && outcome.problems.is_empty(), "{outcome:?}");
                assert!(text.lines().all(|line| line.len() <= 120 && line.trim_end() == line));
            }
        }
    }

    #[test]
    fn clusters_keep_their_order_their_endpoints_and_their_kind() {
        let text = written(false, &["near=n:1", "idc=10.0.0.1:1", "near=https://n.example.com"]);
        assert!(text.contains("clusters: [near, idc]"), "{text}");
        assert!(text.contains("endpoints: [\"n:1\", \"n.example.com:443\"]"), "{text}");
        let (near, idc) = text.split_once("  idc:\n").unwrap();
        assert!(near.contains("kind: cloud") && idc.contains("kind: idc"), "{text}");
        assert!(near.contains("tls: {}") && !idc.contains("tls: {}"), "{text}");
    }

    #[test]
    fn a_backend_that_is_none_is_refused_with_an_example() {
        for wrong in ["10.0.0.1:80", "idc=10.0.0.1", "idc=ftp://a:1", "idc=https://a b", "idc="] {
            let message = backend(wrong).unwrap_err();
            assert!(message.contains("idc=10.0.0.11:8080"), "{wrong}: {message}");
        }
        let named = backend("a b=10.0.0.1:80").unwrap();
        let message = text(false, &[named]).unwrap_err();
        assert!(message.contains("not a valid name") || message.contains("syntax"), "{message}");
    }
}
