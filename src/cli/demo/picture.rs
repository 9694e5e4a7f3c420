//! The live picture: a bar for each cluster, a sparkline of the cloud's part, and the figures of the last window.

use crate::cli::text::spark;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use std::time::Duration;

/// Rows of the picture; the first is empty, between the lines above and the caption.
pub(super) const ROWS: u16 = 9;

/// What the picture shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) caption: String,
    /// Whether the data centre is killed.
    pub(super) is_dead: bool,
    /// Requests a second that clients send.
    pub(super) offered: f64,
    /// Good responses a second: of the data centre, of the near cloud, of the far cloud.
    pub(super) served: [f64; 3],
    /// The share of the clouds in each past window, the newest last.
    pub(super) course: Vec<Option<f64>>,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Errors of the last window, and of the whole demo.
    pub(super) errors: (usize, usize),
    /// Responses of the whole demo.
    pub(super) count: usize,
    pub(super) dashboard: String,
    /// Until the show goes on by itself, after a key.
    pub(super) resumes_in: Option<Duration>,
}

/// The names of the clusters and their colours.
const CLUSTERS: [(&str, Color); 3] =
    [("idc", Color::Cyan), ("cloud-near", Color::Yellow), ("cloud-far", Color::Magenta)];
/// Columns of names and figures beside a bar.
const BESIDE: u16 = 34;

/// Draws the picture into the buffer's area.
pub(super) fn draw(buffer: &mut Buffer, picture: &Picture) {
    let whole = buffer.area;
    let area = Rect { y: whole.y + 1, height: whole.height.saturating_sub(1), ..whole };
    let mut line = |row: u16, column: u16, text: &str, style: Style| {
        if row < area.height && column < area.width {
            let width = usize::from(area.width - column);
            buffer.set_stringn(area.x + column, area.y + row, text, width, style);
        }
    };
    let colour = |colour: Color| Style::new().fg(colour);
    let loud = if picture.is_dead { Color::Red } else { Color::White };
    line(0, 0, &picture.caption, colour(loud).add_modifier(Modifier::BOLD));
    let all: f64 = picture.served.iter().sum();
    let width = usize::from(area.width.saturating_sub(BESIDE)).clamp(1, 60);
    for (row, ((name, own), served)) in (1..).zip(CLUSTERS.iter().zip(picture.served)) {
        let is_dead = row == 1 && picture.is_dead;
        // The bars of all clusters together are as long as what clients send.
        let part = served / picture.offered.max(all).max(1.0);
        let filled = ((part * width as f64).round() as usize).min(width);
        let bar = "█".repeat(filled) + &"·".repeat(width - filled);
        let share = if all > 0.0 { served / all * 100.0 } else { 0.0 };
        line(row, 0, &format!("{name:<11}"), colour(*own));
        line(row, 11, &bar, colour(if is_dead { Color::Red } else { *own }));
        let figures = match is_dead && served == 0.0 {
            true => " killed".to_owned(),
            false => format!(" {served:>5.0}/s {share:>3.0} %"),
        };
        let beside = 11 + u16::try_from(width).unwrap_or(0);
        line(row, beside, &figures, colour(if is_dead { Color::Red } else { *own }));
    }
    line(4, 0, "in cloud", colour(Color::DarkGray));
    line(4, 11, &spark(&picture.course, width), colour(Color::Yellow));
    let figures = format!(
        "{:.0} requests/s   p50 {:.0} ms   p99 {:.0} ms",
        picture.offered,
        picture.p50 * 1e3,
        picture.p99 * 1e3
    );
    line(5, 0, &figures, Style::new());
    let errors = format!("{} errors in {} requests", picture.errors.1, picture.count);
    let alarm = if picture.errors.1 > 0 { Color::Red } else { Color::Green };
    line(5, u16::try_from(figures.len()).unwrap_or(0) + 3, &errors, colour(alarm));
    let kill = if picture.is_dead { "k revive it" } else { "k kill the data centre" };
    let resumes = picture
        .resumes_in
        .map_or(String::new(), |left| format!("   the show goes on in {} s", left.as_secs() + 1));
    line(6, 0, &format!("f flood   {kill}   q quit{resumes}"), colour(Color::White));
    line(7, 0, &format!("dashboard {}", picture.dashboard), colour(Color::DarkGray));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(picture: &Picture, width: u16) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, ROWS));
        draw(&mut buffer, picture);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (1..ROWS).map(line).map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn the_bars_are_the_parts_of_what_clients_send() {
        let picture = Picture {
            caption: "High tide".to_owned(),
            offered: 600.0,
            served: [450.0, 150.0, 0.0],
            course: vec![None, Some(0.0), Some(0.25)],
            errors: (0, 0),
            count: 1_234,
            dashboard: "http://127.0.0.1:9/".to_owned(),
            ..Picture::default()
        };
        let seen = screen(&picture, 94);
        assert_eq!(seen[0], "High tide");
        let filled = |line: &str| line.matches('█').count();
        assert_eq!([filled(&seen[1]), filled(&seen[2]), filled(&seen[3])], [45, 15, 0]);
        assert!(seen[1].ends_with("450/s  75 %"), "{}", seen[1]);
        assert_eq!(seen[4], "in cloud    ▁█");
        assert!(seen[5].ends_with("0 errors in 1234 requests"), "{}", seen[5]);
        assert!(seen[6].contains("f flood   k kill the data centre   q quit"));
        assert!(seen[7].contains("http://127.0.0.1:9/"));
    }

    #[test]
    fn a_killed_data_centre_is_red_and_named_so() {
        let picture = Picture {
            is_dead: true,
            offered: 250.0,
            served: [0.0, 250.0, 0.0],
            resumes_in: Some(Duration::from_millis(9_500)),
            ..Picture::default()
        };
        let seen = screen(&picture, 94);
        assert!(seen[1].ends_with("killed") && !seen[1].contains('█'), "{}", seen[1]);
        assert!(
            seen[6].contains("k revive it") && seen[6].contains("goes on in 10 s"),
            "{}",
            seen[6]
        );
        let mut buffer = Buffer::empty(Rect::new(0, 0, 94, ROWS));
        draw(&mut buffer, &picture);
        assert_eq!(buffer[(11, 2)].fg, Color::Red);
        assert_eq!(buffer[(11, 3)].fg, Color::Yellow);
    }

    #[test]
    fn a_small_terminal_is_enough() {
        for (width, height) in [(1, 1), (20, 3), (200, 50)] {
            draw(&mut Buffer::empty(Rect::new(0, 0, width, height)), &Picture::default());
        }
    }
}
