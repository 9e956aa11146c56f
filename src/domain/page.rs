//! Lists in pages.

/// The most rows of one page, and the number when none is asked for.
const MAX_PAGE: u32 = 100;

/// The most bytes of one page, as [`Weigh`] counts them: half of what gRPC clients accept in an answer unless told
/// otherwise. A row that is heavier comes alone.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// What a row takes of a page.
pub trait Weigh {
    /// About how many bytes it takes in an answer: no fewer than its texts have.
    fn weight(&self) -> usize;
}

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

impl<Row: Weigh, Cursor> Page<Row, Cursor> {
    /// Makes a page of `size` rows, or fewer if they are heavy, from a query that asked for one more, to learn
    /// whether there is one.
    #[must_use]
    pub fn from_overfull(mut rows: Vec<Row>, size: u64, cursor: impl FnOnce(&Row) -> Cursor) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut weight = 0_usize;
        let fits = |row: &Row| {
            let is_first = weight == 0;
            weight = weight.saturating_add(row.weight());
            is_first || weight <= MAX_PAGE_BYTES
        };
        let fitting = rows.iter().take(size).map(fits).take_while(|fits| *fits).count();
        let more = rows.len() > fitting;
        rows.truncate(fitting);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn a_page_of_heavy_rows_ends_early() {
        let half = MAX_PAGE_BYTES / 2;
        let page = |rows: &[usize]| Page::from_overfull(rows.to_vec(), 10, |row| *row);
        let cut = page(&[half, half, 1, 2]);
        assert_eq!((cut.rows, cut.next), (vec![half, half], Some(half)));
        let alone = page(&[MAX_PAGE_BYTES + 1, 1]);
        assert_eq!((alone.rows, alone.next), (vec![MAX_PAGE_BYTES + 1], Some(MAX_PAGE_BYTES + 1)));
        let last = page(&[half, half]);
        assert_eq!((last.rows.len(), last.next), (2, None));
        let none = page(&[]);
        assert_eq!((none.rows.len(), none.next), (0, None));
    }

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
