//! Timeline history files, `00000002.history` (`readTimeLineHistory` in `access/transam/timeline.c`).
//!
//! Each line describes one ancestor, oldest first: its timeline in decimal, the position at which its child left it,
//! and a reason in free text, separated by white space. Blank lines and lines that start with `#` are legal.

use super::{Lsn, TimelineId};

/// Contents of a timeline history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistory {
    /// Ancestors, oldest first, at positions that never decrease. The last one is the parent. Never empty.
    pub ancestors: Vec<Ancestor>,
}

/// A timeline from which a later one branched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    /// Number of the ancestor.
    pub timeline: TimelineId,
    /// Position at which its child left it.
    pub left_at: Lsn,
}

/// Error from parsing a timeline history file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// No line names an ancestor.
    #[error("it names no parent timeline")]
    Empty,
    /// A line is neither an entry nor a comment.
    #[error("line {0} is not a timeline number, a WAL position and a reason")]
    Line(usize),
    /// The ancestors are not in ascending order, or not older than the timeline itself.
    #[error("line {0} names a timeline out of order")]
    Order(usize),
}

impl TimelineHistory {
    /// Parses the history file of `timeline`. Takes bytes, because a reason may be in any encoding.
    pub fn parse(timeline: TimelineId, bytes: &[u8]) -> Result<Self, HistoryError> {
        let text = String::from_utf8_lossy(bytes);
        let mut ancestors: Vec<Ancestor> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let ancestor = parse_entry(line).ok_or(HistoryError::Line(index + 1))?;
            let after_the_last = ancestors.last().is_none_or(|last| last.timeline < ancestor.timeline);
            if !after_the_last || ancestor.timeline >= timeline {
                return Err(HistoryError::Order(index + 1));
            }
            ancestors.push(ancestor);
        }
        // A recovery that follows a timeline but ends before that timeline begins still writes it as the parent. The
        // server reads the newest entry first (`tliOfPointInHistory`), so an earlier entry never reaches beyond a
        // later one.
        let mut left_at = Lsn(u64::MAX);
        for ancestor in ancestors.iter_mut().rev() {
            left_at = left_at.min(ancestor.left_at);
            ancestor.left_at = left_at;
        }
        if ancestors.is_empty() { Err(HistoryError::Empty) } else { Ok(Self { ancestors }) }
    }

    /// Returns the position at which the timeline left its parent.
    #[must_use]
    pub fn begins_at(&self) -> Option<Lsn> {
        self.ancestors.last().map(|parent| parent.left_at)
    }

    /// Returns the position at which `ancestor` was left on the way to this timeline; `None` if it is not an
    /// ancestor.
    #[must_use]
    pub fn left(&self, ancestor: TimelineId) -> Option<Lsn> {
        self.ancestors.iter().find(|entry| entry.timeline == ancestor).map(|entry| entry.left_at)
    }
}

impl TimelineHistory {
    /// Returns the position at which `timeline` was left, and the timeline that left it: the next ancestor, or
    /// `child`, the timeline of this history. `None` if `timeline` is not an ancestor.
    #[must_use]
    pub fn fork_of(&self, timeline: TimelineId, child: TimelineId) -> Option<(Lsn, TimelineId)> {
        let mut ancestors = self.ancestors.iter().skip_while(|ancestor| ancestor.timeline != timeline);
        let left_at = ancestors.next()?.left_at;
        // An ancestor left at the same position contributed no WAL.
        let next = ancestors.find(|next| next.left_at > left_at);
        Some((left_at, next.map_or(child, |next| next.timeline)))
    }
}

fn parse_entry(line: &str) -> Option<Ancestor> {
    let mut fields = line.split_ascii_whitespace();
    let timeline = fields.next().filter(|field| field.bytes().all(|b| b.is_ascii_digit()))?;
    Some(Ancestor {
        timeline: TimelineId::new(timeline.parse().ok()?)?,
        left_at: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(timeline: u32, text: &[u8]) -> Result<Vec<(u32, u64)>, HistoryError> {
        let history = TimelineHistory::parse(TimelineId::new(timeline).unwrap(), text)?;
        Ok(history.ancestors.iter().map(|a| (a.timeline.get(), a.left_at.0)).collect())
    }

    #[test]
    fn the_servers_own_file_is_read() {
        let text =
            b"1\t0/4210000\tno recovery target specified\n\n2\t0/5000148\tbefore 2026-01-02 03:04:05+00\n";
        assert_eq!(parse(3, text), Ok(vec![(1, 0x0421_0000), (2, 0x0500_0148)]));
    }

    #[test]
    fn a_fork_comes_with_the_timeline_that_left() {
        let text = b"1\t0/4210000\tx\n2\t0/5000148\ty\n";
        let [one, two, five] = [1, 2, 5].map(|number| TimelineId::new(number).unwrap());
        let history = TimelineHistory::parse(five, text).unwrap();
        assert_eq!(history.fork_of(one, five), Some((Lsn(0x0421_0000), two)));
        assert_eq!(history.fork_of(two, five), Some((Lsn(0x0500_0148), five)));
        assert_eq!(history.fork_of(five, five), None);
        let passed_by = TimelineHistory::parse(five, b"1\t0/C00000\tx\n2\t0/80FB60\ty\n").unwrap();
        assert_eq!(passed_by.fork_of(one, five), Some((Lsn(0x0080_FB60), five)));
    }

    #[test]
    fn a_timeline_begins_where_it_left_its_parent() {
        let [one, two, three] = [1, 2, 3].map(|number| TimelineId::new(number).unwrap());
        let history = TimelineHistory::parse(three, b"1\t0/4210000\tx\n2\t0/5000148\ty\n").unwrap();
        assert_eq!(history.begins_at(), Some(Lsn(0x0500_0148)));
        assert_eq!(
            [one, two, three].map(|of| history.left(of)),
            [Some(Lsn(0x0421_0000)), Some(Lsn(0x0500_0148)), None]
        );
    }

    #[test]
    fn an_entry_beyond_a_later_one_is_cut_back() {
        // Written by a real server that follows the latest timeline and stops before the fork.
        let text = b"1\t0/C00000\tno recovery target specified\n\n2\t0/80FB60\tat restore point \"early\"\n";
        assert_eq!(parse(3, text), Ok(vec![(1, 0x0080_FB60), (2, 0x0080_FB60)]));
        assert_eq!(parse(9, b"1\t0/1\n2\t0/5\n4\t0/3\n5\t0/4"), Ok(vec![(1, 1), (2, 3), (4, 3), (5, 4)]));
    }

    #[test]
    fn timelines_are_decimal_inside_and_hexadecimal_in_the_name() {
        assert_eq!(parse(11, b"10\t1/0\tx\n"), Ok(vec![(10, 1 << 32)]));
        assert_eq!(parse(11, b"A\t1/0\tx\n"), Err(HistoryError::Line(1)));
    }

    #[test]
    fn comments_blank_lines_and_odd_reasons_are_legal() {
        assert_eq!(parse(2, b"# by hand\n  \n 1 0/1 caf\xe9\r\n"), Ok(vec![(1, 1)]));
        assert_eq!(parse(2, b"1\t0/1"), Ok(vec![(1, 1)]), "no reason, no line end");
    }

    #[test]
    fn malformed_history_is_refused() {
        assert_eq!(parse(2, b""), Err(HistoryError::Empty));
        assert_eq!(parse(2, b"# nothing\n\n"), Err(HistoryError::Empty));
        assert_eq!(parse(2, b"<html>not found</html>"), Err(HistoryError::Line(1)));
        assert_eq!(parse(2, b"1\n"), Err(HistoryError::Line(1)));
        assert_eq!(parse(2, b"+1\t0/1\tx\n"), Err(HistoryError::Line(1)));
        assert_eq!(parse(2, b"0\t0/1\tx\n"), Err(HistoryError::Line(1)));
        assert_eq!(parse(3, b"2\t0/1\tx\n1\t0/2\tx\n"), Err(HistoryError::Order(2)));
        assert_eq!(parse(3, b"1\t0/1\tx\n1\t0/2\tx\n"), Err(HistoryError::Order(2)));
        assert_eq!(parse(2, b"2\t0/1\tx\n"), Err(HistoryError::Order(1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(7, &bytes);
        }
    }
}
