//! The part of YAML that `superserve.yaml` is written in: texts, lists and mappings, each with its line.
//!
//! Anchors, aliases, tags, a member that is given twice and a second document are refused: nobody needs them
//! here, and they make a short file mean much. No reason repeats what was read: somebody may have put a value
//! where none belongs.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

/// How deep lists and mappings may stand in each other. Three are needed.
const MAX_DEPTH: usize = 8;

/// Why a file is refused, and in which line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The line.
    pub(super) line: usize,
    /// What is wrong, without a word of what stands there.
    pub(super) reason: &'static str,
}

/// What stands in a line.
#[derive(Debug)]
pub(super) struct Node {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) content: Content,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing: `name:` and no more.
    Nothing,
    /// A word, a number, a quoted text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Members by their names, in the order of the file.
    Members(Vec<(String, Node)>),
}

/// Reads a file of one document.
///
/// # Errors
/// When it is not YAML, or more of it than is used here.
pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let mut reader = Reader { events: Parser::new_from_str(text), line: 1 };
    loop {
        let event = reader.next()?;
        if event == Event::StreamEnd {
            return Err(reader.refusal("the file is empty"));
        }
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_) | Event::Nothing) {
            let node = reader.node(event, 0)?;
            return reader.end().map(|()| node);
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// Where the newest event begins.
    line: usize,
}

// === impl Reader ===

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, Refusal> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.line = span.start.line().max(1);
                Ok(event)
            }
            Some(Err(error)) => {
                self.line = error.marker().line().max(1);
                Err(self.refusal("this is not well-formed YAML"))
            }
            None => Err(self.refusal("this is not well-formed YAML")),
        }
    }

    fn refusal(&self, reason: &'static str) -> Refusal {
        Refusal { line: self.line, reason }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Node, Refusal> {
        let line = self.line;
        let is_plain = |anchor: usize, has_tag: bool| {
            if anchor == 0 && !has_tag { Ok(()) } else { Err(Refusal { line, reason: REFERENCES }) }
        };
        if depth > MAX_DEPTH {
            return Err(self.refusal("this is nested too deeply"));
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                is_plain(anchor, tag.is_some())?;
                let is_nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                if is_nothing { Content::Nothing } else { Content::Text(text.into_owned()) }
            }
            Event::SequenceStart(anchor, tag) => {
                is_plain(anchor, tag.is_some())?;
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                is_plain(anchor, tag.is_some())?;
                self.members(depth)?
            }
            Event::Alias(_) => return Err(self.refusal(REFERENCES)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(self.refusal("something is missing here")),
        };
        Ok(Node { line, content })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Refusal> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Content::List(items));
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    fn members(&mut self, depth: usize) -> Result<Content, Refusal> {
        let (mut members, mut seen) = (Vec::new(), HashSet::new());
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Content::Members(members));
            }
            let name = self.node(event, depth + 1)?;
            let Content::Text(text) = name.content else {
                return Err(Refusal { line: name.line, reason: "the name of a field is a word" });
            };
            if !seen.insert(text.clone()) {
                return Err(Refusal { line: name.line, reason: "this field is given twice" });
            }
            let event = self.next()?;
            members.push((text, self.node(event, depth + 1)?));
        }
    }

    fn end(&mut self) -> Result<(), Refusal> {
        loop {
            let event = self.next()?;
            if event == Event::StreamEnd {
                return Ok(());
            }
            if event != Event::DocumentEnd {
                return Err(self.refusal("a second document begins here: one is read"));
            }
        }
    }
}

const REFERENCES: &str = "anchors, aliases and tags are not used in this file";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (usize, &'static str) {
        let Refusal { line, reason } = parse(text).unwrap_err();
        (line, reason)
    }

    #[test]
    fn every_node_has_its_line() {
        let Content::Members(members) = parse("# c\nname: a\nlist:\n  - b\n  - 'x: y'\n").unwrap().content
        else {
            panic!("no members")
        };
        let lines: Vec<_> = members.iter().map(|(name, node)| (name.as_str(), node.line)).collect();
        assert_eq!(lines, [("name", 2), ("list", 4)]);
        let Content::List(items) = &members[1].1.content else { panic!("no list") };
        assert!(matches!(&items[1].content, Content::Text(text) if text == "x: y"));
        assert_eq!(items[1].line, 5);
    }

    #[test]
    fn what_makes_a_short_file_mean_much_is_refused() {
        assert_eq!(refused("a: &x b\nc: *x\n"), (1, REFERENCES));
        assert_eq!(refused("a: b\nc: *x\n").0, 2);
        assert_eq!(refused("a: !!str b\n"), (1, REFERENCES));
        assert_eq!(refused("a: b\nc: d\na: e\n"), (3, "this field is given twice"));
        assert_eq!(refused("a: b\n---\nc: d\n"), (2, "a second document begins here: one is read"));
        assert_eq!(refused(&"[".repeat(100)).1, "this is nested too deeply");
        assert_eq!(refused("").1, "the file is empty");
        assert_eq!(refused("# nothing\n").1, "the file is empty");
        assert_eq!(refused("[a]: b\n").1, "the name of a field is a word");
        assert_eq!(refused("a: 'sentinel\n").1, "this is not well-formed YAML");
        assert_eq!(refused("a: b\n\tc: d\n").1, "this is not well-formed YAML");
    }
}
