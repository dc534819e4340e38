//! Classifies a termination message or a log tail.

use std::sync::LazyLock;

use regex::Regex;

mod refusal;

pub use refusal::Refusal;

/// The subject of a termination message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtractSubject {
    /// A configuration error.
    Configuration,
    /// A port that another process holds; its number, if named.
    PortInUse(Option<u16>),
    /// A database (or a broker) that cannot be reached.
    DatabaseUnreachable,
    /// A database that answers and refuses.
    DatabaseRefuses(Refusal),
    /// No known pattern matches.
    #[default]
    Other,
}

/// The order matters: Spring's failure analysis means configuration, whatever its reason mentions; and a DataSource
/// that was never configured does not mean that the database is down.
pub(super) fn classify(text: &str, has_analysis: bool) -> ExtractSubject {
    if let Some(port) = port_in_use(text) {
        return ExtractSubject::PortInUse(port);
    }
    if has_analysis || is_configuration(text) {
        return ExtractSubject::Configuration;
    }
    // Refusals first: a database that answers "password authentication failed" was reached. A migration that cannot
    // connect is a connection problem, not a failed migration.
    let refusal = refusal::of(text).filter(|refusal| refusal.proves_an_answer() || !is_unreachable(text));
    if let Some(refusal) = refusal {
        return ExtractSubject::DatabaseRefuses(refusal);
    }
    if database_unreachable(text) { ExtractSubject::DatabaseUnreachable } else { ExtractSubject::Other }
}

fn port_in_use(text: &str) -> Option<Option<u16>> {
    static IN_USE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)Port ([0-9]{1,5}) was already in use|listen tcp[46]? \S*:([0-9]{1,5}): bind: address already|EADDRINUSE(?:[^0-9\n]*([0-9]{1,5}))?|address already in use(?:[^0-9\n]*([0-9]{1,5}))?|bind[^\n]{0,80}:([0-9]{1,5}): [^\n]{0,40}address already in use",
        )
        .expect("a constant pattern")
    });
    let found = IN_USE.captures(text)?;
    let port = found.iter().skip(1).flatten().next().and_then(|port| port.as_str().parse().ok());
    Some(port)
}

fn is_configuration(text: &str) -> bool {
    static CONFIGURATION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?x)
            APPLICATION\ FAILED\ TO\ START
            | Failed\ to\ configure\ a\ DataSource | Failed\ to\ determine\ a\ suitable\ driver\ class
            | Failed\ to\ bind\ properties | ConfigurationPropertiesBindException | properties\.bind\.BindException
            | Could\ not\ resolve\ placeholder | InvalidConfigDataPropertyException | ConfigDataResourceNotFoundException
            | UnsatisfiedDependencyException(?-u:\b).*NoSuchBeanDefinitionException
            | validation\ errors?\ for\ \w*(?:Settings|Config)\w*\b | (?s:os\.environ.{0,200}KeyError:\ )
            | nginx:\ \[emerg\]\ (?:"|unknown|invalid|unexpected|host\ not\ found|cannot\ load|no\ |duplicate|conflicting)
            | value:\ NotPresent\b | (?i:required\ key\ \w+\ missing\ value)
            | must\ start\ with\ "jdbc" | Failed\ to\ load\ (?:driver\ )?class | claims\ to\ not\ accept\ jdbcUrl
            | (?i:(?:missing|required)\ (?:required\ )?(?:environment\ variable|configuration))
            | (?i:environment\ variable\ \S{1,80}\ (?:is\ )?(?:not\ set|required|missing|must\ be\ set))
            "#,
        )
        .expect("a constant pattern")
    });
    CONFIGURATION.is_match(text)
}

fn is_unreachable(text: &str) -> bool {
    static UNREACHABLE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)connection (?:to \S+ )?refused|ECONNREFUSED|connect timed out|connection timed out|connection attempt failed|communications link failure|unknown ?host|no such host|ENOTFOUND|could not translate host|no route to host|unreachable|i/o timeout|could not connect|unable to connect|failed to connect|ETIMEDOUT|EAI_AGAIN",
        )
        .expect("a constant pattern")
    });
    UNREACHABLE.is_match(text)
}

fn database_unreachable(text: &str) -> bool {
    // Messages that only database clients write.
    static SURE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)
            Communications\ link\ failure | CommunicationsException | HikariPool-\d+\ -\ (?:Exception|Connection\ is\ not)
            | PSQLException:\ (?:Connection\ to|The\ connection\ attempt) | CannotGetJdbcConnectionException
            | Unable\ to\ obtain\ connection\ from\ database | Unable\ to\ determine\ Dialect\ without\ JDBC
            | SQL(?:NonTransient|Transient|Recoverable)\w*Exception | Cannot\ create\ PoolableConnectionFactory
            | MongoTimeoutException | MongoSocket\w+Exception | MongoNetworkError | MongoServerSelectionError
            | RedisConnection\w*Exception | RedisConnectionError | redis\.exceptions\.ConnectionError
            | Unable\ to\ connect\ to\ Redis | AmqpConnectException | AMQPConnectionError
            | Can't\ reach\ database\ server\ at | network-related\ or\ instance-specific\ error | value:\ PoolTimedOut
            | DisconnectNonTransientConnectionException | Timed\ out\ waiting\ for\ a\ node\ assignment
            | psycopg2?\.OperationalError | sqlalchemy\.exc\.OperationalError | SequelizeConnection\w*Error
            | ORA-(?:12170|12203|12224|12500|1253[3-7]|1254[1-7]|12560|12571|0311[34]|03135) | SQLSTATE\[08 | SQLSTATE\[HY000\]\ \[2002\]
            ",
        )
        .expect("a constant pattern")
    });
    // A plain network error is about a database if it says so, or if it names a database's default port.
    static HINT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)\b(?:jdbc|sql|postgres\w*|mysql|mariadb|mongo\w*|redis|oracle|database|datasource|hikari|pgx|rabbitmq|amqp|cassandra)\b|:(?:5432|3306|1521|1433|27017|6379|5672|9042|26257)\b",
        )
        .expect("a constant pattern")
    });
    // The tail of a stack trace lacks its first lines: then the frames identify the client.
    static FRAME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"at (?:app//)?(?:com\.zaxxer\.hikari|org\.postgresql|com\.mysql|org\.mariadb|oracle\.(?:jdbc|net)|com\.microsoft\.sqlserver|com\.mongodb|io\.lettuce|redis\.clients|com\.rabbitmq|com\.datastax|org\.springframework\.jdbc)\.",
        )
        .expect("a constant pattern")
    });
    let in_frames = || is_unreachable(text) && FRAME.is_match(text);
    SURE.is_match(text) || text.lines().any(|line| is_unreachable(line) && HINT.is_match(line)) || in_frames()
}
