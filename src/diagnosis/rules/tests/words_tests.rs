//! What databases really answer when they refuse, and the words of other programs that end at start.

use super::scene::*;
use crate::api::Cause::{self, CrashLoopDatabase};
use crate::api::Confidence::Certain;
use crate::api::ErrorClass;
use crate::api::RestartHelps::{No, Once};
use crate::diagnosis::evidence::{Evidence, Vantage};

/// Last words, and a word of the advice.
const REFUSALS: &[(&str, &str)] = &[
    (
        "HikariPool-1 - Exception during pool initialization.\norg.postgresql.util.PSQLException: FATAL: remaining connection slots are reserved for non-replication superuser connections",
        "max_connections",
    ),
    (
        "org.postgresql.util.PSQLException: FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "max_connections",
    ),
    ("org.postgresql.util.PSQLException: FATAL: sorry, too many clients already", "max_connections"),
    (
        "psycopg2.OperationalError: connection to server at \"db\" (192.0.2.7), port 5432 failed: FATAL:  too many connections for role \"app\"",
        "max_connections",
    ),
    (
        "java.sql.SQLNonTransientConnectionException: Data source rejected establishment of connection,  message from server: \"Too many connections\"",
        "max_connections",
    ),
    (
        "java.sql.SQLException: Listener refused the connection with the following error:\nORA-12519, TNS:no appropriate service handler found",
        "max_connections",
    ),
    ("java.sql.SQLException: ORA-00020: maximum number of processes (300) exceeded", "processes"),
    ("redis.clients.jedis.exceptions.JedisConnectionException: ERR max number of clients reached", "maxclients"),
    (
        "org.postgresql.util.PSQLException: FATAL: the database system is starting up",
        "Wait until the database has started",
    ),
    (
        "java.sql.SQLException: ORA-01033: ORACLE initialization or shutdown in progress",
        "Wait until the database has started",
    ),
    ("LOADING Redis is loading the dataset in memory", "Wait until the database has started"),
    (
        "org.postgresql.util.PSQLException: FATAL: no pg_hba.conf entry for host \"10.1.0.7\", user \"app\", database \"app\", no encryption",
        "hostssl",
    ),
    ("org.postgresql.util.PSQLException: The server does not support SSL.", "sslmode"),
    (
        "java.sql.SQLException: Connections using insecure transport are prohibited while --require_secure_transport=ON.",
        "require_secure_transport",
    ),
    (
        "org.postgresql.util.PSQLException: FATAL: no pg_hba.conf entry for host \"10.1.0.7\", user \"app\", database \"app\"",
        "pg_hba.conf",
    ),
    (
        "java.sql.SQLException: null,  message from server: \"Host '10.1.0.7' is not allowed to connect to this MySQL server\"",
        "FLUSH HOSTS",
    ),
    (
        "java.sql.SQLException: Host '10.1.0.7' is blocked because of many connection errors; unblock with 'mysqladmin flush-hosts'",
        "FLUSH HOSTS",
    ),
    (
        "com.microsoft.sqlserver.jdbc.SQLServerException: The driver could not establish a secure connection to SQL Server by using Secure Sockets Layer (SSL) encryption. Error: \"PKIX path building failed\".",
        "trust store",
    ),
    (
        "Caused by: com.mysql.cj.exceptions.UnableToConnectException: Public Key Retrieval is not allowed\njava.sql.SQLNonTransientConnectionException: Public Key Retrieval is not allowed",
        "allowPublicKeyRetrieval",
    ),
    (
        "HikariPool-1 - Exception during pool initialization.\norg.postgresql.util.PSQLException: The authentication type 10 is not supported. Check that you have configured the pg_hba.conf file",
        "SCRAM-SHA-256",
    ),
    (
        "Error: ER_NOT_SUPPORTED_AUTH_MODE: Client does not support authentication protocol requested by server",
        "caching_sha2_password",
    ),
    ("java.sql.SQLException: ORA-28000: The account is locked.", "Unlock the account"),
    ("java.sql.SQLException: ORA-28001: the password has expired", "Unlock the account"),
    ("java.sql.SQLException: ORA-01017: invalid username/password; logon denied", "user and password"),
    (
        "com.microsoft.sqlserver.jdbc.SQLServerException: Login failed for user 'app'. ClientConnectionId:0",
        "user and password",
    ),
    ("mssql: login error: Error: 18456, Severity: 14, State: 8", "user and password"),
    (
        "io.lettuce.core.RedisCommandExecutionException: NOAUTH HELLO must be called with the client already authenticated",
        "user and password",
    ),
    (
        "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair or user is disabled.",
        "user and password",
    ),
    (
        "com.mongodb.MongoCommandException: Command failed with error 18 (AuthenticationFailed): 'Authentication failed.' on server mongo.example.com:27017",
        "user and password",
    ),
    (
        "com.rabbitmq.client.AuthenticationFailureException: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
        "user and password",
    ),
    ("pymongo.errors.OperationFailure: bad auth : authentication failed", "user and password"),
    (
        "java.sql.SQLRecoverableException: Listener refused the connection with the following error:\nORA-12514, TNS:listener does not currently know of service requested in connect descriptor",
        "service or SID",
    ),
    (
        "java.sql.SQLException: ORA-12505, TNS:listener does not currently know of SID given in connect descriptor",
        "service or SID",
    ),
    (
        "com.microsoft.sqlserver.jdbc.SQLServerException: Cannot open database \"app\" requested by the login. The login failed.",
        "name of the database",
    ),
    ("java.sql.SQLSyntaxErrorException: Unknown database 'app'", "name of the database"),
    (
        "java.sql.SQLException: The server time zone value 'CEST' is unrecognized or represents more than one time zone.\nHikariPool-1 - Exception during pool initialization.",
        "connectionTimeZone",
    ),
    (
        "liquibase.exception.LockException: Could not acquire change log lock.  Currently locked by web-1 (10.1.0.7) since 05/11/2026, 09:40",
        "release-locks",
    ),
    (
        "org.flywaydb.core.api.exception.FlywayValidateException: Validate failed: Migrations have failed validation\nMigration checksum mismatch for migration version 3",
        "migration",
    ),
    ("org.postgresql.util.PSQLException: FATAL: something that is new", "database is reached"),
];

fn dependency_answers(e: &mut Evidence) {
    e.vantages.push(Vantage { at: now(), ..passing("dependency") });
}

#[test]
fn a_database_that_answers_and_refuses_is_never_unreachable() {
    for (words, advice) in REFUSALS {
        let e = crashed("Error", 1, Some(words));
        let d = expect(&e, CrashLoopDatabase, Certain, No);
        says(&d.message, &["answers and refuses it"]);
        assert!(d.advice.contains(advice), "{words}: {}", d.advice);
        assert!(!d.advice.contains("NetworkPolicy"), "{words}: {}", d.advice);
        // It answers all the time: that must not restart anything.
        expect(&with(e, dependency_answers), CrashLoopDatabase, Certain, No);
    }
}

#[test]
fn a_restart_never_adds_clients_to_a_database_that_refuses_another_pod() {
    let mut e = crashed("Error", 1, Some("Communications link failure"));
    dependency_answers(&mut e);
    expect(&e, CrashLoopDatabase, Certain, Once);
    let refused = crashed("Error", 1, Some("FATAL: sorry, too many clients already"));
    let mut other = refused.pods.found().unwrap()[0].clone();
    other.name = "web-2".to_owned();
    found(&mut e.pods).push(other);
    let d = expect(&e, CrashLoopDatabase, Certain, No);
    says(&d.message, &["web-2", "all its connections are in use"]);
}

#[test]
fn refusals_of_other_servers_are_not_a_databases() {
    for words in [
        "LDAP: authentication failed",
        "FATAL: cannot open /etc/app.conf",
        "javax.net.ssl.SSLHandshakeException: PKIX path building failed",
        "requires a secure random source",
    ] {
        expect_cause(&crashed("Error", 1, Some(words)), Cause::CrashLoop);
    }
}

#[test]
fn what_cannot_be_reached_is_still_told_from_what_refuses() {
    for words in [
        "java.sql.SQLRecoverableException: IO Error: The Network Adapter could not establish the connection\nORA-12541: TNS:no listener",
        "ORA-12170: TNS:Connect timeout occurred",
        "org.postgresql.util.PSQLException: Connection to db.example.com:5432 refused. Check that the hostname and port are correct",
        "com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure",
        "FlywaySqlException: Unable to obtain connection from database: Connection refused",
    ] {
        let d = expect(&crashed("Error", 1, Some(words)), CrashLoopDatabase, Certain, No);
        says(&d.message, &["cannot reach its database"]);
    }
    expect_cause(&bad(ErrorClass::ConnectTimeout), Cause::Unexplained);
}
