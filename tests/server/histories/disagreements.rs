//! Disagreements between walkeep and the model: their kinds, their frequency, and the smallest history that shows
//! each.

use std::collections::BTreeMap;
use std::fmt;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Disagreements in one history, by kind.
#[derive(Debug, Default)]
pub(crate) struct Disagreements(Vec<(&'static str, String)>);

impl Disagreements {
    /// Records a disagreement unless `holds`.
    pub(crate) fn unless(&mut self, holds: bool, kind: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push((kind, what()));
        }
    }

    fn of_kind(&self, kind: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == kind).map(|(_, what)| what.as_str())
    }
}

/// Number of histories examined, and their disagreements.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    histories: u64,
    /// By kind: the number of histories with it, and the smallest of them, with a description.
    kinds: BTreeMap<&'static str, (u64, String)>,
}

/// Maximum number of smaller histories tried per kind.
const STEPS: usize = 3_000;

/// Purpose of an examination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A random value.
    Survey,
    /// A smaller value that may show the same disagreement.
    Simplify,
}

/// Examines random values; a seed reproduces them.
pub(crate) fn survey<S: Strategy>(
    strategy: &S,
    number: u64,
    seed: u64,
    mut look: impl FnMut(&S::Value, Purpose) -> Disagreements,
) -> Survey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut survey = Survey { histories: number, ..Survey::default() };
    for _ in 0..number {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let mut kinds: Vec<&'static str> =
            look(&tree.current(), Purpose::Survey).0.into_iter().map(|(kind, _)| kind).collect();
        kinds.dedup();
        let mut least = None;
        for kind in kinds {
            let (count, text) = survey.kinds.entry(kind).or_default();
            *count += 1;
            if text.is_empty() && least.is_none() {
                *text = simplest(&mut tree, kind, |value| look(value, Purpose::Simplify));
                // The tree now has that value.
                least = Some(kind);
            }
        }
    }
    survey
}

/// Returns the smallest value with that kind of disagreement, and its description.
fn simplest<T: ValueTree>(
    tree: &mut T,
    kind: &str,
    mut look: impl FnMut(&T::Value) -> Disagreements,
) -> String {
    let mut shows = |value: &T::Value| look(value).of_kind(kind).map(str::to_owned);
    let mut least = (tree.current(), shows(&tree.current()));
    let mut goes_on = tree.simplify();
    for _ in 0..STEPS {
        if !goes_on {
            break;
        }
        let value = tree.current();
        let found = shows(&value);
        goes_on = if found.is_some() {
            least = (value, found);
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    format!("{}\n{:?}", least.1.unwrap_or_default(), least.0)
}

impl Survey {
    /// Returns the number of kinds.
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.len()
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (count, text)) in &self.kinds {
            writeln!(f, "\n== {kind}: {count} histories; the simplest:\n{text}")?;
        }
        let disagreements: u64 = self.kinds.values().map(|(count, _)| count).sum();
        write!(f, "{} histories, {disagreements} disagreements of {} kinds", self.histories, self.kinds.len())
    }
}
