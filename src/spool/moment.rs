//! A moment that a later process can compare with its own, by two clocks: the one on the wall, which may be set back or stand
//! still with a machine that is suspended to an image, and the one that counts from the start of the machine, which cannot be
//! set.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When something was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    wall: u64,
    /// Which run of the machine, and seconds since its beginning; `None` where the kernel does not tell.
    run: Option<(String, u64)>,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = || {
            let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            let uptime = fs::read_to_string("/proc/uptime").ok()?;
            Some((id.trim().to_owned(), uptime.split('.').next()?.parse().ok()?))
        };
        Self { wall: since_1970.as_secs(), run: run() }
    }

    /// Whether this was less than `age` before `now`, and not after it, by both clocks. If one of them cannot tell, it was not.
    #[must_use]
    pub fn is_within(&self, age: Duration, now: &Self) -> bool {
        let recent = |then: u64, now: u64| now.checked_sub(then).is_some_and(|past| past < age.as_secs());
        let by_run = match (&self.run, &now.run) {
            (Some((id, then)), Some((id_now, now))) => id == id_now && recent(*then, *now),
            _ => false,
        };
        by_run && recent(self.wall, now.wall)
    }

    /// As three words.
    pub(super) fn to_text(&self) -> String {
        match &self.run {
            Some((id, seconds)) => format!("{} {id} {seconds}", self.wall),
            None => format!("{} - 0", self.wall),
        }
    }

    /// Reads what [`Moment::to_text`] has written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (wall, id, seconds) = (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
        let run = (id != "-").then(|| (id.to_owned(), seconds));
        words.next().is_none().then_some(Self { wall, run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, id: &str, seconds: u64) -> Moment {
        Moment { wall, run: Some((id.to_owned(), seconds)) }
    }

    #[test]
    fn both_clocks_have_to_agree_that_it_was_a_moment_ago() {
        let now = moment(1_000_000, "a", 5_000);
        let within = |then: &Moment| then.is_within(Duration::from_mins(1), &now);
        assert!(within(&now) && within(&moment(999_941, "a", 4_941)));
        for (then, why) in [
            (moment(999_940, "a", 5_000), "older by the clock on the wall"),
            (moment(1_000_001, "a", 5_000), "from the future: that clock has gone back"),
            (moment(1_000_000, "a", 4_940), "older by the other one, so that the first has gone back"),
            (moment(1_000_000, "a", 5_001), "from the future of this run"),
            (moment(1_000_000, "b", 5_000), "another run"),
            (Moment { wall: 1_000_000, run: None }, "unknown"),
        ] {
            assert!(!within(&then), "{why}");
        }
        let unknown = Moment { wall: 1_000_000, run: None };
        assert!(!unknown.is_within(Duration::from_mins(1), &unknown));
    }

    #[test]
    fn a_text_is_read_back() {
        for moment in [Moment::now(), moment(1, "x-y", 2), Moment { wall: 3, run: None }] {
            assert_eq!(Moment::parse(&moment.to_text()), Some(moment));
        }
        for text in ["", "1", "1 a", "1 a 2 3", "a a 2", "1 a b", "-1 a 2"] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
        assert!(Moment::now().run.is_some());
    }
}
