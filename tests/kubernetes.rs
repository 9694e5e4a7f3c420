//! The manifests and the Helm chart in `config/kubernetes`: valid against the schemas of Kubernetes, and each
//! configuration in them passes `check`. Helm itself renders the chart; `make test` installs it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::config::load;
use tidegate::config::shape::as_written;
use tidegate::config::yaml::parse;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The objects of a file with several documents.
fn objects(text: &str) -> Vec<Value> {
    let documents = format!("\n{text}");
    let documents = documents.split("\n---").map(|document| {
        let (tree, wrongs) = parse(document);
        assert!(wrongs.is_empty(), "{wrongs:?}\n{document}");
        tree.as_ref().and_then(as_written)
    });
    documents.flatten().collect()
}

fn manifests() -> Vec<(String, Vec<Value>)> {
    let folder = root().join("config/kubernetes");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), objects(&text))
    };
    let all: Vec<_> = files.map(read).collect();
    assert!(all.len() >= 4, "{}", all.len());
    all
}

/// The kinds and definitions of Kubernetes that the manifests use.
struct Schemas(Value);

impl Schemas {
    fn read() -> Schemas {
        let text = std::fs::read_to_string(root().join("tests/kubernetes/schema.json")).unwrap();
        Schemas(serde_json::from_str(&text).unwrap())
    }

    /// What is wrong about an object; `None` for a kind of which there is no schema.
    fn problems(&self, object: &Value) -> Option<Vec<String>> {
        let reference = self.0["kinds"].get(object["kind"].as_str()?)?;
        let mut problems = Vec::new();
        self.walk(&json!({ "$ref": reference }), object, "", &mut problems);
        Some(problems)
    }

    fn walk(&self, schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let definition = &self.0["$defs"][name.trim_start_matches("#/$defs/")];
            assert!(definition.is_object(), "{name}");
            return self.walk(definition, value, path, problems);
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|kind| is_of(value, kind)) {
            return problems.push(format!("{path}: {value} is not of type {types:?}"));
        }
        if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
            problems.push(format!("{path}: {value} is none of {}", schema["enum"]));
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &&Value| {
                let mut within = Vec::new();
                self.walk(choice, value, path, &mut within);
                within.is_empty()
            };
            if choices.iter().filter(fits).count() != 1 {
                problems.push(format!("{path}: {value} is not exactly one of {choices:?}"));
            }
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                self.walk(items, value, &format!("{path}[{index}]"), problems);
            }
        }
        if let Some(fields) = value.as_object() {
            self.fields(schema, fields, path, problems);
        }
    }

    fn fields(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                problems.push(format!("{path}: {name} is missing"));
            }
        }
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(property), _) => self.walk(property, value, &path, problems),
                (None, Value::Bool(false)) => problems.push(format!("{path}: no such field")),
                (None, more) => self.walk(more, value, &path, problems),
            }
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("the schema has an unknown type {other}"),
    }
}

/// Checks objects against the schemas, each configuration against `check`, and what neither can tell.
#[track_caller]
fn verify(origin: &str, objects: &[Value]) {
    let schemas = Schemas::read();
    for object in objects {
        let name = format!("{origin}: {} {}", object["kind"], object["metadata"]["name"]);
        match schemas.problems(object) {
            Some(problems) => assert!(problems.is_empty(), "{name}: {problems:#?}"),
            // Custom resources have schemas of their own.
            None => assert!(
                object["apiVersion"].as_str().unwrap().contains(".sh/"),
                "{name}: no schema of {}",
                object["apiVersion"]
            ),
        }
        let templates = object["spec"]["template"]["spec"].as_object();
        for template in templates.into_iter() {
            verify_pod(&name, template, objects);
        }
        if let Some(text) = object["data"]["tidegate.yaml"].as_str() {
            verify_config(&name, text);
        }
    }
}

fn verify_config(name: &str, text: &str) {
    let outcome = load(text, Path::new("."), &|_| None);
    let problems: Vec<String> =
        outcome.problems.iter().map(|problem| problem.render(name)).collect();
    if !cfg!(feature = "k8s") && text.contains("kubernetes:") {
        assert!(problems[0].contains("this build has no Kubernetes"), "{problems:#?}");
        return;
    }
    assert!(outcome.config.is_some(), "{problems:#?}");
    // Readable by the pod network, which the NetworkPolicy bounds.
    let others: Vec<_> = problems.iter().filter(|text| !text.contains("admin.insecure")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// References within a pod, and the time it has to end.
fn verify_pod(name: &str, pod: &Map<String, Value>, objects: &[Value]) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let volumes = list(pod.get("volumes"));
    let volume_names: BTreeSet<&str> =
        volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    let containers = [list(pod.get("initContainers")), list(pod.get("containers"))].concat();
    for mount in containers.iter().flat_map(|one| list(one.get("volumeMounts"))) {
        assert!(volume_names.contains(mount["name"].as_str().unwrap()), "{name}: {mount}");
        assert!(mount.get("subPath").is_none(), "{name}: a subPath is never updated");
    }
    let proxy = containers.iter().find(|one| one["name"] == "tidegate").unwrap();
    assert!(proxy["livenessProbe"].is_object() && proxy["resources"]["limits"].is_object());
    for volume in volumes.iter().filter_map(|volume| volume["configMap"]["name"].as_str()) {
        let is_it =
            |object: &&Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == volume;
        let Some(map) = objects.iter().find(is_it) else { continue };
        let text = map["data"]["tidegate.yaml"].as_str().unwrap();
        let Some(config) = load(text, Path::new("."), &|_| None).config else { continue };
        let drain = config.settings.drain_delay + config.settings.drain_deadline;
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(
            drain.as_secs() < grace,
            "{name}: it is killed while it drains: {drain:?}, {grace} s"
        );
    }
}

#[test]
fn manifests_are_valid_and_their_configurations_pass_check() {
    let mut kinds = BTreeSet::new();
    for (file, objects) in manifests() {
        verify(&file, &objects);
        kinds.extend(objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()));
    }
    for kind in Schemas::read().0["kinds"].as_object().unwrap().keys() {
        assert!(kinds.contains(kind), "no manifest has a {kind}");
    }
}

#[test]
fn the_schemas_reject_what_kubernetes_rejects() {
    let (_, objects) = manifests().into_iter().find(|(file, _)| file == "gateway.yaml").unwrap();
    let good = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let schemas = Schemas::read();
    let spec = "/spec/template/spec";
    for (place, key, value, expected) in [
        ("/spec", "replica", json!(2), ".spec.replica: no such field"),
        ("/spec", "replicas", json!("2"), ".spec.replicas: \"2\" is not of type"),
        ("/spec", "selector", Value::Null, ".spec: \"selector\" is missing"),
        ("", "kind", json!("Deploy"), ""),
        ("", "apiVersion", json!("v1"), ".apiVersion: \"v1\" is none of"),
        (&format!("{spec}/containers/0/ports/0"), "containerPort", json!("8080"), "is not of type"),
        (
            &format!("{spec}/containers/0/readinessProbe/httpGet"),
            "port",
            json!(true),
            "is not exactly one of",
        ),
        (
            &format!("{spec}/containers/0/resources/limits"),
            "memory",
            json!([]),
            "is not exactly one of",
        ),
    ] {
        let mut bad = good.clone();
        let fields = bad.pointer_mut(place).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(fields.remove(key)),
            value => drop(fields.insert(key.to_owned(), value)),
        }
        match schemas.problems(&bad) {
            None => assert_eq!(expected, "", "{place}"),
            Some(problems) => assert!(
                problems.len() == 1 && problems[0].contains(expected),
                "{place}.{key}: {problems:?}"
            ),
        }
    }
}

/// Helm: that of `make test`, or an installed one.
fn helm() -> Option<PathBuf> {
    let ours = root().join("target/helm/helm");
    let all = [ours, "/usr/local/bin/helm".into(), "/usr/bin/helm".into()];
    let found = all.into_iter().find(|path| path.exists());
    let skip = std::env::var_os("TIDEGATE_SKIP_MISSING_TOOLS").is_some();
    assert!(
        found.is_some() || skip,
        "helm is not installed: `make test` installs it; TIDEGATE_SKIP_MISSING_TOOLS=1 skips what needs it"
    );
    found
}

fn run_helm(helm: &Path, arguments: &[&str]) -> String {
    let home = std::env::temp_dir().join("tidegate-helm");
    let output = Command::new(helm)
        .args(arguments)
        .current_dir(root().join("config/kubernetes"))
        .env("HELM_CACHE_HOME", &home)
        .env("HELM_CONFIG_HOME", &home)
        .env("HELM_DATA_HOME", &home)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Without what distinguishes one release from another.
fn anonymous(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| {
                !["labels", "matchLabels", "imagePullPolicy"].contains(&name.as_str())
            });
            let kept = kept.map(|(name, value)| match (name.as_str(), value) {
                ("selector", Value::Object(all)) if all.values().all(Value::is_string) => {
                    (name.clone(), json!("labels"))
                }
                (_, value) => (name.clone(), anonymous(value)),
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(anonymous).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_chart_with_its_defaults_is_the_gateway() {
    let Some(helm) = helm() else { return };
    run_helm(&helm, &["lint", "--strict", "chart"]);
    let rendered = objects(&run_helm(&helm, &["template", "tidegate", "chart"]));
    verify("chart", &rendered);
    let (_, gateway) = manifests().into_iter().find(|(file, _)| file == "gateway.yaml").unwrap();
    assert_eq!(rendered.len(), gateway.len());
    for object in gateway {
        let is_it = |other: &&Value| other["kind"] == object["kind"];
        let other = rendered.iter().find(is_it).unwrap();
        let (mut ours, mut theirs) = (anonymous(&object), anonymous(other));
        for data in [&mut ours, &mut theirs] {
            if let Some(text) = data["data"]["tidegate.yaml"].as_str() {
                data["data"]["tidegate.yaml"] = json!(text.trim());
            }
        }
        assert_eq!(ours, theirs, "{}", object["kind"]);
    }
}

#[test]
fn the_chart_renders_valid_objects_with_other_values() {
    let Some(helm) = helm() else { return };
    let render = |values: &[&str]| {
        let sets = values.iter().flat_map(|value| ["--set", value]);
        let all: Vec<&str> =
            ["template", "east", "chart", "-n", "edge"].into_iter().chain(sets).collect();
        let objects = objects(&run_helm(&helm, &all));
        verify(&values.join(" "), &objects);
        objects
    };
    let kinds = |objects: &[Value]| -> Vec<String> {
        let mut kinds: Vec<_> =
            objects.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds
    };
    let node = render(&[
        "kind=DaemonSet",
        "hostNetwork=true",
        "probeHost=127.0.0.1",
        "service.enabled=false",
        "priorityClassName=system-node-critical",
        "tolerations[0].operator=Exists",
    ]);
    assert_eq!(kinds(&node), ["ConfigMap", "DaemonSet", "ServiceAccount"]);
    let pods =
        &node.iter().find(|one| one["kind"] == "DaemonSet").unwrap()["spec"]["template"]["spec"];
    assert_eq!(pods["containers"][0]["livenessProbe"]["httpGet"]["host"], "127.0.0.1");

    let slices = render(&["endpointSlices.namespaces={shop,pay}"]);
    let roles = slices.iter().filter(|one| one["kind"] == "Role");
    let spaces: Vec<_> =
        roles.map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect();
    assert_eq!(spaces, ["shop", "pay"]);
    let account = slices.iter().find(|one| one["kind"] == "ServiceAccount").unwrap();
    assert_eq!(account["automountServiceAccountToken"], true);
    let binding = slices.iter().find(|one| one["kind"] == "RoleBinding").unwrap();
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], "edge");

    let other = render(&[
        "replicas=null",
        "service.type=ClusterIP",
        "existingConfigMap=own",
        "networkPolicy.enabled=false",
        "podDisruptionBudget.enabled=false",
        "serviceAccount.create=false",
        "ports[0].name=dns",
        "ports[0].port=5353",
        "ports[0].protocol=UDP",
        "image.tag=1.2.3",
        "imagePullSecrets[0].name=key",
        "extraEnv[0].name=A",
        "extraEnv[0].value=b",
        "extraVolumes[0].name=tls",
        "extraVolumes[0].secret.secretName=tls",
        "extraVolumeMounts[0].name=tls",
        "extraVolumeMounts[0].mountPath=/tls",
        "service.annotations.a=b",
        "nodeSelector.disk=ssd",
    ]);
    assert_eq!(kinds(&other), ["Deployment", "Service"]);
    let deployment = other.iter().find(|one| one["kind"] == "Deployment").unwrap();
    assert!(deployment["spec"].get("replicas").is_none());
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "tidegate:1.2.3");
}
