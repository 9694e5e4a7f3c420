//! Single lines of HAProxy, as whole imports.

use super::super::Format;
use super::super::tests::{haproxy, has, passes, run, table};
use super::super::write::Written;

const LIST: &str = "userlist staff\n group admins users ann\n user ann insecure-password secret\n \
                    user bob password $2b$04$aaaaaaaaaaaaaaaaaaaaaO2GEYAjDzDJYEfyBOl4n3JAsPEGhmLd. groups readers,others\n \
                    user eve password $5$salt$hash\n";

/// A frontend with these lines, and a backend.
fn with_lists(lines: &str) -> Written {
    haproxy(&format!(
        "{LIST}frontend f\n mode http\n bind :80\n{lines} default_backend b\nbackend b\n mode http\n server s 10.0.0.1:80\n"
    ))
}

fn names(written: &Written, file: &str) -> Vec<String> {
    let found = written.companions.iter().find(|companion| companion.name == file);
    let found = found.unwrap_or_else(|| panic!("{file}\n{}", written.text));
    found.text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn a_userlist_is_a_password_file_beside_the_configuration() {
    let written = with_lists(" http-request auth realm x unless { http_auth(staff) }\n");
    has(&written, "{ path_prefix: /, service: b, auth: { basic_file: haproxy-staff.users } }");
    assert_eq!(names(&written, "haproxy-staff.users"), ["ann", "bob"]);
    has(&written, "haproxy.cfg:5: `user eve`: its hash is neither bcrypt nor argon2");
    has(
        &written,
        "`haproxy-staff.users`: it has the bcrypt hashes of passwords that were in clear text",
    );
    assert!(!written.text.contains("secret") && !written.text.contains("$2b$"));
}

#[test]
fn groups_and_exceptions_of_authentication_are_kept() {
    let lines = " acl admin http_auth_group(staff) admins\n acl open path /health\n \
                 http-request auth if { path_beg /admin/ } !admin\n http-request auth unless { http_auth_group(staff) readers } or open\n";
    let written = with_lists(lines);
    assert_eq!(names(&written, "haproxy-staff-readers.users"), ["bob"]);
    has(&written, "path: /health, service: b }");
    has(&written, "path_prefix: /, service: b, auth: { basic_file: haproxy-staff-readers.users }");
    // Both lines demand a password of one request: that cannot be expressed.
    has(&written, "path_prefix: /admin/, service: b, deny: [0.0.0.0/0, \"::/0\"]");
    has(&written, "a route has one password file");
    let only = with_lists(
        " http-request auth if { path_beg /admin/ } !{ http_auth_group(staff) admins }\n",
    );
    has(
        &only,
        "path_prefix: /admin/, service: b, auth: { basic_file: haproxy-staff-admins.users }",
    );
    has(&only, "{ path_prefix: /, service: b }");
    assert_eq!(names(&only, "haproxy-staff-admins.users"), ["ann"]);
}

#[test]
fn authentication_that_cannot_be_translated_closes_the_routes() {
    for lines in [
        " http-request auth unless { http_auth(nobody) }\n",
        " http-request auth unless { http_auth_group(staff) ghosts }\n",
        " http-request auth if { path_beg / }\n",
        " http-request auth\n",
    ] {
        let written = with_lists(lines);
        has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
        assert!(written.left_out, "{lines}: {:?}", written.remarks);
    }
    // Without a folder there is no password file.
    let mut files = table(&[(
        "haproxy.cfg",
        &format!(
            "{LIST}frontend f\n mode http\n bind :80\n http-request auth unless {{ http_auth(staff) }}\n default_backend b\nbackend b\n mode http\n server s 10.0.0.1:80\n"
        ),
    )]);
    files.has_no_output();
    let written = run(Format::Haproxy, &files, "haproxy.cfg");
    has(&written, "deny: [0.0.0.0/0, \"::/0\"]");
    has(&written, "import with `--output FILE`");
    assert!(written.companions.is_empty());
    let unused =
        haproxy(&format!("{LIST}listen l\n mode http\n bind :80\n server s 10.0.0.1:80\n"));
    has(&unused, "haproxy.cfg:1: `userlist staff`: nothing uses it");
    assert!(!unused.left_out, "{:?}", unused.remarks);
}

#[test]
fn a_backend_that_names_itself_ends() {
    let written = haproxy(
        "frontend f\n mode http\n bind :80\n default_backend b\n\
         backend b\n mode http\n use_backend b if { path /a }\n server s 10.0.0.1:80\n",
    );
    has(&written, "haproxy.cfg:7: `use_backend b if { path /a }`: HAProxy ignores it in a backend");
    assert!(!written.left_out, "{:?}", written.remarks);
}

/// A `listen` section with these lines, and files that it names.
fn with_pages(lines: &str) -> Written {
    let response = |head: &str, body: &str| format!("HTTP/1.0 {head}\r\n\r\n{body}");
    let files = table(&[
        ("haproxy.cfg", lines),
        (
            "/e/503.http",
            &response(
                "503 Service Unavailable\r\nContent-Type: text/html\r\nCache-Control: no-cache",
                "<p>{sorry} down</p>",
            ),
        ),
        (
            "/e/502.json.http",
            &response(
                "502 Bad Gateway\r\nContent-Type: application/json\r\nX-A: b",
                "{\"error\": 502}",
            ),
        ),
        ("/e/302.http", &response("302 Found\r\nLocation: /", "moved")),
        ("/e/empty.http", ""),
        ("/e/raw.html", "<p>raw</p>"),
    ]);
    let written = run(Format::Haproxy, &files, "haproxy.cfg");
    passes(&written);
    written
}

const SERVED: &str = "frontend f\n mode http\n bind :80\n default_backend b\nbackend b\n mode http\n server s 10.0.0.1:80\n";

#[test]
fn error_files_are_pages_with_the_body_alone() {
    let written = with_pages(&format!(
        "{SERVED} errorfile 503 /e/503.http\n errorfile 502 /e/502.json.http\n errorfile 500 /e/503.http\n"
    ));
    has(&written, "error_pages: { \"503\": haproxy-503.html, \"502\": haproxy-502.json.json }");
    let text = |name: &str| {
        written.companions.iter().find(|known| known.name == name).map(|known| known.text.as_str())
    };
    assert_eq!(text("haproxy-503.html"), Some("<p>{{sorry} down</p>"));
    assert_eq!(text("haproxy-502.json.json"), Some("{\"error\": 502}"));
    has(
        &written,
        "`errorfile 502 /e/502.json.http`: the page is the body; set these fields with `response_headers`: x-a",
    );
    has(&written, "`errorfile 500 /e/503.http`: Tidegate itself never answers with this status");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn a_page_of_all_frontends_is_written_once() {
    let defaults = "defaults\n mode http\n errorfile 503 /e/503.http\n";
    let written = with_pages(&format!("{defaults}{SERVED}"));
    assert_eq!(written.text.matches("haproxy-503.html").count(), 1, "{}", written.text);
    let own = SERVED.replacen(" bind :80\n", " bind :80\n errorfile 503 /e/502.json.http\n", 1);
    let written = with_pages(&format!("{defaults}{own}"));
    has(&written, "b: { clusters: [b], error_pages: { \"503\": haproxy-503.html } }");
}

#[test]
fn groups_of_error_files_and_texts_are_pages() {
    let group = "http-errors site\n errorfile 503 /e/503.http\n errorfile 502 /e/502.json.http\nhttp-errors unused\n errorfile 404 /e/503.http\n";
    let frontend = SERVED.replacen(
        " bind :80\n",
        " bind :80\n errorfiles site 503\n http-error status 404 content-type text/plain string \"not here\"\n http-error status 504 content-type text/html file /e/raw.html\n",
        1,
    );
    let written = with_pages(&format!("{group}{frontend}"));
    has(&written, "\"503\": haproxy-503.html");
    has(&written, "\"404\": haproxy-error-404.txt");
    has(&written, "\"504\": haproxy-error-504.html");
    assert!(!written.text.contains("\"502\":"), "{}", written.text);
    has(&written, "haproxy.cfg:4: `http-errors unused`: nothing uses it");
    assert!(!written.left_out, "{:?}", written.remarks);
}

#[test]
fn an_error_file_that_is_no_page_is_listed() {
    for (line, part) in [
        ("errorfile 503 /e/none.http", "`/e/none.http` cannot be read"),
        ("errorfile 408 /e/empty.http", "is empty: a connection is not closed without an answer"),
        ("errorfile 503 /e/302.http", "`/e/302.http` answers 302: an answer keeps its status, 503"),
        ("errorfile 503 /e/raw.html", "is no response"),
        ("errorfiles nobody", "there is no section `http-errors` of this name"),
        ("http-error status 503 content-type image/png string x", "not `image/png`"),
        (
            "http-error status 503 content-type text/plain lf-string %[src]",
            "names a file for a status",
        ),
        ("errorloc 503 http://x/", "use `error_pages` with a file"),
    ] {
        let written = with_pages(&format!("{SERVED} {line}\n"));
        has(&written, &format!("haproxy.cfg:8: `{line}`"));
        has(&written, part);
        assert!(written.left_out, "{line}: {:?}", written.remarks);
    }
}
