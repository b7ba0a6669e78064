//! Defaults, and attacks that must fail; judged by `/proc`.
//!
//! Where the attacks by images and registries are tried, by their rows in the table of attacks; each test goes red when
//! its defence is taken out:
//!
//! | row | attack | tests |
//! |---|---|---|
//! | 8 | archives that climb, links and whiteouts that lead out | `tare-store` `layers::hostile_archives_touch_nothing_outside` |
//! | 8 | sizes, PAX records and sparse maps that lie | `layers::malformed_archives_are_refused_with_their_offset`, `bombs::claims_of_sparse_files_cost_nothing`, `tar::sparse` |
//! | 8 | bombs: bytes, ratio, entries | `layers::bombs_are_stopped`, `bombs::ratios_are_bounded_for_every_compression`, `bombs::implied_directories_count` |
//! | 8 | bombs: names, targets, attributes, depth | `bombs::long_names_…`, `bombs::floods_of_attributes_…`, `bombs::trees_that_grow_deep_…`, `backends::both_forms_refuse_the_same` |
//! | 8 | whatever else | fuzz targets `layer_tar`, `layer_index`, `image_archive`; `layers::damaged_archives_never_panic` |
//! | 9 | a manifest that is an index, or of another type than told | `tare-spec` `manifest::documents_with_two_meanings_are_refused`, fuzz targets `manifest`, `index`; pulled: `images::documents_that_lie_are_not_pulled`; loaded: `tare-store` `archives::what_strangers_try_…`; pushed to us: `tare-engine` `registry` `hostile::digests_in_manifests_are_no_paths` |
//! | 10 | digests as paths | `tare-spec` `digest::paths_and_unknown_algorithms_are_no_digests`; pulled: `images::documents_that_lie_are_not_pulled`; loaded: `images::digests_that_are_paths_are_not_loaded`; addresses of our registry: `hostile::digests_in_addresses_are_no_paths`; headers: `tare-registry` `hostile::digests_of_answers_follow_the_grammar` |
//! | 10 | other bytes or sizes | `layers::what_does_not_match_is_refused`, `archives::what_strangers_try_…`, `proxy::what_does_not_match_…`, `proxy::what_has_not_the_size_…`, `push::what_does_not_match_…`, `images::documents_that_lie_are_not_pulled` |
//! | 11 | credentials for others | `tare-registry` `auth::passwords_stay_on_trusted_ways`, `pull::redirects_are_followed_without_credentials`, `push::an_upload_elsewhere_gets_no_credentials`, `mirrors::mirrors_do_not_get_…`, `hub::a_challenge_of_somebody_else_…`, `hostile::redirects_to_hosts_that_look_alike_…` |
//! | 11 | `urls` of layers | `hostile::urls_of_layers_are_not_followed`, `images::urls_of_layers_are_not_asked` |
//! | 12 | build mounts and copies that lead out | `builds::links_of_…`, `tare-engine` `build` `attacks::targets_through_links_stay_inside`, `attacks::a_target_that_is_swapped_leads_nowhere` |
//! | 13 | builds that gain privilege | `builds::steps_have_no_privilege_that_was_not_asked_for` |
//! | 14 | folders of git contexts | `builds::folders_of_repositories_stay_inside` |
//! | 15 | a poisoned cache | `builds::a_forged_configuration_does_not_poison_the_cache`, `tare-build` `keys::an_image_with_the_same_layers_does_not_poison_another` |
//! | 18 | variables without `=` | `images::variables_without_a_value_bring_nothing_of_the_host`, `attacks::the_hosts_environment_stays_outside` |
//! | 19 | metadata that selects | `images::metadata_selects_nothing`, `tare-store` `layers::later_entries_replace_…` (attributes of overlayfs) |

mod attacks;
mod builds;
mod defaults;
mod images;
