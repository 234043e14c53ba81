//! Tables for a terminal that other programs can split into columns.

use std::fmt::Display;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Formats rows under a line of headings, with columns separated by two spaces. `right` contains the indices of
/// right-aligned columns.
pub(super) fn table(
    headings: &[&str],
    right: &[usize],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = plain();
    table.set_header(headings);
    table.add_rows(rows);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    rendered(&mut table)
}

/// Formats rows as [`table`] does, each followed by lines of its own, which are indented.
pub(super) fn blocks(
    headings: &[&str],
    rows: impl IntoIterator<Item = (Vec<String>, Vec<String>)>,
) -> String {
    let (rows, details): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let text = table(headings, &[], rows);
    let mut lines = text.lines();
    let mut text = lines.next().map(|head| format!("{head}\n")).unwrap_or_default();
    for (row, details) in lines.zip(details) {
        text.extend([row, "\n"]);
        text.extend(details.iter().flat_map(|detail| ["  ", detail, "\n"]));
    }
    text
}

/// Formats the line about where a timeline left its parent.
pub(super) fn left(timeline: impl Display, parent: impl Display, position: impl Display) -> String {
    format!("timeline {timeline} left timeline {parent} at {position}\n")
}

/// Formats pairs of name and value. Values with several lines are aligned.
pub(super) fn pairs(pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = plain();
    table.add_rows(pairs.into_iter().map(|(name, value)| [name.to_owned(), value]));
    rendered(&mut table)
}

fn plain() -> Table {
    let mut table = Table::new();
    // Not wrapped to fit the terminal: a broken name cannot be copied.
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn rendered(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_minimal_widths_and_no_trailing_spaces() {
        let rows = [["a", "1"], ["long name", "22"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&["NAME", "NUMBER"], &[1], rows),
            "NAME       NUMBER\na               1\nlong name      22\n"
        );
        let rows = [("a", &["one", "two"][..]), ("long name", &[])];
        let rows = rows.map(|(name, details)| {
            (vec![name.to_owned(), "x".to_owned()], details.iter().map(|it| (*it).to_owned()).collect())
        });
        assert_eq!(blocks(&["NAME", "X"], rows), "NAME       X\na          x\n  one\n  two\nlong name  x\n");
        let both = pairs([("one", "1\n2".to_owned()), ("three", "3".to_owned())]);
        assert_eq!(both, "one    1\n       2\nthree  3\n");
    }
}
