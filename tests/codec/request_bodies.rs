//! Requests whose framing or body two parsers may interpret differently: a part of `request_tables`.

use super::{BAD, BASES, Table, UNKNOWN_CODING, Verdict, each, excerpt};

/// The request that an attacker wants to smuggle into a cluster.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";
/// The cluster may receive a head and a part of the body, but never a complete message.
const BROKEN: Verdict = Verdict::RefusedOrAborted;

pub(super) fn fill(table: &mut Table) {
    for fill in [
        content_length,
        transfer_encoding,
        coding_fields,
        chunk_size,
        chunk_extension,
        chunk_end,
        trailers,
        late_chunk,
        smuggling,
        well_framed,
    ] {
        fill(table);
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn content_length(table: &mut Table) {
    table.class = "content_length";
    for value in each(
        "¦+5¦-5¦+-5¦--5¦5 5¦5\t5¦5,5¦5, 5¦5,¦,5¦5;5¦5; a¦0x5¦5h¦05h¦0b101¦5.0¦5.¦.5¦5e0¦5_0¦5'0¦\
         \"5\"¦(5)¦'5'¦[5]¦five¦NaN¦inf¦5/1¦5-5¦5+¦5%¦%35¦\\5¦5\\¦#5¦$5¦=5¦:5¦5:¦\
         18446744073709551616¦18446744073709551621¦99999999999999999999999999¦\u{661}¦\u{ff15}¦\
         5\u{a0}¦\u{a0}5¦5\u{200b}¦\u{b2}¦null¦true¦5 chunked¦chunked¦-0¦+0¦0 0¦0,0¦0x0¦-1¦\
         4294967301x¦5\u{85}",
    ) {
        for (method, body) in [("POST", "hello"), ("GET", "hello"), ("POST", SMUGGLED), ("PUT", "")]
        {
            let fields = format!("Host: a\r\nContent-Length: {value}\r\n\r\n{body}");
            let name = format!("{method} {} before {}", excerpt(value), excerpt(body));
            table.add(name, format!("{method} /p HTTP/1.1\r\n{fields}"), BAD);
        }
    }
    for fields in each(
        "Content-Length: 5\r\nContent-Length: 6¦Content-Length: 6\r\nContent-Length: 5¦\
         Content-Length: 5\r\nContent-Length: 0¦Content-Length: 0\r\nContent-Length: 5¦\
         Content-Length: 5\r\nContent-Length:¦Content-Length:\r\nContent-Length: 5¦\
         Content-Length: 5\r\nX: y\r\ncontent-length: 6¦Content-Length: 5\r\nContent-Length: +5¦\
         Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 6¦Content-Length : 5¦\
         Content-Length\t: 5¦ Content-Length: 5¦Content-Length 5¦Content-Length¦Content_Length: 5¦\
         Content Length: 5¦Content-Length: 5\r\n 0¦Content-Length:\r\n 5¦Content-Length: 5\nX: y¦\
         X: y\nContent-Length: 5¦X: y\rContent-Length: 5¦Content-Length;: 5¦\
         Content-Length: 5\r\nContent_Length: 6¦\"Content-Length\": 5¦Content\u{2010}Length: 5",
    ) {
        table.add(excerpt(fields), post(&format!("{fields}\r\n"), "hello"), BAD);
    }
    for fields in each(
        "Content-Length: 5\r\nContent-Length: 5¦Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 5¦\
         Content-Length: 5\r\nContent-Length: 05¦Content-Length: 05¦Content-Length: 005¦\
         Content-Length: 00000000000000000000000000000005",
    ) {
        table.add(excerpt(fields), post(&format!("{fields}\r\n"), "hello"), Verdict::Either);
    }
    for fields in each(
        "content-length: 5¦CONTENT-LENGTH: 5¦Content-Length:5¦Content-Length:   5  ¦\
         Content-Length:\t5\t¦Content-Length: 5\r\nX-Content-Length: 6¦\
         Content-Length: 5\r\nContent-Length-X: 6¦Content-Length: 5\r\nContent-Lengt: 6¦\
         Content-Length: 5\r\nContent.Length: 6",
    ) {
        table.add(excerpt(fields), post(&format!("{fields}\r\n"), "hello"), Verdict::Forwarded);
    }
    for method in each("GET¦POST¦DELETE¦OPTIONS¦TRACE¦X") {
        let text = format!("{method} /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        table.add(format!("0 of {method}"), text, Verdict::Forwarded);
    }
}

/// Codings that are tokens, for which the coding itself is refused, and codings that are no tokens.
const UNKNOWN: &str = "identity¦gzip¦deflate¦compress¦br¦zstd¦xchunked¦x-chunked¦chunkedx¦\
    chunked-¦-chunked¦'chunked'¦chunked.¦chunke¦hunked¦c¦cow¦none¦null¦0¦chunked1¦gzip, chunked¦\
    chunked, gzip¦identity, chunked¦chunked, identity¦gzip,chunked¦gzip\t,\tchunked¦cow, chunked¦\
    x-gzip, deflate, chunked¦chunk, ed¦*¦chunked+¦`chunked`¦!chunked¦chunked|gzip¦%63hunked¦\
    trailers";
const OBFUSCATED: &str = "¦ ¦,¦, ¦chunked,¦,chunked¦chunked, ¦chunked, chunked¦chunked,chunked¦\
    chunked, CHUNKED¦chunked, gzip, chunked¦chunked,,chunked¦gzip,,chunked¦chunked;¦chunked;q=1¦\
    chunked; a=b¦chunked;a=\"b\"¦\"chunked\"¦\"chunked¦chunked\"¦x chunked¦chunked x¦\
    chunked chunked¦chun ked¦chunked\tx¦(chunked)¦[chunked]¦{chunked}¦<chunked>¦chunked=1¦\
    =chunked¦chunked/1¦chunked:¦:chunked¦: chunked¦chunked@¦chunked\\¦\\chunked¦chunked?¦\
    chun\u{212a}ed¦\u{e9}chunked¦chunked\u{a0}¦\u{a0}chunked¦chunked\u{2028}¦\u{feff}chunked¦\
    gzip chunked¦gzip;q=1, chunked¦chunked\u{85}";

/// An unknown coding before `chunked` is not implemented; an unknown last coding leaves the length undefined.
fn unknown(value: &str) -> Verdict {
    let last = value.rsplit(',').next().unwrap_or_default().trim();
    if last == "chunked" { UNKNOWN_CODING } else { BAD }
}

fn transfer_encoding(table: &mut Table) {
    table.class = "transfer_encoding";
    let known = each("chunked¦CHUNKED¦Chunked¦cHuNkEd¦ chunked¦chunked  ¦\tchunked\t");
    let all = (known.map(|value| (value, Verdict::Forwarded)))
        .chain(each(UNKNOWN).map(|value| (value, unknown(value))))
        .chain(each(OBFUSCATED).map(|value| (value, BAD)));
    for (value, verdict) in all {
        let (coding, length) = (format!("Transfer-Encoding: {value}\r\n"), "Content-Length: 5\r\n");
        let value = excerpt(value);
        table.add(&value, post(&coding, CHUNKS), verdict);
        table.add(
            format!("{value}, then a length"),
            post(&format!("{coding}{length}"), CHUNKS),
            BAD,
        );
        table.add(
            format!("a length, then {value}"),
            post(&format!("{length}{coding}"), CHUNKS),
            BAD,
        );
        let old = post(&coding, CHUNKS).replacen("HTTP/1.1", "HTTP/1.0", 1);
        table.add(format!("{value} in HTTP/1.0"), old, BAD);
        for first in ["chunked", "identity"] {
            let twice = post(&format!("Transfer-Encoding: {first}\r\n{coding}"), CHUNKS);
            table.add(format!("{value} after {first}"), twice, BAD);
        }
        let twice = post(&format!("{coding}X: y\r\ntransfer-encoding: chunked\r\n"), CHUNKS);
        table.add(format!("{value}, then chunked"), twice, BAD);
    }
}

/// Fields that one parser treats as `Transfer-Encoding` and another does not.
const NEARLY: &str = "Transfer-Encoding : chunked¦\
    Transfer-Encoding\t: chunked¦ Transfer-Encoding: chunked¦\tTransfer-Encoding: chunked¦\
    Transfer_Encoding: chunked¦Transfer Encoding: chunked¦Transfer-Encoding chunked¦\
    Transfer-Encoding¦Transfer-Encoding;: chunked¦Transfer-Encoding=: chunked¦\
    \"Transfer-Encoding\": chunked¦X: y\nTransfer-Encoding: chunked¦\
    X: y\rTransfer-Encoding: chunked¦X: y\r\n Transfer-Encoding: chunked¦\
    Transfer-Encoding:\r\n chunked¦Transfer-Encoding:\n chunked¦Transfer-Encoding: chun\r\n ked¦\
    Transfer-Encoding: chunked\r\n , gzip¦Transfer-Encoding: x\r\n\tchunked¦\
    Transfer-Encoding\r\n: chunked¦Transfer-\r\n Encoding: chunked¦Transfer-Encoding\0: chunked¦\
    Transfer-Encoding: \x0bchunked¦Transfer-Encoding: chunked\x0b¦Transfer-Encoding: \0chunked¦\
    Transfer-Encoding\x0b: chunked¦Transfer-Encoding: chunked\0¦Transfer\u{2010}Encoding: chunked¦\
    Tran\u{17f}fer-Encoding: chunked¦: Transfer-Encoding: chunked¦Transfer-Encoding:chunked\r¦\
    Transfer-Encoding/: chunked¦[Transfer-Encoding]: chunked¦Transfer-Encoding,X: chunked¦\
    Transfer-Encoding\r: chunked¦Foo: bar\x0b\r\nTransfer-Encoding : chunked¦\
    Transfer-Encoding\u{a0}: chunked";

fn coding_fields(table: &mut Table) {
    table.class = "transfer_encoding";
    for line in each(NEARLY) {
        table.add(excerpt(line), post(&format!("{line}\r\n"), CHUNKS), BAD);
        let with = post(&format!("Content-Length: 5\r\n{line}\r\n"), CHUNKS);
        table.add(format!("{} with a length", excerpt(line)), with, BAD);
        let twice = post(&format!("Transfer-Encoding: chunked\r\n{line}\r\n"), CHUNKS);
        table.add(format!("{} after a proper one", excerpt(line)), twice, BAD);
    }
    for line in each(
        "transfer-encoding: chunked¦TRANSFER-ENCODING: CHUNKED¦Transfer-Encoding:chunked¦\
         Transfer-Encoding: chunked\r\nX-Transfer-Encoding: gzip¦\
         TE: chunked\r\nTransfer-Encoding: chunked¦\
         Transfer-Encoding: chunked\r\nTransfer.Encoding: gzip¦\
         Content-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ) {
        table.add(excerpt(line), post(&format!("{line}\r\n"), CHUNKS), Verdict::Forwarded);
    }
    for method in each("GET¦DELETE¦PATCH¦OPTIONS¦TRACE¦X") {
        let text = chunked(CHUNKS).replacen("POST", method, 1);
        table.add(format!("{method} with chunks"), text, Verdict::Forwarded);
    }
}

fn chunk_size(table: &mut Table) {
    table.class = "chunk_size";
    for size in each(
        "¦ ¦ 5¦5 ¦5\t¦\t5¦+5¦-5¦0x5¦0X5¦5h¦x5¦5.0¦5,¦5,5¦5 5¦'5'¦\"5\"¦(5)¦g¦5g¦G¦z¦#5¦$5¦5$¦%35¦\
         \\5¦5\\¦5:¦:5¦5=¦=5¦5/¦5_¦_5¦5'¦5-¦5+¦4¦6¦0a\r\n¦f0000000000000000¦10000000000000005¦\
         00000000000000005¦ffffffffffffffff¦fffffffffffffffff¦8000000000000005¦\
         100000000000000000000005¦\u{661}¦\u{ff15}¦5\u{a0}¦\u{a0}5¦five¦chunked¦hello¦5\0¦5\x0b¦\
         5\r¦5\n¦-0¦+0¦0x0¦0 ¦ 0¦5 \t ¦\r\n5¦5?¦5!¦5*¦5&¦5|¦5~¦5^¦5`¦{5}¦[5]¦<5>¦5@",
    ) {
        for (place, body) in [
            ("first", format!("{size}\r\nhello\r\n0\r\n\r\n")),
            ("second", format!("1\r\nb\r\n{size}\r\nhello\r\n0\r\n\r\n")),
            ("before a smuggled one", format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")),
        ] {
            table.add(format!("{} {place}", excerpt(size)), chunked(&body), BROKEN);
        }
    }
    for size in each("05¦005¦0005¦0000000000000005") {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        table.add(excerpt(size), chunked(&body), Verdict::Either);
    }
    for last in each("00¦000¦0000000000000000") {
        let body = format!("5\r\nhello\r\n{last}\r\n\r\n");
        table.add(format!("{} last", excerpt(last)), chunked(&body), Verdict::Either);
    }
    for last in
        each("0 ¦ 0¦0\t¦-0¦+0¦0x0¦0x¦0.0¦0,0¦o¦O¦00000000000000000¦0h¦(0)¦\"0\"¦\u{660}¦0:¦0=")
    {
        let body = format!("5\r\nhello\r\n{last}\r\n\r\n");
        table.add(format!("{} last", excerpt(last)), chunked(&body), BROKEN);
    }
    for size in each("1¦9¦a¦A¦f¦F¦10¦1f¦1F¦ff¦Ff¦fff¦1000¦FFFF") {
        let count = usize::from_str_radix(size, 16).unwrap_or_default();
        let body = format!("{size}\r\n{}\r\n0\r\n\r\n", "b".repeat(count));
        table.add(excerpt(size), chunked(&body), Verdict::Forwarded);
    }
    for count in [2, 10, 100, 2_000] {
        let body = format!("{}0\r\n\r\n", "1\r\nb\r\n".repeat(count));
        table.add(format!("{count} chunks of 1"), chunked(&body), Verdict::Forwarded);
    }
}

fn chunk_extension(table: &mut Table) {
    use Verdict::{Either, Forwarded};
    table.class = "chunk_extension";
    let mut with = |extension: &str, verdict| {
        let first = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        let last = format!("5\r\nhello\r\n0{extension}\r\n\r\n");
        table.add(excerpt(extension), chunked(&first), verdict);
        table.add(format!("{} last", excerpt(extension)), chunked(&last), verdict);
    };
    for extension in each(
        ";a¦;a=b¦;a=\"b\"¦;a=\"\"¦;a;b¦;a=b;c=d¦;a=\"b;c\"¦;a=\"b c\"¦;a=\"\\\"\"¦;a=\"\\\\\"¦\
         ;a=\"b\tc\"¦;!#$%&'*+-.^_`|~¦;1=2¦;a=\"GET /smuggled HTTP/1.1\"¦;a=\"\u{e9}\"",
    ) {
        with(extension, Forwarded);
    }
    // "Bad white space", which a recipient must parse and a sender must not send (RFC 9112 §7.1.1).
    for extension in each(" ;a¦\t;a¦; a¦;a =b¦;a= b¦;a = \"b\"¦;a ;b¦;a=b ;c¦;a; b") {
        with(extension, Either);
    }
    for extension in each(
        ";¦;;¦;a;¦;;a¦;=b¦;a=¦;a= ¦;a=;b¦;a==b¦;a=b=c¦;a b¦;a=b c¦;a=\"b¦;a=b\"¦;a\"b\"¦;a=\"b\"c¦\
         ;a=\"\\¦;a=\"b\\\"¦,a¦:a¦ a¦=a¦;a ¦;a\nb¦;a\rb¦;a\0¦;a=\x0b¦;a=\"\x01\"¦;a=\"\n\"¦\
         ;a=\"\r\"¦;a=\"\r\n\"¦;a=b ¦;a=\"b\" ¦;a=b\t¦;a=\"\x7f\"¦;\u{e9}¦;a=\u{e9}¦;(a)¦;a=(b)¦;a,b¦;a@b¦;[a]¦;{a}¦;a/b¦\
         ;a:b¦;a?b¦;<a>¦;\\¦; ¦ ; ¦;\n¦;\r",
    ) {
        with(extension, BROKEN);
    }
    with(&format!(";{}", "a".repeat(200)), Forwarded);
    for size in [257, 300, 4_096, 20_000] {
        with(&format!(";{}", "a".repeat(size)), BROKEN);
        with(&format!(";a=\"{}\"", "b".repeat(size)), BROKEN);
        with(&";a=b".repeat(size.min(5_000)), BROKEN);
    }
    for (count, verdict) in [(20, Forwarded), (30, BROKEN)] {
        let chunk = format!("1;{}\r\nb\r\n", "a".repeat(199));
        let body = format!("{}0\r\n\r\n", chunk.repeat(count));
        table.add(format!("{count} times 200 bytes"), chunked(&body), verdict);
    }
    // Lines where one parser treats LF as the end of the line and another continues (`TERM.EXT`, `EXT.TERM`).
    for line in each("5;\nxx¦5;a\nxx¦5\n;a¦2;\nhello¦0;\n\r\n") {
        let body = format!("{line}\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
        table.add(format!("{} before a smuggled one", excerpt(line)), chunked(&body), BROKEN);
    }
}

fn chunk_end(table: &mut Table) {
    table.class = "chunk_end";
    for end in each(
        "¦\n¦\r¦\r\r\n¦\n\n¦\n\r¦ \r\n¦\t\r\n¦\0\r\n¦\r \n¦\r\0\n¦X\r\n¦XX¦\r\n\r\n¦\r\nX¦\
         \x0b\r\n¦;\r\n¦;a\r\n¦0\r\n¦\u{85}¦\u{2028}¦\\r\\n¦\r\n ¦\r\n\n¦--¦\x7f\r\n",
    ) {
        for (place, body) in [
            ("a chunk", format!("5\r\nhello{end}0\r\n\r\n")),
            ("the second chunk", format!("1\r\nb\r\n5\r\nhello{end}0\r\n\r\n")),
            ("a chunk before more", format!("5\r\nhello{end}5\r\nhello\r\n0\r\n\r\n")),
        ] {
            table.add(format!("{} after {place}", excerpt(end)), chunked(&body), BROKEN);
        }
    }
    for end in each(
        "\n¦\n\n¦\r\n\n¦\r\r\n¦\r\n \r\n¦\r\n\r\r\n¦\r\nX\r\n¦\r\n\0\r\n¦\r\n: \r\n¦\r\n\n\r\n¦\
         \n\r\n¦\r\n\t\r\n¦\r\n0\r\n",
    ) {
        let body = format!("5\r\nhello\r\n0{end}\r\n\r\n");
        table.add(format!("{} after the last size", excerpt(end)), chunked(&body), BROKEN);
    }
    for data in each("\r\n¦0\r\n\r\n¦\r\n0\r\n\r\n¦\n¦\0¦5\r\nhello\r\n¦\r\n\r\n") {
        let body = format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
        table.add(format!("{} as data", excerpt(data)), chunked(&body), Verdict::Forwarded);
    }
}

fn trailers(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "trailers";
    let with = |lines: &str| chunked(&format!("5\r\nhello\r\n0\r\n{lines}\r\n\r\n"));
    // Trailers that frame, route or authenticate are dropped; the judge checks this.
    for name in each(
        "X-T¦ETag¦Digest¦Server-Timing¦grpc-status¦Content-Length¦Transfer-Encoding¦Host¦\
         Authorization¦Cookie¦Set-Cookie¦Connection¦TE¦Trailer¦Expect¦Upgrade¦Keep-Alive¦Via¦\
         Forwarded¦X-Forwarded-For¦X-Forwarded-Host¦X-Forwarded-Proto¦X-Real-IP¦X-Request-Id¦\
         traceparent¦tracestate¦Date¦Age¦Range¦Content-Type¦Content-Encoding¦Content-Range¦\
         Cache-Control¦Max-Forwards¦If-Match¦Location¦Vary¦Proxy-Authorization¦Proxy-Connection¦\
         Tidegate-Via¦X-HTTP-Method-Override¦X-Original-URL¦X-Authenticated-User¦User-Agent¦\
         HTTP2-Settings¦CONTENT-LENGTH¦transfer-encoding¦hOST",
    ) {
        table.add(name, with(&format!("{name}: 5")), Forwarded);
        let among = with(&format!("X-S: t\r\n{name}: chunked\r\nX-U: v"));
        table.add(format!("{name} among others"), among, Forwarded);
    }
    for line in
        each("X-T:¦X-T:u¦X-T: \tu \t¦X-T: \u{e9}¦X-T: u\r\nX-T: v¦x: :¦X-T: GET /smuggled HTTP/1.1")
    {
        table.add(excerpt(line), with(line), Forwarded);
    }
    for line in each(
        "X-T¦X-T u¦: u¦:¦X-T : u¦X-T\t: u¦ X-T: u¦\tX-T: u¦X T: u¦X_T: u¦X(T): u¦\"X-T\": u¦\
         X\u{e9}: u¦X-T: u\r\n v¦X-T: u\r\n\tv¦X-T: u\nX-U: v¦X-T: u\rX-U: v¦X-T: \0¦X-T: \x01¦\
         X-T: \x7f¦X-T: u\r¦X-T: u\n¦\n¦\r¦GET /smuggled HTTP/1.1¦\
         GET /smuggled HTTP/1.1\r\nHost: a¦Content-Length : 5¦Transfer-Encoding\x0b: chunked¦\
         X-T: u\r\n \r\nX-U: v¦5¦0",
    ) {
        table.add(excerpt(line), with(line), BROKEN);
        let among = with(&format!("X-S: t\r\n{line}\r\nX-U: v"));
        table.add(format!("{} among others", excerpt(line)), among, BROKEN);
    }
    for (count, verdict) in [(2, Forwarded), (32, Forwarded), (33, BROKEN), (100, BROKEN)] {
        let lines = vec!["X-T: u"; count].join("\r\n");
        table.add(format!("{count} fields"), with(&lines), verdict);
    }
    for (size, verdict) in [(8_000, Forwarded), (8_300, BROKEN), (20_000, BROKEN)] {
        let line = format!("X-T: {}", "u".repeat(size));
        table.add(format!("{size} bytes"), with(&line), verdict);
    }
    let named = post("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n", "0\r\nX-T: u\r\n\r\n");
    table.add("announced, without a body", named, Forwarded);
}

/// A violation after more bytes than any buffer holds: the head and a part of the body were forwarded before.
fn late_chunk(table: &mut Table) {
    table.class = "late_chunk";
    let large = format!("{:x}\r\n{}\r\n", 100_000, "b".repeat(100_000));
    for fault in each(
        "g\r\n¦-1\r\n¦0x5\r\nhello\r\n¦5\nhello\r\n¦ 5\r\nhello\r\n¦5;\r\nhello\r\n¦\
         5\r\nhelloX\r\n¦5\r\nhello\n0\r\n\r\n¦\r\n\r\n¦ffffffffffffffff\r\n¦0\r\nX-T : u\r\n\r\n¦\
         0\r\n X-T: u\r\n\r\n¦0\r\nX-T: \x01\r\n\r\n¦0\n\n¦0\r\n\n¦0 \r\n\r\n¦\
         GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ) {
        table.add(excerpt(fault), chunked(&format!("{large}{fault}")), Verdict::Aborted);
    }
}

/// A second request in bytes that one parser reads as the body and another as the next message.
fn smuggling(table: &mut Table) {
    table.class = "smuggling";
    let hidden = format!("0\r\n\r\n{SMUGGLED}");
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let length = format!("Content-Length: {}\r\n", hidden.len());
    for method in each("GET¦POST¦PUT¦DELETE¦PATCH¦OPTIONS¦TRACE¦X") {
        let mut with = |name: &str, fields: &str, body: &str, verdict| {
            let text = format!("{method} /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
            table.add(format!("{name} by {method}"), text, verdict);
        };
        let coding = "Transfer-Encoding: chunked\r\n";
        with("CL.TE", &format!("{length}{coding}"), &hidden, BAD);
        with("TE.CL", &format!("{coding}Content-Length: 4\r\n"), &chunk, BAD);
        with("TE.TE", &format!("{coding}Transfer-Encoding: identity\r\n"), &hidden, BAD);
        with("TE.TE the other way", &format!("Transfer-Encoding: x\r\n{coding}"), &hidden, BAD);
        with("CL.CL", &format!("{length}Content-Length: 0\r\n"), &hidden, BAD);
        with("CL.CL the other way", &format!("Content-Length: 0\r\n{length}"), &hidden, BAD);
        with("TE with an empty length", &format!("{coding}Content-Length: 0\r\n"), &hidden, BAD);
        with("0.CL", "Content-Length:\r\n 36\r\n", SMUGGLED, BAD);
        with("a length after a bare LF", &format!("X: y\n{length}"), &hidden, BAD);
        with("a length with a space", "Content-Length : 36\r\n", SMUGGLED, BAD);
        with("an unknown coding", "Transfer-Encoding: xchunked\r\n", &hidden, BAD);
        with("a coding list", "Transfer-Encoding: gzip, chunked\r\n", &hidden, UNKNOWN_CODING);
        with("a head that ends with LF", "X: y\r\n\n", SMUGGLED, BAD);
        with("a head in a field", "X: y\r\r\n", SMUGGLED, BAD);
        for line in each(NEARLY) {
            let name = format!("{} and a length", excerpt(line));
            with(&name, &format!("{length}{line}\r\n"), &hidden, BAD);
        }
    }
    for (base, text) in BASES {
        // Another complete message in place of the blank line that would have ended this one.
        let text = text.replacen("X-A: bc", "X-A: b\n\nGET /smuggled HTTP/1.1\nX-B: c", 1);
        table.add(format!("a message behind bare LF in {base}"), text, BAD);
    }
}

/// The same payloads in a body with unambiguous framing: a cluster receives one message.
fn well_framed(table: &mut Table) {
    use Verdict::Forwarded;
    table.class = "smuggling";
    let hidden = format!("0\r\n\r\n{SMUGGLED}");
    for method in each("GET¦POST¦PUT¦DELETE¦PATCH¦OPTIONS¦TRACE¦X") {
        let mut with = |name: &str, fields: &str, body: &str| {
            let text = format!("{method} /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
            table.add(format!("{name} by {method}"), text, Forwarded);
        };
        let coding = "Transfer-Encoding: chunked\r\n";
        for (name, data) in [("it", SMUGGLED), ("it behind a last chunk", &hidden)] {
            let length = format!("Content-Length: {}\r\n", data.len());
            let chunk = format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
            with(&format!("a body of {name}"), &length, data);
            with(&format!("a chunk of {name}"), coding, &chunk);
            for option in each("content-length¦transfer-encoding¦host¦close¦keep-alive") {
                let fields = format!("Connection: {option}\r\n");
                let nominated = format!("a body of {name} with {option} nominated");
                with(&nominated, &format!("{fields}{length}"), data);
                let nominated = format!("a chunk of {name} with {option} nominated");
                with(&nominated, &format!("{fields}{coding}"), &chunk);
            }
            let upgrade = format!("Connection: upgrade\r\nUpgrade: h2c\r\n{length}");
            with(&format!("a body of {name} with h2c"), &upgrade, data);
            let other = format!("X-Transfer-Encoding: chunked\r\n{length}");
            with(&format!("a body of {name} with another coding"), &other, data);
            let other = format!("X-Content-Length: 0\r\n{coding}");
            with(&format!("a chunk of {name} with another length"), &other, &chunk);
        }
    }
}
