//! Which keywords are translated, which need no translation, and what to do instead of the others.

use super::super::model::{Model, Verdict};
use super::parse::Section;

/// Keywords of `global` and `defaults` alone need no equivalent unless they are listed in [`LEFT_OUT`].
const TRANSLATED: &[&str] = &[
    "mode",
    "bind",
    "acl",
    "use_backend",
    "default_backend",
    "server",
    "default-server",
    "server-template",
    "balance",
    "http-request",
    "http-response",
    "redirect",
    "cookie",
    "http-check",
    "description",
    "hash-type",
    "retries",
    "stick-table",
    "stick",
    "compression",
    "errorfile",
    "errorfiles",
    "http-error",
    "tcp-request",
    "hash-balance-factor",
];

const OPTIONS: &[(&str, Option<&str>)] = &[
    ("httpchk", None),
    ("forwardfor", Some("X-Forwarded-For is always sent; `trusted_proxies` says whom to believe")),
    ("httplog", Some("the access log is on (`access_log`)")),
    ("tcplog", Some("the access log is on (`access_log`)")),
    ("dontlognull", Some("connections without a request are not logged")),
    ("dontlog-normal", Some("the access log has every exchange")),
    ("http-server-close", Some("connections to clusters are pooled")),
    ("http-keep-alive", Some("connections to clusters are pooled")),
    ("httpclose", Some("connections to clusters are pooled")),
    ("forceclose", Some("connections to clusters are pooled")),
    ("http-pretend-keepalive", Some("connections to clusters are pooled")),
    ("prefer-last-server", Some("connections to clusters are pooled")),
    ("redispatch", Some("a retry goes to another endpoint")),
    ("log-health-checks", Some("changes of state are logged")),
    ("log-separate-errors", Some("the level is in each message")),
    ("abortonclose", Some("a request whose client has left is dropped")),
    ("tcpka", Some("idle connections are probed automatically")),
    ("clitcpka", Some("idle connections are probed automatically")),
    ("srvtcpka", Some("idle connections are probed automatically")),
    ("tcp-check", Some("tcp probes are the default")),
    ("contstats", Some("metrics are continuous")),
    ("splice-auto", Some("tcp is forwarded in the kernel where possible")),
    ("socket-stats", Some("metrics are by listener")),
    ("tcp-smart-accept", Some("sockets are tuned automatically")),
    ("tcp-smart-connect", Some("sockets are tuned automatically")),
    ("http-use-htx", Some("it has no meaning any more")),
    ("originalto", Some("`X-Forwarded-Host` has the host")),
    ("allbackups", Some("all endpoints of the second cluster serve when the first is down")),
    ("http-buffer-request", Some("bodies are streamed, never buffered as a whole")),
    ("nolinger", Some("connections are closed gracefully")),
];

const UNNEEDED: &[(&str, &str)] = &[
    ("log", "messages go to standard error (`log`), exchanges to `access_log`"),
    ("log-format", "the access log is JSON or the common format (`access_log`)"),
    ("log-format-sd", "the access log is JSON or the common format (`access_log`)"),
    ("log-tag", "messages go to standard error (`log`)"),
    ("unique-id-format", "X-Request-Id is always sent"),
    ("unique-id-header", "X-Request-Id is always sent"),
    ("maxconn", "`limits.connections` of a listener is 100000; memory is bounded"),
    ("fullconn", "the capacity of a cluster is learned"),
    ("backlog", "the listen backlog is set automatically"),
    ("id", "names identify sections"),
    ("stats", "use the admin API: /metrics, /api/v1/status and the dashboard"),
    ("monitor-uri", "use /readyz of the admin API"),
    ("monitor", "use /readyz of the admin API"),
    ("http-reuse", "connections to clusters are pooled"),
    ("pool-max-conn", "connections to clusters are pooled"),
    ("pool-purge-delay", "connections to clusters are pooled"),
    ("load-server-state-from-file", "state is kept by `state_dir`"),
    ("rate-limit", "use `rate_limit` of a service"),
    ("disabled", "the section is not written"),
    ("enabled", "sections are enabled"),
    ("email-alert", "use alert rules over the metrics"),
    ("filter", "see `compression`"),
    ("declare", "the access log has fixed fields"),
    ("capture", "the access log has fixed fields"),
];

const LEFT_OUT: &[(&str, &str)] = &[
    (
        "use-server",
        "all endpoints of a cluster are alike: make a cluster for the server, and a route to it",
    ),
    ("dispatch", "list the address as an endpoint"),
    ("errorloc", "use `error_pages` with a file"),
    ("errorloc302", "use `error_pages` with a file"),
    ("errorloc303", "use `error_pages` with a file"),
    ("http-after-response", "use `response_headers`, which apply to Tidegate's own answers too"),
    ("http-send-name-header", "the cluster is `{cluster}` in a value of `request_headers`"),
    ("external-check", "use `probe` with http, tcp, tls or grpc"),
    ("force-persist", "use `affinity`"),
    ("ignore-persist", "use `affinity`"),
    ("persist", "use `affinity`"),
    ("tcp-response", "there is no inspection of responses"),
    ("tcp-check", "a tcp probe opens a connection; it sends nothing"),
    ("source", "the source address is chosen by the system"),
    ("reqrep", "use `rewrite` or `request_headers`"),
    ("reqirep", "use `rewrite` or `request_headers`"),
    ("reqadd", "use `request_headers`"),
    ("rspadd", "use `response_headers`"),
    ("rspidel", "use `response_headers`"),
    ("reqidel", "use `request_headers`"),
    ("rspdel", "use `response_headers`"),
    ("retry-on", "retries follow connection failures and 502, 503, 504 of idempotent requests"),
];

const TIMEOUTS: &[(&str, Option<&str>)] = &[
    ("client", None),
    ("http-request", None),
    ("http-keep-alive", None),
    ("connect", None),
    ("server", None),
    ("queue", None),
    ("check", None),
    ("tunnel", None),
    ("client-fin", None),
    ("server-fin", Some("`timeouts.half_close` of the listener bounds both sides")),
    ("tarpit", Some("refusals are immediate")),
];

/// Notes the lines that are not translated. What a section inherits is noted at its `defaults`.
pub(super) fn note(model: &mut Model, section: &Section) {
    let unused = match section.kind.as_str() {
        "global" => Some((
            Verdict::Unneeded,
            "limits, threads and cipher suites of the process are automatic",
        )),
        "defaults" | "frontend" | "backend" | "listen" => None,
        "resolvers" => Some((Verdict::Unneeded, "the name servers of /etc/resolv.conf are used")),
        "peers" | "mailers" | "ring" | "log-forward" | "traces" | "program" => Some((
            Verdict::Unneeded,
            "proxies share what they know by `fleet`; see the documentation",
        )),
        // Their users translate and note them.
        "userlist" | "http-errors" => return,
        _ => Some((Verdict::LeftOut, "this section has no equivalent")),
    };
    if let Some((verdict, hint)) = unused {
        let what = format!("{} {}", section.kind, section.name);
        model.note(verdict, &section.at, &what, hint);
        if section.kind == "global" {
            global(model, section);
        }
        return;
    }
    for line in &section.lines {
        let keyword = line.word(0);
        let find = |table: &[(&str, &'static str)]| {
            table.iter().find(|(known, _)| *known == keyword).map(|(_, hint)| *hint)
        };
        let of_word = |table: &[(&str, Option<&'static str>)]| {
            table.iter().find(|(known, _)| *known == line.word(1)).map(|(_, why)| *why)
        };
        match keyword {
            keyword if TRANSLATED.contains(&keyword) => {}
            "option" | "timeout" => {
                match of_word(if keyword == "option" { OPTIONS } else { TIMEOUTS }) {
                    Some(Some(why)) => model.unneeded(&line.at, &line.shown(), why),
                    Some(None) => {}
                    None => model.left_out(&line.at, &line.shown(), "it has no equivalent"),
                }
            }
            "no" => model.unneeded(&line.at, &line.shown(), "the option is not set"),
            _ => match (find(UNNEEDED), find(LEFT_OUT)) {
                (Some(why), _) => model.unneeded(&line.at, &line.shown(), why),
                (None, Some(hint)) => model.left_out(&line.at, &line.shown(), hint),
                (None, None) => model.left_out(
                    &line.at,
                    &line.shown(),
                    "the importer does not know this keyword",
                ),
            },
        }
    }
}

/// Keywords of `global` with an effect on requests.
fn global(model: &mut Model, section: &Section) {
    for line in &section.lines {
        match line.word(0) {
            word if word.starts_with("lua-") => {
                let hint =
                    "there is no scripting: move the logic to the application or to `auth.forward`";
                model.left_out(&line.at, &line.shown(), hint);
            }
            "ssl-default-bind-options" if line.words.iter().any(|w| w.starts_with("no-tlsv13")) => {
                model.differs(&line.at, &line.shown(), "TLS 1.3 cannot be disabled");
            }
            _ => {}
        }
    }
}
