//! What a database, or a broker, answers when it refuses. Each answer proves that it was reached.

use std::sync::LazyLock;

use regex::Regex;

/// Why a database refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All its connections are in use.
    Connections,
    /// It starts, stops or recovers.
    Starting,
    /// The host of the client is not admitted.
    Host,
    /// One side wants encryption, the other does not have it.
    Encryption,
    /// Its certificate is not trusted, or it wants one of the client.
    Certificate,
    /// The driver may not request its public key.
    PublicKey,
    /// The driver does not know its way of authentication.
    Method,
    /// The account is locked, or its password has expired.
    Account,
    /// User or password is wrong or missing.
    Credentials,
    /// It has no such database or service.
    Name,
    /// The driver does not know its time zone.
    TimeZone,
    /// A lock of a migration is held.
    Lock,
    /// A migration fails, or the schema is not the expected one.
    Migration,
    /// It answers with another error.
    Other,
}

impl Refusal {
    /// Whether only a database that was reached gives this answer. The words of a migration tool also appear when it
    /// cannot connect.
    pub(super) fn proves_an_answer(self) -> bool {
        self != Self::Migration
    }
}

/// The words of each refusal. The order is the specification: a reason that a client can name beats the general words of
/// a failed login, and those beat the words of a migration.
const WORDS: &[(Refusal, &str)] = &[
    (
        Refusal::Connections,
        r"(?i)too many (?:database )?(?:clients|connections)|remaining connection slots|max_user_connections|max number of clients reached|connection limit exceeded|MaxClientsInSessionMode|no more connections allowed|ORA-000(?:18|20)\b|ORA-125(?:16|18|19|20)\b|\bSQLSTATE:? ?\[?53300|(?:maximum|max\.?) (?:number of )?(?:client |user )?connections (?:reached|exceeded)|maximum number of sessions|ORA-02391\b|(?:session|request|login) limit for the (?:database|elastic pool) is",
    ),
    (
        Refusal::Starting,
        r"(?i)database system is (?:starting up|shutting down|in recovery|not yet accepting)|not yet accepting connections|ORA-0(?:1033|1034|1089|1109)\b|LOADING Redis is loading|MASTERDOWN|terminating connection due to administrator command|NotPrimaryNoSecondaryOk|InterruptedAtShutdown",
    ),
    (
        Refusal::Encryption,
        r"(?i)no pg_hba\.conf entry [^\n]*(?:no encryption|SSL off|SSL on)|server does not support SSL|SSL is not enabled on the server|require_secure_transport|insecure transport are prohibited|ORA-12(?:650|660)\b",
    ),
    (
        Refusal::Host,
        r"(?i)no pg_hba\.conf entry|is not allowed to connect to this|is blocked because of many connection errors|in protected mode|IP address \S+ is not allowed to access the server|ORA-12529\b",
    ),
    (
        Refusal::Certificate,
        r"(?i)could not establish a secure connection to SQL Server|certificate chain was issued by an authority that is not trusted|PSQLException: SSL error|requires a valid client certificate|ORA-28(?:759|860|862|864|865|868)\b|(?s)CommunicationsException.{0,2000}(?:SSLHandshakeException|PKIX path|CertPathValidator)",
    ),
    (
        Refusal::PublicKey,
        r"(?i)Public Key Retrieval is not allowed|sha256_password requires|RSA public key is not available",
    ),
    (
        Refusal::Method,
        r"(?i)authentication type \d+ is not supported|authentication plugin \S+ (?:cannot be loaded|is not supported|reported error)|Client does not support authentication protocol|authentication method unknown to the client|SCRAM[^\n]{0,40}(?:not supported|requires)|ORA-28040\b|caching_sha2_password",
    ),
    (
        Refusal::Account,
        r"(?i)ORA-2800[0-2]\b|must reset your password using ALTER USER|ER_(?:MUST_CHANGE_PASSWORD|ACCOUNT_HAS_BEEN_LOCKED)|password of the account must be changed|Error:? 184(?:70|86|87|88)\b",
    ),
    (
        Refusal::Name,
        r#"(?i)FATAL: +database \S+ does not exist|(?:FATAL|ERROR): +no such database|\bdatabase "[^"\n]{1,63}" does not exist|Unknown database|ORA-125(?:04|05|14|21)\b|Cannot open database|database \S+ is not (?:currently )?available|Error:? 4060\b|NOT_FOUND - no vhost|vhost \S+ not found"#,
    ),
    (
        Refusal::Credentials,
        r"(?i)password authentication failed|no password supplied|Access denied for user|Login failed for user|Error:? 18456\b|ORA-0?1(?:005|017|045)\b|\bWRONGPASS\b|\bNOAUTH\b|\bNOPERM\b|ERR invalid password|invalid username-password pair|Client sent AUTH, but no password|FATAL: +role |peer authentication failed|MongoSecurityException|AuthenticationFailed|\bACCESS_REFUSED\b|SaslAuthenticationException|SQLSTATE:? ?\[?28|user name or password is (?:incorrect|invalid)|SqlInvalidAuthorizationSpecException|User ID or Password invalid|ORA-28009\b",
    ),
    (Refusal::TimeZone, r"(?i)server time ?zone value|serverTimezone"),
    (
        Refusal::Lock,
        r"(?i)Could not acquire change log lock|liquibase\.exception\.LockException|Waiting for changelog lock|Unable to (?:acquire|obtain) [^\n]{0,60}(?:advisory lock|table lock|schema history lock)|FlywayLockException|Number of retries exceeded while attempting to acquire PostgreSQL advisory lock",
    ),
    (
        Refusal::Migration,
        r"(?i)Flyway\w*Exception|FlywaySql|LiquibaseException|liquibase\.exception|Schema-validation:|relation .{1,80} does not exist|migration .{0,80} failed|Migration checksum mismatch|Table '[^'\n]{1,128}' doesn't exist|ORA-00942\b|Invalid object name|InconsistentMigrationHistory|P3009\b|Can't locate revision",
    ),
    // The server's own words, whatever they are.
    (
        Refusal::Other,
        r"message from server: |PSQLException: ERROR: |Listener refused the connection|MongoCommandException|RedisCommandExecutionException|com\.microsoft\.sqlserver\.jdbc\.SQLServerException: The (?:server|database)",
    ),
];

/// Words that other servers say too: they count where the text names a database.
const COMMON_WORDS: &[(Refusal, &str)] = &[
    (Refusal::Starting, r"(?i)server shutdown in progress|is in (?:a )?(?:recovery|transition)\b|node is recovering"),
    (
        Refusal::Encryption,
        r"(?i)(?:SSL|TLS|encryption|secure connection) (?:connection )?is required|requires (?:an? )?(?:secure|encrypted|SSL|TLS)\b|server (?:does not support|is not configured for|rejected) (?:SSL|TLS|encryption)|SSL/TLS required|must use (?:SSL|TLS)|SSL negotiation failed",
    ),
    (Refusal::Certificate, r"(?i)PKIX path|certificate verify failed|x509: certificate|self[- ]signed certificate"),
    (Refusal::Method, r"(?i)unsupported (?:SASL|authentication) mechanism|no supported authentication"),
    (
        Refusal::Account,
        r"(?i)account (?:is|has been) (?:locked|disabled)|password (?:has |is |of the account has )?expired|must (?:reset|change) (?:your|the|its) password",
    ),
    (
        Refusal::Credentials,
        r"(?i)authentication (?:has )?failed|bad auth|auth(?:entication)? error|\berror 18 \(|invalid (?:user ?name|credentials|password)",
    ),
    (Refusal::Other, r"\bFATAL: +\S"),
];

/// Why the database refuses, as its words say.
pub(super) fn of(text: &str) -> Option<Refusal> {
    static SURE: LazyLock<Vec<(Refusal, Regex)>> = LazyLock::new(|| compiled(WORDS));
    static COMMON: LazyLock<Vec<(Refusal, Regex)>> = LazyLock::new(|| compiled(COMMON_WORDS));
    static DATABASE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)jdbc|\bsql|SQLException|postgres|PSQL|psycopg|pgx|\bpq:|npgsql|mysql|mariadb|mongo|redis|lettuce|jedis|oracle|\bORA-\d|hikari|datasource|database|rabbitmq|amqp|kafka|cassandra|sequelize|flyway|liquibase",
        )
        .expect("a constant pattern")
    });
    let find =
        |all: &[(Refusal, Regex)]| all.iter().find(|(_, words)| words.is_match(text)).map(|(refusal, _)| *refusal);
    let sure = find(&SURE);
    // The server's other words say less than a common reason does.
    if sure.is_some_and(|refusal| !matches!(refusal, Refusal::Other | Refusal::Migration)) {
        return sure;
    }
    find(&COMMON).filter(|_| DATABASE.is_match(text)).or(sure)
}

fn compiled(words: &[(Refusal, &str)]) -> Vec<(Refusal, Regex)> {
    let compile = |(refusal, words): &(Refusal, &str)| (*refusal, Regex::new(words).expect("a constant pattern"));
    words.iter().map(compile).collect()
}
