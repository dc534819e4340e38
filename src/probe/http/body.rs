//! Reads a body, compressed or not. The limit counts uncompressed bytes.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap};

use super::failure;
use crate::api::ErrorClass;
use crate::probe::trace::ProbeTrace;
use crate::probe::{BodyReader, Failure, Request};

/// After how many uncompressed bytes a body lets other tasks run. A metrics page of this size is parsed within a
/// millisecond.
const BETWEEN_PAUSES: u64 = 128 << 10;

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
        // Another compression was not requested; the bytes are taken as they are.
        if is_gzip(coding(headers), sink.trace.page.is_some()) {
            Self::Gzip(Box::new(MultiGzDecoder::new(sink)), false)
        } else {
            Self::Plain(sink)
        }
    }

    /// The most bytes that are taken at once. Compressed ones may become a thousand times as many.
    fn part_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 64 << 10,
            Self::Gzip(..) => 256,
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

fn coding(headers: &HeaderMap) -> &[u8] {
    headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |coding| coding.as_bytes()).trim_ascii()
}

/// Whether a body of this coding is decompressed. For a metrics page Prometheus decides, which compares the word as it is
/// written.
fn is_gzip(coding: &[u8], is_page: bool) -> bool {
    coding == b"gzip" || !is_page && (coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"))
}

/// The coding of a body that is taken as it came, if it is none of plain text: a known word, or that it is unknown.
pub(super) fn unread_coding(headers: &HeaderMap, is_page: bool) -> Option<&'static str> {
    const KNOWN: [&str; 7] = ["br", "zstd", "deflate", "x-gzip", "compress", "x-compress", "snappy"];
    let coding = coding(headers);
    if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") || is_gzip(coding, is_page) {
        return None;
    }
    if coding.eq_ignore_ascii_case(b"gzip") {
        return Some("gzip in capitals");
    }
    let known = KNOWN.into_iter().find(|known| coding.eq_ignore_ascii_case(known.as_bytes()));
    Some(known.unwrap_or("of an unknown name"))
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

async fn fill<B>(request: &Request, mut body: B, coding: &mut Coding<'_>) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    // Compressed or not, the body is at least as large as announced (except for the overhead of gzip on an empty body).
    let announced = body.size_hint().lower();
    if matches!(coding, Coding::Plain(sink) if announced > sink.limit) && coding.sink().kept == 0 {
        return Err(coding.sink().too_large());
    }
    let mut paused_at = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure::in_the_body(&error, request, coding.sink().trace))?;
        let bytes = frame.data_ref().map_or(&b""[..], |bytes| bytes);
        for part in bytes.chunks(coding.part_bytes()) {
            coding.take(part)?;
            let read = coding.sink().trace.seen.body_bytes;
            if read - paused_at >= BETWEEN_PAUSES {
                paused_at = read;
                // A page is parsed while it is read. Other tasks run in between, and the timeout of the probe is kept.
                tokio::task::yield_now().await;
            }
        }
    }
    coding.end()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use http_body_util::Full;

    use super::*;
    use crate::probe::fake::scrape;
    use crate::probe::{MetricsOptions, page};

    /// How often other tasks can run while a body that arrived at once is read.
    fn turns(headers: &HeaderMap, body: Vec<u8>) -> (usize, u64) {
        let options = MetricsOptions::default();
        let mut trace = ProbeTrace::begin();
        trace.page = Some(page::Reader::new(Some("text/plain"), &options).unwrap());
        let request = scrape("127.0.0.1:9".parse().unwrap());
        let mut coding = Coding::of(headers, Sink::new(options.most_bytes, 0, &mut trace));
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
        let mut turns = 1;
        {
            let mut work = pin!(fill(&request, body, &mut coding));
            while work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                turns += 1;
            }
        }
        drop(coding);
        (turns, trace.seen.body_bytes)
    }

    #[test]
    fn other_tasks_run_while_a_large_page_is_parsed() {
        let page = b"a 1\n".repeat(1 << 20);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&page).unwrap();
        let compressed = encoder.finish().unwrap();
        assert!(compressed.len() < 32 << 10, "a thousandth: {}", compressed.len());
        let gzip = [(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"))].into_iter().collect();
        for (headers, body) in [(HeaderMap::new(), page.clone()), (gzip, compressed)] {
            let (turns, read) = turns(&headers, body);
            // A limit of samples ends the page after 500,000 of four bytes.
            assert!(read >= 1 << 20 && turns as u64 >= read / (512 << 10), "{turns} turns for {read} bytes");
        }
    }
}
