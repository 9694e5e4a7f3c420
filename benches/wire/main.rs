//! A comparison on this machine: the CPU time that each proxy spends on a request, its latency and its memory.
//!
//! Each proxy has one worker on core 0; load and cluster are on core 1. Rounds rotate, so that other load on the
//! machine affects all proxies alike; figures are medians, and ratios are of the same round. Throughput is not
//! compared: on two cores it depends mostly on the other load. The kernel's floor is a relay that only receives and
//! sends (`floor.rs`): a proxy needs at least its CPU time, unless it uses `splice`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench ends by panicking, and reads the clock"
)]

mod chart;
mod floor;
mod load;
mod memory;
mod paced;
mod peers;
mod scenarios;
mod table;

use peers::Rig;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use table::Table;

/// The options on the command line, after `--`.
pub struct Options {
    /// Rounds of each scenario.
    pub rounds: usize,
    /// The length of one load, in seconds.
    pub seconds: u64,
    /// Names of scenarios to run; empty: all.
    only: Vec<String>,
    /// Tidegate's executable.
    pub binary: PathBuf,
}

const USAGE: &str =
    "make bench ARGS=\"[--rounds N] [--seconds N] [--only A,B,...] [--binary FILE]\"";

fn options(arguments: &[String]) -> Option<Options> {
    let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/release/tidegate");
    let mut options = Options { rounds: 9, seconds: 1, only: Vec::new(), binary };
    let mut words = arguments.iter().filter(|word| *word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
            "--seconds" => options.seconds = value.parse().ok().filter(|seconds| *seconds > 0)?,
            "--only" => options.only = value.split(',').map(str::to_owned).collect(),
            "--binary" => options.binary = value.into(),
            _ => return None,
        }
    }
    let known = |name: &String| scenarios::ALL.iter().any(|(known, _)| known == name);
    match options.only.iter().find(|name| !known(name)) {
        Some(name) => {
            let all: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("no scenario {name}; there are {}", all.join(", "));
            None
        }
        None => Some(options),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("floor") => return floor::run(&arguments[1..]),
        Some("paced") => return paced::run(&arguments[1..]),
        _ => {}
    }
    let Some(options) = options(&arguments) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    if std::env::var_os(INSIDE).is_none() && isolated(&arguments) {
        return;
    }
    run(&options);
}

/// Set for the program in a network namespace of its own.
const INSIDE: &str = "TIDEGATE_BENCH_INSIDE";

/// Runs this program again in a network namespace of its own and with a high priority, so that firewall rules and other work of the
/// machine do not count. `false` where that is not permitted; the bench then runs as it is.
fn isolated(arguments: &[String]) -> bool {
    let trial = Command::new("unshare")
        .args(["-n", "ip", "link", "set", "lo", "up"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !trial.is_ok_and(|status| status.success()) {
        println!(
            "no permission for a network namespace: firewall rules of this machine count for all proxies"
        );
        return false;
    }
    let itself = std::env::current_exe().expect("this program has a file");
    let status = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up; exec \"$@\"", "bench"])
        .arg(itself)
        .args(arguments)
        .env(INSIDE, "1")
        .status();
    std::process::exit(status.ok().and_then(|status| status.code()).unwrap_or(1));
}

fn run(options: &Options) {
    let own = std::process::id().to_string();
    let raised = Command::new("renice").args(["-n", "-5", "-p", &own]).output();
    if !raised.is_ok_and(|output| output.status.success()) {
        println!("no permission for a high priority: other work of this machine counts more");
    }
    let rig = Rig::start(options);
    let mut report = format!("# Wire bench\n\n{}\n\n", machine(&rig));
    print!("{report}");
    let mut tables: Vec<Table> = Vec::new();
    for (name, scenario) in scenarios::ALL {
        if options.only.is_empty() || options.only.iter().any(|wanted| wanted == name) {
            for table in scenario(&rig, options) {
                let printed = table.markdown();
                print!("{printed}");
                report.push_str(&printed);
                tables.push(table);
            }
        }
    }
    let summary = table::summary(&tables);
    print!("{summary}");
    report.push_str(&summary);
    for note in rig.notes() {
        println!("{note}");
        report.push_str(&format!("{note}\n"));
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("wire.md"), &report).unwrap();
    std::fs::write(folder.join("wire.csv"), table::csv(&tables)).unwrap();
    std::fs::write(folder.join("wire.svg"), chart::svg(&tables)).unwrap();
    println!("written to target/bench: wire.md, wire.csv, wire.svg");
}

fn machine(rig: &Rig) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores; {}", rig.versions().join(", "))
}
