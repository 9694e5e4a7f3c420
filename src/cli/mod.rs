//! The command line: one file for each verb.

mod check;
mod cost;
mod demo;
mod explain;
mod healthcheck;
mod import;
mod init;
mod operate;
mod operations;
mod remote;
mod run;
mod simulate;
mod terminal;
mod text;
mod top;
mod welcome;

use crate::config::error::Position;
use crate::config::{Outcome, Problem, load};
use crate::server::kept::Kept;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A latency-aware layer-4/7 proxy for hybrid clouds.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the proxy; the configuration file is watched.
    Run(ConfigArgument),
    /// Check a configuration; print all problems.
    Check {
        /// The configuration file, instead of by `--config`; `-` reads standard input.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The configuration file; `-` reads standard input.
        #[arg(long, short, env = "TIDEGATE_CONFIG", required_unless_present = "file")]
        config: Option<PathBuf>,
        /// Output format of the problems.
        #[arg(long, value_enum, default_value = "text")]
        format: check::Format,
        /// Fail on warnings, too.
        #[arg(long)]
        strict: bool,
    },
    /// Write a commented first configuration, for your own endpoints or with examples.
    Init(init::Choices),
    /// Translate the configuration of nginx, HAProxy or Traefik; what has no equivalent is listed with its line. Exit code 3: something was not translated.
    Import(import::Options),
    /// Explain a request: its route, the clusters that may serve it, and why the others may not.
    Explain(explain::Options),
    /// Simulate an outage, a flash crowd or a slow path for these clusters, in virtual time.
    Simulate(simulate::Question),
    /// Print what the traffic through a running proxy has cost, by service and cluster, and the budgets.
    Cost(cost::Question),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Ask a running proxy whether it is ready.
    Healthcheck {
        #[command(flatten)]
        admin: remote::AdminArguments,
        /// The proxy's configuration file, whose `admin.address` is used instead of --admin; without both,
        /// http://127.0.0.1:9901.
        #[arg(long, short, env = "TIDEGATE_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Show the state of a running proxy: its configuration, its services, and clusters that are not up.
    Status(operate::Asked),
    /// Show the clusters of a running proxy: state, dial, share, distance, queue, cost, last error.
    Clusters(operate::Listed),
    /// Send no new exchanges to a cluster or site; open ones end by themselves.
    Drain(operate::Drained),
    /// End a drain: the dial of the configuration file is in force again.
    Undrain(operate::Drained),
    /// Limit the part of the exchanges that a cluster or site gets.
    Dial(operate::Dialled),
    /// Have a running proxy read its configuration file again.
    Reload(operate::Reloaded),
    /// Show why one request went where it went.
    Why(operate::Traced),
    /// Show the sites, services, clusters and events of a running proxy in the terminal.
    Top(top::Options),
    /// Dial a site of a running proxy away and back, and report errors and latency; stops by itself when they rise.
    Drill(operations::Drill),
    /// Move the traffic of a service of a running proxy to another cluster, step by step; returns when errors or latency
    /// rise.
    Shift(operations::Shift),
    /// Run a demonstration on this machine: a data centre (IDC), two clouds, demand beyond capacity, an outage.
    Demo(demo::Options),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file; `-` reads standard input.
    #[arg(long, short, env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
}

/// The exit code of a usage error, as clap has it.
const MISUSED: u8 = 2;
/// The exit code of a failure.
const FAILED: ExitCode = ExitCode::FAILURE;

/// Runs the verb of the command line.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Run(ConfigArgument { config: Some(config) }) => run::run(&config),
        Verb::Run(ConfigArgument { config: None }) => {
            fail(&welcome::without_a_file("`run` needs a configuration file"));
            ExitCode::from(MISUSED)
        }
        Verb::Check { file, config, format, strict } => match file.or(config) {
            Some(path) => check::check(&path, format, strict),
            None => fail("name a configuration file: tidegate check FILE"),
        },
        Verb::Init(choices) => init::init(&choices),
        Verb::Import(options) => import::import(&options),
        Verb::Explain(options) => explain::explain(options),
        Verb::Simulate(question) => simulate::simulate(&question),
        Verb::Cost(question) => cost::cost(&question),
        Verb::Schema => {
            let schema = serde_json::to_string_pretty(&crate::config::schema::schema());
            print(&(schema.unwrap_or_default() + "\n"))
        }
        Verb::Healthcheck { admin, config } => healthcheck::healthcheck(&admin, config.as_deref()),
        Verb::Status(asked) => operate::status(&asked),
        Verb::Clusters(listed) => operate::clusters(&listed),
        Verb::Drain(drained) => operate::drain(&drained),
        Verb::Undrain(drained) => operate::undrain(&drained),
        Verb::Dial(dialled) => operate::dial(&dialled),
        Verb::Reload(reloaded) => operate::reload(&reloaded),
        Verb::Why(traced) => operate::why(&traced),
        Verb::Top(options) => top::top(&options),
        Verb::Drill(arguments) => operations::drill(&arguments),
        Verb::Shift(arguments) => operations::shift(&arguments),
        Verb::Demo(options) => demo::demo(&options),
        Verb::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tidegate", &mut out);
            print(&String::from_utf8_lossy(&out))
        }
        Verb::Man => {
            let mut out = Vec::new();
            match clap_mangen::Man::new(Arguments::command()).render(&mut out) {
                Ok(()) => print(&String::from_utf8_lossy(&out)),
                Err(error) => fail(&error.to_string()),
            }
        }
    }
}

/// Prints to standard output; a closed pipe is not a failure.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => FAILED,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("tidegate: {message}");
    FAILED
}

/// The text of a configuration, and the folder that its relative paths start at.
fn read_config(path: &Path) -> Result<(String, PathBuf), String> {
    if path == Path::new("-") {
        let mut read = Vec::new();
        std::io::stdin().read_to_end(&mut read).map_err(|error| error.to_string())?;
        let text = decoded(read).map_err(|why| format!("standard input {why}"))?;
        return Ok((text, PathBuf::from(".")));
    }
    let read =
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = decoded(read).map_err(|why| format!("{} {why}", path.display()))?;
    Ok((text, crate::server::origin::folder_of(path)))
}

/// Loads a configuration; of a file that names a source, the last good configuration in `state_dir`.
fn load_config(text: &str, folder: &Path) -> Outcome {
    let variable = |name: &str| std::env::var(name).ok();
    let outcome = load(text, folder, &variable);
    let Some(bootstrap) = &outcome.bootstrap else { return outcome };
    let kept = match &bootstrap.state_dir {
        Some(state) => Kept::read(state, &bootstrap.key),
        None => Err("there is no `state_dir`".to_owned()),
    };
    match kept {
        Ok(kept) => load(&kept.text, folder, &variable),
        Err(why) => {
            let message = format!("the configuration is in NATS, and the last good one: {why}");
            let problems = vec![Problem::error(Position::START, "config", message)];
            Outcome { problems, ..outcome }
        }
    }
}

fn decoded(bytes: Vec<u8>) -> Result<String, String> {
    if matches!(bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err("is UTF-16 text: save it as UTF-8".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is not UTF-8 text: see line {line}")
    })
}
