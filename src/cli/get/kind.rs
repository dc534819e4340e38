//! The kinds that can be listed, and what a person may call them.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::values;
use crate::view::{BackendView, ConnectorView};

/// What `vigie get` needs to know of a kind: one view is one object.
pub(super) trait View: Clone + PartialEq + Serialize + DeserializeOwned {
    /// What one is called in a sentence.
    const ONE: &'static str;
    /// What several are called in a sentence.
    const MANY: &'static str;
    /// The kind in the API server.
    const KIND: &'static str;
    /// The plural in the API server.
    const PLURAL: &'static str;
    /// Where the operator lists them; none when what was last written is all that there is.
    const SERVED_AT: Option<&'static str>;
    /// The names of the columns after NAME.
    const COLUMNS: &'static [&'static str];
    /// The names of the columns that wide adds.
    const WIDE: &'static [&'static str];

    /// What the status of `object` says; what it does not say is what an object has that was never reconciled.
    fn of(object: &DynamicObject, now: Timestamp) -> Self;

    /// Namespace and name.
    fn key(&self) -> (&str, &str);

    /// Whether the API server knows this state.
    fn is_written(&self) -> bool;

    /// Without what every beat or probe changes.
    fn still(&self) -> Self;

    /// What stands in [`View::COLUMNS`].
    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>>;

    /// What stands in [`View::WIDE`].
    fn wide_cells(&self, now: Timestamp) -> Vec<Cow<'_, str>>;

    /// The resource as JSON, without its types.
    fn resource() -> ApiResource {
        let gvk = GroupVersionKind::gvk("vigie.dev", "v1alpha1", Self::KIND);
        ApiResource::from_gvk_with_plural(&gvk, Self::PLURAL)
    }
}

/// Which kind is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Asked {
    Connectors,
    Backends,
}

impl Asked {
    /// What the kind may be called, as with kubectl, and in fewer letters.
    fn of(word: &str) -> Option<Self> {
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

    /// What one is called in a sentence.
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

/// Kind and name among `[KIND] [NAME]`, also as `KIND/NAME`; no kind means connectors, no name means all.
pub(super) fn wanted(words: &[&str]) -> Result<(Asked, Option<String>), String> {
    let kind =
        |word: &str| Asked::of(word).ok_or_else(|| format!("there is no kind {word:?}: connectors and backends are"));
    let (asked, name) = match words {
        [] => (Asked::Connectors, None),
        [one] => match (one.split_once('/'), Asked::of(one)) {
            (Some((word, name)), _) => (kind(word)?, Some(name)),
            (None, Some(asked)) => (asked, None),
            (None, None) => (Asked::Connectors, Some(*one)),
        },
        [word, name, ..] => (kind(word)?, Some(*name)),
    };
    let valid = |name| values::name(name).map_err(|why| format!("{name:?} is no name of a {}: {why}", asked.one()));
    Ok((asked, name.map(valid).transpose()?))
}

/// Kind and name of one object, where neither may be left out.
pub(in crate::cli) fn named(words: &[&str]) -> Result<(Asked, String), String> {
    let is_whole = words.len() > 1 || words.iter().any(|word| word.contains('/'));
    match wanted(words)? {
        (asked, Some(name)) if is_whole => Ok((asked, name)),
        _ => Err("a kind and a name are needed, such as: backend orders".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<(Asked, Option<String>), String> {
        wanted(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn of_one_object_both_are_needed() {
        assert_eq!(named(&["mb", "shop"]), Ok((Asked::Backends, "shop".to_owned())));
        assert_eq!(named(&["connector/edge-1"]), Ok((Asked::Connectors, "edge-1".to_owned())));
        for words in [&["edge-1"][..], &["backends"]] {
            assert!(named(words).is_err_and(|why| why.contains("a kind and a name are needed")), "{words:?}");
        }
    }

    #[test]
    fn the_kind_may_be_left_out_and_a_wrong_one_is_named() {
        assert_eq!(asked(""), Ok((Asked::Connectors, None)));
        assert_eq!(asked("connectors"), Ok((Asked::Connectors, None)));
        for line in ["edge-1", "ztc edge-1", "connector/edge-1", "connectors.vigie.dev edge-1"] {
            assert_eq!(asked(line), Ok((Asked::Connectors, Some("edge-1".to_owned()))), "{line}");
        }
        assert_eq!(asked("backends"), Ok((Asked::Backends, None)));
        for line in ["mb shop", "backend/shop", "monitoredbackends shop", "monitoredbackends.vigie.dev/shop"] {
            assert_eq!(asked(line), Ok((Asked::Backends, Some("shop".to_owned()))), "{line}");
        }
        for line in ["pods edge-1", "pods/edge-1"] {
            let error = "there is no kind \"pods\": connectors and backends are".to_owned();
            assert_eq!(asked(line), Err(error));
        }
        assert!(asked("Edge_1").is_err_and(|why| why.starts_with("\"Edge_1\" is no name of a connector")));
        assert!(asked("mb Shop_1").is_err_and(|why| why.starts_with("\"Shop_1\" is no name of a backend")));
    }
}
