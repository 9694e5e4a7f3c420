//! The picture of a [`Model`]: a pure function into a buffer of cells.
//!
//! # Invariants
//! * All names, causes and errors pass `shown`: no text of others steers the terminal.
//! * Stale figures are grey with their age, and never zero.

mod detail;
mod overlay;

use super::model::Model;
use super::rows::{Row, View, fitting};
use super::world::{Health, World};
use crate::cli::text::{percent, rate, shown, span};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use std::time::Duration;

/// Columns and rows of a terminal, at least.
const SMALLEST: (u16, u16) = (30, 8);
/// Rows above the table: identity, totals, views, titles of the columns.
const HEADER: u16 = 4;
/// Rows of a terminal from which the selected row is described below the table.
const DESCRIBES: u16 = 16;
/// Rows of that description.
const DETAIL: u16 = 6;

/// Draws the state as of `now`; `url` is where the proxy is asked.
pub(super) fn draw(buffer: &mut Buffer, model: &Model, now: Duration, url: &str) {
    let area = buffer.area;
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("needs {} x {}", SMALLEST.0, SMALLEST.1);
        put(buffer, area, 0, &text, Style::new());
        return;
    }
    identity(buffer, model, now, url);
    let body = Rect { y: HEADER, height: area.height - HEADER - 1, ..area };
    let (table, below) = parts(body, area.height);
    let rows = model.rows(now);
    match &model.world {
        Some(world) => {
            totals(buffer, model, world);
            views(buffer, model, rows.len());
            let at = model.position(&rows);
            titles(buffer, model);
            self::table(buffer, table, model, &rows, at);
            if let (Some(below), Some(row)) = (below, at.and_then(|at| rows.get(at))) {
                detail::draw(buffer, below, model.view, world, row);
            }
        }
        None => waiting(buffer, model, url),
    }
    if model.is_stale(now) {
        fade(buffer, Rect { y: 1, height: area.height - 2, ..area });
    }
    footer(buffer, model);
    match &model.dialog {
        Some(dialog) => overlay::dialog(buffer, dialog, url),
        None if model.shows_help => overlay::help(buffer),
        None => {}
    }
}

/// Rows of a table on a terminal of this height.
pub(super) fn page(height: u16) -> usize {
    let body = Rect { height: height.saturating_sub(HEADER + 1), ..Rect::default() };
    usize::from(parts(body, height).0.height)
}

fn parts(body: Rect, height: u16) -> (Rect, Option<Rect>) {
    if height < DESCRIBES {
        return (body, None);
    }
    let table = Rect { height: body.height - DETAIL, ..body };
    (table, Some(Rect { y: table.bottom(), height: DETAIL, ..body }))
}

/// The colour of a state.
fn style(health: Health) -> Style {
    match health {
        Health::Good => Style::new().fg(Color::Cyan),
        Health::Full | Health::Degraded | Health::Spilling | Health::FailedOver => {
            Style::new().fg(Color::Yellow)
        }
        Health::Down | Health::Refused => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Health::Draining | Health::Dialled => Style::new().fg(Color::Magenta),
        Health::Idle | Health::Silent | Health::Unknown => grey(),
    }
}

fn grey() -> Style {
    Style::new().fg(Color::DarkGray)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Takes all colours away.
fn fade(buffer: &mut Buffer, area: Rect) {
    for position in area.positions() {
        if let Some(cell) = buffer.cell_mut(position) {
            let is_selected = cell.modifier.contains(Modifier::REVERSED);
            let modifier = if is_selected { Modifier::REVERSED } else { Modifier::empty() };
            cell.fg = Color::DarkGray;
            cell.modifier = modifier;
        }
    }
}

/// Writes text into a row of `area`, cut with an ellipsis; returns the columns used.
fn put(buffer: &mut Buffer, area: Rect, row: u16, text: &str, style: Style) -> u16 {
    if row >= area.height || area.width == 0 {
        return 0;
    }
    let (x, y) = (area.x, area.y + row);
    let wide = Span::raw(text).width();
    let (end, _) = buffer.set_stringn(x, y, text, area.width.into(), style);
    if wide > area.width.into() {
        buffer.set_string(area.right() - 1, y, "…", style);
    }
    end - x
}

/// Writes text at the right end of the first row of `area`; returns the columns used.
fn put_right(buffer: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    let wide = u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX).min(area.width);
    put(buffer, Rect { x: area.right() - wide, width: wide, ..area }, 0, text, style)
}

/// Who answers, and how old the answer is. The age is written first: it must not be cut off.
fn identity(buffer: &mut Buffer, model: &Model, now: Duration, url: &str) {
    let line = Rect { height: 1, ..buffer.area };
    let (news, colour) = match (&model.world, &model.lost) {
        (None, None) => ("asking".to_owned(), Color::DarkGray),
        (None, Some(_)) => ("no answer".to_owned(), Color::Red),
        (Some(_), _) if model.is_stale(now) => {
            (format!("CUT OFF: figures are {} old", span(model.age(now))), Color::Red)
        }
        (Some(_), _) => ("live".to_owned(), Color::Green),
    };
    let used = put_right(buffer, line, &news, Style::new().fg(colour));
    let left = Rect { width: line.width.saturating_sub(used + 1), ..line };
    let text = match &model.world {
        Some(World { status, .. }) => format!(
            "tidegate {}  site {}  up {}  generation {}",
            shown(&status.version),
            shown(&status.site),
            span(Duration::from_secs(status.uptime_s)),
            status.config.generation
        ),
        None => format!("tidegate top  {}", shown(url)),
    };
    put(buffer, left, 0, &text, bold());
}

/// What is wrong, or the sums over all services.
fn totals(buffer: &mut Buffer, model: &Model, world: &World) {
    let line = Rect { y: 1, height: 1, ..buffer.area };
    let alarm = match &world.status.config.last_reload {
        _ if model.lost.is_some() => model.lost.clone(),
        _ if world.status.draining => Some("this proxy drains".to_owned()),
        Some(reload) if reload.ok == Some(false) => {
            Some(format!("reload refused: {}", reload.error.as_deref().unwrap_or("see the log")))
        }
        Some(_) | None => None,
    };
    if let Some(alarm) = alarm {
        put(buffer, line, 0, &shown(&alarm), style(Health::Down));
        return;
    }
    if let Some(operation) = world.running() {
        put(buffer, line, 0, &shown(&operation.told()), style(Health::Draining));
        return;
    }
    let (mut home, mut away, mut refused) = (0.0, 0.0, 0.0);
    for service in &world.services {
        let (at_home, elsewhere) = service.home_and_away();
        home += at_home;
        away += elsewhere;
        refused += service.refused_per_s.unwrap_or(0.0);
    }
    let all = home + away + refused;
    let part = |of: f64| percent((all > 0.0).then(|| of / all));
    let mut rest = line;
    let pieces = [
        (format!("{}/s", rate(Some(all))), bold()),
        (format!("  {} at home", part(home)), style(Health::Good)),
        (format!("  {} away", part(away)), style(Health::Spilling)),
        (
            format!("  {} refused", part(refused)),
            if refused > 0.0 { style(Health::Refused) } else { grey() },
        ),
    ];
    for (text, style) in pieces {
        let used = put(buffer, rest, 0, &text, style);
        rest = Rect { x: rest.x + used, width: rest.width - used, ..rest };
    }
}

/// The views, and how the table is cut and sorted.
fn views(buffer: &mut Buffer, model: &Model, count: usize) {
    let mut rest = Rect { y: 2, height: 1, ..buffer.area };
    for view in View::ALL {
        let text = format!(" {} {} ", view.index() + 1, view.title());
        let style = match view == model.view {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        let used = put(buffer, rest, 0, &text, style);
        rest = Rect { x: rest.x + used, width: rest.width - used, ..rest };
    }
    let filter = match model.filter().is_empty() {
        true => String::new(),
        false => format!("  filter `{}`: {count}", shown(model.filter())),
    };
    put(buffer, rest, 0, &filter, Style::new().fg(Color::Yellow));
}

fn titles(buffer: &mut Buffer, model: &Model) {
    let sorting = model.sorting();
    let line = Rect { y: 3, height: 1, ..buffer.area };
    let mut x = line.x;
    for (at, width) in fitting(model.view.columns(), line.width) {
        let column = &model.view.columns()[at];
        let mark = match sorting.column {
            Some(sorted) if sorted == at && sorting.is_falling => "▼",
            Some(sorted) if sorted == at => "▲",
            Some(_) | None => "",
        };
        let place = Rect { x, width: width.min(line.right().saturating_sub(x)), ..line };
        let text = format!("{mark}{}", column.title);
        let used = if column.is_figure { put_right } else { put_left };
        used(buffer, place, &text, grey().add_modifier(Modifier::BOLD));
        x += width + 1;
    }
}

fn put_left(buffer: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    put(buffer, area, 0, text, style)
}

fn table(buffer: &mut Buffer, area: Rect, model: &Model, rows: &[Row], at: Option<usize>) {
    let selected = at.unwrap_or(0);
    let height = usize::from(area.height).max(1);
    // The selected row is in sight, and with it as many rows before it as fit.
    let first = (selected + 1).saturating_sub(height);
    let columns = fitting(model.view.columns(), area.width);
    for (line, row) in rows.iter().skip(first).take(height).enumerate() {
        let y = area.y + u16::try_from(line).unwrap_or(0);
        let is_selected = first + line == selected;
        let mut x = area.x;
        for (at, width) in &columns {
            let column = &model.view.columns()[*at];
            let cell = &row.cells[*at].text;
            let width_left = area.right().saturating_sub(x);
            let place = Rect { x, y, width: (*width).min(width_left), height: 1 };
            let is_state = cell.starts_with(row.health.mark());
            let is_silent = row.health == Health::Silent;
            let own = if is_state || is_silent { style(row.health) } else { Style::new() };
            let write = if column.is_figure { put_right } else { put_left };
            write(buffer, place, cell, own);
            x += width + 1;
        }
        if is_selected {
            let whole = Rect { y, height: 1, ..area };
            buffer.set_style(whole, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    if rows.is_empty() {
        let text = match (model.filter().is_empty(), model.view) {
            (false, _) => "nothing matches the filter",
            (true, View::Events) => "nothing has happened yet",
            (true, View::Sites | View::Services | View::Clusters) => "none",
        };
        put(buffer, area, 0, text, grey());
    }
}

/// Before the first answer.
fn waiting(buffer: &mut Buffer, model: &Model, url: &str) {
    let area = Rect { y: HEADER, height: buffer.area.height - HEADER - 1, ..buffer.area };
    match &model.lost {
        Some(reason) => {
            detail::wrapped(buffer, area, 0, &shown(reason), style(Health::Down));
        }
        None => {
            put(buffer, area, 0, &format!("asking {} ...", shown(url)), grey());
        }
    }
}

fn footer(buffer: &mut Buffer, model: &Model) {
    let area = buffer.area;
    let line = Rect { y: area.bottom() - 1, height: 1, ..area };
    let (text, style) = match (&model.notice, model.is_filtering) {
        (_, true) => (format!("/{}_", shown(model.filter())), Style::new().fg(Color::Yellow)),
        (Some(notice), false) => (notice.clone(), Style::new().fg(Color::Yellow)),
        (None, false) => {
            let changes = match (model.may_change, model.view) {
                (true, View::Sites) => "d drain  u undrain  p dial  D drill  ",
                (true, View::Clusters) => "d drain  u undrain  p dial  ",
                (true, View::Services) => "S shift  ",
                (true, View::Events) => "",
                (false, _) => "read only  ",
            };
            (format!("q quit  ? help  / filter  s sort  r reverse  {changes}"), grey())
        }
    };
    put(buffer, line, 0, text.trim_end(), style);
}
