//! Keys and signals of a terminal, for the verbs that draw on one.

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    BackTab,
    /// Ctrl-C.
    Interrupt,
}

/// What a terminal reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pressed {
    Key(Key),
    /// The terminal has another size: draw again.
    Resized,
    Nothing,
}

/// Waits for a key, no longer than `patience`.
///
/// # Errors
/// The terminal cannot be read.
pub(super) fn pressed(patience: Duration) -> io::Result<Pressed> {
    if !event::poll(patience)? {
        return Ok(Pressed::Nothing);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            known(key).map_or(Pressed::Nothing, Pressed::Key)
        }
        Event::Resize(..) => Pressed::Resized,
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => Pressed::Nothing,
    })
}

fn known(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match key.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        // Keys of another library's enum: those that no verb uses.
        _ => return None,
    })
}

/// The time in which a verb must end after a signal.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Becomes true at SIGTERM and SIGHUP, so that the verb restores the terminal and ends. A second later the process ends
/// in any case.
pub(super) fn ended() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let waited = runtime.and_then(|runtime| runtime.block_on(end(&seen)));
        if let Err(error) = waited {
            tracing::debug!(%error, "signals are not handled");
        }
    });
    flag
}

async fn end(flag: &AtomicBool) -> io::Result<()> {
    let (mut term, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
    flag.store(true, Ordering::Relaxed);
    // A read of a terminal that is gone never returns: it would take a whole core for ever.
    tokio::time::sleep(ENDS_WITHIN).await;
    use rustix::process::{Signal, getpid, kill_process};
    Ok(kill_process(getpid(), Signal::KILL)?)
}
