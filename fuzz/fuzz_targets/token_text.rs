//! The text of a token: there is one spelling of each, and a letter that is another is noticed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use superserve::domain::TokenText;

fuzz_target!(|text: &str| {
    let Ok(token) = TokenText::parse(text) else { return };
    assert_eq!(token.expose(), text);
    for at in 0..text.len() {
        let mut other = text.as_bytes().to_vec();
        other[at] = if other[at] == b'a' { b'b' } else { b'a' };
        let other = String::from_utf8(other).expect("a token is ASCII");
        assert!(TokenText::parse(&other).is_err(), "{at}");
    }
});
