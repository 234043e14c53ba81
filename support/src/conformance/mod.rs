//! What `Archive` promises, every backend keeps: one suite for each of them, through the library.
//!
//! A backend joins by saying how an empty archive is made in it ([`Backend`]). What is promised is in `promises`, `listings` and
//! `changes`, once for all. Where a backend differs it says so, and the promise says what follows.

pub mod backend;
pub mod changes;
pub mod listings;
pub mod promises;

pub use backend::{Backend, Bucket, Directory, InGarage, InMemory};

/// Hands all promises to another macro, after a backend.
#[macro_export]
macro_rules! with_all_promises {
    ($callback:ident, $backend:expr) => {
        $callback! {
            $backend;
            promises::a_file_is_created_once_and_never_replaced,
            promises::of_many_that_create_one_name_at_once_one_wins_and_its_file_is_there,
            promises::a_file_comes_back_whole_whatever_its_size,
            promises::a_file_that_is_not_there_is_absent_and_nothing_else_is,
            promises::an_archive_without_a_file_of_the_system_proves_nothing,
            promises::whoever_asks_whether_a_file_is_there_hears_the_same,
            promises::systems_are_apart,
            promises::archives_in_one_place_are_apart,
            promises::a_create_that_is_given_up_leaves_all_of_a_file_or_none_and_is_in_nobodys_way,
            promises::reading_that_is_given_up_ends,
            listings::all_that_is_there_is_listed_in_order_beyond_a_thousand_names,
            listings::the_parts_of_an_archive_are_listed_by_themselves,
            listings::what_walkeep_does_not_know_is_never_taken_for_an_archived_file,
            listings::what_is_around_a_segment_is_seen,
            listings::the_time_of_a_file_is_that_of_its_creation,
            changes::listings_and_questions_see_every_change_at_once,
            changes::what_is_deleted_is_gone_and_all_else_stays,
            changes::more_than_a_thousand_files_are_deleted,
            changes::who_is_told_to_stop_deletes_nothing_more,
            changes::what_pushes_have_left_is_listed_and_deleted,
            changes::a_report_is_replaced_and_is_no_archived_file,
            changes::a_probe_tells_what_the_backend_can_do,
        }
    };
}

/// A test for each promise.
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

/// All promises in one test: for a backend that takes long to set up. What is tried last is what fails.
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
