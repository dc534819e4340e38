//! Reading a body, compressed or not, up to a limit that counts what it really is.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap};

use super::failure;
use crate::api::ErrorClass;
use crate::probe::trace::ProbeTrace;
use crate::probe::{Failure, Request};

/// Where the bytes of a body go, uncompressed.
pub(super) struct Sink<'a> {
    most: u64,
    kept: usize,
    text: Vec<u8>,
    way: &'a mut ProbeTrace,
    failed: Option<Failure>,
}

impl<'a> Sink<'a> {
    /// One that fails past `most` bytes and keeps the first `kept`; a page that is being read gets them all.
    pub(super) fn new(most: u64, kept: usize, way: &'a mut ProbeTrace) -> Self {
        Self { most, kept, text: Vec::new(), way, failed: None }
    }

    fn too_large(&self) -> Failure {
        self.way.fails(ErrorClass::BodyTooLarge, format!("the body is larger than {} bytes", self.most))
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The first failure is the news; a decoder that is asked to end may still hand on what it has.
        if self.failed.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let left = self.most.saturating_sub(self.way.seen.body_bytes);
        let taken = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        self.way.seen.body_bytes += taken.len() as u64;
        let wanted = self.kept.saturating_sub(self.text.len()).min(taken.len());
        self.text.extend_from_slice(&taken[..wanted]);
        let fed = self.way.page.as_mut().map_or(Ok(()), |page| page.feed(taken));
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
    /// With whether anything came: an empty body is no broken one.
    Gzip(Box<MultiGzDecoder<Sink<'a>>>, bool),
}

impl<'a> Coding<'a> {
    fn of(headers: &HeaderMap, sink: Sink<'a>) -> Self {
        let coding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |coding| coding.as_bytes());
        // What is compressed in another way was not asked for, and is taken as it comes.
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

    /// The failure of the sink, or else of the decoder.
    fn failure(&mut self, what: &str) -> Failure {
        let sink = self.sink();
        let message = format!("the body is said to be gzip and {what}");
        sink.failed.clone().unwrap_or_else(|| sink.way.fails(ErrorClass::NotHTTP, message))
    }
}

/// Reads `body` into `sink`; what the sink kept, and whether it was all.
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
    // Compressed or not, it is at least as large as what is announced here (but for what gzip adds to nothing).
    let announced = body.size_hint().lower();
    if matches!(coding, Coding::Plain(sink) if announced > sink.most) && coding.sink().kept == 0 {
        return Err(coding.sink().too_large());
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure::in_the_body(&error, request, coding.sink().way))?;
        if let Some(bytes) = frame.data_ref() {
            coding.take(bytes)?;
        }
    }
    coding.end()
}
