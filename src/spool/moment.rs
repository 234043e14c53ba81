//! Points in time that another process can compare with its own, by two clocks: the wall clock, which may be set back
//! or stand still while the machine is suspended, and the time since boot, which cannot be set.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time by both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    wall: u64,
    /// Boot ID and seconds since boot; `None` if the kernel does not provide them.
    run: Option<(String, u64)>,
}

impl Moment {
    /// Returns the current time.
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

    /// Returns `true` if this was less than `age` before `now`, and not after it, by both clocks. Returns `false` if
    /// either clock is missing.
    #[must_use]
    pub fn is_within(&self, age: Duration, now: &Self) -> bool {
        let recent = |then: u64, now: u64| now.checked_sub(then).is_some_and(|past| past < age.as_secs());
        let by_run = match (&self.run, &now.run) {
            (Some((id, then)), Some((id_now, now))) => id == id_now && recent(*then, *now),
            _ => false,
        };
        by_run && recent(self.wall, now.wall)
    }

    /// Formats it as three words.
    pub(super) fn to_text(&self) -> String {
        match &self.run {
            Some((id, seconds)) => format!("{} {id} {seconds}", self.wall),
            None => format!("{} - 0", self.wall),
        }
    }

    /// Parses the output of [`Moment::to_text`].
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
    fn both_clocks_must_agree_on_the_age() {
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
    fn a_moment_survives_the_round_trip() {
        for moment in [Moment::now(), moment(1, "x-y", 2), Moment { wall: 3, run: None }] {
            assert_eq!(Moment::parse(&moment.to_text()), Some(moment));
        }
        for text in ["", "1", "1 a", "1 a 2 3", "a a 2", "1 a b", "-1 a 2"] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
        assert!(Moment::now().run.is_some());
    }
}
