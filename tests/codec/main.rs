//! Attacks on the codec: thousands of messages made by mutation, judged on both sides by a parser of RFC 9112 that
//! shares no code with the proxy.
//!
//! A request that a strict parser refuses never reaches a cluster, no cluster answers more requests than were sent,
//! and a truncated response is always visible as such. The verdict depends neither on fragmentation, nor on the
//! position in a connection, nor on TLS.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test, and it shares its support")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits with deadlines of the real clock"
)]

mod differential;
mod judge;
#[path = "../mutated/mod.rs"]
mod mutated;
mod request_tables;
mod response_tables;
mod rig;
#[path = "../e2e/support.rs"]
mod support;

use request_tables::{Case, Verdict};
use response_tables::{Hostile, Want};
use rig::{Got, LANES, Recorder, Seen, Tls, Wire, certificates, in_lanes, plain, proxy, read};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::Proxy;

fn recorders() -> Vec<Recorder> {
    (0..LANES).map(|_| Recorder::start()).collect()
}

fn addresses(recorders: &[Recorder]) -> Vec<SocketAddr> {
    recorders.iter().map(|recorder| recorder.address).collect()
}

fn at(proxy: &Proxy) -> Vec<SocketAddr> {
    (0..LANES).map(|lane| proxy.at(&format!("l{lane}"))).collect()
}

/// The method of a case, for the judge of its response.
fn method(case: &Case) -> &str {
    let word = case.bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).unwrap_or("GET")
}

/// Fails with all violations found, or with as many as are readable.
#[track_caller]
fn expect_none(faults: &[String], of: usize) {
    let shown = faults.iter().take(25).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} of {of} cases:\n{shown}", faults.len());
}

/// Compares both sides with the case's verdict. Bytes of the previous case may be read late and attributed to this
/// one: a refused case that seems to have sent bytes is repeated once.
fn judge_case(
    case: &Case,
    pieces: &[&[u8]],
    connect: impl Fn() -> Result<Box<dyn Wire>, String>,
    cluster: &Recorder,
) -> Result<(), String> {
    let first = judge_once(case, pieces, connect()?, cluster);
    if first.is_ok() || !matches!(case.verdict, Verdict::Refused(_) | Verdict::Either) {
        return first;
    }
    std::thread::park_timeout(Duration::from_millis(30));
    judge_once(case, pieces, connect()?, cluster)
}

fn judge_once(
    case: &Case,
    pieces: &[&[u8]],
    mut wire: Box<dyn Wire>,
    cluster: &Recorder,
) -> Result<(), String> {
    let fault = |what: String| Err(format!("{}: {what}", case.name));
    let before = cluster.seen();
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            // The proxy must have read the earlier bytes.
            std::thread::park_timeout(Duration::from_micros(300));
        }
        if wire.write_all(piece).and_then(|()| wire.flush()).is_err() {
            break;
        }
    }
    let got = match read(&mut *wire, method(case)) {
        Ok(got) => got,
        Err(why) => return fault(why),
    };
    wire.finish();
    let after = cluster.seen();
    if after.violations.len() > before.violations.len() {
        return fault(format!("a cluster got {}", after.violations.last().unwrap()));
    }
    let whole = after.whole - before.whole;
    let status = got.whole().map(|response| response.status);
    let refused = |statuses: &[u16]| {
        let closes = got.whole().is_some_and(|response| {
            response.fields.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
            })
        });
        status.is_some_and(|status| statuses.contains(&status)) && closes
    };
    // If a request is refused while much of it is in transit, a reset may discard the answer.
    let lost = got.responses.is_empty() && got.over;
    let kept = match case.verdict {
        Verdict::Refused(statuses) => {
            (refused(statuses) || lost && case.bytes.len() > 8_000) && after.bytes == before.bytes
        }
        Verdict::Forwarded => status == Some(200) && whole == 1,
        Verdict::Either => match status {
            Some(200) => whole == 1,
            _ => refused(&[400, 414, 417, 431, 501]) && after.bytes == before.bytes,
        },
        Verdict::Aborted | Verdict::RefusedOrAborted => {
            (refused(&[400]) || got.over && got.whole().is_none()) && whole == 0
        }
    };
    match kept {
        true => Ok(()),
        false => fault(format!(
            "{:?}, but the client got {status:?} and a cluster {whole} messages and {} bytes: {}",
            case.verdict,
            after.bytes - before.bytes,
            String::from_utf8_lossy(&case.bytes).escape_debug()
        )),
    }
}

#[test]
fn every_request_gets_its_verdict() {
    let cases = request_tables::requests();
    assert!(cases.len() >= 1_000, "{}", cases.len());
    let clusters = recorders();
    let proxy = proxy(&addresses(&clusters), "", "");
    let to = at(&proxy);
    let faults = in_lanes(&cases, |lane, case| {
        judge_case(case, &[&case.bytes], || Ok(plain(to[lane])), &clusters[lane])
    });
    expect_none(&faults, cases.len());
}

#[test]
fn the_hundredth_request_of_a_connection_is_judged_like_the_first() {
    let cases: Vec<Case> = request_tables::requests().into_iter().step_by(3).collect();
    let clusters = recorders();
    let proxy = proxy(&addresses(&clusters), "", "");
    let to = at(&proxy);
    let faults = in_lanes(&cases, |lane, case| {
        let later = || {
            let mut wire = plain(to[lane]);
            for _ in 0..2 {
                let before = b"POST /before HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
                wire.write_all(before).map_err(|error| error.to_string())?;
                let got = read(&mut *wire, "POST")?;
                let status = got.whole().map(|response| response.status);
                if status != Some(200) {
                    return Err(format!("{}: one before it got {status:?}", case.name));
                }
            }
            Ok(wire)
        };
        judge_case(case, &[&case.bytes], later, &clusters[lane])
    });
    expect_none(&faults, cases.len());
}

#[test]
fn the_verdict_is_the_same_over_tls() {
    let cases: Vec<Case> = request_tables::requests().into_iter().skip(1).step_by(5).collect();
    // One process and one listener have one set of ticket keys: most handshakes are resumptions.
    let folder = certificates();
    let pair = format!("cert: {0}/a.pem, key: {0}/a.key", folder.0.display());
    let clusters = recorders();
    let tls = format!(", tls: {{ certificates: [{{ {pair} }}] }}");
    let proxy = proxy(&addresses(&clusters), &tls, "");
    let (to, tls) = (at(&proxy), Tls::new(&folder));
    // A host that the certificate does not contain is answered with 421, and not covered here.
    let same_host = |case: &&Case| {
        !matches!(case.verdict, Verdict::Forwarded | Verdict::Either) || is_for_a(case)
    };
    let cases: Vec<Case> = cases.iter().filter(same_host).cloned().collect();
    assert!(cases.len() > 800, "{}", cases.len());
    let faults = in_lanes(&cases, |lane, case| {
        judge_case(case, &[&case.bytes], || Ok(tls.connect(to[lane])), &clusters[lane])
    });
    expect_none(&faults, cases.len());
}

fn is_for_a(case: &Case) -> bool {
    let text = String::from_utf8_lossy(&case.bytes).to_ascii_lowercase();
    text.contains("host: a\r\n") && !text.contains("://")
}

#[test]
fn the_verdict_does_not_depend_on_how_bytes_are_cut() {
    let small = |case: &Case| case.bytes.len() <= 300;
    let cases: Vec<Case> =
        request_tables::requests().into_iter().filter(small).step_by(31).collect();
    assert!(cases.len() > 160, "{}", cases.len());
    let clusters = recorders();
    let proxy = proxy(&addresses(&clusters), "", "");
    let to = at(&proxy);
    let cuts: Vec<(&Case, usize)> =
        cases.iter().flat_map(|case| (1..case.bytes.len()).map(move |at| (case, at))).collect();
    let faults = in_lanes(&cuts, |lane, (case, at)| {
        let (first, second) = case.bytes.split_at(*at);
        judge_case(case, &[first, second], || Ok(plain(to[lane])), &clusters[lane])
            .map_err(|fault| format!("cut at {at}: {fault}"))
    });
    expect_none(&faults, cuts.len());
    // Also byte by byte.
    let faults = in_lanes(&cases, |lane, case| {
        let pieces: Vec<&[u8]> = case.bytes.chunks(1).collect();
        judge_case(case, &pieces, || Ok(plain(to[lane])), &clusters[lane])
            .map_err(|fault| format!("byte by byte: {fault}"))
    });
    expect_none(&faults, cases.len());
}

/// A cluster that answers each request with the current case's bytes.
struct Liar {
    address: SocketAddr,
    current: Arc<AtomicUsize>,
    /// Requests that were answered.
    answered: Arc<AtomicUsize>,
    /// Requests on a connection that the proxy must not reuse.
    reused: Arc<AtomicUsize>,
}

impl Liar {
    fn start(cases: Arc<Vec<Hostile>>) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [current, answered, reused] = std::array::from_fn(|_| Arc::<AtomicUsize>::default());
        let (index, count, again) = (current.clone(), answered.clone(), reused.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let case = cases[index.load(Ordering::SeqCst)].clone();
                let (count, again) = (count.clone(), again.clone());
                std::thread::spawn(move || lie(stream, &case, &count, &again));
            }
        });
        Liar { address, current, answered, reused }
    }
}

fn lie(mut stream: TcpStream, case: &Hostile, answered: &AtomicUsize, reused: &AtomicUsize) {
    let mut head = Vec::new();
    let mut space = [0; 4_096];
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut space) {
            Ok(count @ 1..) => head.extend_from_slice(&space[..count]),
            _ => return,
        }
    }
    answered.fetch_add(1, Ordering::SeqCst);
    drop(stream.write_all(&case.bytes));
    if case.reset {
        // The client must have read the bytes before the reset, which may overtake them.
        std::thread::park_timeout(Duration::from_millis(5));
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        return;
    }
    if matches!(case.want, Want::WholeNotReused(..))
        && let Ok(1..) = stream.read(&mut space)
    {
        reused.fetch_add(1, Ordering::SeqCst);
    }
}

/// The client's response to a request that reached the cluster. The previous case's connection may close at this
/// moment; a 502 with that cause is no result of this case.
fn ask(
    wire: &mut Box<dyn Wire>,
    case: &Hostile,
    path: usize,
    to: SocketAddr,
    liar: &Liar,
) -> Result<Got, String> {
    const TRIES: usize = 10;
    let request = format!("{} /{path} HTTP/1.1\r\nHost: a\r\n\r\n", case.method);
    for _ in 0..TRIES {
        let before = liar.answered.load(Ordering::SeqCst);
        wire.write_all(request.as_bytes()).unwrap();
        let got = read(&mut **wire, case.method).map_err(|why| format!("{}: {why}", case.name))?;
        if liar.answered.load(Ordering::SeqCst) > before {
            return Ok(got);
        }
        if got.over {
            *wire = plain(to);
        }
    }
    Err(format!("{}: the cluster was never asked", case.name))
}

fn judge_answer(case: &Hostile, to: SocketAddr, liar: &Liar) -> Result<(), String> {
    let mut wire = plain(to);
    // Twice if the connection stays open: surplus bytes of one answer must not become the next answer.
    let rounds = if matches!(case.want, Want::WholeNotReused(..)) { 2 } else { 1 };
    for round in 0..rounds {
        let got = ask(&mut wire, case, round, to, liar)?;
        let gateway = got.whole().is_some_and(|response| response.status == 502);
        let kept = match &case.want {
            Want::BadGateway => gateway,
            Want::Whole(status, body) | Want::WholeNotReused(status, body) => got
                .whole()
                .is_some_and(|response| response.status == *status && response.body == *body),
            Want::Cut => gateway || got.over && got.whole().is_none(),
        };
        if !kept {
            let shown = String::from_utf8_lossy(&case.bytes).escape_debug().to_string();
            let shown = shown.chars().take(300).collect::<String>();
            let got =
                got.responses.last().map(|last| (last.status, last.complete, last.body.len()));
            return Err(format!("{}: {:?}, but {got:?}: {shown}", case.name, case.want));
        }
        if got.over {
            break;
        }
    }
    wire.finish();
    Ok(())
}

#[test]
fn no_hostile_response_reaches_the_client() {
    let cases = Arc::new(response_tables::responses());
    assert!(cases.len() >= 80, "{}", cases.len());
    let liars: Vec<Liar> = (0..LANES).map(|_| Liar::start(cases.clone())).collect();
    let addresses: Vec<SocketAddr> = liars.iter().map(|liar| liar.address).collect();
    let proxy = proxy(&addresses, "", "");
    let to = at(&proxy);
    let numbers: Vec<usize> = (0..cases.len()).collect();
    let faults = in_lanes(&numbers, |lane, number| {
        liars[lane].current.store(*number, Ordering::SeqCst);
        judge_answer(&cases[*number], to[lane], &liars[lane])
    });
    expect_none(&faults, cases.len());
    let reused: usize = liars.iter().map(|liar| liar.reused.load(Ordering::SeqCst)).sum();
    assert_eq!(reused, 0, "connections with a surplus were used again");
}

#[test]
fn the_judge_detects_violations() {
    // The recorder receives bytes that the proxy must never send and has to detect them; otherwise the tests above
    // would prove nothing.
    let cluster = Recorder::start();
    let mut direct = support::connect(cluster.address);
    direct
        .write_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
    support::eventually("it is noticed", || !cluster.seen().violations.is_empty());
    assert_eq!(Seen { violations: Vec::new(), ..cluster.seen() }.whole, 0);
}

#[test]
fn httparse_and_hyper_agree_with_the_codec() {
    let cases = request_tables::requests();
    let accepted = cases.iter().filter(|case| differential::compare(&case.bytes)).count();
    assert!(accepted > 1_500, "{accepted}");
    let mut dice = tidegate::decision::units::Dice::seeded(7);
    let mut accepted = 0;
    for _ in 0..30_000 {
        let seed = &cases[dice.below(cases.len())].bytes;
        let other = &cases[dice.below(cases.len())].bytes;
        if seed.len() < 2_000 && other.len() < 2_000 {
            accepted +=
                usize::from(differential::compare(&mutated::mutated(seed, other, &mut dice)));
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}
