//! Arithmetic of gaps.

use crate::coverage::Gap;

/// Sorts gaps and merges those that touch.
pub(super) fn union(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_unstable();
    let mut union: Vec<Gap> = Vec::new();
    for gap in gaps {
        match union.last_mut() {
            Some(last) if last.timeline == gap.timeline && gap.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(gap.last);
            }
            _ => union.push(gap),
        }
    }
    union
}

/// Returns the parts of `gaps` outside of `others`; both sorted and merged by [`union`].
pub(super) fn without(gaps: &[Gap], others: &[Gap]) -> Vec<Gap> {
    let mut left = Vec::new();
    for gap in gaps {
        let mut next = gap.first;
        let begin = others.partition_point(|other| {
            other.timeline < gap.timeline || (other.timeline == gap.timeline && other.last < gap.first)
        });
        for other in others.iter().skip(begin).take_while(|other| intersects(other, gap)) {
            if next < other.first {
                left.push(Gap { timeline: gap.timeline, first: next, last: other.first - 1 });
            }
            next = next.max(other.last.saturating_add(1));
        }
        if next <= gap.last {
            left.push(Gap { timeline: gap.timeline, first: next, last: gap.last });
        }
    }
    left
}

/// Splits gaps where any of the others starts or ends.
pub(super) fn cut(gaps: &[Gap], others: &[Gap]) -> Vec<Gap> {
    let mut parts = Vec::new();
    for gap in gaps {
        let touching = others.iter().filter(|other| intersects(other, gap));
        let ends = touching.flat_map(|other| other.first.checked_sub(1).into_iter().chain([other.last]));
        let mut ends: Vec<u64> = ends.filter(|end| (gap.first..gap.last).contains(end)).collect();
        ends.push(gap.last);
        ends.sort_unstable();
        ends.dedup();
        let mut first = gap.first;
        for last in ends {
            parts.push(Gap { timeline: gap.timeline, first, last });
            first = last + 1;
        }
    }
    parts
}

/// Returns `true` if both share a segment.
pub(super) fn intersects(one: &Gap, other: &Gap) -> bool {
    one.timeline == other.timeline && one.first <= other.last && other.first <= one.last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::TimelineId;

    fn gaps(numbers: &[(u32, u64, u64)]) -> Vec<Gap> {
        let gap = |(timeline, first, last): &(u32, u64, u64)| Gap {
            timeline: TimelineId::new(*timeline).unwrap(),
            first: *first,
            last: *last,
        };
        numbers.iter().map(gap).collect()
    }

    #[test]
    fn touching_gaps_are_merged() {
        let all = gaps(&[(2, 5, 6), (1, 7, 9), (1, 3, 4), (1, 5, 5), (1, 8, 12), (2, 8, 8)]);
        assert_eq!(union(all), gaps(&[(1, 3, 5), (1, 7, 12), (2, 5, 6), (2, 8, 8)]));
    }

    #[test]
    fn common_parts_are_removed() {
        let all = gaps(&[(1, 3, 9), (1, 20, 21), (2, 3, 9)]);
        let others = gaps(&[(1, 1, 3), (1, 5, 6), (1, 9, 30), (2, 1, 99)]);
        assert_eq!(without(&all, &others), gaps(&[(1, 4, 4), (1, 7, 8)]));
        assert_eq!(without(&all, &[]), all);
        let known = gaps(&[(1, 21, 40), (1, 5, 6), (1, 7, 7), (1, 0, 3)]);
        let parts = gaps(&[
            (1, 3, 3),
            (1, 4, 4),
            (1, 5, 6),
            (1, 7, 7),
            (1, 8, 9),
            (1, 20, 20),
            (1, 21, 21),
            (2, 3, 9),
        ]);
        assert_eq!(cut(&all, &known), parts);
    }
}
