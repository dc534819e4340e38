//! The kinds that can be listed, and the names that the command line accepts for them.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::operator::flag_values as values;
use crate::view::{BackendView, ConnectorView};

/// A kind that `vigie get` can list; a value is the view of one object.
pub(super) trait ListedKind: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The singular noun in a sentence.
    const ONE: &'static str;
    /// The plural noun in a sentence.
    const MANY: &'static str;
    /// The kind in the API server.
    const KIND: &'static str;
    /// The plural in the API server.
    const PLURAL: &'static str;
    /// The path of the list on the operator's admin port; `None` when only the status in the API server can be read.
    const SERVED_AT: Option<&'static str>;
    /// The names of the columns after NAME.
    const COLUMNS: &'static [&'static str];
    /// The names of the columns that wide adds.
    const WIDE: &'static [&'static str];

    /// The view of the status of `object`. A missing field has the value of an object that was never reconciled.
    fn of(object: &DynamicObject, now: Timestamp) -> Self;

    /// Namespace and name.
    fn key(&self) -> (&str, &str);

    /// Whether this state is in the status in the API server.
    fn is_written(&self) -> bool;

    /// A copy without the fields that every heartbeat or probe changes.
    fn without_contact(&self) -> Self;

    /// The cells of [`ListedKind::COLUMNS`].
    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>>;

    /// The cells of [`ListedKind::WIDE`].
    fn wide_cells(&self, now: Timestamp) -> Vec<Cow<'_, str>>;

    /// The resource as JSON, without its types.
    fn resource() -> ApiResource {
        let gvk = GroupVersionKind::gvk("vigie.dev", "v1alpha1", Self::KIND);
        ApiResource::from_gvk_with_plural(&gvk, Self::PLURAL)
    }
}

/// A kind that is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum ResourceKind {
    Connectors,
    Backends,
}

impl ResourceKind {
    /// Parses the names that kubectl accepts, and shorter ones.
    fn parse(word: &str) -> Option<Self> {
        match word {
            "connectors" | "connector" | "ztc" | "connectors.vigie.dev" => Some(Self::Connectors),
            "backends"
            | "backend"
            | "mb"
            | "monitoredbackends"
            | "monitoredbackend"
            | "monitoredbackends.vigie.dev" => Some(Self::Backends),
            _ => None,
        }
    }

    /// The singular noun in a sentence.
    pub(in crate::cli) fn one(self) -> &'static str {
        match self {
            Self::Connectors => "connector",
            Self::Backends => "backend",
        }
    }

    /// The resource as JSON, without its types.
    pub(in crate::cli) fn resource(self) -> ApiResource {
        match self {
            Self::Connectors => ConnectorView::resource(),
            Self::Backends => BackendView::resource(),
        }
    }
}

/// Parses `[KIND] [NAME]` or `KIND/NAME`. Without a kind it is connectors, without a name all objects.
pub(super) fn parse_kind_and_name(words: &[&str]) -> Result<(ResourceKind, Option<String>), String> {
    let parse = |word: &str| {
        ResourceKind::parse(word).ok_or_else(|| format!("there is no kind {word:?}: connectors and backends are"))
    };
    let (kind, name) = match words {
        [] => (ResourceKind::Connectors, None),
        [one] => match (one.split_once('/'), ResourceKind::parse(one)) {
            (Some((word, name)), _) => (parse(word)?, Some(name)),
            (None, Some(kind)) => (kind, None),
            (None, None) => (ResourceKind::Connectors, Some(*one)),
        },
        [word, name, ..] => (parse(word)?, Some(*name)),
    };
    let valid = |name| values::name(name).map_err(|why| format!("{name:?} is no name of a {}: {why}", kind.one()));
    Ok((kind, name.map(valid).transpose()?))
}

/// Parses the kind and the name of one object; both are required.
pub(in crate::cli) fn parse_object(words: &[&str]) -> Result<(ResourceKind, String), String> {
    let is_whole = words.len() > 1 || words.iter().any(|word| word.contains('/'));
    match parse_kind_and_name(words)? {
        (kind, Some(name)) if is_whole => Ok((kind, name)),
        _ => Err("a kind and a name are needed, such as: backend orders".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<(ResourceKind, Option<String>), String> {
        parse_kind_and_name(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn of_one_object_both_are_needed() {
        assert_eq!(parse_object(&["mb", "shop"]), Ok((ResourceKind::Backends, "shop".to_owned())));
        assert_eq!(parse_object(&["connector/edge-1"]), Ok((ResourceKind::Connectors, "edge-1".to_owned())));
        for words in [&["edge-1"][..], &["backends"]] {
            assert!(parse_object(words).is_err_and(|why| why.contains("a kind and a name are needed")), "{words:?}");
        }
    }

    #[test]
    fn the_kind_may_be_left_out_and_a_wrong_one_is_named() {
        assert_eq!(asked(""), Ok((ResourceKind::Connectors, None)));
        assert_eq!(asked("connectors"), Ok((ResourceKind::Connectors, None)));
        for line in ["edge-1", "ztc edge-1", "connector/edge-1", "connectors.vigie.dev edge-1"] {
            assert_eq!(asked(line), Ok((ResourceKind::Connectors, Some("edge-1".to_owned()))), "{line}");
        }
        assert_eq!(asked("backends"), Ok((ResourceKind::Backends, None)));
        for line in ["mb shop", "backend/shop", "monitoredbackends shop", "monitoredbackends.vigie.dev/shop"] {
            assert_eq!(asked(line), Ok((ResourceKind::Backends, Some("shop".to_owned()))), "{line}");
        }
        for line in ["pods edge-1", "pods/edge-1"] {
            let error = "there is no kind \"pods\": connectors and backends are".to_owned();
            assert_eq!(asked(line), Err(error));
        }
        assert!(asked("Edge_1").is_err_and(|why| why.starts_with("\"Edge_1\" is no name of a connector")));
        assert!(asked("mb Shop_1").is_err_and(|why| why.starts_with("\"Shop_1\" is no name of a backend")));
    }
}
