//! Count of the systems that a command works on: which are done, and with what exit status.

use std::collections::VecDeque;
use std::fmt::Write;

use crate::cli::exit::worst;
use crate::cli::json::Problem;
use crate::cli::print::count;
use crate::error::Error;
use crate::wal::SystemIdentifier;

/// The systems that are done, the one at work, and those that are left.
#[derive(Debug, Default)]
pub(super) struct Tally {
    well: usize,
    failed: Vec<SystemIdentifier>,
    at_work: Option<SystemIdentifier>,
    left: VecDeque<SystemIdentifier>,
    status: u8,
    first_problem: Option<Problem>,
}

impl Tally {
    /// Counts systems of which none is done.
    pub(super) fn of(systems: Vec<SystemIdentifier>) -> Self {
        Self { left: systems.into(), ..Self::default() }
    }

    /// Takes the next system to work on.
    pub(super) fn begin_next(&mut self) -> Option<SystemIdentifier> {
        self.at_work = self.left.pop_front();
        self.at_work
    }

    /// Notes that the work on the system is done, with that exit status, and the error if it failed.
    pub(super) fn done(&mut self, status: u8, error: Option<&Error>) {
        let Some(system) = self.at_work.take() else { return };
        self.status = worst([self.status, status]);
        if status == 0 {
            self.well += 1;
        } else {
            self.failed.push(system);
        }
        if self.first_problem.is_none() {
            self.first_problem = error.map(Problem::from);
        }
    }

    /// Returns the system at work.
    pub(super) fn at_work(&self) -> Option<SystemIdentifier> {
        self.at_work
    }

    /// Returns the systems that nobody has looked at.
    pub(super) fn left(&self) -> impl ExactSizeIterator<Item = SystemIdentifier> {
        self.left.iter().copied()
    }

    /// Returns the systems that failed.
    pub(super) fn failed(&self) -> &[SystemIdentifier] {
        &self.failed
    }

    /// Returns the number of systems where all is well.
    pub(super) fn well(&self) -> usize {
        self.well
    }

    /// Returns the number of all systems.
    pub(super) fn all(&self) -> usize {
        self.well + self.failed.len() + usize::from(self.at_work.is_some()) + self.left.len()
    }

    /// Returns the worst exit status of those that are done.
    pub(super) fn status(&self) -> u8 {
        self.status
    }

    /// Returns the first error of a system.
    pub(super) fn first_problem(&self) -> Option<&Problem> {
        self.first_problem.as_ref()
    }

    /// Says how many systems are well, and which failed. `shown` returns a system's name.
    pub(super) fn in_words(&self, shown: impl Fn(SystemIdentifier) -> String) -> String {
        // Writing to a string cannot fail.
        let mut text = format!("{}: {} well", count(self.all(), "system"), self.well);
        if !self.failed.is_empty() {
            let failed: Vec<String> = self.failed.iter().map(|system| shown(*system)).collect();
            let _ = write!(text, ", {} failed: {}", failed.len(), failed.join(", "));
        }
        if let Some(first) = self.left.front() {
            let then = if self.failed.is_empty() { "," } else { ";" };
            let _ = write!(text, "{then} {} not looked at, from {} on", self.left.len(), shown(*first));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn tally(systems: u64) -> Tally {
        Tally::of((1..=systems).filter_map(SystemIdentifier::new).collect())
    }

    fn words(tally: &Tally) -> String {
        tally.in_words(|system| system.to_string())
    }

    #[test]
    fn the_worst_status_counts_whatever_comes_after_it() {
        let cases = [([0, 0, 0], 0, 3), ([0, 1, 0], 1, 2), ([2, 1, 0], 2, 1), ([1, 2, 1], 2, 0)];
        for (statuses, expected, well) in cases {
            let mut tally = tally(3);
            for status in statuses {
                assert!(tally.begin_next().is_some());
                tally.done(status, None);
            }
            assert_eq!((tally.status(), tally.begin_next()), (expected, None), "{statuses:?}");
            assert_eq!(tally.well(), well);
        }
    }

    #[test]
    fn every_system_is_counted_once_and_the_failed_ones_are_named() {
        let mut tally = tally(5);
        assert_eq!(words(&tally), "5 systems: 0 well, 5 not looked at, from 1 on");
        tally.begin_next();
        tally.done(0, None);
        tally.begin_next();
        let errors = ["first", "second"].map(|what| Error::new(ErrorKind::Refused, what));
        tally.done(2, Some(&errors[0]));
        tally.begin_next();
        tally.done(1, Some(&errors[1]));
        assert_eq!(words(&tally), "5 systems: 1 well, 2 failed: 2, 3; 2 not looked at, from 4 on");
        assert_eq!(tally.first_problem(), Some(&Problem::from(&errors[0])));
        tally.begin_next();
        assert_eq!(
            (tally.all(), tally.at_work().map(|system| system.to_string())),
            (5, Some("4".to_owned()))
        );
        tally.done(0, None);
        tally.begin_next();
        tally.done(0, None);
        assert_eq!(words(&tally), "5 systems: 3 well, 2 failed: 2, 3");
        assert_eq!((tally.left().len(), tally.failed().len()), (0, 2));
    }

    #[test]
    fn one_system_that_is_well_is_said_in_the_singular() {
        let mut tally = tally(1);
        tally.begin_next();
        tally.done(0, None);
        assert_eq!(words(&tally), "1 system: 1 well");
    }
}
