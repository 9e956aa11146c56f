//! How messages are written for people and for programs.

use prost_types::Timestamp;
use serde_json::{Value, json};

/// A time in RFC 3339, or `null`.
pub(super) fn time(time: Option<&Timestamp>) -> Value {
    time.map_or(Value::Null, |time| Value::from(time.to_string()))
}

/// A time in RFC 3339, or a dash.
pub(super) fn time_text(time: Option<&Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// A text, or `null` where the message means by an empty one that there is none.
pub(super) fn optional(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// Rows under a heading, in columns.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    Columns::new(heading).lines(rows)
}

/// Columns that rows are added to, and that only grow.
pub(super) struct Columns<const N: usize> {
    /// Until it was written.
    heading: Option<[String; N]>,
    widths: [usize; N],
}

// === impl Columns ===

impl<const N: usize> Columns<N> {
    /// No row yet.
    pub(super) fn new(heading: [&str; N]) -> Self {
        Self { heading: Some(heading.map(str::to_owned)), widths: [0; N] }
    }

    /// The lines of these rows, at first under the heading.
    pub(super) fn lines(&mut self, rows: &[[String; N]]) -> String {
        let heading = self.heading.take();
        let all = || heading.iter().chain(rows);
        for row in all() {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; N]| {
            let cells: Vec<_> =
                row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        all().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a", "b"], ["ééé", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["X", "NAME"], &rows), "X    NAME\na    b\nééé");
    }

    #[test]
    fn times_are_rfc_3339() {
        let some = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&some)), "2023-11-14T22:13:20.005Z");
        assert_eq!(time(None), Value::Null);
        assert_eq!(time_text(None), "-");
    }
}
