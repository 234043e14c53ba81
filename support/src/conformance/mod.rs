//! Promises of `Archive` that every backend must keep: one test suite for all of them, through the library.
//!
//! The tests are in `promises`, `listings` and `changes`. A backend implements [`Backend`]: how to create an empty archive
//! in it, and in what it differs. The tests say what follows from a difference.

pub mod azurite;
pub mod backend;
pub mod changes;
pub mod google;
pub mod listings;
pub mod promises;

pub use azurite::InAzurite;
pub use backend::{Backend, Bucket, Directory, InGarage, InMemory};
pub use google::InGoogle;

/// Passes a backend and all promises to another macro.
#[macro_export]
macro_rules! with_all_promises {
    ($callback:ident, $backend:expr) => {
        $callback! {
            $backend;
            promises::a_file_is_created_once_and_never_replaced,
            promises::of_concurrent_creates_of_one_name_one_wins_and_its_file_is_complete,
            promises::a_file_comes_back_whole_whatever_its_size,
            promises::only_a_file_that_does_not_exist_is_absent,
            promises::an_archive_without_a_file_of_the_system_proves_nothing,
            promises::all_lookups_of_a_file_agree,
            promises::systems_are_apart,
            promises::archives_in_one_place_are_apart,
            promises::an_abandoned_create_leaves_a_whole_file_or_none_and_blocks_nobody,
            promises::an_abandoned_read_ends,
            listings::a_listing_is_complete_and_in_order_beyond_a_thousand_names,
            listings::the_parts_of_an_archive_are_listed_by_themselves,
            listings::an_unknown_file_is_never_taken_for_an_archived_file,
            listings::the_surroundings_of_a_segment_are_found,
            listings::the_time_of_a_file_is_that_of_its_creation,
            changes::listings_and_lookups_show_every_change_at_once,
            changes::deleted_files_are_gone_and_all_others_stay,
            changes::more_than_a_thousand_files_are_deleted,
            changes::a_stopped_deletion_deletes_nothing_more,
            changes::leftovers_of_pushes_are_listed_and_deleted,
            changes::a_report_is_replaced_and_is_no_archived_file,
            changes::a_probe_tells_what_the_backend_can_do,
        }
    };
}

/// Creates a test for each promise.
#[macro_export]
macro_rules! one_by_one {
    ($backend:expr; $($module:ident::$name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$module::$name(&$backend);
            }
        )*
    };
}

/// Tests all promises in one test, for a backend that takes long to set up. The promise printed last is the one that
/// fails.
#[macro_export]
macro_rules! all_together {
    ($backend:expr; $($module:ident::$name:ident),* $(,)?) => {
        let backend = $backend;
        $(
            println!("{}", stringify!($name));
            $crate::conformance::$module::$name(&backend);
        )*
    };
}
