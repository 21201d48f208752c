//! How long an answer may take, and when a request is made again because the server said when.
//!
//! Below every request, so that none waits for ever: not a read of a typed object, not a list that a watch begins with.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use kube::client::Body;
use tokio::time::{Instant, timeout, timeout_at};
use tower::{BoxError, Service, ServiceExt};

use super::backoff::spread;

/// Until an answer begins; the server gives up by itself after a minute, and a person does before.
const BEGIN: Duration = Duration::from_secs(30);
/// From the begin of an answer to its end, watches apart: a page of a list is some 100 kB.
const END: Duration = Duration::from_secs(30);
/// A watch that says nothing for so long has lost its server, which says where it is every minute. Kinds of which the server
/// itself has seen no event yet have none, and are asked again for nothing, which costs no list.
const SILENCE: Duration = Duration::from_secs(90);
/// So many times a request is made again; then its pass fails, and a later pass tries.
const AGAIN: usize = 4;
/// Longer than this no request stands in the way of others.
const LONGEST: Duration = Duration::from_secs(20);

/// Makes a service patient, and not too patient.
#[derive(Clone, Copy, Debug)]
pub(super) struct PatienceLayer;

impl<S> tower::Layer<S> for PatienceLayer {
    type Service = Patience<S>;

    fn layer(&self, inner: S) -> Patience<S> {
        Patience { inner }
    }
}

/// See [`PatienceLayer`].
#[derive(Clone, Debug)]
pub(super) struct Patience<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Patience<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<B::Data, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready, not its copy.
        let copy = self.inner.clone();
        let inner = mem::replace(&mut self.inner, copy);
        Box::pin(ask(inner, request))
    }
}

async fn ask<S, B>(
    mut inner: S,
    request: Request<Body>,
) -> Result<Response<UnsyncBoxBody<B::Data, BoxError>>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let watches = super::client::verb(&request) == "watch";
    let mut next = Some(request);
    let mut tries = 0;
    while let Some(request) = next.take() {
        let again = copy(&request);
        let answer = timeout(BEGIN, inner.call(request)).await;
        let answer = answer.map_err(|_| late("no answer from the API server", BEGIN))??;
        let wait = asked_to_wait(&answer).filter(|_| tries < AGAIN);
        if let (Some(wait), Some(again)) = (wait, again) {
            tries += 1;
            // Those who were refused together do not come back together.
            tokio::time::sleep(wait + spread(Duration::from_millis(500))).await;
            inner.ready().await?;
            next = Some(again);
            continue;
        }
        return Ok(answer.map(|body| StreamBody::new(timed(body, watches)).boxed_unsync()));
    }
    Err("a request was lost".into())
}

/// What the server says when it has too much to do or is about to end; such a request was not carried out.
fn asked_to_wait<B>(answer: &Response<B>) -> Option<Duration> {
    if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|wait| *wait <= LONGEST)
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

fn late(what: &str, limit: Duration) -> BoxError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} within {} s", limit.as_secs())).into()
}

/// The parts of an answer, which end in time.
fn timed<B>(body: B, watches: bool) -> impl Stream<Item = Result<http_body::Frame<B::Data>, BoxError>> + Send
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let end = Instant::now() + END;
    futures::stream::unfold(Some(BodyStream::new(body)), move |parts| async move {
        let mut parts = parts?;
        let next = if watches {
            timeout(SILENCE, parts.next()).await.map_err(|_| late("no word of a watch", SILENCE))
        } else {
            timeout_at(end, parts.next()).await.map_err(|_| late("no end of an answer", END))
        };
        match next {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(parts))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}
