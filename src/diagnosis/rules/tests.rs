//! Each cause by its yes, its near miss, and its place before its neighbours.

mod answer_tests;
mod conclude_tests;
mod endpoint_tests;
mod golden_tests;
mod list_tests;
mod pod_tests;
mod process_tests;
mod prometheus_tests;
mod property_tests;
mod real_tests;
mod rollout_tests;
mod scene;
