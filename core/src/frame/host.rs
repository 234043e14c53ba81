//! The name of a host, as a header records it. Pure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Maximum length in bytes: that of a host name in Linux.
const MAX_BYTES: usize = 64;

/// Name of a host: letters, digits, `-`, `.` and `_` only, so that any message can show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostName(String);

impl HostName {
    /// Creates the name from what a system or a header says. Replaces other characters by `_`, and cuts it at 64. `None`
    /// for an empty name, and for the one that Linux has before it is given another.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let name: String =
            text.chars().take(MAX_BYTES).map(|c| if is_allowed(c) { c } else { '_' }).collect();
        (!name.is_empty() && text != "(none)").then_some(Self(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the field. What is no name is passed over: nothing depends on it.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HostName>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_str().and_then(HostName::of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_harmless_wherever_it_comes_from() {
        let of = |text: &str| HostName::of(text).map(|name| name.to_string());
        assert_eq!(of("db-1.example_a").as_deref(), Some("db-1.example_a"));
        assert_eq!(of("db\u{1b}[1m \"\u{fc}").as_deref(), Some("db__1m___"));
        assert_eq!(of(&"x".repeat(300)).map(|name| name.len()), Some(64));
        assert_eq!(of(&"\u{fc}".repeat(300)).map(|name| name.len()), Some(64));
        assert_eq!((of(""), of("(none)")), (None, None));
    }
}
