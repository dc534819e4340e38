//! Reads a body, compressed or not. The limit counts uncompressed bytes.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};

use super::failure;
use crate::api::ErrorClass;
use crate::probe::trace::ProbeTrace;
use crate::probe::{BodyReader, Failure, Request};

/// Receives the uncompressed bytes of a body.
pub(super) struct Sink<'a> {
    limit: u64,
    kept: usize,
    text: Vec<u8>,
    reader: Option<&'a dyn BodyReader>,
    trace: &'a mut ProbeTrace,
    failed: Option<Failure>,
}

impl<'a> Sink<'a> {
    /// Creates a sink that fails beyond `limit` bytes and keeps the first `kept`. The reader of a metrics page gets all of
    /// them.
    pub(super) fn new(limit: u64, kept: usize, trace: &'a mut ProbeTrace) -> Self {
        Self { limit, kept, text: Vec::new(), reader: None, trace, failed: None }
    }

    /// Gives all bytes to this reader, too.
    pub(super) fn feeding(self, reader: Option<&'a dyn BodyReader>) -> Self {
        Self { reader, ..self }
    }

    fn too_large(&self) -> Failure {
        self.trace.failure(ErrorClass::BodyTooLarge, format!("the body is larger than {} bytes", self.limit))
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The first failure counts. A decoder that is finished may still write buffered bytes.
        if self.failed.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let left = self.limit.saturating_sub(self.trace.seen.body_bytes);
        let taken = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.trace.seen.body_bytes += taken.len() as u64;
        let wanted = self.kept.saturating_sub(self.text.len()).min(taken.len());
        self.text.extend_from_slice(&taken[..wanted]);
        let fed = self.trace.page.as_mut().map_or(Ok(()), |page| page.feed(taken));
        let read = self.reader.map_or(Ok(()), |reader| reader.take(taken));
        let fed = fed.and_then(|()| read.map_err(|why| self.trace.failure(ErrorClass::Assertion, why)));
        self.failed = match fed {
            Err(failure) => Some(failure),
            Ok(()) if taken.len() < bytes.len() => Some(self.too_large()),
            Ok(()) => return Ok(bytes.len()),
        };
        Err(io::ErrorKind::Other.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Coding<'a> {
    Plain(Sink<'a>),
    /// The flag: whether any byte was received. An empty body is not a broken one.
    Gzip(Box<MultiGzDecoder<Sink<'a>>>, bool),
}

impl<'a> Coding<'a> {
    fn of(headers: &HeaderMap, sink: Sink<'a>) -> Self {
        let coding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |coding| coding.as_bytes());
        // Another compression was not requested; the bytes are taken as they are.
        if coding.trim_ascii().eq_ignore_ascii_case(b"gzip") {
            Self::Gzip(Box::new(MultiGzDecoder::new(sink)), false)
        } else {
            Self::Plain(sink)
        }
    }

    fn sink(&mut self) -> &mut Sink<'a> {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(decoder, _) => decoder.get_mut(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(decoder, came) => {
                *came |= !bytes.is_empty();
                decoder.write_all(bytes)
            }
        };
        result.map_err(|_| self.failure("is not"))
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(_, false) => Ok(()),
            Self::Gzip(decoder, true) => decoder.try_finish().map_err(|_| self.failure("ends too early")),
        }
    }

    /// The failure of the sink, or otherwise of the decoder.
    fn failure(&mut self, what: &str) -> Failure {
        let sink = self.sink();
        let message = format!("the body is said to be gzip and {what}");
        sink.failed.clone().unwrap_or_else(|| sink.trace.failure(ErrorClass::NotHTTP, message))
    }
}

/// Reads `body` into `sink`. Returns the kept bytes, and whether the body was read to its end.
pub(super) async fn read(
    request: &Request,
    headers: &HeaderMap,
    body: Incoming,
    sink: Sink<'_>,
) -> (Vec<u8>, Result<(), Failure>) {
    let mut coding = Coding::of(headers, sink);
    let result = fill(request, body, &mut coding).await;
    (std::mem::take(&mut coding.sink().text), result)
}

async fn fill(request: &Request, mut body: Incoming, coding: &mut Coding<'_>) -> Result<(), Failure> {
    // Compressed or not, the body is at least as large as announced (except for the overhead of gzip on an empty body).
    let announced = body.size_hint().lower();
    if matches!(coding, Coding::Plain(sink) if announced > sink.limit) && coding.sink().kept == 0 {
        return Err(coding.sink().too_large());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure::in_the_body(&error, request, coding.sink().trace))?;
        if let Some(bytes) = frame.data_ref() {
            coding.take(bytes)?;
        }
    }
    coding.end()
}
