//! `tidegate top`: sites, services, clusters and events of a running proxy in a terminal.
//!
//! A pure model (`model`: state and key to state and effects), a pure picture (`draw`), and this thin shell, which owns
//! the terminal and the threads that talk to the proxy (`poll`).

mod dialog;
mod draw;
mod model;
mod operation;
mod poll;
mod press;
mod rows;
mod world;

#[cfg(test)]
mod tests;

use super::fail;
use super::remote::{self, AdminArguments};
use super::terminal::{self, Pressed};
use crate::admin::client::Remote;
use model::{Effect, Model, News};
use poll::Threads;
use ratatui::DefaultTerminal;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// The arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    admin: AdminArguments,
    /// Your name, for the audit trail of the proxy; $USER by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// How long a key is waited for before news are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Shows the proxy until a key ends it.
pub(super) fn top(options: &Options) -> ExitCode {
    if !std::io::stdout().is_terminal() {
        return fail("`top` needs a terminal; for programs: GET /api/v1/clusters, /metrics");
    }
    let mut remote = match options.admin.running() {
        Ok(remote) => remote,
        Err(message) => return fail(&message),
    };
    remote.operator = remote::operator(options.name.clone());
    let ended = match ratatui::try_init() {
        Ok(mut terminal) => run(&mut terminal, &remote),
        Err(error) => Err(error),
    };
    ratatui::restore();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the terminal failed: {error}")),
    }
}

fn run(terminal: &mut DefaultTerminal, remote: &Remote) -> std::io::Result<()> {
    let started = Instant::now();
    let threads = Threads::start(remote);
    let ended = terminal::ended();
    let mut model = Model::new(remote.token.is_some());
    let mut drawn = None;
    loop {
        let now = started.elapsed();
        let mut is_new = drawn != Some(now.as_secs());
        while let Ok(news) = threads.news.try_recv() {
            if matches!(news, News::Changed(..)) {
                threads.poll_soon();
            }
            model.hear(news, now);
            is_new = true;
        }
        if is_new {
            model.page = draw::page(terminal.size()?.height);
            terminal.draw(|frame| draw::draw(frame.buffer_mut(), &model, now, &remote.url))?;
            drawn = Some(now.as_secs());
        }
        let pressed = match terminal::pressed(TICK)? {
            _ if ended.load(Ordering::Relaxed) => return Ok(()),
            Pressed::Nothing => continue,
            Pressed::Resized => {
                drawn = None;
                continue;
            }
            Pressed::Key(key) => key,
        };
        drawn = None;
        for effect in model.press(pressed, started.elapsed()) {
            let at_once = match effect {
                Effect::Quit => return Ok(()),
                Effect::Ask(ticket, act) => threads.ask(ticket, act),
                Effect::Act(ticket, act) => threads.act(ticket, act),
            };
            at_once.into_iter().for_each(|news| model.hear(news, started.elapsed()));
        }
    }
}
