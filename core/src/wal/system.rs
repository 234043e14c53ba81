//! System identifiers.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The number by which initdb identifies a cluster. Its standbys and base backups have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemIdentifier(NonZeroU64);

/// Error from parsing a system identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a system identifier: a decimal number such as 7381092445103374871, as pg_controldata shows it"
)]
pub struct ParseSystemIdentifierError(String);

impl SystemIdentifier {
    /// Creates an identifier; `None` for 0, which no cluster has.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }
}

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemIdentifier {
    type Err = ParseSystemIdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Each identifier has one spelling, because directories are named after it.
        let canonical = !text.starts_with(['+', '0']);
        canonical
            .then(|| text.parse().ok().and_then(Self::new))
            .flatten()
            .ok_or_else(|| ParseSystemIdentifierError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_spelling() {
        let value: SystemIdentifier = "7381092445103374871".parse().unwrap();
        assert_eq!(value.to_string(), "7381092445103374871");
        for text in ["", "0", "-1", "+7", "007", "7 ", "18446744073709551616", "DEADBEEF"] {
            assert!(text.parse::<SystemIdentifier>().is_err(), "{text:?}");
        }
    }
}
