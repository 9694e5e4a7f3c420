//! Figures and names as text for a terminal.
//!
//! Names, causes and errors come from other programs. [`shown`] makes them printable: an escape sequence in a name would
//! otherwise move the cursor or recolour the screen, and a bidirectional mark would reorder a line.
//!
//! # Invariants
//! * An unknown figure is a dash, never zero.

use std::time::Duration;

/// An unknown figure.
pub(in crate::cli) const DASH: &str = "–";

/// Text of others with control characters, bidirectional marks and invisible characters written as `\u{1b}`.
pub(in crate::cli) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_plain(c) {
            true => out.push(c),
            false => out.extend(c.escape_default()),
        }
    }
    out
}

fn is_plain(c: char) -> bool {
    let is_format = matches!(u32::from(c),
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
        | 0xfff9..=0xfffb | 0xe0000..=0xe0fff);
    !c.is_control() && !is_format
}

/// Requests a second.
pub(in crate::cli) fn rate(figure: Option<f64>) -> String {
    known(figure, |x| match x {
        _ if x > 0.05 && x < 9.95 => format!("{x:.1}"),
        _ => whole(x),
    })
}

/// A number of things.
pub(in crate::cli) fn count(figure: Option<f64>) -> String {
    known(figure, whole)
}

/// Milliseconds.
pub(in crate::cli) fn ms(figure: Option<f64>) -> String {
    known(figure, |x| match x {
        _ if x > 0.0 && x < 0.095 => format!("{x:.2}"),
        _ if x < 9.95 => format!("{x:.1}"),
        _ => whole(x),
    })
}

/// A part of one, in percent.
pub(in crate::cli) fn percent(figure: Option<f64>) -> String {
    known(figure, |x| match x * 100.0 {
        p if p > 0.0 && p < 0.5 => "<1 %".to_owned(),
        p if p < 100.0 && p > 99.5 => ">99 %".to_owned(),
        p => format!("{p:.0} %"),
    })
}

/// US dollars.
pub(in crate::cli) fn usd(figure: Option<f64>) -> String {
    known(figure, |x| match x {
        _ if x > 0.0005 && x < 0.0095 => format!("${x:.3}"),
        _ if x < 1_000.0 => format!("${x:.2}"),
        _ => format!("${}", whole(x)),
    })
}

/// The newest `width` values as columns of eight heights, scaled to the greatest; a space is unknown.
pub(in crate::cli) fn spark(values: &[Option<f64>], width: usize) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = &values[values.len().saturating_sub(width)..];
    let top = newest.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let column = |value: &Option<f64>| match value.filter(|x| x.is_finite()) {
        Some(x) => HEIGHTS[((x / top * 7.0).round().max(0.0) as usize).min(7)],
        None => ' ',
    };
    newest.iter().map(column).collect()
}

/// Text as lines of at most `width` characters, broken between words; a longer word is cut.
pub(in crate::cli) fn folded(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width).max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let is_full = line.chars().count() + 1 + word.chars().count() > width;
        if is_full && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        while line.chars().count() > width {
            let rest = line.chars().skip(width).collect();
            lines.push(line.chars().take(width).collect());
            line = rest;
        }
    }
    lines.push(line);
    lines
}

/// A span in its two largest units.
pub(in crate::cli) fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        86_400.. => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

fn known(figure: Option<f64>, text: impl Fn(f64) -> String) -> String {
    figure.filter(|x| x.is_finite()).map_or(DASH.to_owned(), text)
}

/// Without decimals, with commas between thousands.
fn whole(x: f64) -> String {
    let digits = format!("{:.0}", x.abs());
    let mut out = if x <= -0.5 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        for (text, expected) in [
            ("shop-idc", "shop-idc"),
            ("größe 数据", "größe 数据"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("a\u{200b}b", "a\\u{200b}b"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn a_sparkline_shows_the_newest_values_and_leaves_unknown_ones_out() {
        assert_eq!(spark(&[Some(9.0), Some(0.0), None, Some(2.0), Some(4.0)], 4), "▁ ▅█");
        assert_eq!(spark(&[Some(0.0), Some(0.0)], 10), "▁▁");
        assert_eq!(spark(&[], 10), "");
    }

    #[test]
    fn long_text_is_broken_between_words_and_a_long_word_is_cut() {
        assert_eq!(folded("one two three", 8), ["one two", "three"]);
        assert_eq!(folded("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(folded("", 8), [""]);
    }

    #[test]
    fn figures_are_rounded_and_unknown_ones_are_a_dash() {
        assert_eq!(
            [rate(Some(1_234_567.4)), rate(Some(3.12)), rate(Some(0.0)), rate(None)],
            ["1,234,567", "3.1", "0", DASH]
        );
        assert_eq!(
            [ms(Some(0.05)), ms(Some(7.0)), ms(Some(123.4)), ms(Some(f64::NAN))],
            ["0.05", "7.0", "123", DASH]
        );
        assert_eq!(
            [percent(Some(0.001)), percent(Some(0.999)), percent(Some(1.0))],
            ["<1 %", ">99 %", "100 %"]
        );
        assert_eq!(
            [usd(Some(0.0012)), usd(Some(12.0)), usd(Some(1_500.0))],
            ["$0.001", "$12.00", "$1,500"]
        );
        assert_eq!(span(Duration::from_secs(3_725)), "1 h 2 min");
    }
}
