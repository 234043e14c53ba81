//! Operations that may hang before a call begins its work.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Returns the result of `operation`, or the default if it takes longer than `patience`.
///
/// Runs it on a thread of its own, because a file system that hangs must not delay the call.
pub fn found_within<T: Default + Send + 'static>(
    patience: Duration,
    operation: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits for a late result.
        let _ = sender.send(operation());
    });
    receiver.recv_timeout(patience).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_operation_returns_the_default_in_time() {
        let hour = Duration::from_hours(1);
        assert_eq!(found_within(hour, || 1), 1);
        let (end, hangs) = mpsc::channel::<()>();
        let hanging = move || {
            let _ = hangs.recv();
            1
        };
        assert_eq!(found_within(Duration::from_millis(10), hanging), 0);
        drop(end);
    }
}
