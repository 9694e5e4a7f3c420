//! The verdicts as a chart: for each, Tidegate's ratio with its interval, beside the bound and the goal.

use crate::table::Table;
use std::fmt::Write as _;

const ROW: usize = 22;
const LEFT: f64 = 280.0;
const WIDTH: f64 = 440.0;
/// The ratio at the right edge.
const MOST: f64 = 2.0;

/// The chart as SVG.
pub fn svg(tables: &[Table]) -> String {
    let rows: Vec<_> = tables
        .iter()
        .flat_map(|table| table.verdicts().into_iter().map(move |verdict| (table, verdict)))
        .filter(|(_, verdict)| verdict.must <= MOST)
        .collect();
    let height = 50 + rows.len() * ROW;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\">Tidegate's cost in relation to the better peer (less is better)</text>\n"
    );
    for tenth in [0, 5, 10, 15, 20] {
        let ratio = f64::from(tenth) / 10.0;
        let x = place(ratio);
        writeln!(
            text,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"42\" y2=\"{height}\" stroke=\"#ddd\"/><text x=\"{x}\" y=\"38\" text-anchor=\"middle\" fill=\"#666\">{ratio:.1}</text>"
        )
        .unwrap();
    }
    for (at, (table, verdict)) in rows.iter().enumerate() {
        let y = 48 + at * ROW;
        let (low, high) = (place(verdict.interval.0), place(verdict.interval.1));
        let (middle, must) = (place(verdict.median), place(verdict.must));
        let colour = if verdict.meets(verdict.must) == "met" { "#1a7f37" } else { "#b35900" };
        writeln!(
            text,
            "<text x=\"8\" y=\"{}\">{}: {}</text>\
             <line x1=\"{low}\" x2=\"{high}\" y1=\"{}\" y2=\"{}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <circle cx=\"{middle}\" cy=\"{}\" r=\"4\" fill=\"{colour}\"/>\
             <line x1=\"{must}\" x2=\"{must}\" y1=\"{y}\" y2=\"{}\" stroke=\"#333\"/>",
            y + 13,
            table.scenario,
            verdict.what,
            y + 9,
            y + 9,
            y + 9,
            y + 18
        )
        .unwrap();
    }
    text.push_str("</svg>\n");
    text
}

fn place(ratio: f64) -> f64 {
    (LEFT + WIDTH * (ratio / MOST).clamp(0.0, 1.05)).round()
}
