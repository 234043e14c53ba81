//! Difference between a store's clock and the local one, for messages.

use jiff::SignedDuration;

/// Clock skew that is worth a warning. Stores refuse requests at a skew of 15 minutes.
pub const MUCH_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Describes the local clock, to the second, relative to that of a store which is `ahead` of it by this much.
#[must_use]
pub fn clock_difference(ahead: SignedDuration) -> String {
    let direction = if ahead.is_negative() { "ahead of" } else { "behind" };
    let by = SignedDuration::from_secs(ahead.abs().as_secs());
    format!("this machine's clock is {by:#} {direction} the store's")
}
