//! Lists in pages.

/// The most rows of one page, and the number when none is asked for.
const MAX_PAGE: u32 = 100;

/// Which page of a list.
#[derive(Clone, Debug)]
pub struct PageRequest<Cursor> {
    /// How many rows at most.
    pub size: u64,
    /// The last row of the page before; `None` for the first page.
    pub after: Option<Cursor>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<Row, Cursor> {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

impl<Cursor> PageRequest<Cursor> {
    /// A page of `size` rows: 0 asks for the default, and more than 100 gives 100.
    #[must_use]
    pub fn new(size: u32, after: Option<Cursor>) -> Self {
        let size = if size == 0 { MAX_PAGE } else { size.min(MAX_PAGE) };
        Self { size: u64::from(size), after }
    }
}

impl<Row, Cursor> Page<Row, Cursor> {
    /// Makes a page of `size` rows from a query that asked for one more, to learn whether there is one.
    #[must_use]
    pub fn from_overfull(mut rows: Vec<Row>, size: u64, cursor: impl FnOnce(&Row) -> Cursor) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { rows, next }
    }

    /// The same page with other rows.
    #[must_use]
    pub fn map<Other>(self, convert: impl FnMut(Row) -> Other) -> Page<Other, Cursor> {
        Page { rows: self.rows.into_iter().map(convert).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page::from_overfull(vec![1, 2, 3], 2, |row| *row);
        assert_eq!((page.rows, page.next), (vec![1, 2], Some(2)));
        let page = Page::from_overfull(vec![1, 2], 2, |row| *row);
        assert_eq!((page.rows, page.next), (vec![1, 2], None));
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(PageRequest::<()>::new(0, None).size, 100);
        assert_eq!(PageRequest::<()>::new(7, None).size, 7);
        assert_eq!(PageRequest::<()>::new(u32::MAX, None).size, 100);
    }
}
