//! Names that people give to clusters.
//!
//! A name never looks like a system identifier, so both can stand in the same place.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::system::{ParseSystemIdentifierError, SystemIdentifier};

/// Maximum length of a name. A row with a name fits a terminal.
const MAX_LENGTH: usize = 32;

/// Maximum number of names that a message lists.
const MOST_LISTED: usize = 10;

/// A name of a cluster: letters, digits, `-`, `_` and `.`, and more than digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemName(String);

/// Error from parsing a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SystemNameError {
    /// It is empty or too long.
    #[error("a name has 1 to {MAX_LENGTH} characters")]
    Length,
    /// It has other characters.
    #[error(
        "a name has letters without accents, digits, \"-\", \"_\" and \".\", and begins with a letter or a digit"
    )]
    Characters,
    /// It looks like a system identifier.
    #[error("a name has more than digits, which would be a system identifier")]
    Digits,
}

impl FromStr for SystemName {
    type Err = SystemNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.chars().count() > MAX_LENGTH {
            return Err(SystemNameError::Length);
        }
        if !text.bytes().all(is_allowed) || !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Err(SystemNameError::Characters);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SystemNameError::Digits);
        }
        Ok(Self(text.to_owned()))
    }
}

impl SystemName {
    /// Returns the text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SystemName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What says which cluster is meant: its identifier, or a name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemChoice {
    /// The identifier.
    Identifier(SystemIdentifier),
    /// A name.
    Name(SystemName),
}

/// Error from parsing a choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemChoiceError {
    /// It has digits only, and is no identifier.
    #[error(transparent)]
    Identifier(#[from] ParseSystemIdentifierError),
    /// It cannot be a name.
    #[error("\"{0}\" is neither a system identifier nor a name: {1}")]
    Name(String, SystemNameError),
}

impl FromStr for SystemChoice {
    type Err = SystemChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.parse(), text.parse()) {
            (Ok(system), _) => Ok(Self::Identifier(system)),
            (_, Ok(name)) => Ok(Self::Name(name)),
            // A slip in a number is no slip in a name.
            (Err(error), Err(_)) if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(error.into()),
            (Err(_), Err(error)) => Err(SystemChoiceError::Name(text.to_owned(), error)),
        }
    }
}

/// Names of clusters. Each cluster has one at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemNames(BTreeMap<SystemName, SystemIdentifier>);

impl SystemNames {
    /// Returns the cluster of that name.
    #[must_use]
    pub fn system(&self, name: &str) -> Option<SystemIdentifier> {
        self.0.get(name).copied()
    }

    /// Returns the name of a cluster, if it has one.
    #[must_use]
    pub fn name(&self, system: SystemIdentifier) -> Option<&str> {
        self.0.iter().find(|(_, named)| **named == system).map(|(name, _)| name.as_str())
    }

    /// Returns all names with their clusters, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, SystemIdentifier)> {
        self.0.iter().map(|(name, system)| (name.as_str(), *system))
    }

    /// Returns the clusters that have a name and are not among these, sorted by identifier.
    #[must_use]
    pub fn absent_from(&self, present: &[SystemIdentifier]) -> Vec<SystemIdentifier> {
        let mut absent: Vec<_> =
            self.0.values().filter(|system| !present.contains(system)).copied().collect();
        absent.sort_unstable();
        absent
    }

    /// Returns the identifier of a cluster for people, with its name: `7381092445103374871 (main)`.
    #[must_use]
    pub fn shown(&self, system: SystemIdentifier) -> String {
        match self.name(system) {
            Some(name) => format!("{system} ({name})"),
            None => system.to_string(),
        }
    }

    /// Lists the names for a message, and says how many more there are; `None` if there are none.
    #[must_use]
    pub fn listed(&self) -> Option<String> {
        let names: Vec<&str> = self.iter().map(|(name, _)| name).take(MOST_LISTED).collect();
        let more = match self.0.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
    }
}

impl FromIterator<(SystemName, SystemIdentifier)> for SystemNames {
    fn from_iter<T: IntoIterator<Item = (SystemName, SystemIdentifier)>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_plain_and_no_number() {
        for name in ["main", "a", "7a", "prod-eu_1.example", "Main", &"x".repeat(32)] {
            assert_eq!(name.parse::<SystemName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for (name, expected) in [
            ("", SystemNameError::Length),
            (&*"x".repeat(33), SystemNameError::Length),
            ("-main", SystemNameError::Characters),
            (".main", SystemNameError::Characters),
            ("my main", SystemNameError::Characters),
            ("a/b", SystemNameError::Characters),
            ("a\nb", SystemNameError::Characters),
            ("m\u{FC}ll", SystemNameError::Characters),
            ("7381092445103374871", SystemNameError::Digits),
            ("007", SystemNameError::Digits),
        ] {
            assert_eq!(name.parse::<SystemName>(), Err(expected), "{name:?}");
        }
    }

    #[test]
    fn an_identifier_and_a_name_are_told_apart() {
        let choice = |text: &str| text.parse::<SystemChoice>();
        assert_eq!(choice("7"), Ok(SystemChoice::Identifier(SystemIdentifier::new(7).unwrap())));
        assert_eq!(choice("7a"), Ok(SystemChoice::Name("7a".parse().unwrap())));
        for (text, said) in
            [("0", "is not a system identifier"), ("a b", "neither"), ("", "is not a system identifier")]
        {
            let error = choice(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn names_and_identifiers_lead_to_each_other() {
        let system = |number| SystemIdentifier::new(number).unwrap();
        let names: SystemNames = [("main", 7), ("other", 8)]
            .map(|(name, of)| (name.parse().unwrap(), system(of)))
            .into_iter()
            .collect();
        assert_eq!((names.system("main"), names.system("mian")), (Some(system(7)), None));
        assert_eq!((names.name(system(8)), names.name(system(9))), (Some("other"), None));
        assert_eq!([7, 9].map(|of| names.shown(system(of))), ["7 (main)", "9"]);
        assert_eq!(names.listed().as_deref(), Some("main, other"));
        assert_eq!(SystemNames::default().listed(), None);
        let many: SystemNames = (10..22).map(|of| (format!("s{of}").parse().unwrap(), system(of))).collect();
        assert_eq!(many.listed().unwrap(), "s10, s11, s12, s13, s14, s15, s16, s17, s18, s19 and 2 more");
    }
}
