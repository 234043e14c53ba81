//! How far long work is, shown on a terminal and nowhere else.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, if that is a terminal; gone when dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// For so many pieces of work.
    pub(super) fn new(what: &'static str, pieces: usize) -> Self {
        let bar = ProgressBar::new(pieces as u64).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many more are done.
    pub(super) fn add(&self, pieces: usize) {
        self.0.inc(pieces as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
