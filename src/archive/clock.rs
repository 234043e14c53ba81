//! Difference between a store's clock and the local one, for messages.

use jiff::SignedDuration;

/// Clock skew that is worth a warning. Stores refuse requests at a skew of 15 minutes.
pub const MUCH_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Describes the local clock, to the second, relative to that of a store which is `ahead` of it by this much.
#[must_use]
pub fn clock_difference(ahead: SignedDuration) -> String {
    let direction = if ahead.is_negative() { "ahead of" } else { "behind" };
    let seconds = ahead.as_secs().unsigned_abs();
    let by = match seconds / 86_400 {
        0..2 => format!("{:#}", SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))),
        days @ 2..730 => format!("{days} days"),
        days => format!("{} years", days / 365),
    };
    format!("this machine's clock is {by} {direction} the store's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_unit_that_a_person_would_use() {
        let difference = |seconds| clock_difference(SignedDuration::from_secs(seconds));
        assert_eq!(difference(3_720), "this machine's clock is 1h 2m behind the store's");
        assert_eq!(difference(-90_000), "this machine's clock is 25h ahead of the store's");
        assert_eq!(difference(3 * 86_400 + 5), "this machine's clock is 3 days behind the store's");
        assert_eq!(difference(-251_606_344_006), "this machine's clock is 7978 years ahead of the store's");
        let least = clock_difference(SignedDuration::MIN);
        assert!(least.ends_with(" years ahead of the store's"), "{least}");
    }
}
