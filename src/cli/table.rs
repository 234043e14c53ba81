//! Tables for a terminal, which other programs can cut into columns, too.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Rows under a line of headings, columns separated by two spaces. `right` are the numbers of columns that are aligned right.
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

/// Pairs of what something is called and what it is. What has several lines has them below each other.
pub(super) fn pairs(pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = plain();
    table.add_rows(pairs.into_iter().map(|(name, value)| [name.to_owned(), value]));
    rendered(&mut table)
}

fn plain() -> Table {
    let mut table = Table::new();
    // Never broken to fit a terminal: a name that is torn apart cannot be copied.
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
    fn columns_are_as_wide_as_they_must_be_and_nothing_trails() {
        let rows = [["a", "1"], ["long name", "22"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&["NAME", "NUMBER"], &[1], rows),
            "NAME       NUMBER\na               1\nlong name      22\n"
        );
        let both = pairs([("one", "1\n2".to_owned()), ("three", "3".to_owned())]);
        assert_eq!(both, "one    1\n       2\nthree  3\n");
    }
}
