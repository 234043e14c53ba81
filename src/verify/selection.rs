//! Selection of contents to verify.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::archive::ArchivedFile;

/// A share of the files, in percent.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// Returns the number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Returns this share of `files`, at least one.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of files is between none and all of them, and need not be exact"
    )]
    fn of(self, files: usize) -> usize {
        ((files as f64 * self.0 / 100.0).ceil() as usize).clamp(1.min(files), files)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok();
        number
            .filter(|number| *number > 0.0 && *number <= 100.0)
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a part such as 10%"))
    }
}

/// A time: `2026-01-31T12:00:00Z`, `2026-01-31` in UTC, or relative: `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// That time.
    Moment(Timestamp),
    /// That many seconds ago.
    Ago(i64),
}

impl Since {
    /// Returns the time, relative to `now`.
    #[must_use]
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Moment(moment) => moment,
            Self::Ago(seconds) => {
                let ago = jiff::SignedDuration::from_secs(seconds);
                now.checked_sub(ago).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::Moment(moment));
        }
        let is_date = text.len() == 10;
        if let Some(date) = text.parse::<Date>().ok().filter(|_| is_date)
            && let Ok(midnight) = date.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::Moment(midnight.timestamp()));
        }
        let ago = text.parse::<Span>().ok();
        let ago = ago.and_then(|ago| ago.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        ago.filter(jiff::SignedDuration::is_positive).map(|ago| Self::Ago(ago.as_secs())).ok_or_else(|| {
            format!("\"{text}\" is neither a moment such as 2026-01-31 or 2026-01-31T12:00:00Z nor a time such as 7d or 36h")
        })
    }
}

/// Keeps a random sample of the files, in their order.
pub(super) fn sample(files: &mut Vec<ArchivedFile>, part: Percent) {
    let mut left = files.len();
    let mut wanted = part.of(left);
    files.retain(|_| {
        let takes = fastrand::usize(..left.max(1)) < wanted;
        left -= 1;
        wanted -= usize::from(takes);
        takes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_percents() {
        for (text, of_a_thousand) in [("10%", 100), ("10", 100), ("0.1 %", 1), ("0.01%", 1), ("100", 1000)] {
            assert_eq!(text.parse::<Percent>().unwrap().of(1000), of_a_thousand, "{text}");
        }
        assert_eq!("50".parse::<Percent>().unwrap().of(0), 0);
        for text in ["0", "101%", "-1", "ten", "", "NaN", "inf"] {
            text.parse::<Percent>().unwrap_err();
        }
    }

    #[test]
    fn times_are_absolute_or_relative() {
        let now: Timestamp = "2026-02-10T12:00:00Z".parse().unwrap();
        for (text, moment) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("7d", "2026-02-03T12:00:00Z"),
            ("36h", "2026-02-09T00:00:00Z"),
            ("1w 30m", "2026-02-03T11:30:00Z"),
        ] {
            assert_eq!(text.parse::<Since>().unwrap().before(now).to_string(), moment, "{text}");
        }
        for text in ["", "yesterday", "7", "-7d", "0s", "2026-13-01", "1 month"] {
            text.parse::<Since>().unwrap_err();
        }
    }

    #[test]
    fn a_sample_has_its_size_and_keeps_the_order() {
        let file = |number: u32| ArchivedFile {
            name: format!("0000000100000000{number:08X}").parse().unwrap(),
            since: Timestamp::UNIX_EPOCH,
            stored_size: 1,
        };
        let all: Vec<_> = (0..200).map(file).collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let mut some = all.clone();
            sample(&mut some, Percent(10.0));
            assert_eq!(some.len(), 20);
            assert!(some.is_sorted_by_key(|file| file.name));
            seen.extend(some.iter().map(|file| file.name));
        }
        // A file stays out of 60 samples with a chance of 0.9^60, which is 1 in 556.
        assert!(seen.len() > 180, "{}", seen.len());
    }
}
