//! The cost of parsing, of a decision and of an exchange, as a guard: allocations, and instructions under callgrind.
//!
//! Times depend on the machine, instructions do not: `tests/cost/instructions.txt` has those of the development build by
//! this compiler, and a change of more than 3 % fails. After an intended change: `TIDEGATE_GOLDEN=write cargo test
//! --all-features --test cost`, and the difference says what it costs. What a release needs is measured by `make bench`
//! and `cargo bench --bench decision`.
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
mod threads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A name, what is done, and how often.
type Subject = (&'static str, fn(u64), u64);

/// What is counted: each is done this often by a process of its own.
const SUBJECTS: [Subject; 4] = [
    ("parse", parse::run, 2_000),
    ("decide", decide::run, 2_000),
    ("exchange-http1", exchange::http1, 200),
    ("exchange-http2", exchange::http2, 200),
];

/// The part by which a count may differ from its baseline.
const TOLERANCE: f64 = 0.03;

/// Set in a process that is counted: a subject and a number, as `parse 2000`.
const COUNTED: &str = "TIDEGATE_COUNTED";

/// The futures of an exchange are boxed, so that an idle connection does not hold their 8.5 KiB: that of the exchange,
/// and that of the two directions of its bodies.
const FUTURES: u64 = 2;

#[test]
fn an_http1_exchange_allocates_its_two_futures_and_nothing_else() {
    let (count, start) = (500, Instant::now());
    let allocations = exchange::allocations(count);
    // Each view that the control thread publishes, 20 a second, is one more for the worker.
    let views = 50 + (start.elapsed().as_secs_f64() * 40.0) as u64;
    let most = FUTURES * count + views;
    assert!(allocations <= most, "{allocations} by {count} exchanges on a kept connection");
}

/// Not a test of its own: the process whose instructions are counted.
#[test]
fn the_counted_process() {
    let Ok(order) = std::env::var(COUNTED) else { return };
    let (name, count) = order.split_once(' ').unwrap();
    let (_, run, _) = SUBJECTS.iter().find(|(known, ..)| *known == name).unwrap();
    run(count.parse().unwrap());
}

#[test]
fn instructions_stay_within_three_percent_of_their_baselines() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cost/instructions.txt");
    let compiler = compiler();
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
        let line = |(name, _, count): &Subject| format!("{name} {:.0}\n", least(name, *count, 0.0));
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
    let off = |(name, _, count): &Subject| {
        let then = stored.get(name).copied().unwrap_or_default();
        let now = least(name, *count, then * (1.0 + TOLERANCE));
        let change = now / then - 1.0;
        println!("{name}: {now:.0} instructions, {then:.0} before ({:+.1} %)", change * 100.0);
        (change.abs() > TOLERANCE).then_some(*name)
    };
    let off: Vec<&str> = SUBJECTS.iter().filter_map(off).collect();
    assert!(off.is_empty(), "changed by more than 3 %: {}", off.join(", "));
}

/// The least of three counts, or the first within `enough`: on a busy machine an exchange takes longer, and more of the
/// proxy's periodic work falls into it.
fn least(name: &str, count: u64, enough: f64) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        least = least.min(instructions(name, count));
        if least <= enough {
            break;
        }
    }
    least
}

/// Instructions of one: the difference between a process that does it `count` times and one that does it twice as often.
fn instructions(name: &str, count: u64) -> f64 {
    let of = |count: u64| threads::of_the_worker(&counted(name, count));
    (of(2 * count) - of(count)) / count as f64
}

/// Runs this program under callgrind; the folder with a profile for each thread.
fn counted(name: &str, count: u64) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("tidegate-cost-{}-{name}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}/profile", folder.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_counted_process", "--test-threads=1"])
        .env(COUNTED, format!("{name} {count}"))
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error}; `make test` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    format!("{} {} {build}", String::from_utf8_lossy(&output.stdout).trim(), std::env::consts::ARCH)
}
