//! `vigie crd`: prints the CustomResourceDefinitions.

use std::io::{self, Write};

use crate::api::crd;

/// Writes the definitions of every kind to `out` as YAML, ready for `kubectl apply -f -`.
///
/// # Errors
///
/// What `out` answers.
pub fn print(out: &mut impl Write) -> io::Result<()> {
    out.write_all(crd::yaml().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_applied() {
        let mut printed = Vec::new();
        print(&mut printed).unwrap();
        let text = String::from_utf8(printed).unwrap();
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert!(documents.iter().all(|document| document["kind"] == "CustomResourceDefinition"));
        let names: Vec<_> = documents.iter().map(|document| document["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["connectors.vigie.dev", "monitoredbackends.vigie.dev"]);
    }
}
