//! Requests to the kernel by netlink, and the framing of its answers.

use std::io::Read;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::api::one_line;

/// AF_NETLINK.
const FAMILY: i32 = 16;
/// Most bytes of one answer: a full table of routes is larger, and is refused.
const MAX_ANSWER: usize = 16 << 20;
/// How long one read waits. The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a dump is begun again that changed while it was read.
const TRIES: usize = 3;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// A protocol of netlink.
#[derive(Clone, Copy, Debug)]
pub(super) enum Netlink {
    /// Interfaces, addresses, routes and rules.
    Route = 0,
    /// The families that have no number of their own.
    Generic = 16,
}

/// Asks for all objects of a kind; the payloads of the answers.
pub(super) fn dump(protocol: Netlink, kind: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    for _ in 0..TRIES {
        if let Some(messages) = exchange(protocol, (kind, REQUEST | ACK | DUMP), body)? {
            return Ok(messages);
        }
    }
    Err("the kernel's tables changed while they were read".to_owned())
}

/// Asks for one object; the payloads of the answers.
pub(super) fn get(protocol: Netlink, kind: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    exchange(protocol, (kind, REQUEST | ACK), body).map(Option::unwrap_or_default)
}

/// One request and its answers; `None` when the answers contradict each other.
fn exchange(protocol: Netlink, kind: (u16, u16), body: &[u8]) -> Result<Option<Vec<Vec<u8>>>, String> {
    let said = |error: std::io::Error| format!("netlink: {error}");
    let socket = Socket::new(Domain::from(FAMILY), Type::RAW, Some(Protocol::from(protocol as i32))).map_err(said)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    socket.send(&request(kind, body)).map_err(said)?;
    let (mut buffer, mut answer, mut read) = (vec![0; 64 << 10], Answer::default(), 0);
    while !answer.is_complete {
        let length = (&socket).read(&mut buffer).map_err(said)?;
        read += length;
        if length == 0 || read > MAX_ANSWER {
            return Err(format!("netlink: an answer of more than {} MiB", MAX_ANSWER >> 20));
        }
        answer.take(&buffer[..length])?;
    }
    Ok((!answer.is_interrupted).then_some(answer.messages))
}

fn request((kind, flags): (u16, u16), body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port. The socket serves one request, so neither tells anything apart.
    message.extend([1_u32.to_ne_bytes(), [0; 4]].concat());
    message.extend(body);
    message
}

#[derive(Debug, Default)]
struct Answer {
    messages: Vec<Vec<u8>>,
    is_complete: bool,
    is_interrupted: bool,
}

impl Answer {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(length) = u32_at(bytes, 0).and_then(|length| usize::try_from(length).ok()) {
            let message = bytes.get(..length).filter(|message| message.len() >= HEADER);
            let message = message.ok_or("netlink: a message is cut off")?;
            self.is_interrupted |= u16_at(message, 6).is_some_and(|flags| flags & INTERRUPTED != 0);
            let payload = &message[HEADER..];
            match u16_at(message, 4) {
                Some(ERROR | DONE) => {
                    self.is_complete = true;
                    let code = u32_at(payload, 0).map_or(0, u32::cast_signed);
                    if code != 0 {
                        return Err(std::io::Error::from_raw_os_error(code.wrapping_neg()).to_string());
                    }
                }
                _ => self.messages.push(payload.to_vec()),
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The attributes in `bytes`: type and value. They end at the first one that is cut off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    // The two highest bits say that attributes are nested, and that a number is in network order.
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// One attribute of a request.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A text that ends with a zero byte.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    one_line(&String::from_utf8_lossy(&bytes[..end]), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_where_they_are_cut_off() {
        let bytes = [attribute(1, b"a"), attribute(0x8002, b"bcde")].concat();
        let read = |bytes: &[u8]| attributes(bytes).map(|(kind, value)| (kind, value.to_vec())).collect::<Vec<_>>();
        assert_eq!(read(&bytes), [(1, b"a".to_vec()), (2, b"bcde".to_vec())]);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).len() < 2, "{end}");
        }
        for bytes in [&[0; 4][..], &[3, 0, 0, 0], &[0xff; 64]] {
            assert!(read(bytes).is_empty(), "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_ends_with_done_or_with_an_error() {
        let message = |kind: u16, flags, body: &[u8]| request((kind, flags), body);
        let mut answer = Answer::default();
        answer.take(&[message(24, 0, b"abcd"), message(24, INTERRUPTED, b"efgh")].concat()).unwrap();
        assert!(!answer.is_complete && answer.is_interrupted);
        answer.take(&message(DONE, 0, &[0; 4])).unwrap();
        assert!(answer.is_complete);
        assert_eq!(answer.messages, [b"abcd".to_vec(), b"efgh".to_vec()]);
        let refused = Answer::default().take(&message(ERROR, 0, &(-1_i32).to_ne_bytes())).unwrap_err();
        assert_eq!(refused, "Operation not permitted (os error 1)");
        let whole = message(24, 0, b"abcd");
        for end in 4..whole.len() {
            assert!(Answer::default().take(&whole[..end]).is_err(), "{end}");
        }
        assert!(Answer::default().take(&[4, 0, 0, 0]).is_err(), "shorter than a header");
        let lowest = i32::MIN.to_ne_bytes();
        assert!(Answer::default().take(&message(ERROR, 0, &lowest)).is_err());
    }
}
