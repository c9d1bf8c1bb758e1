//! The contract of [`EventLog`]: one list of laws that every adapter runs, so that the log in memory stays an honest
//! model of the databases.
//!
//! An adapter implements [`LogHarness`] for a throw-away store and writes one line in its test file:
//! `testkit::log_contract!(MyHarness::new().await);`. Every law becomes a test of its own, named as a sentence.
//!
//! - [`harness`]: what an adapter provides, and helpers to build items.
//! - [`outcomes`]: versions, chains, keys, claims.
//! - [`ordering`]: positions, time, many writers, pages, waiting.
//! - [`keeping`]: what is forgotten of commands, and when.
//! - [`beside`]: snapshots and the keys of persons.
//! - [`faults`]: lost answers, restored copies, tampering, limits.

pub mod beside;
pub mod faults;
pub mod harness;
pub mod keeping;
pub mod ordering;
pub mod outcomes;

pub use harness::{CutOnce, LogHarness, TamperAttempt};

/// Expands to one test per law. The expression makes a fresh harness on an empty store; it may await.
#[macro_export]
macro_rules! log_contract {
    ($harness:expr) => {
        $crate::log_contract_laws! { $harness;
            outcomes: [
                events_are_read_back_byte_for_byte,
                an_expected_version_that_is_not_the_streams_is_a_conflict,
                one_conflict_among_many_fails_no_neighbour,
                nothing_behind_a_conflicting_chain_head_is_applied_even_when_its_version_fits,
                a_duplicate_in_the_middle_of_a_chain_stops_what_is_behind_it,
                a_refusal_and_a_no_op_are_confirmed_against_a_second_writer,
                a_key_has_one_effect_and_its_stored_answer,
                a_retried_key_gets_its_answer_although_the_stream_moved_on,
                the_same_key_on_two_writers_at_once_is_applied_once,
                the_same_key_with_another_body_shows_the_stored_fingerprint,
                a_key_is_stored_only_when_its_item_is_applied,
                a_claim_is_refused_while_another_stream_holds_it,
                a_claim_is_taken_again_by_its_holder_and_by_others_once_released,
                a_claim_is_released_in_the_item_that_takes_another,
                a_claim_that_another_stream_holds_is_not_released,
                an_event_id_that_is_in_the_log_already_refuses_the_batch,
                an_empty_batch_is_answered_with_nothing,
                any_batch_has_the_outcomes_that_the_log_in_memory_gives,
            ],
            ordering: [
                positions_are_gapless_under_eight_writers_while_a_reader_follows,
                all_events_of_a_batch_have_one_time,
                recorded_time_never_runs_backwards_when_the_clock_does,
                a_page_is_bounded_by_count,
                a_page_is_bounded_by_bytes_and_holds_one_event_at_least,
                a_page_behind_the_head_is_empty_and_no_error,
                a_waiting_reader_is_woken_by_a_commit,
                a_waiting_reader_is_woken_by_a_commit_on_another_connection,
                a_stream_is_read_from_any_version,
                the_identity_is_the_same_on_every_connection,
            ],
            keeping: [
                keys_older_than_the_bound_are_forgotten_and_younger_ones_are_kept,
                a_sweep_visits_every_key_slice_by_slice,
                a_forgotten_key_can_be_used_again_and_the_events_stay,
                keys_of_the_last_day_are_not_forgotten_whoever_asks,
            ],
            beside: [
                a_snapshot_is_read_back_by_its_stream_and_version_on_every_handle,
                a_snapshot_takes_the_place_of_the_one_before_and_of_earlier_versions,
                snapshots_are_no_part_of_the_history,
                a_subject_gets_one_key_whoever_asks_first,
                keys_are_asked_for_without_being_made,
                an_erased_key_is_gone_and_is_not_made_again,
                how_far_erasures_are_done_is_remembered,
            ],
            faults: [
                an_unknown_outcome_is_settled_by_resending,
                a_writer_settles_an_unknown_outcome_by_itself,
                an_older_copy_is_told_from_the_log_even_after_more_writes,
                a_place_beyond_the_head_is_answered_as_regressed,
                history_cannot_be_changed,
                batch_hashes_verify,
                tampering_is_named,
                commits_whose_callers_go_away_are_committed_or_not_but_never_half,
                the_largest_event_and_the_longest_names_are_stored_and_served,
                what_passes_a_limit_is_refused_with_the_limit_named,
            ],
        }
    };
}

/// Part of [`log_contract!`].
#[macro_export]
macro_rules! log_contract_laws {
    ($harness:expr; $($group:ident: [$($law:ident,)+],)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let harness = $harness;
                $crate::log_contract::$group::$law(&harness).await;
            }
        )+)+
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_law_is_on_the_list() {
        let list = include_str!("log_contract.rs");
        for laws in [
            include_str!("log_contract/outcomes.rs"),
            include_str!("log_contract/ordering.rs"),
            include_str!("log_contract/faults.rs"),
            include_str!("log_contract/keeping.rs"),
            include_str!("log_contract/beside.rs"),
        ] {
            for law in laws.split("pub async fn ").skip(1) {
                let name = law.split('(').next().unwrap_or_default();
                assert!(list.contains(&format!(" {name},\n")), "{name} is not in log_contract!");
            }
        }
    }
}
