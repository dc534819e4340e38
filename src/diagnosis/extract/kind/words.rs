//! The words that tell what a termination message is about. `texts.txt` has a real text for each of them: a word without
//! one is not kept.

/// A port that another process holds, in any case.
pub(super) const IN_USE: &[&str] = &[
    "port [0-9]{1,5} was already in use",
    r"port(?:\(s\))? [0-9]{1,5} (?:is already in use|already bound|is in use by another program)",
    "that port is already in use",
    "EADDRINUSE",
    "address already in use",
    r"connection in use: \('",
    "only one usage of each socket address",
];

/// The number of that port, on the same line.
pub(super) const PORT: &[&str] = &[
    r"\bport(?:\(s\))? ([1-9][0-9]{0,4})\b",
    r"(?:[0-9]\.[0-9]{1,3}|\]|::|\s|//[a-z0-9.-]{1,253}|<null>):([1-9][0-9]{0,4})\b",
    r"', ([1-9][0-9]{0,4})\)",
];

/// Configuration errors that a framework or a server names as such.
pub(super) const CONFIGURATION: &[&str] = &[
    "APPLICATION FAILED TO START",
    "Failed to configure a DataSource",
    "Failed to determine a suitable driver class",
    "Failed to bind properties",
    "ConfigurationPropertiesBindException",
    "Could not resolve placeholder",
    "InvalidConfigDataPropertyException",
    "ConfigData(?:Resource|Location)NotFoundException",
    "UnsatisfiedDependencyException.*NoSuchBeanDefinitionException",
    r"validation errors? for \w*(?:Settings|Config)\w*\b",
    r"(?s:os\.environ.{0,200}KeyError: )",
    r#"nginx: \[emerg\] (?:"|unknown|invalid|unexpected|host not found|cannot load|no |duplicate|directive|open\(\)|could not build)"#,
    r"value: NotPresent\b",
    r"(?i:required key \w+ missing value)",
    r#"must start with "jdbc""#,
    "Failed to load driver class",
    "RuntimeException: Failed to load class",
    "claims to not accept jdbcUrl",
    "Missing required configuration",
    "ImproperlyConfigured",
    "The ConnectionString property has not been initialized",
    r"SRCFG000\d\d",
    "Environment variable not found: ",
    r"[A-Z][A-Z0-9_]{2,60} must be set",
    r#"Config File "\S{1,128}" Not Found in"#,
];

/// Settings that lack, in any case: on a line that names no default, because programs go on with one.
pub(super) const UNSET: &[&str] = &[
    "missing (?:required )?environment variable",
    "required environment variable",
    r"environment variable \S{1,80} (?:is )?(?:not set|required|missing|must be set)",
];

/// A peer that does not answer, in any case.
pub(super) const UNREACHABLE: &[&str] = &[
    r"connection (?:to \S+ )?refused",
    "ECONNREFUSED",
    "connect timed out",
    "connection timed out",
    "connection attempt failed",
    "communications link failure",
    "unknown ?host",
    "no such host",
    "ENOTFOUND",
    "could not translate host",
    "no route to host",
    "unreachable",
    "i/o timeout",
    "could not connect",
    "unable to connect",
    "failed to connect",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "name or service not known",
    "temporary failure in name resolution",
];

/// Messages that only the clients of a database write when it does not answer.
pub(super) const NO_DATABASE: &[&str] = &[
    "Communications link failure",
    "CommunicationsException",
    r"HikariPool-\d+ - (?:Exception|Connection is not)",
    "PSQLException: Connection to",
    "CannotGetJdbcConnectionException",
    "Unable to obtain connection from database",
    "Unable to determine Dialect without JDBC",
    r"SQL(?:NonTransient|Transient|Recoverable)\w*Exception",
    "Cannot create PoolableConnectionFactory",
    "MongoTimeoutException",
    r"MongoSocket\w+Exception",
    "MongoNetworkError",
    "MongoServerSelectionError",
    r"RedisConnection\w*Exception",
    "RedisConnectionError",
    r"redis\.exceptions\.ConnectionError",
    "AmqpConnectException",
    "AMQPConnectionError",
    "Can't reach database server at",
    "network-related or instance-specific error",
    "value: PoolTimedOut",
    "DisconnectNonTransientConnectionException",
    "Timed out waiting for a node assignment",
    r"psycopg2?\.OperationalError",
    r"sqlalchemy\.exc\.OperationalError",
    r"SequelizeConnection\w*Error",
    r"ORA-(?:12170|12203|12224|12500|1253[3-7]|1254[1-7]|12560|12571|0311[34]|03135)",
    r"SQLSTATE\[08",
    r"SQLSTATE\[HY000\] \[2002\]",
    "AllNodesFailedException",
    "NoHostAvailable",
    "server selection error: server selection timeout",
    "Lost connection to MySQL server",
];

/// Names of databases, in any case: a network error on the same line is about them, unless the line names a URL of HTTP.
pub(super) const NAMES: &[&str] = &[
    r"\b(?:jdbc|sql|postgres\w*|mysql|mariadb|mongo\w*|redis|oracle|database|datasource|hikari|pgx|rabbitmq|amqp|cassandra)\b",
];

/// Default ports of databases.
pub(super) const PORTS: &[&str] = &[":(?:5432|3306|1521|1433|27017|6379|5672|9042|26257)\\b"];

/// Frames of a stack trace whose first lines are cut off.
pub(super) const FRAMES: &[&str] = &[
    r"at (?:app//)?(?:com\.zaxxer\.hikari|org\.postgresql|com\.mysql|org\.mariadb|oracle\.(?:jdbc|net)|com\.microsoft\.sqlserver|com\.mongodb|io\.lettuce|redis\.clients|com\.rabbitmq|com\.datastax|org\.springframework\.jdbc)\.",
];
