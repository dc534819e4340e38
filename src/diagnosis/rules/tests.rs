//! Each cause: evidence that matches, evidence that just does not, and its rank.

mod agent_tests;
mod conditions_tests;
mod corpus_tests;
mod ended_pod_tests;
mod golden_tests;
mod health_tests;
mod host_tests;
mod image_pull_tests;
mod list_tests;
mod metrics_endpoint_tests;
mod pod_tests;
mod probe_kill_tests;
mod process_tests;
mod prometheus_tests;
mod property_tests;
mod recorded_tests;
mod response_tests;
mod rollout_tests;
mod scene;
mod scrape_error_tests;
mod sidecar_tests;
mod words_tests;
