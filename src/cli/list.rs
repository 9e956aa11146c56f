//! Lists: asked for page by page, printed as a table or as one document.
//!
//! To add one: an `impl` of [`Listing`] for what its command was asked for.

use serde_json::{Map, Value};
use tonic::Status;

use super::{
    client::{Client, NamedAgent},
    context::Context,
    failure::{Exit, Failure},
    output::Output,
    render,
    settings::ClientArgs,
};

pub(super) use crate::client::Page;

/// A list of the server's, and how it is shown in `COLUMNS` columns.
pub(super) trait Listing<const COLUMNS: usize> {
    /// What is listed.
    type Row;

    /// The member of the document that holds the rows.
    const NAME: &'static str;
    /// What stands above the columns.
    const HEADING: [&'static str; COLUMNS];

    /// Asks for the page that this token begins; the first one's is empty.
    fn page(
        &self,
        client: &Client,
        page_token: String,
    ) -> impl Future<Output = Result<Page<Self::Row>, Status>>;

    /// Whose list it is, if it is one agent's.
    fn agent(&self) -> Option<&NamedAgent> {
        None
    }

    /// What a person reads where there are no rows.
    fn none(&self) -> String;

    /// A row for people.
    fn cells(&self, row: &Self::Row) -> [String; COLUMNS];

    /// A row for programs.
    fn document(&self, row: &Self::Row) -> Value;
}

/// Connects, asks for all rows, and prints them.
///
/// # Errors
/// When the server refuses or fails, or it cannot be written.
pub(super) async fn print_all<L: Listing<COLUMNS>, const COLUMNS: usize>(
    listing: &L,
    client: &ClientArgs,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let client = context.connect(client).await?;
    print(listing, usize::MAX, &client, &mut context.output).await?;
    Ok(Exit::Fine)
}

/// Asks for the first `limit` rows, and prints them as they come, and that there are more, if so. Says whether there are
/// any.
///
/// # Errors
/// When the server refuses or fails, or it cannot be written.
pub(super) async fn print<L: Listing<COLUMNS>, const COLUMNS: usize>(
    listing: &L,
    limit: usize,
    client: &Client,
    output: &mut Output,
) -> Result<bool, Failure> {
    let mut sheet = Sheet::new(listing, output);
    let more = client.each_page(limit, |token| listing.page(client, token), |rows| sheet.add(&rows)).await?;
    let printed = sheet.end(more)?;
    if more && !output.json {
        output.talk(format!("There are more than these {printed}: see them with --limit."));
    }
    Ok(printed > 0)
}

/// A list that is being printed: nothing is kept of rows but the widths of their columns, and one that is not printed yet.
struct Sheet<'s, L, const COLUMNS: usize> {
    listing: &'s L,
    output: &'s mut Output,
    printed: usize,
    columns: render::Columns<COLUMNS>,
    /// Of a document: it is to know whether a comma follows.
    last: Option<String>,
}

// === impl Sheet ===

impl<'s, L: Listing<COLUMNS>, const COLUMNS: usize> Sheet<'s, L, COLUMNS> {
    fn new(listing: &'s L, output: &'s mut Output) -> Self {
        Self { listing, output, printed: 0, columns: render::Columns::new(L::HEADING), last: None }
    }

    /// Prints more rows.
    fn add(&mut self, rows: &[L::Row]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.output.json {
            if self.printed == 0 {
                self.output.part(&self.opening())?;
            }
            for row in rows {
                let row =
                    format!("    {}", format!("{:#}", self.listing.document(row)).replace('\n', "\n    "));
                if let Some(before) = self.last.replace(row) {
                    self.output.part(&format!("{before},"))?;
                }
            }
        } else {
            let rows: Vec<_> = rows.iter().map(|row| self.listing.cells(row)).collect();
            self.output.data(self.columns.lines(&rows))?;
        }
        self.printed += rows.len();
        Ok(())
    }

    fn opening(&self) -> String {
        let agent = self
            .listing
            .agent()
            .map(|agent| format!("\n  \"agent_id\": {},", Value::from(agent.id.as_str())));
        format!("{{{}\n  \"{}\": [", agent.unwrap_or_default(), L::NAME)
    }

    /// Prints what follows the rows, and says how many there were. A document says with `more` that there are others.
    fn end(self, more: bool) -> Result<usize, Failure> {
        match (self.output.json, self.last) {
            (true, Some(last)) => {
                let more = if more { ",\n  \"more\": true" } else { "" };
                self.output.part(&format!("{last}\n  ]{more}\n}}"))?;
            }
            (true, None) => {
                let agent =
                    self.listing.agent().map(|agent| ("agent_id".to_owned(), agent.id.as_str().into()));
                let nothing = [(L::NAME.to_owned(), Value::Array(Vec::new()))];
                let more = more.then(|| ("more".to_owned(), Value::from(true)));
                let members = agent.into_iter().chain(nothing).chain(more);
                self.output.document(&Value::Object(members.collect::<Map<_, _>>()))?;
            }
            (false, _) if self.printed == 0 => self.output.data(self.listing.none())?,
            (false, _) => {}
        }
        Ok(self.printed)
    }
}

/// Prints these rows, as if they were all.
#[cfg(test)]
pub(super) fn report<L: Listing<COLUMNS>, const COLUMNS: usize>(
    listing: &L,
    rows: &[L::Row],
    more: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut sheet = Sheet::new(listing, output);
    sheet.add(rows)?;
    sheet.end(more).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::Captured;

    struct Numbers;

    impl Listing<2> for Numbers {
        type Row = u32;

        const NAME: &'static str = "numbers";
        const HEADING: [&'static str; 2] = ["A", "B"];

        async fn page(&self, _client: &Client, _token: String) -> Result<Page<u32>, Status> {
            Ok((Vec::new(), String::new()))
        }

        fn none(&self) -> String {
            "No numbers".to_owned()
        }

        fn cells(&self, row: &u32) -> [String; 2] {
            [row.to_string(), "b".to_owned()]
        }

        fn document(&self, row: &u32) -> Value {
            json!({"a": row, "lines": "x\ny"})
        }
    }

    fn printed(pages: &[&[u32]], more: bool, output: &mut Output) {
        let mut sheet = Sheet::new(&Numbers, output);
        for rows in pages {
            sheet.add(rows).unwrap();
        }
        assert_eq!(sheet.end(more).unwrap(), pages.concat().len());
    }

    #[test]
    fn a_document_is_the_same_in_whatever_pages_it_came() {
        let whole = |rows: &[u32]| {
            let rows: Vec<_> = rows.iter().map(|row| Numbers.document(row)).collect();
            format!("{:#}\n", json!({"more": true, "numbers": rows}))
        };
        for pages in
            [&[&[1_u32, 2, 3][..]][..], &[&[1], &[], &[2, 3]], &[&[], &[1, 2], &[3], &[]], &[&[]], &[]]
        {
            let captured = Captured::default();
            printed(pages, true, &mut captured.json_output());
            let read: Value = serde_json::from_str(&captured.stdout()).unwrap();
            assert_eq!(format!("{read:#}\n"), whole(&pages.concat()), "{pages:?}");
        }
        let captured = Captured::default();
        printed(&[&[1], &[2]], false, &mut captured.json_output());
        let rows = [1, 2].map(|row| Numbers.document(&row));
        assert_eq!(captured.stdout(), format!("{:#}\n", json!({"numbers": rows})), "as people read it");
    }

    #[test]
    fn a_table_has_one_heading_and_columns_that_only_grow() {
        let captured = Captured::default();
        printed(&[&[1], &[200], &[3]], false, &mut captured.output());
        assert_eq!(captured.stdout(), "A  B\n1  b\n200  b\n3    b\n");
        let captured = Captured::default();
        printed(&[&[]], false, &mut captured.output());
        assert_eq!(captured.stdout(), "No numbers\n");
    }
}
