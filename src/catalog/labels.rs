//! Selection of the base backups in the archive that count. `pg_basebackup` also archives a backup history file when
//! it creates a replica, which only the label distinguishes from a base backup that somebody keeps.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::coverage::BaseBackup;

/// A shell pattern for labels: `*`, `?`, `[a-z]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LabelPattern(glob::Pattern);

impl FromStr for LabelPattern {
    type Err = glob::PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for LabelPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|error| format!("\"{text}\" is no pattern of labels: {error}"))
    }
}

/// Patterns of the labels that count. Without patterns, all do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<LabelPattern>);

impl From<Vec<LabelPattern>> for Labels {
    fn from(patterns: Vec<LabelPattern>) -> Self {
        Self(patterns)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<&str> = self.0.iter().map(|pattern| pattern.0.as_str()).collect();
        f.write_str(&patterns.join(", "))
    }
}

impl Labels {
    /// Returns `true` if there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `true` if a backup with that label counts.
    #[must_use]
    pub fn admit(&self, label: Option<&str>) -> bool {
        self.is_empty() || self.0.iter().any(|pattern| pattern.0.matches(label.unwrap_or_default()))
    }

    /// Returns `true` if there are backups but none counts, by its label or because it was found. The patterns are
    /// then probably wrong.
    #[must_use]
    pub fn match_nothing(&self, known: &[BaseBackup]) -> bool {
        !known.is_empty() && !known.iter().any(|backup| backup.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(patterns: &[&str]) -> Labels {
        patterns.iter().map(|pattern| pattern.parse().unwrap()).collect::<Vec<LabelPattern>>().into()
    }

    #[test]
    fn a_label_counts_if_any_pattern_matches_all_of_it() {
        let some = labels(&["nightly*", "week [0-9]?", "by hand"]);
        for counts in ["nightly", "nightly\nof /srv/db", "week 12", "by hand"] {
            assert!(some.admit(Some(counts)), "{counts:?}");
        }
        for other in ["pg_basebackup base backup", "Nightly", "a nightly", "week x1", "by hand too", ""] {
            assert!(!some.admit(Some(other)), "{other:?}");
        }
        assert!(!some.admit(None));
        assert!(labels(&["*"]).admit(None));
        assert!(labels(&[]).admit(None), "all count where nothing is said");
    }

    #[test]
    fn a_malformed_pattern_is_an_error() {
        let error = LabelPattern::try_from("nightly [".to_owned()).unwrap_err();
        assert!(error.contains("\"nightly [\""), "{error}");
    }
}
