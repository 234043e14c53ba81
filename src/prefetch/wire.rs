//! Protocol between a call and the prefetcher over a socket.
//!
//! The call sends one line. The prefetcher answers a request with [`COMING`] each time the file has moved, then with
//! [`HERE`], size, digest and the open file. Closing the connection without an answer means that the file is not
//! available.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::restore::Verified;
use crate::wal::{SegmentName, SegmentSize};

/// First word of every line. Other versions do not understand it and do not answer.
const GREETING: &str = "walkeep-prefetch-1";

/// Maximum length of a line in bytes.
pub(super) const LONGEST_LINE: usize = 512;

/// Byte sent for a file in progress that has moved since the last such byte.
pub(super) const COMING: u8 = b'.';

/// First byte of the answer with the file.
const HERE: u8 = b'+';

/// [`HERE`], the size in decimal, a space, the digest, a line feed.
const LONGEST_ANSWER: usize = 1 + 20 + 1 + 64 + 1;

/// Message of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Request for a segment.
    Want(SegmentName),
    /// Report that the call restored this segment from elsewhere, in a cluster with that segment size.
    Restored(SegmentName, SegmentSize),
}

impl Message {
    /// Formats the line for a call in that run of the server.
    pub(super) fn line(self, run: &str) -> String {
        match self {
            Self::Want(name) => format!("{GREETING} {run} want {name}\n"),
            Self::Restored(name, size) => format!("{GREETING} {run} restored {name} {}\n", size.bytes()),
        }
    }

    /// Parses a line into the message and the run of the server; `None` for anything else.
    pub(super) fn parse(line: &str) -> Option<(Self, &str)> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        if words.next()? != GREETING {
            return None;
        }
        let (run, verb) = (words.next()?, words.next()?);
        let name = words.next()?.parse().ok()?;
        let message = match verb {
            "want" => Self::Want(name),
            "restored" => Self::Restored(name, SegmentSize::new(words.next()?.parse().ok()?).ok()?),
            _ => return None,
        };
        words.next().is_none().then_some((message, run))
    }
}

/// Passes a file on. The socket must be non-blocking: an answer fits into its buffer, unless nobody reads it.
pub(super) fn hand_over(to: impl AsFd, verified: &Verified) -> io::Result<()> {
    let answer = format!("{}{} {}\n", char::from(HERE), verified.size, verified.blake3);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [verified.file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    let sent = sendmsg(to, &[IoSlice::new(answer.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    if sent == answer.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}

/// Waits for a file, as long as `keep_waiting` returns `true`.
///
/// Fails if the file is not available, or does not move within the read timeout of the socket. The error is
/// `WouldBlock` if nothing was received at all.
pub(super) fn receive(from: &UnixStream, keep_waiting: impl Fn() -> bool) -> io::Result<Verified> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut answer = Vec::new();
    let (mut file, mut is_heard) = (None, false);
    while keep_waiting() {
        file = match receive_some(from, &mut answer) {
            // The prefetcher answers, but its fetch does not move.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_heard => {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            received => received?.or(file),
        };
        is_heard = true;
        answer.retain(|byte| *byte != COMING);
        let Ok(text) = str::from_utf8(&answer) else { return Err(broken()) };
        match text.chars().next() {
            None => {}
            Some(first) if first == char::from(HERE) && text.len() <= LONGEST_ANSWER => {
                let Some(facts) = text.strip_suffix('\n') else { continue };
                let parsed = facts.get(1..).and_then(|facts| facts.split_once(' '));
                let (size, digest) = parsed.ok_or_else(broken)?;
                let (Ok(size), Ok(blake3), Some(file)) = (size.parse(), digest.parse(), file) else {
                    return Err(broken());
                };
                return Ok(Verified { file: File::from(file), size, blake3 });
            }
            Some(_) => return Err(broken()),
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// Appends received bytes to `answer`, and returns the file that came with them.
fn receive_some(from: &UnixStream, answer: &mut Vec<u8>) -> io::Result<Option<OwnedFd>> {
    let mut bytes = [0; LONGEST_ANSWER];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    match bytes.get(..received.bytes) {
        None | Some([]) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        Some(some) => {
            answer.extend_from_slice(some);
            Ok(file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn name() -> SegmentName {
        "0000000A0000000B000000FF".parse().unwrap()
    }

    fn verified(content: &[u8]) -> Verified {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Verified { file, size: content.len() as u64, blake3: [7; 32].into() }
    }

    #[test]
    fn a_line_survives_the_round_trip_and_others_are_refused() {
        for message in [Message::Want(name()), Message::Restored(name(), SegmentSize::MIN)] {
            let line = message.line("66.17.none");
            assert_eq!(Message::parse(&line), Some((message, "66.17.none")));
            assert!(line.len() < LONGEST_LINE);
            for end in 0..line.len() {
                assert_eq!(Message::parse(&line[..end]), None, "{end}");
            }
            assert_eq!(Message::parse(&line.replace('\n', " more\n")), None);
            assert_eq!(Message::parse(&line.replace("prefetch-1", "prefetch-2")), None);
        }
        assert_eq!(Message::parse("walkeep-prefetch-1 x restored 0000000A0000000B000000FF 17\n"), None);
    }

    #[test]
    fn a_file_is_passed_on_after_any_progress() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(&[COMING, COMING]).unwrap();
        hand_over(&one, &verified(b"content")).unwrap();
        let mut received = receive(&other, || true).unwrap();
        assert_eq!((received.size, received.blake3), (7, [7; 32].into()));
        let mut content = String::new();
        received.file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn malformed_answers_are_errors() {
        let answered = |answer: &[u8]| {
            let (mut one, other) = UnixStream::pair().unwrap();
            other.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            one.write_all(answer).unwrap();
            (receive(&other, || true), drop(one)).0
        };
        for bad in [&b""[..], b".", b"?", b"+", b"+7", b"+7 x\n", b"\xff", &[b'+'; 200]] {
            assert!(answered(bad).is_err(), "{bad:?}");
        }
        let digest = "07".repeat(32);
        assert!(answered(format!("+7 {digest}\n").as_bytes()).is_err(), "words without a file");

        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert_eq!(receive(&other, || true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (_one, other) = UnixStream::pair().unwrap();
        assert_eq!(receive(&other, || false).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
