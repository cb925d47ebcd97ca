//! Exact answers: what a [`Script`] does with the calls it takes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

use crate::grpc;
use crate::status::{Code, Status};

/// A GOAWAY that a script sends.
#[derive(Clone, Copy, Debug)]
pub enum GoAway {
    /// As a well-behaved server: first with last stream id 2^31-1, then with the real one; calls in flight finish,
    /// then the connection closes.
    Graceful,
    /// One GOAWAY whose last stream id is just below this call's: this call and later ones count as not processed,
    /// get no answer, and may be sent again elsewhere. The value is the HTTP/2 error code.
    BeforeThis(u32),
    /// One GOAWAY whose last stream id is this call's: this call goes on, later ones are not processed.
    /// The value is the HTTP/2 error code.
    AtThis(u32),
    /// One GOAWAY with exactly this last stream id and error code.
    Exactly {
        /// Streams above this get no answer.
        last_stream: u32,
        /// HTTP/2 error code.
        code: u32,
    },
    /// GOAWAY with this error code, then the connection closes at once, calls in flight or not.
    Abrupt(u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Pause(Duration),
    Head,
    Data(Bytes, u64),
    Generated { messages: u64, size: u32 },
    Trailers(HeaderMap),
    Reset(u32),
    Hang,
    GoAway(GoAway),
    Close { reset: bool },
    BlackHole,
    Pass,
}

/// What to do with a call, step by step. Ends with a terminal step (`status`, `reset`, `hang`, `close`, `pass`, ...);
/// a script without one ends with status OK.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) headers: HeaderMap,
    pub(crate) http_status: http::StatusCode,
    pub(crate) reads_request_first: bool,
    pub(crate) times: Option<usize>,
    pub(crate) skip: usize,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            steps: Vec::new(),
            headers: HeaderMap::new(),
            http_status: http::StatusCode::OK,
            reads_request_first: true,
            times: Some(1),
            skip: 0,
        }
    }
}

impl Script {
    /// A script that answers one call with OK and no message; the request is read to its end before the first step.
    pub fn new() -> Self {
        Script::default()
    }

    /// Answers with this message and OK.
    pub fn answer(message: &impl Message) -> Self {
        Script::new().message(message)
    }

    /// Answers with this status, trailers-only.
    pub fn fail(code: Code, message: &str) -> Self {
        Script::new().status(Status::new(code, message))
    }

    /// Takes the next `n` matching calls instead of one.
    #[must_use]
    pub fn times(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// Takes every matching call.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times = None;
        self
    }

    /// Leaves the first `n` matching calls alone.
    #[must_use]
    pub fn skip(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// Starts as soon as the request's headers are there. Its body is never read: the client's flow-control window stays
    /// used, and once the answer is complete the rest of the body is refused (RST_STREAM with NO_ERROR).
    #[must_use]
    pub fn before_request(mut self) -> Self {
        self.reads_request_first = false;
        self
    }

    /// Waits.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Adds a response header (or replaces `content-type` or `server-timing`). Names and values that HTTP forbids are
    /// left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_ref())) {
            self.headers.append(name, value);
        }
        self
    }

    /// Answers with an HTTP status other than 200, as a broken load balancer does.
    #[must_use]
    pub fn http_status(mut self, status: http::StatusCode) -> Self {
        self.http_status = status;
        self
    }

    /// Sends the response headers now; without this they go out with the first message.
    #[must_use]
    pub fn send_headers(self) -> Self {
        self.step(Step::Head)
    }

    /// Sends a message.
    #[must_use]
    pub fn message(self, message: &impl Message) -> Self {
        self.step(Step::Data(grpc::frame_proto(message), 1))
    }

    /// Sends these bytes as one message.
    #[must_use]
    pub fn message_bytes(self, bytes: &[u8]) -> Self {
        self.step(Step::Data(grpc::frame(bytes), 1))
    }

    /// Sends the same message `n` times, holding it once, only as fast as the client reads.
    #[must_use]
    pub fn repeat(self, n: u64, message: &impl Message) -> Self {
        self.step(Step::Data(grpc::frame_proto(message), n))
    }

    /// Sends raw DATA bytes: half a message, a compressed one, garbage.
    #[must_use]
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Data(bytes.into(), 1))
    }

    /// Sends `messages` messages of `size` bytes, made while they are sent, only as fast as the client reads; the
    /// bytes are those of [`generated`].
    #[must_use]
    pub fn stream(self, messages: u64, size: u32) -> Self {
        self.step(Step::Generated { messages, size })
    }

    /// Ends the call with this status: as trailers after messages, else trailers-only.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        self.step(Step::Trailers(status.trailers()))
    }

    /// Ends the call with exactly these trailers.
    #[must_use]
    pub fn trailers(self, trailers: HeaderMap) -> Self {
        self.step(Step::Trailers(trailers))
    }

    /// Resets the stream with this HTTP/2 error code.
    #[must_use]
    pub fn reset(self, code: u32) -> Self {
        self.step(Step::Reset(code))
    }

    /// Refuses the stream as not processed (REFUSED_STREAM), before the request is read.
    pub fn refuse() -> Self {
        Script::new().before_request().reset(h2::Reason::REFUSED_STREAM.into())
    }

    /// Never answers; ends when the client gives up.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Sends a GOAWAY and goes on with the next step.
    #[must_use]
    pub fn goaway(self, goaway: GoAway) -> Self {
        self.step(Step::GoAway(goaway))
    }

    /// Closes the connection with FIN, after what is already queued.
    #[must_use]
    pub fn close(self) -> Self {
        self.step(Step::Close { reset: false })
    }

    /// Closes the connection with a TCP RST.
    #[must_use]
    pub fn tcp_reset(self) -> Self {
        self.step(Step::Close { reset: true })
    }

    /// Makes the connection a black hole: it stays open, nothing is read or written any more.
    #[must_use]
    pub fn black_hole(self) -> Self {
        self.step(Step::BlackHole).step(Step::Hang)
    }

    /// Goes on with the built-in behaviour. With headers set, they are added to its answer.
    #[must_use]
    pub fn pass(self) -> Self {
        self.step(Step::Pass)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// The bytes of every message of [`Script::stream`] of this size: a fixed pattern, the same on every run.
pub fn generated(size: u32) -> Vec<u8> {
    generated_block().iter().copied().cycle().take(size as usize).collect()
}

/// The repeated block of generated messages.
pub(crate) fn generated_block() -> Bytes {
    static BLOCK: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    BLOCK
        .get_or_init(|| {
            // A small linear congruential generator: the bytes do not compress and differ at every offset.
            let mut x = 1u32;
            let next = || {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                x.to_be_bytes()[0]
            };
            std::iter::repeat_with(next).take(64 << 10).collect()
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bytes_repeat_one_block() {
        let bytes = generated(70_000);
        assert_eq!(bytes[..10], bytes[65_536..65_546]);
    }
}
