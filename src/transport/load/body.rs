//! A body that is waited for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::Place;

/// The body of a call. While it has not come, the call does not count as under way: it waits for its client.
pub(in crate::transport) struct Awaited {
    body: Body,
    place: Arc<Place>,
}

// === impl Awaited ===

impl Awaited {
    /// The body, if there is one to come.
    pub(in crate::transport) fn body(body: Body, place: &Arc<Place>) -> Body {
        if body.is_end_stream() { body } else { Body::new(Self { body, place: Arc::clone(place) }) }
    }
}

impl HttpBody for Awaited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            self.place.pause();
        } else {
            self.place.go_on();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use futures_util::stream;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{telemetry::LimitMetrics, transport::load::place::Places};

    #[test]
    fn a_call_that_waits_for_its_body_is_not_under_way() {
        let gauges = LimitMetrics::default().calls("write");
        let place = Arc::new(Places::new(gauges.clone()).enter(|| 1).unwrap());
        let (sender, comes) = oneshot::channel::<Bytes>();
        let body = stream::once(async { Ok::<_, Infallible>(comes.await.unwrap()) });
        let mut body = Awaited::body(Body::from_stream(body), &place);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
        assert_eq!(gauges.under_way.get(), 0);
        sender.send(Bytes::from_static(b"x")).unwrap();
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        assert_eq!(gauges.under_way.get(), 1);
    }
}
