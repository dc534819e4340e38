//! The requests in the API server's audit log: counted by the server, not by the sender.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::{text, time};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) verb: String,
    /// The resource, followed by a slash and its subresource.
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) code: i64,
    /// The time at which the API server received it.
    pub(crate) received: Timestamp,
    pub(crate) uri: String,
    /// The pod whose token the request carried; empty without a pod's token.
    pub(crate) pod: String,
}

impl Request {
    /// Whether it reads the cluster's own addresses, which probes must not dial. That needs rights in the whole cluster.
    pub(crate) fn reads_addresses(&self) -> bool {
        let lists = ["/api/v1/pods?", "/api/v1/services?"];
        ["nodes", "servicecidrs", "endpointslices"].contains(&&*self.resource)
            || lists.iter().any(|list| self.uri.starts_with(list))
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    fn parse(line: &str, user: &str) -> Option<Self> {
        if !line.contains(user) {
            return None;
        }
        let event: Value = serde_json::from_str(line).ok()?;
        // The log has two entries for a watch; the one of the response's start is enough.
        if text(&event, "/user/username") != user {
            return None;
        }
        let mut resource = text(&event, "/objectRef/resource").to_owned();
        let sub = text(&event, "/objectRef/subresource");
        if !sub.is_empty() {
            resource = format!("{resource}/{sub}");
        }
        Some(Self {
            verb: text(&event, "/verb").to_owned(),
            resource,
            name: text(&event, "/objectRef/name").to_owned(),
            code: event.pointer("/responseStatus/code").and_then(Value::as_i64).unwrap_or(0),
            received: time(&event, "/requestReceivedTimestamp"),
            uri: text(&event, "/requestURI").to_owned(),
            pod: text(&event, "/user/extra/authentication.kubernetes.io~1pod-name/0").to_owned(),
        })
    }
}

/// The audit log from one moment on.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    file: PathBuf,
    from: u64,
}

impl Audit {
    pub(crate) fn from_now(file: PathBuf) -> Self {
        let from = std::fs::metadata(&file).map_or(0, |meta| meta.len());
        Self { file, from }
    }

    /// The requests of `user` since then.
    ///
    /// # Panics
    /// When there is no log: without a log a count of zero proves nothing.
    pub(crate) fn of(&self, user: &str) -> Vec<Request> {
        let mut file = File::open(&self.file).unwrap_or_else(|error| panic!("no audit log {:?}: {error}", self.file));
        let length = file.metadata().map_or(0, |meta| meta.len());
        // Shorter than before: the log was rotated, and all of its content is newer.
        file.seek(SeekFrom::Start(if length < self.from { 0 } else { self.from })).unwrap();
        let mut requests = Vec::new();
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            requests.extend(Request::parse(&line, user));
            line.clear();
        }
        requests
    }
}
