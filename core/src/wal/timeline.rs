//! Timeline identifiers.

use std::fmt;
use std::num::NonZeroU32;

/// A timeline's number. It starts at 1; names show it in hexadecimal, timeline history files in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(NonZeroU32);

impl TimelineId {
    /// The timeline that initdb starts. It has no ancestors, and so no history file.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The timeline of that number; there is none of number 0.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// In decimal, as the server's messages, SQL functions and timeline history files have it.
impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
