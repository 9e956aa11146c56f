//! What the tests of the commands share: output that can be read, and messages to render.

use std::{
    ffi::OsString,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::{context::Context, environment::Environment, input::Input, output::Output, run_in};

/// What was written.
#[derive(Clone, Default)]
pub(crate) struct Captured {
    stdout: Sink,
    stderr: Sink,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// An output that writes here.
    pub(crate) fn output(&self) -> Output {
        Output::new(Box::new(self.stdout.clone()), Box::new(self.stderr.clone()))
    }

    /// The same, writing JSON.
    pub(crate) fn json_output(&self) -> Output {
        let mut output = self.output();
        output.json = true;
        output
    }

    /// What was written to stdout.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What was written to stderr.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did.
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: u8,
    /// The data.
    pub(crate) stdout: String,
    /// The talk.
    pub(crate) stderr: String,
}

/// Runs `superserve` with these arguments, this environment and this stdin, which is no terminal.
pub(crate) async fn superserve(
    args: &[&str],
    environment: impl Into<Environment>,
    stdin: &'static [u8],
) -> Outcome {
    let captured = Captured::default();
    let mut context = Context {
        environment: environment.into(),
        directory: None,
        input: Input::new(stdin, false),
        output: captured.output(),
    };
    let args = ["superserve"].iter().chain(args).map(OsString::from);
    let code = run_in(args, &mut context).await.code();
    Outcome { code, stdout: captured.stdout(), stderr: captured.stderr() }
}
