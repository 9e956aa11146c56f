//! The commands of a Markdown document, run as they stand there.
//!
//! Every fenced block of the language `sh` is run, in the order of the document, in one bash: what a block sets is there in
//! the next. The directory is a new one, which is `HOME` too; `superserve` is on the `PATH`; `127.0.0.1:8080` and
//! `127.0.0.1:9090` are the ports of a real server, and `data/admin-token` holds its admin token, as after the first
//! `superserve serve`. Nothing can be typed.
//!
//! - A command that fails fails the test.
//! - Comment lines that follow a command are what it prints: `# {"keys":[]}`. Those at the beginning of a block, and those
//!   after an empty line, are comments. A block of the language `text` or `json` that follows with nothing between is what
//!   the commands after the last such comment print. `…` stands for anything within a line; a line of `…` alone for any
//!   lines.
//! - An HTML comment directly before a block changes how it is run: `<!-- test: skip REASON -->` leaves it out,
//!   `<!-- test: exit 3 -->` expects its last command to fail so, `<!-- test: run COMMANDS -->` runs something first that
//!   readers do not see. `<!-- test: stdout -->` anywhere has only standard output compared.

use std::{fmt::Write as _, fs, path::Path};

use super::{cli::Cli, search_path, server::BINARY, server::Server};

/// A document, taken apart.
#[derive(Debug)]
pub(crate) struct Document {
    name: String,
    blocks: Vec<Block>,
    /// Standard error is not compared.
    is_of_stdout: bool,
}

/// What became of a document whose commands did what it says.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How many blocks were run.
    pub(crate) blocks: usize,
    /// How many outputs were compared.
    pub(crate) outputs: usize,
    /// The blocks left out: their lines, and why.
    pub(crate) skipped: Vec<String>,
}

#[derive(Debug)]
struct Block {
    line: usize,
    skip: Option<String>,
    parts: Vec<Part>,
}

/// Commands, and what they print, if the document says so.
#[derive(Debug, Default)]
struct Part {
    line: usize,
    commands: String,
    exit: u8,
    output: Option<String>,
}

/// What an HTML comment asks for.
#[derive(Debug, Default)]
struct Marks {
    skip: Option<String>,
    exit: u8,
    run: String,
}

// === impl Document ===

impl Document {
    /// Reads a document of the project.
    ///
    /// # Panics
    /// When it has a mark that is not understood.
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
        Self::parse(path, &text)
    }

    /// Takes a document apart.
    ///
    /// # Panics
    /// When it has a mark that is not understood.
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let (mut blocks, mut marks, mut follows) = (Vec::<Block>::new(), Marks::default(), false);
        let is_of_stdout = text.contains("\n<!-- test: stdout -->\n");
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((at, line)) = lines.next() {
            let line = line.trim();
            if let Some(language) = line.strip_prefix("```") {
                let code: Vec<_> = lines.by_ref().take_while(|(_, line)| line.trim() != "```").collect();
                let last = blocks.last_mut().filter(|_| follows);
                follows = language == "sh";
                match (language, last) {
                    ("sh", _) => blocks.push(Block::new(at, std::mem::take(&mut marks), &code)),
                    ("text" | "json", Some(block)) => {
                        let output: Vec<_> = code.iter().map(|(_, line)| *line).collect();
                        block.parts.last_mut().expect("a block has commands").output =
                            Some(output.join("\n"));
                    }
                    _ => {}
                }
            } else if let Some(mark) = line.strip_prefix("<!-- test: ").filter(|mark| *mark != "stdout -->") {
                let mark = mark.strip_suffix(" -->").unwrap_or_else(|| panic!("{name}:{at}: one line"));
                marks.read(mark).unwrap_or_else(|()| panic!("{name}:{at}: unknown: {mark}"));
                follows = false;
            } else if !line.is_empty() {
                follows = false;
            }
        }
        Self { name: name.to_owned(), blocks, is_of_stdout }
    }

    /// Runs all blocks against this server.
    ///
    /// # Panics
    /// When a command fails, or prints something else than the document says.
    pub(crate) fn run(&self, server: &Server) -> Ran {
        let cli = reader(server);
        let script = cli.home().join("script");
        fs::write(&script, self.script(server)).expect("a file");
        let output = cli.script("exec bash ./script");
        let said = |at: usize| fs::read_to_string(cli.home().join(format!("said/{at}"))).unwrap_or_default();
        let (mut outputs, mut faults) = (0, String::new());
        for (at, part) in self.parts().enumerate() {
            let said = said(at);
            if let Some(expected) = &part.output {
                outputs += 1;
                let expected = at_server(expected, server);
                if output.code == 0 && !is_like(&expected, &said) {
                    writeln!(faults, "{}:{}: says\n{expected}\nand prints\n{said}", self.name, part.line)
                        .expect("a text");
                }
            }
        }
        let last = self.parts().enumerate().filter(|(at, _)| cli.home().join(format!("said/{at}")).exists());
        let last = last.last().map_or((0, String::new()), |(at, part)| (part.line, said(at)));
        assert_eq!(output.code, 0, "{}:{}: {}{}", self.name, last.0, last.1, output.stderr);
        assert!(faults.is_empty(), "{faults}");
        let skipped = self.blocks.iter().filter_map(|block| {
            let reason = block.skip.as_ref()?;
            Some(format!("{}:{}: {reason}", self.name, block.line))
        });
        let skipped: Vec<_> = skipped.collect();
        Ran { blocks: self.blocks.len() - skipped.len(), outputs, skipped }
    }

    /// The lines of its blocks, and why those that are left out are.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, Option<&str>)> {
        self.blocks.iter().map(|block| (block.line, block.skip.as_deref()))
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.blocks.iter().filter(|block| block.skip.is_none()).flat_map(|block| &block.parts)
    }

    /// One bash for all: each part in braces, so that what it sets stays, with what it prints in a file.
    fn script(&self, server: &Server) -> String {
        let mut script = "mkdir said\n".to_owned();
        let stderr = if self.is_of_stdout { "2>>said/stderr" } else { "2>&1" };
        for (at, Part { line: _, commands, exit, output: _ }) in self.parts().enumerate() {
            let commands = at_server(commands, server);
            // Its own `set -e` would be without effect in a condition
            writeln!(script, "trap 'code=$?; [ $code -eq 0 ] || echo \"exit code $code\" >&2' EXIT\nset -e")
                .expect("a text");
            if *exit == 0 {
                writeln!(script, "{{\n{commands}\n}} >said/{at} {stderr} </dev/null").expect("a text");
            } else {
                let check = format!("[ $? -eq {exit} ]");
                writeln!(
                    script,
                    "set +e\n{{\n{commands}\n}} >said/{at} {stderr} </dev/null\n{check} || exit 1"
                )
                .expect("a text");
            }
        }
        script
    }
}

// === impl Marks ===

impl Marks {
    fn read(&mut self, mark: &str) -> Result<(), ()> {
        match mark.split_once(' ') {
            Some(("skip", reason)) if !reason.trim().is_empty() => self.skip = Some(reason.to_owned()),
            Some(("exit", code)) => self.exit = code.parse().map_err(|_no_number| ())?,
            Some(("run", commands)) => {
                self.run.push_str(commands);
                self.run.push('\n');
            }
            _ => return Err(()),
        }
        Ok(())
    }
}

// === impl Block ===

impl Block {
    fn new(line: usize, marks: Marks, code: &[(usize, &str)]) -> Self {
        let mut parts = Vec::new();
        if !marks.run.is_empty() {
            parts.push(Part { line, commands: marks.run, ..Part::default() });
        }
        let (mut part, mut after_command) = (Part { line, ..Part::default() }, false);
        for (at, text) in code {
            if let Some(said) = text.strip_prefix('#').filter(|_| after_command) {
                let said = said.strip_prefix(' ').unwrap_or(said);
                let output = part.output.get_or_insert_default();
                if !output.is_empty() {
                    output.push('\n');
                }
                output.push_str(said);
                continue;
            }
            if part.output.is_some() {
                parts.push(std::mem::replace(&mut part, Part { line: *at, ..Part::default() }));
            }
            after_command = !text.trim().is_empty() && !text.starts_with('#');
            part.commands.push_str(text);
            part.commands.push('\n');
        }
        if part.commands.trim().is_empty() {
            part.commands.push_str(":\n");
        }
        part.exit = marks.exit;
        parts.push(part);
        Self { line, skip: marks.skip, parts }
    }
}

/// Who reads the document, in a new directory, beside this server.
fn reader(server: &Server) -> Cli {
    let bin = Path::new(BINARY).parent().expect("a directory").to_owned();
    let path = std::env::split_paths(&search_path()).collect::<Vec<_>>();
    let path = std::env::join_paths([bin].into_iter().chain(path)).expect("a path");
    let cli = server.cli().without_env("SUPERSERVE_TOKEN").env("PATH", path.to_str().expect("UTF-8"));
    let data = cli.home().join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("admin-token"), format!("{}\n", server.admin_token())).expect("a file");
    // As on a terminal, where curl shows no progress of what it prints
    fs::write(cli.home().join(".curlrc"), "silent\nshow-error\n").expect("a file");
    cli
}

fn at_server(text: &str, server: &Server) -> String {
    text.replace("127.0.0.1:8080", &server.address().to_string())
        .replace("127.0.0.1:9090", &server.ops_address().to_string())
}

/// Whether what was said is as it is written, `…` being anything.
fn is_like(written: &str, said: &str) -> bool {
    let lines = |text: &str| text.trim().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    lines_are_like(&lines(written), &lines(said))
}

fn lines_are_like(written: &[String], said: &[String]) -> bool {
    match (written.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any.trim() == "…" => {
            (0..=said.len()).any(|skipped| lines_are_like(rest, &said[skipped..]))
        }
        (Some((line, rest)), Some((first, others))) => {
            line_is_like(line, first) && lines_are_like(rest, others)
        }
        _ => false,
    }
}

fn line_is_like(written: &str, said: &str) -> bool {
    let mut pieces = written.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}
