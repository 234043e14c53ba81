//! Timeline identifiers.

use std::fmt;
use std::num::NonZeroU32;

/// A timeline's number, from 1 on. File names show it in hexadecimal, timeline history files in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(NonZeroU32);

impl TimelineId {
    /// The timeline of a new cluster. It has no ancestors and therefore no history file.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// Creates an ID; `None` for 0, which no timeline has.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// Formats the number in decimal, as the server's messages, SQL functions and timeline history files do.
impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
