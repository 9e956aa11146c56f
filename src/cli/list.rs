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

/// One page: its rows, and the token of the next page, which is empty on the last.
pub(super) type Page<Row> = (Vec<Row>, String);

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

/// Asks for the first `limit` rows, and prints them, and that there are more, if so. Says whether there are any.
///
/// # Errors
/// When the server refuses or fails, or it cannot be written.
pub(super) async fn print<L: Listing<COLUMNS>, const COLUMNS: usize>(
    listing: &L,
    limit: usize,
    client: &Client,
    output: &mut Output,
) -> Result<bool, Failure> {
    let (rows, more) = client.first(limit, |page_token| listing.page(client, page_token)).await?;
    report(listing, &rows, more, output)?;
    if more && !output.json {
        output.talk(format!("There are more than these {}: see them with --limit.", rows.len()));
    }
    Ok(!rows.is_empty())
}

/// Prints these rows. A document says with `more` that there are others.
///
/// # Errors
/// When it cannot be written.
pub(super) fn report<L: Listing<COLUMNS>, const COLUMNS: usize>(
    listing: &L,
    rows: &[L::Row],
    more: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.json {
        let rows = rows.iter().map(|row| listing.document(row)).collect();
        let agent = listing.agent().map(|agent| ("agent_id".to_owned(), Value::from(agent.id.as_str())));
        let more = more.then(|| ("more".to_owned(), Value::from(true)));
        let members = agent.into_iter().chain([(L::NAME.to_owned(), Value::Array(rows))]).chain(more);
        return output.document(&Value::Object(members.collect::<Map<_, _>>()));
    }
    if rows.is_empty() {
        return output.data(listing.none());
    }
    let rows: Vec<_> = rows.iter().map(|row| listing.cells(row)).collect();
    output.data(render::table(L::HEADING, &rows))
}
