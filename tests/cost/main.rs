//! The cost of parsing, of a decision and of an exchange, as a guard: allocations, and instructions under callgrind.
//!
//! Times depend on the machine; instructions depend on it only a little. `tests/cost/instructions.txt` has those of the
//! development build by this compiler. A change of more than 3 % fails; for an exchange only an increase, because a machine
//! on which the cluster's response arrives sooner polls it less often (7.5 % fewer instructions on one). After an
//! intended change: `TIDEGATE_GOLDEN=write cargo test --all-features --test cost`, and the difference says what it costs.
//! What a release needs is measured by `make bench` and `cargo bench --bench decision`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests are named by their promises, and fail by panicking"
)]

mod decide;
mod exchange;
mod parse;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// What is counted.
struct Subject {
    name: &'static str,
    /// Does it this often.
    run: fn(u64),
    /// How often a process of its own does it.
    count: u64,
    /// The function whose instructions are counted, with all that it calls. What a worker does by the clock, such as
    /// taking over a new view, is outside.
    inside: &'static str,
    /// The allowed decrease, as a part of the baseline.
    below: f64,
}

/// The task of a client's connection.
const CONNECTION: &str = "tidegate_proxy::worker_thread::begin::{{closure}}";

/// The allowed increase of a count, as a part of its baseline; and the allowed decrease, if it is the same on every machine.
const TOLERANCE: f64 = 0.03;
/// The allowed decrease of the instructions of an exchange.
const FEWER_POLLS: f64 = 0.12;

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "parse",
        run: parse::run,
        count: 1_000,
        inside: "cost::parse::run",
        below: TOLERANCE,
    },
    Subject {
        name: "decide",
        run: decide::run,
        count: 1_000,
        inside: "cost::decide::run",
        below: TOLERANCE,
    },
    Subject {
        name: "exchange-http1",
        run: exchange::http1,
        count: 200,
        inside: CONNECTION,
        below: FEWER_POLLS,
    },
    Subject {
        name: "exchange-http2",
        run: exchange::http2,
        count: 200,
        inside: CONNECTION,
        below: FEWER_POLLS,
    },
];

/// Set in a process that is counted: a subject and a number, as `parse 2000`.
const COUNTED: &str = "TIDEGATE_COUNTED";

/// The futures of an exchange are boxed, so that an idle connection does not hold their 9 KiB: that of the exchange,
/// and that of the two directions of its bodies.
const FUTURES: u64 = 2;

#[test]
fn an_http1_exchange_allocates_its_two_futures_and_nothing_else() {
    let count = 25;
    // A decision that is kept for `why` allocates, and so does a new view; an allocation by each exchange is in every
    // batch.
    let least = exchange::allocations(count, 40).into_iter().min().unwrap();
    assert!(least <= FUTURES * count + 2, "{least} by {count} exchanges on a kept connection");
}

/// What an idle connection may hold, without the kernel's part and without what an allocator adds. The task of the
/// connection has 768 bytes of it and its registration with the runtime 256; a field that is added to the connection
/// or kept across an `await` shows here.
const IDLE: f64 = 1_400.0;

#[test]
fn an_idle_connection_is_small() {
    let bytes = exchange::idle_bytes(400);
    assert!(bytes > 500.0, "{bytes}: it counts");
    assert!(bytes < IDLE, "{bytes} bytes");
    println!("{bytes} bytes for an idle connection");
}

/// Not a test of its own: the process whose instructions are counted.
#[test]
fn the_counted_process() {
    let Ok(order) = std::env::var(COUNTED) else { return };
    let (name, count) = order.split_once(' ').unwrap();
    let subject = SUBJECTS.iter().find(|subject| subject.name == name).unwrap();
    (subject.run)(count.parse().unwrap());
}

#[test]
fn instructions_stay_within_three_percent_of_their_baselines() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cost/instructions.txt");
    let compiler = compiler();
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
        let line = |subject: &Subject| format!("{} {:.0}\n", subject.name, least(subject, 0.0));
        let lines: String = SUBJECTS.iter().map(line).collect();
        std::fs::write(&file, format!("{compiler}\n{lines}")).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let (of, lines) = text.split_once('\n').unwrap();
    if of != compiler {
        println!("not judged: the baselines are of {of}, this is {compiler}");
        return;
    }
    let stored: BTreeMap<&str, f64> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let off = |subject: &Subject| {
        let name = subject.name;
        let then = stored.get(name).copied().unwrap_or_default();
        let now = least(subject, then * (1.0 + TOLERANCE));
        let change = now / then - 1.0;
        println!("{name}: {now:.0} instructions, {then:.0} before ({:+.1} %)", change * 100.0);
        (change > TOLERANCE || change < -subject.below).then_some(name)
    };
    let off: Vec<&str> = SUBJECTS.iter().filter_map(off).collect();
    assert!(off.is_empty(), "changed by more than is allowed: {}", off.join(", "));
}

/// The least of three counts, or the first within `enough`: on a busy machine a task is polled more often.
fn least(subject: &Subject, enough: f64) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        least = least.min(instructions(subject));
        if least <= enough {
            break;
        }
    }
    least
}

/// Instructions of one: the difference between a process that does it `count` times and one that does it twice as often.
fn instructions(subject: &Subject) -> f64 {
    let of = |count: u64| counted(subject, count);
    (of(2 * subject.count) - of(subject.count)) / subject.count as f64
}

/// The instructions of a process that does it `count` times: runs this program under callgrind.
fn counted(subject: &Subject, count: u64) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={}", subject.inside))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_counted_process", "--test-threads=1"])
        .env(COUNTED, format!("{} {count}", subject.name))
        // The C library copies by the widest registers of the processor: the same ones everywhere.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-ERMS,-FSRM")
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error}; `make test` installs it"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find(|line| line.contains("Collected :")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    format!("{} {} {build}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH)
}
