//! The Kubernetes Service of a cluster: its names, its port, and the context in the kubeconfig file.

use super::error::Problems;
use super::file;
use super::secrets::warn_if_public;
use super::shape::Spanned;
use super::yaml::{self, Kind, Node};
use crate::decision::plan::{Kubernetes, ServicePort, Source};
use std::path::{Path, PathBuf};

/// Characters of a name of a namespace, Service or port (RFC 1123, a label).
const NAME_MAX: usize = 63;

/// Compiles `discover.kubernetes`, with what is wrong about it.
pub(super) fn source(
    written: &file::Kubernetes,
    folder: &Path,
    path: &str,
    problems: &mut Problems,
) -> Option<Source> {
    if !cfg!(feature = "k8s") {
        let message = "this build has no Kubernetes: it needs the cargo feature `k8s`";
        let hint = "build with `--features k8s`, or use `discover.dns` with a headless Service";
        problems.error_with_hint(written.at, path, message, hint);
        return None;
    }
    for (key, name) in
        [("namespace", written.namespace.as_ref()), ("service", Some(&written.service))]
    {
        if let Some(name) = name.filter(|name| !is_label(&name.value)) {
            let message = format!("`{}` is not a name of a {key}", name.value);
            let hint = format!("small letters, digits and `-`, at most {NAME_MAX}");
            problems.error_with_hint(name.at, format!("{path}.{key}"), message, hint);
        }
    }
    if let (Some(context), None) = (&written.context, &written.kubeconfig) {
        let message = "is used only with `kubeconfig`: remove it, or name the file";
        problems.error(context.at, format!("{path}.context"), message);
    }
    let kubeconfig = written.kubeconfig.as_ref();
    Some(Source::Kubernetes(Kubernetes {
        namespace: written.namespace.as_ref().map(|name| name.value.clone()),
        service: written.service.value.clone(),
        port: written.port.as_ref().and_then(|written| port(written, path, problems)),
        kubeconfig: kubeconfig
            .map(|file| read(file, written.context.as_ref(), folder, path, problems)),
        context: written.context.as_ref().map(|name| name.value.clone()),
    }))
}

fn is_label(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME_MAX).contains(&text.len())
        && text.chars().all(valid)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn port(written: &Spanned<String>, path: &str, problems: &mut Problems) -> Option<ServicePort> {
    let text = &written.value;
    let is_number = text.chars().all(|c| c.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(number) if number > 0 => Some(ServicePort::Number(number)),
        _ if !is_number && is_label(text) => Some(ServicePort::Name(text.clone())),
        _ => {
            let message = format!("`{text}` is neither a port nor the name of one");
            let hint = "such as 8080, or http as in the Service's `ports`";
            problems.error_with_hint(written.at, format!("{path}.port"), message, hint);
            None
        }
    }
}

/// The path of the kubeconfig, once the file was checked: it must be readable and have the context.
fn read(
    written: &Spanned<String>,
    context: Option<&Spanned<String>>,
    folder: &Path,
    path: &str,
    problems: &mut Problems,
) -> PathBuf {
    let (file, key) = (folder.join(&written.value), format!("{path}.kubeconfig"));
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            problems.error(written.at, key, format!("cannot read `{}`: {error}", written.value));
            return file;
        }
    };
    warn_if_public(problems, &file, written, &key);
    let (Some(tree), wrongs) = yaml::parse(&text) else { return file };
    if !wrongs.is_empty() {
        // Not this reader but the client decides what a kubeconfig may contain.
        return file;
    }
    let names = contexts(&tree);
    if names.is_empty() {
        problems.error(written.at, key, format!("`{}` has no contexts", written.value));
    } else if let Some(context) = context.filter(|name| !names.contains(&name.value.as_str())) {
        let message = format!("`{}` has no context `{}`", written.value, context.value);
        let hint = format!("its contexts are {}", names.join(", "));
        problems.error_with_hint(context.at, format!("{path}.context"), message, hint);
    }
    file
}

fn contexts(tree: &Node) -> Vec<&str> {
    let Some(Kind::List(items)) = value(tree, "contexts").map(|node| &node.kind) else {
        return Vec::new();
    };
    items.iter().filter_map(|item| value(item, "name")?.text()).collect()
}

fn value<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
}
