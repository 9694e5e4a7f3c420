//! The demo's output: a picture drawn in place on a terminal, plain lines elsewhere.

use super::picture::{Picture, ROWS, draw};
use crate::cli::terminal::{Key, Pressed, pressed};
use crate::cli::text::folded;
use ratatui::crossterm::terminal::disable_raw_mode;
use ratatui::style::Style;
use ratatui::{DefaultTerminal, TerminalOptions, Viewport};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where the demo is shown: lines above a picture that is drawn again and again, or lines alone.
#[derive(Debug)]
pub(super) struct Output {
    /// The terminal of the picture; `None` for a pipe or a file.
    live: Option<Box<DefaultTerminal>>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hand {
    /// Flood, or end the flood.
    Flood,
    /// Kill the data centre, or revive it.
    Kill,
    Quit,
}

/// Prints; a closed standard output does not end the demo.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        tracing::trace!("line not printed: standard output is closed");
    }
}

impl Output {
    /// Lines alone.
    pub(super) fn lines() -> Output {
        Output { live: None }
    }

    /// A live picture if keys and picture have a terminal, else lines.
    pub(super) fn start() -> Output {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Output::lines();
        }
        let options = TerminalOptions { viewport: Viewport::Inline(ROWS) };
        match ratatui::try_init_with_options(options) {
            Ok(terminal) => Output { live: Some(Box::new(terminal)) },
            // A terminal that does not tell where its cursor is.
            Err(_) => {
                restore();
                Output::lines()
            }
        }
    }

    /// Whether the picture is drawn in place.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, text: &str) {
        let Some(terminal) = &mut self.live else { return print(text) };
        let width = terminal.size().map_or(80, |size| size.width);
        let is_short = text.chars().count() <= usize::from(width);
        let lines = if is_short { vec![text.to_owned()] } else { folded(text, width) };
        for line in lines {
            let printed = terminal.insert_before(1, |buffer| {
                let width = usize::from(buffer.area.width);
                buffer.set_stringn(buffer.area.x, buffer.area.y, &line, width, Style::new());
            });
            if printed.is_err() {
                tracing::trace!("line not printed: the terminal is gone");
            }
        }
    }

    /// Shows the figures of a window of `span`.
    pub(super) fn show(&mut self, picture: &Picture, span: Duration) {
        let Some(terminal) = &mut self.live else { return print(&plain(picture, span)) };
        if terminal.draw(|frame| draw(frame.buffer_mut(), picture)).is_err() {
            tracing::trace!("picture not drawn: the terminal is gone");
        }
    }

    /// The next key that asks for something, if one was pressed. Without a terminal there are no keys.
    pub(super) fn hand(&mut self) -> Option<Hand> {
        if !self.is_live() {
            return None;
        }
        loop {
            return match pressed(Duration::ZERO) {
                Ok(Pressed::Key(Key::Char('f' | 'F'))) => Some(Hand::Flood),
                Ok(Pressed::Key(Key::Char('k' | 'K'))) => Some(Hand::Kill),
                Ok(Pressed::Key(Key::Char('q' | 'Q') | Key::Interrupt | Key::Escape)) => {
                    Some(Hand::Quit)
                }
                Ok(Pressed::Key(_) | Pressed::Resized) => continue,
                Ok(Pressed::Nothing) => None,
                // The terminal is gone, and with it whoever watched.
                Err(_) => Some(Hand::Quit),
            };
        }
    }

    /// Takes the picture away; from now on lines are printed.
    pub(super) fn end(&mut self) {
        if let Some(mut terminal) = self.live.take() {
            // What is printed next begins where the picture was.
            let origin = terminal.get_frame().area().as_position();
            let cleared = terminal.clear().and_then(|()| terminal.set_cursor_position(origin));
            if cleared.and_then(|()| terminal.show_cursor()).is_err() {
                tracing::trace!("picture not cleared: the terminal is gone");
            }
            restore();
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.end();
    }
}

fn restore() {
    if let Err(error) = disable_raw_mode() {
        tracing::debug!(%error, "the terminal stays in raw mode");
    }
}

/// Columns of the bar of shares.
const WIDTH: usize = 40;

/// The titles above the plain lines.
pub(super) const TITLES: &str =
    "  requests/s   idc | near | far                                     p50     p99   errors";

/// A window as a line.
fn plain(picture: &Picture, span: Duration) -> String {
    let all: f64 = picture.served.iter().sum();
    let share = |served: f64| if all > 0.0 { served / all } else { 0.0 };
    let [idc, near, far] = picture.served.map(share);
    let columns = |share: f64| (share * WIDTH as f64).round() as usize;
    let mut bar = "#".repeat(columns(idc)) + &"~".repeat(columns(near)) + &".".repeat(columns(far));
    bar.truncate(WIDTH);
    let rate = all + picture.errors.0 as f64 / span.as_secs_f64();
    format!(
        "  {rate:>8.0}   {:>4.0} {:>4.0} {:>4.0} % [{bar:<WIDTH$}] {:>6.1} {:>7.1} ms {:>4}",
        idc * 100.0,
        near * 100.0,
        far * 100.0,
        picture.p50 * 1e3,
        picture.p99 * 1e3,
        picture.errors.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_has_the_shares_and_the_errors_of_its_window() {
        let picture = Picture {
            served: [300.0, 100.0, 0.0],
            errors: (5, 9),
            p50: 0.021,
            p99: 0.180,
            ..Picture::default()
        };

        let line = plain(&picture, Duration::from_millis(500));

        assert!(line.starts_with("       410     75   25    0 % [####"), "{line}");
        assert_eq!((line.matches('#').count(), line.matches('~').count()), (30, 10));
        assert!(line.ends_with("  21.0   180.0 ms    5"), "{line}");
    }
}
