//! Middlewares as keys of a route.

use super::super::capabilities::close;
use super::super::companions::{Password, User, password_file};
use super::super::compression::set_types;
use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{Origin, PathTest, Verdict, When, literal, redirect, seconds, size};
use super::super::pattern::whole;
use super::Translation;
use super::entry_points::time;
use super::tree::{Tree, Value};

/// Levels of chains.
const DEPTH_MAX: usize = 8;

/// The middlewares of a router, in order.
pub(super) struct Middlewares {
    pub(super) names: Vec<String>,
    pub(super) at: Origin,
}

impl Middlewares {
    /// Sets the keys of all middlewares.
    pub(super) fn apply(&self, translation: &mut Translation<'_>, when: &When, keys: &mut Map) {
        self.each(translation, &self.names, when, keys, 0);
    }

    fn each(
        &self,
        translation: &mut Translation<'_>,
        names: &[String],
        when: &When,
        keys: &mut Map,
        depth: usize,
    ) {
        for name in names {
            let bare = name.split('@').next().unwrap_or_default();
            let Some(found) = translation.root.get(&format!("http.middlewares.{bare}")) else {
                let hint = "no file defines the middleware: the route refuses all clients until you write what it did";
                translation.model.left_out(&self.at, &format!("middleware {name}"), hint);
                close(keys);
                continue;
            };
            for (kind, options) in found.entries("") {
                if kind.eq_ignore_ascii_case("chain") {
                    if depth < DEPTH_MAX {
                        self.each(
                            translation,
                            &options.texts("middlewares"),
                            when,
                            keys,
                            depth + 1,
                        );
                    }
                    continue;
                }
                middleware(
                    translation,
                    &format!("{bare}.{kind}"),
                    &kind.to_ascii_lowercase(),
                    options,
                    when,
                    keys,
                );
            }
        }
    }
}

fn middleware(
    translation: &mut Translation<'_>,
    what: &str,
    kind: &str,
    options: &Tree,
    when: &When,
    keys: &mut Map,
) {
    match kind {
        "stripprefix" | "addprefix" | "replacepath" | "replacepathregex" | "stripprefixregex" => {
            rewrite(translation, what, kind, options, when, keys);
        }
        "redirectscheme" | "redirectregex" => {
            redirected(translation, what, kind, options, when, keys)
        }
        "headers" => headers(translation, what, options, keys),
        "basicauth" | "digestauth" | "forwardauth" => {
            authentication(translation, what, kind, options, keys)
        }
        "ipallowlist" | "ipwhitelist" => {
            keys.set("allow", Doc::texts(&options.texts("sourceRange")));
            if options.get("ipStrategy").is_some() {
                let hint = "the client's address is that of `trusted_proxies`' X-Forwarded-For";
                translation.model.differs(&options.at, &format!("{what}.ipStrategy"), hint);
            }
        }
        "ratelimit" => rate(translation, what, options, keys),
        "inflightreq" => match options
            .text("amount")
            .and_then(|n| n.parse::<u64>().ok())
            .filter(|n| (1..=1_000_000).contains(n))
        {
            Some(amount) => keys.set("concurrency", Doc::word(amount)),
            None => translation.model.left_out(&options.at, what, "`concurrency` is a number"),
        },
        "retry" => {
            let attempts =
                options.text("attempts").and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
            keys.set("retry.retries", Doc::word(attempts.saturating_sub(1).min(10)));
        }
        "compress" => {
            let codings = options.texts("encodings");
            if !codings.is_empty() {
                keys.set("compression.algorithms", Doc::texts(&codings));
            }
            let types = options.texts("includedContentTypes");
            if !types.is_empty() {
                set_types(&mut translation.model, &options.at, what, &types, keys);
            }
            let least = options.text("minResponseBodyBytes").and_then(|n| n.parse::<u64>().ok());
            keys.set("compression.min_size", size(least.unwrap_or(1_024)));
        }
        "errors" => super::errors::errors(translation, what, options, keys),
        other => without_keys(translation, what, other, options, keys),
    }
}

/// Middlewares that are not keys of a route.
fn without_keys(
    translation: &mut Translation<'_>,
    what: &str,
    kind: &str,
    options: &Tree,
    keys: &mut Map,
) {
    let (verdict, hint) = match kind {
        "circuitbreaker" => {
            (Verdict::Unneeded, "endpoints and clusters are ejected by their failures (`outlier`)")
        }
        "contenttype" => (Verdict::Unneeded, "responses keep the type of the cluster"),
        "buffering" => (
            Verdict::LeftOut,
            "bodies are streamed; set `limits.body` of the listener for the largest body",
        ),
        "passtlsclientcert" => (
            Verdict::Differs,
            "certificates of clients are in X-Forwarded-Client-Cert (`forwarded_client_cert`)",
        ),
        "plugin" => {
            close(keys);
            let hint =
                "there are no plugins: the route refuses all clients until you write what it did";
            (Verdict::LeftOut, hint)
        }
        _ => (Verdict::LeftOut, "the importer does not know this middleware"),
    };
    translation.model.note(verdict, &options.at, what, hint);
}

fn rewrite(
    translation: &mut Translation<'_>,
    what: &str,
    kind: &str,
    options: &Tree,
    when: &When,
    keys: &mut Map,
) {
    match kind {
        "stripprefix" => {
            let prefixes = options.texts("prefixes");
            let fits = |prefix: &&String| match &when.path {
                PathTest::Prefix(path) | PathTest::Exact(path) => path.starts_with(prefix.as_str()),
                PathTest::Regex(pattern) => pattern.starts_with(&regex::escape(prefix)),
            };
            match (prefixes.iter().find(fits), prefixes.as_slice()) {
                (Some(prefix), _) | (None, [prefix]) if prefix.starts_with('/') => {
                    keys.set("rewrite.strip_prefix", prefix.trim_end_matches('/'));
                    let why =
                        "the cluster does not get X-Forwarded-Prefix: set it by `request_headers`";
                    translation.model.differs(&options.at, what, why);
                }
                _ => translation.model.left_out(
                    &options.at,
                    what,
                    "a route strips one prefix: write one route for each",
                ),
            }
        }
        "addprefix" => keys
            .set("rewrite.add_prefix", options.text("prefix").unwrap_or("/").trim_end_matches('/')),
        "replacepath" => {
            keys.set("rewrite.path_regex.match", "^.*$");
            keys.set("rewrite.path_regex.replace", options.text("path").unwrap_or("/"));
        }
        "replacepathregex" => {
            let (pattern, to) = (
                options.text("regex").unwrap_or_default(),
                options.text("replacement").unwrap_or_default(),
            );
            match whole(pattern, false) {
                Ok(_) if !pattern.is_empty() => {
                    keys.set("rewrite.path_regex.match", pattern);
                    keys.set("rewrite.path_regex.replace", to);
                }
                Ok(_) | Err(_) => {
                    translation.model.left_out(&options.at, what, "its expression is not supported")
                }
            }
        }
        _ => translation.model.left_out(&options.at, what, "use `rewrite.path_regex`"),
    }
}

fn redirected(
    translation: &mut Translation<'_>,
    what: &str,
    kind: &str,
    options: &Tree,
    when: &When,
    keys: &mut Map,
) {
    let to = if kind == "redirectscheme" {
        let scheme = options.text("scheme").unwrap_or("https");
        let only_tls = when.listeners.iter().all(|name| {
            translation.listeners.iter().any(|point| point.listener == *name && point.tls)
        });
        if scheme == "https" && only_tls {
            translation.model.unneeded(
                &options.at,
                what,
                "the listeners of this router have TLS already",
            );
            return;
        }
        let port = options.text("port").filter(|port| !matches!(*port, "443" | "80"));
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        Some(format!("{scheme}://{{host}}{port}{{path}}?{{query}}"))
    } else {
        by_expression(
            options.text("regex").unwrap_or_default(),
            options.text("replacement").unwrap_or_default(),
        )
    };
    let Some(to) = to else {
        let hint = "write a route for the host with `redirect.to`; a redirect cannot have a part of the path";
        translation.model.left_out(&options.at, what, hint);
        return;
    };
    // A redirect is the whole answer of a route.
    keys.0.retain(|(key, _)| matches!(key.as_str(), "allow" | "deny" | "response_headers"));
    let status = if options.is_true("permanent") { 301 } else { 302 };
    redirect(keys, &to, status);
}

/// `^https?://HOST/(.*)` to `https://OTHER/${1}`: host and scheme change, the path stays.
fn by_expression(pattern: &str, to: &str) -> Option<String> {
    let rest = pattern.strip_prefix('^').unwrap_or(pattern);
    let rest = ["https?://", "http://", "https://", "(https?)://", "https?:\\/\\/"]
        .iter()
        .find_map(|start| rest.strip_prefix(start))?;
    let (host, path) = rest.split_once('/')?;
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-.\\".contains(c));
    let all = matches!(path.trim_end_matches('$'), "(.*)" | "(.+)" | ".*");
    let to = to.replace("${1}", "$1").replace("$$1", "$1");
    let target = to.strip_suffix("/$1")?;
    (plain && all && !target.contains('$'))
        .then(|| format!("{}{{path}}?{{query}}", literal(target)))
}

fn headers(translation: &mut Translation<'_>, what: &str, options: &Tree, keys: &mut Map) {
    for (key, side) in
        [("customRequestHeaders", "request_headers"), ("customResponseHeaders", "response_headers")]
    {
        for (name, tree) in options.entries(key) {
            let Value::Text(value) = &tree.value else { continue };
            let name = name.to_ascii_lowercase();
            match (value.is_empty(), name.as_str(), side) {
                (true, _, _) => keys.push(&format!("{side}.remove"), name),
                (false, "host", "request_headers") => keys.set("rewrite.host", value.as_str()),
                (false, _, _) => keys.put(&format!("{side}.set"), &name, literal(value)),
            }
        }
    }
    let mut set = |name: &str, value: &str| keys.put("response_headers.set", name, literal(value));
    if let Some(age) = options.text("stsSeconds").filter(|age| *age != "0") {
        let mut value = format!("max-age={age}");
        for (key, part) in
            [("stsIncludeSubdomains", "; includeSubDomains"), ("stsPreload", "; preload")]
        {
            if options.is_true(key) {
                value.push_str(part);
            }
        }
        set("strict-transport-security", &value);
    }
    if options.is_true("frameDeny") {
        set("x-frame-options", "DENY");
    }
    if options.is_true("contentTypeNosniff") {
        set("x-content-type-options", "nosniff");
    }
    if options.is_true("browserXssFilter") {
        set("x-xss-protection", "1; mode=block");
    }
    for (key, name) in [
        ("customFrameOptionsValue", "x-frame-options"),
        ("referrerPolicy", "referrer-policy"),
        ("contentSecurityPolicy", "content-security-policy"),
        ("permissionsPolicy", "permissions-policy"),
        ("customBrowserXSSValue", "x-xss-protection"),
    ] {
        if let Some(value) = options.text(key) {
            set(name, value);
        }
    }
    cors(options, keys);
    note_headers(translation, what, options);
}

/// Notes options of `headers` that are not translated.
fn note_headers(translation: &mut Translation<'_>, what: &str, options: &Tree) {
    let known = [
        "customrequestheaders",
        "customresponseheaders",
        "stsseconds",
        "stsincludesubdomains",
        "stspreload",
        "framedeny",
        "contenttypenosniff",
        "browserxssfilter",
        "customframeoptionsvalue",
        "referrerpolicy",
        "contentsecuritypolicy",
        "permissionspolicy",
        "custombrowserxssvalue",
        "addvaryheader",
        "isdevelopment",
        "forcestsheader",
    ];
    for (key, tree) in options.entries("") {
        let lower = key.to_ascii_lowercase();
        if !known.contains(&lower.as_str()) && !lower.starts_with("accesscontrol") {
            let hint = "write a redirect or `response_headers` for it";
            translation.model.left_out(&tree.at, &format!("{what}.{key}"), hint);
        }
    }
}

fn cors(options: &Tree, keys: &mut Map) {
    let origins = options.texts("accessControlAllowOriginList");
    if origins.is_empty() {
        return;
    }
    keys.set("cors.origins", Doc::texts(&origins));
    for (key, path) in [
        ("accessControlAllowMethods", "cors.methods"),
        ("accessControlAllowHeaders", "cors.headers"),
        ("accessControlExposeHeaders", "cors.expose"),
    ] {
        let values = options.texts(key);
        let any_method = path == "cors.methods" && values.iter().any(|value| value == "*");
        if !values.is_empty() && !any_method {
            keys.set(path, Doc::texts(&values));
        }
    }
    if let Some(age) = options.text("accessControlMaxAge").and_then(|age| age.parse::<f64>().ok()) {
        keys.set("cors.max_age", seconds(age.clamp(0.0, 86_400.0)));
    }
    if options.is_true("accessControlAllowCredentials")
        && !origins.iter().any(|origin| origin == "*")
    {
        keys.set("cors.credentials", Doc::word("true"));
    }
}

fn authentication(
    translation: &mut Translation<'_>,
    what: &str,
    kind: &str,
    options: &Tree,
    keys: &mut Map,
) {
    let closed = match kind {
        "basicauth" => basic(translation, what, options, keys).err(),
        "forwardauth" => match options.text("address") {
            Some(address) if address.starts_with("http://") || address.starts_with("https://") => {
                keys.set("auth.forward.url", address);
                let fields = options.texts("authResponseHeaders");
                if !fields.is_empty() {
                    keys.set("auth.forward.response_headers", Doc::texts(&fields));
                }
                None
            }
            Some(_) | None => Some("`auth.forward.url` is an http or https URL".to_owned()),
        },
        _ => Some("use `auth.basic_file`, over TLS".to_owned()),
    };
    if let Some(hint) = closed {
        let hint = format!("{hint}; until then the route refuses all clients");
        translation.model.left_out(&options.at, what, &hint);
        close(keys);
    }
}

/// Sets the password file of `basicAuth`: its `usersFile`, or a new file with its `users`.
///
/// # Errors
/// Why there is none, as a hint.
fn basic(
    translation: &mut Translation<'_>,
    what: &str,
    options: &Tree,
    keys: &mut Map,
) -> Result<(), String> {
    let (users, file) = (options.texts("users"), options.text("usersFile"));
    let Some(file) = file else {
        let user = |line: String| {
            let (name, hash) = line.split_once(':').unwrap_or((line.as_str(), ""));
            let (name, password) = (name.to_owned(), Password::Hash(hash.trim().to_owned()));
            User { name, password, at: options.at.clone() }
        };
        let users: Vec<User> = users.into_iter().map(user).collect();
        let stem = format!("traefik-{}", what.split('.').next().unwrap_or_default());
        let model = &mut translation.model;
        keys.set("auth.basic_file", password_file(model, translation.files, &stem, &users)?);
        return Ok(());
    };
    if !users.is_empty() {
        let hint = "a route has one password file: add these users to `usersFile`";
        translation.model.left_out(&options.at, &format!("{what}.users"), hint);
    }
    let path = beside(&translation.folder, file);
    let text = translation.files.read(std::path::Path::new(&path));
    if text.is_ok_and(|text| text.lines().any(super::super::model::is_old_hash)) {
        return Err("it has hashes that Tidegate refuses (only bcrypt and argon2): renew it by `htpasswd -B`".to_owned());
    }
    keys.set("auth.basic_file", path);
    Ok(())
}

fn rate(translation: &mut Translation<'_>, what: &str, options: &Tree, keys: &mut Map) {
    let number = |key: &str| {
        options
            .text(key)
            .and_then(|n| n.parse::<u64>().ok())
            .filter(|n| (1..=1_000_000_000).contains(n))
    };
    let Some(average) = number("average") else {
        translation.model.unneeded(&options.at, what, "without `average` there is no limit");
        return;
    };
    let mut map = Map::default();
    map.set("requests", Doc::word(average));
    map.set(
        "per",
        seconds(options.text("period").and_then(time).filter(|span| *span >= 0.001).unwrap_or(1.0)),
    );
    map.set("burst", Doc::word(number("burst").unwrap_or(1)));
    if let Some(header) = options.text("sourceCriterion.requestHeaderName") {
        map.set("key", format!("header:{}", header.to_ascii_lowercase()));
    } else if options.is_true("sourceCriterion.requestHost") {
        map.set("key", Doc::word("all"));
    }
    keys.set("rate_limit", map);
}
