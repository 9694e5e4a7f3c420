//! The JSON Schema as an editor uses it: a foreign validator accepts every file we ship and rejects mistakes; every
//! key has a description and an example.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidegate::config::schema::schema;
use tidegate::config::shape::as_written;
use tidegate::config::yaml::{Kind, Node, parse};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads `[[schema, value], ...]` from standard input; prints what is wrong with each value.
const VALIDATOR: &str = "
import json, sys
from jsonschema import Draft202012Validator as V
for schema, value in json.load(sys.stdin):
    V.check_schema(schema)
    errors = sorted(V(schema).iter_errors(value), key=lambda e: list(map(str, e.absolute_path)))
    print('; '.join(f'{e.json_path}: {e.message[:200]}' for e in errors).replace('\\n', ' '))
";

/// What the validator says of each pair of a schema and a value: empty if the value is valid.
fn verdicts(pairs: &[(Value, Value)]) -> Option<Vec<String>> {
    let python = root().join("target/venv/bin/python");
    let has_it = Command::new(&python).args(["-c", "import jsonschema"]).status();
    if !has_it.is_ok_and(|status| status.success()) {
        let skip = std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some();
        assert!(skip, "jsonschema is not in target/venv: `make target/.tools-schema` installs it");
        return None;
    }
    let mut child = Command::new(python)
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(pairs).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(said.len(), pairs.len());
    Some(said)
}

fn value(text: &str) -> Value {
    as_yaml(&parse(text).0.unwrap())
}

/// A tree as an editor reads it: 0.40 is a number, too.
fn as_yaml(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar { text, plain } => {
            let is_decimal = text.chars().all(|c| c.is_ascii_digit() || c == '.');
            let number =
                text.parse::<f64>().ok().filter(|_| *plain && is_decimal && text.contains('.'));
            number.map_or_else(|| as_written(node).unwrap(), |number| json!(number))
        }
        Kind::List(items) => items.iter().map(as_yaml).collect(),
        Kind::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.text().unwrap().to_owned(), as_yaml(value)))
                .collect(),
        ),
    }
}

/// All whole configurations: shipped files, the documents' examples, and what `init` writes.
fn configurations() -> Vec<(String, String)> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut all = Vec::new();
    for folder in ["config", "docker", "docker/demo", "docs", "."] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            match path.extension().and_then(|ext| ext.to_str()) {
                Some("yaml") if !name.contains("compose") => all.push((name, read(&path))),
                Some("md") => {
                    let text = read(&path);
                    let blocks = text.split("```yaml\n").skip(1);
                    let block = |block: &str| block.split("```").next().unwrap().to_owned();
                    all.extend(blocks.map(|text| (name.clone(), block(text))));
                }
                _ => {}
            }
        }
    }
    let choices: [&[&str]; 3] = [
        &[],
        &["--sidecar"],
        &["--backend", "idc=10.0.0.1:80", "--backend", "cloud=https://app.example.com"],
    ];
    for choice in choices {
        let program = env!("CARGO_BIN_EXE_tidegate");
        let written = Command::new(program).arg("init").args(choice).output().unwrap();
        let text = String::from_utf8(written.stdout).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=tidegate.schema.json\n"));
        all.push((format!("init {choice:?}"), text));
    }
    all
}

#[test]
fn an_editor_finds_no_mistake_in_what_we_ship() {
    let all = configurations();
    assert!(all.len() > 20, "{}", all.len());
    let pairs: Vec<_> = all.iter().map(|(_, text)| (schema(), value(text))).collect();
    let Some(said) = verdicts(&pairs) else { return };
    let wrong: Vec<_> = all
        .iter()
        .zip(&said)
        .filter(|(_, said)| !said.is_empty())
        .map(|((n, _), s)| (n, s))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_editor_finds_no_mistake_in_the_parts_of_a_configuration_in_the_documents() {
    // A part lacks sections, which an editor does not know: all else holds.
    let mut part = schema();
    part.as_object_mut().unwrap().remove("oneOf");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let page = std::fs::read_to_string(&path).unwrap();
            let blocks = page.split("```yaml,part\n").skip(1);
            let block = |block: &str| block.split("```").next().unwrap().to_owned();
            texts.extend(blocks.map(|text| (path.display().to_string(), block(text))));
        }
    }
    assert!(texts.len() > 15, "{}", texts.len());
    let pairs: Vec<_> = texts.iter().map(|(_, text)| (part.clone(), value(text))).collect();
    let Some(said) = verdicts(&pairs) else { return };
    let said: Vec<_> = texts.iter().zip(&said).filter(|(_, said)| !said.is_empty()).collect();
    assert!(said.is_empty(), "{said:#?}");
}

#[test]
fn an_editor_marks_mistakes() {
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    let table = [
        ("protocol: http", "protocol: htp", "'htp'"),
        ("clusters: [idc, cloud]", "clusters: idc", "is not of type 'array'"),
        ("services:", "sevices:", "sevices"),
        ("kind: idc", "kind: idc, probe: { interval: 5 }", "is not valid"),
        ("kind: idc", "kind: idc, limits: { connections: 0 }", "less than the minimum"),
    ];
    let pairs: Vec<_> = table
        .iter()
        .map(|(from, to, _)| {
            assert!(minimal.contains(from), "{from}");
            (schema(), value(&minimal.replacen(from, to, 1)))
        })
        .collect();
    let Some(said) = verdicts(&pairs) else { return };
    for ((_, to, part), said) in table.iter().zip(said) {
        assert!(said.contains(part), "{to}: {said}");
    }
}

/// Each key of the schema, with its path and its own schema.
fn keys(schema: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        out.push((path.clone(), key.clone()));
        keys(key, &path, out);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            keys(&schema[below], &format!("{path}.*"), out);
        }
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        keys(choice, path, out);
    }
}

#[test]
fn every_key_has_a_description_and_valid_examples() {
    let mut all = Vec::new();
    keys(&schema(), "", &mut all);
    assert!(all.len() > 300, "{}", all.len());
    let (mut pairs, mut places, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for (path, key) in &all {
        assert!(key["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
        let explains_itself = key["properties"].is_object()
            || key["additionalProperties"].is_object()
            || key["enum"].is_array()
            || key["items"]["properties"].is_object()
            || key["items"]["enum"].is_array()
            || key["type"] == "boolean";
        let examples = key["examples"].as_array().cloned().unwrap_or_default();
        if examples.is_empty() && !explains_itself && !path.contains(".endpoints.*") {
            bare.push(path);
        }
        for value in examples.into_iter().chain(key.get("default").cloned()) {
            places.push(format!("{path}: {value}"));
            pairs.push((key.clone(), value));
        }
    }
    assert!(bare.is_empty(), "without an example: {bare:#?}");
    let Some(said) = verdicts(&pairs) else { return };
    let wrong: Vec<_> = places.iter().zip(&said).filter(|(_, said)| !said.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn defaults_are_values_and_choices_are_explained() {
    let schema = schema();
    let listener = &schema["properties"]["listeners"]["additionalProperties"]["properties"];
    assert_eq!(listener["tls"]["properties"]["min_version"]["default"], json!(1.2));
    assert_eq!(schema["properties"]["admin"]["properties"]["insecure"]["default"], json!(false));
    let protocol = &listener["protocol"];
    let (choices, about) = (
        protocol["enum"].as_array().unwrap(),
        protocol["markdownEnumDescriptions"].as_array().unwrap(),
    );
    assert_eq!(choices.len(), about.len());
    assert!(about.iter().all(|text| !text.as_str().unwrap().is_empty()), "{about:?}");
}
