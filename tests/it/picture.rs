//! The picture of the rooms in `docs/architecture.md`, and the table below it, are what `tests/it/layers.rs` holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::layers::PLACES;

/// What the table leaves out: they are of the binary, and have no room.
const NO_ROOM: [&str; 1] = ["main"];

fn document() -> String {
    std::fs::read_to_string("docs/architecture.md").expect("it is there")
}

/// The arrows of the picture: `a --> b --> c` has two.
fn arrows(document: &str) -> BTreeSet<(String, String)> {
    let (_, rest) = document.split_once("```mermaid\ngraph TD\n").expect("there is a picture");
    let (picture, _) = rest.split_once("```").expect("it ends");
    let mut arrows = BTreeSet::new();
    for line in picture.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let rooms: Vec<_> = line.split("-->").map(|room| room.trim().to_owned()).collect();
        assert!(rooms.len() > 1, "no arrow: {line}");
        arrows.extend(rooms.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())));
    }
    arrows
}

/// Everything that is reached from a room along arrows.
fn reached<'a>(arrows: &'a BTreeSet<(String, String)>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(room) = next.pop() {
        for (_, to) in arrows.iter().filter(|(of, _)| of == room) {
            if found.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    found
}

#[test]
fn each_arrow_of_the_picture_is_allowed_and_each_place_is_in_it() {
    let (arrows, places) = (arrows(&document()), BTreeMap::from(PLACES));
    for (from, to) in &arrows {
        let allowed = places.get(from.as_str()).unwrap_or_else(|| panic!("there is no room {from}"));
        assert!(allowed.contains(&to.as_str()), "{from} may not name {to}");
    }
    // What a room may name stands below it in the picture, by an arrow of its own or by way of others
    for (room, allowed) in places.iter().filter(|(room, _)| !NO_ROOM.contains(room)) {
        let below = reached(&arrows, room);
        for name in *allowed {
            assert!(below.contains(name), "no arrow leads from {room} to {name}");
        }
        assert!(arrows.iter().any(|(from, to)| from == room || to == room), "{room} is not in the picture");
    }
}

#[test]
fn the_table_of_the_rooms_says_what_each_may_name() {
    let document = document();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let mut told = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [room, _, names] = cells[..] else { continue };
        let names: BTreeSet<_> = names.split('`').skip(1).step_by(2).collect();
        told.insert(room.trim_matches('`').to_owned(), names);
    }
    for (room, allowed) in PLACES.iter().filter(|(room, _)| !NO_ROOM.contains(room)) {
        let names = told.get(*room).unwrap_or_else(|| panic!("{room} has no row"));
        assert_eq!(*names, allowed.iter().copied().collect(), "{room}");
    }
}
