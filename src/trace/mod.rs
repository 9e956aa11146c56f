//! What a call does, step by step, for those calls that are traced; and the trace that it belongs to.
//!
//! Every room may say that something is a step ([`step`], [`call_out`], [`timed`], [`stages`]), and knows nothing of where that
//! goes: `telemetry` decides which calls are traced, and sends on what was noted of them. Of a call that is not traced
//! nothing is noted: a step then costs a look at a task-local, and neither memory nor a clock. A step has a name that this
//! program chose, a beginning and an end, and nothing else, so that nothing of a caller's can come into a trace by it.

mod context;
mod recording;

use std::{pin::Pin, time::Instant};

use futures_util::future::Either;
use http::HeaderMap;
use tokio::task::futures::TaskLocalFuture;

pub use context::{Context, SpanId, TRACEPARENT, TRACESTATE, TraceId};
pub use recording::{Recorded, Recording, Step};

tokio::task_local! {
    /// The trace that the call which this task answers belongs to, if it belongs to one.
    static CURRENT: Current;
}

/// A trace that a call belongs to, and where in it the call is. Cheap enough to clone for each step of a traced call.
#[derive(Clone, Debug)]
pub struct Current {
    /// As who called has sent it, or as it begins here.
    context: Context,
    /// Where the steps are noted, if they are.
    recording: Option<Recording>,
    /// The span that is under way here; without a recording the caller's.
    span: SpanId,
    /// Whether the trace begins here.
    is_new: bool,
}

/// A place in a traced call, to note steps from where no task-local leads: on other threads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Here(Option<(Recording, SpanId)>);

/// Steps of which each begins where the one before ends.
#[derive(Debug)]
pub struct Stages(Option<(Recording, SpanId, Instant)>);

/// A step under way. It ends when it is dropped, be it that its call is given up.
struct Open {
    name: &'static str,
    is_call: bool,
    recording: Recording,
    id: SpanId,
    parent: SpanId,
    since: Instant,
}

/// Does `work` as a step of the call, if that is traced.
pub fn step<F: Future>(name: &'static str, work: F) -> impl Future<Output = F::Output> {
    within(Open::begin(name, false), work)
}

/// As [`step`], where another service is called.
pub fn call_out<F: Future>(name: &'static str, work: F) -> impl Future<Output = F::Output> {
    within(Open::begin(name, true), work)
}

/// As [`step`], for what does not wait.
pub fn timed<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let _open = Open::begin(name, false);
    work()
}

/// Where the call is now.
#[must_use]
pub fn here() -> Here {
    let place = |current: &Current| current.recording.clone().map(|recording| (recording, current.span));
    Here(CURRENT.try_with(place).ok().flatten())
}

/// Steps that follow one another, from now on.
#[must_use]
pub fn stages() -> Stages {
    Stages(here().0.map(|(recording, parent)| (recording, parent, Instant::now())))
}

/// Tells who is called of the trace that the call belongs to, if it belongs to one.
pub fn pass_on(headers: &mut HeaderMap) {
    // Where there is none, nothing is to be told
    let _told = CURRENT.try_with(|current| current.outgoing().write(headers));
}

/// Shows the ids of the trace and the span that are under way, if there are any.
pub fn ids<T>(show: impl FnOnce(&TraceId, &SpanId) -> T) -> Option<T> {
    CURRENT.try_with(|current| show(&current.context.trace, &current.span)).ok()
}

// In a box if it is traced, so that a step that is not makes no future larger
fn within<F: Future>(open: Option<Open>, work: F) -> Either<F, Pin<Box<impl Future<Output = F::Output>>>> {
    match open {
        None => Either::Left(work),
        Some(open) => Either::Right(Box::pin(open.run(work))),
    }
}

// === impl Current ===

impl Current {
    /// A call of a caller's trace, which is noted if there is a recording.
    #[must_use]
    pub fn new(context: Context, recording: Option<Recording>) -> Self {
        let span = recording.as_ref().map_or(context.span, Recording::root);
        Self { context, recording, span, is_new: false }
    }

    /// A call with which a trace begins; `None` where the system has no randomness.
    #[must_use]
    pub fn begin(recording: Recording) -> Option<Self> {
        Some(Self { is_new: true, ..Self::new(Context::begin()?, Some(recording)) })
    }

    /// Answers the call.
    pub fn answer<F: Future>(&self, call: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self.clone(), call)
    }

    /// The trace, as who called has sent it, or as it begins here.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The caller's span, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<SpanId> {
        (!self.is_new).then_some(self.context.span)
    }

    /// The span of the call; without a recording the caller's.
    #[must_use]
    pub fn span(&self) -> SpanId {
        self.span
    }

    /// Where the steps are noted, if they are.
    #[must_use]
    pub fn recording(&self) -> Option<&Recording> {
        self.recording.as_ref()
    }

    fn outgoing(&self) -> Context {
        if self.recording.is_some() { self.context.recorded_by(self.span) } else { self.context.clone() }
    }
}

// === impl Here ===

impl Here {
    /// As [`timed`], as a step of the call that was there.
    pub fn timed<T>(&self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let _open = self.0.as_ref().map(|(recording, parent)| Open::of(name, false, recording, *parent));
        work()
    }
}

// === impl Stages ===

impl Stages {
    /// One has ended now, and the next begins.
    pub fn passed(&mut self, name: &'static str) {
        if let Some((recording, parent, since)) = &mut self.0 {
            recording.note(name, false, recording.next_id(), *parent, *since);
            *since = Instant::now();
        }
    }
}

// === impl Open ===

impl Open {
    fn begin(name: &'static str, is_call: bool) -> Option<Self> {
        let begin = |current: &Current| {
            current.recording.as_ref().map(|recording| Self::of(name, is_call, recording, current.span))
        };
        CURRENT.try_with(begin).ok().flatten()
    }

    fn of(name: &'static str, is_call: bool, recording: &Recording, parent: SpanId) -> Self {
        let id = recording.next_id();
        Self { name, is_call, recording: recording.clone(), id, parent, since: Instant::now() }
    }

    async fn run<F: Future>(self, work: F) -> F::Output {
        let within = CURRENT.try_with(|current| Current { span: self.id, ..current.clone() });
        match within {
            Ok(within) => CURRENT.scope(within, work).await,
            // It has moved to another task meanwhile, whose steps are not the call's
            Err(_elsewhere) => work.await,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { name, is_call, recording, id, parent, since } = self;
        recording.note(name, *is_call, *id, *parent, *since);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn traced() -> (Current, Recording) {
        let recording = Recording::begin().unwrap();
        (Current::new(Context::parse(SENT).unwrap(), Some(recording.clone())), recording)
    }

    fn told() -> String {
        let mut headers = HeaderMap::new();
        pass_on(&mut headers);
        headers.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[tokio::test]
    async fn steps_lie_within_one_another_and_who_is_called_is_told_of_the_innermost() {
        let (current, recording) = traced();
        let call = async {
            let told = step("outer", async { call_out("inner", async { told() }).await }).await;
            timed("beside", || ());
            (told, here(), stages())
        };
        let (told, here, mut stages) = current.answer(call).await;
        std::thread::spawn(move || here.timed("elsewhere", || stages.passed("stage"))).join().unwrap();
        let recorded = recording.end();
        let names: Vec<_> = recorded.steps.iter().map(|step| step.name).collect();
        assert_eq!(names, ["inner", "outer", "beside", "stage", "elsewhere"]);
        let [inner, outer, rest @ ..] = recorded.steps.as_slice() else { panic!("{recorded:?}") };
        assert_eq!((inner.parent, outer.parent), (outer.id, recorded.root));
        assert!(inner.is_call && rest.iter().all(|step| step.parent == recorded.root && !step.is_call));
        assert_eq!(told, format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", inner.id));
    }

    #[tokio::test]
    async fn a_step_that_is_given_up_ends_there() {
        let (current, recording) = traced();
        let call =
            async { tokio::time::timeout(Duration::ZERO, step("waits", pending::<()>())).await.is_err() };
        assert!(current.answer(call).await);
        assert_eq!(recording.end().steps.len(), 1);
    }

    #[tokio::test]
    async fn a_trace_that_is_not_noted_is_passed_on_as_it_came() {
        let current = Current::new(Context::parse(SENT).unwrap(), None);
        let seen =
            current.answer(step("step", async { (told(), ids(|trace, span| format!("{trace}-{span}"))) }));
        assert_eq!(seen.await, (SENT.to_owned(), Some(SENT.get(3..52).unwrap().to_owned())));
    }

    #[tokio::test]
    async fn without_a_trace_nothing_is_said() {
        let seen = step("step", async { (told(), ids(|_, _| ()), here().0.is_none(), stages().0.is_none()) });
        assert_eq!(seen.await, (String::new(), None, true, true));
    }
}
