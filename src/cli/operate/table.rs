//! A table of text: columns as wide as their widest cell, figures aligned to the right.

/// A column of a table.
pub(super) enum Column {
    Text(&'static str),
    Figure(&'static str),
}

impl Column {
    fn title(&self) -> &'static str {
        match self {
            Column::Text(title) | Column::Figure(title) => title,
        }
    }
}

/// The table with its heads, a line for each row. The last column is not padded.
pub(super) fn table<const N: usize>(columns: &[Column; N], rows: &[[String; N]]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([columns[at].title().len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let heads = std::array::from_fn(|at| columns[at].title().to_owned());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(columns).zip(widths);
        let cells: Vec<String> = cells
            .map(|((cell, column), width)| match column {
                Column::Text(_) => format!("{cell:width$}"),
                Column::Figure(_) => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&heads).chain(rows).map(line).collect()
}
