//! The difference between a store's clock and this machine's, for messages.

use jiff::SignedDuration;

/// What is too much: stores refuse requests that are a quarter of an hour off.
pub const MUCH_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Says by how much this machine's clock differs, to the second, from a store's that is `ahead` of it by so much.
#[must_use]
pub fn clock_difference(ahead: SignedDuration) -> String {
    let direction = if ahead.is_negative() { "ahead of" } else { "behind" };
    let by = SignedDuration::from_secs(ahead.abs().as_secs());
    format!("this machine's clock is {by:#} {direction} the store's")
}
