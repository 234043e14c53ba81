//! How a body is compressed.

use std::fmt;

/// How [`encode`](super::encode) compresses a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// The original bytes, as they are.
    None,
    /// zstd.
    Zstd(Level),
}

/// A compression level of zstd, -7 to 19: higher is smaller and slower.
///
/// Levels above 19 need windows, and so memory in whoever restores, that a WAL segment does not repay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(i32);

/// The number is no level that walkeep offers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression level {0} is not between -7 and 19")]
pub struct LevelError(i64);

impl Level {
    /// The level of that number.
    pub fn new(level: i64) -> Result<Self, LevelError> {
        match i32::try_from(level) {
            Ok(number @ -7..=19) => Ok(Self(number)),
            _ => Err(LevelError(level)),
        }
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// Level 1: on WAL, the levels above cost far more time than they save space.
impl Default for Level {
    fn default() -> Self {
        Self(1)
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd(Level::default())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Zstd(level) => write!(f, "zstd level {}", level.get()),
        }
    }
}
