//! Compression of a body.

use std::fmt;

/// Compression that [`encode`](super::encode) applies to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// No compression: the original bytes.
    None,
    /// zstd.
    Zstd(Level),
}

/// A compression level of zstd, -7 to 19. Higher levels produce smaller files and take longer.
///
/// Levels above 19 need larger windows, and so more memory to restore, without making a WAL segment much smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(i32);

/// Error for a number outside the range of levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression level {0} is not between -7 and 19")]
pub struct LevelError(i64);

impl Level {
    /// Creates a level from its number.
    pub fn new(level: i64) -> Result<Self, LevelError> {
        match i32::try_from(level) {
            Ok(number @ -7..=19) => Ok(Self(number)),
            _ => Err(LevelError(level)),
        }
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// The default is level 1: on WAL, higher levels cost far more time than they save space.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_from_minus_7_to_19() {
        for level in [-7, -1, 0, 1, 9, 19] {
            assert_eq!(i64::from(Level::new(level).unwrap().get()), level);
        }
        for other in [-8, 20, i64::MIN, i64::MAX] {
            assert_eq!(Level::new(other), Err(LevelError(other)));
        }
        assert_eq!(Codec::default(), Codec::Zstd(Level::new(1).unwrap()));
    }
}
