//! Containers that exit again and again because their database cannot be reached, or answers and refuses.

use super::Finding;
use super::containers::{last_log, last_words, state, whose};
use super::crash_loop::last_message_of_kind;
use super::queries::{ends, unfinished_rollout, vantage};
use super::text::stamp;
use crate::api::Cause;
use crate::diagnosis::evidence::{Ended, Evidence, Vantage};
use crate::diagnosis::extract::{ExtractSubject, Refusal};

pub(super) fn crash_loop_database(e: &Evidence) -> Option<Finding> {
    // A refusal beats silence: a database that refuses one container was reached.
    let (pod, container, end, words) =
        last_message_of_kind(e, |kind| matches!(kind, ExtractSubject::DatabaseRefuses(_)))
            .or_else(|| last_message_of_kind(e, |kind| kind == ExtractSubject::DatabaseUnreachable))?;
    let at = words.endpoint.as_deref().map(|endpoint| format!(" {endpoint}")).unwrap_or_default();
    let logs = last_log(e, pod, container);
    let (what, advice) = match words.kind {
        ExtractSubject::DatabaseRefuses(refusal) => (
            format!("its database{at} answers and refuses it: {}", reason(refusal)),
            format!("{}. Its last words: {logs}", advice(refusal)),
        ),
        _ => (
            format!("it cannot reach its database{at}"),
            format!(
                "Bring the database{at} back, or correct its address; check that the pod may reach it (DNS, NetworkPolicy, firewall). The kubelet starts it again by itself. Its last words: {logs}"
            ),
        ),
    };
    let class = words.exception.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
    let finding = Finding::new(
        Cause::CrashLoopDatabase,
        format!("{} ends at start, {what}{class}", whose(pod, container)),
        advice,
    )
    .fact(state(pod, container, end))
    .facts(unfinished_rollout(e));
    Some(match reachable_again(e, end) {
        Some(seen) => finding.fact(format!("the database{at} answers again since {}", stamp(seen.at))).restart_once(),
        None => finding,
    })
}

/// The probe of the database that passed after the container ended: then a restart avoids the kubelet's back-off of up to
/// five minutes. Never where a database refuses: it answers all the time, and each restart is one more client of a
/// database that may have no connection left.
fn reachable_again<'a>(e: &'a Evidence, end: &Ended) -> Option<&'a Vantage> {
    let refuses = ends(e).into_iter().any(|(_, container, end)| {
        let words = last_words(container, end);
        words.is_some_and(|words| matches!(words.kind, ExtractSubject::DatabaseRefuses(_)))
    });
    let again = vantage(e, "dependency").filter(|seen| seen.ok && end.ended.is_some_and(|ended| seen.at > ended));
    again.filter(|_| !refuses)
}

/// Why the database refuses.
pub(super) fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Connections => "all its connections are in use",
        Refusal::Starting => "it is starting, stopping or recovering",
        Refusal::Host => "it does not admit this client's address",
        Refusal::Encryption => "one side wants an encrypted connection, the other does not offer it",
        Refusal::Certificate => "the certificates of the connection are not accepted",
        Refusal::PublicKey => "the driver may not request its public key",
        Refusal::Method => "the driver does not know its way of authentication",
        Refusal::Account => "the account is locked, or its password has expired",
        Refusal::Rights => "the account lacks a right",
        Refusal::Credentials => "the user or the password is not accepted",
        Refusal::Name => "it has no database or service of this name",
        Refusal::TimeZone => "the driver does not know its time zone",
        Refusal::Lock => "the lock of its migrations is held",
        Refusal::Migration => "a migration fails, or the schema is not the expected one",
        Refusal::Other => "with an error that its last words name",
    }
}

pub(super) fn advice(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Connections => {
            "Free connections of the database or raise its limit (max_connections, processes, maxclients), or make the pools smaller: replicas times pool size must stay below it. Restarts ask for still more connections; the kubelet starts it again by itself"
        }
        Refusal::Starting => {
            "Wait until the database has started, and look at its log if that takes long; the kubelet starts the container again by itself"
        }
        Refusal::Host => {
            "Admit the address of the pods in the database: pg_hba.conf, the host part of the MySQL account (FLUSH HOSTS where it is blocked), the firewall rules of the service, or bind and protected-mode of Redis"
        }
        Refusal::Encryption => {
            "Make both sides agree on TLS: sslmode, useSSL, encrypt or ssl in the connection URL, and ssl, hostssl in pg_hba.conf or require_secure_transport in the database. PostgreSQL also answers \"no encryption\" where pg_hba.conf does not admit the client's address at all"
        }
        Refusal::Certificate => {
            "Give the driver the authority of the database's certificate (trust store, sslrootcert), or the database one that the driver trusts; a database that asks for a client certificate needs it in the connection settings"
        }
        Refusal::PublicKey => {
            "Encrypt the connection (sslMode=REQUIRED), or permit the request with allowPublicKeyRetrieval=true in the JDBC URL, or give the key by serverRSAPublicKeyFile"
        }
        Refusal::Method => {
            "Use a driver that knows the authentication of the database (SCRAM-SHA-256, caching_sha2_password, Oracle's 12c verifier): newer driver, or another method for this account"
        }
        Refusal::Account => {
            "Unlock the account or set its password anew in the database, then in the Secret that the pods use"
        }
        Refusal::Rights => {
            "Grant the account the right that the last words name, on the database, schema, table, queue or topic that they name; user and password are accepted"
        }
        Refusal::Credentials => {
            "Correct user and password in the Secret that the pods use, or in the database; a Secret read through the environment takes effect with the next rollout"
        }
        Refusal::Name => {
            "Correct the name of the database, service or SID in the connection URL, or create it; a listener learns of a service when its instance has started"
        }
        Refusal::TimeZone => {
            "Name the zone in the connection: connectionTimeZone (serverTimezone) in the JDBC URL, such as UTC, or default-time-zone of the server"
        }
        Refusal::Lock => {
            "Wait for the migration of the other replica. If none runs, an earlier one was killed in the middle: release its lock (`liquibase release-locks`, DATABASECHANGELOGLOCK; for Flyway end the session that holds it)"
        }
        Refusal::Migration => {
            "Correct the migration or the schema that the last words name; a restart repeats the same migration"
        }
        Refusal::Other => {
            "Correct what the last words name (credentials, name of the database, its settings); the database is reached"
        }
    }
}
