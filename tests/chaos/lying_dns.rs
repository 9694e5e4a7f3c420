//! A name server with selectable faults, for tests of DNS failures. It answers every name alike, over UDP only; TCP
//! is refused.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The kind of answer. A correct answer has a time to live of one second, and no name has an AAAA record.
#[derive(Clone, Debug, PartialEq)]
pub enum Lie {
    Truth(Vec<Ipv4Addr>),
    Silence,
    ServFail,
    NxDomain,
    Empty,
    /// A valid header, then a name that points to itself.
    Garbage,
    /// `POISON`, with an id that no query has.
    WrongId,
    /// A truncated answer, which asks for TCP.
    Truncated,
    LinkLocal,
    /// A correct answer with a time to live of 0.
    ShortTtl(Vec<Ipv4Addr>),
    /// A correct answer with a time to live of 68 years, the longest possible (RFC 2181 §8).
    LongTtl(Vec<Ipv4Addr>),
}

/// The address in forged answers: a resolver that accepts one sends traffic here.
pub const POISON: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The server; dropping it ends its thread.
pub struct LyingDns {
    pub at: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    lie: Lie,
    asked: usize,
    over: bool,
}

impl LyingDns {
    pub fn start(lie: Lie) -> LyingDns {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { lie, asked: 0, over: false }));
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let mut space = [0; 4096];
            while let Ok((count, peer)) = socket.recv_from(&mut space) {
                let mut state = shared.lock().unwrap();
                if state.over {
                    return;
                }
                let Some(question) = Question::of(&space[..count]) else { continue };
                state.asked += usize::from(question.kind == A);
                // The resolver may have closed its socket.
                drop(answer(&question, &state.lie).map(|answer| socket.send_to(&answer, peer)));
            }
        });
        LyingDns { at, state, thread: Some(thread) }
    }

    pub fn set(&self, lie: Lie) {
        self.state.lock().unwrap().lie = lie;
    }

    /// The number of address queries.
    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }
}

impl Drop for LyingDns {
    fn drop(&mut self) {
        self.state.lock().unwrap().over = true;
        // An empty datagram wakes the thread.
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.at)).unwrap();
        self.thread.take().map(JoinHandle::join);
    }
}

/// The type A, and the flags of a response: authoritative, recursion available.
const A: u16 = 1;
const RESPONSE: u16 = 0x8480;
const TRUNCATED: u16 = 0x0200;

struct Question<'a> {
    id: u16,
    /// Name, type and class as received; letters keep their case, which some resolvers check.
    bytes: &'a [u8],
    kind: u16,
}

impl Question<'_> {
    fn of(message: &[u8]) -> Option<Question<'_>> {
        let two = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let is_query = two(2)? & 0xf800 == 0 && two(4)? == 1;
        let mut end = 12;
        while *message.get(end)? != 0 {
            end += 1 + usize::from(message[end]);
        }
        let (kind, bytes) = (two(end + 1)?, message.get(12..end + 5)?);
        is_query.then_some(Question { id: two(0)?, bytes, kind })
    }
}

fn answer(question: &Question<'_>, lie: &Lie) -> Option<Vec<u8>> {
    let (flags, addresses, ttl): (u16, &[Ipv4Addr], u32) = match lie {
        Lie::Silence => return None,
        Lie::Truth(addresses) => (0, addresses, 1),
        Lie::ShortTtl(addresses) => (0, addresses, 0),
        Lie::LongTtl(addresses) => (0, addresses, i32::MAX.unsigned_abs()),
        Lie::LinkLocal => (0, &[METADATA], 1),
        Lie::WrongId => (0, &[POISON], 1),
        Lie::Empty | Lie::Garbage => (0, &[], 1),
        Lie::ServFail => (2, &[], 1),
        Lie::NxDomain => (3, &[], 1),
        Lie::Truncated => (TRUNCATED, &[], 1),
    };
    let addresses = if question.kind == A { addresses } else { &[] };
    let id = if *lie == Lie::WrongId { !question.id } else { question.id };
    let garbage = *lie == Lie::Garbage;
    let count = if garbage { u16::MAX } else { u16::try_from(addresses.len()).unwrap() };
    let head = [id, RESPONSE | flags, 1, count, 0, 0];
    let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend(question.bytes);
    if garbage {
        let here = 0xc000 | u16::try_from(bytes.len()).unwrap();
        bytes.extend(here.to_be_bytes());
    }
    // The question's name is at byte 12; type A, class IN, four bytes.
    let (start, ttl) = ([0xc0, 12, 0, 1, 0, 1], ttl.to_be_bytes());
    for address in addresses {
        bytes.extend([&start[..], &ttl, &[0, 4], &address.octets()].concat());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Queries `Shop.test` with an id and a type.
    fn asked(server: &LyingDns, kind: u8) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = if server.state.lock().unwrap().lie == Lie::Silence { 50 } else { 5_000 };
        socket.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let query = [&head[..], b"\x04Shop\x04test\x00\x00", &[kind, 0, 1]].concat();
        socket.send_to(&query, server.at).unwrap();
        let mut space = [0; 512];
        let count = socket.recv(&mut space).ok()?;
        assert_eq!(space[12..27], query[12..], "the question comes back as it was");
        Some(space[..count].to_vec())
    }

    #[test]
    fn each_fault_gives_its_answer() {
        let (two, three) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
        let (both, server) = (|| vec![two, three], LyingDns::start(Lie::Silence));
        assert_eq!(asked(&server, 1), None);
        // By fault: flags, answers, and the time to live and address of the first answer.
        let table = [
            (Lie::Truth(both()), RESPONSE, 2, Some((1, two))),
            (Lie::ShortTtl(both()), RESPONSE, 2, Some((0, two))),
            (Lie::LongTtl(both()), RESPONSE, 2, Some((0x7fff_ffff_u32, two))),
            (Lie::LinkLocal, RESPONSE, 1, Some((1, METADATA))),
            (Lie::WrongId, RESPONSE, 1, Some((1, POISON))),
            (Lie::Empty, RESPONSE, 0, None),
            (Lie::ServFail, 0x8482, 0, None),
            (Lie::NxDomain, 0x8483, 0, None),
            (Lie::Truncated, 0x8680, 0, None),
            (Lie::Garbage, RESPONSE, 0xffff, None),
        ];
        for (lie, flags, count, first) in table {
            server.set(lie.clone());
            let answer = asked(&server, 1).unwrap();
            let word = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
            let id = if lie == Lie::WrongId { 0xedcb } else { 0x1234 };
            assert_eq!((word(0), word(2), word(6)), (id, flags, count), "{lie:?}");
            let record = |(ttl, ip): (u32, Ipv4Addr)| {
                [&[0xc0, 12, 0, 1, 0, 1], &ttl.to_be_bytes()[..], &[0, 4], &ip.octets()].concat()
            };
            let start = first.map_or(vec![0xc0, 27], record);
            assert!(count == 0 || answer[27..].starts_with(&start), "{lie:?}");
        }
        server.set(Lie::Truth(both()));
        assert_eq!(asked(&server, 28).map(|answer| answer.len()), Some(27), "no AAAA");
        assert_eq!(server.asked(), 11);
        let state = Arc::downgrade(&server.state);
        drop(server);
        assert_eq!(state.strong_count(), 0, "its thread has ended");
    }
}
