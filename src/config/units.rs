//! Units of settings: durations, sizes, timelines, and values for a store.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::wal::TimelineId;

/// Maximum length of a value in a message, in characters.
const MAX_SHOWN: usize = 60;

/// Returns the beginning of a wrong value, in quotes. Its end is of no use: a value that long is another setting's.
fn quoted(text: &str) -> String {
    let mut letters = text.chars();
    let begin: String = letters
        .by_ref()
        .take(MAX_SHOWN)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("\"{begin}{more}\"")
}

/// Returns what is wrong with a value, without the value: that of a variable may be a secret, pasted into the wrong one.
pub(crate) fn without_value(why: &str) -> String {
    let rest = why.strip_prefix('"').and_then(|quoted| quoted.rsplit_once("\" "));
    rest.map_or_else(|| why.to_owned(), |(_value, what)| format!("it {what}"))
}

/// A setting of the object store, as text, number or boolean.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a setting in [store] must be a text, a whole number, true or false")]
pub enum StoreValue {
    /// `true` or `false`.
    Truth(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

impl From<StoreValue> for String {
    fn from(value: StoreValue) -> Self {
        match value {
            StoreValue::Truth(truth) => truth.to_string(),
            StoreValue::Number(number) => number.to_string(),
            StoreValue::Text(text) => text,
        }
    }
}

/// A duration: `90s`, `5m`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Timeout(pub Duration);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = Duration::from_hours(24);
        text.parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero() && *duration <= day)
            .map(Self)
            .ok_or_else(|| {
                format!("{} is not a time limit such as 30s or 5m, of at most a day", quoted(text))
            })
    }
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A number of bytes: `256MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("kB", 10), ("MB", 20), ("GB", 30)];
        let parsed = units.iter().find_map(|(unit, shift)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(1 << shift)
        });
        parsed.map(Self).ok_or_else(|| format!("{} is not an amount such as 256MB", quoted(text)))
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A duration that may include days of 24 hours: `24h`, `2d`, `1d 12h`, `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LongTime(pub jiff::SignedDuration);

impl FromStr for LongTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = |span: jiff::Span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        let parsed = text.parse::<jiff::Span>().and_then(whole);
        let positive = parsed.ok().filter(|duration| !duration.is_negative());
        positive.map(Self).ok_or_else(|| format!("{} is not a duration such as 30m, 2h or 2d", quoted(text)))
    }
}

impl TryFrom<String> for LongTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A timeline in decimal, as in the server's messages: `3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Timeline(pub TimelineId);

impl FromStr for Timeline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{} is not the number of a timeline such as 3, in decimal", quoted(text));
        text.parse().ok().and_then(TimelineId::new).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<u32> for Timeline {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        TimelineId::new(number).map(Self).ok_or_else(|| "there is no timeline 0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_quoted_in_part_and_that_of_a_variable_not_at_all() {
        let error = "x".repeat(1_000).parse::<Timeout>().unwrap_err();
        let begin = "x".repeat(MAX_SHOWN);
        assert_eq!(error, format!("\"{begin}…\" is not a time limit such as 30s or 5m, of at most a day"));
        for error in [
            "s3c\" \nret".parse::<Timeout>().unwrap_err(),
            "s3c\" ret".parse::<Bytes>().unwrap_err(),
            "s3c\" ret".parse::<LongTime>().unwrap_err(),
            "s3c\" ret".parse::<Timeline>().unwrap_err(),
        ] {
            let without = without_value(&error);
            assert!(without.starts_with("it is not ") && !without.contains("ret"), "{without}");
        }
        assert_eq!(without_value("no such thing"), "no such thing");
    }
}
