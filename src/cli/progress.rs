//! Progress of long work, shown only on a terminal.

use std::cell::RefCell;

use indicatif::{ProgressBar, ProgressStyle};

use crate::work::Progress;

/// A progress bar on standard error, if that is a terminal. Removed when the work ends.
pub(super) struct Bar {
    what: &'static str,
    bar: RefCell<Option<ProgressBar>>,
}

impl Bar {
    /// Creates a bar with a label.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, bar: RefCell::new(None) }
    }
}

impl Progress for Bar {
    fn begin(&self, pieces: usize) {
        let bar = ProgressBar::new(pieces as u64).with_message(self.what);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left") {
            bar.set_style(style);
        }
        self.bar.replace(Some(bar));
    }

    fn add(&self, pieces: usize) {
        if let Some(bar) = &*self.bar.borrow() {
            bar.inc(pieces as u64);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
