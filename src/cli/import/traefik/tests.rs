//! Single parts of Traefik's configuration, as whole imports.

use super::super::tests::{has, traefik};
use super::super::write::Written;

/// Routers on two entry points with TLS and a certificate; `options` follow under `tls`.
fn with_tls(routers: &str, options: &str) -> Written {
    let text = format!(
        "entryPoints:\n  web: {{ address: \":80\" }}\n  websecure: {{ address: \":443\" }}\n\
         http:\n  routers:\n{routers}\n  services: {{ s: {{ loadBalancer: {{ servers: [{{ url: \"http://10.0.0.1\" }}] }} }} }}\n\
         tls:\n  certificates: [{{ certFile: a.pem, keyFile: a.key }}]\n  options:\n{options}\n"
    );
    traefik(&[("t.yml", &text)])
}

fn router(name: &str, tls: &str) -> String {
    format!(
        "    {name}: {{ entryPoints: [websecure], rule: \"Host(`{name}.example`)\", service: s, tls: {tls} }}\n"
    )
}

fn lacks(written: &Written, part: &str) {
    assert!(!written.text.contains(part), "{part}\n{}", written.text);
}

#[test]
fn tls_options_are_keys_of_the_listener() {
    let options = "    strict:\n      minVersion: VersionTLS13\n      sniStrict: false\n      alpnProtocols: [http/1.1]\n      \
                   clientAuth: { caFiles: [ca.pem], clientAuthType: RequireAndVerifyClientCert }";
    let routers = router("a", "{ options: strict }") + &router("b", "{ options: \"strict@file\" }");
    let written = with_tls(&routers, options);
    has(&written, "min_version: \"1.3\"");
    has(&written, "client_ca: /etc/imported/ca.pem");
    has(&written, "alpn: [http/1.1]");
    lacks(&written, "deny");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn the_default_options_hold_for_routers_without_options() {
    let options = "    default: { minVersion: VersionTLS13, cipherSuites: [TLS_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA] }\n    \
                   unused: { minVersion: VersionTLS12 }";
    let written = with_tls(&router("a", "{}"), options);
    has(&written, "min_version: \"1.3\"");
    has(
        &written,
        "t.yml:12: `tls.options.default.cipherSuites`: the cipher suites are all those of rustls",
    );
    has(&written, "these are not among them: TLS_RSA_WITH_AES_128_CBC_SHA");
    has(&written, "t.yml:13: `tls.options.unused`: no router uses these options");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn the_newest_version_holds_for_all_routers_of_an_entry_point() {
    let options =
        "    new:\n      minVersion: VersionTLS13\n    old:\n      minVersion: VersionTLS11";
    let routers = router("a", "{ options: new }") + &router("b", "{ options: old }");
    let written = with_tls(&routers, options);
    has(&written, "min_version: \"1.3\"");
    has(
        &written,
        "`tls.options.new.minVersion`: a listener has one version: it holds for all routers of `websecure`",
    );
    has(&written, "`tls.options.old.minVersion`: TLS 1.2 is the oldest version");
}

#[test]
fn a_client_certificate_that_cannot_be_demanded_closes_the_route() {
    let demands = "    strict: { clientAuth: { caFiles: [ca.pem] } }";
    let routers = router("a", "{ options: strict }") + &router("b", "{}");
    let written = with_tls(&routers, demands);
    lacks(&written, "client_ca:");
    has(&written, "hosts: [a.example], path_prefix: /, service: s, deny: [0.0.0.0/0, \"::/0\"]");
    has(&written, "hosts: [b.example], path_prefix: /, service: s }");
    has(&written, "`http.routers.a.tls.options: strict`: the listener `websecure` cannot demand");
    assert!(written.left_out);

    for (options, part) in [
        (
            "    strict: { clientAuth: { clientAuthType: RequireAnyClientCert } }",
            "strict.clientAuth",
        ),
        (
            "    strict: { clientAuth: { caFiles: [\"-----BEGIN CERTIFICATE-----\"] } }",
            "write the authorities",
        ),
        ("    other: {}", "no file defines the options"),
    ] {
        let written = with_tls(&router("a", "{ options: strict }"), options);
        has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
        has(&written, part);
    }
    // What a client may leave out protects nothing.
    let optional =
        "    lax: { clientAuth: { caFiles: [ca.pem], clientAuthType: VerifyClientCertIfGiven } }";
    let written = with_tls(&router("a", "{ options: lax }"), optional);
    lacks(&written, "deny");
    has(&written, "`tls.options.lax.clientAuth`: client certificates are demanded");
    // Of several authorities, the clients of the first alone are accepted.
    let several = "    strict: { clientAuth: { caFiles: [ca.pem, cb.pem] } }";
    let written = with_tls(&router("a", "{ options: strict }"), several);
    has(&written, "client_ca: /etc/imported/ca.pem");
    assert!(written.left_out);
}

#[test]
fn users_in_the_configuration_are_a_password_file_beside_it() {
    let hash = "$2y$05$abcdefghijklmnopqrstuu5s2v.GhdVUNQXhLpwCxzGUHSbLVCXmW";
    let with = |users: &str| {
        traefik(&[(
            "t.yml",
            &format!(
                "entryPoints: {{ web: {{ address: \":80\" }} }}\nhttp:\n  routers:\n    r: {{ rule: \"Path(`/`)\", service: s, middlewares: [m] }}\n  \
                 services: {{ s: {{ loadBalancer: {{ servers: [{{ url: \"http://10.0.0.1\" }}] }} }} }}\n  middlewares:\n    m:\n      basicAuth: {{ {users} }}\n"
            ),
        )])
    };
    let written = with(&format!("users: [\"ann:{hash}\", \"eve:$apr1$x$y\"]"));
    has(&written, "auth: { basic_file: traefik-m.users }");
    has(&written, "t.yml:8: `user eve`: its hash is neither bcrypt nor argon2");
    assert_eq!(written.companions[0].text, format!("ann:{hash}\n"));
    lacks(&written, hash);
    let written = with("users: [\"eve:$apr1$x$y\"]");
    has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
    assert!(written.companions.is_empty());
    let both = with(&format!("users: [\"ann:{hash}\"], usersFile: /nowhere/users"));
    has(&both, "`m.basicAuth.users`: a route has one password file");
}

/// A router with the middleware `errors`, and pages beside the file.
fn with_errors(errors: &str, pages: &[&str]) -> Written {
    let text = format!(
        "entryPoints: {{ web: {{ address: \":80\" }} }}\nhttp:\n  routers:\n    r: {{ rule: \"Path(`/`)\", service: s, middlewares: [e] }}\n  \
         services: {{ s: {{ loadBalancer: {{ servers: [{{ url: \"http://10.0.0.1\" }}] }} }} }}\n  middlewares:\n    e:\n      errors: {errors}\n"
    );
    let mut files = vec![("t.yml", text.as_str())];
    files.extend(pages.iter().map(|page| (*page, "<p>{reason}</p>")));
    traefik(&files)
}

#[test]
fn errors_with_files_beside_the_configuration_are_error_pages() {
    let errors = "{ status: [\"502-504\"], service: pages, query: \"/errors/{status}.html\" }";
    let pages =
        ["/etc/imported/errors/502.html", "/etc/imported/503.html", "/etc/imported/504.html"];
    let written = with_errors(errors, &pages);
    for page in pages {
        has(&written, page);
    }
    has(
        &written,
        "t.yml:8: `e.errors`: the pages are files, and replace Tidegate's own answers alone",
    );
    assert!(!written.left_out, "{:?}", written.remarks);

    let whole = "{ status: [\"500-599\"], service: pages, query: /sorry.html }";
    let written = with_errors(whole, &["/etc/imported/sorry.html"]);
    has(&written, "error_pages: { 5xx: /etc/imported/sorry.html }");
}

#[test]
fn errors_without_a_file_or_a_status_of_tidegate_are_listed() {
    let errors = "{ status: [\"503\"], service: pages, query: \"/{status}.html\" }";
    let written = with_errors(errors, &[]);
    has(
        &written,
        "t.yml:8: `e.errors: 503`: no page for 503: the page `/etc/imported/503.html` cannot be read",
    );
    lacks(&written, "error_pages:");
    let written =
        with_errors("{ status: [\"500\", \"402\"], query: /a.html }", &["/etc/imported/a.html"]);
    has(&written, "`e.errors: 500`: Tidegate never answers these statuses itself");
    has(&written, "`e.errors: 402`: Tidegate never answers these statuses itself");
    let written = with_errors(
        "{ status: [\"503\"], query: \"/?u={url}\", statusRewrites: { \"503\": 500 } }",
        &[],
    );
    has(&written, "`/` is no name of a file");
    has(
        &written,
        "`e.errors.statusRewrites`: a page has the status of the answer that it replaces",
    );
    for query in ["/../../etc/a.html", "/a/{url}.html"] {
        let written = with_errors(&format!("{{ status: [\"503\"], query: \"{query}\" }}"), &[]);
        has(&written, "is no name of a file");
    }
}
