//! What covers the table: the dialog of a change, and the keys.

use super::{bold, detail, grey, put, put_right, style};
use crate::cli::text::{folded, shown};
use crate::cli::top::dialog::{Act, Dialog, Kind, Line, Step, Verb};
use crate::cli::top::world::Health;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

/// Columns of a dialog, at most.
const WIDEST: u16 = 78;

const KEYS: &[(&str, &str)] = &[
    ("1 2 3 4", "sites, services, clusters, events; also Tab"),
    ("Up Down", "select; also j k, PgUp PgDn, Home End"),
    ("/ Esc", "filter; take the filter away"),
    ("s r", "sort by the next column; reverse"),
    ("d u", "drain, undrain the selected cluster or site"),
    ("p", "dial it to a percentage"),
    ("D S", "drill the selected site; shift the selected service"),
    ("x", "abort the running drill or shift"),
    ("q", "quit; also Ctrl-C"),
];

/// Draws the keys.
pub(super) fn help(buffer: &mut Buffer) {
    let height = u16::try_from(KEYS.len()).unwrap_or(0);
    let inside = frame(buffer, height, "Keys", Color::Cyan);
    for (row, (keys, what)) in (0..).zip(KEYS) {
        put(buffer, inside, row, &format!("{keys:<9}{what}"), Style::new());
    }
}

/// Draws the dialog of a change of the proxy at `url`.
pub(super) fn dialog(buffer: &mut Buffer, dialog: &Dialog, url: &str) {
    let (title, what) = heading(dialog);
    let width = buffer.area.width.saturating_sub(2).min(WIDEST).saturating_sub(4);
    let lines: Vec<Line> = lines(dialog).into_iter().flat_map(|line| fold(line, width)).collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(5);
    let inside = frame(buffer, height, &title, Color::Magenta);
    let told = format!("{what} At this proxy alone: {}", shown(url));
    let top = detail::wrapped(buffer, Rect { height: 3, ..inside }, 0, &told, grey()).min(3);
    // The question is always in sight: the expectation is cut where the terminal is too low.
    let last = inside.height.saturating_sub(1);
    let room = usize::from(last.saturating_sub(top));
    let is_cut = lines.len() > room;
    let fits = if is_cut { room.saturating_sub(1) } else { room };
    for (row, line) in (top..).zip(lines.iter().take(fits)) {
        expectation(buffer, Rect { y: inside.y + row, height: 1, ..inside }, line);
    }
    if is_cut && room > 0 {
        let more = format!("... {} more lines: the terminal is too low", lines.len() - fits);
        put(buffer, inside, last - 1, &more, grey());
    }
    put(buffer, inside, last, &question(dialog), bold());
}

/// The title, and what the change means.
fn heading(dialog: &Dialog) -> (String, &'static str) {
    let name = shown(&dialog.name);
    let kind = match dialog.kind {
        Kind::Cluster => "cluster",
        Kind::Site => "site",
        Kind::Service => "service",
    };
    let percent = match dialog.act() {
        Some(Act::Dial(change)) => change.percent.map(|percent| percent.to_string()),
        Some(Act::Begin(_)) => Some(dialog.entry.clone()),
        Some(Act::Abort(_)) | None => None,
    };
    let percent = percent.unwrap_or("..".to_owned());
    let choice = dialog.choice.as_ref();
    let lasts = choice.map_or(String::new(), |choice| choice.lasts());
    let (from, to) = choice.and_then(|choice| choice.way()).unwrap_or_default();
    match dialog.verb {
        Verb::Drain => (
            format!("Drain {kind} {name}?"),
            "No new exchanges; those in flight end by themselves.",
        ),
        Verb::Undrain => {
            (format!("Undrain {kind} {name}?"), "The dial of the file is in force again.")
        }
        Verb::Dial => (
            format!("Dial {kind} {name} to {percent} %?"),
            "So many percent of the exchanges that would choose it get it.",
        ),
        Verb::Drill => (
            format!("Drill {kind} {name}: {percent} % for {lasts}?"),
            "Its traffic goes elsewhere, and returns: at once when errors or latency rise.",
        ),
        Verb::Shift => (
            format!("Shift {name}: {percent} % from {from} to {to} over {lasts}?"),
            "Its traffic moves step by step, and stays; it returns when errors or latency rise.",
        ),
    }
}

fn lines(dialog: &Dialog) -> Vec<Line> {
    let sentence = |text: String, is_bad: bool| vec![Line { what: text, figures: None, is_bad }];
    match (&dialog.step, &dialog.expected) {
        (Step::Percent, _) => Vec::new(),
        (Step::Told(told), _) => sentence(shown(told), true),
        (_, None) => sentence("Simulating with the load of now ...".to_owned(), false),
        (_, Some(Err(why))) => sentence(format!("No expectation: {}", shown(why)), true),
        (_, Some(Ok(expected))) => expected.lines(),
    }
}

/// A sentence as lines of this width.
fn fold(line: Line, width: u16) -> Vec<Line> {
    if line.figures.is_some() {
        return vec![line];
    }
    let parts = folded(&line.what, width).into_iter();
    parts.map(|what| Line { what, figures: None, is_bad: line.is_bad }).collect()
}

fn expectation(buffer: &mut Buffer, area: Rect, line: &Line) {
    let own = if line.is_bad { style(Health::Down) } else { Style::new() };
    let Some((now, after)) = &line.figures else {
        put(buffer, area, 0, &line.what, own);
        return;
    };
    let used = put_right(buffer, area, &format!("{now:>9} -> {after:>9}"), own);
    let left = Rect { width: area.width.saturating_sub(used + 1), ..area };
    put(buffer, left, 0, &line.what, own);
}

fn question(dialog: &Dialog) -> String {
    match (&dialog.step, &dialog.expected) {
        (Step::Percent, _) => {
            let keys = match dialog.verb {
                Verb::Drill => "digits; arrows: time",
                Verb::Shift => "digits; arrows: time, t: target",
                Verb::Drain | Verb::Undrain | Verb::Dial => "digits, arrows",
            };
            format!("Percent: {}_  ({keys}; Enter goes on, Esc keeps it)", dialog.entry)
        }
        (Step::Confirm, None) => "Esc keeps it".to_owned(),
        (Step::Confirm, Some(_)) if dialog.is_heavy() => {
            format!("Type its name, then Enter: {}_  (Esc keeps it)", shown(&dialog.typed))
        }
        (Step::Confirm, Some(_)) => "y does it, Esc keeps it".to_owned(),
        (Step::Doing, _) => "Doing it ...".to_owned(),
        (Step::Told(_), _) => "Enter closes".to_owned(),
    }
}

/// A box with a border in the middle, cleared; returns its inside, which has `height` rows where the terminal has them.
fn frame(buffer: &mut Buffer, height: u16, title: &str, colour: Color) -> Rect {
    let area = buffer.area;
    let width = area.width.saturating_sub(2).min(WIDEST);
    let height = height.saturating_add(2).min(area.height.saturating_sub(1));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let whole = Rect { x, y, width, height };
    for position in whole.positions() {
        if let Some(cell) = buffer.cell_mut(position) {
            cell.reset();
        }
    }
    let edge = Style::new().fg(colour);
    let line = "─".repeat(usize::from(width).saturating_sub(2));
    put(buffer, whole, 0, &format!("┌{line}┐"), edge);
    for row in 1..height.saturating_sub(1) {
        put(buffer, whole, row, "│", edge);
        put(buffer, Rect { x: whole.right() - 1, width: 1, ..whole }, row, "│", edge);
    }
    put(buffer, whole, height - 1, &format!("└{line}┘"), edge);
    let head = Rect { x: x + 2, width: width.saturating_sub(4), ..whole };
    put(buffer, head, 0, &format!(" {title} "), bold().fg(colour));
    Rect { x: x + 2, y: y + 1, width: width.saturating_sub(4), height: height.saturating_sub(2) }
}
