//! All systems of a store: one listing finds them, on the same connections, and no more requests than for each alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    several::{SECOND, SYSTEMS, document, in_a_store, in_store},
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
};

const COMMANDS: [&[&str]; 4] = [
    &["verify"],
    &["prune", "--keep-backups", "1", "--dry-run"],
    &["prune", "--keep-backups", "1", "--backup-may-take", "0s"],
    &["status"],
];

const DENIED: Fault = Fault::Answer { status: 403, code: "AccessDenied", message: "Access Denied" };

#[test]
fn all_systems_take_one_listing_more_than_each_alone() {
    for command in COMMANDS {
        let scene = in_a_store();
        for system in SYSTEMS {
            let mut one = in_store(&scene, command[0], &command[1..]);
            one.args(["--system-identifier", &system.to_string()]);
            let output = CallOutput::of(one);
            assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{}", output.text());
        }
        let alone = scene.store.requests().len();
        let scene = in_a_store();
        let all = in_store(&scene, command[0], &[&command[1..], &["--all-systems"]].concat());
        let output = CallOutput::of(all);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{}", output.text());
        let asked = scene.store.requests();
        assert!(asked.len() <= alone + 1, "{command:?}: {} and {alone}: {asked:?}", asked.len());
        // A listing of the archive itself, and not of a system.
        let is_of_all = |query: &&str| query.contains("delimiter=%2F") && query.ends_with("prefix=main%2F");
        let listings = asked.iter().filter_map(|request| request.query.as_deref()).filter(is_of_all);
        assert_eq!(listings.count(), 1, "{command:?}: {asked:?}");
        assert!(scene.store.connections() <= 12, "{command:?}: {}", scene.store.connections());
    }
}

#[test]
fn a_prefix_that_is_denied_fails_its_system_only_and_the_worst_status_counts() {
    for command in COMMANDS {
        let scene = in_a_store();
        scene.store.break_with(Matching::Naming(SECOND), DENIED);
        let all = in_store(&scene, command[0], &[&command[1..], &["--all-systems", "--json"]].concat());
        let output = CallOutput::of(all);
        assert_eq!(output.status, 2, "{}", output.text());
        let json = document(&output);
        assert_eq!(json["well_systems"], 2, "{json:#}");
        assert_eq!(json["failed_systems"], serde_json::json!([SECOND]), "{json:#}");
        assert_eq!(json["error_kind"], "refused", "{json:#}");
        let ok = [0, 1, 2].map(|number| json["systems"][number]["ok"] == true);
        assert_eq!(ok, [true, false, true], "{json:#}");
    }
}

#[test]
fn a_bucket_that_denies_its_listing_is_an_error_of_the_command() {
    for command in COMMANDS {
        let scene = in_a_store();
        scene.store.break_with(Matching::Listings, DENIED);
        let all = in_store(&scene, command[0], &[&command[1..], &["--all-systems", "--json"]].concat());
        let output = CallOutput::of(all);
        output.is_error(2, &["cannot list s3://wal/main"]);
        assert_eq!(document(&output)["error_kind"], "refused");
        assert_eq!(scene.store.requests().len(), 1, "{:?}", scene.store.requests());
    }
}
