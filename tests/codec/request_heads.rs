//! Requests whose lines two parsers may interpret differently: a part of `request_tables`.

use super::{
    BAD, BASES, FAILED_EXPECTATION, HIGH, NO_METHOD, TOO_LARGE, TOO_LONG, Table, VISIBLE, Verdict,
    each, excerpt, is_token,
};

pub(super) fn fill(table: &mut Table) {
    for fill in [
        valid,
        request_line,
        method,
        target,
        host,
        field_name,
        field_value,
        connection,
        expect,
        upgrade,
        limits,
        http10,
    ] {
        fill(table);
    }
}

fn valid(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "valid";
    for (name, text) in BASES {
        table.add(name, text, Forwarded);
    }
    for method in each("GET¦HEAD¦POST¦PUT¦DELETE¦PATCH¦OPTIONS¦TRACE¦PROPFIND¦REPORT¦M-SEARCH¦X")
    {
        table.line(&format!("{method} /p HTTP/1.1"), Forwarded);
    }
    for target in each(
        "/¦/p/¦//¦//p¦/p//q¦/p;v=1¦/p?¦/p?q¦/p?q=1&r=2¦/p??¦/p?q=/../x¦/p?q=%2F¦/a:b@c¦/.p¦/p.¦\
         /...¦/~u¦/$&'()*+,;=¦/%C3%A9¦/%20¦/p%3Fq¦/p/../q¦/../../p¦/./p¦/p/.¦/p/..¦/%2e%2E/p",
    ) {
        table.line(&format!("GET {target} HTTP/1.1"), Forwarded);
    }
    for lines in each(
        "Accept: */*¦Cookie: a=b; c=d¦Cookie: a=b\r\nCookie: c=d¦X-Empty:¦X-Empty: ¦\
         X-Same: 1\r\nX-Same: 2¦Range: bytes=0-5¦User-Agent: u/1 (x; y)¦Via: 1.1 x¦\
         X-Request-Id: 1¦TE: trailers¦Forwarded: for=1.2.3.4¦X-Forwarded-For: 1.2.3.4¦\
         X-Real-IP: 1.2.3.4¦Authorization: Basic eDp5¦\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01¦\
         Proxy-Connection: close¦Keep-Alive: timeout=5¦Proxy-Authorization: Basic eDp5¦\
         Tidegate-Via: x¦TE: gzip, trailers;q=1¦Max-Forwards: 0¦Content-Type: text/plain¦\
         Accept-Encoding: gzip, chunked¦Trailer: X-T¦X: a:b",
    ) {
        table.field(lines, Forwarded);
    }
    table.line("OPTIONS * HTTP/1.1", Forwarded);
    for size in [1, 2, 100, 8_192, 8_193, 32_768, 100_000] {
        let body = "b".repeat(size);
        let head = "POST /p HTTP/1.1\r\nHost: a\r\n";
        let length = format!("{head}Content-Length: {size}\r\n\r\n{body}");
        table.add(format!("a length of {size}"), length, Forwarded);
        let chunk =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n");
        table.add(format!("a chunk of {size}"), chunk, Forwarded);
    }
}

fn request_line(table: &mut Table) {
    table.class = "request_line";
    for version in each(
        "HTTP/1.¦HTTP/1¦HTTP/.1¦HTTP/11¦HTTP/1.10¦HTTP/01.1¦HTTP/1.01¦HTTP/1.1.1¦HTTP/1,1¦\
         HTTP/1-1¦HTTP/2.0¦HTTP/2¦HTTP/3.0¦HTTP/9.9¦HTTP/0.9¦HTTP/0.0¦HTTP/1.a¦HTTP/a.1¦http/1.1¦\
         Http/1.1¦HTTP\\1.1¦HTTP:1.1¦HTTP /1.1¦HTTP/ 1.1¦HTTP/1 .1¦HTTP/1. 1¦HTTP/1.1 ¦ HTTP/1.1¦\
         HTTPS/1.1¦SHTTP/1.1¦HTTP/1.1x¦HTTP/1.1;¦HTTP/+1.1¦HTTP/1.+1¦HTTP/-1.1¦RTSP/1.0¦ICY¦\
         \"HTTP/1.1\"¦HTTP/1.1 HTTP/1.1¦HTTP/1.0 HTTP/1.1¦HTTP/1.1 HTTP/1.0¦HTTP//1.1¦HTTP/1..1¦¦\
         HTTP/1.1\t¦\tHTTP/1.1¦HTTP/1.1\u{a0}¦HTTP/1.\u{661}¦XTTP/1.1¦1.1¦HTTP¦HTTP/¦HTTP/1.1#¦\
         HTTP/1.1?¦%48TTP/1.1",
    ) {
        for (base, text) in BASES {
            let text = text.replacen("HTTP/1.1", version, 1);
            table.add(format!("version {} of {base}", excerpt(version)), text, BAD);
        }
    }
    for place in 0.."HTTP/1.1".len() {
        let mut shorter = "HTTP/1.1".to_owned();
        let gone = shorter.remove(place);
        table.line(&format!("GET /p {shorter}"), BAD);
        table.line(&format!("GET /p {}", "HTTP/1.1".replacen(gone, "x", 1)), BAD);
    }
    for minor in 2..=9 {
        table.line(&format!("GET /p HTTP/1.{minor}"), Verdict::Either);
    }
    for line in each(
        "GET  /p HTTP/1.1¦GET /p  HTTP/1.1¦ GET /p HTTP/1.1¦GET\t/p HTTP/1.1¦GET /p\tHTTP/1.1¦\
         GET /p¦GET /p ¦GET HTTP/1.1¦GET  HTTP/1.1¦GET¦ ¦/p HTTP/1.1¦/p GET HTTP/1.1¦\
         HTTP/1.1 GET /p¦GET/p HTTP/1.1¦GET /p q HTTP/1.1¦GET /p HTTP/1.1 x¦GET /p,HTTP/1.1¦\
         GET: /p HTTP/1.1¦Host: b¦X-A: b¦HTTP/1.1 200 OK¦GET /p HTTP/1.1, GET /q HTTP/1.1¦\
         PRI * HTTP/2.0¦PRI * HTTP/1.0x¦GET\u{a0}/p HTTP/1.1¦GET\u{2028}/p HTTP/1.1¦get /p¦\
         \u{feff}GET /p HTTP/1.1¦GET /p HTTP/1.1\u{85}",
    ) {
        table.line(line, BAD);
    }
    table.line("PRI * HTTP/1.1", BAD);
}

fn method(table: &mut Table) {
    table.class = "method";
    let inside = "G<>T /p HTTP/1.1\r\nHost: a\r\n\r\n";
    let token = |byte| if is_token(byte) { Verdict::Forwarded } else { BAD };
    table.sweep("within", inside, VISIBLE, token);
    table.sweep("within", inside, HIGH, |_| BAD);
    let delimiters = VISIBLE.filter(|byte| !is_token(*byte));
    table.sweep("before", "<>GET /p HTTP/1.1\r\nHost: a\r\n\r\n", delimiters.clone(), |_| BAD);
    table.sweep("after", "GET<> /p HTTP/1.1\r\nHost: a\r\n\r\n", delimiters, |_| BAD);
    for method in each("get¦Get¦gEt¦head¦post¦connect¦Connect¦GETT¦0¦!¦GET-POST¦GET.POST¦GET'")
    {
        table.line(&format!("{method} /p HTTP/1.1"), Verdict::Forwarded);
    }
    for rest in each(
        "/p HTTP/1.1¦a:80 HTTP/1.1¦a HTTP/1.1¦http://a/ HTTP/1.1¦* HTTP/1.1¦[::1]:80 HTTP/1.1¦\
         /p HTTP/1.0¦a:80 HTTP/1.0",
    ) {
        table.line(&format!("CONNECT {rest}"), NO_METHOD);
    }
    let body = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello";
    table.add("CONNECT with a body", body, NO_METHOD);
    table.line(&format!("{} /p HTTP/1.1", "M".repeat(200)), Verdict::Either);
    table.line(&format!("{} /p HTTP/1.1", "M".repeat(9_000)), Verdict::Refused(&[400, 414, 501]));
}

fn target(table: &mut Table) {
    use Verdict::{Either, Forwarded};
    table.class = "target";
    let within = |query: bool| {
        move |byte| match byte {
            b'#' => BAD,
            b'%' => {
                if query {
                    Forwarded
                } else {
                    BAD
                }
            }
            // In a path some servers treat a backslash as a slash; in a query it has no meaning.
            b'\\' if !query => BAD,
            b'\\' | b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Either,
            _ => Forwarded,
        }
    };
    for (place, line, query) in [
        ("path", "GET /p<>q HTTP/1.1", false),
        ("query", "GET /p?q<>r HTTP/1.1", true),
        ("path of an absolute form", "GET http://a/p<>q HTTP/1.1", false),
    ] {
        let template = format!("{line}\r\nHost: a\r\n\r\n");
        table.sweep(place, &template, VISIBLE, within(query));
        // Not UTF-8.
        table.sweep(place, &template, HIGH, |_| BAD);
    }
    for byte in 0..=255_u8 {
        let verdict = if [0, b'/', b'\\'].contains(&byte) { BAD } else { Forwarded };
        table.line(&format!("GET /p%{byte:02x}q HTTP/1.1"), verdict);
    }
    for path in each(
        "/%2F¦/%5C¦/p%00¦/%2f../p¦/..%2fp¦/..%5cp¦/%2e%2e%2fp¦http://a/%2F¦\
         /p/..;/q¦/..;¦/p/.;x/q¦/p/%2e%2E;a=b/q¦/p/..%3b/q",
    ) {
        table.line(&format!("GET {path} HTTP/1.1"), BAD);
    }
    for path in each(
        "/p?%2F%5C¦/p?%00¦/p?q=100%&r=%u20ac¦/p?/..;/q¦/p/...;q¦/%2e/p¦/p/%2E%2e/%2E./q¦/%252f¦/%25%32%46¦/%7e%2D%5F%61",
    ) {
        table.line(&format!("GET {path} HTTP/1.1"), Forwarded);
    }
    for escape in each("%¦%1¦%g0¦%0g¦%%¦%u0041¦%-1¦%+1¦%0x41¦%2¦%\u{661}0¦%a¦%;¦%2 ") {
        table.line(&format!("GET /p{escape} HTTP/1.1"), BAD);
        let in_query = if escape.contains(' ') { BAD } else { Forwarded };
        table.line(&format!("GET /p?q={escape} HTTP/1.1"), in_query);
    }
    for form in each(
        "p¦*¦?q¦#¦.¦..¦a:80¦a/p¦\\p¦%2Fp¦http:¦http:/p¦http:p¦http://¦http:///p¦http://?q¦\
         http://u@a/p¦http://u:w@a/p¦http://a:0/p¦http://a:65536/p¦http://a:x/p¦\
         http://a#f¦http://a/p#f¦http://a b/p¦http://a\\@b/p¦http://[::1/p¦http://::1/p¦\
         http://a,b/p¦http://a%2Fb/p¦http:\\\\a\\p¦ftp://a/p¦file:///p¦ws://a/p¦javascript:x¦//¦\
         htp://a/p¦http//a/p¦://a/p¦http://a/p http://a/q",
    ) {
        let verdict = if form == "//" { Forwarded } else { BAD };
        table.line(&format!("GET {form} HTTP/1.1"), verdict);
    }
    for form in each(
        "http://b/p¦http://a:/p¦http://a¦http://a/¦http://a?q¦http://a:80/p¦http://[::1]/p¦http://[::1]:80/p¦\
         HTTP://a/p¦hTTp://A/p¦http://a/../p¦http://a.b.c/p?http://d/",
    ) {
        table.line(&format!("GET {form} HTTP/1.1"), Forwarded);
    }
    for form in each("GET https://a/p¦OPTIONS http://a¦OPTIONS https://a¦GET http://a./p") {
        table.line(&format!("{form} HTTP/1.1"), Either);
    }
    for method in each("POST¦PUT¦DELETE¦options¦OPTION") {
        table.line(&format!("{method} * HTTP/1.1"), BAD);
    }
    for form in each("*p¦**¦/ *¦*?q¦*/") {
        table.line(&format!("OPTIONS {form} HTTP/1.1"), BAD);
    }
}

fn host(table: &mut Table) {
    table.class = "host";
    let mut with = |lines: &str, verdict| {
        table.add(excerpt(lines), format!("GET /p HTTP/1.1\r\n{lines}X-A: b\r\n\r\n"), verdict);
    };
    for lines in each(
        "¦Host: a\r\nHost: a\r\n¦Host: a\r\nHost: b\r\n¦Host: a\r\nhost: a\r\n¦\
         Host:\r\nHost: a\r\n¦Host: a\r\nHost:\r\n¦Host: a\r\nX: y\r\nHOST: b\r\n¦Host : a\r\n¦\
         Host\t: a\r\n¦ Host: a\r\n¦\tHost: a\r\n¦Host\r\n¦Host a\r\n¦Host: a\r\n Host: b\r\n¦\
         Host:\r\n a\r\n¦Host: a\r\n\tb\r\n¦Host; a\r\n¦Ho st: a\r\n¦Hosts: a\r\n¦X-Host: a\r\n¦\
         X-Forwarded-Host: a\r\n¦:authority: a\r\n¦Host: a\nHost: b\r\n¦Host: a\rHost: b\r\n",
    ) {
        with(lines, BAD);
    }
    for value in each(
        "¦ ¦a b¦a, b¦a,a¦a;b c¦a::¦a:0¦a:00¦a:65536¦a:99999¦a:100000¦a:+80¦a:-80¦a:8 0¦a: 80¦a :80¦\
         a:80x¦a:x¦a:80:80¦:80¦:¦.¦u@a¦u:w@a¦a/b¦/¦a?b¦a#b¦a\\b¦http://a¦//a¦[¦[]¦[::1¦::1]¦\
         [::1]x¦[::1]::¦[::1]:x¦[::1]:0¦::1¦[g::1]¦[1.2.3.4]¦[v1.x]¦[::1%25eth0]¦[::1%eth0]¦\"a\"¦\
         'a'¦<a>¦(a)¦{a}¦a|b¦a^b¦a`b¦a%00b¦a%b¦a%41¦*¦*.a¦a\u{e9}¦a\u{ff0e}b¦a\u{3002}b¦\
         a:\u{661}0¦a:0x50¦a:8_0¦a:000080¦a=b¦a&b¦a+b¦$¦!¦[::1][::1]¦[::1]a:80",
    ) {
        with(&format!("Host: {value}\r\n"), BAD);
    }
    for value in each(
        "b¦A¦a:¦[::1]:¦a.b¦a.b.c:8080¦a-b¦a_b¦a~b¦127.0.0.1¦127.0.0.1:80¦[::1]¦[::1]:80¦[::ffff:1.2.3.4]¦\
         xn--e1a¦a:1¦a:65535¦a:80 ¦ a¦a\t¦LOCALHOST¦0",
    ) {
        with(&format!("Host: {value}\r\n"), Verdict::Forwarded);
    }
    for value in each("a.¦a..¦.a¦a..b¦-a¦a:080¦a:00080¦1.2.3¦0x7f.1¦999.1.1.1") {
        with(&format!("Host: {value}\r\n"), Verdict::Either);
    }
    with(&format!("Host: {}\r\n", "a".repeat(300)), Verdict::Either);
    for lines in
        each("host: a\r\n¦HOST: a\r\n¦hOsT: a\r\n¦Host:a\r\n¦Host:  a  \r\n¦Host:\ta\t\r\n")
    {
        with(lines, Verdict::Forwarded);
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let template = "GET /p HTTP/1.1\r\nHost: a<>b\r\n\r\n";
    let verdict = |byte| if named(byte) { Verdict::Forwarded } else { BAD };
    table.sweep("within", template, VISIBLE.chain(HIGH).chain([b' ']), verdict);
    for lines in each("¦Host:\r\n¦Host: a b\r\n¦Host: a\r\nHost: a\r\n¦Host: u@a\r\n") {
        let text = format!("GET http://a/p HTTP/1.1\r\n{lines}\r\n");
        table.add(format!("an absolute form and {}", excerpt(lines)), text, BAD);
    }
}

fn field_name(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "field_name";
    let verdict = |byte| match byte {
        b'_' => BAD,
        // The name ends at this byte.
        b':' => Forwarded,
        _ if is_token(byte) => Forwarded,
        _ => BAD,
    };
    let first = |byte| if byte == b':' { BAD } else { verdict(byte) };
    let all = || VISIBLE.chain(HIGH).chain([b' ', b'\t']);
    for (place, line) in [("within", "X<>A: b"), ("after", "XA<>: b")] {
        table.sweep(
            place,
            &format!("GET /p HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"),
            all(),
            verdict,
        );
    }
    table.sweep("before", "GET /p HTTP/1.1\r\nHost: a\r\n<>XA: b\r\n\r\n", all(), first);
    table.sweep("alone", "GET /p HTTP/1.1\r\nHost: a\r\n<>: b\r\n\r\n", all(), first);
    table.sweep("first line", "GET /p HTTP/1.1\r\n<>XA: b\r\nHost: a\r\n\r\n", all(), first);
    for line in each(
        "X-A¦X-A b¦: b¦:¦::¦ : b¦X-A : b¦X-A\t: b¦X-A  : b¦X A: b¦\"X-A\": b¦X[a]: b¦X(a): b¦\
            X/a: b¦X=a: b¦X,Y: b¦X;Y: b¦{X}: b¦X_A: b¦_: b¦Content_Length: 5¦\
            Transfer_Encoding: chunked¦X\u{e9}: b¦\u{feff}X: b¦X\u{a0}: b¦GET /smuggled HTTP/1.1¦\
            HTTP/1.1 200 OK¦X-A: b\r\nX-B¦=: b¦?: b¦\u{2010}: b¦X:\r\n: b",
    ) {
        table.field(line, BAD);
    }
    for size in [1, 300, 5_000] {
        table.field(&format!("{}: b", "X".repeat(size)), Forwarded);
    }
}

fn field_value(table: &mut Table) {
    table.class = "field_value";
    let template = "GET /p HTTP/1.1\r\nHost: a\r\nX-A: b<>c\r\n\r\n";
    let punctuation = VISIBLE.filter(u8::is_ascii_punctuation);
    table.sweep("within", template, punctuation, |_| Verdict::Forwarded);
    table.sweep("obs-text", template, (0x80..=0xff).step_by(5), |_| Verdict::Forwarded);
    for value in each(
        "¦ ¦  ¦\t¦ \t ¦b¦ b¦\tb¦  b  ¦b c¦b  c¦b\tc¦:¦b: c¦\"b\"¦\"¦\\¦(b)¦,¦,,¦b,c¦%0d%0aX: y¦\
         \\r\\nX: y¦\u{e9}¦\u{4e2d}¦{\"a\":[1]}¦chunked¦0\t",
    ) {
        table.field(&format!("X-A:{value}"), Verdict::Forwarded);
    }
    for size in [100, 1_000, 8_000, 15_000] {
        table.field(&format!("X-A: {}", "b".repeat(size)), Verdict::Forwarded);
    }
}

fn connection(table: &mut Table) {
    table.class = "connection";
    for options in each(
        "close¦Close¦keep-alive¦close, keep-alive¦X-A¦x-a, close¦x-a,x-b¦host¦Host, close¦\
         content-length¦transfer-encoding¦te¦trailer¦upgrade¦connection¦expect¦authorization¦\
         cookie¦via¦forwarded¦date¦x-forwarded-for¦x-forwarded-proto¦x-real-ip¦traceparent¦\
         tracestate¦x-request-id¦user-agent¦content-type¦keep-alive¦proxy-connection¦tidegate-via¦\
         nothing-of-the-kind¦¦,¦, ,close¦close,¦!#$%&'*",
    ) {
        let fields =
            "X-A: b\r\nAuthorization: c\r\nCookie: d=e\r\nVia: 1.1 f\r\nContent-Type: text/plain";
        table.field(&format!("Connection: {options}\r\n{fields}"), Verdict::Forwarded);
        for (base, text) in &BASES[1..4] {
            let text = text.replacen("X-A", &format!("Connection: {options}\r\nX-A"), 1);
            table.add(format!("{} of {base}", excerpt(options)), text, Verdict::Forwarded);
        }
    }
    table.field("Connection: close\r\nConnection: X-A\r\nX-A: b", Verdict::Forwarded);
    for options in each(
        "a b¦close close¦a;b¦a=b¦\"close\"¦(close)¦a@b¦a/b¦close;q=1¦a:b¦\u{e9}¦close, a b¦[a]",
    ) {
        table.field(&format!("Connection: {options}"), BAD);
    }
}

fn expect(table: &mut Table) {
    table.class = "expect";
    for value in each(
        "¦200-ok¦100¦100-continued¦x100-continue¦100 continue¦100-continue, x¦x, 100-continue¦\
         \"100-continue\"¦100-continue;a=b¦100-continue;¦100_continue¦continue¦100-continue=1¦\
         \u{e9}",
    ) {
        for (base, text) in BASES {
            let text = text.replacen("X-A", &format!("Expect: {value}\r\nX-A"), 1);
            table.add(format!("{} of {base}", excerpt(value)), text, FAILED_EXPECTATION);
        }
    }
    for (base, text) in BASES {
        let text = text.replacen("X-A", "Expect: 100-continue\r\nX-A", 1);
        table.add(format!("100-continue of {base}"), text, Verdict::Forwarded);
    }
    table.field("eXpEcT:\t100-CONTINUE ", Verdict::Forwarded);
    table.field("Expect: 100-continue\r\nExpect: 100-continue", Verdict::Either);
    table.field("Expect: 100-continue\r\nExpect: x", FAILED_EXPECTATION);
    table.field("Expect : 100-continue", BAD);
}

fn upgrade(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "upgrade";
    for value in each("websocket¦WebSocket¦websocket/13¦x¦¦h2c¦h2c, websocket¦websocket, h2c")
    {
        table.field(&format!("Connection: upgrade\r\nUpgrade: {value}"), Forwarded);
        table.field(&format!("Upgrade: {value}"), Forwarded);
    }
    for value in each("TLS/1.2¦TLS/1.2, TLS/1.1¦websocket, x¦websocket,¦a,,b¦SPDY/3.1, websocket")
    {
        table.field(&format!("Connection: upgrade\r\nUpgrade: {value}"), Forwarded);
    }
    for value in each("x y¦\"websocket\"¦websocket;v=1¦web@socket¦(x)¦\u{e9}¦x, (y)") {
        table.field(&format!("Connection: upgrade\r\nUpgrade: {value}"), BAD);
    }
    for value in each("x¦websocket¦WebSocket/13") {
        let lines = format!("Connection: Upgrade\r\nUpgrade: {value}\r\nX-A");
        let with_body = if value == "websocket" { BAD } else { Forwarded };
        for (base, text) in &BASES[1..4] {
            let text = text.replacen("X-A", &lines, 1);
            table.add(format!("{value} with the body of {base}"), text, with_body);
        }
        let text = BASES[1].1.replacen("X-A", &lines, 1).replace(": 5", ": 0").replace("hello", "");
        table.add(format!("{value} with an empty body"), text, Forwarded);
    }
    table.field("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b", Forwarded);
    table.field("Connection: upgrade", Forwarded);
    table.field(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        Forwarded,
    );
    table.field(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        Forwarded,
    );
    let old = "GET /p HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    table.add("in HTTP/1.0", old, Forwarded);
}

fn limits(table: &mut Table) {
    table.class = "limits";
    let head = |size: usize| {
        let rest = "GET /p HTTP/1.1\r\nHost: a\r\nX-A: \r\n\r\n".len();
        format!("X-A: {}", "b".repeat(size - rest))
    };
    table.field(&head(16_384), Verdict::Forwarded);
    for size in [16_385, 17_408, 33_000, 60_000] {
        table.field(&head(size), TOO_LARGE);
    }
    for (base, text) in BASES {
        for count in [101, 150, 1_000] {
            let text = text.replacen("X-A", &format!("{}X-A", "A: b\r\n".repeat(count - 2)), 1);
            table.add(format!("{count} fields or more of {base}"), text, TOO_LARGE);
        }
        let text = text.replacen("bc", &"b".repeat(17_408), 1);
        table.add(format!("a head of 17 KiB of {base}"), text, TOO_LARGE);
    }
    table.field(&["A: b"; 99].join("\r\n"), Verdict::Forwarded);
    table.field(&["A: b"; 100].join("\r\n"), TOO_LARGE);
    table.field(&["A:"; 5_000].join("\r\n"), TOO_LARGE);
    table.field(&format!("{}: b", "X".repeat(17_000)), TOO_LARGE);
    table.field(&format!("Cookie: a={}", "b".repeat(17_000)), TOO_LARGE);
    table.field(&["X-Some-Name: some value of some length"; 90].join("\r\n"), Verdict::Forwarded);
    for size in [8_193, 8_300, 9_216, 20_000] {
        table.line(&format!("GET /{} HTTP/1.1", "p".repeat(size - 1)), TOO_LONG);
        table.line(&format!("GET /?{} HTTP/1.1", "p".repeat(size - 2)), TOO_LONG);
        table.line(&format!("GET http://a/{} HTTP/1.1", "p".repeat(size - 9)), TOO_LONG);
    }
    table.line(&format!("GET /{} HTTP/1.1", "p".repeat(8_191)), Verdict::Forwarded);
    table.line(&format!("GET /p HTTP/1.1{}", "x".repeat(9_000)), Verdict::Refused(&[400, 414]));
}

fn http10(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "http10";
    for (base, text) in BASES {
        let old = text.replacen("HTTP/1.1", "HTTP/1.0", 1);
        let verdict = if text.contains("chunked") { BAD } else { Forwarded };
        for lines in each(
            "¦Connection: keep-alive\r\n¦Connection: close\r\n¦Keep-Alive: 5\r\n¦\
             Expect: 100-continue\r\n",
        ) {
            let text = old.replacen("X-A", &format!("{lines}X-A"), 1);
            table.add(format!("{base} with {}", excerpt(lines)), text, verdict);
        }
        let bare = old.replacen("Host: a\r\n", "", 1);
        table.add(format!("{base} without Host"), bare, verdict);
        for lines in each("Host: a\r\nHost: a\r\n¦Host:\r\n¦Host: a b\r\n¦Host : a\r\n") {
            let text = old.replacen("Host: a\r\n", lines, 1);
            table.add(format!("{base} with {}", excerpt(lines)), text, BAD);
        }
    }
}
