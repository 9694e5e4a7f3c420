//! Access control, rate limits, compression, error pages and shares of traffic.
//!
//! A route whose access control cannot be translated refuses all clients: it must not be open by mistake.

use super::super::capabilities::close;
use super::super::compression::set_types;
use super::super::document::{Doc, Map};
use super::super::files::beside;
use super::super::model::{Origin, Rule, When, is_old_hash, size};
use super::super::pages::usable;
use super::Translation;
use super::condition::rule;
use super::parse::Directive;
use super::upstream::target;
use super::values::{Scope, bytes};

/// Sets the policies of a scope.
pub(super) fn policies(translation: &mut Translation<'_>, scope: &Scope<'_>, keys: &mut Map) {
    let mut closed = access(translation, scope, keys);
    closed |= authentication(translation, scope, keys);
    if let Some(satisfy) = scope.last("satisfy").filter(|d| d.word(0) == "any") {
        let hint =
            "access rules and authentication both apply here: `satisfy any` has no equivalent";
        translation.model.differs(&satisfy.at, &satisfy.shown(), hint);
    }
    rate(translation, scope, keys);
    connections(translation, scope, keys);
    if closed {
        close(keys);
    }
}

/// `allow` and `deny`; whether the route must be closed.
fn access(translation: &mut Translation<'_>, scope: &Scope<'_>, keys: &mut Map) -> bool {
    let Some(level) = scope
        .levels
        .iter()
        .rev()
        .find(|level| level.iter().any(|d| matches!(d.name.as_str(), "allow" | "deny")))
    else {
        return false;
    };
    let rules: Vec<&Directive> =
        level.iter().filter(|d| matches!(d.name.as_str(), "allow" | "deny")).collect();
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for (index, directive) in rules.iter().enumerate() {
        let network = directive.word(0);
        let is_last = index + 1 == rules.len();
        if network == "all" {
            let useless = directive.name == "allow" && !deny.is_empty() && allow.is_empty()
                || directive.name == "allow" && rules.len() == 1;
            let needed = directive.name == "deny";
            if needed && allow.is_empty() {
                deny = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
            } else if !needed && !useless && !allow.is_empty() {
                // Everybody who is not denied before.
                allow.clear();
            }
            if !is_last {
                translation.model.unneeded(
                    &rules[index + 1].at,
                    &rules[index + 1].shown(),
                    "it follows `all`",
                );
            }
            break;
        }
        let parsed = parsed(network);
        let conflicts = |known: &String| {
            let both = self::parsed(known).zip(parsed);
            both.is_some_and(|(known, own)| own.contains(&known) || known.contains(&own))
        };
        // A denial precedes every permission in Tidegate; in nginx the first rule that matches decides.
        if parsed.is_none() || directive.name == "deny" && allow.iter().any(conflicts) {
            let hint = "`deny` precedes `allow`, and both list networks: the route is closed until you write them";
            translation.model.left_out(&directive.at, &directive.shown(), hint);
            return true;
        }
        if directive.name == "allow" {
            allow.push(network.to_owned());
        } else {
            deny.push(network.to_owned());
        }
        if is_last && directive.name == "allow" {
            // Without `deny all` everybody else is allowed, too.
            allow.clear();
        }
    }
    if !allow.is_empty() && rules.last().is_some_and(|d| d.name == "deny" && d.word(0) != "all") {
        allow.clear();
    }
    if !allow.is_empty() {
        keys.set("allow", Doc::texts(&allow));
    }
    if !deny.is_empty() {
        keys.set("deny", Doc::texts(&deny));
    }
    false
}

/// `auth_basic` and `auth_request`; whether the route must be closed.
fn authentication(translation: &mut Translation<'_>, scope: &Scope<'_>, keys: &mut Map) -> bool {
    if let Some(request) = scope.last("auth_request").filter(|d| d.word(0) != "off") {
        return external(translation, scope, request, keys);
    }
    let is_on = |d: &&Directive| scope.expanded(d.word(0)) != "off";
    let Some(basic) = scope.last("auth_basic").filter(is_on) else { return false };
    let Some(file) = scope.last("auth_basic_user_file") else {
        translation.model.left_out(
            &basic.at,
            &basic.shown(),
            "there is no `auth_basic_user_file`: the route is closed",
        );
        return true;
    };
    let path = beside(&translation.folder, file.word(0));
    if let Ok(text) = translation.files.read(std::path::Path::new(&path))
        && text.lines().any(is_old_hash)
    {
        let hint = "it has hashes that Tidegate refuses (only bcrypt and argon2): renew it by `htpasswd -B`; until then the route is closed";
        translation.model.left_out(&file.at, &file.shown(), hint);
        return true;
    }
    keys.set("auth.basic_file", path);
    false
}

fn external(
    translation: &mut Translation<'_>,
    scope: &Scope<'_>,
    request: &Directive,
    keys: &mut Map,
) -> bool {
    let is_it = |d: &&Directive| {
        d.name == "location" && d.words.last().map(String::as_str) == Some(request.word(0))
    };
    let location = scope.levels.iter().flat_map(|level| level.iter()).find(is_it);
    let pass =
        location.and_then(|location| location.inner().iter().find(|d| d.name == "proxy_pass"));
    let found = pass.map(|pass| scope.expanded(pass.word(0)));
    let found = found.and_then(|text| target(&text).map(|target| (text, target)));
    match found {
        Some((url, target)) if !url.contains('$') && !target.address.starts_with("unix:") => {
            let is_name = translation
                .http
                .iter()
                .any(|d| d.name == "upstream" && d.word(0) == target.address);
            if !is_name {
                let path = target.uri.clone().unwrap_or_else(|| request.word(0).to_owned());
                let scheme = if target.tls { "https" } else { "http" };
                keys.set("auth.forward.url", format!("{scheme}://{}{path}", target.address));
                return false;
            }
        }
        Some(_) | None => {}
    }
    let hint =
        "write `auth.forward.url` with the address of the service; until then the route is closed";
    translation.model.left_out(&request.at, &request.shown(), hint);
    true
}

fn rate(translation: &mut Translation<'_>, scope: &Scope<'_>, keys: &mut Map) {
    let limits = scope.all("limit_req");
    for (index, limit) in limits.iter().enumerate() {
        let option = |key: &str| limit.words.iter().find_map(|word| word.strip_prefix(key));
        let zone = option("zone=").unwrap_or_default();
        let is_it = |d: &&Directive| {
            d.name == "limit_req_zone"
                && d.words.iter().any(|w| {
                    w.strip_prefix("zone=").is_some_and(|z| z.split(':').next() == Some(zone))
                })
        };
        let known = translation.http.iter().find(is_it);
        let rate = known.and_then(|zone| zone.words.iter().find_map(|w| w.strip_prefix("rate=")));
        let (Some(known), Some((requests, per))) = (known, rate.and_then(rate_of)) else {
            translation.model.left_out(
                &limit.at,
                &limit.shown(),
                "its `limit_req_zone` is not known",
            );
            continue;
        };
        let Some(key) = rate_key(known.word(0)) else {
            let hint = "the key of `rate_limit` is client_ip, all or header:NAME";
            translation.model.left_out(&limit.at, &limit.shown(), hint);
            continue;
        };
        if index > 0 {
            let hint = "a route has one rate limit: set the other at the service";
            translation.model.left_out(&limit.at, &limit.shown(), hint);
            continue;
        }
        let burst = option("burst=").and_then(|burst| burst.parse::<u64>().ok()).unwrap_or(0);
        let mut map = Map::default();
        map.set("requests", Doc::word(requests));
        map.set("per", Doc::word(per));
        // nginx counts the requests beyond the rate.
        map.set("burst", Doc::word(burst + 1));
        if key != "client_ip" {
            map.set("key", key);
        }
        keys.set("rate_limit", map);
        if burst > 0 && !limit.words.iter().any(|word| word == "nodelay") {
            let hint = "requests within the burst pass at once; nginx delays them";
            translation.model.differs(&limit.at, &limit.shown(), hint);
        }
    }
}

fn rate_of(text: &str) -> Option<(u64, &'static str)> {
    let (number, per) = match text.strip_suffix("r/s") {
        Some(number) => (number, "1s"),
        None => (text.strip_suffix("r/m")?, "1m"),
    };
    number.parse().ok().filter(|n| (1..=1_000_000_000).contains(n)).map(|number| (number, per))
}

fn rate_key(variable: &str) -> Option<String> {
    match variable.trim_start_matches('$') {
        "binary_remote_addr" | "remote_addr" => Some("client_ip".to_owned()),
        "server_name" | "host" | "http_host" => Some("all".to_owned()),
        name => {
            let header = name.strip_prefix("http_")?;
            let plain = header.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            plain.then(|| format!("header:{}", header.replace('_', "-")))
        }
    }
}

fn connections(translation: &mut Translation<'_>, scope: &Scope<'_>, keys: &mut Map) {
    for limit in scope.all("limit_conn") {
        let is_it = |d: &&Directive| {
            d.name == "limit_conn_zone"
                && d.words.iter().any(|w| {
                    w.strip_prefix("zone=")
                        .is_some_and(|z| z.split(':').next() == Some(limit.word(0)))
                })
        };
        let key =
            translation.http.iter().find(is_it).map(|zone| zone.word(0).trim_start_matches('$'));
        let number = limit.word(1).parse::<u64>().ok().filter(|n| (1..=1_000_000).contains(n));
        match (key, number) {
            (Some("server_name"), Some(number)) => keys.set("concurrency", Doc::word(number)),
            _ => {
                let hint = "set `limits.connections_per_client` of the listener, or `concurrency` of the service";
                translation.model.left_out(&limit.at, &limit.shown(), hint);
            }
        }
    }
}

/// `limit_except`: other methods get the policies inside of it.
pub(super) fn limit_except(
    translation: &mut Translation<'_>,
    scope: &Scope<'_>,
    when: &mut When,
    keys: &Map,
    group: &mut Vec<Rule>,
) {
    let own: &[Directive] = scope.levels.last().copied().unwrap_or_default();
    let Some(except) = own.iter().find(|d| d.name == "limit_except") else { return };
    let mut methods = except.words.clone();
    if methods.iter().any(|method| method == "GET")
        && !methods.iter().any(|method| method == "HEAD")
    {
        methods.push("HEAD".to_owned());
    }
    let listed = When { methods, ..when.clone() };
    group.push(rule(&except.at, listed, keys.clone()));
    // What follows is for all other methods.
    let mut rest = keys.clone();
    policies(translation, &scope.inside(except.inner()), &mut rest);
    group.push(rule(&except.at, when.clone(), rest));
}

/// The parts of `split_clients`, if the target is its variable.
pub(super) fn split(
    translation: &mut Translation<'_>,
    text: &str,
    scope: &Scope<'_>,
    at: &Origin,
) -> Option<Map> {
    let (scheme, variable) = text.split_once("://$")?;
    let http = translation.http;
    let clients = http
        .iter()
        .find(|d| d.name == "split_clients" && d.word(1).strip_prefix('$') == Some(variable))?;
    let mut split = Map::default();
    let mut rest = 10_000_u64;
    for part in clients.inner() {
        let share = match part.name.as_str() {
            "*" => rest,
            percent => {
                let percent: f64 = percent.strip_suffix('%')?.parse().ok()?;
                (percent.clamp(0.0, 100.0) * 100.0).round() as u64
            }
        };
        rest = rest.saturating_sub(share);
        let target = target(&format!("{scheme}://{}", part.word(0)))?;
        let service = translation.service(&target, scope, at);
        split.set_key(&service, Doc::word(share));
    }
    let hint = "the share is drawn for each request, unless `affinity` keeps a client";
    translation.model.differs(&clients.at, &clients.shown(), hint);
    (!split.0.is_empty()).then_some(split)
}

/// `gzip` as `compression`.
pub(super) fn compression(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) {
    if scope.last("gzip").is_none_or(|gzip| gzip.word(0) != "on") {
        return;
    }
    keys.set("compression.algorithms", Doc::texts(&["gzip"]));
    let mut types = vec!["text/html".to_owned()];
    match scope.last("gzip_types") {
        None => keys.set("compression.types", Doc::texts(&types)),
        Some(written) => {
            types.extend(written.words.iter().filter(|word| *word != "text/html").cloned());
            set_types(&mut translation.model, &written.at, &written.shown(), &types, keys);
        }
    }
    let min = scope.last("gzip_min_length").and_then(|d| bytes(d.word(0))).unwrap_or(20);
    keys.set("compression.min_size", size(min));
}

/// `error_page` with files.
pub(super) fn error_pages(translation: &mut Translation<'_>, keys: &mut Map, scope: &Scope<'_>) {
    for directive in scope.all("error_page") {
        let Some((page, statuses)) = directive.words.split_last() else { continue };
        let file = page.starts_with('/').then(|| file_of(scope, page)).flatten();
        let plain = statuses
            .iter()
            .all(|status| status.parse::<u16>().is_ok_and(|s| (400..600).contains(&s)));
        match (file, plain && !statuses.is_empty()) {
            (Some(file), true) => {
                let file = beside(&translation.folder, &file);
                if let Err(hint) = usable(translation.files, &file) {
                    translation.model.left_out(&directive.at, &directive.shown(), &hint);
                    continue;
                }
                for status in statuses {
                    keys.put("error_pages", status, file.as_str());
                }
            }
            _ => {
                let hint = "`error_pages` names a file for a status; it replaces Tidegate's own answers only";
                translation.model.left_out(&directive.at, &directive.shown(), hint);
            }
        }
    }
}

/// The file that a page is served from.
fn file_of(scope: &Scope<'_>, page: &str) -> Option<String> {
    let named = scope
        .levels
        .iter()
        .flat_map(|level| level.iter())
        .find(|d| d.name == "location" && d.words.last().map(String::as_str) == Some(page));
    let inside = named.map_or_else(|| scope.clone(), |location| scope.inside(location.inner()));
    let root = inside.last("root")?.word(0).trim_end_matches('/').to_owned();
    (!root.contains('$')).then(|| format!("{root}{page}"))
}

fn parsed(network: &str) -> Option<ipnet::IpNet> {
    let address = || network.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
    network.parse::<ipnet::IpNet>().ok().or_else(address)
}
