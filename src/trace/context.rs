//! The context of a trace as it travels (W3C Trace Context): `traceparent`, and `tracestate`, which is passed on and
//! never looked into.

use std::fmt;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom as _, SystemRandom};

/// By which a caller says of which trace a call is.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What tracing systems add to it for themselves.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The bytes of a `traceparent` of version 0.
const LENGTH: usize = 55;

/// The bit of its flags that says that the caller records the trace.
const SAMPLED: u8 = 1;

/// The longest `tracestate` that is passed on, in bytes, and its most members: those that everybody has to pass on.
const STATE_BYTES: usize = 512;
const STATE_MEMBERS: usize = 32;

/// The id of a trace; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span within its trace; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// Of which trace a call is, and below which of its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: TraceId,
    /// The span that calls.
    pub span: SpanId,
    /// Whether who calls records the trace.
    pub is_sampled: bool,
    /// What is passed on unseen.
    state: Option<HeaderValue>,
}

// === impl Context ===

impl Context {
    /// What a caller has sent; `None` where that is nothing, or nothing that could be meant.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let mut context = Self::parse(value.to_str().ok()?)?;
        let state: Vec<_> = headers.get_all(TRACESTATE).iter().flat_map(|value| value.to_str()).collect();
        context.state = state_of(&state.join(","));
        Some(context)
    }

    /// What a `traceparent` says; `None` where it is none. Of versions that are yet to come, what is known is read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = text.get(..LENGTH)?;
        let more = text.get(LENGTH..)?;
        let mut parts = known.split('-');
        let version = bytes::<1>(parts.next()?)?;
        let is_one = match version {
            [0] => more.is_empty(),
            [0xff] => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        let trace = bytes(parts.next()?).filter(|id| *id != [0; 16]).map(TraceId)?;
        let span = bytes(parts.next()?).filter(|id| *id != [0; 8]).map(SpanId)?;
        let [flags] = bytes(parts.next()?)?;
        (is_one && parts.next().is_none()).then_some(Self {
            trace,
            span,
            is_sampled: flags & SAMPLED != 0,
            state: None,
        })
    }

    /// The same, with the `tracestate` that came with it, if that is one.
    #[must_use]
    pub fn with_state(self, text: &str) -> Self {
        Self { state: state_of(text), ..self }
    }

    /// The beginning of a trace that nobody records yet; `None` where the system has no randomness.
    #[must_use]
    pub fn begin() -> Option<Self> {
        Some(Self { trace: TraceId(random()?), span: SpanId(random()?), is_sampled: false, state: None })
    }

    /// The same trace, as the span `span` of a recording of it sends it on.
    pub(super) fn recorded_by(&self, span: SpanId) -> Self {
        Self { span, is_sampled: true, ..self.clone() }
    }

    /// Tells who is called of it.
    pub fn write(&self, headers: &mut HeaderMap) {
        // Digits and dashes are a header
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// Its `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

// === impl TraceId ===

impl TraceId {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

// === impl SpanId ===

impl SpanId {
    /// One by chance; `None` where the system has no randomness.
    #[must_use]
    pub fn random() -> Option<Self> {
        random().map(Self)
    }

    /// The id that comes so many after this one, within the same recording.
    pub(super) fn after(self, steps: u64) -> Self {
        let id = u64::from_be_bytes(self.0).wrapping_add(steps);
        Self(id.max(1).to_be_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Random bytes that are not all zeros.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.ok().map(|()| bytes).filter(|bytes| *bytes != [0; N])
}

/// As many bytes as are wanted, of hexadecimal digits in small letters.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// A `tracestate`, if it follows the grammar and everybody has to pass it on.
fn state_of(text: &str) -> Option<HeaderValue> {
    let members: Vec<_> = text.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    let is_one = !members.is_empty()
        && members.len() <= STATE_MEMBERS
        && text.len() <= STATE_BYTES
        && members.iter().all(|member| is_member(member));
    if is_one { HeaderValue::try_from(members.join(",")).ok() } else { None }
}

fn is_member(text: &str) -> bool {
    let Some((key, value)) = text.split_once('=') else { return false };
    let in_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let in_value = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    (1..=256).contains(&key.len())
        && key.bytes().all(in_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(in_value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_sent_is_read_and_written_again() {
        let context = Context::parse(SENT).unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), SENT);
        let mut headers = HeaderMap::new();
        context.with_state("a=1,  b@c=2 ,,").write(&mut headers);
        assert_eq!(
            (&headers[TRACEPARENT], &headers[TRACESTATE]),
            (&SENT.parse().unwrap(), &"a=1,b@c=2".parse().unwrap())
        );
        let read = Context::of(&headers).unwrap();
        assert_eq!(read.state.as_ref().unwrap(), "a=1,b@c=2");
        let recorded = read.recorded_by(SpanId([7; 8]));
        assert_eq!(recorded.to_string(), "00-0af7651916cd43dd8448eb211c80319c-0707070707070707-01");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = SENT.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-more")] {
            assert_eq!(Context::parse(&text).unwrap().to_string(), SENT, "{text}");
        }
        assert_eq!(Context::parse(&format!("{later}more")), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let no_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let cut = SENT.get(..54).unwrap();
        let capitals = SENT.to_uppercase();
        let longer = format!("{SENT}-00");
        let version = SENT.replacen("00", "ff", 1);
        let moved = SENT.replace("c-b7", "-cb7");
        for text in ["", "00", zeros, no_span, cut, &capitals, &longer, &version, &moved, "é"] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, SENT.parse().unwrap());
        assert!(Context::of(&twice).is_some());
        twice.append(TRACEPARENT, SENT.parse().unwrap());
        assert_eq!(Context::of(&twice), None);
    }

    #[test]
    fn a_state_that_is_none_is_left_behind() {
        let (long, many) = (format!("a={}", "b".repeat(511)), "a=1,".repeat(33));
        for text in ["", "a", "=1", "a=", "A=1", "a=b=c", "a=\u{7f}", &long, &many] {
            assert_eq!(state_of(text), None, "{text}");
        }
        assert!(state_of(&"a=1,".repeat(32)).is_some());
    }

    #[test]
    fn a_begun_trace_is_one() {
        let context = Context::begin().unwrap();
        assert_eq!(Context::parse(&context.to_string()), Some(context));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,80}") {
            let _read = Context::parse(&text);
            let _state = state_of(&text);
        }

        #[test]
        fn what_is_read_is_what_was_written(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), is_sampled: bool) {
            let context = Context { trace: TraceId(trace), span: SpanId(span), is_sampled, state: None };
            let read = Context::parse(&context.to_string());
            prop_assert_eq!(read, (trace != [0; 16] && span != [0; 8]).then_some(context));
        }
    }
}
