//! Page tokens: where a list goes on, in a form that callers cannot take for anything else.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Error;
use crate::domain::{Fault, FaultCode, Page, PageRequest};

/// A page as callers see it.
#[derive(Clone, Debug)]
pub struct PageOf<Row> {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins; empty on the last.
    pub next_page_token: String,
}

/// Reads what a caller asks for. `decode` reads the cursor of this list.
pub(super) fn request<Cursor>(
    size: u32,
    token: &str,
    decode: impl FnOnce(String) -> Option<Cursor>,
) -> Result<PageRequest<Cursor>, Error> {
    if token.is_empty() {
        return Ok(PageRequest::new(size, None));
    }
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let cursor = text
        .and_then(decode)
        .ok_or_else(|| Error::invalid(Fault::new("page_token", FaultCode::InvalidPageToken)))?;
    Ok(PageRequest::new(size, Some(cursor)))
}

/// Writes a page for a caller. `encode` writes the cursor of this list.
pub(super) fn page<Row, Cursor>(
    page: Page<Row, Cursor>,
    encode: impl FnOnce(Cursor) -> String,
) -> PageOf<Row> {
    let next_page_token = page.next.map(|cursor| URL_SAFE_NO_PAD.encode(encode(cursor))).unwrap_or_default();
    PageOf { rows: page.rows, next_page_token }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_leads_back_to_its_cursor(cursor in ".{1,40}") {
            let written = page(Page { rows: vec![()], next: Some(cursor.clone()) }, |cursor| cursor);
            let read = request(0, &written.next_page_token, Some).unwrap();
            prop_assert_eq!(read.after, Some(cursor));
        }

        #[test]
        fn no_text_breaks_it(token in ".{0,40}") {
            drop(request(0, &token, Some));
        }
    }

    #[test]
    fn the_last_page_has_an_empty_token() {
        let last = page(Page { rows: vec![1], next: None::<String> }, |cursor| cursor);
        assert_eq!(last.next_page_token, "");
    }
}
