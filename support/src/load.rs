//! The load of this machine, for time limits of programs that should reach them: a limit in which a quiet machine does all that it
//! should, and a busy one too.

use std::{fs, thread, time::Duration};

/// Largest factor: with it no limit of a test exceeds [`PATIENCE`](super::PATIENCE).
const MOST: u32 = 12;

/// Returns the time in which this machine does, as busy as it is, what a quiet one does in `time`.
pub fn as_busy(time: Duration) -> Duration {
    time * slower(&fs::read_to_string("/proc/loadavg").unwrap_or_default(), cores())
}

fn cores() -> u32 {
    thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

/// Returns how many times slower than a quiet machine one with that load is, by the tasks that share a core: those of now, or of the
/// last minute if there were more.
fn slower(load: &str, cores: u32) -> u32 {
    let mut words = load.split_ascii_whitespace();
    let minute: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
    let running = words.nth(2).and_then(|word| word.split_once('/')?.0.parse().ok()).unwrap_or_default();
    let tasks: f64 = f64::max(minute, running);
    let share = tasks / f64::from(cores.max(1));
    (1..MOST).find(|times| share <= f64::from(*times)).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_tasks_for_each_core() {
        for (load, times) in [
            ("0.00 0.01 0.05 1/120 4711", 1),
            ("2.00 9.00 9.00 1/120 4711", 1),
            ("7.10 1.00 1.00 1/120 4711", 4),
            ("0.50 1.00 1.00 9/120 4711", 5),
            ("400.00 1.00 1.00 9/120 4711", MOST),
            ("", 1),
        ] {
            assert_eq!(slower(load, 2), times, "{load}");
        }
    }
}
