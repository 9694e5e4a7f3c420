//! Single directives of nginx, as whole imports.

use super::super::tests::{has, nginx, table};
use super::super::write::Written;
use super::super::{Format, tests};

fn lacks(written: &Written, part: &str) {
    assert!(!written.text.contains(part), "{part}\n{}", written.text);
}

/// A server with a location, and maps before it.
fn with_maps(maps: &str, location: &str) -> Written {
    nginx(&format!(
        "{maps}\nupstream a {{ server 10.0.0.1; }}\nupstream b {{ server 10.0.0.2; }}\n\
         server {{ server_name x.example; location / {{ proxy_set_header Host $host; {location} }} }}\n"
    ))
}

#[test]
fn a_map_that_chooses_the_upstream_is_a_route_for_each_value() {
    let maps = "map $http_x_tier $pool { default a; gold b; 7 b; }";
    let written = with_maps(maps, "proxy_pass http://$pool;");
    has(&written, "match: { headers: { x-tier: { regex: \"(?i)gold\" } } }");
    has(&written, "headers: { x-tier: \"7\" }");
    has(&written, "service: b");
    has(&written, "{ path_prefix: /, service: a }");
    assert!(!written.left_out, "{:?}", written.remarks);

    // A field that is missing has the empty value; a value may be a whole URL.
    let maps = "map $arg_v $pool { '' http://10.0.0.9; default http://a; }";
    let written = with_maps(maps, "proxy_pass $pool;");
    has(&written, "not: { query: { v: { present: true } } }");
    has(&written, "endpoints: [10.0.0.9:80]");
    assert!(!written.left_out, "{:?}", written.remarks);

    // Without a default, nginx has no upstream for the other requests.
    let written = with_maps("map $cookie_beta $pool { 1 b; }", "proxy_pass http://$pool;");
    has(&written, "cookie: { regex: \"(.*; *)?beta=(?i:1)(;.*)?\" }");
    has(&written, "respond: { status: 500 }");
}

#[test]
fn a_map_of_the_host_the_method_or_the_client_is_a_condition() {
    let maps = "map $request_method $pool { default a; POST b; }";
    has(&with_maps(maps, "proxy_pass http://$pool;"), "methods: [POST], service: b");
    let maps = "map $remote_addr $pool { default a; 192.0.2.1 b; }";
    has(&with_maps(maps, "proxy_pass http://$pool;"), "match: { client: [192.0.2.1] }");
    let written = nginx(
        "map $host $pool { hostnames; default a; .b.example b; c.example b; }\nupstream a { server 10.0.0.1; }\n\
         upstream b { server 10.0.0.2; }\nserver { location / { proxy_pass http://$pool; proxy_set_header Host $host; } }\n",
    );
    has(&written, "hosts: [b.example, \"*.b.example\"]");
    has(&written, "hosts: [c.example]");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn a_map_in_a_field_has_its_value_in_each_route() {
    let maps = "map $http_x_tier $label { default bronze; gold \"first class\"; '' ''; }";
    let written = with_maps(
        maps,
        "proxy_pass http://a; proxy_set_header X-Label $label; add_header X-Seen \"$label!\";",
    );
    has(&written, "x-label: first class");
    has(&written, "x-label: bronze");
    has(&written, "remove: [x-label]");
    has(&written, "x-seen: \"first class!\"");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn a_map_of_paths_is_a_redirect_for_each_path() {
    let written = nginx(
        "map $request_uri $moved { default ''; /old/a /new/a; ~^/v1/ https://x.example/; }\n\
         server { if ($moved) { return 301 $moved; } location / { proxy_pass http://10.0.0.1; } }\n",
    );
    has(&written, "path: /old/a, redirect: { to: /new/a, status: 301 }");
    has(&written, "path_regex: /v1/.*, redirect: { to: https://x.example/, status: 301 }");
    has(
        &written,
        "`map $request_uri $moved`: paths are compared with their case, and without the query",
    );
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn a_map_decides_an_if() {
    let written = with_maps(
        "map $http_user_agent $is_robot { default 0; ~*robot 1; }",
        "if ($is_robot = 1) { return 403; } proxy_pass http://a;",
    );
    has(
        &written,
        "match: { headers: { user-agent: { regex: \"(?i).*robot.*\" } } }\n    respond: { status: 403 }",
    );
    assert!(!written.left_out, "{:?}", written.remarks);
    // The realm is off for these clients alone.
    let files = table(&[(
        "nginx.conf",
        "map $remote_addr $realm { default x; 10.0.0.1 off; }\nserver { auth_basic $realm; auth_basic_user_file users; location / { proxy_pass http://10.0.0.2; } }\n",
    )]);
    let written = tests::run(Format::Nginx, &files, "nginx.conf");
    // The file is on another machine, so the route that needs it is closed.
    has(&written, "match: { client: [10.0.0.1] }, service: 10.0.0.2 }");
    has(&written, "{ path_prefix: /, service: 10.0.0.2, deny: [0.0.0.0/0, \"::/0\"] }");
}

#[test]
fn a_map_by_scheme_follows_the_listeners() {
    let written = nginx(
        "map $scheme $hsts { https max-age=60; }\nserver { listen 80; listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key;\n\
         location / { add_header Strict-Transport-Security $hsts; proxy_pass http://10.0.0.1; } }\n",
    );
    has(&written, "listeners: [web-tls]");
    assert_eq!(
        written.text.matches("strict-transport-security: max-age=60").count(),
        1,
        "{}",
        written.text
    );
}

#[test]
fn the_map_of_upgrades_needs_no_equivalent() {
    let written = with_maps(
        "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\nmap $http_a $nobody { default 1; }",
        "proxy_pass http://a; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;",
    );
    has(
        &written,
        "`map $http_upgrade $connection_upgrade`: Tidegate sends X-Forwarded-*, X-Request-Id and upgrades by itself",
    );
    has(&written, "nginx.conf:2: `map $http_a $nobody`: nothing uses it");
    lacks(&written, "match:");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn a_map_that_has_no_equivalent_is_listed_with_its_line() {
    for (map, part) in [
        ("map $msec $pool { default a; ~5$ b; }", "a map of `$msec` has no equivalent"),
        ("map $http_a$http_b $pool { default a; 1 b; }", "its source is not one variable"),
        (
            "map $http_a $pool { default a; ~^(b)$ $1; }",
            "the value of `~^(b)$` has a part of the match",
        ),
        ("map $http_a $pool { default a; ~.* b; }", "`.*` accepts a missing field, too"),
        ("map $host $pool { default a; ~^x b; }", "hosts are exact, or begin with `*.`"),
        ("map $host $pool { hostnames; default a; x.* b; }", "hosts are exact, or begin with `*.`"),
    ] {
        let written = with_maps(map, "proxy_pass http://$pool;");
        has(&written, "nginx.conf:1: `map ");
        has(&written, part);
        has(&written, "`proxy_pass http://$pool`: the target depends on the request");
        assert!(written.left_out, "{:?}", written.remarks);
    }
    let many: String = (0..300).map(|n| format!("/p{n} /q{n};")).collect();
    let written = with_maps(
        &format!("map $uri $moved {{ {many} }}"),
        "if ($moved) { return 301 $moved; } proxy_pass http://a;",
    );
    has(&written, "it makes more than 256 routes");
    let written = with_maps(
        "map $http_a $key { default ''; 1 $remote_addr; }\nlimit_req_zone $key zone=z:1m rate=1r/s;",
        "proxy_pass http://a; limit_req zone=z;",
    );
    has(
        &written,
        "nginx.conf:1: `map $http_a $key`: `limit_req_zone` cannot depend on the request (line 2)",
    );
    let written = with_maps(
        "map $status $loggable { default 1; }",
        "access_log /dev/stdout combined if=$loggable; proxy_pass http://a;",
    );
    has(&written, "`map $status $loggable`: the access log has every exchange");
}
