//! What must hold of any bytes that walkeep reads. Each module is the body of a target of `scripts/fuzz`.
//!
//! The targets in `fuzz/targets/` only hand over bytes, so that all else compiles with the project, and the project's tests hold
//! every sample in `fuzz/seeds/` to its promises.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::format_collect,
    clippy::type_complexity,
    reason = "a broken promise is the point, and speed is not"
)]

pub mod answers;
pub mod backup;
pub mod body;
pub mod configuration;
pub mod damage;
pub mod header;
pub mod history;
pub mod listings;
pub mod manifest;
pub mod names;
pub mod packed;
pub mod pages;
mod requests;
pub mod settings;
mod stores;

/// The targets: the name of each, and the function that panics if bytes break its promise.
pub const TARGETS: [(&str, fn(&[u8])); 13] = [
    ("answers", answers::hold),
    ("backup", backup::hold),
    ("body", body::hold),
    ("configuration", configuration::hold),
    ("damage", damage::hold),
    ("header", header::hold),
    ("history", history::hold),
    ("listings", listings::hold),
    ("manifest", manifest::hold),
    ("names", names::hold),
    ("packed", packed::hold),
    ("pages", pages::hold),
    ("settings", settings::hold),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

    use std::fs;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::TARGETS;

    fn in_fuzz(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    /// Returns the names in a directory of `fuzz/`, sorted and without endings.
    fn names_in(directory: &str) -> Vec<String> {
        let entries = fs::read_dir(in_fuzz(directory)).unwrap();
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap().path())).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_sample_keeps_the_promises_of_its_target() {
        let mut broken = Vec::new();
        for (target, hold) in TARGETS {
            let paths = fs::read_dir(in_fuzz("seeds").join(target)).unwrap();
            let paths: Vec<_> = paths.map(|sample| sample.unwrap().path()).collect();
            assert!(!paths.is_empty(), "{target} has no sample to begin with");
            for path in paths {
                let bytes = fs::read(&path).unwrap();
                if std::panic::catch_unwind(|| hold(&bytes)).is_err() {
                    broken.push(path);
                }
            }
        }
        assert!(broken.is_empty(), "{broken:?}");
    }

    /// Returns the samples of a target.
    fn samples(target: &str) -> Vec<Vec<u8>> {
        let samples = fs::read_dir(in_fuzz("seeds").join(target)).unwrap();
        samples.map(|sample| fs::read(sample.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn samples_that_are_cut_anywhere_keep_the_promises() {
        for (target, hold) in TARGETS {
            for bytes in samples(target) {
                for length in 0..bytes.len().min(100) {
                    hold(&bytes[..length]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn changed_samples_keep_the_promises(
            target: prop::sample::Index,
            sample: prop::sample::Index,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, any::<u8>()), 1..8),
        ) {
            let (target, hold) = *target.get(&TARGETS);
            let samples = samples(target);
            let mut bytes = sample.get(&samples).clone();
            for (at, how, byte) in changes {
                let at = at.index(bytes.len() + 1);
                match how {
                    0 => bytes.insert(at, byte),
                    1 => bytes.truncate(at.max(bytes.len() / 2)),
                    2 if at < bytes.len() => drop(bytes.remove(at)),
                    _ if at < bytes.len() => bytes[at] = byte,
                    _ => {}
                }
            }
            hold(&bytes);
        }
    }

    #[test]
    fn every_target_has_a_program_that_hands_it_the_bytes() {
        let expected: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
        assert_eq!(names_in("targets"), expected);
        assert_eq!(names_in("seeds"), expected);
        let manifest = fs::read_to_string(in_fuzz("Cargo.toml")).unwrap();
        for target in expected {
            let program = fs::read_to_string(in_fuzz(&format!("targets/{target}.rs"))).unwrap();
            assert!(
                program.ends_with(&format!("fuzz_target!(|data: &[u8]| promises::{target}::hold(data));\n")),
                "{target}"
            );
            assert!(
                manifest.contains(&format!("name = \"{target}\"\npath = \"targets/{target}.rs\"\n")),
                "{target}"
            );
        }
    }
}
