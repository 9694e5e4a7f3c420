//! `tls.options` as keys of a listener's `tls`.
//!
//! Traefik chooses the options by the router that a server name leads to; a listener of Tidegate has one set. Where the
//! routers of an entry point differ, the newest version holds for all of them, and a router that demands certificates of
//! clients refuses all clients unless all routers of its entry point demand the same.

use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{Block, block};
use super::Translation;
use super::entry_points::{EntryPoint, has_tls};
use super::tree::Tree;

/// The certificates that options demand of clients.
#[derive(Clone, Debug, PartialEq)]
enum Demand {
    /// None, or one that a client may leave out.
    None,
    /// A certificate of the authorities in this file.
    Of(String),
    /// What Tidegate cannot demand.
    Other,
}

/// Sets the keys of the listeners by the options of their routers, and notes options that no router uses.
pub(super) fn finish(translation: &mut Translation<'_>) {
    for point in translation.listeners.clone() {
        let listeners = &mut translation.model.listeners;
        let is_it =
            |block: &&mut Block| block.name == point.listener && block.keys.get("tls").is_some();
        let Some(mut keys) =
            listeners.iter_mut().find(is_it).map(|block| std::mem::take(&mut block.keys))
        else {
            continue;
        };
        set(translation, &point, &mut keys);
        block(&mut translation.model.listeners, &point.listener, &point.at).keys = keys;
    }
    note_unused(translation);
}

fn set(translation: &mut Translation<'_>, point: &EntryPoint, keys: &mut Map) {
    let root = translation.root;
    let names = names(root, point);
    for name in &names {
        note(translation, name);
    }
    if let Some(ca) = client_ca(root, &names) {
        keys.set("tls.client_ca", beside(&translation.folder, &ca));
    }
    let is_newest = |name: &&String| {
        let options = root.get(&format!("tls.options.{name}"));
        options.and_then(|options| options.text("minVersion")) == Some("VersionTLS13")
    };
    let newest: Vec<&String> = names.iter().filter(is_newest).collect();
    if let Some(name) = newest.first() {
        keys.set("tls.min_version", "1.3");
        let at = root.get(&format!("tls.options.{name}.minVersion")).map(|found| &found.at);
        if let (Some(at), true) = (at, newest.len() < names.len()) {
            let hint =
                format!("a listener has one version: it holds for all routers of `{}`", point.name);
            translation.model.differs(at, &format!("tls.options.{name}.minVersion"), &hint);
        }
    }
    protocols(translation, point, &names, keys);
}

/// Sets the protocols of ALPN, if all options list the same.
fn protocols(
    translation: &mut Translation<'_>,
    point: &EntryPoint,
    names: &[String],
    keys: &mut Map,
) {
    let root = translation.root;
    let listed = |name: &String| root.texts(&format!("tls.options.{name}.alpnProtocols"));
    let Some(first) = names.first().map(listed) else { return };
    if names.iter().any(|name| listed(name) != first) {
        let hint = format!(
            "the routers of `{}` differ: set `tls.alpn` of the listener for all of them",
            point.name
        );
        for name in names {
            if let Some(found) = root.get(&format!("tls.options.{name}.alpnProtocols")) {
                let what = format!("tls.options.{name}.alpnProtocols");
                translation.model.left_out(&found.at, &what, &hint);
            }
        }
        return;
    }
    let known: Vec<&String> =
        first.iter().filter(|p| matches!(p.as_str(), "h2" | "http/1.1")).collect();
    if !known.is_empty() && known != ["h2", "http/1.1"] {
        keys.set("tls.alpn", Doc::texts(&known));
    }
}

/// Whether a router demands certificates of clients that the listener of an entry point does not demand: its route must
/// be closed.
pub(super) fn is_lost(
    translation: &mut Translation<'_>,
    name: &str,
    router: &Tree,
    point: &EntryPoint,
) -> bool {
    if !point.tls {
        return false;
    }
    let root = translation.root;
    let own = name_of(root, router, point);
    let kept = client_ca(root, &names(root, point)).is_some();
    if kept || demand(root, &own) == Demand::None {
        return false;
    }
    let hint = match root.get(&format!("tls.options.{own}")) {
        Some(_) => format!(
            "the listener `{}` cannot demand these client certificates of some routers alone: give them a listener of their own with `tls.client_ca`; until then the route refuses all clients",
            point.listener
        ),
        None => "no file defines the options: the route refuses all clients until you write what they demanded".to_owned(),
    };
    translation.model.left_out(
        &router.at,
        &format!("http.routers.{name}.tls.options: {own}"),
        &hint,
    );
    true
}

fn note_unused(translation: &mut Translation<'_>) {
    let root = translation.root;
    let points = translation.listeners.iter().filter(|point| point.tls);
    let used: Vec<String> = points.flat_map(|point| names(root, point)).collect();
    for (name, options) in root.entries("tls.options") {
        if !used.contains(name) {
            let what = format!("tls.options.{name}");
            translation.model.unneeded(&options.at, &what, "no router uses these options");
        }
    }
}

/// The names of the options of an entry point's routers.
fn names(root: &Tree, point: &EntryPoint) -> Vec<String> {
    let of_point = root.get(&format!("entryPoints.{}.http.tls", point.name)).is_some();
    let serves = |router: &Tree| {
        let points = router.texts("entryPoints");
        match points.is_empty() {
            true => has_tls(router),
            false => points.contains(&point.name) && (of_point || has_tls(router)),
        }
    };
    let routers = root.entries("http.routers").iter().filter(|(_, router)| serves(router));
    let mut names: Vec<String> = routers.map(|(_, router)| name_of(root, router, point)).collect();
    names.sort();
    names.dedup();
    names
}

/// The name of a router's options. The section `tls` of a router replaces that of its entry point.
fn name_of(root: &Tree, router: &Tree, point: &EntryPoint) -> String {
    let named = match has_tls(router) {
        true => router.text("tls.options"),
        false => root.text(&format!("entryPoints.{}.http.tls.options", point.name)),
    };
    named.and_then(|name| name.split('@').next()).unwrap_or("default").to_owned()
}

/// The file of the authorities, if all options demand certificates of the same.
fn client_ca(root: &Tree, names: &[String]) -> Option<String> {
    let first = demand(root, names.first()?);
    match first {
        Demand::Of(ref ca) if names.iter().all(|name| demand(root, name) == first) => {
            Some(ca.clone())
        }
        Demand::None | Demand::Of(_) | Demand::Other => None,
    }
}

fn demand(root: &Tree, name: &str) -> Demand {
    let Some(options) = root.get(&format!("tls.options.{name}")) else {
        // Unknown options may have demanded anything.
        return if name == "default" { Demand::None } else { Demand::Other };
    };
    let Some(auth) = options.get("clientAuth") else { return Demand::None };
    let authorities = auth.texts("caFiles");
    match (auth.text("clientAuthType"), authorities.first()) {
        (Some("NoClientCert" | "RequestClientCert" | "VerifyClientCertIfGiven"), _)
        | (None, None) => Demand::None,
        (Some("RequireAndVerifyClientCert") | None, Some(file)) if !is_text(file) => {
            Demand::Of(file.clone())
        }
        (Some(_) | None, _) => Demand::Other,
    }
}

/// Whether a certificate stands in the configuration instead of the name of its file.
fn is_text(file: &str) -> bool {
    file.contains("-----BEGIN")
}

/// The cipher suites of rustls as Go names them.
const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Notes what is different with these options.
fn note(translation: &mut Translation<'_>, name: &str) {
    let root = translation.root;
    let Some(options) = root.get(&format!("tls.options.{name}")) else { return };
    let model = &mut translation.model;
    for (key, tree) in options.entries("") {
        let what = format!("tls.options.{name}.{key}");
        let text = options.text(key).unwrap_or_default();
        match (key.to_ascii_lowercase().as_str(), text) {
            ("minversion", "VersionTLS12" | "VersionTLS13") | ("maxversion", "VersionTLS13") => {}
            ("minversion", "VersionTLS10" | "VersionTLS11") => {
                model.differs(&tree.at, &what, "TLS 1.2 is the oldest version");
            }
            ("minversion", _) => {
                model.left_out(&tree.at, &what, "`tls.min_version` is 1.2 or 1.3");
            }
            ("maxversion", _) => model.differs(&tree.at, &what, "TLS 1.3 cannot be disabled"),
            ("ciphersuites", _) => {
                let lacking = options.texts(key);
                let lacking: Vec<String> =
                    lacking.into_iter().filter(|suite| !SUITES.contains(&suite.as_str())).collect();
                let mut hint = "the cipher suites are all those of rustls, which have forward secrecy and authenticated encryption".to_owned();
                if !lacking.is_empty() {
                    hint.push_str(&format!("; these are not among them: {}", lacking.join(", ")));
                }
                model.differs(&tree.at, &what, &hint);
            }
            ("curvepreferences", _) => {
                model.unneeded(&tree.at, &what, "the key exchange of rustls");
            }
            ("preferserverciphersuites", _) => {
                model.unneeded(&tree.at, &what, "the client's preference among safe suites");
            }
            ("snistrict" | "disablesessiontickets", "false") | ("alpnprotocols", _) => {}
            ("snistrict", _) => {
                model.left_out(&tree.at, &what, "unknown server names get the first certificate");
            }
            ("disablesessiontickets", _) => {
                model.left_out(
                    &tree.at,
                    &what,
                    "sessions are resumed by tickets, whose keys rotate",
                );
            }
            ("clientauth", _) => {
                if let Some(hint) = of_clients(tree) {
                    model.left_out(&tree.at, &what, hint);
                }
            }
            _ => model.left_out(&tree.at, &what, "the importer does not know this option"),
        }
    }
}

/// What is lost of `clientAuth`.
fn of_clients(auth: &Tree) -> Option<&'static str> {
    let authorities = auth.texts("caFiles");
    match (auth.text("clientAuthType"), authorities.as_slice()) {
        (Some("NoClientCert"), _) | (None, []) => None,
        (Some("RequestClientCert" | "VerifyClientCertIfGiven"), _) => {
            Some("client certificates are demanded (`tls.client_ca`) or not asked for")
        }
        (Some("RequireAndVerifyClientCert") | None, [file]) if !is_text(file) => None,
        (Some("RequireAndVerifyClientCert") | None, [file, ..]) if !is_text(file) => Some(
            "`tls.client_ca` is one file: join the authorities; until then the certificates of the first alone are accepted",
        ),
        (Some(_) | None, _) => Some(
            "write the authorities, or the accepted certificates themselves, to a file, and name it in `tls.client_ca`",
        ),
    }
}
