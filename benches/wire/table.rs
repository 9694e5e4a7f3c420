//! Figures of one scenario, round by round, and their judgement against the budgets.

use std::fmt::Write as _;

/// What Tidegate's figure is compared with.
#[derive(Clone, Debug)]
pub enum Against {
    /// The peer with the lowest median.
    BetterPeer,
    /// One row by name.
    Row(String),
    /// A figure in the table's unit.
    Figure(f64),
}

/// A budget: the ratio (or the figure) that must be reached, and the one that is aimed for.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The row that is judged.
    pub of: String,
    /// What it is compared with.
    pub against: Against,
    /// The bound.
    pub must: f64,
    /// The goal.
    pub aim: f64,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name: a proxy's, with the variant where there are several.
    pub name: String,
    /// Whether it is another proxy, to be compared with.
    pub peer: bool,
    /// A figure for each round.
    pub figures: Vec<f64>,
}

/// Figures of each proxy, round by round.
pub struct Table {
    /// The scenario's name, as in `--only`.
    pub scenario: &'static str,
    title: String,
    unit: &'static str,
    rows: Vec<Row>,
    budgets: Vec<Budget>,
    notes: Vec<String>,
}

/// A budget's verdict.
pub struct Verdict {
    /// What was compared, in words.
    pub what: String,
    /// The median of the ratios, or the figure.
    pub median: f64,
    /// The 95 % interval of their mean.
    pub interval: (f64, f64),
    /// The bound.
    pub must: f64,
    /// The goal.
    pub aim: f64,
}

impl Verdict {
    /// Met when the lower bound of the interval is within the budget.
    pub fn meets(&self, bound: f64) -> &'static str {
        if self.interval.0 <= bound { "met" } else { "missed" }
    }
}

impl Table {
    /// A table without figures.
    pub fn new(scenario: &'static str, title: &str, unit: &'static str) -> Table {
        let (rows, budgets, notes) = (Vec::new(), Vec::new(), Vec::new());
        Table { scenario, title: title.to_owned(), unit, rows, budgets, notes }
    }

    /// With a budget for the row of Tidegate.
    pub fn judged(self, against: Against, must: f64, aim: f64) -> Table {
        self.judged_row("tidegate", against, must, aim)
    }

    /// With a budget for a row.
    pub fn judged_row(mut self, of: &str, against: Against, must: f64, aim: f64) -> Table {
        self.budgets.push(Budget { of: of.to_owned(), against, must, aim });
        self
    }

    /// Adds a figure to a row.
    pub fn add(&mut self, name: &str, peer: bool, figure: f64) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.figures.push(figure),
            None => self.rows.push(Row { name: name.to_owned(), peer, figures: vec![figure] }),
        }
    }

    /// Adds a line below the table.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The row of another proxy with the lowest median.
    fn better_peer(&self) -> Option<&Row> {
        let peers = self.rows.iter().filter(|row| row.peer);
        peers.min_by(|one, other| median(&one.figures).total_cmp(&median(&other.figures)))
    }

    /// The verdicts of all budgets whose rows exist.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.budgets.iter().filter_map(|budget| self.verdict(budget)).collect()
    }

    fn verdict(&self, budget: &Budget) -> Option<Verdict> {
        let mine = self.row(&budget.of)?;
        let (ratios, what) = match &budget.against {
            Against::Figure(_) => (mine.figures.clone(), format!("{} ({})", budget.of, self.unit)),
            Against::BetterPeer => {
                let peer = self.better_peer()?;
                (ratios(mine, peer), format!("{} to {}", budget.of, peer.name))
            }
            Against::Row(name) => {
                (ratios(mine, self.row(name)?), format!("{} to {name}", budget.of))
            }
        };
        let scale = match budget.against {
            Against::Figure(scale) => scale,
            _ => 1.0,
        };
        let (mean, error) = mean_and_error(&ratios);
        let interval = (mean - 2.0 * error, mean + 2.0 * error);
        let (must, aim) = (budget.must * scale, budget.aim * scale);
        Some(Verdict { what, median: median(&ratios), interval, must, aim })
    }

    /// Medians, Tidegate's ratio to each other row of the same round, and the verdicts.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "## {}: {}\n\n| proxy | median {} | min | max |\n|---|---|---|---|\n",
            self.scenario, self.title, self.unit
        );
        for Row { name, figures, .. } in &self.rows {
            let figures = known(figures);
            let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
            let high = figures.iter().copied().fold(0.0, f64::max);
            writeln!(text, "| {name} | {:.2} | {low:.2} | {high:.2} |", median(&figures)).unwrap();
        }
        text.push('\n');
        if let Some(mine) = self.row("tidegate") {
            for other in self.rows.iter().filter(|row| row.name != "tidegate") {
                text.push_str(&paired(&other.name, &ratios(mine, other)));
            }
        }
        for verdict in self.verdicts() {
            let Verdict { what, median, interval: (low, high), must, aim } = &verdict;
            writeln!(
                text,
                "{what}: {median:.2} ({low:.2}-{high:.2}); must {must:.2}: {}, aim {aim:.2}: {}",
                verdict.meets(*must),
                verdict.meets(*aim)
            )
            .unwrap();
        }
        for note in &self.notes {
            writeln!(text, "{note}").unwrap();
        }
        text.push('\n');
        text
    }
}

/// All verdicts in one table.
pub fn summary(tables: &[Table]) -> String {
    let mut text = "## Verdicts\n\n| scenario | compared | median | 95 % interval | must | | aim | |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for table in tables {
        for verdict in table.verdicts() {
            let Verdict { what, median, interval: (low, high), must, aim } = &verdict;
            let (must_is, aim_is) = (verdict.meets(*must), verdict.meets(*aim));
            writeln!(
                text,
                "| {} | {what} | {median:.2} | {low:.2}-{high:.2} | {must:.2} | {must_is} | {aim:.2} | {aim_is} |",
                table.scenario
            )
            .unwrap();
        }
    }
    text.push('\n');
    text
}

/// Every figure of every round.
pub fn csv(tables: &[Table]) -> String {
    let mut text = "scenario,unit,proxy,round,figure\n".to_owned();
    for table in tables {
        for row in &table.rows {
            for (round, figure) in row.figures.iter().enumerate() {
                let (scenario, unit, name) = (table.scenario, table.unit, &row.name);
                writeln!(text, "{scenario},{unit},{name},{round},{figure}").unwrap();
            }
        }
    }
    text
}

fn ratios(mine: &Row, other: &Row) -> Vec<f64> {
    let pairs = mine.figures.iter().zip(&other.figures);
    known(&pairs.map(|(mine, other)| mine / other).collect::<Vec<f64>>())
}

/// The figures of the rounds that could be counted.
fn known(figures: &[f64]) -> Vec<f64> {
    figures.iter().copied().filter(|figure| figure.is_finite()).collect()
}

/// Tidegate's ratios to another row, as a line.
fn paired(other: &str, ratios: &[f64]) -> String {
    let ((mean, error), rounds) = (mean_and_error(ratios), ratios.len());
    let (low, high) = (mean - 2.0 * error, mean + 2.0 * error);
    let median = median(ratios);
    format!(
        "tidegate to {other}, paired by round: median {median:.2}, mean {mean:.2}, 95 % interval {low:.2} to {high:.2}, {rounds} rounds\n"
    )
}

/// The median; of an even number the upper one. Of nothing, no number.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = known(figures);
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean_and_error(figures: &[f64]) -> (f64, f64) {
    let figures = &known(figures);
    let count = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / count;
    let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}
