//! `gs://`, against the stand-in for Google's server: signed tokens, preconditions, listings by pages, permissions,
//! and faults.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use support::{
    data_directory::{SEGMENT, segment},
    push::{fails, succeeds},
    restore::SYSTEM,
    running::outcome_of,
    store::{
        fault::{
            Fault,
            Matching::{Any, Gets, Listings, Method, Puts},
        },
        google::{
            Permission::{Create, Delete, Get, List},
            ServiceAccount,
        },
    },
    store_cluster::{Answering, CallOutput},
    store_rounds::{
        fill, is_found_whole, is_used, knows_what_is_absent, listed, one_of_many_wins, prunes,
        refuses_other_content, restore_fails, restores, says, walkeep,
    },
    store_scene::{StoreScene, at_once, key},
    verified::content,
};

/// Creates a scene with [`SEGMENT`] in `pg_wal`, and returns its content.
fn with_segment() -> (StoreScene, Vec<u8>) {
    let scene = StoreScene::in_google();
    let content = scene.primary.segment(SEGMENT, 0);
    (scene, content)
}

#[test]
fn an_archive_in_googles_store_is_filled_read_verified_and_pruned() {
    let scene = StoreScene::in_google();
    is_used(&scene);
    assert!(says(&scene, &["check"]).contains("gs://wal/main"));
}

#[test]
fn a_push_is_one_request_with_the_condition_that_there_is_no_such_object() {
    let (scene, content) = with_segment();
    succeeds(scene.push(SEGMENT));
    assert_eq!(scene.asked(SEGMENT), ["PUT if new"]);
    assert_eq!(scene.store.connections(), 1);
    scene.store.forget_requests();
    restores(&scene, SEGMENT, &content);
    assert_eq!(scene.asked(SEGMENT), ["GET", "GET"]);
}

#[test]
fn of_ten_servers_that_archive_one_name_at_once_in_googles_store_one_wins() {
    one_of_many_wins(&StoreScene::in_google(), 10);
}

#[test]
fn a_listing_is_followed_to_its_last_page() {
    let scene = StoreScene::in_google();
    fill(&scene);
    scene.store.google().set_page(2);
    assert_eq!(listed(&scene), 6);
    knows_what_is_absent(&scene);
    is_found_whole(&scene);
    prunes(&scene);
}

#[test]
fn a_file_too_large_for_memory_is_one_request_with_its_length() {
    let scene = StoreScene::in_google();
    let large = segment(SEGMENT, SYSTEM, 128 << 20, 3);
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), &large);
    let mut push = scene.push(SEGMENT);
    push.args(["--compression", "none"]);
    succeeds(push);
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new"]);
    assert!(scene.original(SEGMENT) == large);
}

// Credentials.

#[test]
fn a_key_that_is_not_the_accounts_is_refused_and_says_so() {
    let (scene, _) = with_segment();
    // The file is at the same place.
    ServiceAccount::forged().file(&scene.sandbox);
    fails(
        2,
        scene.push(SEGMENT),
        &["cannot archive gs://wal/main/", "401 Unauthorized (AuthenticationRequired"],
    );
    restore_fails(&scene, 255, &["401 Unauthorized"]);
    assert_eq!(scene.store.keys(), [""; 0]);
}

#[test]
fn the_key_may_be_named_as_for_googles_own_tools() {
    let (mut scene, content) = with_segment();
    scene.unset("GOOGLE_SERVICE_ACCOUNT");
    let key = ServiceAccount::known().file(&scene.sandbox);
    scene.set("GOOGLE_APPLICATION_CREDENTIALS", key.to_str().unwrap());
    succeeds(scene.push(SEGMENT));
    restores(&scene, SEGMENT, &content);
}

#[test]
fn a_machine_of_googles_gets_its_token_from_the_metadata_service() {
    let (mut scene, content) = with_segment();
    scene.store.google().issue("ya29.of-the-machine");
    let metadata = Answering::start(|head| {
        let head = head.to_ascii_lowercase();
        let asked = head.starts_with("get /computemetadata/v1/instance/service-accounts/default/token");
        if asked && head.contains("metadata-flavor: google") {
            let token = r#"{"access_token":"ya29.of-the-machine","expires_in":3599,"token_type":"Bearer"}"#;
            (200, token.to_owned())
        } else {
            (403, String::new())
        }
    });
    scene.unset("GOOGLE_SERVICE_ACCOUNT");
    scene.set("GCE_METADATA_HOST", metadata.endpoint().trim_start_matches("http://"));
    succeeds(scene.push(SEGMENT));
    restores(&scene, SEGMENT, &content);
    assert_eq!(metadata.heads().len(), 3, "one for each call");
}

#[test]
fn a_bucket_that_does_not_exist_is_no_end_of_the_log() {
    let (mut scene, _) = with_segment();
    scene.archive_into("gs://other/main");
    fails(2, scene.push(SEGMENT), &["404 Not Found (NoSuchBucket", "the bucket does not exist there"]);
    restore_fails(&scene, 255, &["the bucket does not exist there"]);
}

// Permissions.

#[test]
fn each_missing_permission_is_named() {
    let scene = StoreScene::in_google();
    fill(&scene);
    let google = scene.store.google();
    let fails_with = |status, arguments: &[&str], permission| {
        let output = CallOutput::of(walkeep(&scene, arguments));
        assert_eq!(output.status, status, "{}", output.text());
        assert!(output.text().contains(permission), "{permission} is not in {}", output.text());
    };

    google.allow_only(&[Get, List, Delete]);
    let another = scene.primary.segment("000000010000000000000009", 9);
    fails(
        2,
        scene.push("000000010000000000000009"),
        &["403 Forbidden (AccessDenied", "storage.objects.create"],
    );
    google.allow_only(&[Create, Get, List]);
    succeeds(scene.push("000000010000000000000009"));
    restores(&scene, "000000010000000000000009", &another);
    fails_with(2, &["prune", "--keep-backups", "1", "--backup-may-take", "0s"], "storage.objects.delete");
    google.allow_only(&[Create, List, Delete]);
    restore_fails(&scene, 255, &["storage.objects.get"]);
    google.allow_only(&[Create, Get, Delete]);
    fails_with(2, &["list"], "storage.objects.list");
    google.allow_all();
    refuses_other_content(&scene);
}

#[test]
fn an_account_that_may_delete_nothing_sends_a_file_again_and_finds_conflicts() {
    let scene = StoreScene::in_google();
    scene.store.google().allow_only(&[Create, Get, List]);
    fill(&scene);
    refuses_other_content(&scene);
    restores(&scene, SEGMENT, &content(SEGMENT));
}

#[test]
fn of_servers_that_may_delete_nothing_one_wins() {
    let scene = StoreScene::in_google();
    scene.store.google().allow_only(&[Create, Get, List]);
    one_of_many_wins(&scene, 4);
}

#[test]
fn an_account_that_may_not_list_cannot_tell_that_a_file_is_absent() {
    let scene = StoreScene::in_google();
    fill(&scene);
    scene.store.google().allow_only(&[Create, Get]);
    let outcome = outcome_of(scene.restore(&scene.recovery, "000000010000000000000009"));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("403 Forbidden (AccessDenied"), "{}", outcome.stderr);
}

// Faults.

fn answer(status: u16, code: &'static str) -> Fault {
    Fault::Answer { status, code, message: "The store's own words." }
}

#[test]
fn a_push_survives_passing_faults_of_googles_store() {
    let cases = [
        answer(503, "ServiceUnavailable"),
        answer(429, "SlowDown"),
        answer(500, "InternalError"),
        answer(408, "UploadBrokenConnection"),
        Fault::ResetBeforeReading,
        Fault::ResetUpload(1000),
        // The next attempt finds that the name is taken, by the same content.
        Fault::AnswerLost,
    ];
    at_once(&cases, |fault| {
        let (scene, content) = with_segment();
        scene.store.break_times(2, Puts, fault.clone());
        let outcome = outcome_of(scene.push(SEGMENT));
        assert_eq!(outcome.status, 0, "{fault:?}: {}", outcome.stderr);
        assert!(scene.original(SEGMENT) == content, "{fault:?}");
        assert_eq!(scene.store.keys(), [key(SEGMENT)], "{fault:?}");
    });
}

#[test]
fn a_restore_survives_passing_faults_and_never_takes_a_lasting_one_for_the_end() {
    let cases = [
        answer(503, "ServiceUnavailable"),
        answer(429, "SlowDown"),
        Fault::ResetBeforeReading,
        Fault::ResetAfter(1000),
        Fault::CutBody(1000),
    ];
    at_once(&cases, |fault| {
        let (mut scene, content) = with_segment();
        succeeds(scene.push(SEGMENT));
        scene.store.break_times(2, Gets, fault.clone());
        let outcome = outcome_of(scene.restore(&scene.recovery, SEGMENT));
        assert_eq!(outcome.status, 0, "{fault:?}: {}", outcome.stderr);
        assert!(scene.original(SEGMENT) == content, "{fault:?}");
        std::fs::remove_file(scene.recovery.join(support::restore::TARGET)).unwrap();
        scene.set("WALKEEP_TIMEOUT", "2s");
        scene.store.break_with(Any, fault.clone());
        restore_fails(&scene, 255, &["cannot"]);
    });
}

#[test]
fn a_listing_that_fails_or_is_something_else_proves_nothing() {
    let page = Fault::Raw { status: 200, headers: vec![], body: "<html><body>Please log in</body></html>" };
    at_once(&[answer(503, "ServiceUnavailable"), page, Fault::CutBody(100)], |fault| {
        let mut scene = StoreScene::in_google();
        fill(&scene);
        scene.set("WALKEEP_TIMEOUT", "2s");
        scene.store.break_with(Listings, fault.clone());
        let outcome = outcome_of(scene.restore(&scene.recovery, "000000010000000000000009"));
        assert_eq!(outcome.status, 255, "{fault:?}: {}", outcome.stderr);
        assert_ne!(CallOutput::of(walkeep(&scene, &["list"])).status, 0, "{fault:?}");
    });
}

#[test]
fn a_deletion_whose_answer_is_lost_is_found_done_by_the_next_attempt() {
    let scene = StoreScene::in_google();
    fill(&scene);
    scene.store.break_times(1, Method("DELETE"), Fault::AnswerLost);
    prunes(&scene);
}

#[test]
fn a_check_by_whoever_may_not_replace_files_is_no_failure_however_often_it_runs() {
    let scene = StoreScene::in_google();
    fill(&scene);
    scene.store.google().allow_only(&[Create, Get, List]);
    for (mark, text) in [("✓ create", "a file can be created"), ("! create", "nobody can tell")] {
        let found = says(&scene, &["check"]);
        assert!(found.lines().any(|line| line.starts_with(mark) && line.contains(text)), "{found}");
        assert!(found.contains("✓ conditional"), "{found}");
    }
    scene.store.google().allow_all();
    let found = says(&scene, &["check"]);
    assert!(found.contains("✓ create") && found.contains("✓ delete"), "{found}");
}
