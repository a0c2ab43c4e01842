//! Tables for people: columns as wide as they must be, no lines.

/// Prints a heading and rows. All rows have as many cells as the heading.
pub(super) fn print(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    print!("{}", laid_out(&heading, &rows.collect::<Vec<_>>()));
}

fn laid_out(heading: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(heading).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let missing = width.saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', missing + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            laid_out(&row(["A", "B"]), &[row(["größer", "x"]), row(["", "y"])]),
            "A       B\ngrößer  x\n        y\n"
        );
    }
}
