//! Storage class and tags of archived files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    data_directory::{DataDirectory, SEGMENT},
    large::{LARGE, segment_of},
    push::{HISTORY, HISTORY_CONTENT, fails, succeeds},
    restore::SYSTEM,
    store_scene::StoreScene,
};

#[test]
fn every_archived_file_gets_them_and_a_report_does_not() {
    let mut scene = StoreScene::new();
    scene.configure("storage_class = \"REDUCED_REDUNDANCY\"\ntags = \"team=db, kind=wal\"");
    let content = scene.primary.segment(SEGMENT, 0);
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    for name in [SEGMENT, HISTORY] {
        succeeds(scene.push(name));
    }
    let mut verify = scene.command(&scene.primary, scene.sandbox.walkeep());
    verify.args(["verify"]);
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut written = scene.store.requests();
    written.retain(|request| request.method == "PUT");
    assert_eq!(written.len(), 3, "{written:?}");
    for request in written {
        let is_report = request.path.contains("/reports/");
        let expected = |value| if is_report { None } else { Some(value) };
        assert_eq!(request.header("x-amz-storage-class"), expected("REDUCED_REDUNDANCY"), "{}", request.path);
        assert_eq!(request.header("x-amz-tagging"), expected("team=db&kind=wal"), "{}", request.path);
        if !is_report {
            // The store has verified the signature.
            let signed = request.header("authorization").unwrap();
            assert!(signed.contains("x-amz-storage-class;x-amz-tagging"), "{signed}");
        }
    }
    assert!(scene.original(SEGMENT) == content);
}

#[test]
fn a_class_from_which_no_recovery_could_read_is_refused_before_anything_is_sent() {
    let mut scene = StoreScene::new();
    scene.primary.segment(SEGMENT, 0);
    scene.configure("storage_class = \"DEEP_ARCHIVE\"");
    fails(2, scene.push(SEGMENT), &["storage_class in [store]", "no recovery could use them", "GLACIER_IR"]);
    assert_eq!(scene.store.requests().len(), 0);
}

#[test]
fn a_large_file_is_sent_with_them_too() {
    let mut scene = StoreScene::new();
    scene.configure("storage_class = \"REDUCED_REDUNDANCY\"\nconditional_put = \"yes\"");
    let directory = DataDirectory::new(&scene.sandbox, "large", SYSTEM);
    segment_of(&directory, SYSTEM, SEGMENT, LARGE, 0);
    scene.wait_long();
    let mut push = scene.push_from(&directory, SEGMENT);
    push.args(["--compression", "none"]);
    succeeds(push);
    let puts: Vec<_> = scene.store.requests().into_iter().filter(|request| request.method == "PUT").collect();
    assert!(puts[0].content_length > Some(65 << 20));
    assert_eq!(puts[0].header("x-amz-storage-class"), Some("REDUCED_REDUNDANCY"));
}

#[test]
fn a_class_that_the_store_does_not_have_is_named() {
    let mut scene = StoreScene::new();
    scene.primary.segment(SEGMENT, 0);
    scene.configure("storage_class = \"ONEZONE_IA\"");
    fails(2, scene.push(SEGMENT), &["InvalidStorageClass", "storage_class in [store]"]);
    let check = scene.command(&scene.primary, scene.sandbox.walkeep()).arg("check").output().unwrap();
    let stdout = String::from_utf8_lossy(&check.stdout);
    assert!(stdout.contains("✗ create") && stdout.contains("storage_class in [store]"), "{stdout}");
}
