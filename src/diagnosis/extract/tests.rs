use proptest::prelude::*;

use super::*;

const DATA_SOURCE: &str = "
2026-01-01T00:00:00.000Z ERROR 1 --- [main] o.s.b.d.LoggingFailureAnalysisReporter   :

***************************
APPLICATION FAILED TO START
***************************

Description:

Failed to configure a DataSource: 'url' attribute is not specified and no embedded datasource could be configured.

Reason: Failed to determine a suitable driver class


Action:

Consider the following:
	If you want an embedded database (H2, HSQL or Derby), please put it on the classpath.
	If you have database settings to be loaded from a particular profile you may need to activate it (no profiles are currently active).

";

#[test]
fn a_failure_analysis_tells_its_description_and_its_action() {
    let read = extract(DATA_SOURCE);
    assert_eq!(read.kind, ExtractSubject::Configuration);
    let description = read.description.clone().unwrap();
    assert!(
        description.starts_with("Failed to configure a DataSource: 'url' attribute is not specified"),
        "{description}"
    );
    assert!(read.action.clone().unwrap().starts_with("Consider the following: If you want an embedded database"));
    assert!(read.summary().unwrap().chars().count() <= MAX_SUMMARY);
}

fn binding(value: &str, reason: &str) -> String {
    format!(
        "Description:\n\nFailed to bind properties under 'server.port' to java.lang.Integer:\n\n    Property: server.port\n    Value: \"{value}\"\n    Origin: System Environment Property \"SERVER_PORT\"\n    Reason: {reason}\n\nAction:\n\nUpdate your application's configuration\n"
    )
}

#[test]
fn a_value_is_not_told_and_neither_is_what_the_reason_quotes_of_it() {
    let text = binding(
        "hunter2",
        "failed to convert String to Integer (caused by NumberFormatException: For input string: \"hunter2\")",
    );
    let told = extract(&text).summary().unwrap();
    assert!(!told.contains("hunter2") && !told.contains("Value:"), "{told}");
    for kept in
        ["server.port", "SERVER_PORT", "failed to convert String to Integer", "Update your application's configuration"]
    {
        assert!(told.contains(kept), "{kept}: {told}");
    }
    let piece = binding("a,hunter2,b", "'HUNTER2' is not a valid duration; No enum constant x.Level.hunter2");
    assert!(!extract(&piece).summary().unwrap().to_lowercase().contains("hunter2"));
}

#[test]
fn a_value_of_several_lines_ends_where_the_next_property_begins() {
    let told = extract(&binding("one\nhunter2\n\nthree", "it is wrong")).summary().unwrap();
    assert!(!told.contains("hunter2") && !told.contains("three"), "{told}");
    assert!(told.contains("it is wrong"));
}

#[test]
fn a_message_that_was_cut_within_a_value_tells_nothing_of_it() {
    // Without the heading the meaning of these lines is unknown.
    let text = "ter2\"\n    Origin: x\n    Reason: y hunter2\n\nAction:\n\nUpdate your application's configuration\n";
    assert_eq!(extract(text).summary(), None);
}

#[test]
fn what_comes_behind_the_action_is_somebody_elses() {
    let told = extract(
        "Description:\n\nWeb server failed to start. Port 8081 was already in use.\n\nAction:\n\nStop the other one.\n\nhunter2\n",
    );
    assert_eq!(told.kind, ExtractSubject::PortInUse(Some(8081)));
    assert!(!told.summary().unwrap().contains("hunter2"));
}

#[test]
fn the_class_at_the_root_is_told_without_its_message() {
    for (text, class) in [
        (
            "Exception in thread \"main\" java.lang.IllegalStateException: hunter2\n\tat x.Y.z(Y.java:1)\nCaused by: java.net.ConnectException: Connection refused\n\t... 3 more",
            "java.net.ConnectException",
        ),
        (
            "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nModuleNotFoundError: No module named 'hunter2'",
            "ModuleNotFoundError",
        ),
        ("psycopg2.OperationalError: hunter2", "psycopg2.OperationalError"),
        ("TypeError: Cannot read hunter2\n    at Object.<anonymous> (/app/x.js:1:2)", "TypeError"),
        ("panic: hunter2\n\ngoroutine 1 [running]:\nmain.main()", "panic"),
        ("thread 'main' panicked at src/main.rs:1:2:\nhunter2", "panic"),
        (
            "Unhandled exception. System.Net.Sockets.SocketException (111): hunter2",
            "System.Net.Sockets.SocketException",
        ),
    ] {
        let read = extract(text);
        assert_eq!(read.exception.as_deref(), Some(class), "{text}");
        assert!(!read.summary().unwrap().contains("hunter2"), "{text}");
    }
    assert_eq!(extract("plain words of hunter2").summary(), None);
    assert_eq!(extract("").summary(), None);
}

#[test]
fn the_far_side_of_a_connection_is_told_without_user_and_query() {
    for (text, endpoint) in [
        ("PSQLException: Connection to db.example.com:5432 refused. Check", "db.example.com:5432"),
        ("dial tcp 10.0.0.5:5432: connect: connection refused", "10.0.0.5:5432"),
        ("dial tcp [fd00::5]:5432: connect: connection refused", "[fd00::5]:5432"),
        ("Error: connect ECONNREFUSED 10.0.0.5:6379", "10.0.0.5:6379"),
        ("cannot connect to jdbc:mysql://user:hunter2@db:3306/shop?password=hunter2", "db:3306"),
        ("cannot connect: user:hunter2@tcp(db:3306)/shop", "db:3306"),
        (
            "could not connect to server at \"db.local\" (10.0.0.5), port 5432 failed: Connection refused",
            "db.local:5432",
        ),
        ("java.net.UnknownHostException: db.wrong", "db.wrong"),
        ("12:34:56 connect failed (Foo.java:123) to db:3306", "db:3306"),
    ] {
        let read = extract(text);
        assert_eq!(read.endpoint.as_deref(), Some(endpoint), "{text}");
        assert!(!read.summary().unwrap_or_default().contains("hunter2"), "{text}");
    }
    for nothing in ["12:34:56 connecting", "connect at Foo.java:123", "2026-01-01T10:15 connection refused"] {
        assert_eq!(extract(nothing).endpoint, None, "{nothing}");
    }
}

#[test]
fn what_looks_secret_is_gone_from_a_description() {
    let of =
        |line: &str| extract(&format!("Description:\n\n{line}\n\nAction:\n\nGo on.\n")).description.unwrap_or_default();
    for line in [
        "the password=hunter2 is wrong",
        "the password: hunter2 is wrong",
        "API-Key: hunter2",
        "Authorization: Bearer hunter2",
        "spring.datasource.password='hunter2'",
        "at https://user:hunter2@h.example.com:1/x",
        "at https://h.example.com/x?t=hunter2&u=a@hunter2",
        "at jdbc:sqlserver://h:1433;user=sa;password=hunter2",
        "at jdbc:oracle:thin:user/hunter2@//h:1521/x",
        "Invalid value 'hunter2' for configuration property 'x'",
        "Could not resolve placeholder 'A' in value \"hunter2 ${A}\"",
        "password=hunter2://x",
    ] {
        assert!(!of(line).contains("hunter2"), "{line}: {}", of(line));
    }
    assert!(!of("the key AKIAIOSFODNN7EXAMPLE was refused").contains("AKIA"));
    assert!(!of("the token eyJhbGciOiJIUzI1NiJ9.x.y was refused").contains("eyJ"));
    // Names of classes and beans are not secrets, however long.
    let bean = "Parameter 0 of constructor in com.example.shop.OrderServiceConfigurationFactoryBean required a bean of type 'com.example.X' that could not be found.";
    assert_eq!(of(bean), bean);
}

#[test]
fn kinds_are_told_apart() {
    for (text, kind) in [
        ("java.net.BindException: Address already in use", ExtractSubject::PortInUse(None)),
        ("Error: listen EADDRINUSE: address already in use :::8080", ExtractSubject::PortInUse(Some(8080))),
        ("listen tcp :8080: bind: address already in use", ExtractSubject::PortInUse(Some(8080))),
        ("Failed to determine a suitable driver class", ExtractSubject::Configuration),
        (
            "missing required environment variable DATABASE_URL: postgres connection refused",
            ExtractSubject::Configuration,
        ),
        ("Communications link failure", ExtractSubject::DatabaseUnreachable),
        ("HikariPool-1 - Exception during pool initialization.", ExtractSubject::DatabaseUnreachable),
        (
            "FlywaySqlException: Unable to obtain connection from database: Connection refused",
            ExtractSubject::DatabaseUnreachable,
        ),
        ("dial tcp 10.0.0.5:5432: connect: connection refused", ExtractSubject::DatabaseUnreachable),
        ("redis.exceptions.ConnectionError: Error 111", ExtractSubject::DatabaseUnreachable),
        (
            "Access denied for user 'web'@'10.0.0.1' (using password: YES)",
            ExtractSubject::DatabaseRefuses(Refusal::Credentials),
        ),
        ("FlywayValidateException: Validate failed", ExtractSubject::DatabaseRefuses(Refusal::Migration)),
        ("dial tcp 10.0.0.5:9000: connect: connection refused", ExtractSubject::Other),
        ("", ExtractSubject::Other),
    ] {
        assert_eq!(extract(text).kind, kind, "{text}");
    }
}

#[test]
fn what_spring_boot_really_said_when_it_did_not_start_is_told_apart_and_no_secret_with_it() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for version in ["spring-3.5", "spring-4.0"] {
        each_recorded_start_is_told(&golden.join(version).join("starts"));
    }
}

fn each_recorded_start_is_told(folder: &std::path::Path) {
    use ExtractSubject::{Configuration, DatabaseRefuses, DatabaseUnreachable, Other, PortInUse};

    for (name, kind) in [
        ("access-and-enabled", Configuration),
        ("bad-port", Configuration),
        ("bad-timeout", Configuration),
        ("bad-url", Configuration),
        // A binding failure, even where its reason mentions a refused connection.
        ("binding-dropped", Configuration),
        ("binding-refused", Configuration),
        ("database-dropped", DatabaseUnreachable),
        ("database-refused", DatabaseUnreachable),
        ("database-unknown-host", DatabaseUnreachable),
        ("database-unroutable", DatabaseUnreachable),
        ("heap", Other),
        ("management-port-in-use", PortInUse(None)),
        ("no-config-file", Configuration),
        ("no-datasource", Configuration),
        ("no-such-database", DatabaseRefuses(Refusal::Name)),
        ("port-in-use", PortInUse(None)),
        ("unknown-driver", Configuration),
        ("wrong-password", DatabaseRefuses(Refusal::Credentials)),
    ] {
        for kept in ["fallback", "message"] {
            let text = std::fs::read_to_string(folder.join(format!("{name}.{kept}.txt"))).unwrap();
            let read = extract(&text);
            // The port differs between recordings, but it must be extracted.
            assert_ne!(read.kind, PortInUse(None), "{name}.{kept}");
            match kind {
                PortInUse(_) => assert!(matches!(read.kind, PortInUse(Some(_))), "{name}.{kept}: {read:?}"),
                kind => assert_eq!(read.kind, kind, "{name}.{kept}: {read:?}"),
            }
            assert!(!format!("{read:?} {:?}", read.summary()).contains("s3cr3t"), "{name}.{kept}: {read:?}");
        }
    }
    let refused = std::fs::read_to_string(folder.join("database-refused.message.txt")).unwrap();
    assert_eq!(extract(&refused).endpoint.as_deref(), Some("192.0.2.10:5432"));
}

#[test]
fn the_runtimes_words_about_a_command_are_told() {
    let text = r#"OCI runtime create failed: exec: "nope": executable file not found in $PATH: unknown"#;
    assert_eq!(start_error(text).as_deref(), Some("its command nope: executable file not found"));
    assert_eq!(
        start_error("mount /x: read-only file system").as_deref(),
        Some("the runtime says: read-only file system")
    );
    assert_eq!(start_error("hunter2"), None);
}

proptest! {
    #[test]
    fn no_value_and_no_user_info_is_ever_told(secret in "[A-Za-z][A-Za-z0-9!$%^*_.+-]{5,24}", place in 0..8_usize) {
        // Spring's own text contains no secrets.
        prop_assume!(!binding("", "it is wrong").to_lowercase().contains(&secret.to_lowercase()));
        let text = match place {
            0 => binding(&secret, "it is wrong"),
            1 => binding(&secret, &format!("cannot convert '{secret}'")),
            2 => binding(&format!("x\n{secret}"), &format!("For input string: \"{secret}\"")),
            3 => binding("x", &format!("connect to http://u:{secret}@h:1/ failed")),
            4 => format!("java.sql.SQLException: jdbc:mysql://u:{secret}@db:3306/x refused"),
            5 => format!("connection refused: postgres://{secret}:{secret}@db/x?y={secret}"),
            6 => format!("Description:\n\nGet https://u:{secret}@h/p?{secret} failed\n\nAction:\n\nUse https://{secret}@h\n"),
            _ => format!("Description:\n\npassword={secret} token: {secret}\n\nAction:\n\nnone\n"),
        };
        let read = extract(&text);
        let all = format!("{read:?} {:?}", read.summary());
        prop_assert!(!all.contains(&secret), "{}", all);
    }

    #[test]
    fn any_text_is_read_without_a_panic_and_within_the_limit(text in "\\PC{0,400}", lines in prop::collection::vec("[ -~]{0,60}", 0..12)) {
        for text in [text, lines.join("\n"), format!("Description:\n{}\nAction:\n{}", lines.join("\n"), lines.join("\n"))] {
            let told = extract(&text).summary().unwrap_or_default();
            prop_assert!(told.chars().count() <= MAX_SUMMARY);
            prop_assert!(!told.contains('\n'));
        }
    }
}
