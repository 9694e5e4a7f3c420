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

/// A span of time that is shaded and named: an event.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its beginning, on the horizontal axis.
    pub from: f64,
    /// Its end.
    pub until: f64,
    /// Its name.
    pub name: String,
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
    /// Spans that are shaded behind the lines.
    pub spans: Vec<Span>,
    /// The end of the horizontal axis; the last point if `None`.
    pub end: Option<f64>,
}

const SIZE: (f64, f64) = (760.0, 300.0);
const MARGIN: (f64, f64) = (60.0, 40.0);
/// The space for the legend.
const LEGEND: f64 = 150.0;
/// Colours that the colour-blind can tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888"];

/// The ends of the axes.
#[derive(Clone, Copy)]
struct Scale {
    x_max: f64,
    y_max: f64,
}

impl Scale {
    fn x(self, value: f64) -> f64 {
        MARGIN.0 + value / self.x_max * (SIZE.0 - MARGIN.0 - LEGEND)
    }

    fn y(self, value: f64) -> f64 {
        SIZE.1 - MARGIN.1 - value / self.y_max * (SIZE.1 - 2.0 * MARGIN.1)
    }
}

impl Chart {
    /// The chart as an SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let most = |value: &dyn Fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
        let end = self.end.unwrap_or_else(|| most(&|p| p.0));
        let x_max = if end > 0.0 && end.is_finite() { end } else { 1.0 };
        let scale = Scale { x_max, y_max: round_up(most(&|p| p.1)) };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"{}\" y=\"20\" font-size=\"14\">{}</text>",
            SIZE.0,
            SIZE.1,
            MARGIN.0,
            escape(&self.title)
        );
        self.spans.iter().for_each(|span| span.put(&mut out, scale));
        self.put_axes(&mut out, scale);
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let at = |p: &(f64, f64)| format!("{:.1},{:.1}", scale.x(p.0), scale.y(p.1));
            let path: Vec<String> = line.points.iter().map(at).collect();
            let label = MARGIN.1 + 18.0 * number as f64;
            put(
                &mut out,
                format_args!(
                    "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/><text x=\"{:.1}\" y=\"{label:.1}\" fill=\"{colour}\">{}</text>",
                    path.join(" "),
                    SIZE.0 - LEGEND + 10.0,
                    escape(&line.name)
                ),
            );
        }
        out.push_str("</svg>");
        out
    }

    fn put_axes(&self, out: &mut String, scale: Scale) {
        let (left, right, bottom) = (scale.x(0.0), scale.x(scale.x_max), SIZE.1 - MARGIN.1 + 16.0);
        for step in 0..=4 {
            let value = scale.y_max * f64::from(step) / 4.0;
            let at = scale.y(value);
            put(
                out,
                format_args!(
                    "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 6.0,
                    at + 4.0,
                    short(value)
                ),
            );
        }
        for tick in ticks(scale.x_max) {
            let (at, text) = (scale.x(tick), plain(tick));
            put(
                out,
                format_args!(
                    "<text x=\"{at:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{text}</text>"
                ),
            );
        }
        let (x_label, y_label) = (escape(&self.axes.0), escape(&self.axes.1));
        let (middle, end, half) = (scale.x(scale.x_max / 2.0), SIZE.1 - 6.0, SIZE.1 / 2.0);
        put(
            out,
            format_args!(
                "<text x=\"{middle:.1}\" y=\"{end:.1}\" text-anchor=\"middle\">{x_label}</text><text x=\"14\" y=\"{half:.1}\" transform=\"rotate(-90 14 {half:.1})\" text-anchor=\"middle\">{y_label}</text>"
            ),
        );
    }
}

impl Span {
    fn put(&self, out: &mut String, scale: Scale) {
        let clamped = |value: f64| scale.x(value.clamp(0.0, scale.x_max));
        let (from, until) = (clamped(self.from), clamped(self.until));
        let (top, height, wide) = (MARGIN.1, SIZE.1 - 2.0 * MARGIN.1, (until - from).max(1.0));
        put(
            out,
            format_args!(
                "<rect class=\"event\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\" fill=\"#f0e442\" fill-opacity=\"0.3\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
                from + 4.0,
                top - 5.0,
                escape(&self.name)
            ),
        );
    }
}

/// The labels of a horizontal axis: at most ten, and its end.
fn ticks(end: f64) -> Vec<f64> {
    let steps = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let step =
        steps.into_iter().find(|step| end / step <= 9.0).unwrap_or_else(|| round_up(end / 9.0));
    let count = (end / step * (1.0 + 1e-9)).floor() as usize;
    let mut all: Vec<f64> = (0..=count).map(|number| number as f64 * step).collect();
    let last = all.last().copied().unwrap_or(0.0);
    if end - last > 0.01 * step {
        // A label beside the end's would overlap it.
        if end - last < 0.5 * step {
            all.pop();
        }
        all.push(end);
    }
    all
}

/// A number without needless zeros.
fn plain(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
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
    match value >= 100.0 {
        true => format!("{value:.0}"),
        false => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)], end: Option<f64>) -> Chart {
        let line = Line { name: "a<b".to_owned(), points: points.to_vec() };
        let axes = ("s".to_owned(), "ms".to_owned());
        let span = Span { from: 15.0, until: 40.0, name: "an outage of <idc>".to_owned() };
        Chart { title: "t&u".to_owned(), axes, lines: vec![line], spans: vec![span], end }
    }

    #[test]
    fn a_chart_of_anything_is_finite_and_escaped() {
        for points in [&[][..], &[(0.0, 0.0)], &[(1.0, 250.0), (2.0, 13.0)]] {
            for end in [None, Some(0.0), Some(60.0)] {
                let svg = chart(points, end).svg();
                assert!(
                    svg.contains("a&lt;b") && svg.contains("t&amp;u") && svg.ends_with("</svg>")
                );
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        assert_eq!((round_up(0.7), round_up(1.3), round_up(21.0)), (1.0, 2.0, 50.0));
    }

    #[test]
    fn the_axis_ends_with_the_data_and_an_event_is_shaded_and_named() {
        let svg = chart(&[(0.0, 20.0), (59.0, 30.0)], Some(60.0)).svg();
        // 550 points for 60 s from x = 60.
        assert!(svg.contains("x=\"197.5\" y=\"40.0\" width=\"229.2\""), "{svg}");
        assert!(svg.contains(">an outage of &lt;idc&gt;</text>"), "{svg}");
        assert!(svg.contains("x=\"610.0\" y=\"276.0\" text-anchor=\"middle\">60<"), "{svg}");
        assert!(svg.contains("600.8,"), "the last point, at 59 s: {svg}");
    }

    #[test]
    fn the_labels_of_an_axis_are_few_and_have_its_end() {
        assert_eq!(ticks(60.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(ticks(12.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(ticks(62.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 62.0]);
        assert_eq!(ticks(3_600.0).last(), Some(&3_600.0));
        assert!((1..4_000).all(|end| ticks(f64::from(end)).len() <= 11));
        assert_eq!((plain(10.0), plain(0.5)), ("10".to_owned(), "0.5".to_owned()));
        assert_eq!([0.0, 0.25, 50.0, 400.0].map(short), ["0", "0.25", "50", "400"]);
    }
}
