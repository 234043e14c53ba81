//! The same in a store: how many requests it takes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use serde_json::Value;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    push::succeeds,
    store_cluster::CallOutput,
    store_scene::StoreScene,
};

const SYSTEMS: [u64; 3] = [7_000, 8_000, 9_000];

/// Creates a store with three clusters of one segment each. Requests are counted from here on.
fn three_clusters() -> StoreScene {
    let scene = StoreScene::new();
    for system in SYSTEMS {
        let data = DataDirectory::new(&scene.sandbox, &system.to_string(), system);
        data.segment(SEGMENT, 0);
        succeeds(scene.push_from(&data, SEGMENT));
    }
    scene.store.forget_requests();
    scene
}

fn walkeep(scene: &StoreScene, arguments: &[&str]) -> CallOutput {
    let mut walkeep = scene.command(&scene.primary, scene.sandbox.walkeep());
    walkeep.args(arguments).env("WALKEEP_SYSTEMS", "main=8000");
    CallOutput::of(walkeep)
}

fn listed(scene: &StoreScene) -> Value {
    let output = walkeep(scene, &["list", "--json"]);
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the number of listings, and of other requests.
fn requests(scene: &StoreScene) -> (usize, usize) {
    let requests = scene.store.requests();
    let listings = requests
        .iter()
        .filter(|request| request.query.as_deref().unwrap_or_default().contains("list-type"))
        .count();
    (listings, requests.len() - listings)
}

#[test]
fn a_list_takes_a_listing_of_all_one_for_each_system_and_one_header() {
    let scene = three_clusters();
    let document = listed(&scene);
    assert_eq!(document["systems"][1]["name"], "main", "{document:#}");
    assert_eq!(document["systems"][1]["newest_segment"], SEGMENT);
    // The newest segment is the oldest one, too.
    assert_eq!(requests(&scene), (1 + 3, 3), "{:#?}", scene.store.requests());
}

#[test]
fn a_listing_goes_on_page_by_page_and_reads_the_two_ends() {
    let scene = three_clusters();
    for number in 0..2_500 {
        let name = format!("00000001{:08X}{:08X}", 1 + number / 256, number % 256);
        scene.store.put(&format!("main/8000/wal/{}/{name}", &name[..16]), "x");
    }
    let document = listed(&scene);
    let of_main = &document["systems"][1];
    assert_eq!((of_main["segments"].as_u64(), of_main["files"].as_u64()), (Some(2_501), Some(2_501)));
    // What is no archived file has no size.
    assert_eq!(of_main["original_bytes"], Value::Null);
    let (listings, others) = requests(&scene);
    assert_eq!((listings, others), (1 + 2 + 3, 2 + 2), "{:#?}", scene.store.requests());
}

#[test]
fn a_refusal_asks_for_the_newest_of_each_and_no_more() {
    let scene = three_clusters();
    let output = walkeep(&scene, &["verify"]);
    output.is_error(2, &["holds several systems: 7000 (newest ", "8000 (main; newest ", "9000 (newest "]);
    assert_eq!(requests(&scene), (1 + 2 * 3, 0), "{:#?}", scene.store.requests());
}
