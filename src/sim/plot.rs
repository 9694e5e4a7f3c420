//! Line charts as SVG text, without scripts and embedded fonts.

use std::fmt::Write;

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Points.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The labels of the horizontal and the vertical axis.
    pub axes: (String, String),
    /// The lines.
    pub lines: Vec<Line>,
}

const SIZE: (f64, f64) = (760.0, 300.0);
const MARGIN: (f64, f64) = (60.0, 40.0);
/// Colours that the colour-blind can tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888"];

impl Chart {
    /// The chart as an SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |value: &dyn Fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
        let (x_max, y_max) = (round_up(most(&|p| p.0)), round_up(most(&|p| p.1)));
        let x = |value: f64| MARGIN.0 + value / x_max * (SIZE.0 - MARGIN.0 - 150.0);
        let y = |value: f64| SIZE.1 - MARGIN.1 - value / y_max * (SIZE.1 - 2.0 * MARGIN.1);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"{}\" y=\"20\" font-size=\"14\">{}</text>",
            SIZE.0,
            SIZE.1,
            MARGIN.0,
            escape(&self.title)
        );
        for step in 0..=4 {
            let part = f64::from(step) / 4.0;
            let (at_x, at_y) = (x(x_max * part), y(y_max * part));
            put(
                &mut out,
                format_args!(
                    "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at_y:.1}\" y2=\"{at_y:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    x(0.0),
                    x(x_max),
                    x(0.0) - 6.0,
                    at_y + 4.0,
                    short(y_max * part),
                    SIZE.1 - MARGIN.1 + 16.0,
                    short(x_max * part)
                ),
            );
        }
        put(
            &mut out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text x=\"14\" y=\"{:.1}\" transform=\"rotate(-90 14 {:.1})\" text-anchor=\"middle\">{}</text>",
                x(x_max / 2.0),
                SIZE.1 - 6.0,
                escape(&self.axes.0),
                SIZE.1 / 2.0,
                SIZE.1 / 2.0,
                escape(&self.axes.1)
            ),
        );
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let path: Vec<String> =
                line.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
            let label = MARGIN.1 + 18.0 * number as f64;
            put(
                &mut out,
                format_args!(
                    "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/><text x=\"{:.1}\" y=\"{label:.1}\" fill=\"{colour}\">{}</text>",
                    path.join(" "),
                    SIZE.0 - 140.0,
                    escape(&line.name)
                ),
            );
        }
        out.push_str("</svg>");
        out
    }
}

/// A page with charts and their assumptions.
#[must_use]
pub fn page(title: &str, notes: &[String], charts: &[Chart]) -> String {
    let mut out = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><h1>{0}</h1><ul>",
        escape(title)
    );
    for note in notes {
        put(&mut out, format_args!("<li>{}</li>", escape(note)));
    }
    out.push_str("</ul>");
    for chart in charts {
        put(&mut out, format_args!("<p>{}</p>", chart.svg()));
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    out.write_fmt(text).unwrap_or_default();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let fits = |part: &f64| part * power >= value;
    [1.0, 2.0, 5.0, 10.0].into_iter().find(fits).unwrap_or(10.0) * power
}

fn short(value: f64) -> String {
    if value >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_anything_is_finite_and_escaped() {
        let line = |points: &[(f64, f64)]| Line { name: "a<b".to_owned(), points: points.to_vec() };
        for points in [&[][..], &[(0.0, 0.0)], &[(1.0, 250.0), (2.0, 13.0)]] {
            let axes = ("s".to_owned(), "ms".to_owned());
            let chart = Chart { title: "t&u".to_owned(), axes, lines: vec![line(points)] };
            let svg = chart.svg();
            assert!(svg.contains("a&lt;b") && svg.contains("t&amp;u") && svg.ends_with("</svg>"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert_eq!((round_up(0.7), round_up(1.3), round_up(21.0)), (1.0, 2.0, 50.0));
    }
}
